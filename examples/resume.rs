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
fn records() -> impl Iterator<Item = anyhow::Result<Record>> {
    (0..RECORDS).map(|number| {
        let record = json!({
            "name": format!("example.org/agents/{number}"),
            "version": "1.0.0",
            "schema_version": "1.0.0",
        });
        Ok(record.try_into()?)
    })
}

/// Pushes what `checkpoint` says is still to be pushed. Told to go after so many results, it
/// comes to an end; whatever happens, it notes how far it came.
async fn import(
    client: &Client,
    checkpoint: &Path,
    told_to_go_after: Option<u64>,
) -> anyhow::Result<()> {
    let done: u64 = match std::fs::read_to_string(checkpoint) {
        Ok(text) => text.trim().parse().context("the checkpoint is a number")?,
        Err(_) => 0,
    };
    println!("starting at record {done}");
    // A record that cannot be read fails the run here; yours may want to go on without it.
    let rest: Vec<Record> = records()
        .skip(usize::try_from(done)?)
        .collect::<anyhow::Result<_>>()?;

    let mut results = stream::iter(rest).push_to(client);
    while let Some(result) = results.next().await {
        if let Err(failed) = result {
            // Its index counts from where this run began.
            eprintln!("record {}: {}", done + failed.index, failed.error);
        }
        let stats = results.stats();
        // In yours: `tokio::select!` between the next result and `tokio::signal::ctrl_c()`.
        if told_to_go_after.is_some_and(|results| stats.answered_below == results) {
            println!("told to go, with {} records in flight", stats.in_window);
            results.drain(GRACE);
        }
        // Every record below this index has its result. To write it now and then is enough: what is
        // pushed twice is found to be stored already.
        if stats.answered_below.is_multiple_of(1_000) {
            std::fs::write(checkpoint, (done + stats.answered_below).to_string())?;
        }
    }
    let stats = results.stats();
    std::fs::write(checkpoint, (done + stats.answered_below).to_string())?;
    println!("{stats}");
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::new();
    let serving = store.listen("127.0.0.1:0").await?;
    let client = Client::connect(serving.url()).await?;
    let checkpoint = std::env::temp_dir().join(format!("resume-{}", std::process::id()));

    import(&client, &checkpoint, Some(3_333)).await?;
    let stored = store.len();
    ensure!(
        (3_333..9_000).contains(&stored),
        "{stored} records are stored"
    );
    import(&client, &checkpoint, None).await?;

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
