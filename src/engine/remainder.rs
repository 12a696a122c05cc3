//! What an adapter leaves behind.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::control::Control;
use crate::checkpoint::{Checkpoint, Run};
use crate::failed::Failure;
use crate::stats::Counters;

/// What an adapter leaves when it is stopped:
/// [`Adapter::into_remainder`](crate::Adapter::into_remainder).
///
/// The parts add up to the input: what was handed out before, [`unread`](Self::unread),
/// [`unsent`](Self::unsent), [`unanswered`](Self::unanswered), and what is still in
/// [`input`](Self::input). Each part is in input order.
#[non_exhaustive]
pub struct Remainder<S, R>
where
    R: ItemResult,
{
    /// The input, from which the items up to [`next_index`](Self::next_index) were taken. It is a
    /// stream still, unless it [has ended](Self::input_ended).
    pub input: Pin<Box<S>>,
    /// Whether the input has ended: then it must not be polled again, unless it is fused.
    pub input_ended: bool,
    /// The index that the next item of the input would have had.
    pub next_index: u64,
    /// Results that were there and not yet handed out.
    pub unread: Vec<R>,
    /// Items that the server has nothing of: never sent, or found not to be there. A pull's or
    /// lookup's whose answer was lost count here too.
    pub unsent: Vec<Leftover<R::Input, R::Tag>>,
    /// Items that were sent and have no answer. Those of a push or delete may have landed.
    pub unanswered: Vec<Leftover<R::Input, R::Tag>>,
}

impl<S, R> fmt::Debug for Remainder<S, R>
where
    R: ItemResult,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remainder")
            .field("next_index", &self.next_index)
            .field("unread", &self.unread.len())
            .field("unsent", &self.unsent.len())
            .field("unanswered", &self.unanswered.len())
            .finish_non_exhaustive()
    }
}

/// An item without a result, in a [`Remainder`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftover<I, T = ()> {
    /// The item's place in the input, counted from 0.
    pub index: u64,
    /// What was put in.
    pub input: I,
    /// The tag it came with.
    pub tag: T,
    /// How many calls have carried it.
    pub attempts: u32,
}

/// The result of an item, as adapters yield it: `Result<Success, Failed<I, T>>`, or with a
/// [`TryFailed`](crate::TryFailed) over a fallible input. For all there is, it is implemented already.
pub trait ItemResult: sealed::Sealed {
    /// What was put in.
    type Input;
    /// The tag it came with.
    type Tag;
}

impl<S, F: Failure> ItemResult for Result<S, F> {
    type Input = F::Input;
    type Tag = F::Tag;
}

mod sealed {
    use super::Failure;

    pub trait Sealed {}

    impl<S, F: Failure> Sealed for Result<S, F> {}
}

/// What an adapter and its generator share.
///
/// What is left of an item is typed by its result, and not by `S::Item`: see [`drive`](super::drive).
pub(super) struct Shared<S, R>
where
    R: ItemResult,
{
    pub(super) control: Arc<Control>,
    resumes: Mutex<Resumes>,
    remainder: Mutex<Option<Remainder<S, R>>>,
}

/// Where the generator is to begin. The handles have no part in it: what follows a checkpoint ends with the adapter.
enum Resumes {
    NotYetBegun(Option<Run>),
    Begun,
}

impl<S, R> Shared<S, R>
where
    R: ItemResult,
{
    pub(super) fn new(counters: Counters) -> Arc<Self> {
        Arc::new(Self {
            control: Control::new(counters),
            resumes: Mutex::new(Resumes::NotYetBegun(None)),
            remainder: Mutex::new(None),
        })
    }

    /// Has the generator begin where a checkpoint says.
    #[track_caller]
    pub(super) fn resume_from(&self, checkpoint: &Checkpoint) {
        let mut resumes = self.resumes.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *resumes {
            Resumes::NotYetBegun(run @ None) => match checkpoint.follow() {
                Ok(follows) => *run = Some(follows),
                Err(error) => panic!("{error}"),
            },
            Resumes::NotYetBegun(Some(_)) => panic!("an adapter follows one checkpoint"),
            Resumes::Begun => {
                panic!("an adapter that was polled has begun, and cannot resume from a checkpoint")
            }
        }
    }

    /// The generator begins.
    pub(super) fn begin(&self) -> Option<Run> {
        let mut resumes = self.resumes.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *resumes, Resumes::Begun) {
            Resumes::NotYetBegun(run) => run,
            Resumes::Begun => None,
        }
    }

    pub(super) fn leave(&self, remainder: Remainder<S, R>) {
        *self.lock() = Some(remainder);
    }

    pub(super) fn remainder(&self) -> Option<Remainder<S, R>> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Remainder<S, R>>> {
        // Nothing that runs under the lock leaves it half changed.
        self.remainder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
