//! `dirstream publish`: records that others find.

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{TryPublishResult, TryUnpublishResult};

use crate::exit::Exit;
use crate::input::{Origin, Unread};
use crate::outcome::Outcome;
use crate::work;

/// Publish records by their CIDs, or take them back.
///
/// The line of each has the id of the `publication` that it is queued in. A server queues what it does not have, too.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Take them back: they are published no longer.
    #[arg(long)]
    undo: bool,

    #[command(flatten)]
    work: work::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let input = arguments.work.cids()?;
    let name = match arguments.undo {
        true => "undo of publish",
        false => "publish",
    };
    let work = arguments.work.begin(&input, &[name], false).await?;
    let cids = input.cids();
    if arguments.undo {
        let undone = cids
            .values
            .try_unpublish_from_with(&work.client, &work.options);
        let outcome = |result: TryUnpublishResult<Unread, Cid, Option<Origin>>| {
            Ok(match result {
                Ok(undone) => {
                    let mut outcome = Outcome::new(undone.index, undone.tag, undone.cid);
                    outcome.done.duplicate_of = undone.duplicate_of;
                    outcome
                }
                Err(failed) => Outcome::of_ref(failed),
            })
        };
        return work.account_for(name, cids.reached, undone, outcome).await;
    }
    let published = cids.values.try_publish_to_with(&work.client, &work.options);
    let outcome = |result: TryPublishResult<Unread, Cid, Option<Origin>>| {
        Ok(match result {
            Ok(published) => {
                let mut outcome = Outcome::new(published.index, published.tag, published.cid);
                outcome.done.duplicate_of = published.duplicate_of;
                outcome.done.publication = Some(published.publication);
                outcome
            }
            Err(failed) => Outcome::of_ref(failed),
        })
    };
    work.account_for(name, cids.reached, published, outcome)
        .await
}
