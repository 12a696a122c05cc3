//! What a record allocates on the client, in steady state.
//!
//! A binary of its own, since counting slows each allocation down: the times of the others must
//! not have that in them. One thread does all of the client's work, and the store is another
//! process, so a thread-local count has everything and nothing else. The input is made before.
//! A run of 2N records less one of N leaves N in steady state.
//!
//! Printed are allocations a record, their bytes, and how many of them an answer is made of: those
//! that a copy of it takes. They are the payload's own, whoever receives it.

use std::hint::black_box;

use agntcy_dir_stream::prelude::*;
use anyhow::{Context as _, bail};
use futures::{TryStreamExt as _, stream};
use peers::input;
use peers::ways::{self, Runner};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [operation, way, url, count] = &arguments[..] else {
        bail!("usage: allocations OPERATION WAY URL COUNT");
    };
    let count: usize = count.parse()?;
    let runner = Runner::new(ways::operation(operation)?, ways::way(way)?, 1, url)?;
    runner.measure(count)?;
    let allocated = |count: usize| {
        let run = runner.prepare(count)?;
        let mut answers = None;
        let info = allocation_counter::measure(|| answers = Some(runner.run(run)));
        answers.context("it was run")??;
        anyhow::Ok((info.count_total as f64, info.bytes_total as f64))
    };
    let (once, twice) = (allocated(count)?, allocated(2 * count)?);
    let each = |once: f64, twice: f64| (twice - once) / count as f64;
    let (allocations, bytes) = (each(once.0, twice.0), each(once.1, twice.1));
    println!("{allocations} {bytes} {}", answers_own(operation, url)?);
    Ok(())
}

/// How many allocations a copy of an answer takes.
fn answers_own(operation: &str, url: &str) -> anyhow::Result<f64> {
    // The answer to a push is a CID, which is copied as it is; a pulled record is one buffer, of
    // which copies are shared.
    if operation != "lookup" {
        return Ok(0.0);
    }
    let found: Vec<_> = tokio::runtime::Runtime::new()?.block_on(async {
        let client = Client::connect(url).await?;
        let refs = stream::iter(input::records()?);
        anyhow::Ok(refs.lookup_in(&client).try_collect().await?)
    })?;
    let info = allocation_counter::measure(|| {
        for found in &found {
            drop(black_box(found.clone()));
        }
    });
    Ok(info.count_total as f64 / found.len() as f64)
}
