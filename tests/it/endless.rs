//! Inputs without an end: an adapter over one goes on after an outage, and when it is let in again.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{CircuitBreaker, ErrorKind, Retry, Status};
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use crate::support::clock::{SECOND, in_a_week, on_paused_clock};
use crate::support::records::{cid, record};
use crate::support::stores::{calls_of, store_with};

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

fn keeps_trying() -> Options {
    Options::new().keep_trying(true)
}

#[test]
fn an_input_that_is_always_ready_goes_on_after_an_outage() {
    on_paused_clock(async {
        let store = Store::new();
        store.inject(Fault::no_connection().times(40));
        let breaker = CircuitBreaker::new().give_up_after(Some(MINUTE));
        let client = store.client().with_breaker(breaker);
        let options = keeps_trying().window(100);
        let inputs = stream::iter(0..).map(record);
        let mut results = std::pin::pin!(inputs.push_to_with(&client, &options));
        let start = Instant::now();
        while in_a_week(results.next()).await.unwrap().is_err() {
            sleep(SECOND / 10).await;
            let faults = store.pending_faults().len();
            assert!(start.elapsed() < 120 * MINUTE, "{faults} faults are left");
        }
    });
}

#[test]
fn what_fails_at_once_does_not_count_for_the_rate() {
    on_paused_clock(async {
        let store = Store::new();
        let status = Status::permission_denied("not today");
        store.inject(Fault::status(status).on(Method::Push).times(5));
        let (client, options) = (store.client(), keeps_trying().rate(10));
        let inputs = stream::iter(0..).map(record);
        let mut results = std::pin::pin!(inputs.push_to_with(&client, &options));
        loop {
            let asked = Instant::now();
            let result = in_a_week(results.next()).await.unwrap();
            assert!(
                asked.elapsed() < 5 * SECOND,
                "it waits {:?}",
                asked.elapsed()
            );
            if result.is_ok() {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_node_that_denies_is_not_the_only_one_that_is_tried() {
    // Which node is the first is random.
    for _ in 0..8 {
        on_paused_clock(async {
            let (bad, good) = (Store::new(), Store::new());
            bad.inject(denied());
            let client = bad.client().with_nodes_of(good.client());
            let inputs = stream::iter(0..).then(async |number| {
                sleep(SECOND / 100).await;
                record(number)
            });
            let options = keeps_trying();
            let mut results = std::pin::pin!(inputs.push_to_with(&client, &options));
            let start = Instant::now();
            let mut stored = 0;
            while start.elapsed() < MINUTE {
                stored += usize::from(in_a_week(results.next()).await.unwrap().is_ok());
            }
            assert!(stored > 5_000, "{stored} of 6,000");
        });
    }
}

#[test]
fn lookups_that_were_denied_are_made_again() {
    on_paused_clock(async {
        for is_alone in [false, true] {
            let (store, _) = store_with(1_000);
            let no = || Status::permission_denied("not today");
            store.inject(Fault::status(no()).on(Method::Lookup));
            if !is_alone {
                store.inject(Fault::status(no()).on(Method::Push));
            }
            let (client, options) = (store.client(), keeps_trying());
            let inputs = stream::iter(0..1_000).then(async |number| {
                if number % 100 == 0 {
                    sleep(MINUTE).await;
                }
                record(number)
            });
            let results = inputs.push_to_with(&client, &options);
            let results: Vec<_> = in_a_week(results.collect()).await;
            assert!(results[..100].iter().any(Result::is_err));
            // Each is stored already, which a lookup alone shows.
            assert!(results[500..].iter().all(Result::is_ok));
        }
    });
}

#[test]
fn a_patience_that_is_shorter_than_an_answer_takes_does_no_harm() {
    for patience in [Duration::ZERO, Duration::from_millis(10), SECOND] {
        on_paused_clock(async {
            let store = Store::builder()
                .round_trip(Duration::from_millis(20))
                .build();
            store.inject(Fault::no_connection().times(10));
            let breaker = CircuitBreaker::new().give_up_after(Some(patience));
            let client = store.client().with_breaker(breaker);
            let (pusher, pushing) = client.pusher(&Options::new());
            let pushing = tokio::spawn(pushing);
            let start = Instant::now();
            for number in 0.. {
                if in_a_week(pusher.push(record(number))).await.is_ok() {
                    break;
                }
                sleep(SECOND).await;
                assert!(start.elapsed() < 60 * MINUTE, "{patience:?}");
            }
            drop(pusher);
            let _ = in_a_week(pushing).await.unwrap();
        });
    }
}

#[test]
fn what_was_never_sent_does_not_shorten_the_waits() {
    on_paused_clock(async {
        let store = Store::new();
        store.inject(denied());
        let inputs = stream::iter(0..).then(async |number| {
            sleep(SECOND / 10).await;
            record(number % 1_000).skip_if(|_| number % 2 == 0)
        });
        let (client, options) = (store.client(), keeps_trying());
        let mut results = std::pin::pin!(inputs.push_to_with(&client, &options));
        let start = Instant::now();
        while start.elapsed() < 10 * MINUTE {
            let _ = in_a_week(results.next()).await.unwrap();
        }
        let calls = calls_of(&store, Method::Push).len();
        assert!((20..=40).contains(&calls), "{calls} calls in ten minutes");
    });
}

#[test]
fn an_answer_that_is_an_error_shortens_the_next_wait() {
    on_paused_clock(async {
        let store = Store::new();
        let (client, options) = (store.client(), keeps_trying());
        let inputs = stream::iter(0..).then(async |number| {
            sleep(SECOND / 10).await;
            cid(&record(number % 1_000))
        });
        // Nothing is stored, so the answer to each is that.
        let mut results = std::pin::pin!(inputs.lookup_in_with(&client, &options));
        for _ in 0..12 {
            let status = Status::permission_denied("not today");
            store.inject(Fault::status(status).on(Method::Lookup));
            let mut denied_at = None;
            loop {
                let failed = in_a_week(results.next()).await.unwrap().unwrap_err();
                match (failed.kind(), denied_at) {
                    (ErrorKind::Denied, None) => denied_at = Some(Instant::now()),
                    (ErrorKind::NotFound, Some(since)) => {
                        assert!(since.elapsed() < SECOND, "{:?}", since.elapsed());
                        break;
                    }
                    _ => {}
                }
            }
        }
    });
}

#[test]
fn the_shortest_and_the_longest_backoff_do_no_harm() {
    for (backoff, calls) in [(Duration::ZERO, 20..500), (Duration::MAX, 1..2)] {
        on_paused_clock(async {
            let store = Store::new();
            store.inject(denied());
            let options = keeps_trying().retry(Retry::new().backoff(backoff, backoff));
            let inputs = stream::iter(0..).then(async |number| {
                sleep(Duration::from_millis(1)).await;
                record(number % 1_000)
            });
            let client = store.client();
            let mut results = std::pin::pin!(inputs.push_to_with(&client, &options));
            let start = Instant::now();
            while start.elapsed() < 10 * SECOND {
                in_a_week(results.next()).await.unwrap().unwrap_err();
            }
            let made = calls_of(&store, Method::Push).len();
            assert!(calls.contains(&made), "{made} calls in ten seconds");
        });
    }
}
