//! When the next call may be opened: waits after faults in a row, and the circuit breaker.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use backon::ExponentialBackoff;
use tokio::time::Instant;
use tonic::Status;

use super::pushback::{self, Pushback};
use crate::breaker::{Breaker, Permit};
use crate::retry::Retry;
use crate::verdict;

#[derive(Debug)]
pub(super) struct Pace {
    retry: Retry,
    breaker: Arc<Breaker>,
    /// How many faults there were with no answer between them.
    in_a_row: u32,
    /// Whether the last of them was the server's own word on an item: it is there, but does not do
    /// this work.
    is_named: bool,
    backoff: ExponentialBackoff,
    /// No call is opened before.
    hold: Option<Instant>,
    /// Since when, on the clock of what was waited, the breaker is open and nothing goes on.
    open_since: Option<Duration>,
    last_fault: Option<Status>,
}

/// The longest wait after the server failed at an item in its own words: it is there, so the next
/// item may be tried soon, and this one has its own wait.
const WAIT_OF_NAMED: Duration = Duration::from_secs(2);

/// The longest wait that one adapter can put on the other adapters of its client.
const WAIT_OF_ALL: Duration = Duration::from_secs(60);

const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

impl Pace {
    pub(super) fn new(retry: Retry, breaker: Arc<Breaker>) -> Self {
        Self {
            in_a_row: 0,
            is_named: false,
            backoff: retry.backoff(),
            hold: None,
            open_since: None,
            last_fault: None,
            retry,
            breaker,
        }
    }

    pub(super) fn retry(&self) -> &Retry {
        &self.retry
    }

    /// Asks for a call.
    pub(super) fn permit(&self, cx: &Context<'_>, now: Instant) -> Permit {
        if !self.retry.is_on() {
            return Permit::Granted;
        }
        match self.hold.filter(|hold| *hold > now) {
            Some(hold) => Permit::Denied(Some(hold)),
            None => self.breaker.permit(cx, now),
        }
    }

    /// Whether the server is believed to be away, so that no more is taken than a probe needs. The
    /// task is woken when it is there again.
    pub(super) fn is_shut(&self, cx: &Context<'_>) -> bool {
        self.retry.is_on() && self.breaker.watch(cx)
    }

    pub(super) fn answered(&mut self) {
        self.breaker.answered();
        if self.in_a_row > 0 {
            self.in_a_row = 0;
            self.backoff = self.retry.backoff();
            self.hold = None;
        }
    }

    /// A lookup was answered. That shows that the server is there; if it was there all the time,
    /// it shows nothing.
    pub(super) fn looked_up(&mut self) {
        if !self.is_named {
            self.answered();
        }
    }

    /// A call has met a fault of the moment.
    pub(super) fn fault(&mut self, now: Instant, named: bool, status: &Status) {
        self.last_fault = Some(status.clone());
        if !self.retry.is_on() {
            return;
        }
        let is_first = self.in_a_row == 0;
        self.in_a_row += 1;
        self.is_named = named;
        if is_first && verdict::is_of_dying_connection(status) {
            // The connection was told to go away; there is another by now.
            return;
        }
        let wait = match pushback::of(status) {
            Some(Pushback::After(wait)) if !named => wait,
            _ if named && is_first => Duration::ZERO,
            _ => self.backoff.next().unwrap_or_default(),
        };
        let wait = if named { wait.min(WAIT_OF_NAMED) } else { wait };
        self.hold = self.hold.max(Some(later(now, wait)));
        self.breaker.fault(now + wait.min(WAIT_OF_ALL));
    }

    /// When an item that has had so many tries may have another; `None`: the server wants none.
    pub(super) fn wait(
        &self,
        now: Instant,
        status: Option<&Status>,
    ) -> impl Fn(u32) -> Option<Instant> + use<'_> {
        let word = status.and_then(pushback::of);
        move |tries| match word {
            Some(Pushback::Never) => None,
            Some(Pushback::After(wait)) => Some(later(now, wait)),
            None => Some(later(now, self.retry.wait_after(tries))),
        }
    }

    /// An item has its result: it goes on, however slowly.
    pub(super) fn progress(&mut self) {
        self.open_since = None;
    }

    /// When, on the clock of what was waited, an open breaker is given up. One who wants nothing has
    /// nothing to give up.
    pub(super) fn gives_up_at(&mut self, waited: Duration, wants: bool) -> Option<Duration> {
        if !wants || !self.retry.is_on() || !self.breaker.is_open() {
            self.open_since = None;
            return None;
        }
        let since = *self.open_since.get_or_insert(waited);
        since.checked_add(self.breaker.give_up_after()?)
    }

    /// Why it is given up.
    pub(super) fn last_fault(&self) -> Status {
        self.last_fault
            .clone()
            .unwrap_or_else(|| Status::unavailable("other adapters of this client met faults"))
    }
}

/// What does not fit into a clock is for ever, as far as anybody here will see.
fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now + A_YEAR)
}
