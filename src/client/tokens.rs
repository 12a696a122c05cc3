//! The tokens that a client has: the last one, when another is asked for, and by whom.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Shared, WeakShared};
use http::HeaderValue;
use tokio::runtime::Id;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::renewal::{FRESH, ShownToken};
use super::token::{Fetched, Token};
use super::transport::BoxError;
use crate::causes::in_a_line;
use crate::escape::Escaped;
use crate::outage::{IsOn, IsOver, Outage};
use crate::runtime;
use crate::unreachable::Unreachable;
use crate::{LOG, meter};

/// How long a file may still have the token that was refused. Who writes it may be a little behind the server.
const LATE: Duration = Duration::from_secs(5);

/// How often such a file is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long a source is left alone that has failed while its last token was still shown.
const PAUSE: Duration = Duration::from_secs(5);

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
    asked: Option<(Option<Id>, WeakShared<Asking>)>,
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
            came: self.came,
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
            let here = runtime::current();
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
    fn ask(&self, here: Option<Id>) -> Shared<Asking> {
        let token = self.token.clone();
        let state = Arc::clone(&self.state);
        let outage = Arc::clone(&self.outage);
        let asking = async move {
            // The next call asks anew, whatever came.
            let is_over = || {
                let mut state = lock(&state);
                drop(state.asked.take_if(|(runtime, _)| *runtime == here));
            };
            let fetched = AssertUnwindSafe(fetch_another(&token, &state)).catch_unwind();
            let fetched = fetched.await.unwrap_or_else(|panic| {
                is_over();
                resume_unwind(panic)
            });
            let (name, refresh_after) = (&token.name, token.refresh_after);
            let noted = fetched.and_then(|Fetched { text, good_for }| {
                let header = header(&text)?;
                Ok(lock(&state).note(header, good_for.or(refresh_after)))
            });
            is_over();
            let cause = match noted {
                Ok((shown, is_new)) => {
                    if is_new {
                        meter::token(token.kind());
                        debug!(target: LOG, source = %name, number = shown.number, "there is a token");
                    }
                    if let Some(IsOver {
                        faults,
                        lasted,
                        last_fault,
                    }) = outage.answered(Instant::now)
                    {
                        info!(target: LOG, source = %name, faults, ?lasted, %last_fault, "there are new tokens again");
                    }
                    return Ok(shown);
                }
                Err(cause) => cause,
            };
            let Some(shown) = lock(&state).show_on() else {
                return Err(Unreachable::no_token(name, cause));
            };
            // It was to be replaced, and no server has refused it yet.
            let error = Escaped(&in_a_line(&*cause)).to_string();
            let told = outage.fault(Instant::now(), Duration::ZERO, &error);
            if let Some(IsOn { faults, lasts }) = told {
                warn!(target: LOG, source = %name, %error, faults, ?lasts, "there is no new token: the last one is shown until it is refused");
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
        if token.is_file() && at.elapsed() < LATE {
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
