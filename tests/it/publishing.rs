//! Publishing and unpublishing, in batches.

use std::collections::BTreeSet;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{ErrorKind, PublishStatus, Status};
use futures::{Stream, StreamExt, stream};
use tonic::Code;

use crate::support::clock::in_a_week;
use crate::support::peer::{next_call, scripted};
use crate::support::polling::next;
use crate::support::publishing::{PublicationId, Publish};
use crate::support::records::{cid, cids, record};
use crate::support::results::kinds;
use crate::support::stores::{calls_of, store_with};

async fn all<S: Stream>(results: S) -> Vec<S::Item> {
    in_a_week(results.collect()).await
}

#[tokio::test(start_paused = true)]
async fn refs_are_queued_in_batches_of_a_window() {
    let (store, cids) = store_with(10);
    let options = Options::new().window(4);
    let results = all(stream::iter(&cids).publish_to_with(&store.client(), &options)).await;
    let ids: BTreeSet<_> = results
        .iter()
        .map(|result| &*result.as_ref().unwrap().publication)
        .collect();
    let calls = calls_of(&store, Method::CreatePublication);
    assert_eq!(ids.len(), calls.len(), "one id for each batch");
    assert!((3..=5).contains(&ids.len()), "{ids:?}");
    assert!(!store.is_published(&cids[0]), "it is only queued");
    store.run_publications();
    assert!(cids.iter().all(|cid| store.is_published(cid)));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_message_with_each_ref_once() {
    let (client, peer) = scripted();
    let refs = cids(3).chain(cids(3));
    let mut results = refs.publish_to(&client);
    let mut call = next_call(&mut results, &peer).await;
    let requests = call.requests::<Publish>();
    assert_eq!(
        requests,
        [Publish::refs((0..3).map(|number| cid(&record(number))))]
    );
    assert!(call.is_half_closed());
    call.answer(&PublicationId::new("p"));
    call.end(Code::Ok, "");
    for number in 0..6 {
        let published = next(&mut results).unwrap();
        assert_eq!(published.publication, "p");
        assert_eq!(published.duplicate_of, (number >= 3).then(|| number - 3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_was_lost_is_queued_again() {
    let (store, cids) = store_with(5);
    store.inject(Fault::cut_after().on(Method::CreatePublication));
    let results = all(stream::iter(&cids).publish_to(&store.client())).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(calls_of(&store, Method::CreatePublication).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_is_halved_until_the_one_stands_alone() {
    let (store, mut cids) = store_with(20);
    let missing = cid(&record(99));
    cids.insert(13, missing);
    let client = store.client();
    assert!(
        all(stream::iter(&cids).publish_to(&client))
            .await
            .iter()
            .all(Result::is_ok)
    );
    store.run_publications();

    let results = all(stream::iter(&cids).unpublish_from(&client)).await;
    for (place, result) in results.iter().enumerate() {
        match result {
            Ok(unpublished) => assert_eq!(unpublished.cid, cids[place]),
            Err(failed) => {
                assert_eq!((place, failed.kind()), (13, ErrorKind::NotFound));
                assert_eq!(*failed.input, missing);
            }
        }
    }
    assert!(results[13].is_err());
    assert!(!cids.iter().any(|cid| store.is_published(cid)));
    let calls = calls_of(&store, Method::Unpublish).len();
    assert!(calls <= 12, "{calls} calls to find one of 21");
}

#[tokio::test(start_paused = true)]
async fn a_ref_that_is_none_is_not_sent() {
    let (store, cids) = store_with(1);
    let refs = [cids[0].to_string(), "oops".to_owned()];
    let results = all(stream::iter(refs.clone()).publish_to(&store.client())).await;
    assert_eq!(kinds(&results), [None, Some(ErrorKind::Invalid)]);
    let results = all(stream::iter(refs).unpublish_from(&store.client())).await;
    assert_eq!(kinds(&results), [None, Some(ErrorKind::Invalid)]);
}

#[tokio::test(start_paused = true)]
async fn a_publication_is_waited_for() {
    let (store, cids) = store_with(2);
    let client = store.client();
    let publish = async |cid: Cid| {
        let results = all(stream::iter([cid]).publish_to(&client)).await;
        results.into_iter().next().unwrap().unwrap().publication
    };
    let good = publish(cids[0]).await;
    let bad = publish(cid(&record(99))).await;
    let publication = client.publication(&*good).await.unwrap();
    assert_eq!(
        (&publication.id, publication.status),
        (&good, PublishStatus::Pending)
    );
    assert!(!publication.created_at.is_empty());

    let worker = async {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        store.run_publications();
    };
    let minute = Duration::from_secs(60);
    let (end, ()) = tokio::join!(
        in_a_week(client.wait_for_publication(&*good, minute)),
        worker
    );
    assert_eq!(end.unwrap().status, PublishStatus::Completed);
    let end = in_a_week(client.wait_for_publication(&*bad, minute))
        .await
        .unwrap();
    assert_eq!(end.status, PublishStatus::Failed);

    // Each time that it is asked for takes a call.
    let asked = calls_of(&store, Method::GetPublication).len();
    assert!((60..=63).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_there_is_not_is_an_error() {
    let store = Store::new();
    let client = store.client();
    let failed = in_a_week(client.publication("")).await.unwrap_err();
    assert_eq!((failed.kind(), failed.attempts), (ErrorKind::Invalid, 0));
    let failed = in_a_week(client.publication("nowhere")).await.unwrap_err();
    assert_eq!(
        (&*failed.input, failed.kind()),
        ("nowhere", ErrorKind::NotFound)
    );
    assert_eq!(failed.attempts, 1, "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_server_without_publishing_says_so_for_each() {
    let (store, cids) = store_with(3);
    store.inject(
        Fault::status(Status::unimplemented("no such service")).on(Method::CreatePublication),
    );
    let results = all(stream::iter(&cids).publish_to(&store.client())).await;
    assert_eq!(kinds(&results), [Some(ErrorKind::Unsupported); 3]);
}
