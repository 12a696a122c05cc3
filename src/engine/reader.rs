//! A method with one request and a stream of answers: its call, and what is to be known when that breaks.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Id;
use tokio::time::Instant;
use tonic::Status;
use tracing::debug;

use super::calls::{Event, Lane, Setup};
use super::clock::Clock;
use super::control::Control;
use super::log::call_span;
use super::nodes::{Cause, Moment, Nodes};
use super::server_stream::ServerStream;
use super::waited::Waited;
use super::window::flight::Flight;
use super::window::{End, EndedBy};
use crate::LOG;
use crate::client::{Client, Refusal};
use crate::error::{Error, ErrorKind, in_words};
use crate::later::later;
use crate::meter::{FlightTime, Meter};
use crate::options::Options;
use crate::retry::Retry;
use crate::runtime;
use crate::verdict::{self, Verdict, code_name};

/// How long a call that is silent by nature may be the probe of a circuit. Silence does not say that the server is
/// there, so another is to find that out.
const PROBES: Duration = Duration::from_secs(1);

/// How long such a call has to last for its end to be a fault of its own, and not one more in a row. A proxy before a
/// server that is away refuses sooner.
const OUTLIVES: Duration = Duration::from_secs(60);

/// How many answers are read in a row before the task's other work gets a turn.
const READ_IN_A_ROW: u32 = 256;

/// How long the next answer may be in coming until the consumer is taken for the one who is late.
const A_TURN: Duration = Duration::from_secs(1);

/// Reads what a method answers, by one call at a time. Whoever has it decides whether another follows.
pub(crate) struct Reader<M: ServerStream> {
    nodes: Nodes,
    /// That of the stream, which may have several readers.
    control: Arc<Control>,
    /// One of the readers of a stream has it.
    meter: Option<Meter>,
    lane: Option<Lane<M::Request, M::Answer>>,
    clock: Clock,
    stall: Option<Duration>,
    /// How long nothing may go on.
    patience: Option<Duration>,
    went_on: Waited,
    /// Whether the line was found empty since [`had_caught_up`](Self::had_caught_up) was asked.
    caught_up: bool,
    /// Since when a call that may be silent runs, until it has been heard of, or has lasted for long.
    runs_since: Option<Waited>,
    /// The runtime in which the call was made.
    runtime: Option<Id>,
    in_a_row: u32,
    /// How many times in a row the server has failed at a listener, and until when that waits.
    failures: u32,
    rests_until: Option<Instant>,
    /// An answer that came before the request had left.
    early: Option<M::Answer>,
}

/// What a call brings.
#[derive(Debug)]
pub(crate) enum Said<A> {
    Answer(A),
    /// The server has said that this is all. Of what may be silent, that is never all.
    Ended,
    /// Nothing, for as long as was asked.
    Nothing,
    Broke(Broke),
}

/// A call that broke, or could not be had.
#[derive(Debug)]
pub(crate) struct Broke {
    pub(crate) status: Arc<Status>,
    pub(crate) why: Why,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Another call may bring more. Whether the server had the request.
    Fault { had_request: bool },
    /// The token was an old one, and the next call shows another.
    Renewed,
    /// The server failed without saying whose fault it is.
    ServerFailed,
    /// The server refuses what is asked.
    Refused,
    /// The server refuses who asks, or does not have the method.
    Caller,
    /// The circuit was open for too long.
    CircuitOpen,
    /// Nothing went on for too long.
    TimeIsUp,
}

impl<M: ServerStream> Reader<M> {
    pub(crate) fn new(
        client: &Client,
        options: &Options,
        control: &Arc<Control>,
        meter: Option<Meter>,
    ) -> Self {
        Self {
            nodes: Nodes::of_stream::<M>(client, options.retry.clone()),
            control: Arc::clone(control),
            meter,
            lane: None,
            clock: Clock::default(),
            stall: options.stall_after,
            patience: Some(options.retry.time_allowed()).filter(|_| !M::IS_SILENT),
            went_on: Waited::default(),
            caught_up: false,
            runs_since: None,
            runtime: None,
            in_a_row: 0,
            failures: 0,
            rests_until: None,
            early: None,
        }
    }

    /// Something went on, and the consumer has it. Without that, the time up to the next answer counts as waited.
    pub(crate) fn goes_on(&mut self) {
        self.clock.rest();
        self.went_on = self.clock.waited();
        self.nodes.progress();
    }

    /// Opens a call, in place of any other, as soon as that may be.
    pub(crate) fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        request: &M::Request,
    ) -> Poll<Result<(), Broke>> {
        self.lane = None;
        self.clock.resume();
        loop {
            let now = Instant::now();
            let (permit, opens) = match self.rests_until.filter(|until| *until > now) {
                Some(until) => (None, Some(until)),
                None => self.nodes.permit(cx, now, false, |_| Some(0)),
            };
            let waited = self.clock.waited();
            if let Some((route, probe)) = permit {
                let counters = &self.control.counters;
                counters.calls.add(1);
                let setup = Setup {
                    traffic: counters.traffic.clone(),
                    flight_time: match &mut self.meter {
                        Some(meter) if !M::IS_SILENT => meter.flight_time(),
                        _ => FlightTime::off(),
                    },
                    span: call_span(M::METHOD, self.nodes.name(route.node), counters.calls.get()),
                    flight: Flight::new(counters.calls.get(), probe.is_some()),
                    route,
                    seen: self.nodes.node(route.node).incident(),
                    left: Moment::of_no_canary(),
                    probe,
                    ages_at: None,
                    waited,
                };
                let link = self.nodes.link(route);
                let mut lane = Lane::open(link, M::METHOD, M::MAX_ANSWER_LEN, false, setup);
                // There is always a next answer to wait for.
                lane.flight.carry(0);
                lane.batch.push_back(request.clone());
                lane.send(waited);
                lane.close(waited);
                self.lane = Some(lane);
                self.caught_up = true;
                self.runs_since = None;
                self.runtime = runtime::current();
                self.early = None;
                return Poll::Ready(Ok(()));
            }
            if let Some(broke) = self.gives_up(waited) {
                return Poll::Ready(Err(broke));
            }
            let deadlines = [opens, self.gives_up_at(now)];
            let deadline = deadlines.into_iter().flatten().min();
            self.publish(0);
            if self.clock.poll_until(cx, now, deadline).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Waits until the transport has taken the request of the call. What the server has from it then, nobody can tell:
    /// a Go server sends nothing before its first answer.
    pub(crate) fn poll_started(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        self.clock.resume();
        loop {
            let Some(lane) = &mut self.lane else {
                return Poll::Ready(Err(self.no_call()));
            };
            let now = Instant::now();
            self.clock.count(now);
            let waited = self.clock.waited();
            match lane.poll_event(cx, waited) {
                Poll::Ready(Event::Ended(end)) => return Poll::Ready(Err(self.ended(end))),
                Poll::Ready(Event::Answer(answer)) => {
                    self.early = Some(answer);
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending if lane.is_started(cx) => {
                    self.runs_since = Some(waited);
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {}
            }
            if let Some(broke) = self.left_behind().or_else(|| self.stalled(waited)) {
                return Poll::Ready(Err(broke));
            }
            let deadline = self.stalls_at(now);
            if self.clock.poll_until(cx, now, deadline).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// What the call brings next, or that nothing has come by then.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        until: Option<Instant>,
    ) -> Poll<Said<M::Answer>> {
        self.clock.resume();
        if self.in_a_row == READ_IN_A_ROW {
            self.in_a_row = 0;
            if let Some(broke) = self.gives_up(self.clock.waited()) {
                self.lane = None;
                return Poll::Ready(Said::Broke(broke));
            }
            self.wait_for_next();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = self.poll_call(cx, until);
        self.in_a_row = match polled {
            Poll::Ready(Said::Answer(_)) => {
                self.wait_for_next();
                self.in_a_row + 1
            }
            _ => 0,
        };
        polled
    }

    fn wait_for_next(&mut self) {
        if !M::IS_SILENT {
            let now = Instant::now();
            self.clock.pause(now, Some(later(now, A_TURN)));
        }
    }

    fn poll_call(&mut self, cx: &mut Context<'_>, until: Option<Instant>) -> Poll<Said<M::Answer>> {
        loop {
            let now = Instant::now();
            self.clock.count(now);
            let waited = self.clock.waited();
            let Some(lane) = &mut self.lane else {
                return Poll::Ready(Said::Broke(self.no_call()));
            };
            if let Some(answer) = self.early.take() {
                self.answered();
                return Poll::Ready(Said::Answer(answer));
            }
            match lane.poll_event(cx, waited) {
                Poll::Ready(Event::Answer(answer)) => {
                    self.answered();
                    return Poll::Ready(Said::Answer(answer));
                }
                Poll::Ready(Event::Ended(end)) if end.status.is_none() && !M::IS_SILENT => {
                    self.answered();
                    self.over("ended", None);
                    return Poll::Ready(Said::Ended);
                }
                Poll::Ready(Event::Ended(end)) => {
                    return Poll::Ready(Said::Broke(self.ended(end)));
                }
                Poll::Pending => self.caught_up = true,
            }
            if let Some(broke) = self.left_behind() {
                return Poll::Ready(Said::Broke(broke));
            }
            let Some(lane) = &mut self.lane else {
                return Poll::Ready(Said::Broke(self.no_call()));
            };
            let due = |since: Option<Waited>, time| {
                let at = since?.checked_add(time)?;
                Some((at, at <= waited))
            };
            let probes = due(self.runs_since, PROBES);
            if let Some((_, true)) = probes {
                lane.end_probe();
            }
            let outlives = due(self.runs_since, OUTLIVES);
            if let Some((_, true)) = outlives {
                self.runs_since = None;
                self.failures = 0;
                let node = lane.route.node;
                self.nodes.node(node).outlived_faults();
            }
            if until.is_some_and(|at| at <= now) {
                return Poll::Ready(Said::Nothing);
            }
            if !M::IS_SILENT
                && let Some(broke) = self.stalled(waited)
            {
                return Poll::Ready(Said::Broke(broke));
            }
            if let Some(broke) = self.gives_up(waited) {
                self.lane = None;
                return Poll::Ready(Said::Broke(broke));
            }
            let ahead = [probes, outlives].into_iter().flatten();
            let ahead = ahead
                .filter(|(_, is_past)| !is_past)
                .map(|(at, _)| at)
                .min();
            let deadlines = [
                until,
                ahead.and_then(|waited| self.clock.at(now, waited)),
                self.stalls_at(now).filter(|_| !M::IS_SILENT),
                self.gives_up_at(now),
            ];
            let deadline = deadlines.into_iter().flatten().min();
            self.publish(1);
            if self.clock.poll_until(cx, now, deadline).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Waits until then.
    pub(crate) fn poll_rest(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        self.clock.resume();
        loop {
            let now = Instant::now();
            if until <= now {
                return Poll::Ready(());
            }
            if self.clock.poll_until(cx, now, Some(until)).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Whether all that had come was read, before the last answer came.
    pub(crate) fn had_caught_up(&mut self) -> bool {
        std::mem::take(&mut self.caught_up)
    }

    /// Drops the call: nothing more is read of it.
    pub(crate) fn hang_up(&mut self) {
        self.lane = None;
    }

    /// A call that may be silent is dropped where it is polled in another runtime than before: its connection moves
    /// only in that.
    fn left_behind(&mut self) -> Option<Broke> {
        if !M::IS_SILENT || self.runtime == runtime::current() {
            return None;
        }
        let words = Status::unavailable("it is polled in another runtime than before");
        let end = self.lane.as_ref()?.abandon(EndedBy::Disorder, words);
        Some(self.ended(end))
    }

    /// The call is dropped if it makes no progress.
    fn stalled(&mut self, waited: Waited) -> Option<Broke> {
        let lane = self.lane.as_mut()?;
        self.stall?;
        if !lane.has_stalled(waited, self.stall, false) {
            return None;
        }
        let end = lane.stall(self.stall);
        lane.leave_connection();
        Some(self.ended(end))
    }

    fn stalls_at(&self, now: Instant) -> Option<Instant> {
        self.stall?;
        let waited = self.lane.as_ref()?.stalls_at(self.stall, false)?;
        self.clock.at(now, waited)
    }

    fn no_call(&self) -> Broke {
        Broke {
            status: Arc::new(Status::cancelled("there is no call")),
            why: Why::Fault { had_request: false },
        }
    }

    fn publish(&mut self, in_flight: usize) {
        if let Some(meter) = &mut self.meter {
            meter.publish(in_flight);
        }
    }

    /// The server has answered.
    fn answered(&mut self) {
        let Some(lane) = &mut self.lane else {
            return;
        };
        if lane.flight.answers() == 0 {
            lane.accepted();
        }
        lane.flight.carry(0);
        lane.flight.land();
        let node = self.nodes.node(lane.route.node);
        node.note_alive();
        lane.note_answer(node.incident());
        self.runs_since = None;
        self.failures = 0;
    }

    fn over(&mut self, outcome: &'static str, status: Option<&Status>) {
        if let Some(mut lane) = self.lane.take() {
            lane.tell(outcome);
            lane.measure(self.nodes.name(lane.route.node), status);
        }
    }

    /// The call has ended, and not by saying that all is said.
    fn ended(&mut self, end: End) -> Broke {
        let Some(lane) = &self.lane else {
            return self.no_call();
        };
        let status = end.status.clone();
        let status = status.unwrap_or_else(|| Arc::new(Status::unavailable("the call has ended")));
        let retry = self.nodes.retry();
        let verdict = match end.by {
            EndedBy::Peer if end.status.is_some() => retry.verdict(&status, Verdict::of),
            _ => Verdict::Transient,
        };
        let refusal = match lane.refusal(&end, Some(verdict)) {
            Some(Refusal::Later) if !retry.is_on() => Some(Refusal::Final),
            refusal => refusal,
        };
        let origin = lane.origin();
        let had_request = end.transmitted > 0;
        let (why, cause) = match (verdict, refusal) {
            (_, Some(Refusal::Again)) => (Why::Renewed, None),
            (_, Some(Refusal::Later)) => (Why::Fault { had_request: false }, Some(Cause::Line)),
            (Verdict::Record, _) => (Why::Refused, None),
            (Verdict::Caller, _) if self.nodes.set_aside(origin.route.node, &status) => {
                (Why::Renewed, None)
            }
            (Verdict::Caller, _) => (Why::Caller, None),
            // It waits by itself: the server answers, so others need not.
            (Verdict::Attempt, _) if M::IS_SILENT => {
                self.failures += 1;
                let wait = self.nodes.retry().wait_after(self.failures);
                self.rests_until = Some(later(Instant::now(), wait));
                (Why::ServerFailed, None)
            }
            (Verdict::Attempt, _) => (Why::ServerFailed, Some(Cause::Named)),
            (Verdict::Transient, _) if had_request && !origin.worked && !M::IS_SILENT => {
                (Why::Fault { had_request }, Some(Cause::Work))
            }
            (Verdict::Transient, _) => (Why::Fault { had_request }, Some(Cause::Line)),
        };
        lane.span
            .in_scope(|| debug!(target: LOG, error = %in_words(&status), "the call broke"));
        let outcome = match end.by {
            EndedBy::Stall => "stalled",
            EndedBy::Disorder => "out of step",
            EndedBy::Peer => code_name(status.code()),
        };
        self.over(outcome, Some(&status));
        let node = self.nodes.node(origin.route.node);
        match cause {
            Some(cause) => node.fault(Instant::now(), cause, &status, origin),
            None => node.note_alive(),
        }
        if cause.is_some() || why == Why::ServerFailed {
            self.note_fault(&status);
        }
        self.publish(0);
        Broke { status, why }
    }

    /// A call broke, or its answers were not all that there was to say.
    pub(crate) fn note_fault(&mut self, status: &Arc<Status>) {
        self.control.counters.fault(status);
        self.nodes.note_fault(Arc::clone(status));
    }

    /// Whether it is given up.
    fn gives_up(&mut self, waited: Waited) -> Option<Broke> {
        let is_due = |at: Option<Waited>| at.is_some_and(|at| at <= waited);
        let why = if is_due(self.time_is_up_at()) {
            Why::TimeIsUp
        } else if !M::IS_SILENT && is_due(self.nodes.gives_up_at(waited, true)) {
            Why::CircuitOpen
        } else {
            return None;
        };
        let status = match self.nodes.last_fault() {
            Some(status) => status,
            None => Arc::new(Status::unavailable("the server has not answered")),
        };
        Some(Broke { status, why })
    }

    fn gives_up_at(&mut self, now: Instant) -> Option<Instant> {
        let waited = self.clock.waited();
        let circuit = match M::IS_SILENT {
            true => None,
            false => self.nodes.gives_up_at(waited, true),
        };
        let at = [circuit, self.time_is_up_at()]
            .into_iter()
            .flatten()
            .min()?;
        self.clock.at(now, at)
    }

    fn time_is_up_at(&self) -> Option<Waited> {
        self.went_on.checked_add(self.patience?)
    }
}

impl Broke {
    /// Whether another call may follow.
    pub(crate) fn may_pass(&self, retry: &Retry) -> bool {
        match self.why {
            Why::Renewed => true,
            Why::Fault { .. } | Why::ServerFailed => retry.is_on(),
            Why::Refused | Why::Caller | Why::CircuitOpen | Why::TimeIsUp => false,
        }
    }

    /// The error of a stream that ends with it.
    pub(crate) fn into_error(self, retry: &Retry) -> Error {
        let Self { status, why } = self;
        let kind = match why {
            Why::Fault { .. } | Why::Renewed => ErrorKind::Unavailable,
            Why::ServerFailed => ErrorKind::ServerFailed,
            Why::Refused => verdict::kind_of_record(&status),
            Why::Caller => verdict::kind_of_whole(&status),
            Why::CircuitOpen => ErrorKind::CircuitOpen,
            Why::TimeIsUp => {
                let words = format!("no answer in {} s", retry.time_allowed().as_secs_f64());
                return Error::new(ErrorKind::Unavailable, words).with_status(status);
            }
        };
        Error::from_status(kind, status)
    }
}
