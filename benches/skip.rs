//! What it takes to push records of which some are stored already, with and without `Options::skip_stored`: the table that is
//! in the cookbook. The server takes 5 ms for each push, and answers to a stored record as to a new one.
//!
//! The clock is paused, so the times are those of the server and the line alone, and the same in each run.
//!
//! ```text
//! cargo bench --features server --bench skip
//! ```

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{AlreadyStored, Fault, Method, Store};
use futures::stream;
use tokio::time::Instant;

const RECORDS: usize = 4_000;

const PUSH: Duration = Duration::from_millis(5);

/// Whether a record is stored already, by its number.
type IsStored = fn(usize) -> bool;

const STORED: [(&str, IsStored); 7] = [
    ("none", |_| false),
    ("a random half", |number| random(number) < 50),
    ("90 % at random", |number| random(number) < 90),
    ("98 % at random", |number| random(number) < 98),
    ("each third", |number| number % 3 == 0),
    ("100 stored, 100 new", |number| number / 100 % 2 == 0),
    ("all", |_| true),
];

/// The same each time, below 100.
fn random(number: usize) -> u8 {
    fastrand::Rng::with_seed(number as u64).u8(..100)
}

fn record(number: usize) -> Record {
    let text = format!(r#"{{"name": "agent-{number}", "schema_version": "1.0.0"}}"#);
    text.parse().expect("a record")
}

/// The seconds that it takes, and the calls.
async fn push(is_stored: IsStored, round_trip: Duration, skip: bool) -> (f64, usize) {
    let store = Store::builder()
        .already_stored(AlreadyStored::Ref)
        .round_trip(round_trip)
        .build();
    store.inject(Fault::delay(PUSH).on(Method::Push).times(u64::MAX));
    for number in (0..RECORDS).filter(|number| is_stored(*number)) {
        store.insert(record(number)).expect("a valid record");
    }
    let options = Options::new().skip_stored(skip);
    let client = store.client();
    let began = Instant::now();
    let results = stream::iter((0..RECORDS).map(record)).push_to_with(&client, &options);
    let summary = results.finish().await;
    assert_eq!(summary.stats.succeeded, RECORDS as u64, "{summary}");
    assert_eq!(store.len(), RECORDS);
    (began.elapsed().as_secs_f64(), store.calls().len())
}

fn main() {
    println!("| stored | round trip | all pushed | stored left out | share | calls |");
    println!("|---|---|---|---|---|---|");
    for (words, is_stored) in STORED {
        for milliseconds in [0, 2, 10, 50, 200] {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .expect("a runtime");
            let line = Duration::from_millis(milliseconds);
            let (all, _) = runtime.block_on(push(is_stored, line, false));
            let (some, calls) = runtime.block_on(push(is_stored, line, true));
            let share = some / all;
            println!(
                "| {words} | {milliseconds} ms | {all:.2} s | {some:.2} s | {share:.3} | {calls} |"
            );
        }
    }
}
