//! Reads the results of a pipeline to their end: each becomes a line, and all together a summary.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agntcy_dir_stream::{Checkpoint, Handle};
use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use indicatif::HumanCount;

use crate::exit::Exit;
use crate::input::Reached;
use crate::outcome::Outcome;
use crate::output::{Arguments, Lines};
use crate::progress::Progress;
use crate::report;
use crate::signals::Signals;
use crate::tally::Tally;

/// How long what is in flight has to end when the process is told to.
const GRACE: Duration = Duration::from_secs(5);

/// How many causes the summary shows.
const CAUSES: usize = 5;

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
    let mut tally = Tally::new();
    if let Some(checkpoint) = &checkpoint {
        tally.seen_below = checkpoint.done();
        if tally.seen_below > 0 && !output.quiet {
            eprintln!(
                "going on behind {} inputs that are done",
                HumanCount(tally.seen_below)
            );
        }
    }
    let is_told_to_end = ends_when_told(handles.clone());
    let progress = Progress::begin(handles, reached.clone(), output.quiet);
    let mut broke = None;
    while let Some(outcome) = outcomes.next().await {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                broke = Some(error);
                break;
            }
        };
        tally.count(&outcome);
        if let Err(error) = progress.beside(|| lines.write(&outcome)) {
            progress.end();
            if error.kind() == io::ErrorKind::BrokenPipe {
                return Ok(Exit::OutputClosed);
            }
            return Err(error).context("cannot write the results");
        }
    }
    progress.end();
    // What it holds ends here, such as the hold on the checkpoint.
    drop(outcomes);
    let is_interrupted = is_told_to_end.load(Ordering::Relaxed);
    let unread = reached.and_then(|reached| reached.broke.get().cloned());
    if !output.quiet {
        summarize(name, &tally);
    }
    if let Some(path) = &output.report {
        report::write(path, name, &tally).with_context(|| path.display().to_string())?;
    }
    if let Some(checkpoint) = checkpoint {
        checkpoint
            .save()
            .context("the checkpoint could not be written")?;
        if !is_interrupted && unread.is_none() && checkpoint.done() == tally.seen_below {
            checkpoint.remove()?;
        } else if !output.quiet {
            let done = HumanCount(checkpoint.done());
            eprintln!("{done} are done: the same command goes on there");
        }
    } else if is_interrupted && !output.quiet {
        eprintln!("what has no line was not done: with --checkpoint, a later run goes on there");
    }
    if let Some(unread) = &unread {
        eprintln!("dirstream: {unread}");
    }
    if let Some(error) = broke {
        return Err(error);
    }
    Ok(if is_interrupted {
        Exit::Interrupted
    } else if tally.is_server_away {
        Exit::ServerAway
    } else if tally.failed > 0 || unread.is_some() {
        Exit::SomeFailed
    } else {
        Exit::Well
    })
}

fn summarize(name: &str, tally: &Tally) {
    let mut words = format!("{name}: {} ok", HumanCount(tally.ok));
    if tally.already_stored > 0 {
        words.push_str(&format!(
            " ({} already stored)",
            HumanCount(tally.already_stored)
        ));
    }
    eprintln!(
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
        eprintln!("  {count} {}, such as {place}: {message}", cause.kind);
    }
    if causes.len() > CAUSES {
        eprintln!("  and {} other causes", causes.len() - CAUSES);
    }
}

/// At the first signal the first stage takes no more, and what is in flight has some time to end. A second one ends the
/// process at once.
fn ends_when_told(handles: Vec<Handle>) -> Arc<AtomicBool> {
    let is_told = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_told);
    tokio::spawn(async move {
        let Ok(mut signals) = Signals::new() else {
            return;
        };
        signals.next().await;
        told.store(true, Ordering::Relaxed);
        eprintln!("ending: what is in flight has 5 s; a second Ctrl-C ends at once");
        if let Some((first, others)) = handles.split_first() {
            first.drain(GRACE);
            if tokio::time::timeout(GRACE, signals.next()).await.is_err() {
                for handle in others {
                    handle.drain(Duration::ZERO);
                }
                signals.next().await;
            }
        }
        std::process::exit(Exit::Interrupted as i32);
    });
    is_told
}
