//! `dirstream delete`: records away.

use agntcy_dir_stream::TryDeleteResult;
use agntcy_dir_stream::prelude::*;

use crate::exit::Exit;
use crate::input::{Origin, Unread};
use crate::outcome::Outcome;
use crate::work;

/// Delete records by their CIDs. One that is not there counts as deleted.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    work: work::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let input = arguments.work.cids()?;
    let work = arguments.work.begin(&input, &["delete"], false).await?;
    let cids = input.cids();
    let deleted = cids
        .values
        .try_delete_from_with(&work.client, &work.options);
    let outcome = |result: TryDeleteResult<Unread, Cid, Option<Origin>>| match result {
        Ok(deleted) => Ok(Outcome::new(deleted.index, deleted.tag, deleted.cid)),
        Err(failed) => Ok(Outcome::of_ref(failed)),
    };
    work.account_for("delete", cids.reached, deleted, outcome)
        .await
}
