//! When an adapter over an endless input tries again after it has given up.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::nodes::shortest_wait;
use crate::later::later;

/// Those of an adapter.
#[derive(Debug, Default)]
pub(super) struct Recesses {
    /// All that comes fails at once.
    pub(super) items: Recess,
    /// Nothing is looked up.
    pub(super) look_ups: Recess,
}

/// The time in which something is not tried.
#[derive(Debug, Default)]
pub(super) struct Recess {
    /// How many there were without a success between them.
    times: u32,
    ends: Option<Instant>,
}

impl Recess {
    /// Whether it may be tried again. The first look begins the recess.
    pub(super) fn is_over(&mut self, now: Instant, wait: impl FnOnce(u32) -> Duration) -> bool {
        let ends = *self.ends.get_or_insert_with(|| {
            self.times = self.times.saturating_add(1);
            later(now, wait(self.times).max(shortest_wait(self.times)))
        });
        let is_over = ends <= now;
        if is_over {
            self.ends = None;
        }
        is_over
    }

    /// The next recess is a short one.
    pub(super) fn succeeded(&mut self) {
        self.times = 0;
    }
}
