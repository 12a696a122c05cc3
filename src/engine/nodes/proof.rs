//! What shows that a node does its work: that an item has succeeded there, whichever adapter of the
//! client has sent it. It is kept for each method, since a server may do one and not the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::apart::Apart;
use super::canary::Kept;
use crate::cid::Cid;
use crate::engine::tick::Tick;
use crate::outage::Outage;
use crate::record::Record;
use crate::record_ref;

/// When the latest request has left that has succeeded.
#[derive(Debug, Default)]
pub(crate) struct Proof(AtomicU64);

impl Proof {
    /// A request has succeeded that left at `tick`.
    pub(crate) fn succeeded(&self, tick: Tick) {
        if self.latest() < tick {
            self.0.fetch_max(tick.number(), Ordering::AcqRel);
        }
    }

    pub(crate) fn latest(&self) -> Tick {
        Tick::of_number(self.0.load(Ordering::Acquire))
    }
}

/// What the adapters of a client know of one method of a node.
#[derive(Debug)]
pub(crate) struct Method<R> {
    pub(crate) proof: Arc<Proof>,
    pub(crate) canary: Arc<Kept<R>>,
    pub(crate) outage: Arc<Outage>,
}

impl<R> Default for Method<R> {
    fn default() -> Self {
        Self {
            proof: Arc::default(),
            canary: Arc::default(),
            outage: Arc::default(),
        }
    }
}

/// What they know of each.
#[derive(Debug, Default)]
pub(crate) struct Methods {
    pub(crate) push: Method<Record>,
    pub(crate) pull: Method<record_ref::Request>,
    pub(crate) lookup: Method<record_ref::Request>,
    pub(crate) delete: Method<record_ref::Request>,
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
