//! What a record allocates on the client, in steady state.
//!
//! A binary of its own, since counting slows each allocation down: the times of the others must
//! not have that in them. One thread does all of the client's work, and the store is another
//! process, so a thread-local count has everything and nothing else. The input is made before.
//! A run of 2N records less one of N leaves N in steady state.

use anyhow::{Context as _, bail};
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
    println!("{} {}", each(once.0, twice.0), each(once.1, twice.1));
    Ok(())
}
