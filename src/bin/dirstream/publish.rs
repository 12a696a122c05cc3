//! `dirstream publish`: records that others find.

use agntcy_dir_stream::prelude::*;
use futures_util::StreamExt as _;

use crate::account::{Job, account};
use crate::exit::Exit;
use crate::input;
use crate::outcome::Outcome;
use crate::output;
use crate::pace;
use crate::server;

/// Publish records by their CIDs, or take them back.
///
/// The line of each has the id of the `publication` that it is queued in.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    input: input::Arguments,

    /// Take them back: they are published no longer.
    #[arg(long)]
    undo: bool,

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
    let outputs = arguments.output.files();
    let input = arguments
        .input
        .find_cids(Some(&arguments.resume), &outputs)?;
    let client = arguments.server.connect(arguments.pace.breaker()).await?;
    let what = match arguments.undo {
        true => "undo of publish",
        false => "publish",
    };
    let checkpoint = input.checkpoint(&[what, &arguments.server.name()])?;
    let lines = arguments.output.open(false, checkpoint.as_ref())?;
    let values = input.cids();
    let options = arguments.pace.options().resume_past_input_errors(true);
    let (outcomes, handle) = match arguments.undo {
        true => {
            let undone = values.values.try_unpublish_from_with(&client, &options);
            let undone = match &checkpoint {
                Some(checkpoint) => undone.resume_from(checkpoint),
                None => undone,
            };
            let handle = undone.handle();
            let outcomes = undone.map(|result| match result {
                Ok(undone) => {
                    let mut outcome = Outcome::new(undone.index, undone.tag, undone.cid);
                    outcome.done.duplicate_of = undone.duplicate_of;
                    outcome
                }
                Err(failed) => Outcome::of_ref(failed),
            });
            (outcomes.boxed(), handle)
        }
        false => {
            let published = values.values.try_publish_to_with(&client, &options);
            let published = match &checkpoint {
                Some(checkpoint) => published.resume_from(checkpoint),
                None => published,
            };
            let handle = published.handle();
            let outcomes = published.map(|result| match result {
                Ok(published) => {
                    let mut outcome = Outcome::new(published.index, published.tag, published.cid);
                    outcome.done.duplicate_of = published.duplicate_of;
                    outcome.done.publication = Some(published.publication);
                    outcome
                }
                Err(failed) => Outcome::of_ref(failed),
            });
            (outcomes.boxed(), handle)
        }
    };
    let job = Job {
        name: what,
        outcomes: outcomes.map(Ok).boxed(),
        handles: vec![handle],
        reached: Some(values.reached),
        checkpoint,
    };
    account(job, lines, &arguments.output).await
}
