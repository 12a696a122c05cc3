//! A place in the window: an item, how far it is, and what faults have done to it.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;

use super::suspects::Failure;
use crate::error::{Error, ErrorKind};
use crate::operation::LostAnswer;
use crate::verdict;

#[derive(Debug)]
pub(super) struct Slot<E, O> {
    pub(super) entry: E,
    pub(super) bytes: usize,
    pub(super) attempts: u32,
    pub(super) state: State<O>,
    /// Most items never have any.
    pub(super) trouble: Option<Box<Trouble>>,
}

/// How far an item is.
///
/// ```text
///   from the input            answered
///   ------> Waiting --> Sent ----------> Settled --> handed out
///              ^         |                  ^
///              |         |                  | found
///              |         +--> InDoubt --> LookedUp
///              |         |       ^           |
///              |         |       +-- fault --+
///              |         |                   | not found
///              +---------+-------------------+
///   to be sent again: as Waiting, after a while (Resting), or behind the others (Suspect)
/// ```
///
/// Where CIDs are computed elsewhere, an item is `Unchecked` before it is `Waiting`, or `Answered` before it is
/// `Settled`.
///
/// An item that is expected to be stored goes from `Waiting` to `InDoubt` before it is sent. One that is the same as
/// another in the window is a `Duplicate` until that one is `Settled`. From each state but
/// `Answered` and `Settled` an item can be given up: then it is `Settled`, with an error.
#[derive(Debug)]
pub(super) enum State<O> {
    /// Taken, and to be sent once it is checked.
    Unchecked,
    /// To be sent, by this call or the next.
    Waiting,
    /// The server has failed at it. To be sent again, behind the others.
    Suspect,
    /// Given to a call, not answered.
    Sent,
    /// To be sent again, but not before this time.
    Resting(Instant),
    /// To be looked up before it is sent: its answer was lost here, or it is expected to be stored.
    InDoubt(Loss),
    /// Given to the call that looks up, not answered.
    LookedUp,
    /// It is the same as an item before it, and waits for that one's outcome.
    Duplicate,
    /// It has its answer, which is not judged yet.
    Answered,
    /// It has its result.
    Settled(Result<O, Error>),
}

/// Where the answer of an item was lost: in which call, and at which place in it. Losses are ordered as
/// the requests were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Loss {
    pub(super) call: u64,
    pub(super) place: u64,
    /// No answer was lost. The item may be stored: it stood behind a record that was, or all are looked up.
    pub(super) is_guess: bool,
}

impl Loss {
    /// That of an item which is looked up before it is sent for the first time. It comes behind all that was lost.
    pub(super) fn scouted(index: u64) -> Self {
        Self {
            call: u64::MAX,
            place: index,
            is_guess: true,
        }
    }

    pub(super) fn is_scouted(self) -> bool {
        self.call == u64::MAX
    }
}

/// What faults have done to an item.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// How many faults count against it. A broken call counts against the item that the server was at, and not against
    /// those behind it.
    pub(super) tries: u32,
    /// How many do not, since the server could not write: each wait is longer.
    pub(super) unwritten: u32,
    /// How many faults met it while it was looked up.
    pub(super) lookups: u32,
    /// Where its answer was lost, until it was looked up.
    pub(super) lost: Option<Loss>,
    /// Whether a broken call may have carried it to the server. A lookup that does not find it
    /// proves nothing: the server may still be at it.
    pub(super) may_have_landed: bool,
    /// Whether the last fault was the server's own word about this item.
    pub(super) named: bool,
    /// When the server last failed at it.
    pub(super) failure: Option<Failure>,
    /// Whether the next try is its last, to be made alone.
    pub(super) alone: bool,
    /// Whether there is no next try.
    pub(super) exhausted: bool,
    /// When the next try may be made; `None`: at once.
    pub(super) rest: Option<Instant>,
    pub(super) last: Option<Arc<Status>>,
}

impl Trouble {
    /// Whether its answer was lost, and it was not looked up since.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.lost.is_some_and(|lost| !lost.is_guess)
    }
}

impl<E, O> Slot<E, O> {
    pub(super) fn tries(&self) -> u32 {
        self.trouble.as_ref().map_or(0, |trouble| trouble.tries)
    }

    /// When the server last failed at it, if that was the last fault that it has met.
    pub(super) fn last_failure(&self) -> Option<Failure> {
        let trouble = self.trouble.as_ref().filter(|trouble| trouble.named)?;
        trouble.failure
    }

    /// Whether it has a result that is no answer.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(&self.state, State::Settled(Err(error)) if !error.kind().is_answer())
    }

    /// Whether it has a result by which it may have been carried out.
    pub(super) fn is_settled_in_doubt(&self) -> bool {
        matches!(&self.state, State::Settled(Err(error)) if error.may_have_landed())
    }

    pub(super) fn lost(&self) -> Option<Loss> {
        self.trouble.as_ref().and_then(|trouble| trouble.lost)
    }

    pub(super) fn may_have_landed(&self) -> bool {
        let trouble = self.trouble.as_ref();
        trouble.is_some_and(|trouble| trouble.may_have_landed || trouble.is_in_doubt())
    }

    /// The kind of its error when it is given up.
    pub(super) fn kind_of_loss(&self) -> ErrorKind {
        if self.may_have_landed() {
            ErrorKind::OutcomeUnknown
        } else if self.attempts == 0 {
            ErrorKind::NotSent
        } else {
            ErrorKind::Unavailable
        }
    }

    /// Its error, when its tries are over.
    pub(super) fn failure(&self, lost: LostAnswer) -> Error {
        let kind = self.kind_of_loss();
        let Some(trouble) = self.trouble.as_ref() else {
            return Error::new(kind, "the call broke");
        };
        let Some(status) = &trouble.last else {
            return Error::new(kind, "the call broke");
        };
        // The server has said what it makes of this item, and it was looked up where it can be.
        let named = trouble.named && (!trouble.is_in_doubt() || lost == LostAnswer::SendAgain);
        let kind = if named {
            verdict::kind_of_record(status)
        } else {
            kind
        };
        Error::from_status(kind, Arc::clone(status))
    }
}
