//! What shows that a node does its work: that an item has succeeded there, whichever adapter of the
//! client has sent it. It is kept for each method, since a server may do one and not the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::apart::Apart;
use super::canary::Kept;
use super::refs;
use crate::cid::Cid;
use crate::record::Record;

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
}

/// When the latest request has left that has succeeded.
#[derive(Debug, Default)]
pub(crate) struct Proof(AtomicU64);

impl Proof {
    /// A request has succeeded that left at `tick`.
    pub(crate) fn succeeded(&self, tick: Tick) {
        if self.latest() < tick {
            self.0.fetch_max(tick.0, Ordering::AcqRel);
        }
    }

    pub(crate) fn latest(&self) -> Tick {
        Tick(self.0.load(Ordering::Acquire))
    }
}

/// What the adapters of a client know of one method of a node.
#[derive(Debug)]
pub(crate) struct Method<R> {
    pub(crate) proof: Arc<Proof>,
    pub(crate) canary: Arc<Kept<R>>,
}

impl<R> Default for Method<R> {
    fn default() -> Self {
        Self {
            proof: Arc::default(),
            canary: Arc::default(),
        }
    }
}

/// What they know of each.
#[derive(Debug, Default)]
pub(crate) struct Methods {
    pub(crate) push: Method<Record>,
    pub(crate) pull: Method<refs::Request>,
    pub(crate) lookup: Method<refs::Request>,
    pub(crate) delete: Method<refs::Request>,
    pub(crate) apart: Arc<Apart>,
}

impl Methods {
    /// The record of this CID is about to be deleted: it must not be pushed again.
    pub(crate) fn forget(&self, cid: &Cid) {
        self.push.canary.forget(cid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_left_after_a_failure_tells_something_of_it() {
        let proof = Proof::default();
        let before = Tick::now();
        let failure = Tick::of_failure();
        proof.succeeded(before);
        assert!(proof.latest() < failure);
        proof.succeeded(Tick::now());
        assert!(proof.latest() >= failure);
        let later = proof.latest();
        proof.succeeded(before);
        assert_eq!(
            proof.latest(),
            later,
            "what comes late does not set it back"
        );
    }
}
