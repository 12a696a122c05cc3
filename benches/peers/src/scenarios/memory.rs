//! What a long run and large records take of memory, each in a process of its own.

use std::io::Read as _;
use std::time::Duration;

use agntcy_dir_stream::MAX_RECORD_LEN;
use agntcy_dir_stream::prelude::*;
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::Sizes;
use crate::measure::{Clock, memory};
use crate::table::Aim;
use crate::{child, input, store};

/// The window of the large records, in bytes: the default, said in case that changes.
const WINDOW_BYTES: usize = 16 << 20;

/// What the long run and the large records take of memory, and the pace of the long run.
pub(super) fn aims(sizes: &Sizes) -> anyhow::Result<(Vec<Aim>, Aim)> {
    let store = store::start(Duration::ZERO)?;
    let run = |mode, count: usize, input: &[u8]| {
        let mut child = child::again(&[mode, &store.url, &count.to_string()])?;
        let line = child::output(&mut child, input)?;
        let numbers = line.split_whitespace().map(str::parse);
        Ok::<Vec<f64>, anyhow::Error>(numbers.collect::<Result<_, _>>()?)
    };

    eprintln!("scenarios: a long run");
    let [grown, start, end, start_cpu, end_cpu] = run("long", sizes.long, b"")?[..] else {
        bail!("the long run gave other figures");
    };
    let what = format!("{} records pushed", sizes.long);
    let memory = Aim::at_most(
        format!("{what}: peak memory over that of the first 1 %"),
        16.0,
        " MiB",
        grown / 1024.0,
    );
    let pace = Aim::at_most(
        format!("{what}: wall time of the last tenth ÷ of one at the start"),
        1.05,
        "",
        end / start,
    )
    .with(format!(
        "{end:.2} µs, {start:.2} µs a record; CPU {end_cpu:.2} µs, {start_cpu:.2} µs: {:.2}",
        end_cpu / start_cpu
    ));

    eprintln!("scenarios: large records");
    let data = largest()?;
    let size = data.len() as f64 / f64::from(1 << 20);
    let [over] = run("large", sizes.large, &data)?[..] else {
        bail!("the large records gave other figures");
    };
    let what = format!("records of {size:.2} MiB, window 16 MiB: peak memory over idle");
    let large = Aim::at_most(what, 32.0, " MiB", over / 1024.0);
    Ok((vec![memory, large], pace))
}

/// The child of the long run: what memory grew by after the first hundredth, in KiB, and what a
/// record cost early and late: µs of wall time, then of CPU time.
pub fn long(url: &str, count: usize) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        let records = input::records()?;
        let client = Client::connect(url).await?;
        let input = stream::iter((0..count).map(|number| {
            // A buffer of its own for each, made when it is asked for.
            input::copy(&records[number % records.len()]).expect("it was a record before")
        }));
        let mut results = input.push_to(&client);
        let (warm, tenth) = (count / 100, count / 10);
        let mut peak = 0;
        let mut clock = Clock::start();
        let mut costs = Vec::new();
        for seen in 1..=count {
            if let Err(failed) = results.next().await.context("a result is missing")? {
                bail!("{failed}");
            }
            if seen == warm {
                peak = memory("VmHWM")?;
                clock = Clock::start();
            } else if seen == warm + tenth || seen == count {
                costs.push(clock.stop(tenth));
            } else if seen == count - tenth {
                clock = Clock::start();
            }
        }
        let [early, late] = costs[..] else {
            bail!("too few records");
        };
        // Its pages are counted a little late, so that it can seem to shrink.
        let grown = memory("VmHWM")?.saturating_sub(peak);
        let walls = format!("{} {}", early.wall_us(), late.wall_us());
        println!("{grown} {walls} {} {}", early.cpu_us(), late.cpu_us());
        Ok(())
    })
}

/// The data of a record that is as large as a server takes.
fn largest() -> anyhow::Result<Bytes> {
    let filled = |len: usize| {
        let fill = "x".repeat(len);
        Record::from_json(format!(
            r#"{{"name":"large","schema_version":"1.0.0","fill":"{fill}"}}"#
        ))
    };
    let around = filled(MAX_RECORD_LEN)?.encoded_len() - MAX_RECORD_LEN;
    let record = filled(MAX_RECORD_LEN - around)?;
    Ok(record.data().context("it has data")?.clone())
}

/// The child of the large records, which has the data of one from its standard input, so that
/// making it does not count: the peak of memory over what was there before, in KiB.
pub fn large(url: &str, count: usize) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        let mut data = Vec::with_capacity(MAX_RECORD_LEN);
        std::io::stdin().read_to_end(&mut data)?;
        let client = Client::connect(url).await?;
        // A few others first: a client at work.
        let few = stream::iter(input::records()?);
        ensure!(few.push_to(&client).finish().await.stats.failed == 0);
        let idle = memory("VmRSS")?;
        let input = stream::iter((0..count).map(|_| {
            Record::from_data(Bytes::copy_from_slice(&data)).expect("it was a record before")
        }));
        let options = Options::new().window_bytes(WINDOW_BYTES).dedup(false);
        let mut results = input.push_to_with(&client, &options);
        while let Some(result) = results.next().await {
            if let Err(failed) = result {
                bail!("{failed}");
            }
        }
        println!("{}", memory("VmHWM")?.saturating_sub(idle));
        Ok(())
    })
}
