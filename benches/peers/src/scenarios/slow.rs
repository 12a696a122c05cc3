//! A server that takes 5 ms a record, and works through each call one record after the other.

use std::pin::pin;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use anyhow::{Context as _, bail};
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::{Point, Sizes};
use crate::child::Server;
use crate::table::Aim;
use crate::{input, ours, store};

/// What the server takes for each record.
pub const TAKES: Duration = Duration::from_millis(5);

pub(super) fn aims(sizes: &Sizes) -> anyhow::Result<Vec<Aim>> {
    let store = store::start(TAKES)?;
    let records = input::records()?;
    let rate = |calls: usize| {
        eprintln!("scenarios: a slow server, {calls} calls");
        rate(&store, &records, calls, sizes)
    };
    let one = rate(1)?;
    let mut aims = Vec::new();
    for (calls, bound) in [(8, 7.5), (64, 55.0)] {
        let many = rate(calls)?;
        let what = format!("5 ms a record, {calls} calls: ÷ one call");
        let said = format!("{many:.0}/s, {one:.0}/s");
        aims.push(Aim::at_least(what, bound, "", many / one).with(said));
    }
    Ok(aims)
}

/// How many calls the sweep has.
const CALLS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

pub(super) fn sweep() -> anyhow::Result<Vec<Point>> {
    let store = store::start(TAKES)?;
    let records = input::records()?;
    let point = |calls: u32| {
        eprintln!("sweep: a slow server, calls: {calls}");
        Ok(Point {
            sweep: "calls",
            line: "push".to_owned(),
            x: calls.into(),
            rate: rate(&store, &records, calls as usize, &super::FULL)?,
        })
    };
    CALLS.into_iter().map(point).collect()
}

fn rate(store: &Server, records: &[Record], calls: usize, sizes: &Sizes) -> anyhow::Result<f64> {
    super::runtime()?.block_on(async {
        let client = Client::connect(&store.url).await?;
        steady_rate(&client, records, calls, sizes).await
    })
}

/// Records a second at a steady pace, from an input without end.
async fn steady_rate(
    client: &Client,
    records: &[Record],
    calls: usize,
    sizes: &Sizes,
) -> anyhow::Result<f64> {
    let options = ours::with_calls(Options::new(), calls);
    let input = stream::iter(records.iter().cycle().cloned());
    let mut results = pin!(input.push_to_with(client, &options));
    // The clock starts at the first result after the warm-up, and ends at the last that was seen.
    let warm = Instant::now() + sizes.warm_up;
    let until = warm + sizes.look;
    let mut seen = 0_usize;
    let (mut first, mut last) = (None, Instant::now());
    while let Ok(result) = timeout_at(until, results.next()).await {
        if let Err(failed) = result.context("the input has no end")? {
            bail!("{failed}");
        }
        let now = Instant::now();
        if now < warm {
            continue;
        }
        if first.replace(first.unwrap_or(now)).is_some() {
            seen += 1;
        }
        last = now;
    }
    let first = first.context("no result at all")?;
    Ok(seen as f64 / (last - first).as_secs_f64())
}
