//! One push for many producers.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{ErrorKind, Retry};
use futures::{FutureExt as _, future};

use crate::support::clock::{in_a_week, soon};
use crate::support::records::{cid, nameless, record};
use crate::support::stores::{calls_of, slow_store};

#[tokio::test]
async fn many_handlers_share_a_call_and_each_has_its_own_result() {
    let store = Store::new();
    let (pusher, pushing) = store.client().pusher(&Options::new());
    let pushing = tokio::spawn(pushing);
    let handlers = (0..1_000).map(|number| {
        let pusher = pusher.clone();
        tokio::spawn(async move {
            let record = if number == 500 {
                nameless(number)
            } else {
                record(number)
            };
            pusher.push(record).await
        })
    });
    let results = soon(future::join_all(handlers.collect::<Vec<_>>())).await;
    for (number, result) in results.into_iter().enumerate() {
        match result.unwrap() {
            Ok(pushed) => assert_eq!(pushed.cid, cid(&record(number))),
            Err(failed) => {
                assert_eq!((number, failed.kind()), (500, ErrorKind::Rejected));
                assert_eq!(failed.input, nameless(500));
            }
        }
    }
    assert_eq!(pusher.handle().stats().succeeded, 999);
    assert!(!pushing.is_finished());
    // The last handle ends it.
    drop(pusher);
    let summary = soon(pushing).await.unwrap();
    assert_eq!((summary.stats.succeeded, summary.stats.failed), (999, 1));
    assert_eq!(calls_of(&store, Method::Push).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_pushes_waits_while_there_is_no_room() {
    let store = slow_store(Duration::from_secs(1));
    let (pusher, pushing) = store.client().pusher(&Options::new().window(4));
    let pushing = tokio::spawn(pushing);
    let handlers: Vec<_> = (0..100)
        .map(|number| {
            let pusher = pusher.clone();
            tokio::spawn(async move { pusher.push(record(number)).await })
        })
        .collect();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(pusher.handle().stats().in_window <= 4);
    }
    drop(pusher);
    for handler in handlers {
        in_a_week(handler).await.unwrap().unwrap();
    }
    assert_eq!(in_a_week(pushing).await.unwrap().stats.succeeded, 100);
}

#[tokio::test(start_paused = true)]
async fn a_drain_brings_to_an_end_what_was_taken_and_gives_back_the_rest() {
    let store = slow_store(Duration::from_secs(1));
    let (pusher, pushing) = store.client().pusher(&Options::new().window(8));
    let pushing = tokio::spawn(pushing);
    let handlers: Vec<_> = (0..50)
        .map(|number| {
            let pusher = pusher.clone();
            tokio::spawn(async move { pusher.push(record(number)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    pusher.handle().drain(Duration::from_secs(60));
    let late = in_a_week(pusher.push(record(99))).await.unwrap_err();
    assert_eq!((late.kind(), late.input), (ErrorKind::NotSent, record(99)));
    let summary = in_a_week(pushing).await.unwrap();
    let mut stored = 0;
    for (number, handler) in handlers.into_iter().enumerate() {
        match in_a_week(handler).await.unwrap() {
            Ok(_) => stored += 1,
            Err(failed) => {
                assert_eq!(
                    (failed.kind(), failed.input),
                    (ErrorKind::NotSent, record(number))
                );
            }
        }
    }
    assert_eq!(
        (stored, stored),
        (summary.stats.succeeded, store.len() as u64)
    );
    assert!((1..=8).contains(&stored), "{stored}");
    let late = in_a_week(pusher.push(record(99))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::NotSent);
}

#[tokio::test(start_paused = true)]
async fn a_stop_and_a_dropped_future_leave_nobody_waiting() {
    for is_stop in [true, false] {
        let store = Store::new();
        store.inject(Fault::stall().on(Method::Push).times(u64::MAX));
        let options = Options::new()
            .window(4)
            .retry(Retry::off())
            .stall_after(None);
        let (pusher, pushing) = store.client().pusher(&options);
        let pushing = tokio::spawn(pushing);
        let handlers: Vec<_> = (0..30)
            .map(|number| {
                let pusher = pusher.clone();
                tokio::spawn(async move { pusher.push(record(number)).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if is_stop {
            pusher.handle().stop();
            let summary = in_a_week(pushing).await.unwrap();
            assert_eq!(summary.stats.taken, 4);
        } else {
            pushing.abort();
        }
        let mut unknown = 0;
        for (number, handler) in handlers.into_iter().enumerate() {
            let failed = in_a_week(handler).await.unwrap().unwrap_err();
            assert_eq!(failed.input, record(number));
            assert!(
                matches!(
                    failed.kind(),
                    ErrorKind::NotSent | ErrorKind::OutcomeUnknown
                ),
                "{failed}"
            );
            unknown += usize::from(failed.kind() == ErrorKind::OutcomeUnknown);
        }
        assert!(unknown >= 4, "{unknown}");
        if is_stop {
            assert_eq!(unknown, 4, "what was not sent says so");
        }
    }
}

#[tokio::test]
async fn who_has_gone_away_does_not_have_the_record_pushed_that_was_not_taken() {
    let store = Store::new();
    let (pusher, pushing) = store.client().pusher(&Options::new());
    let mut first = Box::pin(pusher.push(record(0)));
    assert!(first.as_mut().now_or_never().is_none());
    drop(first);
    let second = pusher.push(record(1));
    let pushing = tokio::spawn(pushing);
    soon(second).await.unwrap();
    drop(pusher);
    assert_eq!(soon(pushing).await.unwrap().stats.taken, 1);
    assert_eq!(store.cids(), [cid(&record(1))]);
}
