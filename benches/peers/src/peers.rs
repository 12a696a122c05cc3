//! The first part: what a record costs the client, this crate's and others'.
//!
//! Each run is a process of its own, and all runs of a round follow one another, so that what else
//! the machine does falls on all ways alike. The table has the medians over the rounds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure};

use crate::measure::{Cost, median};
use crate::table::{self, Aim};
use crate::ways::{Operation, Way};
use crate::{child, input, plot, store};

pub struct Settings {
    pub rounds: usize,
    /// How many records the fast ways are measured with.
    pub records: usize,
    /// How many go before.
    pub warm_up: usize,
}

/// A row of the table.
type Case = (Operation, usize, Way);

fn cases() -> Vec<Case> {
    let on_one = Operation::ALL.into_iter().flat_map(|operation| {
        let ways = Way::ALL.into_iter();
        // A lookup has no record in it: the types of the raw loop are the generated ones.
        ways.filter(move |way| (operation, *way) != (Operation::Lookup, Way::Struct))
            .map(move |way| (operation, 1, way))
    });
    let on_two = [Way::Raw, Way::Ours, Way::OursBare];
    let on_two = on_two.into_iter().map(|way| (Operation::Lookup, 2, way));
    on_one.chain(on_two).collect()
}

/// The ways of which allocations are counted.
const COUNTED: [Way; 3] = [Way::Raw, Way::Ours, Way::OursBare];

/// What a record allocates.
struct Allocated {
    count: f64,
    bytes: f64,
    /// Of the count, what the answer is made of.
    own: f64,
}

enum Measured {
    Costs(Vec<Cost>),
    /// Why there are none.
    Skipped(String),
    Failed(String),
}

#[derive(Default)]
pub struct Peers {
    mean_size: f64,
    measured: BTreeMap<Case, Measured>,
    allocated: BTreeMap<(Operation, Way), Allocated>,
}

pub fn run(settings: &Settings) -> anyhow::Result<Peers> {
    let store = store::start(Duration::ZERO)?;
    let json = input::texts()?.join("\n");
    let go = build_go();
    let mut peers = Peers {
        mean_size: input::mean_size(&input::records()?),
        ..Peers::default()
    };
    for round in 1..=settings.rounds {
        eprintln!("peers: round {round} of {}", settings.rounds);
        for case in cases() {
            let (operation, threads, way) = case;
            let count = way.share(settings.records).to_string();
            let warm_up = way.share(settings.warm_up).to_string();
            let (operation, threads) = (operation.name(), threads.to_string());
            let measured = peers.measured.entry(case);
            let measured = measured.or_insert_with(|| Measured::Costs(Vec::new()));
            let Measured::Costs(costs) = measured else {
                continue;
            };
            let url = &store.url;
            let cost = match (way, &go) {
                (Way::Go, Err(Missing::NotHere)) => {
                    *measured = Measured::Skipped("there is no `go` here".to_owned());
                    continue;
                }
                (Way::Go, Err(Missing::NotBuilt(error))) => Err(anyhow::anyhow!("{error}")),
                (Way::Go, Ok(program)) => {
                    let mut go = Command::new(program);
                    child::output(go.args([operation, url, &count, &warm_up]), json.as_bytes())
                }
                _ => {
                    let arguments = [
                        "way",
                        operation,
                        way.name(),
                        &threads,
                        url,
                        &count,
                        &warm_up,
                    ];
                    child::output(&mut child::again(&arguments)?, b"")
                }
            };
            match cost.and_then(|line| line.parse()) {
                Ok(cost) => costs.push(cost),
                Err(error) => *measured = Measured::Failed(format!("{error:#}")),
            }
        }
    }
    peers.count_allocations(&store.url, (settings.records / 5).max(1))?;
    Ok(peers)
}

/// The aims that are not timings, so that a machine with other work reaches them too.
pub fn allocations() -> anyhow::Result<Vec<Aim>> {
    let store = store::start(Duration::ZERO)?;
    let mut peers = Peers::default();
    peers.count_allocations(&store.url, 10_000)?;
    Ok(peers.allocation_aims().collect())
}

enum Missing {
    NotHere,
    NotBuilt(String),
}

/// Beside this binary.
fn built(name: &str) -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

fn build_go() -> Result<PathBuf, Missing> {
    if Command::new("go").arg("version").output().is_err() {
        eprintln!("******** SKIPPED: the Go client needs `go`, which is not here ********");
        return Err(Missing::NotHere);
    }
    eprintln!("peers: building the Go client");
    let build = || {
        let program = built("go-client")?;
        let mut go = Command::new("go");
        go.args([
            "build",
            "-C",
            concat!(env!("CARGO_MANIFEST_DIR"), "/go"),
            "-o",
        ]);
        child::output(go.arg(&program).arg("."), b"")?;
        anyhow::Ok(program)
    };
    build().map_err(|error| Missing::NotBuilt(format!("not built: {error:#}")))
}

/// `cargo run` builds one binary, and this is the other.
fn build_allocations() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--bin", "allocations"]);
    build.args([
        "--manifest-path",
        concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
    ]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    // What `cargo run` has set for this process would have a build script of a dependency run
    // again, and all that stands on it built again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&*name);
        }
    }
    ensure!(
        build.status()?.success(),
        "the allocation counter was not built"
    );
    built("allocations")
}

impl Peers {
    fn count_allocations(&mut self, url: &str, records: usize) -> anyhow::Result<()> {
        eprintln!("peers: allocations");
        let allocations = build_allocations()?;
        for operation in Operation::ALL {
            for way in COUNTED {
                let arguments = [operation.name(), way.name(), url, &records.to_string()];
                let line = child::output(Command::new(&allocations).args(arguments), b"")?;
                let numbers = line.split(' ').map(str::parse);
                let [count, bytes, own] = numbers.collect::<Result<Vec<f64>, _>>()?[..] else {
                    bail!("the allocation counter gave other figures: {line}");
                };
                let allocated = Allocated { count, bytes, own };
                self.allocated.insert((operation, way), allocated);
            }
        }
        Ok(())
    }

    /// The medians of CPU and wall time a record, in µs.
    fn cost(&self, case: Case) -> Result<(f64, f64), String> {
        match self.measured.get(&case) {
            Some(Measured::Costs(costs)) => Ok((
                median(costs.iter().map(Cost::cpu_us)),
                median(costs.iter().map(Cost::wall_us)),
            )),
            Some(Measured::Skipped(why)) => Err(format!("SKIPPED: {why}")),
            Some(Measured::Failed(why)) => Err(format!("FAILED: {why}")),
            None => Err("not measured".to_owned()),
        }
    }

    /// The CPU time of one way in that of another.
    fn ratio(&self, (operation, threads, way): Case, to: Way) -> Result<f64, String> {
        let own = self.cost((operation, threads, way))?.0;
        Ok(own / self.cost((operation, threads, to))?.0)
    }

    /// Whether a way failed that should not have.
    pub fn failed(&self) -> bool {
        let mut all = self.measured.values();
        all.any(|measured| matches!(measured, Measured::Failed(_)))
    }

    pub fn print(&self) {
        println!("## What a record costs the client\n");
        println!(
            "{} distinct records, {:.0} bytes on average as they are on the wire. Medians.\n",
            input::DISTINCT,
            self.mean_size
        );
        let rows: Vec<Vec<String>> = cases().into_iter().map(|case| self.row(case)).collect();
        table::print(
            &[
                "",
                "way",
                "µs CPU",
                "µs wall",
                "ours ÷ it",
                "ours, unverified ÷ it",
                "allocations",
                "the answer's own",
                "their bytes",
            ],
            &rows,
        );
        println!(
            "\nThe ratios are of CPU time. Allocations are those of a run, without the buffers of its \
             input, which is made before. The answer's own are those that a copy of the answer \
             takes: the strings of a lookup. Their bytes are of all, so what a pull receives is \
             among them.\n"
        );
    }

    /// The medians of all ways that were measured, as `plot` keeps them.
    pub fn figures(&self) -> String {
        let mut figures = format!("{}\n", plot::HEAD);
        for case in cases() {
            let (operation, threads, way) = case;
            if let Ok((cpu, wall)) = self.cost(case) {
                let (operation, way) = (operation.name(), way.name());
                figures += &format!("{operation},{threads},{way},{cpu:.2},{wall:.2}\n");
            }
        }
        figures
    }

    fn row(&self, case: Case) -> Vec<String> {
        let (operation, threads, way) = case;
        let what = match threads {
            1 => operation.name().to_owned(),
            _ => format!("{}, {threads} threads", operation.name()),
        };
        let mut row = vec![what, way.title().to_owned()];
        match self.cost(case) {
            Ok((cpu, wall)) => row.extend([format!("{cpu:.2}"), format!("{wall:.2}")]),
            Err(why) => row.extend([why, String::new()]),
        }
        for own in [Way::Ours, Way::OursBare] {
            let ratio = self.ratio((operation, threads, own), way);
            row.push(ratio.map_or_else(|_| "–".to_owned(), |ratio| format!("{ratio:.3}")));
        }
        match self.allocated.get(&(operation, way)) {
            Some(allocated) if threads == 1 => row.extend([
                format!("{:.2}", allocated.count),
                format!("{:.2}", allocated.own),
                format!("{:.0}", allocated.bytes),
            ]),
            _ => row.extend(std::array::from_fn::<_, 3, _>(|_| "–".to_owned())),
        }
        row
    }

    pub fn aims(&self) -> Vec<Aim> {
        use Operation::{Lookup, Pull, Push};
        use Way::{Ours, OursBare, Raw};
        let ratios = [
            ((Push, Ours), 2.5),
            ((Push, OursBare), 1.05),
            ((Pull, Ours), 2.5),
            ((Pull, OursBare), 1.05),
            ((Lookup, Ours), 1.35),
            ((Lookup, OursBare), 1.35),
        ];
        let ratios = ratios.into_iter().map(|((operation, way), bound)| {
            let what = format!("{}, {}: CPU ÷ the limit", operation.name(), verified(way));
            match self.ratio((operation, 1, way), Raw) {
                Ok(ratio) => Aim::at_most(what, bound, "", ratio),
                Err(why) => Aim::unknown(what, format!("≤ {bound}"), why),
            }
        });
        ratios.chain(self.allocation_aims()).collect()
    }

    fn allocation_aims(&self) -> impl Iterator<Item = Aim> {
        let aims = [(Operation::Push, 2.0), (Operation::Lookup, 3.0)].into_iter();
        aims.flat_map(move |(operation, bound)| {
            let ours = [Way::Ours, Way::OursBare].into_iter();
            ours.map(move |way| {
                let what = format!(
                    "{}, {}: allocations a record, without the answer's own",
                    operation.name(),
                    verified(way)
                );
                match self.allocated.get(&(operation, way)) {
                    Some(Allocated { count, own, .. }) => {
                        Aim::at_most(what, bound, "", count - own)
                    }
                    None => Aim::unknown(what, format!("≤ {bound}"), "not counted"),
                }
            })
        })
    }
}

fn verified(way: Way) -> &'static str {
    if way == Way::Ours {
        "default"
    } else {
        "unverified"
    }
}
