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
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::connection::OUTSIDE;
use super::renewal::{FRESH, ShownToken};
use super::transport::BoxError;
use crate::LOG;
use crate::causes::in_a_line;
use crate::escape::Escaped;
use crate::meter;
use crate::outage::{IsOn, IsOver, Outage};
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
/// call is opened again with what it gives; that counts as no attempt, not with [`Retry::off`](crate::Retry::off) either,
/// and nothing waits. If a token that came because another was refused is refused at once, too, the remaining items of that
/// adapter are [`Denied`](crate::ErrorKind::Denied). A plain value cannot be asked for again. A file that still has the
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

/// How long a file may still have the token that was refused. Who writes it may be a little behind the server.
const LATE: Duration = Duration::from_secs(5);

/// How long a source is left alone that has failed while its last token was still shown.
const PAUSE: Duration = Duration::from_secs(5);

/// How often such a file is looked at.
const LOOK: Duration = Duration::from_millis(100);

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
    /// ([`Options::stall_after`](crate::Options::stall_after)). If it panics, so does each adapter that waits for it.
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

    /// What kind of source it is.
    fn kind(&self) -> &'static str {
        match self.source {
            Source::Value(_) => "value",
            Source::File(_) => "file",
            Source::Function(_) => "function",
        }
    }

    async fn fetch(&self) -> Result<Fetched, BoxError> {
        match &self.source {
            Source::Value(text) => Ok(Fetched {
                text: text.as_ref().to_owned(),
                good_for: None,
            }),
            Source::File(path) => {
                let runtime = Handle::try_current().map_err(|_| OUTSIDE)?;
                let path = Arc::clone(path);
                let reading = runtime.spawn_blocking(move || read(&path));
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
    /// Whether the source fails.
    outage: Arc<Outage>,
}

#[derive(Default)]
struct State {
    /// How many tokens there were. Each has its number.
    number: u64,
    latest: Option<Latest>,
    /// The last one, if it was refused, and when.
    refused: Option<(HeaderValue, Instant)>,
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
    number: u64,
    pub(super) header: HeaderValue,
    /// Whether it came because another was refused.
    is_second: bool,
    came: Instant,
}

impl Shown {
    /// As a call shows it now.
    pub(super) fn shown_now(&self) -> ShownToken {
        ShownToken {
            number: self.number,
            is_second: self.is_second,
            is_fresh: self.came.elapsed() < FRESH,
        }
    }
}

impl Tokens {
    pub(super) fn of(token: Token) -> Self {
        Self {
            token,
            state: Arc::default(),
            outage: Arc::default(),
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
                    let asking = self.ask(here);
                    state.asked = asking.downgrade().map(|asking| (here, asking));
                    asking
                })
        };
        asking.await
    }

    /// Asks the source, in the runtime that is `here`.
    fn ask(&self, here: Option<runtime::Id>) -> Shared<Asking> {
        let token = self.token.clone();
        let state = Arc::clone(&self.state);
        let outage = Arc::clone(&self.outage);
        let asking = async move {
            let fetched = fetch_another(&token, &state).await;
            let (name, refresh_after) = (&token.name, token.refresh_after);
            let noted = fetched.and_then(|Fetched { text, good_for }| {
                let header = header(&text)?;
                Ok(lock(&state).note(header, good_for.or(refresh_after)))
            });
            // The next call asks anew, whatever came.
            lock(&state).asked.take_if(|(runtime, _)| *runtime == here);
            let cause = match noted {
                Ok((shown, is_new)) => {
                    if is_new {
                        meter::token(token.kind());
                        debug!(target: LOG, source = %name, number = shown.number, "there is a token");
                    }
                    if let Some(IsOver { faults, lasted }) = outage.answered(Instant::now) {
                        info!(target: LOG, source = %name, faults, ?lasted, "there are new tokens again");
                    }
                    return Ok(shown);
                }
                Err(cause) => cause,
            };
            let Some(shown) = lock(&state).show_on() else {
                return Err(Unreachable::no_token(name, cause));
            };
            // It was to be replaced, and no server has refused it yet.
            if let Some(IsOn { faults, lasts }) = outage.fault(Instant::now()) {
                let error = Escaped(&in_a_line(&*cause)).to_string();
                warn!(target: LOG, source = %name, error, faults, ?lasts, "there is no new token: the last one is shown until it is refused");
            }
            Ok(shown)
        };
        (Box::pin(asking) as Asking).shared()
    }

    /// A server has refused the token of this number. Returns whether the source may give another.
    pub(super) fn forget(&self, number: u64) -> bool {
        if !self.token.can_change() {
            return false;
        }
        let mut state = lock(&self.state);
        let is_latest = |latest: &mut Latest| latest.shown.number == number;
        if let Some(latest) = state.latest.take_if(is_latest) {
            state.refused = Some((latest.shown.header, Instant::now()));
        }
        true
    }
}

/// Asks the source. One that was asked before its last token was refused may give that, and a file that still has it may be
/// about to be written.
async fn fetch_another(token: &Token, state: &Mutex<State>) -> Result<Fetched, BoxError> {
    loop {
        let asked = Instant::now();
        let fetched = token.fetch().await?;
        let refused = lock(state).refused.clone();
        let Some((_, at)) = refused.filter(|(header, _)| shows(header, &fetched.text)) else {
            return Ok(fetched);
        };
        let is_file = matches!(token.source, Source::File(_));
        if is_file && at.elapsed() < LATE {
            sleep(LOOK).await;
        } else if at <= asked {
            return Ok(fetched);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// The last token, if no server has refused it. The source is not asked again for a while.
    fn show_on(&mut self) -> Option<Shown> {
        let latest = self.latest.as_mut()?;
        latest.until = Some(Instant::now() + PAUSE);
        Some(latest.shown.clone())
    }

    fn fresh(&self) -> Option<Shown> {
        let latest = self.latest.as_ref()?;
        let is_fresh = latest.until.is_none_or(|until| Instant::now() < until);
        is_fresh.then(|| latest.shown.clone())
    }

    /// The source has given this one. Returns whether it is another than it gave before.
    fn note(&mut self, header: HeaderValue, good_for: Option<Duration>) -> (Shown, bool) {
        let known = self.latest.take().map(|latest| latest.shown);
        let known = known.filter(|shown| shown.header == header);
        let is_new = known.is_none();
        let shown = known.unwrap_or_else(|| {
            self.number += 1;
            Shown {
                number: self.number,
                header,
                is_second: self.refused.take().is_some(),
                came: Instant::now(),
            }
        });
        // One that does not fit into a clock never comes.
        let until = good_for.and_then(|good_for| Instant::now().checked_add(good_for));
        self.latest = Some(Latest {
            shown: shown.clone(),
            until,
        });
        (shown, is_new)
    }
}

/// Whether a header shows this token.
fn shows(header: &HeaderValue, token: &str) -> bool {
    let shown = header.as_bytes().strip_prefix(b"Bearer ");
    shown == Some(token.trim().as_bytes())
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
