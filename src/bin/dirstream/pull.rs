//! `dirstream pull`: records out.

use std::path::PathBuf;

use agntcy_dir_stream::TryPullResult;
use agntcy_dir_stream::prelude::*;
use anyhow::ensure;

use crate::exit::Exit;
use crate::input::{Origin, Unread};
use crate::outcome::Outcome;
use crate::work;

mod records;

use self::records::Target;

/// Pull records by their CIDs; each is verified.
///
/// Without --to, the line of each result has its `record`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
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
    work: work::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let to = arguments.to.as_deref();
    let input = arguments.work.cids_without(arguments.to.as_ref())?;
    let target = to.map(Target::of).transpose()?;
    // As it is escaped, no two are the same.
    let place = to.map(std::path::absolute).transpose()?;
    let place = format!("{place:?}");
    let is_taken = to.is_some_and(|to| to.as_os_str() == "-");
    let mut work = arguments
        .work
        .begin(&input, &["pull", &place], is_taken)
        .await?;
    ensure!(
        work.checkpoint.is_none() || !matches!(target, Some(Target::Output | Target::Lines(_))),
        "--checkpoint takes a folder for --to: what is pulled twice is one file there, and two lines elsewhere"
    );
    work.options = work.options.verify(!arguments.no_verify);
    let mut records = target.map(Target::open).transpose()?;
    let cids = input.cids();
    let pulled = cids.values.try_pull_from_with(&work.client, &work.options);
    let outcome = move |result: TryPullResult<Unread, Cid, Option<Origin>>| {
        let pulled = match result {
            Ok(pulled) => pulled,
            Err(failed) => return Ok(Outcome::of_ref(failed)),
        };
        let mut outcome = Outcome::new(pulled.index, pulled.tag, pulled.cid);
        outcome.done.duplicate_of = pulled.duplicate_of;
        match &mut records {
            Some(records) => outcome.done.path = records.write(pulled.cid, &pulled.record)?,
            None => outcome.done.record = Some(pulled.record),
        }
        Ok(outcome)
    };
    work.account_for("pull", cids.reached, pulled, outcome)
        .await
}
