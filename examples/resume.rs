//! An import that is stopped in the middle and goes on where it was. A checkpoint follows it: a file that says how
//! many records are done. The process is told to go (here after some results; in yours by a signal), answers what is
//! in flight, and a later run leaves out what is done. Had it been killed instead, the next run would repeat a window
//! of records at most.
//!
//! ```text
//! cargo run --release --features server --example resume
//! ```

use std::path::Path;
use std::time::Duration;

use agntcy_dir_stream::Checkpoint;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use anyhow::ensure;
use futures::{StreamExt, stream};
use serde_json::json;

const RECORDS: u64 = 10_000;

/// How long what is in flight may take when the process is told to go.
const GRACE: Duration = Duration::from_secs(5);

/// The input, the same in each run and in the same order. That is all that resuming needs.
fn records() -> impl Iterator<Item = Record> {
    (0..RECORDS).map(|number| {
        let record = json!({
            "name": format!("example.org/agents/{number}"),
            "version": "1.0.0",
            "schema_version": "1.0.0",
        });
        record.try_into().expect("an object of texts is a record")
    })
}

/// How a run of the import ends.
enum Ends {
    /// Told to go after so many results, it has some time to answer what is in flight.
    Told(u64, Duration),
    /// It fails after so many results, and nothing is done about what is in flight.
    Fails(u64),
    /// When all is done.
    ByItself,
}

/// Pushes what is still to be pushed, and returns the index of the first record of this run.
async fn import(client: &Client, file: &Path, ends: Ends) -> anyhow::Result<u64> {
    // An input from a file is told by `checkpoint::fingerprint`.
    let checkpoint = Checkpoint::open(file, "ten thousand agents")?;
    let begins_at = checkpoint.done();
    println!("starting at record {begins_at}");
    let mut results = stream::iter(records())
        .push_to(client)
        .resume_from(&checkpoint);
    let mut seen = 0;
    while let Some(result) = results.next().await {
        seen += 1;
        if let Err(failed) = result {
            eprintln!("record {}: {}", failed.index, failed.error);
        }
        match ends {
            // In yours: `tokio::select!` between the next result and `tokio::signal::ctrl_c()`, as the
            // docs of `Adapter::drain` show.
            Ends::Told(after, grace) if after == seen => {
                let in_flight = results.stats().in_window;
                println!("told to go, with {in_flight} records in flight");
                results.drain(grace);
            }
            Ends::Fails(after) if after == seen => {
                println!("failing");
                return Ok(begins_at);
            }
            _ => {}
        }
    }
    println!("{}", results.stats());
    checkpoint.save()?;
    if checkpoint.done() == RECORDS {
        checkpoint.remove()?;
    }
    Ok(begins_at)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::new();
    let serving = store.listen("127.0.0.1:0").await?;
    let client = Client::connect(serving.url()).await?;
    let file = std::env::temp_dir().join(format!("resume-{}", std::process::id()));

    // With time to answer what is in flight; with none, and then some records have no answer, and the next run has
    // them again; and by a failure.
    let ends = [
        Ends::Told(3_333, GRACE),
        Ends::Told(2_000, Duration::ZERO),
        Ends::Fails(1_000),
        Ends::ByItself,
    ];
    let mut began = Vec::new();
    for ends in ends {
        began.push(import(&client, &file, ends).await?);
    }

    serving.shutdown().await;
    ensure!(began[0] == 0 && began[1] >= 3_333, "{began:?}");
    ensure!(began[2] >= began[1] + 2_000, "{began:?}");
    // The result at which it failed does not count.
    ensure!(began[3] == began[2] + 999, "{began:?}");
    ensure!(!file.exists(), "the checkpoint is removed when all is done");
    ensure!(
        store.len() as u64 == RECORDS,
        "{} records are stored",
        store.len()
    );
    println!("all {RECORDS} records are stored");
    Ok(())
}
