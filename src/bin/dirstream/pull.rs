//! `dirstream pull`: records out.

use std::path::{Path, PathBuf};

use agntcy_dir_stream::prelude::*;
use anyhow::ensure;
use futures_util::StreamExt as _;

use crate::account::{Job, account};
use crate::exit::Exit;
use crate::input;
use crate::outcome::Outcome;
use crate::output;
use crate::pace;
use crate::server;

mod records;

use self::records::Target;

/// Pull records by their CIDs; each is verified.
///
/// Without --to, the line of each result has its `record`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    input: input::Arguments,

    /// Where the records go: a folder, in which each gets a file CID.json; a file whose name ends with .ndjson or .jsonl; or
    /// `-`, standard output, and then the lines of results go nowhere but to --results.
    ///
    /// A file in a folder is there whole or not at all.
    #[arg(long, value_name = "PLACE")]
    to: Option<PathBuf>,

    /// Do not look whether the records match their CIDs.
    #[arg(long)]
    no_verify: bool,

    #[command(flatten)]
    resume: input::Resume,
    #[command(flatten)]
    pace: pace::Arguments,
    #[command(flatten)]
    server: server::Arguments,
    #[command(flatten)]
    output: output::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let to = arguments.to.as_deref().map(Path::new);
    let mut outputs = arguments.output.files();
    outputs.extend(&arguments.to);
    let input = arguments
        .input
        .find_cids(Some(&arguments.resume), &outputs)?;
    let is_taken = to.is_some_and(|to| to == "-");
    let target = to.map(Target::of).transpose()?;
    let client = arguments.server.connect(arguments.pace.breaker()).await?;
    let place = to.map(Path::to_string_lossy).unwrap_or_default();
    let checkpoint = input.checkpoint(&["pull", &arguments.server.name(), &place])?;
    if checkpoint.is_some() {
        ensure!(
            !matches!(target, Some(Target::Output | Target::Lines(_))),
            "--checkpoint takes a folder for --to: what is pulled twice is one file there, and two lines elsewhere"
        );
    }
    let lines = arguments.output.open(is_taken, checkpoint.as_ref())?;
    let mut records = target.map(Target::open).transpose()?;
    let values = input.cids();
    let options = arguments
        .pace
        .options()
        .verify(!arguments.no_verify)
        .resume_past_input_errors(true);
    let pulled = values.values.try_pull_from_with(&client, &options);
    let pulled = match &checkpoint {
        Some(checkpoint) => pulled.resume_from(checkpoint),
        None => pulled,
    };
    let handle = pulled.handle();
    let outcomes = pulled.map(move |result| match result {
        Ok(pulled) => {
            let mut outcome = Outcome::new(pulled.index, pulled.tag, pulled.cid);
            outcome.done.duplicate_of = pulled.duplicate_of;
            match &mut records {
                Some(records) => outcome.done.path = records.write(pulled.cid, &pulled.record)?,
                None => outcome.done.record = Some(pulled.record),
            }
            Ok(outcome)
        }
        Err(failed) => Ok(Outcome::of_ref(failed)),
    });
    let job = Job {
        name: "pull",
        outcomes: outcomes.boxed(),
        handles: vec![handle],
        reached: Some(values.reached),
        checkpoint,
    };
    account(job, lines, &arguments.output).await
}
