//! How many round trips a batch takes, and what the client has learnt when the next one begins.

use std::time::Duration;

use agntcy_dir_stream::Stats;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use futures::stream;
use tokio::time::{Instant, advance};

use crate::support::clock::in_a_week;
use crate::support::records::{cid, record};

const LINE: Duration = Duration::from_millis(100);
const BATCH: usize = 1_000;

fn far_store() -> Store {
    Store::builder().round_trip(LINE).build()
}

fn trips(began: Instant) -> f64 {
    began.elapsed().div_duration_f64(LINE)
}

async fn pushed(client: &Client, records: impl IntoIterator<Item = Record>) -> f64 {
    let began = Instant::now();
    let records: Vec<_> = records.into_iter().collect();
    let count = records.len() as u64;
    let summary = in_a_week(stream::iter(records).push_to(client).finish()).await;
    assert_eq!(summary.stats.succeeded, count);
    trips(began)
}

/// Looks a batch up of which every so many is missing. Returns the round trips, and the counts.
async fn looked_up(client: &Client, store: &Store, missing: Option<usize>) -> (f64, Stats) {
    let refs: Vec<_> = (0..BATCH)
        .map(|number| match missing {
            Some(every) if number % every == every - 1 => cid(&record(BATCH + number)),
            _ => {
                let record = record(number);
                let cid = cid(&record);
                store.insert(record).unwrap();
                cid
            }
        })
        .collect();
    let began = Instant::now();
    let stats = in_a_week(stream::iter(&refs).lookup_in(client).finish())
        .await
        .stats;
    assert_eq!(stats.succeeded + stats.failed, BATCH as u64);
    (trips(began), stats)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_records_take_a_round_trip_and_the_opening_of_the_connection() {
    let store = far_store();
    let trips = pushed(&store.client(), (0..BATCH).map(record)).await;
    assert!(trips < 2.5, "push: {trips}");

    let refs: Vec<_> = (0..BATCH).map(|number| cid(&record(number))).collect();
    let began = Instant::now();
    let pulled = stream::iter(&refs).pull_from(&store.client()).finish();
    assert_eq!(in_a_week(pulled).await.stats.succeeded, BATCH as u64);
    let trips = self::trips(began);
    // How many fit into the window in bytes is known only when the first have come.
    assert!(trips < 2.75, "pull: {trips}");

    let (trips, _) = looked_up(&store.client(), &store, None).await;
    assert!(trips < 2.5, "lookup: {trips}");
}

#[tokio::test(start_paused = true)]
async fn of_long_records_they_take_one_more_until_the_client_knows_that_they_are_good() {
    let long = |number: usize| {
        let text = "x".repeat(2_400);
        let json = format!(r#"{{"name":"{number}","schema_version":"1.0.0","text":"{text}"}}"#);
        Record::from_json(json).unwrap()
    };
    let client = far_store().client();
    let first = pushed(&client, (0..BATCH).map(long)).await;
    assert!(first < 3.5, "{first}");
    let second = pushed(&client, (BATCH..2 * BATCH).map(long)).await;
    assert!(second < 1.5, "{second}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_behind_one_bad_record_is_not_slow() {
    let store = far_store();
    let client = store.client();
    assert!(client.lookup(cid(&record(0))).await.is_err());
    let (trips, _) = looked_up(&client, &store, None).await;
    assert!(trips < 3.5, "{trips}");
}

#[tokio::test(start_paused = true)]
async fn what_a_batch_with_bad_records_has_shown_the_next_one_knows_until_it_is_forgotten() {
    let store = far_store();
    let client = store.client();
    let (_, first) = looked_up(&client, &store, Some(10)).await;
    let (_, second) = looked_up(&client, &store, Some(10)).await;
    assert!(second.resent + 500 < first.resent, "{first}, {second}");

    // Another client knows nothing of that, and nor does another method of this one.
    let (other, _) = looked_up(&store.client(), &store, None).await;
    assert!(other < 2.5, "{other}");
    let push = pushed(&client, (0..BATCH).map(record)).await;
    assert!(push < 2.5, "{push}");

    // Good records take it back quickly.
    let (good, _) = looked_up(&client, &store, None).await;
    assert!(good < 5.5, "{good}");

    let (_, bad) = looked_up(&client, &store, Some(10)).await;
    assert!(bad.resent < first.resent, "{first}, {bad}");
    advance(Duration::from_secs(600)).await;
    let (later, _) = looked_up(&client, &store, None).await;
    assert!(later < 2.5, "{later}");
}
