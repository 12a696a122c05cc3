//! What it takes to find out that records are missing: a miss ends its call.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use futures::stream;
use tokio::time::Instant;

use crate::support::clock::in_a_week;
use crate::support::records::{cid, record};

const LINE: Duration = Duration::from_millis(10);

/// Round trips for each miss, of so many lookups over so many calls.
async fn round_trips(count: usize, calls: usize, is_missing: impl Fn(usize) -> bool) -> f64 {
    let store = Store::builder().round_trip(LINE).build();
    let mut refs = Vec::new();
    for number in 0..count {
        let record = record(number);
        refs.push(cid(&record));
        if !is_missing(number) {
            store.insert(record).unwrap();
        }
    }
    let missing = count - store.len();
    let client = store.client();
    let options = Options::new().calls(calls);
    let began = Instant::now();
    let summary = in_a_week(
        stream::iter(&refs)
            .lookup_in_with(&client, &options)
            .finish(),
    )
    .await;
    assert_eq!(
        (summary.stats.failed, summary.stats.taken),
        (missing as u64, count as u64)
    );
    let trips = began.elapsed().as_secs_f64() / LINE.as_secs_f64();
    println!(
        "{calls} calls: {:.3} round trips a miss; {}",
        trips / missing as f64,
        summary.stats
    );
    trips / missing as f64
}

#[tokio::test(start_paused = true)]
async fn over_eight_calls_a_miss_takes_less_than_a_third_of_a_round_trip() {
    let random = |number: usize| fastrand::Rng::with_seed(number as u64).bool();
    let half: [&dyn Fn(usize) -> bool; 3] = [&random, &|number| number % 2 == 0, &|number| {
        number >= 5_000
    }];
    for is_missing in half {
        let trips = round_trips(10_000, 8, is_missing).await;
        assert!(trips <= 0.3, "{trips}");
    }
}

#[tokio::test(start_paused = true)]
async fn over_one_call_a_miss_takes_one_round_trip() {
    let trips = round_trips(1_000, 1, |number| number % 10 == 3).await;
    assert!(trips <= 1.2, "{trips}");
}
