//! How many items a second an adapter takes.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::support::clock::{in_a_week, on_paused_clock};
use crate::support::records::records;

/// As a directory may ask of its guests.
#[test]
fn items_are_taken_at_the_rate_that_was_asked_for() {
    on_paused_clock(async {
        let store = Store::new();
        let client = store.client();
        // The input is asked for the next item, or its end, when that may be taken.
        for (rate, items, seconds) in [(10, 50, 5.0), (1_000, 1_000, 1.0), (1, 3, 3.0)] {
            for calls in [1, 4] {
                store.clear();
                let start = Instant::now();
                let options = Options::new().rate(rate).calls(calls);
                let summary =
                    in_a_week(records(items).push_to_with(&client, &options).finish()).await;
                assert_eq!(summary.stats.succeeded, items as u64, "{summary}");
                let took = start.elapsed().as_secs_f64();
                assert!(
                    (seconds - 0.02..seconds + 0.05).contains(&took),
                    "{rate}: {took}"
                );
            }
        }
        // What is denied needs no pace.
        let denied = Store::builder().authorize(|_| false).build();
        let start = Instant::now();
        let options = Options::new().rate(1);
        let summary = in_a_week(
            records(1_000)
                .push_to_with(&denied.client(), &options)
                .finish(),
        )
        .await;
        assert_eq!(summary.stats.failed, 1_000);
        assert!(start.elapsed() < Duration::from_secs(2));
        // A drain does not wait for it.
        let mut results = records(1_000).push_to_with(&client, &options);
        let start = Instant::now();
        in_a_week(results.next()).await.unwrap().unwrap();
        results.drain(Duration::from_secs(60));
        assert_eq!(in_a_week(results.count()).await, 0);
        assert!(start.elapsed() < Duration::from_secs(2));
    });
}
