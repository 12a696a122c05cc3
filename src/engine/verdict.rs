//! What the end of a call says, and about whom.

use std::error::Error as _;

use tonic::{Code, Status};

use crate::error::ErrorKind;

/// Whom a status is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The first unanswered item: the server works in order and stops at its first error.
    Item,
    /// This call: the transport failed, or the server cannot serve now.
    Moment,
    /// Every call: who asks, or what is asked, is refused.
    Whole,
}

pub(crate) fn blame(status: &Status) -> Blame {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => Blame::Whole,
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Aborted => Blame::Moment,
        _ if is_of_transport(status) => Blame::Moment,
        _ => Blame::Item,
    }
}

/// A server's own status has no source; one that tonic made of a broken transport has, except
/// where the response just stops or is not gRPC. Then only tonic's words tell.
fn is_of_transport(status: &Status) -> bool {
    const CUT_SHORT: [&str; 3] = [
        "grpc-status header missing",
        "protocol error: missing grpc-status trailer",
        "Unexpected EOF decoding stream",
    ];
    status.source().is_some()
        || CUT_SHORT
            .iter()
            .any(|words| status.message().starts_with(words))
}

/// What tonic says where the answer came but cannot be read, or is longer than what is read. It
/// has no source, and looks like the server's own words.
fn is_unreadable(status: &Status) -> bool {
    const UNREADABLE: [&str; 3] = [
        "failed to decode Protobuf message",
        "Error, decoded message length too large",
        "protocol error: received message with",
    ];
    UNREADABLE
        .iter()
        .any(|words| status.message().starts_with(words))
}

pub(crate) fn kind_of_item(status: &Status) -> ErrorKind {
    match status.code() {
        _ if is_unreadable(status) => ErrorKind::Mismatch,
        Code::NotFound => ErrorKind::NotFound,
        Code::Internal | Code::Unknown | Code::DataLoss => ErrorKind::Internal,
        _ => ErrorKind::Rejected,
    }
}

pub(crate) fn kind_of_whole(status: &Status) -> ErrorKind {
    match status.code() {
        Code::Unimplemented => ErrorKind::Unsupported,
        _ => ErrorKind::Denied,
    }
}
