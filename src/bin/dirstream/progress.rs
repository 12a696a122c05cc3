//! What is told on standard error while it goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use agntcy_dir_stream::Handle;
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use crate::input::Reached;
use crate::say::say;
use crate::tally::Counts;

/// How often the bar is drawn, and how often a line is printed where there is none.
const BAR: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(10);

/// How long nothing may come until it is said.
const SILENCE: Duration = Duration::from_secs(2);

pub(crate) struct Progress {
    bar: ProgressBar,
    task: JoinHandle<()>,
}

impl Progress {
    /// Tells of these adapters, in the order of the pipeline.
    pub(crate) fn begin(
        handles: Vec<Handle>,
        reached: Option<Arc<Reached>>,
        counts: Arc<Counts>,
        is_quiet: bool,
    ) -> Self {
        let bar = match is_quiet {
            true => ProgressBar::hidden(),
            false => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
        };
        let is_drawn = !bar.is_hidden();
        let template = match &reached {
            Some(reached) if reached.of > 0 => {
                bar.set_length(reached.of);
                "{bar:24} {percent:>3} %  {wide_msg}"
            }
            _ => "{spinner} {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let mut watch = Watch::new(handles, reached, counts);
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(if is_drawn { BAR } else { LINE });
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let message = watch.look();
                if is_drawn {
                    shown.set_position(watch.position() as u64);
                    shown.set_message(message);
                    shown.tick();
                } else if !is_quiet {
                    say!("{message}");
                }
            }
        });
        Self { bar, task }
    }

    /// Runs this while no bar is in the way.
    pub(crate) fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    pub(crate) fn end(self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

/// Looks at adapters now and then.
struct Watch {
    handles: Vec<Handle>,
    reached: Option<Arc<Reached>>,
    counts: Arc<Counts>,
    began: Instant,
    /// How many results there were in all stages, and since when.
    last: (u64, Instant),
    /// How many faults there were then.
    faults: u64,
}

impl Watch {
    fn new(handles: Vec<Handle>, reached: Option<Arc<Reached>>, counts: Arc<Counts>) -> Self {
        Self {
            handles,
            reached,
            counts,
            began: Instant::now(),
            last: (0, Instant::now()),
            faults: 0,
        }
    }

    fn look(&mut self) -> String {
        let now = Instant::now();
        let done = self.counts.done.load(Ordering::Relaxed);
        let failed = self.counts.failed.load(Ordering::Relaxed);
        let stats: Vec<_> = self.handles.iter().map(Handle::stats).collect();
        let faults = stats.iter().map(|stats| stats.faults).sum();
        // What comes out of any of them is progress.
        let results = stats.iter().map(|stats| stats.succeeded + stats.failed);
        let results = results.sum::<u64>() + done;
        if results != self.last.0 {
            self.last = (results, now);
            self.faults = faults;
        }
        let elapsed = now - self.began;
        let rate = done as f64 / elapsed.as_secs_f64().max(1e-3);
        let mut message = format!(
            "{} done, {} failed, {}/s",
            HumanCount(done),
            HumanCount(failed),
            HumanCount(rate as u64)
        );
        let silence = now - self.last.1;
        let fault = self.handles.iter().rev().find_map(Handle::last_fault);
        if silence >= SILENCE && faults > self.faults {
            let since = silence.as_secs();
            let fault = fault.unwrap_or_default();
            message.push_str(&format!(
                ", waiting for the server since {since} s: {fault}"
            ));
        } else if let Some(left) = self.left(done, elapsed) {
            message.push_str(&format!(", {} left", HumanDuration(left)));
        }
        message
    }

    /// How many bytes of the inputs are done: about, by how many values they have.
    fn position(&self) -> f64 {
        let Some(reached) = &self.reached else {
            return 0.0;
        };
        let bytes = reached.bytes.load(Ordering::Relaxed) as f64;
        let values = reached.values.load(Ordering::Relaxed).max(1) as f64;
        let seen = self.counts.seen_below.load(Ordering::Relaxed) as f64;
        bytes * (seen / values).min(1.0)
    }

    /// How long it will take, if it goes on as it did.
    fn left(&self, done: u64, elapsed: Duration) -> Option<Duration> {
        let reached = self.reached.as_ref().filter(|reached| reached.of > 0)?;
        let position = self.position();
        if done == 0 || position < 1.0 || elapsed < SILENCE {
            return None;
        }
        // Of what an earlier run has done, nothing can be told.
        let seen = self.counts.seen_below.load(Ordering::Relaxed) as f64;
        let a_value = position / seen;
        let left = (reached.of as f64 - position).max(0.0) / a_value;
        Some(elapsed.mul_f64(left / done as f64))
    }
}
