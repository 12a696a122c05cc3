//! Reads the results of a pipeline to their end: each becomes a line, and all together a summary.

use std::sync::Arc;
use std::time::Duration;

use agntcy_dir_stream::{Checkpoint, Handle};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use indicatif::HumanCount;
use tokio::sync::watch;

use crate::exit::{self, Exit};
use crate::input::Reached;
use crate::outcome::Outcome;
use crate::output::{Arguments, Lines};
use crate::progress::Progress;
use crate::report;
use crate::say::say;
use crate::signals::Signals;
use crate::tally::{Counts, Tally};

/// How long what is in flight has to end when the process is told to.
const GRACE: Duration = Duration::from_secs(5);

/// How long signals count as one.
const TOGETHER: Duration = Duration::from_millis(50);

/// How many causes the summary shows.
const CAUSES: usize = 5;

/// How many characters of a message it shows. Some servers say the same again and again.
const MESSAGE: usize = 300;

/// A pipeline that is set up.
pub(crate) struct Job {
    /// What it is, in a word: `push`.
    pub(crate) name: &'static str,
    pub(crate) outcomes: BoxStream<'static, anyhow::Result<Outcome>>,
    /// Of its stages, in their order.
    pub(crate) handles: Vec<Handle>,
    pub(crate) reached: Option<Arc<Reached>>,
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// How far the process is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It is not.
    No,
    /// What is in flight has some time.
    Ending,
    /// The time is up.
    Over,
}

pub(crate) async fn account(
    job: Job,
    mut lines: Lines,
    output: &Arguments,
) -> anyhow::Result<Exit> {
    let Job {
        name,
        mut outcomes,
        handles,
        reached,
        checkpoint,
    } = job;
    let is_quiet = output.quiet;
    let mut tally = Tally::new();
    let counts = Arc::new(Counts::default());
    let has_stages = handles.len() > 1;
    if let Some(checkpoint) = &checkpoint {
        tally.seen_below = checkpoint.done();
        if tally.seen_below > 0 && !is_quiet {
            say!(
                "going on behind {} inputs that are done",
                HumanCount(tally.seen_below)
            );
        }
    }
    let mut told = ends_when_told(handles.clone(), is_quiet);
    let progress = Progress::begin(handles, reached.clone(), Arc::clone(&counts), is_quiet);
    let (mut broke, mut has_ended) = (None, false);
    loop {
        let outcome = tokio::select! {
            biased;
            outcome = outcomes.next() => outcome,
            _ = told.wait_for(|told| *told == Told::Over) => break,
        };
        let outcome = match outcome {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => {
                broke = Some(error);
                break;
            }
            None => {
                has_ended = true;
                break;
            }
        };
        tally.count(&outcome);
        counts.show(&tally);
        let written = match lines.is_terminal {
            true => progress.beside(|| lines.write(&outcome)),
            false => lines.write(&outcome),
        };
        if let Err(error) = written {
            broke = Some(anyhow::Error::new(error).context("cannot write the results"));
            break;
        }
    }
    progress.end();
    // What it holds ends here, such as the hold on the checkpoint.
    drop(outcomes);
    let is_interrupted = *told.borrow() != Told::No;
    if broke.as_ref().is_some_and(exit::says_output_closed) {
        return Ok(Exit::OutputClosed);
    }
    if !is_quiet {
        summarize(name, &tally);
    }
    let unread = reached.and_then(|reached| reached.broke.get().cloned());
    let is_all = has_ended && !is_interrupted && unread.is_none();
    let mut has_broken = unread.is_some();
    if let Some(checkpoint) = checkpoint {
        let done = checkpoint.done();
        let is_done = is_all && done == tally.seen_below;
        let settled = match is_done {
            true => checkpoint.remove(),
            false => checkpoint.save(),
        };
        if let Err(error) = settled {
            exit::because_of(&anyhow::Error::new(error).context("the checkpoint"));
            has_broken = true;
        } else if !is_done && !is_quiet {
            let done = HumanCount(done);
            say!("{done} are done: the same command goes on there");
        }
    } else if is_interrupted && !is_quiet {
        match has_stages {
            true => say!("what has no line was not finished, though it may be stored"),
            false => say!("what has no line was not done"),
        }
    }
    if let Some(unread) = unread {
        say!("dirstream: {unread}");
    }
    // That it was told to end is no news.
    let is_news = |error: &anyhow::Error| !is_interrupted || !exit::says_incomplete(error);
    if let Some(error) = broke.filter(is_news) {
        exit::because_of(&error);
        tally.is_server_away |= exit::says_server_away(&error);
        has_broken = true;
    }
    if let Some(path) = &output.report
        && let Err(error) = report::write(path, name, &tally)
    {
        exit::because_of(&error.context(path.display().to_string()));
        has_broken = true;
    }
    Ok(if is_interrupted {
        Exit::Interrupted
    } else if tally.is_server_away {
        Exit::ServerAway
    } else if tally.failed > 0 || has_broken {
        Exit::SomeFailed
    } else {
        Exit::Well
    })
}

fn summarize(name: &str, tally: &Tally) {
    let mut words = format!("{name}: {} ok", HumanCount(tally.ok));
    if tally.already_stored > 0 {
        let stored = HumanCount(tally.already_stored);
        words.push_str(&format!(" ({stored} already stored)"));
    }
    say!(
        "{words}, {} failed in {}, {}/s",
        HumanCount(tally.failed),
        tally.took(),
        HumanCount(tally.a_second() as u64)
    );
    let causes = tally.by_count();
    for (cause, failures) in causes.iter().take(CAUSES) {
        let Some((place, message)) = failures.examples.first() else {
            continue;
        };
        let count = HumanCount(failures.count);
        let cut: String = message.chars().take(MESSAGE).collect();
        let more = if cut == *message { "" } else { "…" };
        say!("  {count} {}, such as {place}: {cut}{more}", cause.kind);
    }
    if causes.len() > CAUSES {
        say!("  and {} other causes", causes.len() - CAUSES);
    }
}

/// At the first signal the first stage takes no more, and what is in flight has some time to end. A second one ends the
/// process at once.
fn ends_when_told(handles: Vec<Handle>, is_quiet: bool) -> watch::Receiver<Told> {
    let (told, receiver) = watch::channel(Told::No);
    tokio::spawn(async move {
        let Ok(mut signals) = Signals::new() else {
            // Then a signal ends it as it would any.
            told.closed().await;
            return;
        };
        signals.next().await;
        // Some programs send a signal to the process and to its group: that is one.
        tokio::time::sleep(TOGETHER).await;
        signals.forget();
        told.send_replace(Told::Ending);
        if !is_quiet {
            let said = tokio::task::spawn_blocking(|| {
                say!("ending: what is in flight has 5 s; a second Ctrl-C ends at once");
            });
            // Nobody may be there to hear it.
            let _ = tokio::time::timeout(2 * TOGETHER, said).await;
        }
        if let Some(first) = handles.first() {
            first.drain(GRACE);
        }
        if tokio::time::timeout(GRACE, signals.next()).await.is_err() {
            // The other stages have what they have.
            for handle in handles.iter().skip(1) {
                handle.drain(Duration::ZERO);
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), signals.next()).await;
            told.send_replace(Told::Over);
            // Whoever is at it may be stuck at its output.
            let _ = tokio::time::timeout(Duration::from_secs(2), signals.next()).await;
        }
        std::process::exit(Exit::Interrupted as i32);
    });
    receiver
}
