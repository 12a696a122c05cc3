//! Why there is no TLS connection.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::transport::BoxError;

pub(super) type Cause = Arc<dyn StdError + Send + Sync>;

/// Why there is no TLS connection.
#[derive(Clone, Debug)]
pub(super) struct TlsError {
    pub(super) words: String,
    pub(super) cause: Option<Cause>,
}

impl TlsError {
    pub(super) fn new(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            cause: None,
        }
    }

    pub(super) fn because(words: impl Into<String>, cause: impl Into<BoxError>) -> Self {
        Self {
            words: words.into(),
            cause: Some(cause.into().into()),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl StdError for TlsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let cause = self.cause.as_deref();
        cause.map(|cause| cause as &(dyn StdError + 'static))
    }
}

/// Whether TLS has failed, in words of ours.
pub(super) fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<TlsError>())
}

/// The words and the cause of an error of ours; else the error as it is.
pub(super) fn words(error: BoxError) -> Result<(String, Option<Cause>), BoxError> {
    let ours = error.downcast::<TlsError>().or_else(|error| {
        let io = error.downcast::<io::Error>()?;
        match is_of_tls(&io) {
            true => io.into_inner().unwrap_or_else(|| "".into()).downcast(),
            // Not `into`, which would put the box into another: nobody would find the `io::Error` in there.
            false => Err(io as BoxError),
        }
    });
    ours.map(|ours| (ours.words, ours.cause))
}
