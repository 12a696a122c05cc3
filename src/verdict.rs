//! What the end of a call says, and about whom.

use std::error::Error as StdError;

use tonic::{Code, Status};

use crate::causes::chain;
use crate::error::ErrorKind;

/// Whom the status that ended a call is about: a record, one attempt at a record, nobody, or the caller.
/// [`Verdict::of`] is the judgement that every adapter
/// uses unless [`Retry::classify`](crate::Retry::classify) brings another.
///
/// | the call ended with | verdict |
/// |---|---|
/// | `InvalidArgument`, `NotFound`, `FailedPrecondition`, `OutOfRange`, but for what is below | [`Record`](Self::Record) |
/// | `ResourceExhausted` "received message larger than max", or the same "after decompression" | [`Record`](Self::Record) |
/// | `Internal` "failed to validate record: …" that ends in "schema_version field is missing", or goes on with "no schema found for version" or "failed to marshal record to JSON" | [`Record`](Self::Record) |
/// | the same that ends in "HTTP 4xx", as the schema service answered: 404 for a version that it does not serve. Not 401, 403, 407, 408, 421, 425 and 429 | [`Record`](Self::Record) |
/// | `Internal` "failed to pull record: failed to unmarshal record for CID …": what is stored cannot be decoded | [`Record`](Self::Record) |
/// | an answer that cannot be read | [`Record`](Self::Record) |
/// | `NotFound` "failed to pull record: record blob not found for CID …" that does not end in "not found": the record is there, and could not be read | [`Attempt`](Self::Attempt) |
/// | `Internal`, `Unknown`, `DataLoss`, `AlreadyExists` in any other words of the server's own, such as "failed to validate record: … HTTP 503" | [`Attempt`](Self::Attempt) |
/// | `Internal` "failed to push record to store: …", or "failed to push referrer …", that ends in "no space left on device", "disk quota exceeded", "read-only file system" or "too many open files" | [`Attempt`](Self::Attempt); only what is written after that counts against the item ([`Retry`](crate::Retry)) |
/// | `Unavailable`, `ResourceExhausted`, `DeadlineExceeded`, `Aborted`, `Cancelled` | [`Transient`](Self::Transient) |
/// | whatever the transport made up: a reset, GOAWAY, too many pings, no connection, a status too long for the header list | [`Transient`](Self::Transient) |
/// | an answer of a proxy that is not gRPC, such as a 502 page | [`Transient`](Self::Transient) |
/// | OK, with answers missing | [`Transient`](Self::Transient) |
/// | no progress for [`Options::stall_after`](crate::Options::stall_after) | [`Transient`](Self::Transient) |
/// | `Unauthenticated`, `PermissionDenied`, `Unimplemented`; HTTP 401, 403, 404 | [`Caller`](Self::Caller) |
///
/// Where the caller shows a [`Token`](crate::Token) that can be asked for again, `Unauthenticated` is an answer to that
/// token: the call is opened again with another before anything fails.
///
/// One code says several things, so the code alone does not decide: a status with a
/// [source](StdError::source) was made of a broken transport, whatever its code.
///
/// The words of `Internal` are those of a DIR server 1.2.0. They carry text of the record, such as
/// its `schema_version`, in the middle. They are read only at the start and at the end, so no record
/// can be named so that an outage reads as a refusal. What they do not tell is whether the server
/// asks the right schema service: at a wrong address, each record is answered 404.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The first record that has no answer: a server works in order and stops at its first error. It is
    /// final for that record. The others go on.
    Record,
    /// One attempt at the first record that has no answer. The server failed at it and does not say whose
    /// fault that is. It may be the record, an outage behind the server, or a record that is stored already.
    /// It is tried again, and how the others fare tells which it is ([`Retry`](crate::Retry)).
    Attempt,
    /// Nobody: the status names no record and no caller, as when a connection breaks. What has no answer is
    /// sent again after a wait.
    Transient,
    /// The caller, or the method: who asks, or what is asked, is refused. All remaining items get this
    /// error.
    Caller,
}

impl Verdict {
    /// The default classification, as in the table above. One of your own can fall back on it:
    ///
    /// ```
    /// use agntcy_dir_stream::{Code, Retry, Status, Verdict};
    ///
    /// let retry = Retry::new().classify(|status: &Status| match status.code() {
    ///     // This server's validator answers so when a record is at fault.
    ///     Code::Aborted => Verdict::Record,
    ///     _ => Verdict::of(status),
    /// });
    /// # let _ = retry;
    /// ```
    #[must_use]
    pub fn of(status: &Status) -> Self {
        if is_of_transport(status) {
            return Self::Transient;
        }
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => Self::Caller,
            Code::ResourceExhausted if oversize(status).is_some() || is_unreadable(status) => {
                Self::Record
            }
            Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted => Self::Transient,
            _ if is_unreadable(status) || is_for_good(status) => Self::Record,
            Code::NotFound if could_not_look(status) => Self::Attempt,
            Code::Internal | Code::Unknown | Code::DataLoss | Code::AlreadyExists => Self::Attempt,
            _ => Self::Record,
        }
    }
}

/// A server's own status has no source; one that tonic made of a broken transport has, except
/// where the response just stops. Then only tonic's words tell. A layer that wraps a status of its
/// own making is not the transport.
pub(crate) fn is_of_transport(status: &Status) -> bool {
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
    status.source().is_some() && !chain(status.source()).any(|cause| cause.is::<Status>())
}

/// The first call after a connection was told to go away fails so, and the next finds a new
/// connection.
pub(crate) fn is_of_dying_connection(status: &Status) -> bool {
    chain(status.source()).any(|cause| {
        let words = cause.to_string();
        words.contains("connection closed") || words.contains("operation was canceled")
    })
}

/// The server allows no further call on this connection at present, and has not looked at what this
/// one carried (RFC 9113, section 8.7).
pub(crate) fn is_refused_unseen(status: &Status) -> bool {
    chain(status.source()).any(|cause| {
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
pub(crate) fn is_unreadable(status: &Status) -> bool {
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

/// What a DIR server answers with `Internal` although it is no outage: it will say so of this record
/// whenever it is asked.
fn is_for_good(status: &Status) -> bool {
    status.code() == Code::Internal
        && (cannot_be_validated(status.message())
            // What is stored is no record, or none of a schema that the server can decode.
            || status
                .message()
                .starts_with("failed to pull record: failed to unmarshal record for CID "))
}

/// The server tells how far it came, layer by layer, and then why it went no further. Text of the
/// record stands in between, so nothing is looked for there.
fn cannot_be_validated(words: &str) -> bool {
    const LAYERS: [&str; 2] = [
        "failed to validate record: ",
        "schema URL validation failed: ",
    ];
    const REASONS: [&str; 2] = [
        "failed to marshal record to JSON: ",
        // The server knows the schemas itself, as older ones do.
        "no schema found for version ",
    ];
    let Some(mut why) = words.strip_prefix(LAYERS[0]) else {
        return false;
    };
    for layer in LAYERS {
        why = why.strip_prefix(layer).unwrap_or(why);
    }
    REASONS.iter().any(|reason| why.starts_with(reason))
        || why.ends_with("schema_version field is missing")
        || why
            .rsplit(": ")
            .next()
            .and_then(|end| end.strip_prefix("HTTP ")?.parse().ok())
            .is_some_and(is_of_content)
}

/// Whether this answer of the schema service is about what it was asked. Of the others of its class,
/// some are about who asks, and some about when.
fn is_of_content(http_status: u16) -> bool {
    matches!(http_status, 400..=499)
        && !matches!(http_status, 401 | 403 | 407 | 408 | 421 | 425 | 429)
}

/// A DIR server over a local folder answers so to a record that it has: nothing is wrong with the
/// server. (It says so, too, of a record that it was killed over; a lookup does not find that.)
pub(crate) fn is_already_stored(status: &Status) -> bool {
    status.code() == Code::AlreadyExists
        || status.code() == Code::Internal && status.message().ends_with("already exists")
}

/// A DIR server that has found a record, and could not read it, says so with `NotFound`, whatever the reason is. Only the
/// reason tells.
fn could_not_look(status: &Status) -> bool {
    let words = status.message();
    words.starts_with("failed to pull record: record blob not found for CID ")
        && !words.ends_with(": not found")
}

/// A DIR server over a local folder, whose system does not let it write: other records, or referrers, may fail for the same
/// reason, while it still says "already exists" to what it has. Words of the system are at the end, where no record has any.
pub(crate) fn cannot_write(status: &Status) -> bool {
    const WHY: [&str; 5] = [
        ": no space left on device",
        ": disk quota exceeded",
        ": read-only file system",
        ": too many open files",
        ": too many open files in system",
    ];
    const WHAT: [&str; 2] = [
        "failed to push record to store: ",
        "failed to push referrer for record ",
    ];
    let words = status.message();
    status.code() == Code::Internal
        && WHAT.iter().any(|what| words.starts_with(what))
        && WHY.iter().any(|why| words.ends_with(why))
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
    if status.code() != Code::ResourceExhausted {
        // A validator may repeat what a record says.
        return None;
    }
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
        _ if is_for_good(status) => ErrorKind::Rejected,
        Code::NotFound if could_not_look(status) => ErrorKind::ServerFailed,
        Code::NotFound => ErrorKind::NotFound,
        Code::Internal | Code::Unknown | Code::DataLoss | Code::AlreadyExists => {
            ErrorKind::ServerFailed
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

/// A code as gRPC writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a DIR server 1.2.0 says of a record that its schema service answered so.
    fn validated(schema_version: &str, end: &str) -> String {
        format!(
            "failed to validate record: failed to validate record: schema URL validation failed: \
             failed to validate record at URL http://10.0.0.1:8080/api/{schema_version}/validate/object/record?missing_recommended=true: {end}"
        )
    }

    /// What it says where it got no answer.
    fn unsent(schema_version: &str, end: &str) -> String {
        let url = format!(
            "http://10.0.0.1:8080/api/{schema_version}/validate/object/record?missing_recommended=true"
        );
        format!(
            "failed to validate record: failed to validate record: schema URL validation failed: \
             failed to send POST request to {url}: Post \"{url}\": {end}"
        )
    }

    fn pulled(end: &str) -> String {
        format!(
            "failed to pull record: failed to unmarshal record for CID \
             baeareihdr6t7s6sr2q4zo456sza66eewqc7huzatyfgvoupaqyjw23ilvi: {end}"
        )
    }

    #[track_caller]
    fn assert_final(words: &str) {
        let status = Status::internal(words);
        assert_eq!(Verdict::of(&status), Verdict::Record, "{words}");
        assert_eq!(kind_of_record(&status), ErrorKind::Rejected, "{words}");
    }

    #[track_caller]
    fn assert_may_pass(words: &str) {
        let status = Status::internal(words);
        assert_eq!(Verdict::of(&status), Verdict::Attempt, "{words}");
        assert_eq!(kind_of_record(&status), ErrorKind::ServerFailed, "{words}");
    }

    #[test]
    fn a_record_that_the_schema_service_cannot_take_is_refused() {
        for code in [400, 404, 405, 406, 410, 411, 413, 414, 415, 422, 431] {
            assert_final(&validated("0.3.1", &format!("HTTP {code}")));
        }
        assert_final("failed to validate record: HTTP 404");
        assert_final("failed to validate record: schema URL validation failed: HTTP 404");
    }

    #[test]
    fn a_schema_service_that_is_down_busy_or_closed_refuses_no_record() {
        for code in [
            301, 401, 403, 407, 408, 421, 425, 429, 500, 502, 503, 504, 40, 4040,
        ] {
            assert_may_pass(&validated("1.0.0", &format!("HTTP {code}")));
        }
        for end in [
            "dial tcp 10.0.0.1:8080: connect: connection refused",
            "dial tcp: lookup schema.example: no such host",
            "context deadline exceeded",
            "EOF",
        ] {
            assert_may_pass(&unsent("1.0.0", end));
        }
        assert_may_pass(
            "failed to validate record: failed to validate record: schema URL validation failed: \
             failed to decode validation response from URL http://10.0.0.1:8080/api/1.0.0/validate/object/record?missing_recommended=true: \
             invalid character '<' looking for beginning of value",
        );
    }

    /// All that a record brings into these words is its `schema_version`, and what is said of an
    /// outage stands behind that.
    #[test]
    fn no_record_can_turn_an_outage_into_a_refusal() {
        for name in [
            "HTTP 404",
            "x: HTTP 404",
            "x/validate/object/record?missing_recommended=true: HTTP 404",
            "x: failed to unmarshal record for CID x: failed to decode Record: ",
            "schema_version field is missing",
            "failed to validate record: no schema found for version x",
        ] {
            assert_may_pass(&validated(name, "HTTP 503"));
            assert_may_pass(&unsent(name, "context deadline exceeded"));
        }
        // Where it is not of validation, another server has answered.
        assert_may_pass(
            "failed to push record to store: rpc error: code = Internal desc = failed to push \
             record bytes: HTTP 404",
        );
        assert_may_pass("HTTP 404");
    }

    #[test]
    fn a_record_that_no_validator_can_read_is_refused() {
        assert_final(
            "failed to validate record: failed to validate record: schema URL validation failed: \
             failed to get schema version from record: schema_version field is missing",
        );
        assert_final(
            "failed to validate record: failed to validate record: schema URL validation failed: \
             failed to marshal record to JSON: json: error calling MarshalJSON for type \
             *structpb.Struct: proto: google.protobuf.Value: none of the oneof fields is set",
        );
        // A server without a schema service knows the schemas itself.
        assert_final(
            "failed to validate record: no schema found for version 0.2.0. \
             Available versions: [0.3.1 0.7.0]",
        );
    }

    #[test]
    fn a_stored_record_that_cannot_be_given_back_is_refused() {
        for end in [
            "failed to decode Record: failed to decode Record: failed to convert 1.0.0 record: \
             failed to unmarshal JSON to Go struct: json: cannot unmarshal number into Go struct \
             field Record.version of type string",
            "failed to decode Record: failed to decode Record: unsupported OASF version: 0.5.0 \
             (major version 0 not supported)",
            "failed to decode Record: failed to decode Record: invalid version format: v1.0.0 \
             (OASF versions must not have 'v' prefix, expected format: major.minor.patch)",
            "failed to unmarshal Record: failed to unmarshal JSON to protobuf struct: proto: \
             syntax error (line 1:1): unexpected token",
        ] {
            assert_final(&pulled(end));
        }
    }

    #[test]
    fn a_refusal_that_repeats_a_records_words_is_not_of_its_length() {
        let words = "received message larger than max (5 vs. 4)";
        assert_ne!(oversize(&Status::resource_exhausted(words)), None);
        let repeated = Status::invalid_argument(format!("record validation failed: [{words}]"));
        assert_eq!(oversize(&repeated), None);
    }

    #[test]
    fn a_record_that_could_not_be_read_is_not_missing() {
        let not_found = |end: &str| {
            Status::not_found(format!(
                "failed to pull record: record blob not found for CID \
                 baeareihdr6t7s6sr2q4zo456sza66eewqc7huzatyfgvoupaqyjw23ilvi: {end}"
            ))
        };
        for end in [
            "open /store/blobs/sha256/a: too many open files",
            "open /store/blobs/sha256/a: input/output error",
            "Get \"http://10.0.0.1:5000/v2/dir/blobs/sha256:a\": dial tcp 10.0.0.1:5000: connect: connection refused",
            "GET \"http://10.0.0.1:5000/v2/dir/blobs/sha256:a\": response status code 503: Service Unavailable",
        ] {
            let status = not_found(end);
            assert_eq!(Verdict::of(&status), Verdict::Attempt, "{end}");
            assert_eq!(kind_of_record(&status), ErrorKind::ServerFailed, "{end}");
        }
        for status in [
            not_found("sha256:a: application/json: not found"),
            Status::not_found("failed to pull record: record not found: baea"),
            Status::not_found("no such record"),
        ] {
            assert_eq!(Verdict::of(&status), Verdict::Record, "{status}");
            assert_eq!(kind_of_record(&status), ErrorKind::NotFound, "{status}");
        }
    }

    #[test]
    fn only_the_words_of_the_system_say_that_a_server_cannot_write() {
        let pushed = |end: &str| {
            Status::internal(format!(
                "failed to push record to store: rpc error: code = Internal desc = failed to push \
                 record bytes: failed to ingest: copy failed: write /store/ingest/a: {end}"
            ))
        };
        for end in [
            "no space left on device",
            "disk quota exceeded",
            "read-only file system",
            "too many open files",
            "too many open files in system",
        ] {
            let status = pushed(end);
            assert!(cannot_write(&status), "{end}");
            // Nothing says yet whether a smaller one would be written.
            assert_eq!(Verdict::of(&status), Verdict::Attempt, "{end}");
            assert_eq!(kind_of_record(&status), ErrorKind::ServerFailed, "{end}");
        }
        let referrer = "failed to push referrer for record baea: failed to push referrer blob: sync /store: no space left on device";
        assert!(cannot_write(&Status::internal(referrer)));
        let refused = format!(
            "record validation failed: [{}]",
            pushed("no space left on device")
        );
        for status in [
            pushed("application/json: already exists"),
            pushed("connect: connection refused"),
            // That may be one bad block.
            pushed("input/output error"),
            // A validator may repeat what a record says.
            Status::internal("failed to validate record: no space left on device"),
            Status::invalid_argument(refused),
            Status::unavailable(pushed("no space left on device").message()),
        ] {
            assert!(!cannot_write(&status), "{status}");
        }
    }

    #[test]
    fn storage_that_fails_refuses_no_record() {
        for words in [
            "failed to pull record: failed to read record data for CID x: unexpected EOF",
            "failed to pull record: failed to fetch manifest for sha256:0: connection refused",
            "failed to lookup record: failed to read manifest data for sha256:0: unexpected EOF",
            "failed to push record to store: rpc error: code = Internal desc = failed to push \
             record bytes: no space left on device",
        ] {
            assert_may_pass(words);
        }
    }
}
