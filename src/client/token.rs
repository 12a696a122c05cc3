//! Bearer tokens: where they come from, and when another is asked for.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Shared, WeakShared};
use http::HeaderValue;
use tokio::runtime::{self, Handle};
use tokio::time::Instant;
use tracing::debug;

use super::transport::BoxError;
use crate::escape::Escaped;
use crate::meter;
use crate::unreachable::Unreachable;

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
/// call is opened again with what it gives; that counts as no attempt, and nothing waits. If the new
/// token is refused, too, before any call was accepted with it, the remaining items of that adapter are
/// [`Denied`](crate::ErrorKind::Denied). A plain value cannot be asked for again.
///
/// Calls that need a token at the same time ask once, and share what comes. While they wait, calls that run go on.
///
/// **A source that fails** while the last token was not refused changes nothing: that one is shown on. Else it is like a
/// server that cannot be reached: it is asked again after growing waits, as [`Retry`](crate::Retry) says. An item whose time is up by then says that there was no token, from where, and why.
///
/// A token goes out as `authorization: Bearer …`, and by connections with TLS only. It is not shown by `Debug`, in no
/// error, and not kept in HTTP/2's table of headers.
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
    name: Arc<str>,
    refresh_after: Option<Duration>,
}

#[derive(Clone)]
enum Source {
    Value(Arc<str>),
    File(Arc<Path>),
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
    /// that is replaced is used from the next call on.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = format!("the file `{}`", Escaped(&path.to_string_lossy()));
        Self::over(Source::File(path.into()), name)
    }

    /// What this function gives. It is called when a token is needed and there is none, once for all calls that wait.
    ///
    /// Its future is polled by the adapters that wait for it, in their runtime, and dropped when none does any
    /// more. One that never ends holds calls up until they stall
    /// ([`Options::stall_after`](crate::Options::stall_after)).
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
    fn can_change(&self) -> bool {
        !matches!(self.source, Source::Value(_))
    }

    async fn fetch(self) -> Result<Fetched, BoxError> {
        match self.source {
            Source::Value(text) => Ok(Fetched {
                text: text.as_ref().to_owned(),
                good_for: None,
            }),
            Source::File(path) => {
                let reading = tokio::task::spawn_blocking(move || read(&path));
                let text = reading.await.map_err(io::Error::other)??;
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

fn read(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?
        .take(LONGEST + 1)
        .read_to_string(&mut text)?;
    if read as u64 > LONGEST {
        return Err(io::Error::other(format!(
            "it is longer than {LONGEST} bytes"
        )));
    }
    Ok(text)
}

/// The tokens of a client, as they come from their source.
pub(super) struct Tokens {
    token: Token,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// How many tokens there were. Each has its number.
    number: u64,
    latest: Option<Latest>,
    /// The source is asked, in this runtime, as long as somebody waits for it.
    asked: Option<(Option<runtime::Id>, WeakShared<Asking>)>,
}

type Asking = Pin<Box<dyn Future<Output = Result<Shown, Unreachable>> + Send>>;

struct Latest {
    shown: Shown,
    until: Option<Instant>,
}

/// A token as a call shows it.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) number: u64,
    pub(super) header: HeaderValue,
}

impl Tokens {
    pub(super) fn of(token: Token) -> Self {
        Self {
            token,
            state: Arc::default(),
        }
    }

    /// Where they come from, in words.
    pub(super) fn source(&self) -> Arc<str> {
        Arc::clone(&self.token.name)
    }

    /// The token to show now.
    pub(super) async fn get(&self) -> Result<Shown, Unreachable> {
        let asking = {
            let mut state = lock(&self.state);
            if let Some(shown) = state.fresh() {
                return Ok(shown);
            }
            // A future of another runtime may rest.
            let here = Handle::try_current().ok().map(|runtime| runtime.id());
            let asked = state.asked.as_ref().filter(|(runtime, _)| *runtime == here);
            asked
                .and_then(|(_, asking)| asking.upgrade())
                .unwrap_or_else(|| {
                    let asking = self.ask();
                    state.asked = asking.downgrade().map(|asking| (here, asking));
                    asking
                })
        };
        asking.await
    }

    fn ask(&self) -> Shared<Asking> {
        let token = self.token.clone();
        let state = Arc::clone(&self.state);
        let asking = async move {
            let name = Arc::clone(&token.name);
            let refresh_after = token.refresh_after;
            let fetched = token.fetch().await;
            let noted = fetched.and_then(|fetched| {
                let header = header(&fetched.text)?;
                let good_for = fetched.good_for.or(refresh_after);
                let (shown, is_new) = lock(&state).note(header, good_for);
                if is_new {
                    meter::token(&name);
                    debug!(source = %name, number = shown.number, "there is a token");
                }
                Ok(shown)
            });
            let mut state = lock(&state);
            // The next call asks anew, whatever came.
            state.asked = None;
            noted.or_else(|cause: BoxError| match state.shown() {
                // It was to be replaced, and no server has refused it yet.
                Some(shown) => {
                    debug!(source = %name, error = %Escaped(&cause.to_string()), "there is no new token: the last one is shown on");
                    Ok(shown)
                }
                None => Err(Unreachable::no_token(&name, cause)),
            })
        };
        (Box::pin(asking) as Asking).shared()
    }

    /// A server has refused the token of this number. Returns whether the source may give another.
    pub(super) fn refused(&self, number: u64) -> bool {
        if self.token.can_change() {
            let mut state = lock(&self.state);
            state.latest = state
                .latest
                .take()
                .filter(|latest| latest.shown.number != number);
            return true;
        }
        false
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// The last token, if no server has refused it.
    fn shown(&self) -> Option<Shown> {
        self.latest.as_ref().map(|latest| latest.shown.clone())
    }

    fn fresh(&self) -> Option<Shown> {
        let latest = self.latest.as_ref()?;
        let is_fresh = latest.until.is_none_or(|until| Instant::now() < until);
        is_fresh.then(|| latest.shown.clone())
    }

    /// The source has given this one. Returns whether it is another than it gave before.
    fn note(&mut self, header: HeaderValue, good_for: Option<Duration>) -> (Shown, bool) {
        let is_known = |latest: &Latest| latest.shown.header == header;
        let is_new = !self.latest.as_ref().is_some_and(is_known);
        if is_new {
            self.number += 1;
        }
        let shown = Shown {
            number: self.number,
            header,
        };
        // One that does not fit into a clock never comes.
        let until = good_for.and_then(|good_for| Instant::now().checked_add(good_for));
        self.latest = Some(Latest {
            shown: shown.clone(),
            until,
        });
        (shown, is_new)
    }
}

/// What is wrong with a token is said without it.
fn header(token: &str) -> Result<HeaderValue, BoxError> {
    let token = token.trim();
    if token.is_empty() {
        return Err("it is empty".into());
    }
    let is_allowed = |byte: u8| byte.is_ascii_graphic();
    if !token.bytes().all(is_allowed) {
        return Err("it has white space, or characters that no token can have".into());
    }
    let header = format!("Bearer {token}");
    let mut header = HeaderValue::try_from(header).map_err(|_| "it is no header")?;
    header.set_sensitive(true);
    Ok(header)
}
