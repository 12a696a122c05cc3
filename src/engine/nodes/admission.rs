//! When the next call to a node may be opened: waits after faults in a row, the circuit breaker, and
//! the rate of calls.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use backon::ExponentialBackoff;
use tokio::time::Instant;
use tonic::Status;
use tracing::{info, warn};

use super::Origin;
use super::hints::{self, Pushback};
use super::proof::Proof;
use crate::LOG;
use crate::breaker::{Breaker, Permit, User};
use crate::client::{CallRate, Node};
use crate::engine::tick::Tick;
use crate::error::in_words;
use crate::later::later;
use crate::outage::{IsOn, IsOver, Outage};
use crate::retry::Retry;
use crate::verdict;

#[derive(Debug)]
pub(crate) struct Admission {
    /// What the adapter is called in logs.
    operation: &'static str,
    retry: Retry,
    breaker: User,
    rate: Option<Arc<CallRate>>,
    outage: Arc<Outage>,
    /// What has succeeded here, by whichever adapter.
    proof: Arc<Proof>,
    /// How many faults there were with no answer between them.
    in_a_row: u32,
    /// The worst of them.
    worst: Cause,
    /// When the server last said itself that it has failed.
    faulted: Tick,
    backoff: ExponentialBackoff,
    /// No call is opened before this time.
    hold: Option<Instant>,
    incident: Incident,
    /// How many times in a row the server has failed at an item, and when it first did.
    failures: (u32, Tick),
    /// Until when the node is left to others, since it refuses the caller.
    refuses_until: Option<Instant>,
}

/// What a fault shows about the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// Nothing about its work: the call had carried nothing, had answers before it broke, or was one that looks up.
    Line,
    /// It may not work: the call carried items, and has broken without an answer.
    Work,
    /// It does not work: it said itself that it has failed at an item, or does not keep to the protocol.
    Named,
}

/// How many faults there were in all. Calls that run side by side break together. So the fault of a call that has
/// had no answer since the last fault is the same incident, and does not count as another fault in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Incident(u64);

/// The longest wait after the server said itself that it has failed at an item, unless the shortest backoff is
/// longer. The server can be reached, so the next item may be tried soon; the failed one has a wait of its own.
const WAIT_OF_NAMED: Duration = Duration::from_millis(250);

/// The longest wait that one adapter can put on the other adapters of its client.
const WAIT_OF_ALL: Duration = Duration::from_secs(60);

/// How long a node that refuses the caller is left to others. It may be one whose clock is wrong, or that is older.
const REFUSES: Duration = Duration::from_secs(60);

/// The shortest wait behind faults in a row, whatever was asked for: from a millisecond behind the second,
/// doubled up to this many times. Calls that can be opened and break at once must not keep a core busy.
const DOUBLED: u32 = 7;

impl Admission {
    pub(crate) fn new(
        operation: &'static str,
        retry: Retry,
        node: &Node,
        proof: Arc<Proof>,
        outage: Arc<Outage>,
    ) -> Self {
        Self {
            operation,
            in_a_row: 0,
            worst: Cause::Line,
            faulted: Tick::NEVER,
            backoff: retry.delays(),
            hold: None,
            incident: Incident::default(),
            failures: (0, Tick::NEVER),
            refuses_until: None,
            retry,
            breaker: node.breaker.user(),
            rate: node.rate.clone(),
            outage,
            proof,
        }
    }

    /// Asks for a call, which is opened then.
    pub(crate) fn permit(&self, cx: &Context<'_>, now: Instant) -> Permit {
        let rate = self.rate.as_ref();
        if let Some(at) = rate.and_then(|rate| rate.opens_at(now)) {
            return Permit::Denied(Some(at));
        }
        let permit = if !self.retry.is_on() {
            Permit::Granted
        } else if self.is_refusing(now) {
            Permit::Denied(self.refuses_until)
        } else if let Some(hold) = self.hold.filter(|hold| *hold > now) {
            Permit::Denied(Some(hold))
        } else {
            self.breaker.permit(cx, now)
        };
        if let Some(rate) = rate
            && !matches!(permit, Permit::Denied(_))
            && let Err(at) = rate.take(now)
        {
            // Another adapter was first.
            return Permit::Denied(Some(at));
        }
        permit
    }

    /// Whether a call may be opened now, without opening it.
    pub(crate) fn may_open(&self, now: Instant) -> bool {
        let rate = self.rate.as_ref();
        self.hold.is_none_or(|hold| hold <= now)
            && !self.is_refusing(now)
            && rate.is_none_or(|rate| rate.opens_at(now).is_none())
            && self.breaker.may_permit(now)
    }

    /// Until when nothing is to be sent again here, if the server has failed.
    pub(crate) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.hold.filter(|hold| *hold > now)
    }

    /// Whether the server is believed to be away, so that no more is taken from the input than a probe needs. The task
    /// is woken when it is there again. A server that can be reached and fails is not away: it may fail at the items
    /// that were taken, and not at those to come.
    pub(crate) fn is_shut(&self, cx: &Context<'_>) -> bool {
        let is_away = self.retry.is_on() && self.breaker.watch(cx) && self.worst != Cause::Named;
        // The clock is not looked at for each item.
        is_away || self.refuses_until.is_some() && self.is_refusing(Instant::now())
    }

    /// The server refuses the caller, or does not have the method, and another node may be asked.
    pub(crate) fn refuses(&mut self, now: Instant) {
        self.refuses_until = Some(later(now, REFUSES));
    }

    pub(crate) fn is_refusing(&self, now: Instant) -> bool {
        self.refuses_until.is_some_and(|until| until > now)
    }

    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// What has happened by now: for a call that is opened, or has an answer.
    pub(crate) fn incident(&self) -> Incident {
        self.incident
    }

    /// An item has succeeded here that was sent at `tick`.
    pub(crate) fn note_success(&mut self, tick: Tick) {
        self.proof.succeeded(tick);
        self.note_alive();
    }

    /// An item has succeeded here that was sent at `tick`: not one that was there already, and not the canary.
    pub(crate) fn note_written(&self, tick: Tick) {
        self.proof.wrote(tick);
    }

    /// When the latest of these was sent, by whichever adapter of the client.
    pub(crate) fn latest_written(&self) -> Tick {
        self.proof.latest_written()
    }

    /// When the latest item was sent that has succeeded here, for whichever adapter of the client. If that was since
    /// the server last failed, the node recovers.
    pub(crate) fn learn(&mut self) -> Tick {
        let proved = self.proof.latest();
        if self.in_a_row > 0 && self.worst == Cause::Named && proved >= self.faulted {
            self.recovered();
        }
        proved
    }

    /// The server has failed at an item, which may be at fault itself.
    pub(crate) fn failed_at_item(&mut self) {
        self.failures = match self.failures() {
            0 => (1, Tick::now()),
            failures => (failures.saturating_add(1), self.failures.1),
        };
    }

    /// How many times in a row the server has failed at items. No item that was sent since the first of these failures has
    /// succeeded.
    pub(crate) fn failures(&self) -> u32 {
        let (failures, first) = self.failures;
        match self.proof.latest() < first {
            true => failures,
            false => 0,
        }
    }

    /// Whether calls have met faults with no answer since.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.in_a_row > 0
    }

    pub(crate) fn note_alive(&mut self) {
        self.breaker.close();
        if let Some(IsOver {
            faults,
            lasted,
            last_fault,
        }) = self.outage.answered(Instant::now)
        {
            info!(target: LOG, operation = self.operation, node = %self.breaker.node(), faults, ?lasted, %last_fault, "the node answers again");
        }
        if self.in_a_row > 0 {
            self.recovered();
        }
    }

    /// A call has lasted so long that its end has nothing to do with the faults before it.
    pub(crate) fn outlived_faults(&mut self) {
        if self.in_a_row > 0 {
            self.recovered();
        }
    }

    fn recovered(&mut self) {
        self.in_a_row = 0;
        self.worst = Cause::Line;
        self.backoff = self.retry.delays();
        self.hold = None;
    }

    /// A lookup was answered, which shows that the server can be reached. It shows that the server works only if it
    /// found a record whose push was in doubt (`is_done`), and the server has not said itself that it fails.
    pub(crate) fn looked_up(&mut self, is_done: bool) {
        match self.worst {
            Cause::Line => self.note_alive(),
            Cause::Work if is_done => self.note_alive(),
            Cause::Work | Cause::Named => {}
        }
    }

    /// A call has met a fault.
    pub(crate) fn fault(&mut self, now: Instant, cause: Cause, status: &Status, origin: Origin) {
        if !self.retry.is_on() {
            if !origin.worked {
                self.tell(now, status, Duration::ZERO);
            }
            return;
        }
        let is_named = cause == Cause::Named;
        self.worst = self.worst.max(cause);
        if is_named {
            self.faulted = Tick::of_failure();
        }
        if origin.seen < self.incident {
            // It is the same incident, but this status may ask for a longer wait.
            if let Some(Pushback::After(wait)) = hints::of(status).filter(|_| !is_named) {
                self.hold = self.hold.max(Some(later(now, wait)));
            }
            return;
        }
        self.incident.0 += 1;
        let is_first = self.in_a_row == 0;
        self.in_a_row += 1;
        if is_first && verdict::is_of_dying_connection(status) {
            // The connection was told to go away; there is another by now.
            return;
        }
        let wait = match hints::of(status) {
            // The first time the server's word is taken. Then it can make the wait longer, and not shorter.
            Some(Pushback::After(wait)) if !is_named && is_first => wait,
            Some(Pushback::After(wait)) if !is_named => {
                wait.max(self.backoff.next().unwrap_or_default())
            }
            _ if is_named && is_first => Duration::ZERO,
            _ => self.backoff.next().unwrap_or_default(),
        };
        let wait = if is_named {
            wait.min(self.retry.shortest_delay().max(WAIT_OF_NAMED))
        } else {
            wait
        };
        let wait = match is_first {
            true => wait,
            false => wait.max(shortest_wait(self.in_a_row - 1)),
        };
        self.hold = self.hold.max(Some(later(now, wait)));
        self.breaker.fault(now + wait.min(WAIT_OF_ALL));
        // That a call breaks in the midst of its work is no outage yet.
        if !(is_first && origin.worked) {
            self.tell(now, status, wait);
        }
    }

    fn tell(&self, now: Instant, status: &Status, wait: Duration) {
        let error = in_words(status);
        if let Some(IsOn { faults, lasts }) = self.outage.fault(now, wait, &error) {
            let circuit_open = self.breaker.is_open();
            warn!(target: LOG, operation = self.operation, node = %self.breaker.node(), %error, faults, ?lasts, next_try_in = ?wait, circuit_open, "calls to the node fail");
        }
    }
}

/// The shortest wait after this many vain calls in a row, at least one.
pub(crate) fn shortest_wait(calls: u32) -> Duration {
    Duration::from_millis(1 << calls.saturating_sub(1).min(DOUBLED))
}
