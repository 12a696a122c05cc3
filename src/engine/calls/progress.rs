//! When a call last made progress, and since when it has nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::waited::Waited;
use crate::stats::Traffic;

/// How long a call that has carried nothing stays open at least: it was opened for an item that
/// another call has taken, and the next may come at once.
const UNUSED: Duration = Duration::from_secs(1);

/// How many bytes a call has moved, either way: a long message makes progress long before it is answered.
/// The two ends of a call add to it.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    bytes: Arc<AtomicU64>,
    /// Those of all calls of its adapter.
    all: Traffic,
}

impl Moved {
    pub(super) fn with(all: Traffic) -> Self {
        let bytes = Arc::default();
        Self { bytes, all }
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all.sent(bytes);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all.received(bytes);
    }

    pub(super) fn get(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(super) struct Progress {
    /// When the call last made progress.
    last: Waited,
    /// How many bytes the call had moved by then.
    moved: u64,
    /// Since when it has nothing to do.
    idle_since: Option<Instant>,
}

impl Progress {
    /// Of a call that is opened now.
    pub(super) fn new(waited: Waited) -> Self {
        Self {
            last: waited,
            moved: 0,
            idle_since: None,
        }
    }

    /// It has made progress, or something new is awaited from now on: its first item, or its end.
    pub(super) fn begin(&mut self, waited: Waited) {
        self.last = waited;
        self.idle_since = None;
    }

    /// So many bytes have gone out or come in: if they are more than before, that is progress.
    pub(super) fn note_moved(&mut self, moved: u64, waited: Waited) {
        if moved > self.moved {
            self.moved = moved;
            self.last = waited;
        }
    }

    /// When it has made no progress for `limit`.
    pub(super) fn stalls_at(&self, limit: Duration) -> Option<Waited> {
        self.last.checked_add(limit)
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
