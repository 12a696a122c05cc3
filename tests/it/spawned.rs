//! Adapters over borrowed items, in tasks that are spawned: the compiler must see for itself that they are
//! `Send`. Most of what these tests are about is that they compile.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use agntcy_dir_stream::Failed;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};

use crate::support::records::{cid, record};
use crate::support::stores::store_with;

async fn push(client: &Client, records: &[Record]) -> usize {
    let mut results = stream::iter(records.iter().cloned()).push_to(client);
    let mut pushed = 0;
    while let Some(result) = results.next().await {
        pushed += usize::from(result.is_ok());
    }
    pushed
}

async fn pull(client: &Client, cids: &[Cid]) -> usize {
    let mut results = stream::iter(cids).pull_from(client);
    let mut pulled = 0;
    while let Some(result) = results.next().await {
        pulled += usize::from(result.is_ok());
    }
    pulled
}

async fn look_up(client: &Client, cids: &[Cid]) -> usize {
    let mut results = stream::iter(cids).lookup_in_with(client, &Options::new().unordered(true));
    let mut found = 0;
    while let Some(result) = results.next().await {
        found += usize::from(result.is_ok());
    }
    found
}

async fn delete(client: &Client, cids: &[Cid]) -> usize {
    let mut results = stream::iter(cids).delete_from(client);
    let mut deleted = 0;
    while let Some(result) = results.next().await {
        deleted += usize::from(result.is_ok());
    }
    deleted
}

#[tokio::test]
async fn adapters_over_borrowed_items_run_in_a_spawned_task() {
    let (store, cids) = store_with(5);
    let client = store.client();
    let task = tokio::spawn(async move {
        assert_eq!(pull(&client, &cids).await, 5);
        assert_eq!(look_up(&client, &cids).await, 5);
        assert_eq!(delete(&client, &cids).await, 5);
        let records: Vec<_> = (0..5).map(record).collect();
        assert_eq!(push(&client, &records).await, 5);
    });
    task.await.unwrap();
    assert_eq!(store.len(), 5);
}

async fn pull_texts(client: &Client, texts: &[String]) -> Vec<String> {
    let results = stream::iter(texts).pull_from(client);
    let names = results.map_ok(|pulled| pulled.record.name().unwrap().to_owned());
    names.try_collect().await.unwrap()
}

async fn look_up_and_delete_texts(client: &Client, texts: &[String]) -> (usize, usize) {
    let mut results = stream::iter(texts).lookup_in(client);
    let found = count(&mut results).await;
    let mut results = stream::iter(texts).delete_from(client);
    (found, count(&mut results).await)
}

async fn pull_strs(client: &Client, texts: &[&str]) -> usize {
    let mut results = stream::iter(texts).pull_from(client);
    let mut pulled = 0;
    while let Some(result) = results.next().await {
        let failed_input: Option<&&str> = result.as_ref().err().map(|failed| failed.input);
        assert!(failed_input.is_none_or(|text| *text == "no CID"));
        pulled += usize::from(result.is_ok());
    }
    pulled
}

#[tokio::test]
async fn adapters_over_borrowed_texts_run_in_a_spawned_task() {
    let (store, cids) = store_with(5);
    let client = store.client();
    let task = tokio::spawn(async move {
        let texts: Vec<_> = cids.iter().map(Cid::to_string).collect();
        assert_eq!(pull_texts(&client, &texts).await.len(), 5);
        let mut texts: Vec<_> = texts.iter().map(String::as_str).collect();
        texts.push("no CID");
        assert_eq!(pull_strs(&client, &texts).await, 5);
        let texts: Vec<_> = cids.iter().map(Cid::to_string).collect();
        assert_eq!(look_up_and_delete_texts(&client, &texts).await, (5, 5));
    });
    task.await.unwrap();
}

/// Tags that are borrowed, too.
async fn tagged(client: &Client, rows: &[(Cid, String)]) -> Vec<String> {
    let items = stream::iter(rows).map(|(cid, name)| (cid, name));
    let mut results = items.lookup_in(client);
    let mut names = Vec::new();
    while let Some(result) = results.next().await {
        let name: &String = result.unwrap().tag;
        names.push(name.clone());
    }
    names
}

async fn tagged_records(client: &Client, rows: &[(Record, String)]) -> usize {
    let items = stream::iter(rows).map(|(record, name)| (record.clone(), name));
    let mut results = items.push_to(client);
    count(&mut results).await
}

async fn boxed(client: &Client, items: BoxStream<'_, &Cid>) -> usize {
    let results = items.pull_from(client);
    results
        .filter(|result| std::future::ready(result.is_ok()))
        .count()
        .await
}

async fn boxed_elsewhere(client: &Client, cids: &[Cid]) -> (usize, usize) {
    let mut results = stream::iter(cids).boxed().lookup_in(client);
    let found = count(&mut results).await;
    let mut results = stream::iter(cids).boxed().delete_from(client);
    (found, count(&mut results).await)
}

/// A closure in a borrowed iterator.
async fn filtered_iterator(client: &Client, cids: &[Cid], wanted: &[bool]) -> usize {
    let wanted = cids.iter().zip(wanted).filter(|(_, wanted)| **wanted);
    let mut results = stream::iter(wanted.map(|(cid, _)| cid)).pull_from(client);
    count(&mut results).await
}

/// A closure in a stream of borrowed items. It borrows something else.
async fn filtered_stream(client: &Client, cids: &[Cid], unwanted: &Cid) -> usize {
    let items = stream::iter(cids).filter(|cid| std::future::ready(*cid != unwanted));
    let mut results = items.map(|cid| (cid, 1)).pull_from(client);
    count(&mut results).await
}

/// An async closure that captures what is borrowed.
async fn async_closure(client: &Client, cids: &[Cid]) -> usize {
    let items = stream::iter(cids).then(|cid| async move {
        tokio::task::yield_now().await;
        (cid, cids.len())
    });
    let mut results = Box::pin(items).pull_from(client);
    count(&mut results).await
}

async fn async_closure_that_moves(client: &Client, cids: &[Cid]) -> usize {
    let items = stream::iter(cids).then(async move |cid| (cid, cids.len()));
    let mut results = Box::pin(items).pull_from(client);
    count(&mut results).await
}

/// Closures over the results.
async fn filtered_results(client: &Client, cids: &[Cid]) -> usize {
    let results = stream::iter(cids).pull_from(client);
    let records = results.filter_map(|result| async move { Some((result.ok()?, cids.len())) });
    records.count().await
}

/// `futures` keeps items of its input in some combinators, and then the compiler does not see that closures
/// before them are `Send`, with or without an adapter. A box between them helps.
async fn boxed_before_what_keeps_items(client: &Client, cids: &[Cid]) -> usize {
    let items = stream::iter(cids).map(|cid| async move { cid.to_string() });
    let results = items.boxed().buffer_unordered(2).pull_from(client);
    let names =
        results.map(|result| async move { result.unwrap().record.name().map(str::to_owned) });
    let mut named = 0;
    let mut chunks = names.boxed().buffered(2).boxed().chunks(2);
    while let Some(chunk) = chunks.next().await {
        named += chunk.len();
    }
    named
}

async fn count<S, P, I, T>(results: &mut S) -> usize
where
    S: Stream<Item = Result<P, Failed<I, T>>> + Unpin,
{
    let mut succeeded = 0;
    while let Some(result) = results.next().await {
        succeeded += usize::from(result.is_ok());
    }
    succeeded
}

#[tokio::test]
async fn adapters_with_tags_boxes_and_closures_run_in_a_spawned_task() {
    let (store, cids) = store_with(5);
    let client = store.client();
    let task = tokio::spawn(async move {
        let rows: Vec<_> = cids
            .iter()
            .map(|cid| (*cid, format!("row of {cid}")))
            .collect();
        assert_eq!(
            tagged(&client, &rows).await[1],
            format!("row of {}", cids[1])
        );
        assert_eq!(boxed(&client, stream::iter(&cids).boxed()).await, 5);
        let wanted = [true, false, true, true, false];
        assert_eq!(filtered_iterator(&client, &cids, &wanted).await, 3);
        assert_eq!(filtered_stream(&client, &cids, &cids[2]).await, 4);
        assert_eq!(async_closure(&client, &cids).await, 5);
        assert_eq!(async_closure_that_moves(&client, &cids).await, 5);
        assert_eq!(filtered_results(&client, &cids).await, 5);
        assert_eq!(boxed_before_what_keeps_items(&client, &cids).await, 5);
        let rows: Vec<_> = rows.iter().zip(0..).collect();
        let rows = rows
            .into_iter()
            .map(|((_, name), number)| (record(number), name.clone()));
        assert_eq!(tagged_records(&client, &rows.collect::<Vec<_>>()).await, 5);
        assert_eq!(boxed_elsewhere(&client, &cids).await, (5, 5));
    });
    task.await.unwrap();
}

/// From one store to the other, in one pipeline.
async fn copy(from: &Client, to: &Client, cids: &[Cid]) -> usize {
    let pulled = stream::iter(cids).pull_from(from);
    let records = pulled.filter_map(|result| async move {
        let pulled = result.ok()?;
        Some((pulled.record, pulled.cid))
    });
    let mut results = records.push_to(to);
    let mut copied = 0;
    while let Some(result) = results.next().await {
        let pushed = result.unwrap();
        assert_eq!(pushed.cid, pushed.tag);
        copied += 1;
    }
    copied
}

/// The same with the failures of both stages.
async fn copy_and_tell(from: &Client, to: &Client, cids: &[Cid]) -> usize {
    let mut results = stream::iter(cids).pull_from(from).try_push_to(to);
    let mut copied = 0;
    while let Some(result) = results.next().await {
        copied += usize::from(result.is_ok());
    }
    copied
}

/// A fallible input whose items and errors are borrowed.
async fn fallible(client: &Client, rows: &[Result<Cid, String>]) -> (usize, Vec<String>) {
    let refs = stream::iter(rows.iter().map(Result::as_ref));
    let mut results = refs.try_pull_from(client);
    let (mut pulled, mut errors) = (0, Vec::new());
    while let Some(result) = results.next().await {
        match result {
            Ok(_) => pulled += 1,
            Err(error) => errors.push(error.into_failed().unwrap_err().clone()),
        }
    }
    (pulled, errors)
}

/// Records that are checked before they are sent, with what is borrowed.
async fn checked(client: &Client, records: &[Record], names: &[String]) -> usize {
    let allowed = |record: &Record| match names.iter().any(|name| Some(&**name) == record.name()) {
        true => Ok(()),
        false => Err("not allowed"),
    };
    let records = records
        .iter()
        .map(|record| record.clone().precheck(allowed));
    let mut results = stream::iter(records).push_to(client);
    count(&mut results).await
}

/// Adapters that are finished, drained and taken apart.
async fn ends(client: &Client, cids: &[Cid]) {
    let summary = stream::iter(cids).lookup_in(client).finish().await;
    assert_eq!(summary.stats.succeeded, 5);
    let mut results = stream::iter(cids).pull_from(client);
    assert!(results.next().await.is_some());
    results.drain(Duration::from_secs(1));
    while results.next().await.is_some() {}
    let rest = results.into_remainder();
    tokio::task::yield_now().await;
    assert!(rest.unsent.is_empty() && rest.unanswered.is_empty());
    let left: Vec<&Cid> = rest.input.collect().await;
    assert!(left.len() < 5);
}

#[tokio::test]
async fn chained_and_stopped_adapters_run_in_a_spawned_task() {
    let (store, cids) = store_with(5);
    let client = store.client();
    let other = Store::new();
    let to = other.client();
    let task = tokio::spawn(async move {
        assert_eq!(copy(&client, &to, &cids).await, 5);
        assert_eq!(copy_and_tell(&client, &to, &cids).await, 5);
        let rows = [Ok(cids[0]), Err("unread".to_owned()), Ok(cids[1])];
        let errors = vec!["unread".to_owned()];
        assert_eq!(fallible(&client, &rows).await, (2, errors));
        let records: Vec<_> = (0..5).map(record).collect();
        let names = ["agent-3".to_owned()];
        assert_eq!(checked(&client, &records, &names).await, 1);
        ends(&client, &cids).await;
    });
    task.await.unwrap();
    assert_eq!(other.len(), 5);
}

/// What frameworks ask of a handler: a future that is `Send` and borrows nothing. What `axum` asks beside that
/// is about the arguments and the answer.
fn handler<F, Answer>(handler: fn(Client, Vec<Cid>) -> F) -> fn(Client, Vec<Cid>) -> F
where
    F: Future<Output = Result<Answer, Infallible>> + Send + 'static,
{
    handler
}

#[tokio::test]
async fn a_service_handler_can_use_an_adapter() {
    async fn count(client: Client, cids: Vec<Cid>) -> Result<usize, Infallible> {
        let mut found = 0;
        let mut results = stream::iter(&cids).lookup_in(&client);
        while let Some(result) = results.next().await {
            found += usize::from(result.is_ok());
        }
        Ok(found + pull(&client, &cids).await)
    }
    let (store, mut cids) = store_with(5);
    let client = store.client();
    cids.push(cid(&record(9)));
    let answer = tokio::spawn(handler(count)(client, cids)).await.unwrap();
    assert_eq!(answer, Ok(10));
}
