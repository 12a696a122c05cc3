//! `dirstream pull`: records out.

use std::ffi::OsString;

use agntcy_dir_stream::prelude::*;
use futures_util::StreamExt as _;

use crate::account::{Job, account};
use crate::exit::Exit;
use crate::input;
use crate::outcome::Outcome;
use crate::output;
use crate::pace;
use crate::server;

mod records;

use self::records::Records;

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
    /// A file in a folder is there whole or not at all. An NDJSON file is begun anew, but where a checkpoint goes on.
    #[arg(long, value_name = "PLACE")]
    to: Option<OsString>,

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
    let values = arguments.input.find_cids(Some(&arguments.resume))?.cids();
    let is_taken = arguments.to.as_ref().is_some_and(|to| to == "-");
    let lines = arguments.output.open(is_taken)?;
    let client = arguments.server.connect(arguments.pace.breaker()).await?;
    let goes_on = values
        .checkpoint
        .as_ref()
        .is_some_and(|checkpoint| checkpoint.done() > 0);
    let mut records = arguments
        .to
        .map(|to| Records::open(&to, goes_on))
        .transpose()?;
    let options = arguments
        .pace
        .options()
        .verify(!arguments.no_verify)
        .resume_past_input_errors(true);
    let pulled = values.values.try_pull_from_with(&client, &options);
    let pulled = match &values.checkpoint {
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
        checkpoint: values.checkpoint,
    };
    account(job, lines, &arguments.output).await
}
