//! Instructions a record, by callgrind. They repeat where times do not, so the figures that are kept are a guard: a record must
//! not cost more without somebody noticing.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use agntcy_dir_stream::{Cid, Record};
use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::child::Server;
use crate::ways::{Operation, Way};
use crate::{child, input, store, table};

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.csv");

/// How many records the two runs of a case have. Their difference is without what a start costs.
const RECORDS: [usize; 2] = [4_000, 12_000];

/// How much more than is kept is too much.
const MORE: f64 = 0.05;

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

/// Instructions by the name of a case.
type Figures = BTreeMap<String, f64>;

/// Counts, prints, and compares with what is kept.
pub fn run(save: bool) -> anyhow::Result<()> {
    let has_valgrind = Command::new("valgrind").arg("--version").output();
    has_valgrind.context("this takes valgrind")?;
    let store = store::start(Duration::ZERO)?;
    let now = measure(&store)?;
    let kept = if Path::new(KEPT).exists() {
        read(&fs::read_to_string(KEPT)?)?
    } else {
        Figures::new()
    };
    print(&now, &kept);
    if save {
        let lines: Vec<String> = now
            .iter()
            .map(|(name, figure)| format!("{name},{figure:.0}\n"))
            .collect();
        return fs::write(KEPT, lines.concat()).context(KEPT);
    }
    let mut worse = Vec::new();
    for (name, figure) in &now {
        let kept = kept
            .get(name)
            .with_context(|| format!("{name} is not kept: --save"))?;
        if *figure > kept * (1.0 + MORE) {
            worse.push(format!(
                "{name} takes {figure:.0} instructions, and {kept:.0} are kept"
            ));
        } else if *figure < kept * (1.0 - MORE) {
            println!("{name} takes {figure:.0} instructions now: keep that by --save");
        }
    }
    ensure!(worse.is_empty(), "{}", worse.join("; "));
    Ok(())
}

fn measure(store: &Server) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    for operation in Operation::ALL {
        for way in [Way::Raw, Way::Ours, Way::OursBare] {
            let name = format!("{} {}", operation.name(), way.name());
            let (operation, way) = (operation.name(), way.name());
            let each =
                |count: &str| count_child(&["way", operation, way, "1", &store.url, count, "0"]);
            figures.insert(name, each_record(each)?);
        }
    }
    let each = |count: &str| count_child(&["bad", &store.url, count]);
    let one_in_ten = each_record(each)?;
    let clean = figures.get("push ours").context("it was counted")?;
    figures.insert("error".to_owned(), 10.0 * (one_in_ten - clean));
    for part in Part::ALL {
        let each = |count: &str| count_child(&["part", part.name(), count]);
        figures.insert(part.name().to_owned(), each_record(each)?);
    }
    Ok(figures)
}

/// The difference that one record makes.
fn each_record(count: impl Fn(&str) -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let [few, many] = RECORDS;
    let more = count(&many.to_string())? - count(&few.to_string())?;
    Ok(more / (many - few) as f64)
}

/// The instructions of a child, without those of SHA-256: valgrind knows no CPU's own.
fn count_child(arguments: &[&str]) -> anyhow::Result<f64> {
    let out = std::env::temp_dir().join(format!("callgrind.{}", std::process::id()));
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
                .context("a line with a cost")?;
            if counts && !std::mem::take(&mut is_call) {
                sum += cost.parse::<f64>()?;
            }
            is_call = false;
        }
    }
    Ok(sum)
}

fn read(text: &str) -> anyhow::Result<Figures> {
    let figure = |line: &str| {
        let (name, figure) = line.split_once(',').context("a name and a figure")?;
        anyhow::Ok((name.to_owned(), figure.parse()?))
    };
    text.lines().map(figure).collect()
}

fn print(now: &Figures, kept: &Figures) {
    let rows: Vec<Vec<String>> = now
        .iter()
        .map(|(name, figure)| {
            let kept = kept.get(name);
            let [kept, ratio] = match kept {
                Some(kept) => [format!("{kept:.0}"), format!("{:.3}", figure / kept)],
                None => ["–".to_owned(), "–".to_owned()],
            };
            vec![name.clone(), format!("{figure:.0}"), kept, ratio]
        })
        .collect();
    table::print(&["", "instructions", "kept", "now ÷ kept"], &rows);
}
