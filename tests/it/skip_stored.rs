//! Pushes that leave out what is stored: what that saves, and what it costs where there is nothing to save.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{AlreadyStored, Call, Fault, Method, Store};
use agntcy_dir_stream::{ErrorKind, Retry, Status};
use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::support::clock::in_a_week;
use crate::support::records::{cid, nameless, record};
use crate::support::stores::calls_of;

const EACH: Duration = Duration::from_millis(5);

/// A server over a registry, which takes so long for each push, and has the records whose numbers `is_stored` says.
fn store_of(
    count: usize,
    push: Duration,
    round_trip: Duration,
    is_stored: impl Fn(usize) -> bool,
) -> Store {
    let store = Store::builder()
        .already_stored(AlreadyStored::Ref)
        .round_trip(round_trip)
        .build();
    if !push.is_zero() {
        store.inject(Fault::delay(push).on(Method::Push).times(u64::MAX));
    }
    for number in (0..count).filter(|number| is_stored(*number)) {
        store.insert(record(number)).unwrap();
    }
    store
}

/// What a push of the first numbers took: the time in seconds, and the calls.
#[derive(Debug)]
struct Took {
    time: f64,
    calls: usize,
}

async fn push(store: &Store, count: usize, options: &Options) -> Took {
    let client = store.client();
    let records: Vec<_> = (0..count).map(record).collect();
    let began = Instant::now();
    let mut results = stream::iter(records.iter().cloned()).push_to_with(&client, options);
    let mut next = 0;
    while let Some(result) = in_a_week(results.next()).await {
        let pushed = result.unwrap();
        assert_eq!(
            (pushed.index, pushed.cid),
            (next, cid(&records[pushed.index as usize]))
        );
        next += 1;
    }
    assert_eq!((next, store.len()), (count as u64, count));
    Took {
        time: began.elapsed().as_secs_f64(),
        calls: store.calls().len(),
    }
}

/// What a push that leaves out what is stored takes, over what a push of all takes.
async fn ratio(
    count: usize,
    round_trip: Duration,
    is_stored: impl Fn(usize) -> bool + Copy,
) -> f64 {
    let options = Options::new();
    let all = store_of(count, EACH, round_trip, is_stored);
    let all = push(&all, count, &options).await;
    let skipping = store_of(count, EACH, round_trip, is_stored);
    let skipping = push(&skipping, count, &options.skip_stored(true)).await;
    println!("{all:?} {skipping:?} {:.3}", skipping.time / all.time);
    skipping.time / all.time
}

/// The same half each time, at random.
fn half(number: usize) -> bool {
    fastrand::Rng::with_seed(number as u64).bool()
}

const LINES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(2),
    Duration::from_millis(10),
];

#[tokio::test(start_paused = true)]
async fn where_all_are_stored_it_takes_a_twentieth() {
    for line in LINES {
        let ratio = ratio(2_000, line, |_| true).await;
        assert!(ratio <= 0.05, "{line:?}: {ratio}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_none_is_stored_it_costs_a_tenth_at_most() {
    for line in LINES {
        let ratio = ratio(2_000, line, |_| false).await;
        assert!(ratio <= 1.1, "{line:?}: {ratio}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_random_half_is_stored_it_costs_a_tenth_more_than_the_better_way() {
    for line in LINES {
        let ratio = ratio(2_000, line, half).await;
        // To look up all of them: a round trip for each that is missing, with its push beside it.
        let look_up = 0.5 * line.max(EACH).as_secs_f64() / EACH.as_secs_f64();
        let better = look_up.min(1.0);
        assert!(ratio <= 1.1 * better, "{line:?}: {ratio}, {better}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_they_come_in_runs_it_saves_a_third() {
    for line in LINES {
        for first in [true, false] {
            let ratio = ratio(4_000, line, |number| (number / 100 % 2 == 0) == first).await;
            assert!(ratio <= 0.7, "{line:?}: {ratio}");
        }
    }
}

#[tokio::test]
async fn twenty_thousand_of_which_a_third_is_stored_take_few_calls() {
    let thirds: [fn(usize) -> bool; 3] = [
        |number| number % 3 == 0,
        |number| fastrand::Rng::with_seed(number as u64).u8(0..3) == 0,
        |number| number < 6_667,
    ];
    for is_stored in thirds {
        let store = store_of(20_000, Duration::ZERO, Duration::ZERO, is_stored);
        let took = push(&store, 20_000, &Options::new().skip_stored(true)).await;
        println!("{took:?}");
        assert!(took.calls < 300, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_server_that_refuses_what_is_stored_most_is_found_out_by_lookups() {
    let stored: [fn(usize) -> bool; 2] = [|_| true, |number| number / 100 % 2 == 0];
    for is_stored in stored {
        let store = Store::new();
        for number in (0..2_000).filter(|number| is_stored(*number)) {
            store.insert(record(number)).unwrap();
        }
        let took = push(&store, 2_000, &Options::new().skip_stored(true)).await;
        assert!(took.calls < 300, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_record_has_its_result_also_when_lookups_fail_or_are_not_allowed() {
    let is_stored = |number: usize| number % 4 != 1;
    let faults = [
        Fault::cut().on(Method::Lookup).times(5),
        Fault::status(Status::internal("no"))
            .on(Method::Lookup)
            .times(u64::MAX),
        Fault::status(Status::unavailable("no"))
            .on(Method::Lookup)
            .times(3),
        Fault::status(Status::permission_denied("no"))
            .on(Method::Lookup)
            .times(u64::MAX),
        Fault::status(Status::unimplemented("no"))
            .on(Method::Lookup)
            .times(u64::MAX),
        Fault::stall().on(Method::Lookup).times(2),
        Fault::cut_after().on(Method::Push).at(30),
    ];
    for retries in [true, false] {
        for fault in &faults {
            for calls in [1, 3] {
                let store = store_of(300, Duration::ZERO, Duration::ZERO, is_stored);
                store.inject(fault.clone());
                let retry = if retries { Retry::new() } else { Retry::off() };
                let options = Options::new().skip_stored(true).calls(calls).retry(retry);
                let client = store.client();
                let records = stream::iter((0..300).map(record));
                let mut results = records.push_to_with(&client, &options);
                let mut failed = 0;
                let mut next = 0;
                while let Some(result) = in_a_week(results.next()).await {
                    failed += usize::from(result.is_err());
                    let index = result.map_or_else(|failed| failed.index, |pushed| pushed.index);
                    assert_eq!(index, next);
                    next += 1;
                }
                assert_eq!(next, 300);
                let context = format!("{fault:?}, {calls} calls: {}", results.stats());
                // A connection that breaks fails what pushes carry, if nothing is tried again. A lookup that fails harms none.
                let is_cut = format!("{fault:?}").contains("Cut");
                if retries || !is_cut {
                    assert_eq!((failed, store.len()), (0, 300), "{context}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bad_records_and_records_that_are_given_up_are_told_as_ever() {
    let store = store_of(100, EACH, Duration::ZERO, |number| number % 2 == 0);
    let client = store.client();
    let records = stream::iter((0..100).map(|number| match number % 10 {
        3 => nameless(number),
        4 => Record::default(),
        _ => record(number),
    }));
    let options = Options::new().skip_stored(true).verify(false);
    let results: Vec<_> = in_a_week(records.push_to_with(&client, &options).collect()).await;
    for (number, result) in results.iter().enumerate() {
        let kind = result.as_ref().err().map(|failed| failed.kind());
        let expected = match number % 10 {
            3 => Some(ErrorKind::Rejected),
            4 => Some(ErrorKind::Invalid),
            _ => None,
        };
        assert_eq!(kind, expected, "{number}");
    }
    // One that waits for its lookup was never sent.
    let store = Store::new();
    store.inject(Fault::stall().on(Method::Lookup).times(u64::MAX));
    let options = Options::new()
        .skip_stored(true)
        .stall_after(None)
        .retry(Retry::new().timeout(Duration::from_secs(10)));
    let client = store.client();
    let records = stream::iter((0..20).map(record));
    let results: Vec<_> = in_a_week(records.push_to_with(&client, &options).collect()).await;
    for result in &results[8..] {
        let failed = result.as_ref().unwrap_err();
        assert_eq!((failed.kind(), failed.attempts), (ErrorKind::NotSent, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_and_a_delete_know_nothing_of_it() {
    let store = store_of(50, Duration::ZERO, Duration::ZERO, |_| true);
    let client = store.client();
    let options = Options::new().skip_stored(true);
    let refs = || stream::iter((0..50).map(|number| cid(&record(number))));
    assert_eq!(
        refs()
            .pull_from_with(&client, &options)
            .finish()
            .await
            .stats
            .succeeded,
        50
    );
    assert_eq!(
        refs()
            .delete_from_with(&client, &options)
            .finish()
            .await
            .stats
            .succeeded,
        50
    );
    let of = |method| calls_of(&store, method);
    let calls: Vec<Call> = of(Method::Lookup);
    assert!(calls.is_empty() && store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn on_a_server_that_allows_one_call_lookups_have_their_turn() {
    let store = Store::builder()
        .already_stored(AlreadyStored::Ref)
        .max_calls(1)
        .build();
    store.inject(Fault::delay(EACH).on(Method::Push).times(u64::MAX));
    let took = push(&store, 400, &Options::new().skip_stored(true)).await;
    assert!(took.time < 5.0, "{took:?}");
}

/// Lookups may take the server longer than pushes, or wait for the rate of calls.
#[tokio::test(start_paused = true)]
async fn lookups_that_take_long_or_have_to_wait_become_few() {
    let line = Duration::from_millis(2);
    let stored: [fn(usize) -> bool; 3] = [|_| true, |_| false, half];
    for is_stored in stored {
        for milliseconds in [6, 50, 1_000] {
            let store = store_of(2_000, EACH, line, is_stored);
            let each = Duration::from_millis(milliseconds);
            store.inject(Fault::delay(each).on(Method::Lookup).times(u64::MAX));
            let took = push(&store, 2_000, &Options::new().skip_stored(true)).await;
            assert!(took.time < 13.0, "lookups of {milliseconds} ms: {took:?}");
        }
        let store = store_of(2_000, EACH, line, is_stored);
        let client = store.client().with_call_rate(5);
        let records = stream::iter((0..2_000).map(record));
        let options = Options::new().skip_stored(true);
        let began = Instant::now();
        let summary = in_a_week(records.push_to_with(&client, &options).finish()).await;
        assert_eq!(summary.stats.succeeded, 2_000, "{summary}");
        let took = began.elapsed().as_secs_f64();
        assert!(took < 12.0, "{took} s: {summary}");
    }
}
