//! What differs between push, pull, lookup and delete.

use prost::Message;

use super::nodes::{Method, Methods};
use super::window::{Acknowledged, LostAnswer};
use crate::cid::Cid;
use crate::error::Error;

/// Where an item stands, beside its outcome.
pub(crate) struct Place<T> {
    pub(crate) index: u64,
    pub(crate) tag: T,
    pub(crate) duplicate_of: Option<u64>,
}

/// What differs between push, pull, lookup and delete.
pub(crate) trait Operation {
    /// The path of the gRPC method.
    const METHOD: &'static str;
    /// How the server answers.
    const ACKNOWLEDGED: Acknowledged;
    /// The longest answer in bytes that is read: a longer one is its item's error.
    const LONGEST_ANSWER: usize;
    /// How long an answer is, in bytes, as long as none has been seen; 0 if none is worth counting in
    /// the window.
    const ANSWER_LEN: usize = 0;
    /// What is done about an item whose answer was lost.
    const LOST_ANSWER: LostAnswer;

    /// What the caller puts in.
    type Input;
    /// What is kept beside the input while its answer is awaited.
    type Checked;
    type Request: Message + Clone + 'static;
    type Answer: Message + Default + Clone + 'static;
    /// What an answer gives.
    type Output: Clone;
    /// What the caller gets, with a tag `T`.
    type Success<T>;

    /// What the adapters of a client know of this method of a node.
    fn method(methods: &Methods) -> &Method<Self::Request>;

    /// What an input takes in the window, in bytes, whether or not it is sent.
    fn size(&self, input: &Self::Input) -> usize;

    /// Looks at an input before it is sent: what to keep of it. An error here never touches the
    /// wire. Its CID is given where it is known already.
    fn check(&self, input: &Self::Input, cid: Option<Cid>) -> Result<Self::Checked, Error>;

    /// The request for a checked input. It is made anew for a resend, so it should cost little.
    fn request(&self, input: &Self::Input, checked: &Self::Checked) -> Self::Request;

    /// What `answer` means for the input it answers.
    fn accept(
        &self,
        input: &Self::Input,
        checked: &Self::Checked,
        answer: Self::Answer,
    ) -> Result<Self::Output, Error>;

    /// What it means that the server has refused the item, or has not what was asked for.
    fn refused(error: Error) -> Result<Self::Output, Error> {
        Err(error)
    }

    /// How long an output is, in bytes, while it waits in the window to be handed out.
    fn len(_: &Self::Output) -> usize {
        0
    }

    /// Where a lost write is looked up: the CID that tells whether it was made. `None`: it cannot be
    /// told.
    fn key(&self, _: &Self::Input, _: &Self::Checked) -> Option<Cid> {
        None
    }

    /// What it means that the record of this key is there, where the answer was lost.
    fn found(&self, _: Cid) -> Option<Self::Output> {
        None
    }

    /// Whether the output is one that [`found`](Self::found) gave.
    fn was_found(_: &Self::Output) -> bool {
        false
    }

    /// The record that the item is about, where that is known.
    fn cid(_: &Self::Checked) -> Option<&Cid> {
        None
    }

    /// Whether requests delete records.
    const DELETES: bool = false;

    /// Whether an item that is the same as another in the window may have that one's outcome.
    const DEDUPS: bool = !Self::DELETES;

    fn success<T>(
        place: Place<T>,
        checked: Self::Checked,
        output: Self::Output,
    ) -> Self::Success<T>;
}
