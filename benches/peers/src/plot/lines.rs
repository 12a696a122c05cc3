//! A picture of lines. Both axes are logarithmic: what is drawn spans decades.

use std::fmt::Write as _;

use anyhow::ensure;

/// In pixels: the text, the picture, and where the axes are in it. To the right are the names of the lines.
const TEXT: usize = 13;
const WIDE: f64 = 720.0;
const HIGH: f64 = 400.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 550.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 350.0;

/// How far right of 0 the least number is. 0 has no place of its own on such an axis.
const BESIDE_ZERO: f64 = 60.0;

/// How far apart two names are at least.
const APART: f64 = 17.0;

/// Blue, orange and green that are told apart by their lightness, too.
const COLORS: [&str; 3] = ["#2f6fb5", "#b8620e", "#1d7a4f"];
const GRID: &str = "#e3e6ea";
const GREY: &str = "#6b737c";

pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    /// What the axes have, and in which unit.
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) lines: Vec<Line>,
}

pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Not measured: it is thin, and has no points.
    pub(super) is_limit: bool,
}

/// Where numbers are between two ends of an axis.
struct Scale {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let part = (value / self.least).ln() / (self.most / self.least).ln();
        self.from + part * (self.to - self.from)
    }
}

impl Plot<'_> {
    pub(super) fn draw(&self) -> anyhow::Result<String> {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let mut xs: Vec<f64> = all().map(|(x, _)| *x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let has_zero = xs.first() == Some(&0.0);
        let positive = &xs[usize::from(has_zero)..];
        let rates = all().map(|(_, y)| *y);
        let (low, high) = rates.fold((f64::MAX, 0.0_f64), |(low, high), y| {
            (low.min(y), high.max(y))
        });
        ensure!(
            positive.len() > 1 && 0.0 < low && low < high,
            "nothing to draw"
        );

        let x_scale = Scale {
            least: positive[0],
            most: positive[positive.len() - 1],
            from: LEFT + if has_zero { BESIDE_ZERO } else { 0.0 },
            to: RIGHT,
        };
        let at_x = |x: f64| if x == 0.0 { LEFT } else { x_scale.at(x) };
        let ys = round_numbers(low, high);
        let y_scale = Scale {
            least: ys[0],
            most: ys[ys.len() - 1],
            from: BOTTOM,
            to: TOP,
        };

        let mut svg = String::new();
        let (title, y_label, x_label) = (self.title, self.y, self.x);
        writeln!(
            svg,
            r#"<text x="8" y="22"><tspan font-weight="bold">{title}</tspan>, {y_label}</text>"#
        )?;
        for y in ys {
            let (at, number) = (y_scale.at(y), thousands(y));
            let (end, text) = (LEFT - 8.0, at + 4.5);
            writeln!(
                svg,
                r#"<path d="M{LEFT} {at:.1}H{RIGHT}" stroke="{GRID}"/><text x="{end}" y="{text:.1}" text-anchor="end">{number}</text>"#
            )?;
        }
        for x in &xs {
            let (at, text) = (at_x(*x), BOTTOM + 20.0);
            writeln!(
                svg,
                r#"<path d="M{at:.1} {BOTTOM}v5" stroke="{GREY}"/><text x="{at:.1}" y="{text}" text-anchor="middle">{x}</text>"#
            )?;
        }
        let (middle, text) = (f64::midpoint(LEFT, RIGHT), BOTTOM + 40.0);
        writeln!(
            svg,
            r#"<path d="M{LEFT} {BOTTOM}H{RIGHT}" stroke="{GREY}"/><text x="{middle}" y="{text}" text-anchor="middle">{x_label}</text>"#
        )?;
        if has_zero {
            // Two strokes through the axis: it leaps here.
            let (at, top) = (LEFT + BESIDE_ZERO / 2.0, BOTTOM + 5.0);
            writeln!(
                svg,
                r#"<path d="M{at} {top}l4 -10m4 0l-4 10" stroke="{GREY}" fill="none"/>"#
            )?;
        }
        let end = |line: &Line| line.points.last().map_or(BOTTOM, |(_, y)| y_scale.at(*y));
        let mut names: Vec<f64> = self.lines.iter().map(end).collect();
        spread(&mut names);
        let mut colors = COLORS.iter().cycle();
        for (line, name_at) in self.lines.iter().zip(names) {
            let at: Vec<(f64, f64)> = line
                .points
                .iter()
                .map(|(x, y)| (at_x(*x), y_scale.at(*y)))
                .collect();
            let path: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let path = path.join("L");
            let (color, wide) = match line.is_limit {
                true => (&GREY, r#"1" stroke-dasharray="5 4"#),
                false => (colors.next().unwrap_or(&GREY), "2"),
            };
            writeln!(
                svg,
                r#"<path d="M{path}" stroke="{color}" stroke-width="{wide}" fill="none"/>"#
            )?;
            if !line.is_limit {
                for (x, y) in at {
                    writeln!(
                        svg,
                        r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{color}"/>"#
                    )?;
                }
            }
            let (x, y, name) = (RIGHT + 10.0, name_at + 4.5, &line.name);
            writeln!(
                svg,
                r#"<text x="{x}" y="{y:.1}" fill="{color}">{name}</text>"#
            )?;
        }
        Ok(format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}" font-family="sans-serif" font-size="{TEXT}" fill="#1b1f24">
<rect width="100%" height="100%" fill="#ffffff"/>
{svg}</svg>
"##
        ))
    }
}

/// 1, 2 and 5 of each decade, from the last that is at most `low` to the first that is at least `high`.
fn round_numbers(low: f64, high: f64) -> Vec<f64> {
    let mut all = Vec::new();
    let mut decade = 10_f64.powf(low.log10().floor());
    while all.last().is_none_or(|last| *last < high) {
        for number in [1.0, 2.0, 5.0].map(|step| step * decade) {
            if number <= low {
                all.clear();
            }
            if all.last().is_none_or(|last| *last < high) {
                all.push(number);
            }
        }
        decade *= 10.0;
    }
    all
}

/// Moves what is too near to its neighbours, as little as it can.
fn spread(places: &mut [f64]) {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|one, other| places[*one].total_cmp(&places[*other]));
    // Each round halves what is missing, so it is far below a pixel in the end.
    for _ in 0..100 {
        for pair in order.windows(2) {
            let [above, below] = [pair[0], pair[1]];
            let missing = APART - (places[below] - places[above]);
            if missing > 0.0 {
                places[above] -= missing / 2.0;
                places[below] += missing / 2.0;
            }
        }
    }
}

/// A whole number, its thousands apart.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_begins_and_ends_at_round_numbers() {
        assert_eq!(round_numbers(230.0, 4_100.0), [200.0, 500.0, 1e3, 2e3, 5e3]);
        assert_eq!(round_numbers(100.0, 1e3), [100.0, 200.0, 500.0, 1e3]);
    }

    #[test]
    fn names_that_would_overlap_are_moved_apart_and_keep_their_order() {
        let mut places = [100.0, 98.0, 300.0, 99.0];
        spread(&mut places);
        let [third, first, far, second] = places;
        assert_eq!(far, 300.0);
        assert!(second - first > APART - 0.1 && third - second > APART - 0.1);
        // Around where they were.
        assert!((second - 99.0).abs() < 0.1);
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(thousands(200.0), "200");
        assert_eq!(thousands(1_000_000.0), "1,000,000");
    }
}
