//! `dirstream referrers`: signatures, keys and reports beside records.

use agntcy_dir_stream::TryFailed;
use agntcy_dir_stream::prelude::*;
use futures_util::StreamExt as _;

use crate::account::{Job, account};
use crate::exit::Exit;
use crate::input;
use crate::outcome::{Outcome, referrer};
use crate::output;
use crate::pace;
use crate::server;

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

#[derive(clap::Args)]
pub(crate) struct Refs {
    #[command(flatten)]
    input: input::Arguments,

    /// Only those of this type, such as agntcy.dir.sign.v1.Signature.
    #[arg(long = "type", value_name = "TYPE")]
    of_type: Option<String>,

    #[command(flatten)]
    pace: pace::Arguments,
    #[command(flatten)]
    server: server::Arguments,
    #[command(flatten)]
    output: output::Arguments,
}

pub(crate) async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Push(arguments) => push(arguments).await,
        Command::Pull(arguments) => pull(arguments).await,
        Command::Delete(arguments) => delete(arguments).await,
    }
}

async fn push(arguments: Push) -> anyhow::Result<Exit> {
    let outputs = arguments.output.files();
    let input = arguments.input.find(Some(&arguments.resume), &outputs)?;
    let client = arguments.server.connect(arguments.pace.breaker()).await?;
    let checkpoint = input.checkpoint(&["push of referrers", &arguments.server.name()])?;
    let lines = arguments.output.open(false, checkpoint.as_ref())?;
    let values = input.referrers();
    let options = arguments.pace.options().resume_past_input_errors(true);
    let pushed = values.values.try_push_referrers_to_with(&client, &options);
    let pushed = match &checkpoint {
        Some(checkpoint) => pushed.resume_from(checkpoint),
        None => pushed,
    };
    let handle = pushed.handle();
    let outcomes = pushed.map(|result| match result {
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
    });
    let job = Job {
        name: "push of referrers",
        outcomes: outcomes.map(Ok).boxed(),
        handles: vec![handle],
        reached: Some(values.reached),
        checkpoint,
    };
    account(job, lines, &arguments.output).await
}

/// What is meant of each record.
fn meant(of_type: Option<String>) -> impl Fn(Cid) -> ReferrersOf {
    move |cid| match &of_type {
        Some(of_type) => ReferrersOf::new(cid).of_type(of_type),
        None => ReferrersOf::new(cid),
    }
}

async fn pull(arguments: Refs) -> anyhow::Result<Exit> {
    let input = arguments.input.find_cids(None, &arguments.output.files())?;
    let client = arguments.server.connect(arguments.pace.breaker()).await?;
    let lines = arguments.output.open(false, None)?;
    let values = input.cids();
    let meant = meant(arguments.of_type);
    let refs = values.values.map(move |value| {
        let (cid, origin) = value?;
        Ok((meant(cid), (cid, origin)))
    });
    let pulled = refs.try_pull_referrers_from_with(&client, &arguments.pace.options());
    let handle = pulled.handle();
    let outcomes = pulled.map(|result| match result {
        Ok(pulled) => {
            let (cid, origin) = pulled.tag;
            let mut outcome = Outcome::new(pulled.index, origin, cid);
            outcome.done.referrers = Some(pulled.referrers.iter().map(referrer).collect());
            outcome
        }
        Err(TryFailed::Input(unread)) => Outcome::unread(unread.index, unread.error),
        Err(TryFailed::Item(failed)) => {
            let (failed, (cid, origin)) = failed.take_tag();
            Outcome::of_item(failed, origin, Some(cid))
        }
    });
    let job = Job {
        name: "pull of referrers",
        outcomes: outcomes.map(Ok).boxed(),
        handles: vec![handle],
        reached: Some(values.reached),
        checkpoint: None,
    };
    account(job, lines, &arguments.output).await
}

async fn delete(arguments: Refs) -> anyhow::Result<Exit> {
    let input = arguments.input.find_cids(None, &arguments.output.files())?;
    let client = arguments.server.connect(arguments.pace.breaker()).await?;
    let lines = arguments.output.open(false, None)?;
    let values = input.cids();
    let meant = meant(arguments.of_type);
    let refs = values.values.map(move |value| {
        let (cid, origin) = value?;
        Ok((meant(cid), (cid, origin)))
    });
    let deleted = refs.try_delete_referrers_from_with(&client, &arguments.pace.options());
    let handle = deleted.handle();
    let outcomes = deleted.map(|result| match result {
        Ok(deleted) => {
            let (cid, origin) = deleted.tag;
            let mut outcome = Outcome::new(deleted.index, origin, cid);
            let cids = deleted.referrers.iter().map(|cid| cid.to_string().into());
            outcome.done.referrers = Some(cids.collect());
            outcome
        }
        Err(TryFailed::Input(unread)) => Outcome::unread(unread.index, unread.error),
        Err(TryFailed::Item(failed)) => {
            let (failed, (cid, origin)) = failed.take_tag();
            Outcome::of_item(failed, origin, Some(cid))
        }
    });
    let job = Job {
        name: "delete of referrers",
        outcomes: outcomes.map(Ok).boxed(),
        handles: vec![handle],
        reached: Some(values.reached),
        checkpoint: None,
    };
    account(job, lines, &arguments.output).await
}
