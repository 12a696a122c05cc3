//! What a method is that has one request and a stream of answers.

use prost::Message;

/// A method with one request and a stream of answers.
pub(crate) trait ServerStream: 'static {
    /// What logs and metrics call it.
    const NAME: &'static str;
    /// The path of the gRPC method.
    const METHOD: &'static str;
    /// The longest answer in bytes that is read.
    const MAX_ANSWER_LEN: usize;
    /// Whether the server may be silent for as long as it likes.
    const IS_SILENT: bool;
    type Request: Message + Clone + Send + Sync + 'static;
    type Answer: Message + Default + 'static;
}
