//! `dirstream lookup`: what the server says of records.

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{TryExistsResult, TryLookupResult};

use crate::exit::Exit;
use crate::input::{Origin, Unread};
use crate::outcome::Outcome;
use crate::work;

/// Look records up: their metadata, or whether they are there.
///
/// A record that is not there is a failure, unless --exists is given.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only say whether each is there.
    #[arg(long)]
    exists: bool,

    #[command(flatten)]
    work: work::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let input = arguments.work.cids()?;
    let name = match arguments.exists {
        true => "lookup of existence",
        false => "lookup",
    };
    let work = arguments.work.begin(&input, &[name], false).await?;
    let cids = input.cids();
    if arguments.exists {
        let found = cids.values.try_exists_in_with(&work.client, &work.options);
        let outcome = |result: TryExistsResult<Unread, Cid, Option<Origin>>| {
            Ok(match result {
                Ok(found) => {
                    let mut outcome = Outcome::new(found.index, found.tag, found.cid);
                    outcome.done.duplicate_of = found.duplicate_of;
                    outcome.done.exists = Some(found.exists);
                    outcome
                }
                Err(failed) => Outcome::of_ref(failed),
            })
        };
        return work.account_for(name, cids.reached, found, outcome).await;
    }
    let found = cids.values.try_lookup_in_with(&work.client, &work.options);
    let outcome = |result: TryLookupResult<Unread, Cid, Option<Origin>>| {
        Ok(match result {
            Ok(found) => {
                let mut outcome = Outcome::new(found.index, found.tag, found.cid);
                outcome.done.duplicate_of = found.duplicate_of;
                outcome.done.schema_version = Some(found.schema_version);
                outcome.done.created_at = Some(found.created_at);
                outcome.done.annotations = found.annotations;
                outcome
            }
            Err(failed) => Outcome::of_ref(failed),
        })
    };
    work.account_for(name, cids.reached, found, outcome).await
}
