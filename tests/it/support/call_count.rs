//! How many calls a client has opened, and whether they are too many.

use std::time::Duration;

use tokio::time::Instant;

use super::clock::SECOND;

/// The calls of one adapter.
pub(crate) struct CallCount {
    began: Instant,
    calls: u32,
    /// The calls since the last time that anything came of one, and when that was.
    idle_calls: u32,
    progress: Instant,
}

/// What the number of calls depends on.
pub(crate) struct Bounds {
    /// How many may be tried at the same time, with those that look up.
    pub(crate) together: u32,
    /// The first wait of the backoff, and how long a call takes to open.
    pub(crate) first_wait: Duration,
    pub(crate) opens_after: Duration,
    pub(crate) items: usize,
    pub(crate) tries: u32,
}

impl CallCount {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            calls: 0,
            idle_calls: 0,
            progress: now,
        }
    }

    pub(crate) fn get(&self) -> u32 {
        self.calls
    }

    /// Something has come of a call.
    pub(crate) fn progress(&mut self) {
        self.idle_calls = 0;
        self.progress = Instant::now();
    }

    /// A call is opened. Where it comes to nothing there is a wait before the next.
    pub(crate) fn opened(&mut self, bounds: &Bounds) {
        let wait = bounds.first_wait.max(bounds.opens_after).min(SECOND);
        // Where none is wanted there is one of a millisecond, which doubles up to 128.
        let (doubled, wait) = match bounds.first_wait.is_zero() {
            true => (8, Duration::from_millis(100)),
            false => (0, wait),
        };
        let in_time = |since: Instant| {
            let waits = since.elapsed().as_millis() / wait.as_millis();
            let waits = u32::try_from(waits).unwrap_or(u32::MAX);
            let calls = waits.saturating_add(3 + doubled);
            bounds.together.saturating_mul(calls)
        };
        self.calls += 1;
        self.idle_calls += 1;
        let most = in_time(self.progress);
        assert!(
            self.idle_calls <= most,
            "{} calls in {:?} of which nothing came: {most} is the limit",
            self.idle_calls,
            self.progress.elapsed(),
        );
        // Each try of each item may take a call, another to look it up, and one to see whether it is the item's own
        // fault.
        let of_tries = 3 * (bounds.items as u32 + 1) * (bounds.tries + 2);
        let most = of_tries.saturating_add(in_time(self.began));
        assert!(
            self.calls <= most,
            "{} calls in {:?}: {most} is the limit",
            self.calls,
            self.began.elapsed(),
        );
    }
}
