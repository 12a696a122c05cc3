//! What an operation is: what differs between push, pull, lookup, delete and the others, and what you write for a
//! method of a service of your own. [`Operation`] is where to begin.

use std::fmt;

use prost::Message;
use tonic::Status;

use crate::cid::Cid;
use crate::error::{Error, ErrorKind};
use crate::record::Record;
use crate::verdict::Verdict;

/// How the server answers the requests of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The N-th answer is the N-th request's: a bidirectional method. A call carries any number of items.
    EachItem,
    /// One answer at the end is for all requests: a client-streaming method. A call carries what the input has at hand,
    /// at most a window.
    ///
    /// A call that is refused is halved until the refused item stands alone, so an item may be carried out more than
    /// once.
    WholeCall,
    /// One request is for several items, and so is its answer: a unary method that takes a list. The requests of the
    /// items are joined as protobuf merges messages, by putting them one after the other: their repeated fields are put
    /// together. Else it is as [`WholeCall`](Self::WholeCall).
    WholeBatch,
    /// A call carries one item, and what the server answers until the end of the call is for that: a unary or
    /// server-streaming method, or one whose answers show by nothing which request they are for.
    /// [`Operation::join`] makes one outcome of them.
    ///
    /// [`Options::calls`](crate::Options::calls) is how many items are on their way at once.
    OneItem,
}

impl Acknowledged {
    /// Whether one answer is for all items of a call.
    pub(crate) const fn is_whole(self) -> bool {
        matches!(self, Self::WholeCall | Self::WholeBatch)
    }

    /// Whether the method takes one request: then a call without any is an error.
    pub(crate) const fn is_one_request(self) -> bool {
        matches!(self, Self::WholeBatch | Self::OneItem)
    }
}

/// What is done about an item whose request left and whose answer was lost, as when its call breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostAnswer {
    /// A request changes nothing: it is sent again.
    AskAgain,
    /// The item is looked up by [`Operation::question`], and sent again if the server has not carried it out.
    LookUp,
    /// A request changes something, and can be sent again without harm. An item that has no answer in the end is
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown).
    SendAgain,
}

/// Where an item stands, beside its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place<T = ()> {
    /// The item's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// How many calls have carried it.
    pub attempts: u32,
    /// The item before it that is the same, and whose outcome this is: see [`Options::dedup`](crate::Options::dedup).
    pub duplicate_of: Option<u64>,
}

/// A success of an operation that has no type of its own for that: what came out, and where the item stood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Done<O, T = ()> {
    /// The item's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// What [`Operation::accept`] made of the server's answer.
    pub output: O,
    /// The item before it that is the same, and whose outcome this is: see [`Options::dedup`](crate::Options::dedup).
    pub duplicate_of: Option<u64>,
}

impl<O, T> Done<O, T> {
    /// What [`Operation::success`] gives.
    #[must_use]
    pub fn new(place: Place<T>, output: O) -> Self {
        Self {
            index: place.index,
            tag: place.tag,
            output,
            duplicate_of: place.duplicate_of,
        }
    }
}

/// A method of a gRPC service as the engine drives it, item by item: [`through`](crate::ThroughExt::through).
///
/// [`push_to`](crate::PushExt::push_to) and all other adapters of this crate are such operations. One of your own gets
/// the same: windows and calls side by side, recovery, retries, order, the ends of an [`Adapter`](crate::Adapter),
/// checkpoints, logs and metrics.
///
/// Messages are [prost](https://docs.rs/prost)'s, written by hand or generated. The server is whatever the
/// [`Client`](crate::Client) is connected to.
///
/// ```
/// use agntcy_dir_stream::operation::{Acknowledged, Done, LostAnswer, NoQuestion, Operation, Place};
/// use agntcy_dir_stream::prelude::*;
/// use agntcy_dir_stream::{Error, ErrorKind};
/// use futures::Stream;
///
/// // service Translator { rpc Translate(stream Sentence) returns (stream Sentence); }
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct Sentence {
///     #[prost(string, tag = "1")]
///     text: String,
/// }
///
/// struct Translate;
///
/// impl Operation for Translate {
///     const NAME: &'static str = "translate";
///     const METHOD: &'static str = "/example.v1.Translator/Translate";
///     const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
///     const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;
///
///     type Input = String;
///     type Checked = ();
///     type Request = Sentence;
///     type Answer = Sentence;
///     type Output = String;
///     type Question = NoQuestion;
///     type Success<T> = Done<String, T>;
///
///     fn check(&self, text: &String) -> Result<(), Error> {
///         match text.is_empty() {
///             true => Err(Error::new(ErrorKind::Invalid, "there is nothing to translate")),
///             false => Ok(()),
///         }
///     }
///
///     fn request(&self, text: &String, (): &()) -> Sentence {
///         Sentence { text: text.clone() }
///     }
///
///     fn accept(&self, _: &String, (): &(), answer: Sentence) -> Result<String, Error> {
///         Ok(answer.text)
///     }
///
///     fn success<T>(place: Place<T>, (): (), text: String) -> Done<String, T> {
///         Done::new(place, text)
///     }
/// }
///
/// fn translated(texts: impl Stream<Item = String>, client: &Client) -> impl Stream {
///     texts.through(Translate, client)
/// }
/// ```
///
/// # What an implementation can break
///
/// Whatever it does, each item has one result, in its place, with its input and tag; the window is kept; the stream
/// ends; and nothing is sent after the adapter is dropped. It can break these:
///
/// - **The truth of an outcome.** [`accept`](Self::accept) says what an answer means. Only it can see that an answer is
///   another item's, so where a request shows in its answer, compare them, and fail with
///   [`Mismatch`](ErrorKind::Mismatch).
/// - **Effects that happen twice.** [`LostAnswer::AskAgain`] and [`LostAnswer::SendAgain`] send again what may have
///   been carried out, and [`MAY_REPEAT`](Self::MAY_REPEAT) lets what has succeeded be sent once more.
///   [`LostAnswer::LookUp`] sends again what the server says it does not have: a server that is still at work on a call
///   that broke, when it says so, does it twice.
/// - **Items that share an outcome.** Two inputs in one window with the same [`cid`](Self::cid) are sent once.
/// - **Which item a status is for.** [`Acknowledged`] has to be how the server behaves. If it does not end a call at
///   the first item that it refuses, or answers in another order, errors go to the wrong items, and so do answers that
///   do not show what they are for. One answer counts for all items of a call or batch, also where the method is not
///   made for many: then they are successes that nothing was done for, or that were done more than once. A call in
///   which more answers come than requests were sent is dropped, and tried again.
/// - **Memory.** The window counts what [`size`](Self::size) and [`len`](Self::len) tell.
/// - **The task.** `check`, `request` and `accept` are called between polls, so they must not block. If one panics, the
///   panic passes through the poll, and the adapter must not be polled again.
///
/// What a status means is for [`verdict`](Self::verdict) to say: by default it is read as a DIR server means it, which
/// is close to gRPC's own definitions.
pub trait Operation {
    /// What logs, metrics and errors call it: one word, such as `push`.
    const NAME: &'static str;
    /// The path of the gRPC method: `/package.Service/Method`. Another form is an error when the program is built.
    const METHOD: &'static str;
    /// How the server answers.
    const ACKNOWLEDGED: Acknowledged;
    /// What is done about an item whose answer was lost.
    const LOST_ANSWER: LostAnswer;
    /// The longest answer in bytes that is read: a longer one is its item's error. With [`Acknowledged::OneItem`], that
    /// is for all answers of an item together, too, each of which counts for the size of its type at least.
    const MAX_ANSWER_LEN: usize = 4 << 20;
    /// How long an answer is taken to be, in bytes, as long as none has been seen; 0 if none is worth counting in
    /// the window.
    const ANSWER_LEN: usize = 0;
    /// Whether a request that has succeeded changes nothing if it is sent once more. If so, that is done where nothing
    /// else tells whether the server fails at some items or at all ([`Retry`](crate::Retry)); a write is looked up
    /// before that. It is so for [`LostAnswer::AskAgain`], if it is not said, and has no meaning with
    /// [`LostAnswer::SendAgain`].
    const MAY_REPEAT: bool = matches!(Self::LOST_ANSWER, LostAnswer::AskAgain);
    /// Whether an answer may say that the server failed at this attempt: then [`may_pass`](Self::may_pass) is asked.
    /// What has succeeded is not sent once more to tell an outage then, since nobody would read the answer.
    const ANSWERS_MAY_FAIL: bool = false;
    /// Whether requests delete records of the directory, those of [`cid`](Self::cid). Such requests are sent for each
    /// item, also for one that is the same as another.
    const DELETES: bool = false;

    /// What the caller puts in.
    type Input;
    /// What is kept beside the input while its answer is awaited, such as its parsed form.
    type Checked;
    /// The message that is sent for an item.
    type Request: Message + Clone + 'static;
    /// The message that the server answers with.
    type Answer: Message + Default + Clone + 'static;
    /// What an answer gives.
    type Output: Clone;
    /// What settles a lost answer, with [`LostAnswer::LookUp`]; [`NoQuestion`] otherwise.
    type Question: Question;
    /// What the caller gets, with a tag `T`: a type of yours, or [`Done<Self::Output, T>`](Done).
    type Success<T>;

    /// What an input takes in the window, in bytes, whether or not it is sent.
    fn size(&self, input: &Self::Input) -> usize {
        size_of_val(input)
    }

    /// Looks at an input before it is sent: what to keep of it.
    ///
    /// # Errors
    ///
    /// The item fails with it, and is never sent: [`Invalid`](ErrorKind::Invalid), in most cases.
    fn check(&self, input: &Self::Input) -> Result<Self::Checked, Error>;

    /// [`check`](Self::check) of an input whose CID is known already, as by
    /// [`PushItem::skip_if`](crate::PushItem::skip_if), or from another thread ([`to_hash`](Self::to_hash)).
    ///
    /// # Errors
    ///
    /// As in `check`.
    fn check_known(&self, input: &Self::Input, cid: Cid) -> Result<Self::Checked, Error> {
        let _ = cid;
        self.check(input)
    }

    /// The record whose CID [`check`](Self::check) computes, where most of the work of `check` is that. With
    /// [`Options::verify_threads`](crate::Options::verify_threads) another thread computes it, and then
    /// [`check_known`](Self::check_known) is called in place of `check`. `check` is called all the same for a record
    /// that has no CID, and for one whose job the pool has dropped.
    ///
    /// It is asked only where each item has an answer of its own. `None`, which is the default: there is nothing for
    /// another thread to do.
    fn to_hash(&self, input: &Self::Input) -> Option<Record> {
        let _ = input;
        None
    }

    /// The request for a checked input. It is made anew for a resend, so it should cost little.
    fn request(&self, input: &Self::Input, checked: &Self::Checked) -> Self::Request;

    /// What `answer` means for the input that it answers.
    ///
    /// # Errors
    ///
    /// The item fails with it, and the call goes on.
    fn accept(
        &self,
        input: &Self::Input,
        checked: &Self::Checked,
        answer: Self::Answer,
    ) -> Result<Self::Output, Error>;

    /// The record whose CID [`accept`](Self::accept) computes, where most of the work of `accept` is that. It is as
    /// [`to_hash`](Self::to_hash), for answers: [`accept_known`](Self::accept_known) is called in place of `accept`.
    /// Until then the answer counts in the window with its encoded length, and the server as one that works.
    ///
    /// It is asked only with [`Acknowledged::EachItem`], and not with [`ANSWERS_MAY_FAIL`](Self::ANSWERS_MAY_FAIL).
    /// `None`, which is the default: `accept` is called at once.
    fn to_verify(&self, answer: &Self::Answer) -> Option<Record> {
        let _ = answer;
        None
    }

    /// [`accept`](Self::accept) of an answer whose record, that of [`to_verify`](Self::to_verify), has this CID.
    ///
    /// # Errors
    ///
    /// As in `accept`.
    fn accept_known(
        &self,
        input: &Self::Input,
        checked: &Self::Checked,
        answer: Self::Answer,
        cid: Cid,
    ) -> Result<Self::Output, Error> {
        let _ = cid;
        self.accept(input, checked, answer)
    }

    /// What the status says that has ended a call, where [`Retry::classify`](crate::Retry::classify) has not been told.
    #[must_use]
    fn verdict(status: &Status) -> Verdict {
        Verdict::of(status)
    }

    /// With [`ANSWERS_MAY_FAIL`](Self::ANSWERS_MAY_FAIL): whether an error of [`accept`](Self::accept) or
    /// [`join`](Self::join) says that the server failed at this
    /// attempt, and may do better at another. Then the item is tried again, as where the server fails with `Internal`
    /// ([`Retry`](crate::Retry)). It has no meaning for calls that are acknowledged as a whole, whose answer is for
    /// many items.
    #[must_use]
    fn may_pass(error: &Error) -> bool {
        let _ = error;
        false
    }

    /// With [`Acknowledged::OneItem`]: what the call's answers come to, each of which was [accepted](Self::accept). If
    /// one was not, that is the item's error. A single answer is what it is, if this is not implemented.
    ///
    /// # Errors
    ///
    /// The item fails with it.
    fn join(&self, mut outputs: Vec<Self::Output>) -> Result<Self::Output, Error> {
        match (outputs.pop(), outputs.len()) {
            (Some(output), 0) => Ok(output),
            (last, others) => Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "the server has answered {} times, where one answer is expected",
                    others + usize::from(last.is_some())
                ),
            )),
        }
    }

    /// What it means that the item has failed at the server, where that can be a success.
    ///
    /// # Errors
    ///
    /// `error` itself, where it is one.
    fn refused(error: Error) -> Result<Self::Output, Error> {
        Err(error)
    }

    /// How long an output is, in bytes, while it waits in the window to be handed out.
    #[must_use]
    fn len(_: &Self::Output) -> usize {
        0
    }

    /// The CID by which the item is known: items of the same CID in one window have one outcome
    /// ([`Options::dedup`](crate::Options::dedup)). With [`DELETES`](Self::DELETES), the record that is deleted.
    #[must_use]
    fn cid(_: &Self::Checked) -> Option<&Cid> {
        None
    }

    /// With [`LostAnswer::LookUp`]: what asks whether the item was carried out. `None`: nothing does. Then it is sent
    /// again if it [may be](Self::MAY_REPEAT), and else is [`OutcomeUnknown`](ErrorKind::OutcomeUnknown).
    fn question(
        &self,
        input: &Self::Input,
        checked: &Self::Checked,
    ) -> Option<<Self::Question as Question>::Request> {
        let _ = (input, checked);
        None
    }

    /// What it means that the question was answered, with [`LostAnswer::LookUp`]: without this, that is an error.
    ///
    /// # Errors
    ///
    /// The item fails with it.
    fn found(
        &self,
        input: &Self::Input,
        checked: &Self::Checked,
        answer: <Self::Question as Question>::Answer,
    ) -> Result<Self::Output, Error> {
        let _ = (input, checked, answer);
        Err(Error::new(
            ErrorKind::OutcomeUnknown,
            "it was carried out, and the operation has no outcome for that",
        ))
    }

    /// The outcome of an item of which the caller has said that it is stored:
    /// [`PushItem::skip_if`](crate::PushItem::skip_if).
    fn stored(&self, cid: Cid) -> Option<Self::Output> {
        let _ = cid;
        None
    }

    /// Whether the output says that there was nothing to do: [`Stats::already_stored`](crate::Stats::already_stored)
    /// counts these.
    #[must_use]
    fn is_already_stored(_: &Self::Output) -> bool {
        false
    }

    /// What the caller gets.
    fn success<T>(
        place: Place<T>,
        checked: Self::Checked,
        output: Self::Output,
    ) -> Self::Success<T>;
}

/// The question that tells what became of an item whose answer was lost: a bidirectional method whose N-th answer is
/// the N-th request's.
///
/// An answer says that the item was carried out. The status `NotFound` says that it was not: the item is sent again,
/// and so are those that its call had carried behind it, since a server works in order. Any other refusal leaves it
/// open: the item is sent again if it [may be](Operation::MAY_REPEAT), and else is
/// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown).
pub trait Question {
    /// The path of the gRPC method: `/package.Service/Method`.
    const METHOD: &'static str;
    /// The longest answer in bytes that is read.
    const MAX_ANSWER_LEN: usize = 1 << 20;
    /// The message that asks.
    type Request: Message + Clone + 'static;
    /// The message that answers.
    type Answer: Message + Default + Clone + 'static;

    /// Whether this answer is that request's. If not, the call is dropped.
    fn is_answered_by(request: &Self::Request, answer: &Self::Answer) -> bool;

    /// The record of the directory that it asks for. What the client deletes is not written again to tell an outage.
    #[must_use]
    fn record(_: &Self::Request) -> Option<Cid> {
        None
    }
}

/// Nothing settles a lost answer: there is no [`LostAnswer::LookUp`].
pub enum NoQuestion {}

impl fmt::Debug for NoQuestion {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl Question for NoQuestion {
    const METHOD: &'static str = "";
    type Request = ();
    type Answer = ();

    fn is_answered_by((): &(), (): &()) -> bool {
        true
    }
}
