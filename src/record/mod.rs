//! A record: an OASF document kept as wire bytes.

mod message;

use bytes::Bytes;

/// An agent record (an OASF document), kept as the wire's own bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The encoded `google.protobuf.Struct`; `None` is a record without data.
    data: Option<Bytes>,
}
