//! The time that an adapter waits, and the one timer that wakes it.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Id;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::engine::waited::Waited;
use crate::runtime;

/// Counts the time between a poll that found nothing to do and the next poll, and the time that such polls take. Time
/// in which the consumer works on a result does not count.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    waited: Waited,
    /// Since when it waits, and until when at most. If the consumer stops polling, time beyond the timer does not
    /// count.
    waits: Option<(Instant, Option<Instant>)>,
    /// When the current poll began, if it followed one that found nothing to do.
    polled: Option<Instant>,
    /// The timer, and the runtime that it belongs to.
    sleep: Option<(Id, Pin<Box<Sleep>>)>,
}

impl Clock {
    /// How long the adapter has waited so far, in all.
    pub(crate) fn waited(&self) -> Waited {
        self.waited
    }

    /// The adapter is polled again.
    pub(crate) fn resume(&mut self) {
        self.polled = self.waits.take().map(|(since, until)| {
            let now = Instant::now();
            let end = until.map_or(now, |until| until.min(now));
            self.waited.add(end.saturating_duration_since(since));
            now
        });
    }

    /// Counts what this poll has taken so far.
    pub(crate) fn count(&mut self, now: Instant) {
        if let Some(polled) = self.polled.replace(now) {
            self.waited.add(now.saturating_duration_since(polled));
        }
    }

    /// The adapter waits from now on, until `deadline` at most.
    pub(crate) fn pause(&mut self, now: Instant, deadline: Option<Instant>) {
        self.waits = Some((now, deadline));
    }

    /// It has not waited since the last [`pause`](Self::pause).
    pub(crate) fn rest(&mut self) {
        self.waits = None;
    }

    /// When, if it waits from now on, it will have waited so long in all.
    pub(crate) fn at(&self, now: Instant, waited: Waited) -> Option<Instant> {
        now.checked_add(waited.since(self.waited))
    }

    /// Starts to wait, until `deadline` at most.
    pub(crate) fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Poll<()> {
        self.pause(now, deadline);
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        // tokio's own words name neither the adapter nor what to do.
        let runtime = runtime::current();
        assert!(
            runtime.is_some() || self.sleep.is_some(),
            "an adapter waits, and is not polled in a tokio runtime"
        );
        // A timer rests, or is gone, with its runtime.
        let known = self.sleep.as_ref().map(|(id, _)| *id);
        if let Some(id) = runtime.filter(|id| known != Some(*id)) {
            self.sleep = Some((id, Box::pin(sleep_until(deadline))));
        }
        let Some((_, sleep)) = &mut self.sleep else {
            unreachable!("there was one, or it was made just now");
        };
        // Most answers move the deadline away. To set the timer anew for each costs more than one poll that comes
        // too early.
        if deadline < sleep.deadline() || sleep.is_elapsed() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= deadline {
                self.resume();
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
