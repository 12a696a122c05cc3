//! A lane: a call, what it carries, and how it has fared.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message;
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::Span;

use super::call::{Call, Event};
use super::progress::Progress;
use crate::breaker::Probe;
use crate::client::{Link, Refusal};
use crate::engine::nodes::{Incident, Moment, Origin, Route};
use crate::engine::waited::Waited;
use crate::engine::window::flight::{End, EndedBy, Flight};
use crate::meter::{self, FlightTime};
use crate::options::Options;
use crate::stats::Traffic;
use crate::unreachable::Unreachable;
use crate::verdict::{self, Verdict};

/// How long the transport may take to start a call before the call counts as delayed. The server may allow no more
/// calls than run.
const LATE: Duration = Duration::from_millis(250);

pub(crate) struct Lane<R, A> {
    pub(crate) flight: Flight,
    pub(crate) route: Route,
    /// The last incident on its node when it had its latest answer, or was opened.
    pub(crate) seen: Incident,
    /// A moment before its first request left.
    pub(crate) left: Moment,
    /// What the log knows it by.
    pub(crate) span: Span,
    /// Whether the span has how it ended.
    is_told: bool,
    flight_time: FlightTime,
    /// Requests on their way from the window to the call; empty between polls.
    pub(crate) batch: VecDeque<R>,
    /// The answers that are read at the end of the call.
    pub(crate) answers: Vec<A>,
    /// How long they are, in bytes.
    pub(crate) answers_len: usize,
    call: Call<R, A>,
    /// That of its method.
    path: &'static str,
    link: Link,
    start: Start,
    /// Whether the transport may keep it waiting until another lane has ended.
    may_wait: bool,
    /// When it is to be handed over to another call.
    ages_at: Option<Instant>,
    progress: Progress,
    /// How long the adapter had waited when this call was opened.
    opened: Waited,
    opened_at: Instant,
    /// Held by a call that probes, until the server has answered.
    probe: Option<Probe>,
}

/// Whether the transport has started a call, which it does by asking for the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Pending,
    /// It should have started by now.
    Delayed,
    /// It has started.
    Done,
}

/// What a lane is opened with.
pub(crate) struct Setup {
    pub(crate) flight: Flight,
    pub(crate) route: Route,
    pub(crate) seen: Incident,
    pub(crate) left: Moment,
    pub(crate) probe: Option<Probe>,
    pub(crate) ages_at: Option<Instant>,
    pub(crate) waited: Waited,
    pub(crate) span: Span,
    pub(crate) traffic: Traffic,
    pub(crate) flight_time: FlightTime,
}

impl<R, A> Lane<R, A>
where
    R: Message + 'static,
    A: Message + Default + 'static,
{
    pub(crate) fn open(
        link: &Link,
        method: &'static str,
        max_answer_len: usize,
        joins: bool,
        setup: Setup,
    ) -> Self {
        Self {
            flight: setup.flight,
            route: setup.route,
            seen: setup.seen,
            left: setup.left,
            is_told: setup.span.is_disabled(),
            span: setup.span,
            flight_time: setup.flight_time,
            batch: VecDeque::new(),
            answers: Vec::new(),
            answers_len: 0,
            call: Call::open(link.clone(), method, max_answer_len, joins, setup.traffic),
            path: method,
            link: link.clone(),
            start: Start::Pending,
            may_wait: false,
            ages_at: setup.ages_at,
            progress: Progress::new(setup.waited),
            opened: setup.waited,
            opened_at: Instant::now(),
            probe: setup.probe,
        }
    }

    /// It is one of several.
    pub(crate) fn join_others(&mut self) {
        self.may_wait = true;
    }

    /// Sends its batch.
    pub(crate) fn send(&mut self, waited: Waited) {
        // Nothing was awaited before.
        if self.flight.load() == self.batch.len() {
            self.progress.begin(waited);
        }
        self.flight_time.sent(self.flight.sent());
        self.call.send(&mut self.batch);
    }

    /// Half-closes the call: it carries no more items, and has to end.
    pub(crate) fn close(&mut self, waited: Waited) {
        if !self.call.is_finished() {
            self.call.finish();
            self.progress.begin(waited);
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.call.is_finished()
    }

    /// Whether the transport has started the call. If not, the task is woken when it does.
    pub(crate) fn is_started(&mut self, cx: &Context<'_>) -> bool {
        if self.start != Start::Done && self.call.is_started(cx) {
            self.start = Start::Done;
        }
        self.was_started()
    }

    /// Whether [`is_started`](Self::is_started) has been true. Where there is one lane at most, nobody asks that.
    pub(crate) fn was_started(&self) -> bool {
        self.start == Start::Done
    }

    /// Other calls had answers before this one was started, or it is late.
    pub(crate) fn mark_delayed(&mut self) {
        if self.start == Start::Pending {
            self.start = Start::Delayed;
        }
    }

    /// Whether the transport should have started the call and has not, as where the server allows no further call.
    pub(crate) fn is_delayed(&self) -> bool {
        self.start == Start::Delayed
    }

    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>, waited: Waited) -> Poll<Event<A>> {
        let event = self.span.in_scope(|| self.call.poll_event(cx));
        match event {
            Poll::Ready(_) => self.progress.begin(waited),
            // A part of an answer may have come.
            Poll::Pending => self.progress.note_moved(self.call.moved(), waited),
        }
        event
    }

    /// Whether it waits for its connection, or for a token to show.
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.start != Start::Done && self.call.way().is_on_its_way()
    }

    /// It has waited for one of these. Whatever keeps it from now on does so since now.
    pub(crate) fn note_on_its_way(&mut self, waited: Waited) {
        self.opened = waited;
    }

    /// When the transport should have started the call, if it has not.
    pub(crate) fn late_at(&self) -> Option<Waited> {
        self.opened
            .checked_add(LATE)
            .filter(|_| self.start == Start::Pending)
    }

    /// Whether it has made no progress for `limit`.
    pub(crate) fn has_stalled(
        &mut self,
        waited: Waited,
        limit: Option<Duration>,
        waits_for_connection: bool,
    ) -> bool {
        let is_due = |at: Option<Waited>| at.is_some_and(|at| at <= waited);
        if !is_due(self.stalls_at(limit, waits_for_connection)) {
            return false;
        }
        self.progress.note_moved(self.call.moved(), waited);
        is_due(self.stalls_at(limit, waits_for_connection))
    }

    /// When it will have made no progress for `limit`, if no answer comes. A call that has carried nothing cannot make
    /// progress, so it does not stall, unless it `waits_for_connection`. A call that is half-closed has to end,
    /// whatever it has carried.
    pub(crate) fn stalls_at(
        &self,
        limit: Option<Duration>,
        waits_for_connection: bool,
    ) -> Option<Waited> {
        let limit = if self.flight.is_awaited() || waits_for_connection {
            limit?
        } else if self.is_finished() {
            limit.unwrap_or(Options::DEFAULT_STALL_AFTER)
        } else {
            return None;
        };
        self.progress.stalls_at(limit)
    }

    /// When it is to be closed: it is old, or has nothing to do.
    pub(crate) fn closes_at(
        &mut self,
        now: Instant,
        idle_close: Option<Duration>,
    ) -> Option<Instant> {
        if self.is_finished() {
            return None;
        }
        let has_work = self.flight.is_awaited() || self.is_delayed();
        let is_unused = self.flight.is_unused();
        let idle = self
            .progress
            .idles_until(now, has_work, is_unused, idle_close);
        [self.hands_over_at(), idle].into_iter().flatten().min()
    }

    /// Whether it is to be handed over to another call.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        self.hands_over_at().is_some_and(|at| at <= now)
    }

    /// A call that has carried nothing is not replaced, or it never would carry anything. Nor is a call that waits to be
    /// started: the next one would only wait behind it.
    fn hands_over_at(&self) -> Option<Instant> {
        let waits = self.may_wait && !self.was_started();
        self.ages_at.filter(|_| !waits && !self.flight.is_unused())
    }

    /// The server has answered, so that nobody need wait for the end of a probe.
    pub(crate) fn note_answer(&mut self, seen: Incident) {
        self.flight_time.answered(self.flight.answers());
        self.probe = None;
        self.seen = seen;
    }

    /// The whole call was acknowledged.
    pub(crate) fn acknowledged(&mut self) {
        self.flight_time.answered(usize::MAX);
    }

    /// Takes back the requests that the transport has not taken. They did not leave, and will not. Returns how many
    /// requests the transport has taken.
    pub(crate) fn retract(&self) -> usize {
        self.call.retract()
    }

    /// Ends the call from this side. It is reset when it is dropped.
    pub(crate) fn abandon(&self, by: EndedBy, status: Status) -> End {
        End {
            status: Some(Arc::new(status)),
            transmitted: self.call.close(),
            acknowledged: false,
            by,
        }
    }

    /// Ends the call from this side, since it has made no progress for `limit`.
    pub(crate) fn stall(&self, limit: Option<Duration>) -> End {
        let seconds = limit.unwrap_or_default().as_secs_f64();
        let mut words = format!("the call made no progress in {seconds} s");
        if let Some(connection) = self.waits_for() {
            words = format!("{words}: {connection}");
        }
        self.abandon(EndedBy::Stall, Status::new(Code::DeadlineExceeded, words))
    }

    /// The connection that it waits for, if it does.
    pub(crate) fn waits_for(&self) -> Option<Unreachable> {
        self.call.way().waits_for()
    }

    /// Tells the recorder of metrics that it is over, on the node that is called so.
    pub(crate) fn measure(&self, node: &str, status: Option<&Status>) {
        meter::call_ended(self.path, node, self.opened_at.elapsed(), status);
    }

    /// What is to be known of it if it meets a fault.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            route: self.route,
            seen: self.seen,
            worked: self.flight.answers() > 0,
        }
    }

    /// The server knows who asks.
    pub(crate) fn accepted(&self) {
        self.link.accepted(self.call.way(), self.path);
    }

    /// What its end says of the token that it has shown, if the server did not know who asks.
    pub(crate) fn refusal(&self, end: &End, verdict: Option<Verdict>) -> Option<Refusal> {
        if end.by != EndedBy::Peer {
            return None;
        }
        let code = match &end.status {
            None => Code::Ok,
            Some(status) if verdict::is_of_transport(status) => return None,
            Some(status) => status.code(),
        };
        if code == Code::Unauthenticated {
            // A classification of the caller's own may make something else of it. The token is old all the same.
            let refusal = self.link.refused(self.call.way(), self.path);
            return Some(refusal).filter(|_| verdict == Some(Verdict::Caller));
        }
        if verdict != Some(Verdict::Transient) {
            self.accepted();
        }
        None
    }

    /// Nobody need wait for the end of a probe.
    pub(crate) fn end_probe(&mut self) {
        self.probe = None;
    }

    /// Has later calls take another connection, since this one is silent and may be dead.
    pub(crate) fn leave_connection(&self) {
        self.link.leave(self.call.way());
    }
}

impl<R, A> Lane<R, A> {
    /// Notes in its span how it has ended.
    pub(crate) fn tell(&mut self, outcome: &'static str) {
        self.span.record("items", self.flight.sent());
        self.span.record("answers", self.flight.answers());
        self.span.record("outcome", outcome);
        self.is_told = true;
    }
}

/// Who drops a call before its end has reset it.
impl<R, A> Drop for Lane<R, A> {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell("reset");
        }
    }
}
