//! Time as failures count it.

use std::sync::atomic::{AtomicU64, Ordering};

/// The clock of [`Tick`].
static FAILURES: AtomicU64 = AtomicU64::new(1);

/// A moment on a clock that goes on whenever any server fails at an item, and only then.
///
/// A success shows something of such a failure if its request left later. Where nothing fails, no
/// memory is written that is shared with other threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

impl Tick {
    /// Before all others.
    pub(crate) const NEVER: Self = Self(0);

    pub(crate) fn now() -> Self {
        Self(FAILURES.load(Ordering::Acquire))
    }

    /// A server fails at an item: what has left before is earlier, what leaves from now on is not.
    pub(crate) fn of_failure() -> Self {
        Self(FAILURES.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// As it is kept in an atomic.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    pub(crate) fn of_number(number: u64) -> Self {
        Self(number)
    }
}
