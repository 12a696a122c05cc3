//! Adapters by a type that can be written.

use std::time::Duration;

use agntcy_dir_stream::BoxAdapter;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use futures::stream::{self, BoxStream, FusedStream, Stream, StreamExt};

use crate::support::records::record;

/// What a pipeline keeps in a struct.
struct Import<'a> {
    results: BoxAdapter<'a, BoxStream<'a, Record>, PushResult>,
}

fn import<'a>(client: &Client, records: &'a [Record]) -> Import<'a> {
    let records = stream::iter(records).map(Record::clone).boxed();
    Import {
        results: records.push_to(client).erase(),
    }
}

fn records() -> Vec<Record> {
    (0..10).map(record).collect()
}

#[tokio::test]
async fn an_erased_adapter_gives_the_same_results() {
    let store = Store::new();
    let records = records();
    let import = import(&store.client(), &records);
    assert_eq!(import.results.size_hint(), (10, Some(10)));
    let summary = import.results.finish().await;
    assert_eq!(summary.stats.succeeded, 10);
    assert_eq!(store.len(), 10);
}

#[tokio::test]
async fn an_erased_adapter_is_drained_and_counts() {
    let store = Store::new();
    let endless = stream::repeat_with(|| record(1)).boxed();
    let mut results: BoxAdapter<'_, BoxStream<'_, Record>, PushResult> =
        endless.push_to(&store.client()).erase();
    let handle = results.handle();
    results.next().await.unwrap().unwrap();
    results.drain(Duration::from_secs(60));
    while results.next().await.is_some() {}
    assert!(results.is_terminated());
    assert_eq!(results.stats(), handle.stats());
    assert_eq!(results.stats().in_window, 0);
    let mut left = results.into_remainder();
    assert!(left.input.next().await.is_some(), "the input goes on");
}

#[tokio::test]
async fn an_adapter_that_has_begun_can_be_erased_and_taken_apart() {
    let store = Store::new();
    let mut results = stream::iter(records()).push_to(&store.client());
    results.next().await.unwrap().unwrap();
    let left = results.erase().into_remainder();
    let taken = left.unread.len() + left.unsent.len() + left.unanswered.len();
    assert_eq!((taken, left.next_index), (9, 10));
}

#[tokio::test]
async fn an_erased_adapter_over_borrowed_items_is_kept_in_a_spawned_task() {
    let store = Store::new();
    let client = store.client();
    let task = tokio::spawn(async move {
        let records = records();
        let mut import = import(&client, &records);
        let mut pushed = 0;
        while let Some(result) = import.results.next().await {
            pushed += usize::from(result.is_ok());
        }
        pushed
    });
    assert_eq!(task.await.unwrap(), 10);
}
