//! What can be said of an item that did not succeed.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use tonic::Status;

type Source = Box<dyn StdError + Send + Sync>;

/// What went wrong, as a class to match on. [`Error::kind`] gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Found before sending: not a record, not a CID, no data, over the size limit.
    /// The item never touched the wire, and sending it again would not help.
    Invalid,
    /// The server refused this record. Final.
    Rejected,
    /// The server has no record of this CID.
    NotFound,
    /// A CID that does not match its content: the server answered with another CID than the
    /// record's own, or with another record than the one asked for.
    Mismatch,
    /// Given up before it left this process: the server knows nothing of it.
    NotSent,
    /// It left, the answer was lost, and what became of it is not known.
    Unknown,
    /// The server could not be reached, or failed without a word about this item.
    /// Nothing was changed; trying again may help.
    Unavailable,
    /// The server does not know who asks, or does not let them.
    Denied,
    /// The server does not have this method.
    Unsupported,
}

impl ErrorKind {
    fn sentence(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Rejected => "refused by the server",
            Self::NotFound => "not found",
            Self::Mismatch => "CID does not match",
            Self::NotSent => "not sent",
            Self::Unknown => "outcome unknown",
            Self::Unavailable => "server unavailable",
            Self::Denied => "access denied",
            Self::Unsupported => "not supported by the server",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// The error of one item, or of connecting.
///
/// One word wide. [`kind`](Self::kind) is for matching, `Display` for reading, and
/// [`source`](StdError::source) or [`status`](Self::status) for what the server or the
/// transport said; `Display` does not repeat its source.
///
/// ```
/// use agntcy_dir_stream::{ErrorKind, Record};
///
/// let error = "[1, 2]".parse::<Record>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Invalid);
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Source>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    /// An item that must not be sent, and why: for implementors of [`ToCid`](crate::ToCid).
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong, as a class.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The gRPC status behind this error, where there is one.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        self.0.source.as_ref()?.downcast_ref()
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

    /// Whether the server may have carried the item out although this is an error:
    /// [`Unknown`](ErrorKind::Unknown) only.
    #[must_use]
    pub fn may_have_landed(&self) -> bool {
        self.0.kind == ErrorKind::Unknown
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.kind)?;
        if !self.0.message.is_empty() {
            write!(f, ": {}", self.0.message)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn display_does_not_repeat_the_source() {
        let error = Error::new(ErrorKind::Rejected, "record validation failed")
            .with_source(Status::invalid_argument("the server's own words"));
        assert_eq!(
            error.to_string(),
            "refused by the server: record validation failed"
        );
        assert_eq!(error.status().unwrap().message(), "the server's own words");
        assert!(error.source().is_some());
    }
}
