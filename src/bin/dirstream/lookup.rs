//! `dirstream lookup`: what the server says of records.

use agntcy_dir_stream::prelude::*;
use futures_util::StreamExt as _;

use crate::account::{Job, account};
use crate::exit::Exit;
use crate::input;
use crate::outcome::Outcome;
use crate::output;
use crate::pace;
use crate::server;

/// Look records up: their metadata, or whether they are there.
///
/// A record that is not there is a failure, unless --exists is given.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    input: input::Arguments,

    /// Only say whether each is there.
    #[arg(long)]
    exists: bool,

    #[command(flatten)]
    pace: pace::Arguments,
    #[command(flatten)]
    server: server::Arguments,
    #[command(flatten)]
    output: output::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let input = arguments.input.find_cids(None, &arguments.output.files())?;
    let client = arguments.server.connect(arguments.pace.breaker()).await?;
    let lines = arguments.output.open(false, None)?;
    let values = input.cids();
    let options = arguments.pace.options();
    let (outcomes, handle) = match arguments.exists {
        true => {
            let found = values.values.try_exists_in_with(&client, &options);
            let handle = found.handle();
            let outcomes = found.map(|result| match result {
                Ok(found) => {
                    let mut outcome = Outcome::new(found.index, found.tag, found.cid);
                    outcome.done.duplicate_of = found.duplicate_of;
                    outcome.done.exists = Some(found.exists);
                    outcome
                }
                Err(failed) => Outcome::of_ref(failed),
            });
            (outcomes.boxed(), handle)
        }
        false => {
            let found = values.values.try_lookup_in_with(&client, &options);
            let handle = found.handle();
            let outcomes = found.map(|result| match result {
                Ok(found) => {
                    let mut outcome = Outcome::new(found.index, found.tag, found.cid);
                    outcome.done.duplicate_of = found.duplicate_of;
                    outcome.done.schema_version = Some(found.schema_version);
                    outcome.done.created_at = Some(found.created_at);
                    outcome.done.annotations = found.annotations;
                    outcome
                }
                Err(failed) => Outcome::of_ref(failed),
            });
            (outcomes.boxed(), handle)
        }
    };
    let job = Job {
        name: "lookup",
        outcomes: outcomes.map(Ok).boxed(),
        handles: vec![handle],
        reached: Some(values.reached),
        checkpoint: None,
    };
    account(job, lines, &arguments.output).await
}
