//! What it takes to find out that records are missing: a miss ends its call.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use agntcy_dir_stream::{Error, ErrorKind, Stats, ToCid};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::support::clock::{in_a_week, soon};
use crate::support::records::{cid, record};

const LINE: Duration = Duration::from_millis(10);

/// Round trips of so many lookups over so many calls, and their counts.
async fn round_trips(
    count: usize,
    calls: usize,
    is_missing: impl Fn(usize) -> bool,
) -> (f64, Stats) {
    let store = Store::builder().round_trip(LINE).build();
    let mut refs = Vec::new();
    for number in 0..count {
        let record = record(number);
        refs.push(cid(&record));
        if !is_missing(number) {
            store.insert(record).unwrap();
        }
    }
    let missing = (count - store.len()) as u64;
    let client = store.client();
    let options = Options::new().calls(calls);
    let began = Instant::now();
    let results = stream::iter(&refs).lookup_in_with(&client, &options);
    let stats = in_a_week(results.finish()).await.stats;
    assert_eq!((stats.failed, stats.taken), (missing, count as u64));
    let trips = began.elapsed().as_secs_f64() / LINE.as_secs_f64();
    println!("{missing} missing, {calls} calls: {trips} round trips, {stats}");
    (trips, stats)
}

#[tokio::test(start_paused = true)]
async fn over_eight_calls_a_miss_takes_less_than_a_third_of_a_round_trip() {
    let random = |number: usize| fastrand::Rng::with_seed(number as u64).bool();
    let half: [&dyn Fn(usize) -> bool; 3] = [&random, &|number| number % 2 == 0, &|number| {
        number >= 5_000
    }];
    for is_missing in half {
        let (trips, stats) = round_trips(10_000, 8, is_missing).await;
        assert!(trips <= 0.3 * stats.failed as f64, "{trips}, {stats}");
    }
}

/// The table in the cookbook.
#[tokio::test(start_paused = true)]
async fn a_thousand_lookups_take_what_the_cookbook_says() {
    let none: fn(usize) -> bool = |_| false;
    let some: fn(usize) -> bool = |number| number % 10 == 3;
    let all: fn(usize) -> bool = |_| true;
    let missing = [
        (none, [0.07, 0.05, 0.05]),
        (some, [1.1, 0.2, 0.1]),
        (all, [10.1, 1.3, 0.4]),
    ];
    for (is_missing, most) in missing {
        for (calls, most) in [1, 8, 32].into_iter().zip(most) {
            let (trips, _) = round_trips(1_000, calls, is_missing).await;
            let seconds = trips * LINE.as_secs_f64();
            assert!(seconds <= most, "{calls} calls: {seconds} s");
        }
    }
}

#[tokio::test]
async fn that_a_record_is_missing_is_an_answer_and_no_error() {
    let store = Store::new();
    let mut refs: Vec<String> = Vec::new();
    for number in 0..100 {
        refs.push(cid(&record(number)).to_string());
        if number % 3 == 0 {
            store.insert(record(number)).unwrap();
        }
    }
    refs.push("no CID".to_owned());
    let client = store.client();
    let options = Options::new().calls(4);
    let refs = || stream::iter(refs.iter().zip(0..));
    let mut results = refs().exists_in_with(&client, &options);
    for number in 0..100 {
        let result = soon(results.next()).await.unwrap().unwrap();
        assert_eq!((result.index, result.tag), (number, number));
        assert_eq!(result.exists, number % 3 == 0);
    }
    let failed = soon(results.next()).await.unwrap().unwrap_err();
    assert_eq!(
        (failed.kind(), failed.operation),
        (ErrorKind::Invalid, "exists")
    );
    assert!(soon(results.next()).await.is_none());
    assert_eq!(
        (results.stats().succeeded, results.stats().failed),
        (100, 1)
    );

    let exists = soon(refs().take(100).exists_in(&client).try_collect::<Vec<_>>())
        .await
        .unwrap();
    assert_eq!(exists.iter().filter(|result| result.exists).count(), 34);
    assert!(!soon(client.exists(cid(&record(1)))).await.unwrap());
    // What was answered and not handed out is told in the same way.
    let mut results = refs().exists_in(&client);
    soon(results.next()).await.unwrap().unwrap();
    let left = results.into_remainder();
    let failed = left
        .unread
        .iter()
        .filter_map(|result| result.as_ref().err());
    assert!(
        failed
            .into_iter()
            .all(|failed| failed.kind() == ErrorKind::Invalid),
        "{left:?}"
    );
}

/// A ref of a caller's own, which may have been deleted.
struct Row(Option<Cid>);

impl ToCid for Row {
    fn to_cid(&self) -> Result<Cid, Error> {
        let gone = || Error::new(ErrorKind::NotFound, "the row is gone");
        self.0.ok_or_else(gone)
    }
}

#[tokio::test]
async fn what_is_not_found_before_it_is_asked_for_is_an_error() {
    let store = Store::new();
    let there = store.insert(record(0)).unwrap();
    let rows = stream::iter([Row(Some(there)), Row(None)]);
    let results: Vec<_> = soon(rows.exists_in(&store.client()).collect()).await;
    assert!(results[0].as_ref().unwrap().exists);
    let failed = results[1].as_ref().unwrap_err();
    assert_eq!(failed.error.to_string(), "not found: the row is gone");
}
