//! The generator: takes items in, keeps calls going, hands results out.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::adapter::Adapter;
use super::call::{End, Event};
use super::clock::Clock;
use super::ends::{Leftover, Order, Remainder, Shared};
use super::flight::Flight;
use super::lane::Lane;
use super::pace::{Gate, Pace};
use super::window::{Acknowledged, Aftermath, Ended, Rules, Settled, Unsettled, Window};
use super::{Operation, refs};
use crate::breaker::Probe;
use crate::cid::Cid;
use crate::client::{Client, Transport};
use crate::error::{ErrorKind, Failed};
use crate::item::Tagged;
use crate::options::Options;
use crate::proto::core::{RecordMeta, RecordRef};
use crate::verdict::Verdict;

/// How many items are taken from an input that is always ready, before the task's other work
/// gets a turn.
const TAKEN_AT_ONCE: usize = 256;

/// How many events of calls are taken in before the task's other work gets a turn: an answer to an
/// item that was given up makes no result.
const EVENTS_AT_ONCE: usize = 1024;

type Outcome<O, T> = Result<<O as Operation>::Success<T>, Failed<<O as Operation>::Input, T>>;

/// An item on its way out of the window.
type Out<O, T> = Settled<Entry<O, T>, <O as Operation>::Output>;

/// The results of `operation` over `input`. Nothing happens before the first poll.
pub(crate) fn drive<S, O, T>(
    method: &'static str,
    input: S,
    operation: O,
    client: &Client,
    options: &Options,
) -> Adapter<S, impl Stream<Item = Outcome<O, T>> + use<S, O, T>>
where
    S: Stream,
    S::Item: Tagged<Input = O::Input, Tag = T>,
    O: Operation,
{
    let (lower, upper) = input.size_hint();
    let lower = if options.stop_on_error {
        lower.min(1)
    } else {
        lower
    };
    let shared = Shared::new();
    let driver = Driver {
        window: Window::new(Rules {
            items: options.window.get(),
            bytes: options.window_bytes.get(),
            acknowledged: O::ACKNOWLEDGED,
            lost: O::LOST,
            retries: options.retry.is_on(),
            most_tries: options.retry.most_tries(),
            unordered: options.unordered,
        }),
        pace: Pace::new(options.retry.clone(), client.breaker()),
        operation,
        transport: client.transport(),
        limits: Limits {
            time: options.retry.most_time(),
            stall: options.stall_after,
            age: options.max_call_age,
            idle: options.idle_close,
            stop_on_error: options.stop_on_error,
        },
        shared: Arc::clone(&shared),
        input: Box::pin(input),
        input_ended: false,
        drains_until: None,
        stopped: false,
        lane: None,
        look_up: None,
        gate_opens: None,
        batch: VecDeque::new(),
        clock: Clock::default(),
    };
    let results = async_stream::stream! {
        let mut driver = driver;
        while let Some(settled) = poll_fn(|cx| driver.poll_result(cx)).await {
            yield driver.hand_out(settled);
        }
        driver.leave();
    };
    Adapter::new(method, (lower, upper), shared, results)
}

/// An item in the window.
struct Entry<O: Operation, T> {
    input: O::Input,
    tag: T,
    /// What [`Operation::check`] gave, or why the item must not be sent.
    asked: Option<O::Asked>,
}

struct Limits {
    time: Duration,
    stall: Option<Duration>,
    age: Option<Duration>,
    idle: Option<Duration>,
    stop_on_error: bool,
}

struct Driver<S, O, T>
where
    S: Stream,
    S::Item: Tagged<Input = O::Input, Tag = T>,
    O: Operation,
{
    operation: O,
    transport: Arc<dyn Transport>,
    limits: Limits,
    shared: Arc<Shared<S, Outcome<O, T>>>,
    input: Pin<Box<S>>,
    input_ended: bool,
    /// No more input is taken, and by then all is given up.
    drains_until: Option<Instant>,
    stopped: bool,
    window: Window<Entry<O, T>, O::Output>,
    /// The call that does the work.
    lane: Option<Lane<O::Request, O::Answer>>,
    /// The call that looks up what became of items whose answer was lost.
    look_up: Option<Lane<RecordRef, RecordMeta>>,
    pace: Pace,
    /// When a call that is wanted might be opened.
    gate_opens: Option<Instant>,
    /// Requests on their way from the window to the call; empty between polls.
    batch: VecDeque<O::Request>,
    clock: Clock,
}

impl<S, O, T> Driver<S, O, T>
where
    S: Stream,
    S::Item: Tagged<Input = O::Input, Tag = T>,
    O: Operation,
{
    /// Works until the window has a result to hand out, or all is done (`None`).
    ///
    /// Answers that are there are taken before the input is asked for more, so that new requests
    /// leave in batches and not one for each answer; but the line must not run dry, so an input
    /// is asked first when half the window is free. Answers are also taken before any timer is
    /// looked at: what has come has come in time.
    fn poll_result(&mut self, cx: &mut Context<'_>) -> Poll<Option<Out<O, T>>> {
        self.clock.resume();
        match self.shared.order() {
            None => {}
            Some(Order::Drain(deadline)) => self.drains_until = Some(deadline),
            Some(Order::Stop) => self.stopped = true,
        }
        let mut filled = false;
        let mut events = EVENTS_AT_ONCE;
        loop {
            if self.stopped {
                return Poll::Ready(None);
            }
            if let Some(settled) = self.window.pop() {
                return Poll::Ready(Some(settled));
            }
            if !filled && self.window.is_half_empty() {
                filled = true;
                self.fill(cx);
                continue;
            }
            if let Poll::Ready(goes_on) = self.poll_calls(cx) {
                // What an ended call leaves waiting has to be sent again.
                filled &= goes_on;
                events -= 1;
                if events == 0 {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                continue;
            }
            if !filled {
                filled = true;
                self.fill(cx);
                continue;
            }
            if self.is_done() {
                return Poll::Ready(None);
            }
            if self.poll_timers(cx).is_pending() {
                return Poll::Pending;
            }
            filled = false;
        }
    }

    fn takes_input(&self) -> bool {
        !self.input_ended && self.drains_until.is_none()
    }

    fn is_done(&self) -> bool {
        !self.takes_input()
            && self.window.is_empty()
            && self.lane.is_none()
            && self.look_up.is_none()
    }

    // ---- in ------------------------------------------------------------------------------

    /// Takes what the input has and the window has room for, and sends it.
    fn fill(&mut self, cx: &mut Context<'_>) {
        let mut left = TAKEN_AT_ONCE;
        let mut interrupted = false;
        if self.takes_input() {
            self.window.taking_at(self.clock.waited());
        }
        while self.takes_input() && self.window.has_room() {
            // While the server is away the input is left alone, but for the item of a probe.
            if self.pace.is_shut() && !self.window.is_empty() && !self.window.is_refusing() {
                break;
            }
            if left == 0 {
                interrupted = true;
                cx.waker().wake_by_ref();
                break;
            }
            left -= 1;
            match self.input.as_mut().poll_next(cx) {
                Poll::Ready(Some(item)) => self.take(item),
                Poll::Ready(None) => self.input_ended = true,
                Poll::Pending => break,
            }
        }
        self.shared.counters.taken.set(self.window.next_index());
        self.gate_opens = None;
        self.look_up(cx);
        self.send(cx, interrupted);
    }

    fn take(&mut self, item: S::Item) {
        let (input, tag) = item.untag();
        let bytes = self.operation.size(&input);
        match self.operation.check(&input) {
            Ok(asked) => {
                let asked = Some(asked);
                self.window.take(Entry { input, tag, asked }, bytes);
            }
            Err(error) => {
                let asked = None;
                self.window
                    .refuse(Entry { input, tag, asked }, bytes, error);
            }
        }
    }

    // ---- calls ---------------------------------------------------------------------------

    /// Asks whether a call may be opened now, and notes when to ask again.
    fn may_open(&mut self, cx: &Context<'_>, now: Instant) -> Option<Option<Probe>> {
        match self.pace.gate(cx, now) {
            Gate::Open(probe) => Some(probe),
            Gate::Shut(until) => {
                self.gate_opens = self.gate_opens.into_iter().chain(until).min();
                None
            }
        }
    }

    /// Hands what waits to the call, opening one if there is none and it may be.
    fn send(&mut self, cx: &Context<'_>, more_is_ready: bool) {
        if self.lane.is_none() {
            if !self.window.has_waiting() {
                return;
            }
            let now = Instant::now();
            let Some(probe) = self.may_open(cx, now) else {
                return;
            };
            let flight = self.window.launch(probe.is_some());
            let ages_at = self.limits.age.and_then(|age| {
                // Earlier by up to a tenth, so that adapters do not all turn at once.
                now.checked_add(age.mul_f64(1.0 - 0.1 * fastrand::f64()))
            });
            self.shared.counters.calls.add(1);
            self.lane = Some(Lane::open(
                Arc::clone(&self.transport),
                O::METHOD,
                flight,
                probe,
                ages_at,
                self.clock.waited(),
            ));
        }
        let Some(lane) = &mut self.lane else { return };
        if lane.is_finished() {
            return;
        }
        while let Some(entry) = self.window.send_next(&mut lane.flight) {
            let asked = entry.asked.as_ref().expect("only what was checked waits");
            self.batch
                .push_back(self.operation.request(&entry.input, asked));
        }
        if !self.batch.is_empty() {
            self.shared.counters.sent.add(self.batch.len() as u64);
            self.shared.counters.resent.set(self.window.resent());
            lane.send(&mut self.batch, self.clock.waited());
        }
        let takes_input = !self.input_ended && self.drains_until.is_none();
        let over = match O::ACKNOWLEDGED {
            Acknowledged::EachItem => {
                !takes_input && self.look_up.is_none() && !self.window.has_unsent()
            }
            // The answer comes when the segment is closed, so it closes when nothing more is at
            // hand.
            Acknowledged::WholeCall => !more_is_ready,
        };
        if over || lane.flight.is_full() || self.window.wants_to_be_alone() {
            lane.finish();
        }
    }

    /// Looks up what is in doubt, all in one call.
    fn look_up(&mut self, cx: &Context<'_>) {
        if self.look_up.is_some() || !self.window.has_doubt() {
            return;
        }
        let Some(probe) = self.may_open(cx, Instant::now()) else {
            return;
        };
        let mut flight = self.window.launch_look_up(probe.is_some());
        let mut batch = VecDeque::new();
        while let Some(entry) = self.window.look_up_next(&mut flight) {
            // Without a key it asks for nothing, and the server refuses that: it cannot be told.
            let key = key(&self.operation, entry);
            batch.push_back(key.map_or_else(RecordRef::default, |key| refs::request(&key)));
        }
        self.shared.counters.calls.add(1);
        self.shared.counters.lookup_calls.add(1);
        let waited = self.clock.waited();
        let transport = Arc::clone(&self.transport);
        let mut lane = Lane::open(transport, refs::LOOKUP, flight, probe, None, waited);
        lane.send(&mut batch, waited);
        lane.finish();
        self.look_up = Some(lane);
    }

    /// Takes the next event of a call in. Whether that call goes on.
    fn poll_calls(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let waited = self.clock.waited();
        if let Some(lane) = &mut self.look_up
            && let Poll::Ready(event) = lane.poll_event(cx, waited)
        {
            return Poll::Ready(self.look_up_event(event));
        }
        if let Some(lane) = &mut self.lane
            && let Poll::Ready(event) = lane.poll_event(cx, waited)
        {
            return Poll::Ready(self.call_event(event));
        }
        Poll::Pending
    }

    fn call_event(&mut self, event: Event<O::Answer>) -> bool {
        match event {
            Event::Answer(_) if O::ACKNOWLEDGED == Acknowledged::WholeCall => true,
            Event::Answer(answer) => {
                let Some(lane) = &mut self.lane else {
                    return false;
                };
                let operation = &self.operation;
                let expected = self
                    .window
                    .answer(&mut lane.flight, |entry| accept(operation, entry, answer));
                if expected {
                    self.pace.answered();
                } else {
                    // The server does not keep to the protocol: what it says next could be
                    // anybody's.
                    self.lane = None;
                }
                expected
            }
            Event::Ended(end) => {
                if let Some(lane) = self.lane.take() {
                    let ended = self.judge(end);
                    self.call_ended(&lane.flight, ended);
                }
                false
            }
        }
    }

    fn look_up_event(&mut self, event: Event<RecordMeta>) -> bool {
        let Some(mut lane) = self.look_up.take() else {
            return false;
        };
        match event {
            Event::Answer(meta) => {
                let operation = &self.operation;
                let answered = refs::answered(&meta.cid).ok();
                let is_of_another = |entry| key(operation, entry) != answered;
                if self.window.awaited(&lane.flight).is_some_and(is_of_another) {
                    // Nothing can be told from that.
                    let words = Status::data_loss("the lookup answered with another record");
                    let (flight, mut ended) = lane.abandon(words.clone());
                    ended.failure = Some((Verdict::Record, words));
                    self.look_up_ended(&flight, ended);
                    return false;
                }
                let expected = self.window.answer(&mut lane.flight, |entry| {
                    let key = key(operation, entry);
                    let found = key.and_then(|key| operation.found(key));
                    Ok(found.expect("what is looked up has a key"))
                });
                if expected {
                    self.pace.looked_up();
                    self.look_up = Some(lane);
                }
                expected
            }
            Event::Ended(end) => {
                let ended = self.judge(end);
                self.look_up_ended(&lane.flight, ended);
                false
            }
        }
    }

    fn judge(&self, end: End) -> Ended {
        Ended {
            failure: end
                .status
                .err()
                .map(|status| (self.pace.retry().verdict(&status), status)),
            taken: end.taken,
            answers: end.answers,
        }
    }

    fn call_ended(&mut self, flight: &Flight, ended: Ended) {
        let now = Instant::now();
        let status = ended.failure.as_ref().map(|(_, status)| status.clone());
        let operation = &self.operation;
        let aftermath = self.window.call_ended(
            flight,
            ended,
            self.pace.wait(now, status.as_ref()),
            |entry| accept(operation, entry, O::Answer::default()),
        );
        match aftermath {
            Aftermath::Quiet => {}
            Aftermath::Answered => self.pace.answered(),
            Aftermath::Fault { named } => self.fault(now, named, status),
        }
    }

    fn look_up_ended(&mut self, flight: &Flight, ended: Ended) {
        let now = Instant::now();
        let status = ended.failure.as_ref().map(|(_, status)| status.clone());
        let wait = self.pace.wait(now, status.as_ref());
        match self.window.look_up_ended(flight, ended, wait) {
            Aftermath::Quiet => {}
            Aftermath::Answered => self.pace.looked_up(),
            Aftermath::Fault { named } => self.fault(now, named, status),
        }
    }

    fn fault(&mut self, now: Instant, named: bool, status: Option<Status>) {
        self.shared.counters.faults.add(1);
        let status = status.unwrap_or_else(|| Status::unavailable("answers are missing"));
        self.pace.fault(now, named, &status);
    }

    // ---- time ----------------------------------------------------------------------------

    /// Does what is due, or waits for what is due next.
    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.do_what_is_due(now) {
            return Poll::Ready(());
        }
        let deadline = self.next_deadline(now);
        self.clock.poll_until(cx, now, deadline)
    }

    fn do_what_is_due(&mut self, now: Instant) -> bool {
        let waited = self.clock.waited();
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= waited);
        let mut done = self.window.wake(now);
        if is_due(self.window.expires_at(self.limits.time)) {
            self.window.expire(waited, self.limits.time);
            done = true;
        }
        if is_due(
            self.lane
                .as_ref()
                .and_then(|l| l.stalls_at(self.limits.stall)),
        ) && let Some(lane) = self.lane.take()
        {
            self.transport.leave(lane.connection);
            let (flight, ended) = lane.abandon(stalled(self.limits.stall));
            self.call_ended(&flight, ended);
            done = true;
        }
        if is_due(
            self.look_up
                .as_ref()
                .and_then(|l| l.stalls_at(self.limits.stall)),
        ) && let Some(lane) = self.look_up.take()
        {
            self.transport.leave(lane.connection);
            let (flight, ended) = lane.abandon(stalled(self.limits.stall));
            self.look_up_ended(&flight, ended);
            done = true;
        }
        if let Some(lane) = &mut self.lane
            && lane
                .closes_at(now, self.limits.idle)
                .is_some_and(|at| at <= now)
        {
            lane.finish();
            done = true;
        }
        if is_due(self.pace.gives_up_at(waited)) && !self.window.is_refusing() {
            self.end_calls();
            let last = self.pace.last_fault();
            self.window.fail_all(ErrorKind::CircuitOpen, last);
            done = true;
        }
        if self.drains_until.is_some_and(|until| until <= now) && !self.is_done() {
            self.window.give_up_all("the adapter was drained");
            self.end_calls();
            done = true;
        }
        done
    }

    fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let gives_up_at = self
            .pace
            .gives_up_at(self.clock.waited())
            .filter(|_| !self.window.is_refusing());
        let waits = [
            self.window.expires_at(self.limits.time),
            self.lane
                .as_ref()
                .and_then(|l| l.stalls_at(self.limits.stall)),
            self.look_up
                .as_ref()
                .and_then(|l| l.stalls_at(self.limits.stall)),
            gives_up_at,
        ];
        let waits = waits.into_iter().flatten().min();
        let idle = self.limits.idle;
        let times = [
            waits.and_then(|waited| self.clock.at(now, waited)),
            self.lane
                .as_mut()
                .and_then(|lane| lane.closes_at(now, idle)),
            self.window.rests_until(),
            self.gate_opens,
            self.drains_until,
        ];
        times.into_iter().flatten().min()
    }

    // ---- out -----------------------------------------------------------------------------

    fn hand_out(&mut self, settled: Out<O, T>) -> Outcome<O, T> {
        let counters = &self.shared.counters;
        counters.answered_below.set(self.window.handed_out_below());
        match &settled.outcome {
            Ok(output) => {
                counters.succeeded.add(1);
                if O::was_found(output) {
                    counters.already_stored.add(1);
                }
            }
            Err(error) => {
                counters.failure(settled.index, error);
                self.stopped |= self.limits.stop_on_error;
            }
        }
        result::<O, T>(settled)
    }

    fn end_calls(&mut self) {
        self.lane = None;
        self.look_up = None;
    }

    /// Leaves what it has for [`Adapter::into_remainder`].
    fn leave(mut self) {
        self.end_calls();
        let next_index = self.window.next_index();
        let (settled, unsettled) = self.window.dismantle();
        let mut remainder = Remainder {
            input: self.input,
            next_index,
            unread: settled.into_iter().map(result::<O, T>).collect(),
            unsent: Vec::new(),
            unanswered: Vec::new(),
        };
        for Unsettled {
            index,
            entry,
            attempts,
            is_in_doubt,
        } in unsettled
        {
            let leftover = Leftover {
                index,
                input: entry.input,
                tag: entry.tag,
                attempts,
            };
            if is_in_doubt {
                remainder.unanswered.push(leftover);
            } else {
                remainder.unsent.push(leftover);
            }
        }
        self.shared.leave(remainder);
    }
}

fn result<O: Operation, T>(settled: Out<O, T>) -> Outcome<O, T> {
    let Settled {
        index,
        entry,
        attempts,
        outcome,
    } = settled;
    match outcome {
        Ok(output) => Ok(O::success(index, entry.tag, output)),
        Err(error) => Err(Failed {
            index,
            input: entry.input,
            tag: entry.tag,
            attempts,
            error,
        }),
    }
}

fn accept<O: Operation, T>(
    operation: &O,
    entry: &Entry<O, T>,
    answer: O::Answer,
) -> Result<O::Output, crate::Error> {
    let asked = entry.asked.as_ref().expect("only what was checked is sent");
    operation.accept(&entry.input, asked, answer)
}

fn key<O: Operation, T>(operation: &O, entry: &Entry<O, T>) -> Option<Cid> {
    operation.key(&entry.input, entry.asked.as_ref()?)
}

fn stalled(limit: Option<Duration>) -> Status {
    let seconds = limit.unwrap_or_default().as_secs_f64();
    Status::new(
        Code::DeadlineExceeded,
        format!("the call made no progress in {seconds} s"),
    )
}
