//! `cargo run --release --manifest-path benches/peers/Cargo.toml`, and what its children do.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use peers::peers::Settings;
use peers::ways::{self, Runner};
use peers::{child, instructions, plot, scenarios, store, table};

const HELP: &str = "\
This crate beside its peers, and in the scenarios that it is made for.

  peers        only the peers
  scenarios    only the scenarios
  check        only what is no timing, allocations and memory: to miss an aim is an error
  instructions what a record takes, by valgrind: 5 % more than instructions.csv has is an error,
               if that is of the same compiler; with --save it is written anew
  sweep        throughput over the round trip, the number of calls and the share of bad records;
               with --save it is written into sweep.csv, and drawn
  plot         draws all pictures anew from figures.csv and sweep.csv, which `--save` has written

Options:
  --rounds N   how often each way is measured [default: 5]
  --records N  with how many records [default: 50000]
  --quick      each path once, in seconds: the figures mean nothing then
  --save       writes the times of the peers into figures.csv, and draws all pictures anew
  --help       this text
";

/// Far longer than any child takes.
const HANGS: Duration = Duration::from_secs(180);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // What children are started with comes first.
    match words[..] {
        ["store", takes] => store::serve(Duration::from_millis(takes.parse()?)),
        ["way", operation, way, threads, url, count, warm_up] => {
            child::give_up_after(HANGS);
            let (operation, way) = (ways::operation(operation)?, ways::way(way)?);
            let runner = Runner::new(operation, way, threads.parse()?, url)?;
            runner.measure(warm_up.parse()?)?;
            println!("{}", runner.measure(count.parse()?)?);
            Ok(())
        }
        ["long", url, count] => {
            child::give_up_after(HANGS);
            scenarios::memory::long(url, count.parse()?)
        }
        ["large", url, count] => {
            child::give_up_after(HANGS);
            scenarios::memory::large(url, count.parse()?)
        }
        ["bad", url, count] => {
            child::give_up_after(HANGS);
            scenarios::bad::push_once(url, count.parse()?)
        }
        ["part", part, count] => instructions::part(part, count.parse()?),
        ["instructions"] => instructions::run(false),
        ["instructions", "--save"] => instructions::run(true),
        ["sweep"] => sweep(false),
        ["sweep", "--save"] => sweep(true),
        ["check"] => check(),
        ["plot"] => plot::draw_saved(),
        _ => bench(&words),
    }
}

fn check() -> anyhow::Result<()> {
    let mut aims = peers::peers::allocations()?;
    aims.extend(scenarios::memory()?);
    print_aims(&aims);
    ensure!(aims.iter().all(table::Aim::is_met), "an aim was missed");
    Ok(())
}

fn sweep(save: bool) -> anyhow::Result<()> {
    let points = scenarios::sweep()?;
    let row = |point: &scenarios::Point| {
        let (sweep, line) = (point.sweep.to_owned(), point.line.clone());
        vec![
            sweep,
            line,
            point.x.to_string(),
            format!("{:.0}", point.rate),
        ]
    };
    let rows: Vec<Vec<String>> = points.iter().map(row).collect();
    table::print(&["sweep", "line", "at", "records a second"], &rows);
    if save {
        plot::save_sweep(&points)?;
    }
    Ok(())
}

fn print_aims(aims: &[table::Aim]) {
    println!("## Aims\n");
    let rows: Vec<Vec<String>> = aims.iter().map(table::Aim::row).collect();
    table::print(&["", "aim", "reached", ""], &rows);
}

fn bench(arguments: &[&str]) -> anyhow::Result<()> {
    let (mut peers, mut scenarios, mut quick, mut save) = (false, false, false, false);
    let (mut rounds, mut records) = (None, None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut number = || -> anyhow::Result<Option<usize>> {
            let value = arguments
                .next()
                .with_context(|| format!("{argument} wants a number"))?;
            let value = value
                .parse()
                .with_context(|| format!("{argument} {value}"))?;
            Ok(Some(value))
        };
        match *argument {
            "peers" => peers = true,
            "scenarios" => scenarios = true,
            "--quick" => quick = true,
            "--save" => save = true,
            "--rounds" => rounds = number()?,
            "--records" => records = number()?,
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(());
            }
            other => bail!("there is no {other}; see --help"),
        }
    }
    let all = !peers && !scenarios;
    let has_figures = (peers || all) && !quick;
    ensure!(has_figures || !save, "such a run has no figures to save");
    let mut aims = Vec::new();
    let mut failed = false;
    let measured = (peers || all)
        .then(|| {
            peers::peers::run(&Settings {
                rounds: rounds.unwrap_or(if quick { 1 } else { 5 }).max(1),
                records: records.unwrap_or(if quick { 1_000 } else { 50_000 }),
                warm_up: if quick { 100 } else { 5_000 },
            })
        })
        .transpose()?;
    let reached = (scenarios || all)
        .then(|| {
            scenarios::run(if quick {
                &scenarios::QUICK
            } else {
                &scenarios::FULL
            })
        })
        .transpose()?;
    if quick {
        println!("**A quick run: each path was taken, and the figures mean nothing.**\n");
    }
    if let Some(measured) = measured {
        measured.print();
        failed = measured.failed();
        aims.extend(measured.aims());
        if save && !failed {
            plot::save(&measured.figures())?;
        }
    }
    aims.extend(reached.into_iter().flatten());
    print_aims(&aims);
    if failed {
        bail!("a way failed: see the first table");
    }
    Ok(())
}
