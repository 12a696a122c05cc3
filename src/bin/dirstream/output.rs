//! Where the results go.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::outcome::Outcome;

#[derive(clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Results")]
pub(crate) struct Arguments {
    /// Write the lines of results to this file, in place of standard output.
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
pub(crate) struct Lines(Option<Box<dyn Write + Send>>);

impl Arguments {
    /// Looks whether all can be written, before anything is done. `is_taken`: standard output has something else.
    pub(crate) fn open(&self, is_taken: bool) -> anyhow::Result<Lines> {
        if let Some(report) = &self.report {
            let end = report.extension().and_then(|end| end.to_str());
            ensure!(
                matches!(end, Some("html" | "md")),
                "{}: a report is .html or .md",
                report.display()
            );
            is_writable(report)?;
        }
        Ok(Lines(match &self.results {
            Some(path) => {
                let file = File::create(path).with_context(|| path.display().to_string())?;
                Some(Box::new(file))
            }
            None if is_taken => None,
            // Each line at once: who reads them may act on them, and after `kill -9` none is missing.
            None => Some(Box::new(io::stdout())),
        }))
    }
}

fn is_writable(path: &Path) -> anyhow::Result<()> {
    let file = File::options().append(true).create(true).open(path);
    file.map(drop).with_context(|| path.display().to_string())
}

impl Lines {
    pub(crate) fn write(&mut self, outcome: &Outcome) -> io::Result<()> {
        let Some(to) = &mut self.0 else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(outcome)?;
        line.push(b'\n');
        to.write_all(&line)
    }
}
