//! Where bearer tokens come from.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::files;
use super::reading::Reading;
use super::transport::BoxError;
use crate::escape::Escaped;

/// The longest token that is read from a file, in bytes. Servers take headers of 8 to 16 KiB.
const LONGEST: u64 = 64 << 10;

/// Where the bearer tokens of a client's calls come from: [`ClientBuilder::token`](crate::ClientBuilder::token).
///
/// It is asked for each call that is opened, and what it gives is kept as below. A call that runs goes on when its
/// token expires.
///
/// | | asked | a token is kept |
/// |---|---|---|
/// | [`new`](Self::new) | never | for ever |
/// | [`file`](Self::file) | the file is read for each call that is opened | – |
/// | [`from_fn`](Self::from_fn) | when there is none to show | until a server refuses it, or for the time of [`refresh_after`](Self::refresh_after) |
///
/// **A token that is refused** (gRPC `Unauthenticated`, HTTP 401) is dropped, and the source is asked once more. The
/// call is opened again with what it gives; that counts as no attempt, not with [`Retry::off`](crate::Retry::off) either,
/// and nothing waits. If a token that came because another was refused is refused at once, too, the remaining items of that
/// adapter are [`Denied`](crate::ErrorKind::Denied). One that is refused later than a second after it came may have expired
/// on its way, and only the fifth of those in a row denies. A plain value cannot be asked for again. A file that still has the
/// refused token is read for five seconds more, as who writes it may be a little late.
///
/// Calls that need a token at the same time ask once, and share what comes (those of one tokio runtime). While they wait,
/// calls that run go on.
///
/// **A source that fails** while the last token was not refused changes nothing: that one is shown on, the source is asked
/// again after five seconds, and the log has a warning. Else it is like a
/// server that cannot be reached: it is asked again after growing waits, as [`Retry`](crate::Retry) says. An item whose time is up by then says that there was no token, from where, and why.
///
/// A token goes out as `authorization: Bearer …`, and by connections with TLS only. It is not shown by `Debug`, in no
/// error, and not kept in HTTP/2's table of headers. Where a server repeats it at the end of a call, in a message, details or
/// headers, `…` stands in its place, unless it is shorter than 16 bytes.
///
/// ```
/// use std::time::Duration;
///
/// use agntcy_dir_stream::{Client, Token};
///
/// # async fn ask_the_issuer() -> Result<String, std::io::Error> { Ok(String::new()) }
/// # fn example() -> Result<(), agntcy_dir_stream::Error> {
/// let token = Token::from_fn(ask_the_issuer).refresh_after(Duration::from_secs(4 * 60));
/// let client = Client::builder("https://dir.example.org").token(token).connect_lazy()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Token {
    source: Source,
    /// What it is called in words.
    pub(super) name: Arc<str>,
    pub(super) refresh_after: Option<Duration>,
}

#[derive(Clone)]
enum Source {
    Value(Arc<str>),
    File(Arc<Path>, Reading<Result<Vec<u8>, Arc<io::Error>>>),
    Function(Arc<dyn Fn() -> Answer + Send + Sync>),
}

type Answer = Pin<Box<dyn Future<Output = Result<Fetched, BoxError>> + Send>>;

/// A token, as its source gives it.
pub(super) struct Fetched {
    pub(super) text: String,
    /// How long it is to be shown, if the source knows.
    pub(super) good_for: Option<Duration>,
}

impl Token {
    /// This token, for all calls.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self::over(
            Source::Value(token.into().into()),
            "the value that was given".to_owned(),
        )
    }

    /// What this file has, without white space around it. It is read for each call that is opened, so that a token
    /// that is replaced is used from the next call on. One that hangs, as on a server that is away, is read by one thread at
    /// a time, for all calls.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = format!("the file `{}`", Escaped(&path.to_string_lossy()));
        Self::over(Source::File(path.into(), Reading::default()), name)
    }

    /// What this function gives. It is called when a token is needed and there is none, once for all calls that wait.
    ///
    /// Its future is polled by the adapters that wait for it, in their runtime, and dropped when none does any
    /// more. One that never ends holds calls up until they stall
    /// ([`Options::stall_after`](crate::Options::stall_after)). If it panics, so does each adapter that waits for it, and
    /// the next that needs a token has it called again.
    #[must_use]
    pub fn from_fn<F, A, E>(source: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self::from_source("the function that was given", move || {
            let asking = source();
            async move {
                Ok(Fetched {
                    text: asking.await.map_err(Into::into)?,
                    good_for: None,
                })
            }
        })
    }

    pub(super) fn from_source<A>(
        name: impl Into<String>,
        source: impl Fn() -> A + Send + Sync + 'static,
    ) -> Self
    where
        A: Future<Output = Result<Fetched, BoxError>> + Send + 'static,
    {
        let source = move || -> Answer { Box::pin(source()) };
        Self::over(Source::Function(Arc::new(source)), name.into())
    }

    fn over(source: Source, name: String) -> Self {
        Self {
            source,
            name: name.into(),
            refresh_after: None,
        }
    }

    /// Asks for another token when one is so old, so that none is shown that a server would refuse. A token of five
    /// minutes wants four, say. Default: only when one is refused, which costs a call, and sends again what that
    /// call carried.
    ///
    /// It concerns [`from_fn`](Self::from_fn) alone.
    #[must_use]
    pub fn refresh_after(self, age: Duration) -> Self {
        Self {
            refresh_after: Some(age),
            ..self
        }
    }

    /// Whether the source can give another token than it has given.
    pub(super) fn can_change(&self) -> bool {
        !matches!(self.source, Source::Value(_))
    }

    /// Whether somebody else writes what it reads.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.source, Source::File(..))
    }

    /// What kind of source it is.
    pub(super) fn kind(&self) -> &'static str {
        match self.source {
            Source::Value(_) => "value",
            Source::File(..) => "file",
            Source::Function(_) => "function",
        }
    }

    /// Asks the source.
    pub(super) async fn fetch(&self) -> Result<Fetched, BoxError> {
        match &self.source {
            Source::Value(text) => Ok(Fetched {
                text: text.as_ref().to_owned(),
                good_for: None,
            }),
            Source::File(path, reading) => {
                let path = Arc::clone(path);
                let read = move || files::read(&path, LONGEST).map_err(Arc::new);
                let content = reading.share(read).await?;
                let content = content.map_err(|error| io::Error::new(error.kind(), error))?;
                // The error itself has the content.
                let text = String::from_utf8(content).map_err(|_| "it is not valid UTF-8")?;
                // The next call reads it again.
                let good_for = Some(Duration::ZERO);
                Ok(Fetched { text, good_for })
            }
            Source::Function(ask) => ask().await,
        }
    }
}

/// The secret is left out.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("source", &self.name)
            .field("refresh_after", &self.refresh_after)
            .finish_non_exhaustive()
    }
}
