//! `dirstream referrers`: signatures, keys and reports beside records.

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{
    TryDeleteReferrersResult, TryFailed, TryPullReferrersResult, TryPushReferrerResult,
};
use futures_util::StreamExt as _;

use crate::exit::Exit;
use crate::input::{Origin, Unread, Value};
use crate::outcome::{Outcome, referrer};
use crate::work;

/// Push, pull and delete what refers to records: signatures, public keys, reports.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Push referrers: each is an object with `cid`, which is the record's, `type`, such as agntcy.dir.sign.v1.Signature or
    /// agntcy.dir.sign.v1.PublicKey, `data`, and, if wanted, `annotations` and `created_at`.
    Push(Push),
    /// Pull the referrers of records: a line for each record. `jq -c '.referrers[]'` makes of it what a push takes.
    Pull(Refs),
    /// Delete the referrers of records.
    Delete(Refs),
}

#[derive(clap::Args)]
pub(crate) struct Push {
    #[command(flatten)]
    work: work::Arguments,
}

#[derive(clap::Args)]
pub(crate) struct Refs {
    /// Only those of this type, such as agntcy.dir.sign.v1.Signature.
    #[arg(long = "type", value_name = "TYPE")]
    of_type: Option<String>,

    #[command(flatten)]
    work: work::Arguments,
}

/// What comes back with a ref: the CID, and where it came from.
type Tag = (Cid, Option<Origin>);

pub(crate) async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Push(arguments) => push(arguments).await,
        Command::Pull(arguments) => pull(arguments).await,
        Command::Delete(arguments) => delete(arguments).await,
    }
}

async fn push(arguments: Push) -> anyhow::Result<Exit> {
    const NAME: &str = "push of referrers";
    let input = arguments.work.files()?;
    let work = arguments.work.begin(&input, &[NAME], false).await?;
    let referrers = input.referrers();
    let pushed = referrers
        .values
        .try_push_referrers_to_with(&work.client, &work.options);
    let outcome = |result: TryPushReferrerResult<Unread, Option<Origin>>| {
        Ok(match result {
            Ok(pushed) => {
                let mut outcome = Outcome::new(pushed.index, pushed.tag, pushed.record);
                outcome.done.already_stored = Some(pushed.already_stored);
                outcome
            }
            Err(TryFailed::Input(unread)) => Outcome::unread(unread.index, unread.error),
            Err(TryFailed::Item(failed)) => {
                let (failed, origin) = failed.take_tag();
                let record = failed.input.record;
                Outcome::of_item(failed, origin, Some(record))
            }
        })
    };
    work.account_for(NAME, referrers.reached, pushed, outcome)
        .await
}

/// Which referrers are meant of each record.
fn meant(of_type: Option<String>) -> impl Fn(Value<Cid>) -> Result<(ReferrersOf, Tag), Unread> {
    move |value| {
        let (cid, origin) = value?;
        let referrers = match &of_type {
            Some(of_type) => ReferrersOf::new(cid).of_type(of_type),
            None => ReferrersOf::new(cid),
        };
        Ok((referrers, (cid, origin)))
    }
}

fn of_failed(failed: TryFailed<Unread, ReferrersOf, Tag>) -> Outcome {
    match failed {
        TryFailed::Input(unread) => Outcome::unread(unread.index, unread.error),
        TryFailed::Item(failed) => {
            let (failed, (cid, origin)) = failed.take_tag();
            Outcome::of_item(failed, origin, Some(cid))
        }
    }
}

async fn pull(arguments: Refs) -> anyhow::Result<Exit> {
    const NAME: &str = "pull of referrers";
    let input = arguments.work.cids()?;
    let what = [NAME, arguments.of_type.as_deref().unwrap_or_default()];
    let work = arguments.work.begin(&input, &what, false).await?;
    let cids = input.cids();
    let refs = cids.values.map(meant(arguments.of_type.clone()));
    let pulled = refs.try_pull_referrers_from_with(&work.client, &work.options);
    let outcome = |result: TryPullReferrersResult<Unread, ReferrersOf, Tag>| {
        Ok(match result {
            Ok(pulled) => {
                let (cid, origin) = pulled.tag;
                let mut outcome = Outcome::new(pulled.index, origin, cid);
                outcome.done.referrers = Some(pulled.referrers.iter().map(referrer).collect());
                outcome
            }
            Err(failed) => of_failed(failed),
        })
    };
    work.account_for(NAME, cids.reached, pulled, outcome).await
}

async fn delete(arguments: Refs) -> anyhow::Result<Exit> {
    const NAME: &str = "delete of referrers";
    let input = arguments.work.cids()?;
    let what = [NAME, arguments.of_type.as_deref().unwrap_or_default()];
    let work = arguments.work.begin(&input, &what, false).await?;
    let cids = input.cids();
    let refs = cids.values.map(meant(arguments.of_type.clone()));
    let deleted = refs.try_delete_referrers_from_with(&work.client, &work.options);
    let outcome = |result: TryDeleteReferrersResult<Unread, ReferrersOf, Tag>| {
        Ok(match result {
            Ok(deleted) => {
                let (cid, origin) = deleted.tag;
                let mut outcome = Outcome::new(deleted.index, origin, cid);
                let cids = deleted.referrers.iter().map(|cid| cid.to_string().into());
                outcome.done.referrers = Some(cids.collect());
                outcome
            }
            Err(failed) => of_failed(failed),
        })
    };
    work.account_for(NAME, cids.reached, deleted, outcome).await
}
