//! Keeps the deletes of a client apart from what it pushes again to tell an outage: a delete that is
//! overtaken by such a push would leave the record in the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many of each there are. Each side counts itself first and then looks at the other, so that
/// one of two that begin at once sees the other.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    deletes: AtomicUsize,
    canaries: AtomicUsize,
}

impl Apart {
    /// Deletes are about to be sent: no canary begins any more, and those that have begun end.
    pub(crate) fn delete(self: &Arc<Self>) -> Deletes {
        self.deletes.fetch_add(1, Ordering::SeqCst);
        Deletes(Arc::clone(self))
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.deletes.load(Ordering::SeqCst) > 0
    }

    /// A canary is about to be sent, if no delete is.
    pub(crate) fn canary(self: &Arc<Self>) -> Option<Canaries> {
        self.canaries.fetch_add(1, Ordering::SeqCst);
        let canary = Canaries(Arc::clone(self));
        (!self.is_deleting()).then_some(canary)
    }
}

/// Keeps canaries from being sent.
#[derive(Debug)]
pub(crate) struct Deletes(Arc<Apart>);

impl Deletes {
    /// Whether no canary is under way.
    pub(crate) fn may_begin(&self) -> bool {
        self.0.canaries.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Deletes {
    fn drop(&mut self) {
        self.0.deletes.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Keeps deletes from being sent.
#[derive(Debug)]
pub(crate) struct Canaries(Arc<Apart>);

impl Drop for Canaries {
    fn drop(&mut self) {
        self.0.canaries.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletes_wait_for_canaries_and_let_no_further_one_begin() {
        let apart = Arc::<Apart>::default();
        let canary = apart.canary();
        assert!(canary.is_some());
        let deletes = apart.delete();
        assert!(!deletes.may_begin());
        assert!(apart.canary().is_none());
        drop(canary);
        assert!(deletes.may_begin());
        assert!(apart.canary().is_none());
        drop(deletes);
        assert!(apart.canary().is_some());
    }
}
