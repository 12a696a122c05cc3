//! The error of connecting, and of tokens that are not to be had.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use crate::causes::chain;

/// Why there is no connection, or no token to show by it. `Display` says all of it, with the causes, since a status keeps only
/// the words of the outermost.
#[derive(Clone, Debug)]
pub(crate) struct Unreachable {
    /// All but the cause.
    pub(crate) words: Arc<str>,
    pub(crate) cause: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Unreachable {
    pub(crate) fn new(origin: &Uri, why: impl fmt::Display) -> Self {
        let origin = origin.to_string();
        let words = format!("cannot connect to {}: {why}", origin.trim_end_matches('/'));
        Self {
            words: words.into(),
            cause: None,
        }
    }

    pub(crate) fn because(origin: &Uri, cause: Box<dyn StdError + Send + Sync>) -> Self {
        let origin = origin.to_string();
        let words = format!("cannot connect to {}", origin.trim_end_matches('/'));
        Self {
            words: words.into(),
            cause: Some(cause.into()),
        }
    }

    /// What gives tokens has failed.
    pub(crate) fn no_token(source: &str, cause: Box<dyn StdError + Send + Sync>) -> Self {
        Self {
            words: format!("no token from {source}").into(),
            cause: Some(cause.into()),
        }
    }

    /// The same, where it has not said anything.
    pub(crate) fn no_token_yet(source: &str, waited: Duration) -> Self {
        Self {
            words: format!("no token from {source} within {} s", seconds(waited)).into(),
            cause: None,
        }
    }

    pub(crate) fn late(origin: &Uri, what: &str, waited: Duration) -> Self {
        let seconds = seconds(waited);
        Self::new(origin, format_args!("{what} within {seconds} s"))
    }
}

/// In tenths.
fn seconds(waited: Duration) -> f64 {
    (waited.as_secs_f64() * 10.0).round() / 10.0
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        for cause in chain(self.source()) {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl StdError for Unreachable {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let cause = self.cause.as_deref();
        cause.map(|cause| cause as &(dyn StdError + 'static))
    }
}
