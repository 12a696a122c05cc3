//! Where the results go.

use std::fs::File;
use std::io::{
    self, BufRead as _, BufReader, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write,
};
use std::path::{Path, PathBuf};

use agntcy_dir_stream::Checkpoint;
use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::outcome::Outcome;

#[derive(clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Results")]
pub(crate) struct Arguments {
    /// Write the lines of results to this file, in place of standard output; with --checkpoint, behind those of an earlier run.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,

    /// Write a report when it is over: counts, failures by cause, and the rate over time. Its name ends with .html or
    /// .md.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Say nothing on standard error but errors.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Takes lines of results.
pub(crate) struct Lines {
    to: Option<Box<dyn Write + Send>>,
    /// Whether a bar on the same terminal has to make room for each.
    pub(crate) is_terminal: bool,
}

impl Arguments {
    /// The files that are written.
    pub(crate) fn files(&self) -> Vec<&PathBuf> {
        let results = self.results.as_ref().filter(|path| path.as_os_str() != "-");
        results.into_iter().chain(&self.report).collect()
    }

    /// Looks whether all can be written. `is_taken`: standard output has something else. Of a checkpoint that goes on, what an
    /// earlier run has written stays.
    pub(crate) fn open(
        &self,
        is_taken: bool,
        checkpoint: Option<&Checkpoint>,
    ) -> anyhow::Result<Lines> {
        if let Some(report) = &self.report {
            let end = report.extension().and_then(|end| end.to_str());
            ensure!(
                matches!(end, Some("html" | "md")),
                "{}: a report is .html or .md",
                report.display()
            );
            let folder = report
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            ensure!(
                folder.is_dir(),
                "{}: there is no such folder",
                folder.display()
            );
        }
        let file = self.results.as_ref().filter(|path| path.as_os_str() != "-");
        if let Some(path) = file {
            let done = checkpoint.map_or(0, Checkpoint::done);
            let file = open_behind(path, done).with_context(|| path.display().to_string())?;
            return Ok(Lines {
                to: Some(Box::new(file)),
                is_terminal: false,
            });
        }
        let is_taken = is_taken && self.results.is_none();
        Ok(Lines {
            // Each line at once: who reads them may act on them, and after `kill -9` none is missing.
            to: (!is_taken).then(|| Box::new(io::stdout()) as _),
            is_terminal: io::stdout().is_terminal(),
        })
    }
}

/// The longest line that is looked at, in bytes.
const MAX_LINE: u64 = 64 << 20;

/// A file of results, behind the lines of the first `done` inputs. What is behind those is written anew.
fn open_behind(path: &Path, done: u64) -> io::Result<File> {
    #[derive(Deserialize)]
    struct Line {
        index: u64,
    }
    if done == 0 {
        return File::create(path);
    }
    let mut file = File::options().read(true).write(true).open(path)?;
    let (mut kept, mut next) = (0, 0);
    {
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        while reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)?
            > 0
        {
            let read = serde_json::from_slice::<Line>(&line);
            let is_next = read.is_ok_and(|line| line.index == next && next < done);
            if !is_next || !line.ends_with(b"\n") {
                break;
            }
            next += 1;
            kept += line.len() as u64;
            line.clear();
        }
    }
    if next < done {
        return Err(io::Error::other(format!(
            "it has results of {next} inputs, and {done} are done: it is not the file of the earlier run"
        )));
    }
    file.set_len(kept)?;
    file.seek(SeekFrom::Start(kept))?;
    Ok(file)
}

impl Lines {
    pub(crate) fn write(&mut self, outcome: &Outcome) -> io::Result<()> {
        let Some(to) = &mut self.to else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(outcome)?;
        line.push(b'\n');
        to.write_all(&line)
    }
}
