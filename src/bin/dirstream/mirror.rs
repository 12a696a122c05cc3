//! `dirstream mirror`: one directory as another is.

use std::path::PathBuf;
use std::pin::pin;

use agntcy_dir_stream::{Change, Client};
use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;

use self::keep::{Done, Settings};
use crate::account::{Job, account};
use crate::exit::Exit;
use crate::outcome::{Failure, Outcome, words};
use crate::output;
use crate::pace;
use crate::search::Terms;
use crate::server::Link;

// The example has it alone.
#[path = "../../../examples/mirror/mirror.rs"]
mod keep;

/// Copy what one directory has to another, and keep it so.
///
/// What is there already is left alone. There is a line for each record that was copied or deleted: its `change`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    query: Terms,

    /// The directory that is copied.
    #[arg(long, value_name = "URL", help_heading = "Server")]
    from: String,

    /// Where the copy is.
    #[arg(long, value_name = "URL", help_heading = "Server")]
    to: String,

    /// A file with a token for --from.
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    from_token_file: Option<PathBuf>,

    /// A file with a token for --to.
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    to_token_file: Option<PathBuf>,

    /// Go on with what changes, until it is stopped.
    #[arg(long)]
    follow: bool,

    /// Delete from --to what --from does not have: all that the query does not find, too.
    #[arg(long)]
    delete: bool,

    #[command(flatten)]
    link: Link,
    #[command(flatten)]
    pace: pace::Arguments,
    #[command(flatten)]
    output: output::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let query = arguments.query.query()?;
    let lines = arguments.output.open(false)?;
    let connect = async |url: &str, token| {
        // The environment's token is for one server, and here are two.
        let builder = || Ok(Client::builder(url));
        let breaker = arguments.pace.breaker();
        let connected = arguments.link.connect(builder, token, breaker);
        connected.await.with_context(|| format!("to {url}"))
    };
    let from = connect(&arguments.from, arguments.from_token_file.as_deref()).await?;
    let to = connect(&arguments.to, arguments.to_token_file.as_deref()).await?;
    let settings = Settings {
        options: arguments.pace.options(),
        deletes: arguments.delete,
    };
    let (changes, handle) = match arguments.follow {
        true => {
            let changes = from.follow_with(query, &settings.options);
            let handle = changes.handle();
            (changes.boxed(), handle)
        }
        false => {
            let found = from.search_with(query, &settings.options);
            let handle = found.handle();
            // Of one that fails in the middle, the end is never told.
            let all = stream::once(std::future::ready(Ok(Change::InitDone)));
            (found.map_ok(Change::InitApply).chain(all).boxed(), handle)
        }
    };
    let outcomes = async_stream::stream! {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut index = 0;
        let done = |done: Done<'_>| {
            // Somebody receives as long as this is polled.
            let _ = sender.send(outcome(index, done));
            index += 1;
        };
        let mut kept = pin!(keep::mirror(&from, &to, changes, &settings, done));
        let ended = loop {
            tokio::select! {
                biased;
                Some(outcome) = receiver.recv() => yield Ok(outcome),
                ended = &mut kept => break ended,
            }
        };
        while let Ok(outcome) = receiver.try_recv() {
            yield Ok(outcome);
        }
        if let Err(error) = ended {
            yield Err(anyhow::Error::new(error).context("cannot go on"));
        }
    };
    let job = Job {
        name: "mirror",
        outcomes: outcomes.boxed(),
        handles: vec![handle],
        reached: None,
        checkpoint: None,
    };
    account(job, lines, &arguments.output).await
}

fn outcome(index: u64, done: Done<'_>) -> Outcome {
    let (cid, change) = match done {
        Done::Pushed(cid) => (cid, "pushed"),
        Done::Deleted(cid) => (cid, "deleted"),
        Done::Failed(cid, error) => {
            let failure = Failure {
                stage: "mirror",
                kind: error.kind(),
                message: words(error),
                attempts: 0,
                cid: Some(cid),
            };
            return Outcome::failed(index, None, failure);
        }
    };
    let mut outcome = Outcome::new(index, None, cid);
    outcome.done.change = Some(change);
    outcome
}
