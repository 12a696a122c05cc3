//! When a call last made progress, and since when it has nothing to do.

use std::time::Duration;

use tokio::time::Instant;

/// How long a call that has carried nothing stays open at least: it was opened for an item that
/// another call has taken, and the next may come at once.
const UNUSED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Activity {
    /// How long the adapter had waited in all when the call last made progress.
    progress: Duration,
    /// How many bytes the call had moved by then.
    moved: u64,
    /// Since when it has nothing to do.
    idle_since: Option<Instant>,
}

impl Activity {
    /// Of a call that is opened now.
    pub(super) fn new(waited: Duration) -> Self {
        Self {
            progress: waited,
            moved: 0,
            idle_since: None,
        }
    }

    /// It has made progress, or something new is awaited from now on: its first item, or its end.
    pub(super) fn begin(&mut self, waited: Duration) {
        self.progress = waited;
        self.idle_since = None;
    }

    /// So many bytes have gone out or come in: if they are more than before, that is progress.
    pub(super) fn note_moved(&mut self, moved: u64, waited: Duration) {
        if moved > self.moved {
            self.moved = moved;
            self.progress = waited;
        }
    }

    /// When, on the clock of what was waited, it has made no progress for `limit`.
    pub(super) fn stalls_at(&self, limit: Duration) -> Option<Duration> {
        self.progress.checked_add(limit)
    }

    /// When it has had nothing to do for so long, if it has nothing to do.
    pub(super) fn idles_until(
        &mut self,
        now: Instant,
        has_work: bool,
        is_unused: bool,
        limit: Option<Duration>,
    ) -> Option<Instant> {
        if has_work {
            self.idle_since = None;
            return None;
        }
        let since = *self.idle_since.get_or_insert(now);
        let limit = if is_unused {
            limit?.max(UNUSED)
        } else {
            limit?
        };
        since.checked_add(limit)
    }
}
