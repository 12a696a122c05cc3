//! The main job from end to end: real OASF records are pushed to a store that runs in this
//! process, looked up, pulled back and verified, and deleted.
//!
//! ```text
//! cargo run --release --features server --example quickstart
//! ```
//!
//! One record in a hundred is bad on purpose, each in its own way. At the end stands a summary;
//! the exit code is 1 if anything is not as it should be.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use agntcy_dir_stream::ErrorKind;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use anyhow::Context as _;
use futures::{StreamExt, stream};
use serde_json::Value;

/// How many records are made from each file.
const VARIATIONS: usize = 500;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let records = records(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/records"))?;
    let bad = records.iter().filter(|(_, flaw)| flaw.is_some()).count();

    let store = Store::new();
    let serving = store.listen("127.0.0.1:0").await?;
    let client = Client::connect(serving.url()).await?;
    println!(
        "{} records, {bad} of them bad on purpose; the store listens on {}",
        records.len(),
        serving.url()
    );
    let mut checks = Checks::default();

    // Push. The tag says what is wrong with a record, and comes back with its result.
    let mut push = Stage::start("push", records.len());
    let mut stored = Vec::new();
    let mut refused = Vec::new();
    let mut results = stream::iter(records.clone()).push_to(&client);
    while let Some(result) = results.next().await {
        push.seen(&result);
        match result {
            Ok(pushed) => {
                let (record, flaw) = &records[usize::try_from(pushed.index)?];
                checks.that(flaw.is_none(), || {
                    format!("a record with {flaw:?} was stored")
                });
                stored.push((pushed.cid, record.clone()));
            }
            Err(failed) => {
                checks.that(failed.tag.is_some(), || {
                    format!("a good record failed: {failed}")
                });
                refused.push(failed.input);
            }
        }
    }
    push.end();
    checks.that(stored.len() + refused.len() == records.len(), || {
        "a record has no result".to_owned()
    });
    checks.that(store.len() == stored.len(), || {
        format!("{} records stored, {} reported", store.len(), stored.len())
    });

    // Look up what is there, and what is not: a record is a ref to itself.
    let questions: Vec<(Record, bool)> = stored
        .iter()
        .map(|(_, record)| (record.clone(), true))
        .chain(refused.into_iter().map(|record| (record, false)))
        .collect();
    let mut lookup = Stage::start("lookup", questions.len());
    let mut results = stream::iter(questions).lookup_in(&client);
    while let Some(result) = results.next().await {
        lookup.seen(&result);
        let (found, expected) = match &result {
            Ok(found) => (true, found.tag),
            Err(failed) => (false, failed.tag),
        };
        checks.that(found == expected, || {
            format!("found: {found}, pushed: {expected}")
        });
    }
    lookup.end();

    // Pull back. Each record is verified against its CID on the way, and compared here.
    let refs: Vec<_> = stored.iter().map(|(cid, record)| (*cid, record)).collect();
    let mut pull = Stage::start("pull", refs.len());
    let mut results = stream::iter(refs).pull_from(&client);
    while let Some(result) = results.next().await {
        pull.seen(&result);
        match result {
            Ok(pulled) => {
                let same = Value::try_from(&pulled.record)? == Value::try_from(pulled.tag)?;
                checks.that(same, || format!("{} came back changed", pulled.cid));
            }
            Err(failed) => checks.that(false, || failed.to_string()),
        }
    }
    pull.end();

    // Delete all, and see that all is gone.
    let mut delete = Stage::start("delete", stored.len());
    let cids = stream::iter(stored.iter().map(|(cid, _)| *cid));
    let mut results = cids.delete_from(&client);
    while let Some(result) = results.next().await {
        delete.seen(&result);
        if let Err(failed) = result {
            checks.that(false, || failed.to_string());
        }
    }
    delete.end();
    checks.that(store.is_empty(), || {
        format!("{} records are left", store.len())
    });
    let gone = client.pull(stored[0].0).await;
    checks.that(
        gone.is_err_and(|failed| failed.kind() == ErrorKind::NotFound),
        || "a deleted record can be pulled".to_owned(),
    );

    serving.shutdown().await;
    println!();
    for stage in [push, lookup, pull, delete] {
        stage.print();
    }
    Ok(checks.conclude())
}

/// The records of `folder`, each in many variations; one in a hundred has a flaw, which is its
/// tag.
fn records(folder: &Path) -> anyhow::Result<Vec<(Record, Option<&'static str>)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let text = std::fs::read_to_string(&path)?;
            let value: Value =
                serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            files.push(value);
        }
    }
    let mut records = Vec::new();
    for variation in 0..VARIATIONS {
        for value in &files {
            let mut value = value.clone();
            value["version"] = format!("1.0.{variation}").into();
            let flaw = match records.len() {
                number if number % 100 != 99 => None,
                number => Some(FLAWS[number / 100 % FLAWS.len()]),
            };
            let record = match flaw {
                Some("no data") => Record::default(),
                Some("no name") => {
                    value["name"] = "".into();
                    Record::from_serialize(&value)?
                }
                Some("no schema version") => {
                    value["schema_version"] = Value::Null;
                    Record::from_serialize(&value)?
                }
                Some("over 4 MiB") => {
                    value["description"] = "x".repeat(4 << 20).into();
                    Record::from_serialize(&value)?
                }
                _ => Record::from_serialize(&value)?,
            };
            records.push((record, flaw));
        }
    }
    Ok(records)
}

const FLAWS: [&str; 4] = ["no data", "no name", "no schema version", "over 4 MiB"];

/// One operation over all items: its progress while it runs, its line in the summary.
struct Stage {
    name: &'static str,
    total: usize,
    ok: usize,
    failures: BTreeMap<String, usize>,
    started: Instant,
    took: Duration,
}

impl Stage {
    fn start(name: &'static str, total: usize) -> Self {
        Self {
            name,
            total,
            ok: 0,
            failures: BTreeMap::new(),
            started: Instant::now(),
            took: Duration::ZERO,
        }
    }

    fn seen<S, I, T>(&mut self, result: &Result<S, agntcy_dir_stream::Failed<I, T>>) {
        match result {
            Ok(_) => self.ok += 1,
            Err(failed) => *self.failures.entry(reason(&failed.error)).or_default() += 1,
        }
        if self.seen_so_far().is_multiple_of(100) {
            self.progress();
        }
    }

    fn seen_so_far(&self) -> usize {
        self.ok + self.failures.values().sum::<usize>()
    }

    /// One line that is written over, and only where somebody looks.
    fn progress(&self) {
        let mut out = std::io::stderr();
        if out.is_terminal() {
            let _ = write!(
                out,
                "\r{:>8} {}/{}",
                self.name,
                self.seen_so_far(),
                self.total
            );
            let _ = out.flush();
        }
    }

    fn end(&mut self) {
        self.took = self.started.elapsed();
        self.progress();
    }

    fn print(&self) {
        #[allow(clippy::cast_precision_loss)]
        let rate = self.seen_so_far() as f64 / self.took.as_secs_f64();
        let failed = self.seen_so_far() - self.ok;
        println!(
            "{:<8} {:>6} ok {:>6} failed {rate:>9.0} records/s",
            self.name, self.ok, failed
        );
        for (reason, count) in &self.failures {
            println!("{count:>24} × {reason}");
        }
    }
}

/// An error in few enough words to be counted: without the part that differs for each record.
fn reason(error: &agntcy_dir_stream::Error) -> String {
    let text = error.to_string();
    let end = text.find("baearei").unwrap_or(text.len());
    text[..end]
        .trim_end_matches([' ', ':', '`', '"'])
        .to_owned()
}

/// What must hold at the end.
#[derive(Default)]
struct Checks {
    held: usize,
    broken: Vec<String>,
}

impl Checks {
    fn that(&mut self, holds: bool, or_else: impl FnOnce() -> String) {
        if holds {
            self.held += 1;
        } else {
            self.broken.push(or_else());
        }
    }

    fn conclude(self) -> ExitCode {
        println!();
        if self.broken.is_empty() {
            println!("all {} checks hold", self.held);
            return ExitCode::SUCCESS;
        }
        for broken in self.broken.iter().take(20) {
            println!("NOT AS IT SHOULD BE: {broken}");
        }
        println!("{} checks broken, {} hold", self.broken.len(), self.held);
        ExitCode::FAILURE
    }
}
