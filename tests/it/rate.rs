//! How many items a second an adapter takes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use futures::{StreamExt as _, stream};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use crate::support::clock::{in_a_week, on_paused_clock};
use crate::support::jobs::{ITEMS, Job, job};
use crate::support::properties::cases;
use crate::support::records::{record, records};

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

/// The times at which items were taken.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Vec<Instant>>>);

impl Times {
    fn note(&self) {
        self.0.lock().unwrap().push(Instant::now());
    }

    /// The seconds since the first.
    fn seconds(&self) -> Vec<f64> {
        let times = self.0.lock().unwrap();
        let since = |at: &Instant| (*at - times[0]).as_secs_f64();
        times.iter().map(since).collect()
    }
}

/// Timers go by milliseconds, so most rates do not go into them evenly.
#[test]
fn a_rate_is_kept_at_any_number() {
    for rate in [33, 64, 70, 90, 99, 101, 130, 333, 1_000] {
        let items = (rate as usize * 2).min(1_000);
        let times = Times::default();
        let noted = times.clone();
        let input = stream::iter((0..=items).map(move |number| {
            noted.note();
            // The same one again costs the test no time.
            record(number % 8)
        }));
        let options = Options::new().rate(rate);
        on_paused_clock(async {
            let results = input.push_to_with(&Store::new().client(), &options);
            assert_eq!(in_a_week(results.count()).await, items + 1);
        });
        let times = times.seconds();
        let is = items as f64 / times[items];
        let off = is / f64::from(rate) - 1.0;
        assert!(off.abs() < 0.02, "{rate}: {is:.1}");
        // No second has more than that, and what may be taken at once.
        let most = rate as usize + (rate as usize).div_ceil(100) + 1;
        let crowded = times
            .windows(most + 1)
            .find(|window| window[most] < window[0] + 1.0 - 1e-9);
        assert_eq!(crowded, None, "{rate}");
    }
}

/// The input waits for so many milliseconds before each item of so many.
async fn is_paced(job: &Job, rate: u32, unordered: bool, input: (usize, u64), consumer: u64) {
    let times = Times::default();
    let noted = times.clone();
    let numbers = stream::iter(0..ITEMS).then(move |number| {
        let noted = noted.clone();
        async move {
            if number % input.0 == 0 {
                sleep(Duration::from_millis(input.1)).await;
            }
            noted.note();
            number
        }
    });
    let options = job.options().rate(rate).unordered(unordered);
    let mut results = job.begin(&job.store(), &options, numbers.boxed());
    let mut polls = 0;
    let mut seen = Vec::new();
    while let Some((index, _)) = std::future::poll_fn(|cx| {
        polls += 1;
        results.poll_next_unpin(cx)
    })
    .await
    {
        seen.push(index);
        sleep(Duration::from_millis(consumer)).await;
    }
    assert!(unordered || seen.is_sorted(), "{seen:?}");
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..ITEMS as u64));
    let (rate, times) = (f64::from(rate), times.seconds());
    for (place, from) in times.iter().enumerate() {
        for (more, to) in times[place..].iter().enumerate() {
            // One that is due, and ten milliseconds' worth of them, but one at least.
            let most = (to - from) * rate + 2.0 + rate / 100.0;
            let taken = (more + 1) as f64;
            assert!(
                taken <= most + 1e-6,
                "{taken} from {from} to {to}, at {rate}"
            );
        }
    }
    assert!(polls < 60 * ITEMS, "{polls} polls");
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn a_rate_is_kept_whatever_else_is_on(
        job in job(),
        rate in 1u32..3_000,
        unordered: bool,
        input in (1usize..20, 0u64..3_000),
        consumer in prop_oneof![3 => Just(0u64), 1 => 1u64..200],
    ) {
        on_paused_clock(in_a_week(is_paced(&job, rate, unordered, input, consumer)));
    }
}
