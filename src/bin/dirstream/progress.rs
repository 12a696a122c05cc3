//! What is told on standard error while it goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use agntcy_dir_stream::{Handle, Stats};
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use crate::input::Reached;

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
        let mut watch = Watch::new(handles, reached);
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(if is_drawn { BAR } else { LINE });
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let message = watch.look();
                if is_drawn {
                    if let Some(reached) = &watch.reached {
                        shown.set_position(reached.bytes.load(Ordering::Relaxed));
                    }
                    shown.set_message(message);
                    shown.tick();
                } else if !is_quiet {
                    eprintln!("{message}");
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
    began: Instant,
    /// How many results there were, and since when.
    last: (u64, Instant),
    /// How many faults there were then.
    faults: u64,
}

fn done(stats: &Stats) -> u64 {
    stats.succeeded + stats.failed
}

impl Watch {
    fn new(handles: Vec<Handle>, reached: Option<Arc<Reached>>) -> Self {
        Self {
            handles,
            reached,
            began: Instant::now(),
            last: (0, Instant::now()),
            faults: 0,
        }
    }

    fn look(&mut self) -> String {
        let stats: Vec<_> = self.handles.iter().map(Handle::stats).collect();
        let Some(last) = stats.last() else {
            return String::new();
        };
        let now = Instant::now();
        let faults = stats.iter().map(|stats| stats.faults).sum();
        // What comes out of any of them is progress.
        let results = stats.iter().map(done).sum();
        if results != self.last.0 {
            self.last = (results, now);
            self.faults = faults;
        }
        let elapsed = now - self.began;
        let rate = done(last) as f64 / elapsed.as_secs_f64().max(1e-3);
        let mut message = format!(
            "{} done, {} failed, {}/s",
            HumanCount(done(last)),
            HumanCount(last.failed),
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
        } else if let Some(left) = self.left(elapsed) {
            message.push_str(&format!(", {} left", HumanDuration(left)));
        }
        message
    }

    /// How long it will take, if it goes on as it did.
    fn left(&self, elapsed: Duration) -> Option<Duration> {
        let reached = self.reached.as_ref()?;
        let bytes = reached.bytes.load(Ordering::Relaxed);
        if reached.of == 0 || bytes == 0 || elapsed < SILENCE {
            return None;
        }
        let left = reached.of.saturating_sub(bytes) as f64 / bytes as f64;
        Some(elapsed.mul_f64(left))
    }
}
