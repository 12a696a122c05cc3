//! When an adapter over an endless input tries again after it has given up.

use std::time::Duration;

use tokio::time::Instant;

/// The time in which what comes fails at once.
#[derive(Debug, Default)]
pub(super) struct Recess {
    /// How many there were without a success between them.
    times: u32,
    ends: Option<Instant>,
}

impl Recess {
    /// The adapter has given up: whether it may try again. The first look begins the recess.
    pub(super) fn is_over(&mut self, now: Instant, wait: impl FnOnce(u32) -> Duration) -> bool {
        let ends = *self.ends.get_or_insert_with(|| {
            self.times = self.times.saturating_add(1);
            now + wait(self.times)
        });
        let is_over = ends <= now;
        if is_over {
            self.ends = None;
        }
        is_over
    }

    pub(super) fn succeeded(&mut self) {
        self.times = 0;
    }
}
