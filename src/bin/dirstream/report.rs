//! A report of a run, for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use indicatif::HumanCount;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::tally::{Tally, advice};

const STYLE: &str = "\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top }
.count { text-align: right; font-variant-numeric: tabular-nums } .advice { color: #666 }
code { font-size: .9em; overflow-wrap: anywhere } svg { width: 100%; height: auto }
.line { fill: none; stroke: #1a6; stroke-width: 2 } .axis { stroke: #bbb } text { font-size: 12px; fill: #666 }";

/// The plot's size.
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 200.0;

pub(crate) fn write(path: &Path, name: &str, tally: &Tally) -> anyhow::Result<()> {
    let is_html = path.extension().is_some_and(|end| end == "html");
    let text = match is_html {
        true => page(name, tally).into_string(),
        false => markdown(name, tally),
    };
    Ok(fs::write(path, text)?)
}

/// What was run. A command that signs may have secrets in it.
fn command_line() -> String {
    let mut words = vec!["dirstream".to_owned()];
    let mut is_secret = false;
    for argument in std::env::args_os().skip(1) {
        let argument = argument.to_string_lossy();
        let is_plain = |c: char| c.is_alphanumeric() || "_-./:=,@%+".contains(c);
        words.push(match argument.strip_prefix("--sign-with=") {
            Some(_) => "--sign-with=…".to_owned(),
            None if is_secret => "…".to_owned(),
            None if !argument.is_empty() && argument.chars().all(is_plain) => argument.to_string(),
            None => format!("'{}'", argument.replace('\'', r"'\''")),
        });
        is_secret = argument == "--sign-with";
    }
    let line = words.join(" ");
    line.replace(char::is_control, "?")
}

/// What was done, a row each.
fn rows(tally: &Tally) -> Vec<(&'static str, String)> {
    vec![
        ("ok", HumanCount(tally.ok).to_string()),
        (
            "of these already stored",
            HumanCount(tally.already_stored).to_string(),
        ),
        ("failed", HumanCount(tally.failed).to_string()),
        ("took", tally.took()),
        ("a second", HumanCount(tally.a_second() as u64).to_string()),
    ]
}

fn page(name: &str, tally: &Tally) -> Markup {
    let causes = tally.by_count();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "dirstream " (name) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (name) ": " (HumanCount(tally.ok)) " ok, " (HumanCount(tally.failed)) " failed" }
                p { code { (command_line()) } br; (httpdate::fmt_http_date(SystemTime::now())) }
                table { @for (what, count) in rows(tally) { tr { td { (what) } td.count { (count) } } } }
                h2 { "Records a second" }
                (plot(tally))
                @if !causes.is_empty() {
                    h2 { "Failures by cause" }
                    table {
                        tr { th { "how many" } th { "what" } th { "such as" } }
                        @for (cause, failures) in causes {
                            tr {
                                td.count { (HumanCount(failures.count)) }
                                td {
                                    b { (cause.stage) } " " code { (cause.kind) }
                                    div { (cause.message) }
                                    div.advice { (advice(cause.kind)) }
                                }
                                td { @for (place, message) in &failures.examples {
                                    div { code { (place) } " " (message) }
                                } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn plot(tally: &Tally) -> Markup {
    let points: Vec<_> = tally.rate().collect();
    let last = points.last().map_or(1.0, |(time, _)| *time).max(1e-3);
    let most = points.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
    let mut line = String::new();
    for (time, rate) in &points {
        let (x, y) = (time / last * WIDTH, HEIGHT - rate / most * HEIGHT);
        let _ = write!(line, "{x:.1},{y:.1} ");
    }
    html! {
        svg viewBox=(format!("0 -20 {WIDTH} {}", HEIGHT + 45.0)) role="img" {
            line.axis x1="0" y1=(HEIGHT) x2=(WIDTH) y2=(HEIGHT) {}
            line.axis x1="0" y1="0" x2=(WIDTH) y2="0" stroke-dasharray="4" {}
            text x="0" y="-5" { (HumanCount(most as u64)) }
            text x="0" y=(HEIGHT + 16.0) { "0 s" }
            text x=(WIDTH) y=(HEIGHT + 16.0) text-anchor="end" { (format!("{last:.1} s")) }
            polyline.line points=(line.trim_end()) {}
        }
    }
}

fn markdown(name: &str, tally: &Tally) -> String {
    let command = command_line();
    let ticks = command.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(ticks + 1));
    let mut text = format!(
        "# dirstream {name}\n\n{fence}text\n{command}\n{fence}\n\n{}\n\n| | |\n|---|---:|\n",
        httpdate::fmt_http_date(SystemTime::now())
    );
    for (what, count) in rows(tally) {
        let _ = writeln!(text, "| {what} | {count} |");
    }
    let rates: Vec<_> = tally.rate().map(|(_, rate)| rate).collect();
    let most = rates.iter().copied().fold(1.0, f64::max);
    let bar = |rate: &f64| {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        BARS[((rate / most * 7.0).round() as usize).min(7)]
    };
    let bars: String = rates.iter().map(bar).collect();
    let last = tally.rate().last().map_or(0.0, |(time, _)| time);
    let _ = write!(
        text,
        "\n## Records a second\n\nFrom 0 to {last:.1} s, {} at most:\n\n```text\n{bars}\n```\n",
        HumanCount(most as u64)
    );
    let causes = tally.by_count();
    if !causes.is_empty() {
        text.push_str("\n## Failures by cause\n\n| how many | what | such as |\n|---:|---|---|\n");
    }
    for (cause, failures) in causes {
        let examples = failures.examples.iter();
        let examples: Vec<_> = examples
            .map(|(place, message)| format!("**{}** {}", cell(place), cell(message)))
            .collect();
        let _ = writeln!(
            text,
            "| {} | **{}** `{}` {} ({}) | {} |",
            HumanCount(failures.count),
            cause.stage,
            cause.kind,
            cell(&cause.message),
            advice(cause.kind),
            examples.join("<br>")
        );
    }
    text
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    for c in text.chars() {
        match c {
            '<' => cell.push_str("&lt;"),
            '&' => cell.push_str("&amp;"),
            '|' | '`' | '\\' | '[' | ']' | '!' | '*' | '_' => cell.extend(['\\', c]),
            c if c.is_control() => cell.push(' '),
            c => cell.push(c),
        }
    }
    cell
}
