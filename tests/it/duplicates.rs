//! Items that are the same as one before them in the window have that one's outcome, and are not sent.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{ErrorKind, Retry, Status};
use futures::{StreamExt, stream};

use crate::support::clock::{in_a_week, soon};
use crate::support::polling::poll_until;
use crate::support::records::{cid, nameless, record};
use crate::support::stores::{calls_of, slow_store, store_with};

#[tokio::test]
async fn records_that_come_twice_in_a_row_take_one_call_on_a_server_that_refuses_what_is_stored() {
    let store = Store::new();
    let records = stream::iter((0..2_000).map(|place| (record(place / 2), place)));
    let mut results = records.push_to(&store.client());
    let mut index = 0;
    while let Some(result) = soon(results.next()).await {
        let pushed = result.unwrap();
        assert_eq!((pushed.index, pushed.tag as u64), (index, index));
        assert_eq!(pushed.cid, cid(&record(pushed.tag / 2)));
        assert_eq!(pushed.duplicate_of, (index % 2 == 1).then(|| index - 1));
        assert!(!pushed.already_stored);
        index += 1;
    }
    let stats = results.stats();
    assert_eq!((stats.succeeded, stats.duplicates), (2_000, 1_000));
    assert_eq!((stats.sent, stats.calls, store.len()), (1_000, 1, 1_000));
}

#[tokio::test]
async fn reads_of_the_same_record_are_one_read() {
    let (store, cids) = store_with(10);
    let missing = cid(&record(77));
    let client = store.client();
    let refs = || stream::iter(cids.iter().copied().chain([missing]).cycle().take(110));
    let options = Options::new().window(32);

    let mut results = refs().pull_from_with(&client, &options);
    let mut numbers = Vec::new();
    while let Some(result) = soon(results.next()).await {
        match result {
            Ok(pulled) => {
                assert_eq!(cid(&pulled.record), pulled.cid);
                numbers.push(pulled.duplicate_of.is_some());
            }
            Err(failed) => {
                assert_eq!(
                    (failed.kind(), failed.input),
                    (ErrorKind::NotFound, missing)
                );
                numbers.push(failed.duplicate_of.is_some());
            }
        }
    }
    let stats = results.stats();
    let duplicates = numbers.iter().filter(|is_duplicate| **is_duplicate).count() as u64;
    assert_eq!(
        (stats.duplicates, stats.succeeded, stats.failed),
        (duplicates, 100, 10)
    );
    assert!(duplicates >= 50, "{stats}");
    assert!(stats.calls <= 8, "{stats}");

    let summary = soon(
        refs()
            .lookup_in_with(&client, &options.unordered(true))
            .finish(),
    )
    .await;
    assert!(summary.stats.duplicates >= 50, "{summary}");
    assert_eq!((summary.stats.succeeded, summary.stats.failed), (100, 10));
}

#[tokio::test]
async fn what_is_refused_is_refused_for_all_that_are_the_same() {
    let store = Store::new();
    let records = stream::iter([0, 1, 0, 0, 1].map(|number| match number {
        0 => nameless(0),
        number => record(number),
    }));
    let results: Vec<_> = soon(records.push_to(&store.client()).collect()).await;
    let seen: Vec<_> = results
        .iter()
        .map(|result| match result {
            Ok(pushed) => (None, pushed.duplicate_of),
            Err(failed) => (Some(failed.kind()), failed.duplicate_of),
        })
        .collect();
    let refused = Some(ErrorKind::Rejected);
    assert_eq!(
        seen,
        [
            (refused, None),
            (None, None),
            (refused, Some(0)),
            (refused, Some(0)),
            (None, Some(1))
        ]
    );
    assert_eq!(
        store.calls().iter().map(|call| call.requests).sum::<u64>(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn if_the_first_is_given_up_the_next_is_tried_in_its_place() {
    let store = Store::new();
    // The server is stuck until after the time of the first is up.
    store.inject(Fault::delay(Duration::from_secs(15)).on(Method::Push));
    let options = Options::new()
        .stall_after(None)
        .retry(Retry::new().timeout(Duration::from_secs(10)));
    let later = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        record(0)
    };
    let records = stream::iter([record(0), record(0)]).chain(stream::once(later));
    let mut results = Box::pin(records.push_to_with(&store.client(), &options));
    for index in [0, 1] {
        let failed = in_a_week(results.next()).await.unwrap().unwrap_err();
        assert_eq!(
            (failed.index, failed.kind()),
            (index, ErrorKind::OutcomeUnknown)
        );
        assert_eq!(failed.duplicate_of, None);
    }
    // It was taken later, so it has time left.
    let pushed = in_a_week(results.next()).await.unwrap().unwrap();
    assert_eq!((pushed.index, pushed.duplicate_of), (2, None));
    assert!(in_a_week(results.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn when_the_caller_is_refused_all_are_told() {
    for calls in [1, 4] {
        let store = Store::new();
        store.inject(Fault::status(Status::permission_denied("no")).times(u64::MAX));
        let records = stream::iter((0..3_000).map(|_| record(0)));
        let options = Options::new().window(2_000).calls(calls);
        let summary = in_a_week(records.push_to_with(&store.client(), &options).finish()).await;
        assert_eq!(
            summary.stats.failed_as(ErrorKind::Denied),
            3_000,
            "{summary}"
        );
    }
}

#[tokio::test]
async fn what_waits_for_another_is_given_back_with_it() {
    let store = slow_store(Duration::from_secs(3_600));
    let client = store.client();
    let records = stream::iter([0, 1, 0, 2, 0].map(record));
    let mut results = records.push_to_with(&client, &Options::new().in_flight(2, 2));
    let has_come = store.wait_for(|calls| calls.iter().any(|call| call.requests == 1));
    poll_until(&mut results, has_come).await;
    let left = results.into_remainder();
    assert!(left.unread.is_empty());
    let indexes = |left: &[agntcy_dir_stream::Leftover<Record>]| -> Vec<u64> {
        left.iter().map(|item| item.index).collect()
    };
    // The first has left, and so those that are the same may have landed with it.
    assert_eq!(indexes(&left.unanswered), [0, 1, 2, 4]);
    assert_eq!(indexes(&left.unsent), [3]);
}

#[tokio::test]
async fn each_is_sent_where_that_is_asked_for_or_the_window_is_past() {
    let (store, cids) = store_with(1);
    let client = store.client();
    let refs = || stream::iter(vec![cids[0]; 50]);
    let options = Options::new().dedup(false);
    let stats = soon(refs().pull_from_with(&client, &options).finish())
        .await
        .stats;
    assert_eq!((stats.sent, stats.duplicates), (50, 0));
    let options = Options::new().window(1);
    let stats = soon(refs().pull_from_with(&client, &options).finish())
        .await
        .stats;
    assert_eq!((stats.sent, stats.duplicates), (50, 0));
    // A push that verifies nothing knows no CIDs, and a delete is not about what is there.
    let records = stream::iter(vec![record(9); 3]);
    let options = Options::new().verify(false);
    let stats = soon(records.push_to_with(&client, &options).finish())
        .await
        .stats;
    assert_eq!((stats.succeeded, stats.duplicates), (3, 0));
    let stats = soon(refs().delete_from(&client).finish()).await.stats;
    assert_eq!((stats.succeeded, stats.duplicates, stats.sent), (50, 0, 50));
    assert_eq!(calls_of(&store, Method::Delete).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_refused_meanwhile_takes_nothing_from_what_is_in_flight() {
    let store = Store::new();
    let (slow, denied) = (record(0), record(1));
    let seconds = Fault::delay(Duration::from_secs(5)).of(cid(&slow));
    store.inject(seconds.on(Method::Push));
    let status = Status::permission_denied("no");
    store.inject(Fault::status(status).of(cid(&denied)).on(Method::Push));
    let records = stream::iter([slow.clone(), denied, slow.clone(), slow]);
    let options = Options::new().calls(2);
    let results: Vec<_> =
        in_a_week(records.push_to_with(&store.client(), &options).collect()).await;
    let seen = results.iter().map(|result| {
        result
            .as_ref()
            .map_or(None, |pushed| Some(pushed.duplicate_of))
    });
    let expected = [Some(None), None, Some(Some(0)), Some(Some(0))];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_comes_behind_others_that_have_an_outcome_has_it_too() {
    let store = Store::new();
    let records = stream::iter((0..10_000).map(|_| record(0)));
    let options = Options::new().window(64);
    let summary = soon(records.push_to_with(&store.client(), &options).finish()).await;
    assert_eq!(summary.stats.succeeded, 10_000, "{summary}");
    // A window may be empty now and then.
    assert!(summary.stats.sent <= 10_000 / 32, "{summary}");
}
