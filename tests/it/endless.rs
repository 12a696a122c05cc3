//! Inputs without an end: an adapter over one goes on after an outage, and when it is let in again.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{CircuitBreaker, ErrorKind, Status};
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use crate::support::clock::{SECOND, in_a_week, on_paused_clock};
use crate::support::records::record;
use crate::support::stores::calls_of;

const MINUTE: Duration = Duration::from_secs(60);

fn denied() -> Fault {
    let status = Status::permission_denied("not today");
    Fault::status(status).on(Method::Push).times(u64::MAX)
}

#[test]
fn a_pusher_outlives_an_outage_of_any_length() {
    on_paused_clock(async {
        let store = Store::new();
        // As many connections as are tried within an hour, and no more.
        store.inject(Fault::no_connection().times(80));
        let breaker = CircuitBreaker::new().give_up_after(Some(MINUTE));
        let client = store.client().with_breaker(breaker);
        let (pusher, pushing) = client.pusher(&Options::new());
        let pushing = tokio::spawn(pushing);
        let mut failed = 0;
        for number in 0.. {
            match in_a_week(pusher.push(record(number))).await {
                Ok(pushed) => {
                    assert_eq!(pushed.index, number as u64);
                    break;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::CircuitOpen);
                    failed += 1;
                }
            }
            sleep(SECOND).await;
        }
        assert!(failed > 10, "it gave up {failed} times");
        assert_eq!(store.pending_faults().len(), 0);
        drop(pusher);
        let summary = in_a_week(pushing).await.unwrap();
        assert_eq!((summary.stats.failed, summary.stats.succeeded), (failed, 1));
    });
}

#[test]
fn a_pusher_that_was_denied_pushes_once_it_is_let_in() {
    on_paused_clock(async {
        let store = Store::new();
        let status = Status::permission_denied("not today");
        store.inject(Fault::status(status).on(Method::Push).times(3));
        let (pusher, pushing) = store.client().pusher(&Options::new());
        let pushing = tokio::spawn(pushing);
        let mut kinds = Vec::new();
        for number in 0..40 {
            let pushed = in_a_week(pusher.push(record(number))).await;
            kinds.push(pushed.map_or_else(|failed| Some(failed.kind()), |_| None));
            sleep(SECOND / 10).await;
        }
        // By then the waits are over: 100, 200 and 400 ms, and as much again at random.
        let denials = kinds
            .iter()
            .filter(|kind| **kind == Some(ErrorKind::Denied))
            .count();
        assert!((3..=16).contains(&denials), "{kinds:?}");
        assert!(kinds[denials..].iter().all(Option::is_none), "{kinds:?}");
        drop(pusher);
        let _ = in_a_week(pushing).await.unwrap();
    });
}

#[test]
fn a_server_that_denies_an_endless_input_is_asked_now_and_then() {
    on_paused_clock(async {
        let store = Store::new();
        store.inject(denied());
        let options = Options::new().keep_trying(true);
        let inputs = stream::iter(0..).then(async |number| {
            sleep(SECOND / 10).await;
            record(number % 1_000)
        });
        let client = store.client();
        let mut results = std::pin::pin!(inputs.push_to_with(&client, &options));
        let start = Instant::now();
        let mut failed = 0_u64;
        while start.elapsed() < 10 * MINUTE {
            let result = in_a_week(results.next()).await.unwrap();
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Denied);
            failed += 1;
        }
        assert!(
            failed > 5_000,
            "what comes meanwhile fails at once: {failed}"
        );
        // 9 waits that double up to 30 s, and then one each 30 s.
        let calls = calls_of(&store, Method::Push).len();
        assert!((20..=40).contains(&calls), "{calls} calls in ten minutes");
    });
}

#[test]
fn without_it_an_adapter_gives_up_for_good() {
    on_paused_clock(async {
        let store = Store::new();
        let status = Status::permission_denied("not today");
        store.inject(Fault::status(status).on(Method::Push));
        let inputs = stream::iter(0..100).then(async |number| {
            sleep(SECOND).await;
            record(number)
        });
        let client = store.client();
        let results: Vec<_> = in_a_week(inputs.push_to(&client).collect()).await;
        let denied = |result: &PushResult| matches!(result, Err(failed) if failed.kind() == ErrorKind::Denied);
        assert!(results.iter().all(denied));
        assert_eq!(calls_of(&store, Method::Push).len(), 1);
    });
}
