//! What the end of a call says, and about whom.

use std::error::Error as StdError;

use tonic::{Code, Status};

use crate::error::ErrorKind;

/// Whom the status that ended a call is about: a record, a try of it, the moment, or everything.
/// [`Verdict::of`] is the judgement that every adapter
/// uses unless [`Retry::judge`](crate::Retry::judge) brings another.
///
/// | the call ended with | verdict |
/// |---|---|
/// | `InvalidArgument`, `NotFound`, `FailedPrecondition`, `OutOfRange` | [`Record`](Self::Record) |
/// | `ResourceExhausted` "received message larger than max", or the same "after decompression" | [`Record`](Self::Record) |
/// | `Internal` "schema_version field is missing", a DIR server's word for a record without one | [`Record`](Self::Record) |
/// | an answer that cannot be read | [`Record`](Self::Record) |
/// | `Internal`, `Unknown`, `DataLoss`, `AlreadyExists` in the server's own words | [`Attempt`](Self::Attempt) |
/// | `Unavailable`, `ResourceExhausted`, `DeadlineExceeded`, `Aborted`, `Cancelled` | [`Moment`](Self::Moment) |
/// | whatever the transport made up: a reset, GOAWAY, too many pings, no connection, a status too long for the header list | [`Moment`](Self::Moment) |
/// | an answer of a proxy that is not gRPC, such as a 502 page | [`Moment`](Self::Moment) |
/// | OK, with answers missing | [`Moment`](Self::Moment) |
/// | no progress for [`Options::stall_after`](crate::Options::stall_after) | [`Moment`](Self::Moment) |
/// | `Unauthenticated`, `PermissionDenied`, `Unimplemented`; HTTP 401, 403, 404 | [`Whole`](Self::Whole) |
///
/// One code says several things, so the code alone does not decide: a status with a
/// [source](StdError::source) was made of a broken transport, whatever its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Of the first record that has no answer: a server works in order and stops at its first
    /// error. Final for that record; the others go on.
    Record,
    /// Of this try of the first record that has no answer: the server failed at it and does not
    /// say whose fault that is. It may be the record, an outage behind the server, or a record
    /// that is stored already. It waits for its next try, and the others go on.
    Attempt,
    /// Of the moment: nobody is named. What has no answer is sent again after a wait.
    Moment,
    /// Of the whole: who asks, or what is asked, is refused. All remaining items say so.
    Whole,
}

impl Verdict {
    /// The default judgement, as in the table above. A judgement of your own can fall back on it:
    ///
    /// ```
    /// use agntcy_dir_stream::{Code, Retry, Status, Verdict};
    ///
    /// let retry = Retry::new().judge(|status: &Status| match status.code() {
    ///     // This server's validator answers so when a record is at fault.
    ///     Code::Aborted => Verdict::Record,
    ///     _ => Verdict::of(status),
    /// });
    /// # let _ = retry;
    /// ```
    #[must_use]
    pub fn of(status: &Status) -> Self {
        if is_of_transport(status) {
            return Self::Moment;
        }
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => Self::Whole,
            Code::ResourceExhausted if oversize(status).is_some() || is_unreadable(status) => {
                Self::Record
            }
            Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted => Self::Moment,
            _ if is_unreadable(status) || is_without_schema(status) => Self::Record,
            Code::Internal | Code::Unknown | Code::DataLoss | Code::AlreadyExists => Self::Attempt,
            _ => Self::Record,
        }
    }
}

/// The causes behind a status.
fn causes(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(status.source(), |cause: &&'_ (dyn StdError + 'static)| {
        (*cause).source()
    })
}

/// A server's own status has no source; one that tonic made of a broken transport has, except
/// where the response just stops. Then only tonic's words tell. A layer that wraps a status of its
/// own making is not the transport.
fn is_of_transport(status: &Status) -> bool {
    const CUT_SHORT: [&str; 3] = [
        "grpc-status header missing",
        "protocol error: missing grpc-status trailer",
        "Unexpected EOF decoding stream",
    ];
    if CUT_SHORT
        .iter()
        .any(|words| status.message().starts_with(words))
    {
        return true;
    }
    status.source().is_some() && !causes(status).any(|cause| cause.is::<Status>())
}

/// The first call after a connection was told to go away fails so, and the next finds a new
/// connection.
pub(crate) fn is_of_dying_connection(status: &Status) -> bool {
    causes(status).any(|cause| {
        let words = cause.to_string();
        words.contains("connection closed") || words.contains("operation was canceled")
    })
}

/// The server allows no further call on this connection at present, and has not looked at what this
/// one carried (RFC 9113, section 8.7).
pub(crate) fn is_refused_unseen(status: &Status) -> bool {
    causes(status).any(|cause| {
        cause
            .to_string()
            .contains("refused stream before processing")
    })
}

/// The server, or a proxy before it, takes no further call for now, whatever that carries.
pub(crate) fn is_of_limit(status: &Status) -> bool {
    !is_of_transport(status) && matches!(status.code(), Code::ResourceExhausted | Code::Unavailable)
}

/// What tonic says where the answer came but cannot be read, or is longer than what is read. It
/// has no source, and looks like the server's own words.
fn is_unreadable(status: &Status) -> bool {
    const UNREADABLE: [&str; 4] = [
        "failed to decode Protobuf message",
        "Error, decoded message length too large",
        "Error decompressing",
        "protocol error: received message with",
    ];
    UNREADABLE
        .iter()
        .any(|words| status.message().starts_with(words))
}

/// A DIR server looks for the schema version before it asks its validator, and answers `Internal`
/// where there is none: that is no outage.
fn is_without_schema(status: &Status) -> bool {
    status.code() == Code::Internal
        && status
            .message()
            .ends_with("schema_version field is missing")
}

/// A DIR server over a local folder answers so to a record that it has: nothing is wrong with the
/// server. (It says so, too, of a record that it was killed over; a lookup does not find that.)
pub(crate) fn is_already_stored(status: &Status) -> bool {
    status.code() == Code::AlreadyExists
        || status.code() == Code::Internal && status.message().ends_with("already exists")
}

/// What a gRPC server says of a message that it found too long. Such a server drops the answers of
/// the records before it, so the first unanswered record need not be the one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oversize {
    /// How long it was, in bytes: as it was sent, so if it was compressed, as that. Not told, where it
    /// is too long only when it is decompressed.
    pub(crate) found: Option<usize>,
    pub(crate) limit: Option<usize>,
}

pub(crate) fn oversize(status: &Status) -> Option<Oversize> {
    let number = |text: &str| text.trim_matches(['(', ')']).parse().ok();
    if let Some((_, limit)) = status
        .message()
        .split_once("message after decompression larger than max ")
    {
        // An older server tells both.
        let limit = limit.rsplit(' ').next().and_then(number);
        return Some(Oversize { found: None, limit });
    }
    let (_, sizes) = status.message().split_once("message larger than max (")?;
    let mut sizes = sizes.split(' ');
    let found = Some(sizes.next().and_then(number)?);
    let limit = sizes.next_back().and_then(number);
    Some(Oversize { found, limit })
}

pub(crate) fn kind_of_record(status: &Status) -> ErrorKind {
    match status.code() {
        _ if is_unreadable(status) => ErrorKind::Mismatch,
        _ if is_without_schema(status) => ErrorKind::Rejected,
        Code::NotFound => ErrorKind::NotFound,
        Code::Internal | Code::Unknown | Code::DataLoss | Code::AlreadyExists => {
            ErrorKind::Internal
        }
        _ => ErrorKind::Rejected,
    }
}

pub(crate) fn kind_of_whole(status: &Status) -> ErrorKind {
    match status.code() {
        Code::Unimplemented => ErrorKind::Unsupported,
        _ => ErrorKind::Denied,
    }
}
