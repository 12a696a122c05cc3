//! What every adapter runs on: the window decides, the call carries, the driver moves items
//! between them.

mod adapter;
mod call;
mod driver;
mod outgoing;
pub(crate) mod refs;
mod verdict;
mod window;

use prost::Message;

pub use self::adapter::Adapter;
pub(crate) use self::driver::drive;
pub(crate) use self::window::Acknowledged;
use crate::error::{Error, ErrorKind};

/// What differs between push, pull, lookup and delete.
pub(crate) trait Operation {
    /// The path of the gRPC method.
    const METHOD: &'static str;
    /// How the server answers.
    const ACKNOWLEDGED: Acknowledged;
    /// What a lost answer makes of an item: a read has changed nothing, a write may have.
    const LOST: ErrorKind;

    /// What the caller puts in.
    type Input;
    /// What is kept beside the input while its answer is awaited.
    type Asked;
    type Request: Message + 'static;
    type Answer: Message + Default + 'static;
    /// What an answer gives.
    type Output;
    /// What the caller gets, with a tag `T`.
    type Success<T>;

    /// What an input takes in the window, in bytes, whether or not it is sent.
    fn size(&self, input: &Self::Input) -> usize;

    /// Looks at an input before it is sent: what to keep of it. An error here never touches the
    /// wire.
    fn check(&self, input: &Self::Input) -> Result<Self::Asked, Error>;

    /// The request for a checked input. Asked again for a resend, so it should cost little.
    fn request(&self, input: &Self::Input, asked: &Self::Asked) -> Self::Request;

    /// What `answer` means for the input it answers.
    fn accept(
        &self,
        input: &Self::Input,
        asked: &Self::Asked,
        answer: Self::Answer,
    ) -> Result<Self::Output, Error>;

    fn success<T>(index: u64, tag: T, output: Self::Output) -> Self::Success<T>;
}
