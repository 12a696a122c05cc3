//! What can be said of an item that did not succeed.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use tonic::Status;

use crate::causes::{Link, chain, in_a_line};
use crate::escape::{self, Escaped};
use crate::unreachable::Unreachable;

/// What is shared by items of one outcome.
type Source = Arc<dyn StdError + Send + Sync>;

/// What went wrong, as a class to match on. [`Error::kind`] gives it.
///
/// What each outcome says about the server:
///
/// | outcome | a pushed record | a deleted record | what helps |
/// |---|---|---|---|
/// | success | is there | is gone | – |
/// | success, [`already_stored`](crate::Pushed::already_stored) | is there: from before, or by a try whose answer was lost | – | – |
/// | [`Invalid`](Self::Invalid) | not sent | not sent | another item |
/// | [`Rejected`](Self::Rejected) | not stored by this push | is there, unless it was gone before | another item |
/// | [`ServerFailed`](Self::ServerFailed) | looked up, and not there; with [`Retry::off`](crate::Retry::off) not looked up | not known | a later run, in quiet times |
/// | [`NotFound`](Self::NotFound) | – | – | – |
/// | [`Mismatch`](Self::Mismatch) | stored as something else, if at all | – | a look at the server |
/// | [`NotSent`](Self::NotSent) | never left | never left | a later run |
/// | [`OutcomeUnknown`](Self::OutcomeUnknown) | may be there | may be gone | a lookup; or a later run, which does no harm |
/// | [`Unavailable`](Self::Unavailable) | not stored, as far as is known: its time was up between tries | the same | a later run |
/// | [`CircuitOpen`](Self::CircuitOpen) | not carried out | not carried out | a later run |
/// | [`Denied`](Self::Denied), [`Unsupported`](Self::Unsupported) | not stored by this push | not deleted by this call | another caller, another server |
/// | [`Input`](Self::Input) | there was none | there was none | the input read again |
/// | [`Incomplete`](Self::Incomplete) | – | – | a later run |
///
/// A pull or lookup changes nothing, so its outcomes say nothing of that kind. A referrer that is pushed is as a record
/// that is deleted: it can be sent again without harm, and so it is not looked up; what is published and unpublished,
/// too.
///
/// For a later run, collect [`Failed::input`](crate::Failed::input) where [`Error::is_of_item`] is false, and give
/// those to the same method again: neither a push nor a delete does harm twice. [`CircuitOpen`](Self::CircuitOpen),
/// [`Denied`](Self::Denied) and [`Unsupported`](Self::Unsupported) come for all that the input still has, which uses it
/// up; to keep it, stop at the first of them and take [`Adapter::into_remainder`](crate::Adapter::into_remainder). Over an
/// input without an end, turn [`Options::keep_trying`](crate::Options::keep_trying) on: then they come for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Found before sending: not a record, not a CID, no data, over the size limit.
    /// The item never touched the wire, and sending it again would not help.
    Invalid,
    /// The server refused this record, or has it and can never give it back. Final.
    Rejected,
    /// The server failed at this record, in each try, without saying whose fault it is (gRPC
    /// `Internal`, `Unknown`, `DataLoss`, `AlreadyExists`), while it did its work on others, or for two
    /// minutes where there were none. After a push it was looked up and is not there; with
    /// [`Retry::off`](crate::Retry::off), or if a classification of your own makes it final, it was not looked
    /// up, and may be there already. Of a pull or delete it says nothing about the record.
    ServerFailed,
    /// The server has no record of this CID.
    NotFound,
    /// A CID that does not match its content: the server answered with another CID than the record's own, or with
    /// another record than the one asked for. Or an answer of another kind than was asked for, or that cannot be read.
    Mismatch,
    /// Given up before it left this process, and it will not leave any more: the server knows
    /// nothing of it.
    NotSent,
    /// It left, the answer was lost, and what became of it could not be found out.
    OutcomeUnknown,
    /// The server could not be reached, or failed without a word about this item.
    /// Nothing was changed; trying again may help.
    Unavailable,
    /// Not carried out: the client's [`CircuitBreaker`](crate::CircuitBreaker) stayed open for too
    /// long. What a broken call may have carried out is [`OutcomeUnknown`](Self::OutcomeUnknown) then.
    CircuitOpen,
    /// The server does not know who asks, or does not let them.
    Denied,
    /// The server does not have this method, or does not know the client's
    /// [`Compression`](crate::Compression). Its words say which.
    Unsupported,
    /// The input gave an error in place of an item: [`TryFailed::Input`](crate::TryFailed::Input).
    Input,
    /// The server has said that its list was over, and it was not: [`Client::search`](crate::Client::search).
    Incomplete,
}

impl ErrorKind {
    /// A name for logs, metrics and files, that stays as it is: `server_failed`. `Display` has words for
    /// people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Rejected => "rejected",
            Self::ServerFailed => "server_failed",
            Self::NotFound => "not_found",
            Self::Mismatch => "mismatch",
            Self::NotSent => "not_sent",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Unavailable => "unavailable",
            Self::CircuitOpen => "circuit_open",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Input => "input",
            Self::Incomplete => "incomplete",
        }
    }

    /// All kinds there are now, for a counter of each. Later versions may have more.
    pub const ALL: &'static [Self] = &[
        Self::Invalid,
        Self::Rejected,
        Self::ServerFailed,
        Self::NotFound,
        Self::Mismatch,
        Self::NotSent,
        Self::OutcomeUnknown,
        Self::Unavailable,
        Self::CircuitOpen,
        Self::Denied,
        Self::Unsupported,
        Self::Input,
        Self::Incomplete,
    ];

    /// Whether the item has had its answer: from the server, or from the check before it was sent.
    /// What has not is worth another run.
    pub(crate) fn is_answer(self) -> bool {
        match self {
            Self::Invalid
            | Self::Rejected
            | Self::ServerFailed
            | Self::NotFound
            | Self::Mismatch => true,
            Self::NotSent
            | Self::OutcomeUnknown
            | Self::Unavailable
            | Self::CircuitOpen
            | Self::Denied
            | Self::Unsupported
            | Self::Input
            | Self::Incomplete => false,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Rejected => "refused by the server",
            Self::ServerFailed => "the server failed",
            Self::NotFound => "not found",
            Self::Mismatch => "mismatch",
            Self::NotSent => "not sent",
            Self::OutcomeUnknown => "outcome unknown",
            Self::Unavailable => "server unavailable",
            Self::CircuitOpen => "circuit open",
            Self::Denied => "access denied",
            Self::Unsupported => "not supported by the server",
            Self::Input => "the input failed",
            Self::Incomplete => "incomplete",
        }
    }
}

/// As [`as_str`](ErrorKind::as_str) names it.
impl Serialize for ErrorKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// How many bytes of what a status says are printed.
const MOST_PRINTED: usize = 4 << 10;

/// What a status says, or what its code stands for: no more of it than is printed.
struct Words<'a>(&'a Status);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0.message() {
            "" => self.0.code().description(),
            words => words,
        };
        Cut(words).fmt(f)
    }
}

/// Words as they are printed: escaped, and no more of them than that.
struct Cut<'a>(&'a str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (printed, cut) = escape::split_behind(self.0, MOST_PRINTED);
        Escaped(printed).fmt(f)?;
        match cut.len() {
            0 => Ok(()),
            more => write!(f, "… ({more} bytes more)"),
        }
    }
}

/// The cause behind the words of a status. tonic takes those from one of the sources, so the sources
/// begin with that one, and with what is wrapped around it.
fn behind(status: &Status) -> Option<Link<'_>> {
    let said = |link: &Link<'_>| match link.downcast_ref::<Status>() {
        Some(wrapped) => wrapped.message() == status.message(),
        None => {
            let words = link.to_string();
            !words.is_empty() && status.message().ends_with(&words)
        }
    };
    match chain(status.source()).filter(said).last() {
        // The root cause stays, though it was said, for those who look for its type. Words of ours
        // have none that could be looked for.
        Some(link) => {
            let is_ours = link.is::<Unreachable>() || link.is::<Status>();
            link.source().or((!is_ours).then_some(link))
        }
        None => status.source(),
    }
}

/// A status in words, with the causes behind it.
pub(crate) fn in_words(status: &Status) -> String {
    let mut words = Words(status).to_string();
    for cause in chain(behind(status)) {
        let cause = Cut(&cause.to_string()).to_string();
        if !words.contains(&cause) {
            words.push_str(": ");
            words.push_str(&cause);
        }
    }
    words
}

/// The error of one item, or of connecting.
///
/// It is one word wide. [`kind`](Self::kind) is for matching, and `Display` for reading.
///
/// `Display` has the server's own words where the server spoke. All words are cut behind 4 KiB. What would
/// start another line, control a terminal or turn the text round is escaped (`\n`, `\u{1b}`): in a server's
/// words, in a text that is no CID, and in a key.
///
/// [`status`](Self::status) gives the whole gRPC status as it came. [`source`](StdError::source) gives the
/// cause behind it, such as a refused connection. `Display` does not repeat its source: that begins behind
/// the words of the status, unless there is nothing behind them. The status's own source has what is
/// wrapped around it, too.
///
/// An item may be given up: its time was up, the adapter was drained, or the circuit was open. Its error
/// has the last fault of this item, or else of its adapter. If there was none, and all calls wait for their
/// connection, the error names that connection.
///
/// ```
/// use agntcy_dir_stream::{ErrorKind, Record};
///
/// let error = "[1, 2]".parse::<Record>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Invalid);
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    cause: Cause,
}

#[derive(Clone)]
enum Cause {
    None,
    /// The end of a call is that of all its items, and may be long.
    Status(Arc<Status>),
    Other(Source),
}

impl Error {
    /// An error for tests of your own pipeline, which says what is wrong in words.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::{Error, ErrorKind, Failed};
    /// use futures::{Stream, StreamExt, stream};
    ///
    /// /// What is to be tested: whether to wake somebody up.
    /// async fn is_refused(results: impl Stream<Item = PushResult>) -> bool {
    ///     let denied = |result: PushResult| result.is_err_and(|failed| failed.kind() == ErrorKind::Denied);
    ///     results.any(|result| std::future::ready(denied(result))).await
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let failed = |kind| Err(Failed::new(0, Record::default(), Error::new(kind, "by hand")));
    /// assert!(is_refused(stream::iter([failed(ErrorKind::NotSent), failed(ErrorKind::Denied)])).await);
    /// assert!(!is_refused(stream::iter([failed(ErrorKind::NotSent)])).await);
    /// # });
    /// ```
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            cause: Cause::None,
        }))
    }

    /// The error that a gRPC status means for an item.
    pub(crate) fn from_status(kind: ErrorKind, status: Arc<Status>) -> Self {
        Self::new(kind, "").with_status(status)
    }

    /// The same with a gRPC status behind it, as the last that the server or the transport said. It takes
    /// the place of a source. Its words stand behind the message; with an empty message, alone.
    ///
    /// ```
    /// use agntcy_dir_stream::{Code, Error, ErrorKind, Status};
    ///
    /// /// What is to be tested: whether the server has too much to do.
    /// fn is_overload(error: &Error) -> bool {
    ///     error.status().is_some_and(|status| status.code() == Code::ResourceExhausted)
    /// }
    ///
    /// let status = Status::resource_exhausted("too many calls");
    /// let error = Error::new(ErrorKind::NotSent, "no answer in 10 s").with_status(status);
    /// assert!(is_overload(&error));
    /// assert_eq!(error.to_string(), "not sent: no answer in 10 s: too many calls");
    /// ```
    #[must_use]
    pub fn with_status(mut self, status: impl Into<Arc<Status>>) -> Self {
        self.0.cause = Cause::Status(status.into());
        self
    }

    /// An item that must not be sent, and why: for implementors of [`ToCid`](crate::ToCid).
    #[must_use]
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// The same with a [source](StdError::source), in place of a status.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Cause::Other(Arc::from(source.into()));
        self
    }

    /// The same, if there is a source.
    pub(crate) fn with_cause(
        self,
        cause: Option<impl Into<Box<dyn StdError + Send + Sync>>>,
    ) -> Self {
        match cause {
            Some(cause) => self.with_source(cause),
            None => self,
        }
    }

    /// What went wrong, as a class.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The gRPC status behind this error, where there is one. Of one that a server has sent it has up to 16 KiB each of the words, of
    /// which the middle is left out, of the details and of the metadata.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match &self.0.cause {
            Cause::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Whether the item itself is at fault, so that sending it again cannot help:
    /// [`Invalid`](ErrorKind::Invalid), [`Rejected`](ErrorKind::Rejected),
    /// [`NotFound`](ErrorKind::NotFound) or [`Mismatch`](ErrorKind::Mismatch).
    #[must_use]
    pub fn is_of_item(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Invalid | ErrorKind::Rejected | ErrorKind::NotFound | ErrorKind::Mismatch
        )
    }

    /// Whether a call may have carried the item out although this is an error:
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown). (What the server itself failed at, it may have begun:
    /// see [`ErrorKind`].)
    #[must_use]
    pub fn may_have_landed(&self) -> bool {
        self.0.kind == ErrorKind::OutcomeUnknown
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            message,
            cause,
        } = &*self.0;
        let message = Cut(message);
        let Cause::Status(status) = cause else {
            return write!(f, "{kind}: {message}");
        };
        let said = Words(status);
        match message.0 {
            "" => write!(f, "{kind}: {said}"),
            _ => write!(f, "{kind}: {message}: {said}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("status", &self.status().map(Brief))
            .field("source", &self.source().map(in_a_line))
            .finish()
    }
}

/// A status as it is debugged: its metadata and details may be as long as its words.
struct Brief<'a>(&'a Status);

impl fmt::Debug for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.code(), Words(self.0))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.cause {
            Cause::None => None,
            // `Display` has said what the status says; what is behind it is still to tell.
            Cause::Status(status) => behind(status),
            // What is shared by several errors is behind an `Arc`, as which nobody would look for it.
            Cause::Other(source) => Some(match source.downcast_ref::<Source>() {
                Some(shared) => shared.as_ref(),
                None => source.as_ref(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_error_is_one_word() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn display_has_the_servers_words_and_not_its_source() {
        let error = Error::from_status(
            ErrorKind::Rejected,
            Status::invalid_argument("record validation failed").into(),
        );
        assert_eq!(
            error.to_string(),
            "refused by the server: record validation failed"
        );
        assert_eq!(error.status().unwrap().code(), tonic::Code::InvalidArgument);
        assert!(error.source().is_none());

        let broken = Status::from_error("connection reset".into());
        let error = Error::from_status(ErrorKind::NotSent, broken.into());
        assert_eq!(error.to_string(), "not sent: connection reset");
        assert_eq!(error.source().unwrap().to_string(), "connection reset");
        assert_eq!(in_words(error.status().unwrap()), "connection reset");
    }

    #[test]
    fn a_source_is_behind_the_words_that_were_said() {
        // As tonic puts it when nobody listens.
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let connect = tonic::ConnectError(Box::new(Wrapped("tcp connect error", refused.into())));
        let broken = Status::from_error(Box::new(Wrapped("transport error", connect.into())));
        assert_eq!(in_words(&broken), "tcp connect error: connection refused");
        let error = Error::from_status(ErrorKind::NotSent, broken.into());
        assert_eq!(error.to_string(), "not sent: tcp connect error");
        let source = error.source().unwrap();
        assert!(source.is::<std::io::Error>());

        // A layer that wraps a status of its own.
        let cause = Wrapped("layer", Status::unavailable("too many").into());
        let wrapped = Status::from_error(Box::new(cause));
        assert_eq!(in_words(&wrapped), "too many");
        // A cause that was not said.
        let mut status = Status::unavailable("away");
        status.set_source(Arc::new(Wrapped("no route", "no cable".into())));
        assert_eq!(in_words(&status), "away: no route: no cable");
    }

    #[derive(Debug)]
    struct Wrapped(&'static str, Box<dyn StdError + Send + Sync>);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Wrapped {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(self.1.as_ref())
        }
    }

    #[test]
    fn display_has_the_reason_and_the_last_words() {
        let error = Error::new(ErrorKind::OutcomeUnknown, "no answer in 10 s");
        assert_eq!(error.to_string(), "outcome unknown: no answer in 10 s");
        let error = error.with_status(Status::unavailable("no upstream"));
        assert_eq!(
            error.to_string(),
            "outcome unknown: no answer in 10 s: no upstream"
        );
    }

    #[test]
    fn long_words_are_cut_between_two_characters() {
        let status = |words: &str| {
            Error::from_status(ErrorKind::ServerFailed, Status::internal(words).into())
        };
        let whole = "a".repeat(MOST_PRINTED);
        assert!(status(&whole).to_string().ends_with(&whole));
        let long = format!("{}é and more", "a".repeat(MOST_PRINTED - 1));
        let error = status(&long);
        assert!(
            error.to_string().ends_with("aa… (11 bytes more)"),
            "{error}"
        );
        assert!(format!("{error:?}").ends_with("(11 bytes more)), source: None }"));
        assert_eq!(error.status().unwrap().message(), long);
    }

    #[test]
    fn all_kinds_are_told_apart() {
        for (place, kind) in ErrorKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, place);
        }
        assert_eq!(ErrorKind::ALL.last(), Some(&ErrorKind::Incomplete));
        let names: BTreeSet<_> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), ErrorKind::ALL.len());
        // The name of the variant, as logs have names.
        for kind in ErrorKind::ALL {
            let flat = kind.as_str().replace('_', "");
            assert_eq!(flat, format!("{kind:?}").to_lowercase());
        }
    }

    #[test]
    fn a_status_without_words_shows_its_code() {
        let error = Error::from_status(ErrorKind::Denied, Status::permission_denied("").into());
        assert!(error.to_string().starts_with("access denied: The caller"));
    }
}
