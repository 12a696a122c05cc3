//! `dirstream delete`: records away.

use agntcy_dir_stream::prelude::*;
use futures_util::StreamExt as _;

use crate::account::{Job, account};
use crate::exit::Exit;
use crate::input;
use crate::outcome::Outcome;
use crate::output;
use crate::pace;
use crate::server;

/// Delete records by their CIDs. One that is not there counts as deleted.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    input: input::Arguments,
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
    let checkpoint = input.checkpoint(&["delete", &arguments.server.name()])?;
    let lines = arguments.output.open(false, checkpoint.as_ref())?;
    let values = input.cids();
    let options = arguments.pace.options().resume_past_input_errors(true);
    let deleted = values.values.try_delete_from_with(&client, &options);
    let deleted = match &checkpoint {
        Some(checkpoint) => deleted.resume_from(checkpoint),
        None => deleted,
    };
    let handle = deleted.handle();
    let outcomes = deleted.map(|result| match result {
        Ok(deleted) => Outcome::new(deleted.index, deleted.tag, deleted.cid),
        Err(failed) => Outcome::of_ref(failed),
    });
    let job = Job {
        name: "delete",
        outcomes: outcomes.map(Ok).boxed(),
        handles: vec![handle],
        reached: Some(values.reached),
        checkpoint,
    };
    account(job, lines, &arguments.output).await
}
