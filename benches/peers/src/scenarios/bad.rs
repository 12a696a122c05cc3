//! One record in ten is bad, or another share, and a server ends the call at each.

use std::pin::pin;
use std::time::{Duration, Instant};

use agntcy_dir_stream::ErrorKind;
use agntcy_dir_stream::prelude::*;
use anyhow::{bail, ensure};
use futures::{StreamExt as _, stream};
use serde_json::Value;

use super::{ONE_WAY, Point, ROUNDS, Sizes};
use crate::line::Line;
use crate::measure::median;
use crate::table::Aim;
use crate::{input, ours, store};

/// What a bad record lacks: a server has one way of refusing for each.
const LACKS: [&str; 2] = ["name", "schema_version"];

/// Good records, of which some are bad: the same ones each time.
struct Mixed {
    good: Vec<Record>,
    bad: Vec<Record>,
}

struct Seen {
    rate: f64,
    wall: Duration,
    errors: usize,
    /// Requests for a record that had been sent before, in those records.
    resent: f64,
    /// The bytes of all records.
    payload: usize,
}

impl Mixed {
    fn new() -> anyhow::Result<Self> {
        let mut bad = Vec::new();
        for (number, text) in input::texts()?.into_iter().enumerate() {
            let mut value: Value = serde_json::from_str(&text)?;
            if let Some(object) = value.as_object_mut() {
                object.remove(LACKS[number % LACKS.len()]);
            }
            bad.push(Record::try_from(value)?);
        }
        Ok(Self {
            good: input::records()?,
            bad,
        })
    }

    /// Makes all input of a run: so many records, of which so large a share is bad.
    fn prepare(&self, count: usize, share: f64) -> anyhow::Result<Prepared> {
        let mut random = fastrand::Rng::with_seed(7);
        let is_bad: Vec<bool> = (0..count).map(|_| random.f64() < share).collect();
        let record = |(number, is_bad): (usize, &bool)| {
            let from = if *is_bad { &self.bad } else { &self.good };
            input::copy(&from[number % from.len()])
        };
        let records = is_bad.iter().enumerate().map(record);
        let records: Vec<Record> = records.collect::<anyhow::Result<_>>()?;
        Ok(Prepared {
            payload: records.iter().map(Record::encoded_len).sum(),
            records,
            is_bad,
        })
    }
}

/// The records of a run, which of them are bad, and their bytes.
struct Prepared {
    records: Vec<Record>,
    is_bad: Vec<bool>,
    payload: usize,
}

impl Prepared {
    async fn push(self, client: &Client, calls: usize) -> anyhow::Result<Seen> {
        let Self {
            records,
            is_bad,
            payload,
        } = self;
        let count = records.len();
        let options = ours::with_calls(Options::new(), calls);

        let start = Instant::now();
        let mut results = pin!(stream::iter(records).push_to_with(client, &options));
        let mut errors = 0;
        for is_bad in &is_bad {
            match results.next().await {
                Some(Ok(_)) if !is_bad => {}
                Some(Err(failed)) if *is_bad && failed.kind() == ErrorKind::Rejected => errors += 1,
                Some(Err(failed)) => bail!("{failed}"),
                _ => bail!("a result that should not be"),
            }
        }
        ensure!(results.next().await.is_none(), "more results than records");
        let wall = start.elapsed();
        Ok(Seen {
            rate: count as f64 / wall.as_secs_f64(),
            wall,
            errors,
            resent: results.stats().resent as f64 / count as f64,
            payload,
        })
    }
}

/// Pushes so many records, one in ten of them bad.
pub fn push_once(url: &str, count: usize) -> anyhow::Result<()> {
    let prepared = Mixed::new()?.prepare(count, 0.1)?;
    super::runtime()?.block_on(async {
        let client = Client::connect(url).await?;
        prepared.push(&client, 1).await?;
        Ok(())
    })
}

pub(super) fn aims(sizes: &Sizes) -> anyhow::Result<Vec<Aim>> {
    super::runtime()?.block_on(async {
        let store = store::start(Duration::ZERO)?;
        let mixed = Mixed::new()?;
        let mut aims = Vec::new();

        eprintln!("scenarios: bad records, no delay");
        let near = Client::connect(&store.url).await?;
        for calls in [1, 8] {
            mixed
                .prepare(sizes.bad / 10, 0.0)?
                .push(&near, calls)
                .await?;
            let clean = mixed.prepare(sizes.bad, 0.0)?.push(&near, calls).await?;
            let seen = mixed.prepare(sizes.bad, 0.1)?.push(&near, calls).await?;
            let what = format!("10 % bad, no delay, {}: ÷ the rate without", plural(calls));
            let said = format!("{:.0}/s, {:.0}/s", seen.rate, clean.rate);
            aims.push(Aim::at_least(what, 0.5, "", seen.rate / clean.rate).with(said));
            let what = format!("10 % bad, no delay, {}: records sent twice", plural(calls));
            let said = "handed to a call twice, whether or not they left";
            aims.push(Aim::at_most(what, 1.0, " of all", seen.resent).with(said));
        }

        eprintln!("scenarios: bad records, a round trip of 10 ms");
        let line = Line::to(&store.url, ONE_WAY)?;
        let far = Client::connect(&line.url).await?;
        let round_trip = 2.0 * ONE_WAY.as_secs_f64();
        let mut one = None;
        for calls in [1, 8] {
            let count = sizes.bad_far * calls;
            let before = line.sent();
            let seen = mixed.prepare(count, 0.1)?.push(&far, calls).await?;
            let bytes = (line.sent() - before) as f64;
            let one = *one.get_or_insert(seen.rate);
            let said = format!("{} errors in {:.2} s", seen.errors, seen.wall.as_secs_f64());
            if calls == 1 {
                let trips = seen.wall.as_secs_f64() / seen.errors as f64 / round_trip;
                let what = "10 % bad, 10 ms, 1 call: round trips an error, all time counted";
                aims.push(Aim::at_most(what, 1.5, "", trips).with(said));
            } else {
                let what = format!("10 % bad, 10 ms, {calls} calls: ÷ the rate with one");
                let said = format!("{:.0}/s, {one:.0}/s; {said}", seen.rate);
                aims.push(Aim::at_least(what, 6.0, "", seen.rate / one).with(said));
            }
            let twice = bytes / seen.payload as f64 - 1.0;
            let what = format!("10 % bad, 10 ms, {}: bytes sent twice", plural(calls));
            let said = format!(
                "on the wire, headers with them; {:.2} of all records by `stats()`",
                seen.resent
            );
            aims.push(Aim::at_most(what, 1.0, " of the payload", twice).with(said));
        }
        Ok(aims)
    })
}

/// The shares of bad records that the sweep has.
const SHARES: [f64; 6] = [0.0, 0.001, 0.01, 0.03, 0.1, 0.3];

/// How many bad records a run of the sweep has for each call, where that is not too many in all.
const ERRORS: f64 = 60.0;

/// How many records it has at most.
const AT_MOST: f64 = 50_000.0;

pub(super) fn sweep() -> anyhow::Result<Vec<Point>> {
    super::runtime()?.block_on(async {
        let store = store::start(Duration::ZERO)?;
        let line = Line::to(&store.url, ONE_WAY)?;
        let far = Client::connect(&line.url).await?;
        let mixed = Mixed::new()?;
        let mut points = Vec::new();
        for calls in [1, 8] {
            let clean = AT_MOST as usize / 10;
            mixed.prepare(clean, 0.0)?.push(&far, calls).await?;
            for share in SHARES {
                eprintln!("sweep: {} % bad, {}", share * 100.0, plural(calls));
                let count = (ERRORS * calls as f64 / share).min(AT_MOST) as usize;
                let mut rates = Vec::new();
                for _ in 0..ROUNDS {
                    let seen = mixed.prepare(count, share)?.push(&far, calls).await?;
                    rates.push(seen.rate);
                }
                points.push(Point {
                    sweep: "bad",
                    line: plural(calls),
                    x: share * 100.0,
                    rate: median(rates),
                });
            }
        }
        Ok(points)
    })
}

fn plural(calls: usize) -> String {
    match calls {
        1 => "1 call".to_owned(),
        _ => format!("{calls} calls"),
    }
}
