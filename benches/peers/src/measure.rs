//! Clocks, and what they gave.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

/// What a run cost its process. Printed as one line by the child that ran, and read by the
/// parent.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub records: usize,
    pub wall: Duration,
    pub cpu: Duration,
}

impl Cost {
    /// µs of CPU a record.
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.records as f64
    }

    /// µs of wall time a record.
    pub fn wall_us(&self) -> f64 {
        self.wall.as_secs_f64() * 1e6 / self.records as f64
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wall, cpu) = (self.wall.as_nanos(), self.cpu.as_nanos());
        write!(f, "cost {} {wall} {cpu}", self.records)
    }
}

impl FromStr for Cost {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        let numbers = line.strip_prefix("cost ").context("not a cost")?;
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [records, wall, cpu] = numbers[..] else {
            anyhow::bail!("not a cost: {line}");
        };
        Ok(Self {
            records: usize::try_from(records)?,
            wall: Duration::from_nanos(wall),
            cpu: Duration::from_nanos(cpu),
        })
    }
}

/// A running measurement.
pub struct Clock {
    wall: Instant,
    cpu: Duration,
}

impl Clock {
    pub fn start() -> Self {
        Self {
            cpu: process_cpu(),
            wall: Instant::now(),
        }
    }

    pub fn stop(&self, records: usize) -> Cost {
        Cost {
            records,
            wall: self.wall.elapsed(),
            cpu: process_cpu().saturating_sub(self.cpu),
        }
    }
}

/// The CPU time of this process, all threads.
fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // Neither part of a CPU time is ever negative.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The memory of this process in KiB, by its name in `/proc/self/status`: `VmRSS`, or `VmHWM` for
/// the most there ever was.
pub fn memory(name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    Ok(kib.context("no such memory")?.parse()?)
}

/// The one in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
