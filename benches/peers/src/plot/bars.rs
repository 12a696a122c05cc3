//! The CPU time of each way as a bar.

use std::fmt::Write as _;

use anyhow::Context as _;

use crate::ways::{self, Operation, Way};

/// In pixels: a row, its text, and how wide the texts and the longest bar are.
const ROW: usize = 22;
const TEXT: usize = 13;
const TEXTS: usize = 280;
const BARS: f64 = 400.0;

struct Bar {
    operation: Operation,
    way: Way,
    cpu: f64,
}

fn bar(line: &str) -> anyhow::Result<Option<Bar>> {
    let fields: Vec<&str> = line.split(',').collect();
    let [operation, threads, way, cpu, _] = fields[..] else {
        anyhow::bail!("not a figure: {line}");
    };
    let bar = Bar {
        operation: ways::operation(operation)?,
        way: ways::way(way)?,
        cpu: cpu.parse().with_context(|| line.to_owned())?,
    };
    // A call for each record takes so much more that the others could not be told apart.
    Ok((threads == "1" && bar.way != Way::CallEach).then_some(bar))
}

/// The CPU time of each way, an operation below the other, each to its own scale.
pub(super) fn draw(figures: &str) -> anyhow::Result<String> {
    let bars = figures.lines().skip(1).map(bar);
    let bars: Vec<Bar> = bars
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    let (mut svg, mut y) = (String::new(), 0);
    for operation in Operation::ALL {
        let bars = || bars.iter().filter(|bar| bar.operation == operation);
        let longest = bars().map(|bar| bar.cpu).fold(0.0, f64::max);
        y += ROW * 3 / 2;
        let name = operation.name();
        let title = "µs of CPU a record";
        writeln!(
            svg,
            r#"<text x="8" y="{y}"><tspan font-weight="bold">{name}</tspan>, {title}</text>"#
        )?;
        for bar in bars() {
            y += ROW;
            let what = bar.way.title().replace(['*', '`'], "");
            let color = if matches!(bar.way, Way::Ours | Way::OursBare) {
                "#2f6fb5"
            } else {
                "#a9b0b8"
            };
            let (cpu, wide) = (bar.cpu, bar.cpu / longest * BARS);
            let (top, end) = (y - TEXT, TEXTS as f64 + wide + 6.0);
            writeln!(svg, r#"<text x="8" y="{y}">{what}</text>"#)?;
            writeln!(
                svg,
                r#"<rect x="{TEXTS}" y="{top}" width="{wide:.1}" height="16" fill="{color}"/>"#
            )?;
            writeln!(svg, r#"<text x="{end:.1}" y="{y}">{cpu:.2}</text>"#)?;
        }
    }
    let (wide, high) = (TEXTS + BARS as usize + 60, y + ROW / 2);
    Ok(format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" font-family="sans-serif" font-size="{TEXT}" fill="#1b1f24">
<rect width="100%" height="100%" fill="#ffffff"/>
{svg}</svg>
"##
    ))
}
