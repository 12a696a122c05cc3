//! What shows that a node does its work: that an item has succeeded there, whichever adapter of the
//! client has sent it. It is kept for each method, since a server may do one and not the other.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::apart::Apart;
use super::canary::Kept;
use super::learnt::Learnt;
use crate::cid::Cid;
use crate::engine::server_stream::ServerStream;
use crate::engine::tick::Tick;
use crate::operation::{LostAnswer, Operation, Question};
use crate::outage::Outage;

/// When the latest request has left that has succeeded.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    latest: Latest,
    /// The same, without what was there already.
    wrote: Latest,
}

#[derive(Debug, Default)]
struct Latest(AtomicU64);

impl Latest {
    fn note(&self, tick: Tick) {
        if self.get() < tick {
            self.0.fetch_max(tick.number(), Ordering::AcqRel);
        }
    }

    fn get(&self) -> Tick {
        Tick::of_number(self.0.load(Ordering::Acquire))
    }
}

impl Proof {
    /// A request has succeeded that left at `tick`.
    pub(crate) fn succeeded(&self, tick: Tick) {
        self.latest.note(tick);
    }

    /// So has one of an item that was not there already.
    pub(crate) fn wrote(&self, tick: Tick) {
        self.wrote.note(tick);
    }

    pub(crate) fn latest(&self) -> Tick {
        self.latest.get()
    }

    pub(crate) fn latest_written(&self) -> Tick {
        self.wrote.get()
    }
}

/// What the adapters of a client know of one method of a node, with requests `R`, which questions `Q` look up.
#[derive(Debug)]
pub(crate) struct Method<R, Q> {
    pub(crate) proof: Arc<Proof>,
    pub(crate) canary: Arc<Kept<R, Q>>,
    pub(crate) outage: Arc<Outage>,
    pub(crate) learnt: Arc<Learnt>,
}

impl<R, Q> Default for Method<R, Q> {
    fn default() -> Self {
        Self {
            proof: Arc::default(),
            canary: Arc::default(),
            outage: Arc::default(),
            learnt: Arc::default(),
        }
    }
}

/// What they know of an operation's method.
pub(crate) type MethodOf<O> =
    Method<<O as Operation>::Request, <<O as Operation>::Question as Question>::Request>;

/// What they know of each.
#[derive(Default)]
pub(crate) struct Methods {
    known: Mutex<HashMap<Key, Arc<dyn Any + Send + Sync>>>,
    /// Those of `known` that write.
    writes: Mutex<Vec<Arc<dyn Forget>>>,
    pub(crate) apart: Arc<Apart>,
}

/// A method by its path, and by what an operation sends there: what one has sent, another cannot send again.
type Key = (&'static str, TypeId);

/// What has written a record, and must not do so again.
trait Forget: Send + Sync {
    fn forget(&self, record: &Cid);
}

impl<R, Q> Forget for Kept<R, Q>
where
    R: Send + Sync,
    Q: Send + Sync,
{
    fn forget(&self, record: &Cid) {
        self.forget_it(record);
    }
}

impl Methods {
    /// What is known of this operation's method.
    pub(crate) fn of<O: Operation>(&self) -> Arc<MethodOf<O>> {
        self.get(O::METHOD, |of_it: &MethodOf<O>| {
            if O::LOST_ANSWER == LostAnswer::LookUp {
                self.writes()
                    .push(Arc::clone(&of_it.canary) as Arc<dyn Forget>);
            }
        })
    }

    /// What is known of this method, which has a stream of answers.
    pub(crate) fn of_stream<M: ServerStream>(&self) -> Arc<Method<M::Request, ()>> {
        self.get(M::METHOD, |_| {})
    }

    fn get<R, Q>(&self, path: &'static str, is_new: impl Fn(&Method<R, Q>)) -> Arc<Method<R, Q>>
    where
        R: Send + Sync + 'static,
        Q: Send + Sync + 'static,
    {
        let key = (path, TypeId::of::<Method<R, Q>>());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = known.entry(key).or_insert_with(|| {
            let of_it = Arc::<Method<R, Q>>::default();
            is_new(&of_it);
            of_it
        });
        Arc::clone(of_it)
            .downcast()
            .expect("what is kept under a type is of that type")
    }

    fn writes(&self) -> MutexGuard<'_, Vec<Arc<dyn Forget>>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record of this CID is about to be deleted: it must not be written again.
    pub(crate) fn forget(&self, record: &Cid) {
        for written in &*self.writes() {
            written.forget(record);
        }
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
