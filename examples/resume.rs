//! An import that is stopped in the middle and resumed where it was: the process is told to go
//! (here after some results; in yours by a signal), answers what is in flight, notes how far it
//! came, and a later run skips so many records of the same input.
//!
//! ```text
//! cargo run --release --features server --example resume
//! ```

use std::path::Path;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use anyhow::{Context as _, ensure};
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

/// Pushes what `checkpoint` says is still to be pushed. Told to go after so many results, it
/// comes to an end; whatever happens, it notes how far it came.
async fn import(
    client: &Client,
    checkpoint: &Path,
    told_to_go_after: Option<u64>,
    grace: Duration,
) -> anyhow::Result<()> {
    let done: u64 = match std::fs::read_to_string(checkpoint) {
        Ok(text) => text.trim().parse().context("the checkpoint is a number")?,
        Err(_) => 0,
    };
    println!("starting at record {done}");
    let rest = stream::iter(records().skip(usize::try_from(done)?));
    let mut results = rest.push_to(client);
    let mut seen = 0;
    while let Some(result) = results.next().await {
        seen += 1;
        if let Err(failed) = result {
            // Its index counts from where this run began.
            eprintln!("record {}: {}", done + failed.index, failed.error);
        }
        // In yours: `tokio::select!` between the next result and `tokio::signal::ctrl_c()`, as the
        // docs of `Adapter::drain` show.
        if told_to_go_after == Some(seen) {
            let in_flight = results.stats().in_window;
            println!("told to go, with {in_flight} records in flight");
            results.drain(grace);
        }
        if seen % 1_000 == 0 {
            write(checkpoint, done + results.stats().answered_below)?;
        }
    }
    let stats = results.stats();
    write(checkpoint, done + stats.answered_below)?;
    println!("{stats}");
    Ok(())
}

/// Below this index all is answered. To write it now and then is enough: what is pushed twice is
/// found to be stored already.
fn write(checkpoint: &Path, answered_below: u64) -> anyhow::Result<()> {
    // Renamed into place, so that a crash leaves the old one or the new one.
    let new = checkpoint.with_extension("new");
    std::fs::write(&new, answered_below.to_string())?;
    std::fs::rename(&new, checkpoint)?;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::new();
    let serving = store.listen("127.0.0.1:0").await?;
    let client = Client::connect(serving.url()).await?;
    let checkpoint = std::env::temp_dir().join(format!("resume-{}", std::process::id()));

    // Once with time to answer what is in flight, and once with none: then some records have no
    // answer, and the next run has them again.
    import(&client, &checkpoint, Some(3_333), GRACE).await?;
    import(&client, &checkpoint, Some(2_000), Duration::ZERO).await?;
    let stored = store.len();
    ensure!(
        (3_333..9_000).contains(&stored),
        "{stored} records are stored"
    );
    import(&client, &checkpoint, None, GRACE).await?;

    std::fs::remove_file(&checkpoint)?;
    serving.shutdown().await;
    ensure!(
        store.len() as u64 == RECORDS,
        "{} records are stored",
        store.len()
    );
    println!("all {RECORDS} records are stored");
    Ok(())
}
