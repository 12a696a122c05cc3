//! A round trip of 10 ms, and others, and one call with the default window.

use std::time::{Duration, Instant};

use agntcy_dir_stream::prelude::*;
use anyhow::ensure;
use futures::stream;
use tonic::transport::Channel;

use super::{ONE_WAY, Point, ROUNDS, Sizes};
use crate::line::Line;
use crate::measure::median;
use crate::table::Aim;
use crate::ways::{Meta, Operation, Raw, Ref, all_good, by_hand, by_hand_each, connect};
use crate::{input, ours, store};

/// A client of ours, a hand-written one, and what they push.
struct End {
    ours: Client,
    by_hand: Channel,
}

impl End {
    async fn at(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            ours: Client::connect(url).await?,
            by_hand: connect(url).await?,
        })
    }

    /// Records a second over one call of ours.
    async fn rate(&self, work: &Work, count: usize) -> anyhow::Result<f64> {
        let options = ours::with_calls(Options::new(), 1);
        let (client, options) = (&self.ours, &options);
        let records = || input::round(&work.records, count, input::copy);
        let cids = || input::round(&work.cids, count, |cid| Ok(*cid));
        match work.operation {
            Operation::Push => {
                let input = stream::iter(records()?);
                rate(count, all_good(input.push_to_with(client, options))).await
            }
            Operation::Pull => {
                let input = stream::iter(cids()?);
                rate(count, all_good(input.pull_from_with(client, options))).await
            }
            Operation::Lookup => {
                let input = stream::iter(cids()?);
                rate(count, all_good(input.lookup_in_with(client, options))).await
            }
        }
    }

    /// Records a second over the hand-written loop, which bounds nothing.
    async fn rate_by_hand(&self, work: &Work, count: usize) -> anyhow::Result<f64> {
        let (channel, operation) = (&self.by_hand, work.operation);
        let refs = input::round(&work.cids, count, |cid| Ok(Ref::to(*cid)))?;
        match operation {
            Operation::Push => {
                let input = input::round(&work.records, count, |record| Ok(Raw::copy(record)))?;
                let input = stream::iter(input);
                rate(count, by_hand::<_, Ref>(channel, operation, input)).await
            }
            Operation::Pull => {
                rate(
                    count,
                    by_hand::<_, Raw>(channel, operation, stream::iter(refs)),
                )
                .await
            }
            Operation::Lookup => {
                rate(
                    count,
                    by_hand::<_, Meta>(channel, operation, stream::iter(refs)),
                )
                .await
            }
        }
    }
}

/// What is done with which records.
struct Work {
    what: &'static str,
    operation: Operation,
    /// How many times as many of them go over the line in the same time.
    times: usize,
    records: Vec<Record>,
    cids: Vec<Cid>,
}

impl Work {
    fn new(
        what: &'static str,
        operation: Operation,
        times: usize,
        records: Vec<Record>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            what,
            operation,
            times,
            cids: input::cids(&records)?,
            records,
        })
    }
}

async fn rate(
    count: usize,
    run: impl Future<Output = anyhow::Result<usize>>,
) -> anyhow::Result<f64> {
    let start = Instant::now();
    let answers = run.await?;
    ensure!(answers == count, "{answers} answers to {count} requests");
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// The smallest records that a store takes.
fn small() -> anyhow::Result<Vec<Record>> {
    let text = |number| format!(r#"{{"name":"small-{number}","schema_version":"1.0.0"}}"#);
    let records = (0..input::DISTINCT).map(|number| Record::from_json(text(number)));
    Ok(records.collect::<Result<_, _>>()?)
}

/// What a call takes over the line when it has nothing to do but one lookup.
async fn round_trip(channel: &Channel, cid: Cid, calls: usize) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..calls {
        let start = Instant::now();
        let request = stream::iter([Ref::to(cid)]);
        by_hand::<_, Meta>(channel, Operation::Lookup, request).await?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(Duration::from_secs_f64(median(times)))
}

pub(super) fn aims(sizes: &Sizes) -> anyhow::Result<Vec<Aim>> {
    eprintln!("scenarios: a round trip of 10 ms");
    super::runtime()?.block_on(async {
        let store = store::start(Duration::ZERO)?;
        let line = Line::to(&store.url, ONE_WAY)?;
        let (near, far) = (End::at(&store.url).await?, End::at(&line.url).await?);
        let records = input::records()?;
        let cid = records[0].cid()?;
        let round_trip = round_trip(&far.by_hand, cid, sizes.calls_each).await?;
        let each = {
            let count = sizes.calls_each;
            let input = input::round(&records, count, |record| Ok(Raw::copy(record)))?;
            rate(
                count,
                by_hand_each::<_, Ref>(&far.by_hand, Operation::Push, input),
            )
            .await?
        };
        let window = Options::DEFAULT_WINDOW as f64;
        let by_window = window / round_trip.as_secs_f64();

        let mut aims = Vec::new();
        for work in [
            Work::new("push", Operation::Push, 1, records.clone())?,
            Work::new("push of small records", Operation::Push, 4, small()?)?,
            Work::new("pull", Operation::Pull, 2, records.clone())?,
            Work::new("lookup", Operation::Lookup, 4, records)?,
        ] {
            let what = format!("10 ms round trip, {}", work.what);
            // So many that the first round trip and the last do not count.
            let count = sizes.records * work.times;
            // Each once before, so that all is warm.
            near.rate(&work, count / 10).await?;
            let without = near.rate(&work, count).await?;
            far.rate(&work, count / 10).await?;
            let with = far.rate(&work, count).await?;
            let by_hand = far.rate_by_hand(&work, count).await?;
            if work.what == "push" {
                let each_said = format!("{with:.0}/s, {each:.0}/s");
                let what = format!("{what}: ÷ a call per record");
                aims.push(Aim::at_least(what, 100.0, "", with / each).with(each_said));
            }
            let what = format!("{what}: ÷ min(window ÷ round trip, rate without delay)");
            let said = format!(
                "{with:.0}/s; window ÷ {:.1} ms {by_window:.0}/s, without delay {without:.0}/s; \
                 the raw loop over the same line {by_hand:.0}/s",
                round_trip.as_secs_f64() * 1e3,
            );
            let best = by_window.min(without);
            aims.push(Aim::at_least(what, 0.9, "", with / best).with(said));
        }
        Ok(aims)
    })
}

/// The round trips of the sweep, in ms.
const ROUND_TRIPS: [u32; 6] = [0, 1, 3, 10, 30, 100];

pub(super) fn sweep() -> anyhow::Result<Vec<Point>> {
    super::runtime()?.block_on(async {
        let store = store::start(Duration::ZERO)?;
        let records = input::records()?;
        let works = [
            Work::new("push", Operation::Push, 1, records.clone())?,
            Work::new("pull", Operation::Pull, 1, records.clone())?,
            Work::new("lookup", Operation::Lookup, 4, records)?,
        ];
        let mut points = Vec::new();
        for milliseconds in ROUND_TRIPS {
            eprintln!("sweep: a round trip of {milliseconds} ms");
            let round_trip = Duration::from_millis(milliseconds.into());
            let line = Line::to(&store.url, round_trip / 2)?;
            let far = End::at(&line.url).await?;
            for work in &works {
                // At least 20 round trips, so that the first and the last do not count much.
                let count = match milliseconds {
                    0..30 => 30_000 * work.times,
                    _ => 20 * Options::DEFAULT_WINDOW,
                };
                // Once before, so that all is warm.
                far.rate(work, count / 10).await?;
                let mut rates = Vec::new();
                for _ in 0..ROUNDS {
                    rates.push(far.rate(work, count).await?);
                }
                points.push(Point {
                    sweep: "latency",
                    line: work.what.to_owned(),
                    x: milliseconds.into(),
                    rate: median(rates),
                });
            }
        }
        Ok(points)
    })
}
