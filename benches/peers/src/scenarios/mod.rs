//! The second part: what this crate is made for, and how far it gets.

pub mod bad;
mod latency;
pub mod memory;
pub mod slow;

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::table::Aim;

/// One way of the simulated line.
const ONE_WAY: Duration = Duration::from_millis(5);

/// How much is done.
pub struct Sizes {
    /// Records in a run that is not held up by anything.
    records: usize,
    /// Calls of one record each over the slow line.
    calls_each: usize,
    /// Records of which a tenth are bad: without a delay, and over the slow line for each call.
    bad: usize,
    bad_far: usize,
    /// How long the slow server is looked at, after it has come to its pace.
    warm_up: Duration,
    look: Duration,
    /// Records of the long run, and of the run of large ones.
    long: usize,
    large: usize,
}

pub const FULL: Sizes = Sizes {
    records: 50_000,
    calls_each: 100,
    bad: 20_000,
    bad_far: 1_500,
    warm_up: Duration::from_millis(500),
    look: Duration::from_secs(2),
    long: 1_000_000,
    large: 64,
};

pub const QUICK: Sizes = Sizes {
    records: 500,
    calls_each: 5,
    bad: 200,
    bad_far: 50,
    warm_up: Duration::from_millis(50),
    look: Duration::from_millis(200),
    long: 2_000,
    large: 8,
};

pub fn run(sizes: &Sizes) -> anyhow::Result<Vec<Aim>> {
    let mut aims = latency::aims(sizes)?;
    aims.extend(slow::aims(sizes)?);
    aims.extend(bad::aims(sizes)?);
    let (memory, pace) = memory::aims(sizes)?;
    aims.extend(memory);
    aims.push(pace);
    Ok(aims)
}

/// Records a second at one point of a picture.
pub struct Point {
    /// Which picture, and which of its lines.
    pub sweep: &'static str,
    pub line: String,
    pub x: f64,
    pub rate: f64,
}

/// How often each point is measured; the median counts.
const ROUNDS: usize = 3;

/// The scenarios with more of what makes them hard, and with less.
pub fn sweep() -> anyhow::Result<Vec<Point>> {
    let mut points = latency::sweep()?;
    points.extend(slow::sweep()?);
    points.extend(bad::sweep()?);
    Ok(points)
}

/// The aims that are not timings, so that a machine with other work reaches them too.
pub fn memory() -> anyhow::Result<Vec<Aim>> {
    let (memory, _) = memory::aims(&FULL)?;
    Ok(memory)
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
