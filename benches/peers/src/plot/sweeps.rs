//! What the sweeps gave: the file, and which picture has what of it.

use std::fmt::Write as _;

use agntcy_dir_stream::Options;
use anyhow::{Context as _, ensure};

use super::lines::{Line, Plot};
use crate::scenarios::{Point, slow};

const HEAD: &str = "sweep,line,x,rate";

pub(super) struct Picture {
    pub(super) file: &'static str,
    sweep: &'static str,
    title: &'static str,
    x: &'static str,
    limit: Option<Limit>,
}

/// The most that there can be.
struct Limit {
    name: &'static str,
    at: fn(f64) -> f64,
}

pub(super) const PICTURES: [Picture; 3] = [
    Picture {
        file: "latency.svg",
        sweep: "latency",
        title: "One call over a long line",
        x: "round trip, ms",
        limit: Some(Limit {
            name: "window ÷ round trip",
            at: |milliseconds| Options::DEFAULT_WINDOW as f64 / milliseconds * 1e3,
        }),
    },
    Picture {
        file: "calls.svg",
        sweep: "calls",
        title: "Push to a server that takes 5 ms for each record of a call",
        x: "calls",
        limit: Some(Limit {
            name: "calls ÷ 5 ms",
            at: |calls| calls / slow::TAKES.as_secs_f64(),
        }),
    },
    Picture {
        file: "bad.svg",
        sweep: "bad",
        title: "Push with bad records, round trip of 10 ms",
        x: "bad records, %",
        limit: None,
    },
];

impl Picture {
    pub(super) fn draw(&self, points: &[Kept]) -> anyhow::Result<String> {
        let mut lines: Vec<Line> = Vec::new();
        let of_this = points.iter().filter(|point| point.sweep == self.sweep);
        for point in of_this {
            let at = (point.x, point.rate);
            match lines.iter_mut().find(|line| line.name == point.line) {
                Some(line) => line.points.push(at),
                None => lines.push(Line {
                    name: point.line.clone(),
                    points: vec![at],
                    is_limit: false,
                }),
            }
        }
        ensure!(!lines.is_empty(), "no points of {}", self.sweep);
        if let Some(limit) = &self.limit {
            // There is none at 0.
            let all = lines[0].points.iter().map(|(x, _)| *x);
            let all = all.filter(|x| *x > 0.0);
            lines.push(Line {
                name: limit.name.to_owned(),
                points: all.map(|x| (x, (limit.at)(x))).collect(),
                is_limit: true,
            });
        }
        let plot = Plot {
            title: self.title,
            x: self.x,
            y: "records a second",
            lines,
        };
        plot.draw()
    }
}

/// A point as the file has it.
pub(super) struct Kept {
    sweep: String,
    line: String,
    x: f64,
    rate: f64,
}

pub(super) fn write(points: &[Point]) -> String {
    let mut text = format!("{HEAD}\n");
    for point in points {
        let Point {
            sweep,
            line,
            x,
            rate,
        } = point;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{sweep},{line},{x},{rate:.0}");
    }
    text
}

pub(super) fn read(text: &str) -> anyhow::Result<Vec<Kept>> {
    let point = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let [sweep, name, x, rate] = fields[..] else {
            anyhow::bail!("not a point: {line}");
        };
        let number = |text: &str| text.parse::<f64>().with_context(|| line.to_owned());
        Ok(Kept {
            sweep: sweep.to_owned(),
            line: name.to_owned(),
            x: number(x)?,
            rate: number(rate)?,
        })
    };
    text.lines().skip(1).map(point).collect()
}
