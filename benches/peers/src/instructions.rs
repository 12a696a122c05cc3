//! Instructions a record, by callgrind. They repeat to 1 or 2 % where times do not, so the figures that are kept are a
//! guard: a record must not cost more without somebody noticing.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use agntcy_dir_stream::{Cid, Record};
use anyhow::{Context as _, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use crate::child::Server;
use crate::ways::{Operation, Way};
use crate::{child, input, store, table};

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.csv");

/// How many records the two runs of a case have. Their difference is without what a start and a connection cost.
const RECORDS: [usize; 2] = [4_000, 12_000];

/// How much more than is kept is too much.
const MORE: f64 = 0.05;

/// The raw loops are counted to compare with, and not guarded: their chunks come as they come.
const YARDSTICK: &str = " raw";

/// How often a case is counted again before that is an error: a thread that wakes at another time can cost as much.
const AGAIN: usize = 3;

/// How many cases are counted side by side, each with a store of its own, both on the same core. There the two take
/// turns, so how many answers are read at once, and with it the figure, depends little on the load.
const SIDE_BY_SIDE: usize = 2;

/// What of a case is counted: the runtime's work alone, so neither the making of the input nor the start.
const COUNTED: &str = "tokio::runtime::runtime::Runtime::block_on";

/// What a record goes through without a client.
#[derive(Clone, Copy)]
enum Part {
    Cid,
    CidText,
    JsonIn,
    JsonOut,
    SerdeIn,
    SerdeOut,
}

impl Part {
    const ALL: [Self; 6] = [
        Self::Cid,
        Self::CidText,
        Self::JsonIn,
        Self::JsonOut,
        Self::SerdeIn,
        Self::SerdeOut,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Cid => "cid",
            Self::CidText => "cid-text",
            Self::JsonIn => "json-in",
            Self::JsonOut => "json-out",
            Self::SerdeIn => "serde-in",
            Self::SerdeOut => "serde-out",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Cid => "a record's CID",
            Self::CidText => "a CID printed, and parsed",
            Self::JsonIn => "a record from JSON text",
            Self::JsonOut => "a record to JSON text",
            Self::SerdeIn => "a record from a `serde_json::Value`",
            Self::SerdeOut => "a record to a `serde_json::Value`",
        }
    }
}

/// What a child does: one part, for so many records.
pub fn part(name: &str, count: usize) -> anyhow::Result<()> {
    let mut all = Part::ALL.into_iter();
    let part = all.find(|part| part.name() == name);
    let part = part.context("no such part")?;
    let texts = input::texts()?;
    let records = input::records()?;
    let cids = input::cids(&records)?;
    let values: Vec<Value> = texts
        .iter()
        .map(|text| serde_json::from_str(text))
        .collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        for number in (0..input::DISTINCT).cycle().take(count) {
            match part {
                Part::Cid => drop(black_box(records[number].cid()?)),
                Part::CidText => {
                    let text = black_box(cids[number].to_string());
                    black_box(text.parse::<Cid>()?);
                }
                Part::JsonIn => drop(black_box(Record::from_json(&texts[number])?)),
                Part::JsonOut => drop(black_box(records[number].to_json()?)),
                Part::SerdeIn => drop(black_box(Record::from_serialize(&values[number])?)),
                Part::SerdeOut => drop(black_box(records[number].deserialize::<Value>()?)),
            }
        }
        Ok(())
    })
}

/// What is counted by itself.
#[derive(Clone, Copy)]
enum Case {
    Way(Operation, Way),
    Error,
    Part(Part),
}

impl Case {
    fn all() -> Vec<Self> {
        let ways = |operation| {
            let ways = [Way::Raw, Way::Ours, Way::OursBare];
            ways.map(|way| Self::Way(operation, way))
        };
        let mut all: Vec<Self> = Operation::ALL.into_iter().flat_map(ways).collect();
        all.push(Self::Error);
        all.extend(Part::ALL.map(Self::Part));
        all
    }

    fn name(self) -> String {
        match self {
            Self::Way(operation, way) => format!("{} {}", operation.name(), way.name()),
            Self::Error => "error".to_owned(),
            Self::Part(part) => part.name().to_owned(),
        }
    }

    fn title(self) -> String {
        match self {
            Self::Way(operation, way) => format!("{}: {}", operation.name(), way.title()),
            Self::Error => "push: a bad record, over what a good one takes".to_owned(),
            Self::Part(part) => part.title().to_owned(),
        }
    }

    /// Instructions by what was counted. Of bad records, a push with one in ten was.
    fn figure(self, counted: &Figures) -> anyhow::Result<f64> {
        let of = |case: Self| counted.get(&case.name()).context("a case was not counted");
        let of_itself = *of(self)?;
        Ok(match self {
            Self::Error => 10.0 * (of_itself - of(Self::Way(Operation::Push, Way::Ours))?),
            _ => of_itself,
        })
    }

    /// The instructions that one record takes.
    fn count(self, url: &str) -> anyhow::Result<f64> {
        let child = |count: usize| {
            let count = count.to_string();
            let arguments = match self {
                Self::Way(operation, way) => {
                    vec!["way", operation.name(), way.name(), "1", url, &count, "0"]
                }
                Self::Error => vec!["bad", url, &count],
                Self::Part(part) => vec!["part", part.name(), &count],
            };
            count_child(&self.name(), &arguments)
        };
        if matches!(self, Self::Part(_)) {
            // Nothing else is counted, and it is the same each time.
            return Ok(child(input::DISTINCT)? / input::DISTINCT as f64);
        }
        let [few, many] = RECORDS;
        Ok((child(many)? - child(few)?) / (many - few) as f64)
    }
}

/// Instructions by the name of a case.
type Figures = BTreeMap<String, f64>;

/// The figures that are kept, and the compiler that they are of, if that is said.
#[derive(Default)]
struct Kept {
    compiler: Option<String>,
    figures: Figures,
}

impl Kept {
    fn load() -> anyhow::Result<Self> {
        if !Path::new(KEPT).exists() {
            return Ok(Self::default());
        }
        Self::parse(&fs::read_to_string(KEPT)?).context(KEPT)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut kept = Self::default();
        for line in text.lines() {
            if let Some(compiler) = line.strip_prefix("# ") {
                kept.compiler = Some(compiler.to_owned());
            } else {
                let (name, figure) = line
                    .split_once(',')
                    .context("a line without a name and a figure")?;
                let figure = figure.parse().with_context(|| line.to_owned())?;
                kept.figures.insert(name.to_owned(), figure);
            }
        }
        Ok(kept)
    }

    fn text(&self) -> String {
        let compiler = self.compiler.iter().map(|it| format!("# {it}\n"));
        let figures = self.figures.iter();
        let figures = figures.map(|(name, figure)| format!("{name},{figure:.0}\n"));
        compiler.chain(figures).collect()
    }

    /// Whether a difference is one of the code. Another compiler writes other instructions.
    fn is_of(&self, compiler: &str) -> bool {
        self.compiler.as_deref().is_none_or(|kept| kept == compiler)
    }

    fn compare(&self, name: &str, now: f64) -> Verdict {
        match self.figures.get(name) {
            None => Verdict::NotKept,
            Some(_) if name.ends_with(YARDSTICK) => Verdict::Equal,
            Some(kept) if now > kept * (1.0 + MORE) => Verdict::More,
            Some(kept) if now < kept * (1.0 - MORE) => Verdict::Less,
            Some(_) => Verdict::Equal,
        }
    }

    /// What is wrong with these figures of this compiler.
    fn errors(&self, compiler: &str, now: &Figures) -> Vec<String> {
        if !self.is_of(compiler) {
            return Vec::new();
        }
        let error = |(name, figure): (&String, &f64)| match self.compare(name, *figure) {
            Verdict::More => {
                let kept = self.figures.get(name)?;
                Some(format!(
                    "{name} takes {figure:.0} instructions, and {kept:.0} are kept"
                ))
            }
            Verdict::NotKept => Some(format!("{name} is not kept: --save")),
            Verdict::Less | Verdict::Equal => None,
        };
        now.iter().filter_map(error).collect()
    }
}

/// What a figure is beside the one that is kept.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    Less,
    More,
    NotKept,
}

/// Counts, prints, and compares with what is kept.
pub fn run(save: bool) -> anyhow::Result<()> {
    let has_valgrind = Command::new("valgrind").arg("--version").output();
    has_valgrind
        .context("instructions are counted by valgrind, and it does not start: install it")?;
    let (compiler, kept) = (compiler()?, Kept::load()?);
    let cores = cores()?;
    let mut counted = count_all(&cores)?;
    if !save && kept.is_of(&compiler) {
        count_again(cores[0], &kept, &mut counted)?;
    }
    let mut now = Figures::new();
    for case in Case::all() {
        now.insert(case.name(), case.figure(&counted)?);
    }
    print(&compiler, &now, &kept)?;
    if save {
        let now = Kept {
            compiler: Some(compiler),
            figures: now,
        };
        return fs::write(KEPT, now.text()).context(KEPT);
    }
    let errors = kept.errors(&compiler, &now);
    ensure!(errors.is_empty(), "{}", errors.join("; "));
    Ok(())
}

/// Which compiler cargo runs here, and for which target.
fn compiler() -> anyhow::Result<String> {
    let version = child::output(Command::new("rustc").arg("--version"), &[])?;
    let version = version.split_whitespace().nth(1);
    Ok(format!(
        "rustc {}, {ARCH}",
        version.context("rustc says no version")?
    ))
}

/// The cores that this process may have, as many as it needs.
fn cores() -> anyhow::Result<Vec<usize>> {
    let may_have = sched_getaffinity(None)?;
    let all = (0..CpuSet::MAX_CPU).filter(|core| may_have.is_set(*core));
    Ok(all.take(SIDE_BY_SIDE).collect())
}

/// A store on a core, where this thread and the children that it starts are, too.
fn start_on(core: usize) -> anyhow::Result<Server> {
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only)?;
    store::start(Duration::ZERO)
}

fn count_all(cores: &[usize]) -> anyhow::Result<Figures> {
    let count_some = |first: usize| {
        let store = start_on(cores[first])?;
        let some = Case::all().into_iter().skip(first).step_by(cores.len());
        let count = |case: Case| anyhow::Ok((case.name(), case.count(&store.url)?));
        some.map(count).collect::<anyhow::Result<Vec<_>>>()
    };
    thread::scope(|scope| {
        let count_some = &count_some;
        let workers: Vec<_> = (0..cores.len())
            .map(|first| scope.spawn(move || count_some(first)))
            .collect();
        let mut counted = Figures::new();
        for worker in workers {
            let some = worker.join().ok().context("a thread panicked")?;
            counted.extend(some?);
        }
        Ok(counted)
    })
}

/// Counts again what is above the kept figures, and takes the lowest.
fn count_again(core: usize, kept: &Kept, counted: &mut Figures) -> anyhow::Result<()> {
    let store = start_on(core)?;
    for case in Case::all() {
        for _ in 0..AGAIN {
            let (name, figure) = (case.name(), case.figure(counted)?);
            if kept.compare(&name, figure) != Verdict::More {
                break;
            }
            println!("{name} is counted again: it took {figure:.0} instructions");
            let lowest = counted.get(&name).copied().unwrap_or(f64::INFINITY);
            counted.insert(name, lowest.min(case.count(&store.url)?));
        }
    }
    Ok(())
}

/// The instructions of a child, without those of SHA-256: valgrind does not know those that the CPU has for it, so it
/// would count a slower way.
fn count_child(name: &str, arguments: &[&str]) -> anyhow::Result<f64> {
    let name = name.replace(' ', "-");
    let out = std::env::temp_dir().join(format!("callgrind.{}.{name}", std::process::id()));
    let mut command = Command::new("valgrind");
    command
        .args([
            "--tool=callgrind",
            "--compress-strings=no",
            "--compress-pos=no",
        ])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(arguments);
    child::output(&mut command, &[])?;
    let profile = fs::read_to_string(&out)?;
    fs::remove_file(&out)?;
    let count = own(&profile, |name| !name.starts_with("sha2::"))?;
    ensure!(
        count > 0.0,
        "nothing was counted: is there no {COUNTED} any more?"
    );
    Ok(count)
}

/// The sum of what functions of such names take themselves, from callgrind's output.
fn own(profile: &str, is_meant: impl Fn(&str) -> bool) -> anyhow::Result<f64> {
    let (mut sum, mut counts, mut is_call) = (0.0, false, false);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            counts = is_meant(name);
        } else if line.starts_with("calls=") {
            // The line behind it has what the callee took.
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let cost = line
                .split_whitespace()
                .nth(1)
                .context("a line without a cost")?;
            if counts && !std::mem::take(&mut is_call) {
                sum += cost.parse::<f64>()?;
            }
            is_call = false;
        }
    }
    Ok(sum)
}

fn print(compiler: &str, now: &Figures, kept: &Kept) -> anyhow::Result<()> {
    println!("\nInstructions a record, without those of SHA-256, by {compiler}:\n");
    let mut rows = Vec::new();
    let mut less = Vec::new();
    for case in Case::all() {
        let name = case.name();
        let figure = *now.get(&name).context("it was counted")?;
        let ratio = |to: Option<&f64>| match to {
            Some(to) => format!("{:.3}", figure / to),
            None => "–".to_owned(),
        };
        let raw = match case {
            Case::Way(operation, _) => now.get(&Case::Way(operation, Way::Raw).name()),
            Case::Error | Case::Part(_) => None,
        };
        let kept_figure = kept.figures.get(&name);
        rows.push(vec![
            name.clone(),
            case.title().replace('*', ""),
            format!("{figure:.0}"),
            kept_figure.map_or("–".to_owned(), |kept| format!("{kept:.0}")),
            ratio(kept_figure),
            ratio(raw),
        ]);
        if kept.compare(&name, figure) == Verdict::Less {
            less.push(name);
        }
    }
    let head = [
        "",
        "what is counted",
        "now",
        "kept",
        "now ÷ kept",
        "÷ raw loop",
    ];
    table::print(&head, &rows);
    println!();
    if !kept.is_of(compiler) {
        let of = kept.compiler.as_deref().unwrap_or_default();
        println!(
            "The kept figures are of {of}, and another compiler writes other instructions: a difference is no error."
        );
    } else if !less.is_empty() {
        println!(
            "These take less now, keep that by --save: {}.",
            less.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two functions, of which one calls the other, as callgrind writes it.
    const PROFILE: &str = "\
# callgrind format
version: 1
positions: line
events: Ir
summary: 1000

fl=lib.rs
fn=sha2::compress
12 500
13 400

fn=peers::push
20 30
cfn=sha2::compress
calls=2 12
21 900
22 70
";

    fn kept() -> Kept {
        let kept = Kept::parse("# rustc 1.95.0, x86_64\ncid,1000\npush ours,200\n");
        kept.expect("a file as it is written")
    }

    fn errors(compiler: &str, cid: f64) -> Vec<String> {
        kept().errors(compiler, &Figures::from([("cid".to_owned(), cid)]))
    }

    #[test]
    fn what_a_function_calls_is_not_its_own() {
        let push = own(PROFILE, |name| name == "peers::push");
        assert_eq!(push.expect("a profile"), 100.0);
    }

    #[test]
    fn functions_that_are_not_meant_do_not_count() {
        let all = own(PROFILE, |_| true).expect("a profile");
        let but_sha = own(PROFILE, |name| !name.starts_with("sha2::")).expect("a profile");
        assert_eq!((all, but_sha), (1000.0, 100.0));
    }

    #[test]
    fn a_line_without_a_cost_is_an_error() {
        assert!(own("fn=main\n12\n", |_| true).is_err());
        assert!(own("fn=main\n12 many\n", |_| true).is_err());
    }

    #[test]
    fn more_than_5_percent_above_is_an_error() {
        assert_eq!(kept().compare("cid", 1051.0), Verdict::More);
        let said = "cid takes 1051 instructions, and 1000 are kept";
        assert_eq!(errors("rustc 1.95.0, x86_64", 1051.0), [said]);
    }

    #[test]
    fn the_raw_loops_are_not_guarded() {
        let kept = Kept::parse("push raw,1000\n").expect("a file without a first line");
        assert_eq!(kept.compare("push raw", 2000.0), Verdict::Equal);
    }

    #[test]
    fn less_is_no_error() {
        assert_eq!(kept().compare("cid", 949.0), Verdict::Less);
        assert!(errors("rustc 1.95.0, x86_64", 949.0).is_empty());
    }

    #[test]
    fn up_to_5_percent_is_equal() {
        for now in [951.0, 1000.0, 1049.0] {
            assert_eq!(kept().compare("cid", now), Verdict::Equal);
            assert!(errors("rustc 1.95.0, x86_64", now).is_empty());
        }
    }

    #[test]
    fn a_difference_to_another_compiler_is_no_error() {
        for compiler in ["rustc 1.96.0, x86_64", "rustc 1.95.0, aarch64"] {
            assert!(!kept().is_of(compiler));
            assert!(errors(compiler, 2000.0).is_empty());
        }
    }

    #[test]
    fn figures_of_no_compiler_are_compared_with_all() {
        let kept = Kept::parse("cid,1000\n").expect("a file without a first line");
        let now = Figures::from([("cid".to_owned(), 2000.0)]);
        assert_eq!(kept.errors("rustc 1.95.0, x86_64", &now).len(), 1);
    }

    #[test]
    fn a_case_that_is_not_kept_is_an_error() {
        let now = Figures::from([("json-in".to_owned(), 1.0)]);
        let said = kept().errors("rustc 1.95.0, x86_64", &now);
        assert_eq!(said, ["json-in is not kept: --save"]);
    }

    #[test]
    fn what_is_kept_is_read_as_it_was_written() {
        let text = kept().text();
        assert_eq!(text, "# rustc 1.95.0, x86_64\ncid,1000\npush ours,200\n");
    }
}
