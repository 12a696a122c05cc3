//! `dirstream mirror`: one directory as another is.

use std::collections::HashSet;
use std::future::ready;
use std::path::PathBuf;
use std::pin::pin;

use agntcy_dir_stream::{Change, Cid, Client, Error, ErrorKind, FollowResult};
use anyhow::{Context as _, ensure};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
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
/// What is there already is left alone. There is a line for each record that was copied or deleted: its `change`. Referrers
/// are not copied: `referrers pull` and `referrers push` do that.
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
    let name = |url: &str| url.trim_end_matches('/').to_ascii_lowercase();
    ensure!(
        name(&arguments.from) != name(&arguments.to),
        "--from and --to are the same"
    );
    let connect = async |side: &str, url: &str, token| {
        // The environment's token is for one server, and here are two.
        let builder = || Ok(Client::builder(url));
        let breaker = arguments.pace.breaker();
        let connected = arguments.link.connect(builder, token, breaker);
        connected.await.with_context(|| side.to_owned())
    };
    let from_token = arguments.from_token_file.as_deref();
    let from = connect("--from", &arguments.from, from_token).await?;
    let to = connect("--to", &arguments.to, arguments.to_token_file.as_deref()).await?;
    let lines = arguments.output.open(false, None)?;
    let settings = Settings {
        options: arguments.pace.options(),
        deletes: arguments.delete,
        tries_again: arguments.follow,
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
            let all = stream::once(ready(Ok(Change::InitDone)));
            (found.map_ok(Change::InitApply).chain(all).boxed(), handle)
        }
    };
    let changes = match arguments.delete {
        true => unless_empty(changes).boxed(),
        false => changes,
    };
    let follows = arguments.follow;
    let outcomes = async_stream::stream! {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut told = Told::new(follows);
        let done = |done: Done<'_>| {
            if let Some(outcome) = told.tell(done) {
                // Somebody receives as long as this is polled.
                let _ = sender.send(outcome);
            }
        };
        let ended = {
            let mut kept = pin!(keep::mirror(&from, &to, changes, &settings, done));
            loop {
                tokio::select! {
                    biased;
                    Some(outcome) = receiver.recv() => yield Ok(outcome),
                    ended = &mut kept => break ended,
                }
            }
        };
        while let Ok(outcome) = receiver.try_recv() {
            yield Ok(outcome);
        }
        if let Err(error) = ended {
            yield Err(error.into());
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

/// The same, with an error in place of the end of a first list that is empty: to delete all is hardly meant.
fn unless_empty(changes: impl Stream<Item = FollowResult>) -> impl Stream<Item = FollowResult> {
    let mut is_empty = true;
    changes.map(move |change| {
        is_empty &= !matches!(change, Ok(Change::InitApply(_)));
        match change {
            Ok(Change::InitDone) if is_empty => Err(Error::new(
                ErrorKind::Invalid,
                "--from has nothing that matches, and --delete would delete all of --to; if that is meant: \
                 `dirstream search | dirstream delete -`",
            )),
            change => change,
        }
    })
}

/// What has been told of records, each of which a follower may try more than once.
struct Told {
    follows: bool,
    index: u64,
    /// What has failed, and has not succeeded since.
    failed: HashSet<Cid>,
}

impl Told {
    fn new(follows: bool) -> Self {
        Self {
            follows,
            index: 0,
            failed: HashSet::new(),
        }
    }

    /// A line, unless its failure was told before.
    fn tell(&mut self, done: Done<'_>) -> Option<Outcome> {
        let (cid, change) = match done {
            Done::Pushed(cid) => (cid, "pushed"),
            Done::Deleted(cid) => (cid, "deleted"),
            // It went away meanwhile. To a follower, that is told next.
            Done::Failed(_, error) if self.follows && error.kind() == ErrorKind::NotFound => {
                return None;
            }
            Done::Failed(cid, error) => {
                if !self.failed.insert(cid) {
                    return None;
                }
                let failure = Failure {
                    stage: "mirror",
                    kind: error.kind(),
                    message: words(error),
                    attempts: 0,
                    cid: Some(cid),
                };
                return Some(Outcome::failed(self.next_index(), None, failure));
            }
        };
        self.failed.remove(&cid);
        let mut outcome = Outcome::new(self.next_index(), None, cid);
        outcome.done.change = Some(change);
        Some(outcome)
    }

    fn next_index(&mut self) -> u64 {
        self.index += 1;
        self.index - 1
    }
}
