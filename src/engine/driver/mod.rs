//! The generator: takes items in, keeps calls going, hands results out.

mod look_up;
mod pace;
mod receive;
mod recess;
mod resume;
mod send;
mod timers;
mod verify;

use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use prost::Message;
use tokio::time::Instant;

use self::look_up::LookUp;
use self::pace::Pace;
use self::receive::keep;
use self::recess::Recesses;
use self::verify::Ticket;
use super::adapter::Adapter;
use super::calls::{CHUNK, Lane, Lanes};
use super::clock::Clock;
use super::control::Order;
use super::log::Log;
use super::nodes::{Canary, Deletes, Learnt, Nodes};
use super::remainder::{Leftover, Remainder, Shared};
use super::spread::Spread;
use super::window::{Rules, Settled, Unsettled, Window};
use crate::checkpoint::Run;
use crate::cid::Cid;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::failed::{Failed, Failure, InputError};
use crate::item::{Arrival, Fate, Prepared};
use crate::meter::Meter;
use crate::operation::{LostAnswer, Operation, Place, Question};
use crate::options::Options;
use crate::stats::Counters;

/// How many items are taken from an input that is always ready, before the task's other work
/// gets a turn. If they are long, a chunk of bytes at most.
const TAKEN_AT_ONCE: usize = 256;

/// How many events of calls and timers are handled before the task's other work gets a turn. Not each event makes a
/// result: an answer to an item that was given up makes none.
const EVENTS_AT_ONCE: usize = 1024;

/// A batch of records that the task verifies takes as long as so many events.
const EVENTS_OF_BATCH: usize = 16;

type Outcome<O, T, F> = Result<<O as Operation>::Success<T>, F>;

/// An item on its way out of the window.
type Out<O, T, F> = Settled<Entry<O, T, <F as Failure>::InputError>, <O as Operation>::Output>;

/// The results of `operation` over `input`. Nothing happens before the first poll.
///
/// Each method of an extension trait calls this by itself, though one is the other with default options.
/// In an async block that keeps an adapter over borrowed items, the compiler must see for itself that it
/// is `Send`, with a lifetime of its own for each borrow. Two things make it lose that ("implementation
/// is not general enough", "mismatched types"): a default method that returns what another method of its
/// trait returns, and a type that stores something typed by `S::Item`. `tests/it/spawned.rs` would not
/// compile.
///
/// `V` says how an item of the input is taken apart.
pub(crate) fn drive<S, O, T, F, V>(
    _: V,
    input: S,
    operation: O,
    client: &Client,
    options: &Options,
) -> Adapter<S, impl Stream<Item = Outcome<O, T, F>> + use<S, O, T, F, V>>
where
    S: Stream,
    S::Item: Arrival<V, Input = O::Input, Tag = T, Error = F::InputError>,
    O: Operation,
    F: Failure<Input = O::Input, Tag = T>,
{
    const {
        assert!(
            !(O::ACKNOWLEDGED.is_whole() && matches!(O::LOST_ANSWER, LostAnswer::LookUp)),
            "a call that is acknowledged as a whole cannot be settled item by item"
        );
        let looks_up = matches!(O::LOST_ANSWER, LostAnswer::LookUp);
        assert!(
            !looks_up || is_path(O::Question::METHOD),
            "`LostAnswer::LookUp` needs a `Question`, whose `METHOD` is `/package.Service/Method`"
        );
        assert!(is_path(O::METHOD), "`METHOD` is `/package.Service/Method`");
    }
    let method = O::NAME;
    let (lower, upper) = input.size_hint();
    let is_single = (lower, upper) == (1, Some(1));
    let lower = if options.stop_on_error {
        lower.min(1)
    } else {
        lower
    };
    let breakers = client.nodes().iter().map(|node| Arc::clone(&node.breaker));
    let shared = Shared::new(Counters::new(breakers.collect()));
    let driver = Driver {
        window: Window::new(Rules {
            items: options.window,
            bytes: options.window_bytes,
            depth: (options.min_in_flight, options.max_in_flight()),
            acknowledged: O::ACKNOWLEDGED,
            lost_answer: O::LOST_ANSWER,
            may_repeat: O::MAY_REPEAT,
            answers_may_fail: O::ANSWERS_MAY_FAIL,
            answer_len: O::ANSWER_LEN,
            retries: options.retry.is_on(),
            max_attempts: options.retry.attempts_allowed(),
            unordered: options.unordered,
            skip_stored: options.skip_stored && O::LOST_ANSWER == LostAnswer::LookUp,
            dedup: (!O::DELETES && options.dedup).then_some(Entry::<O, T, F::InputError>::cid),
        }),
        nodes: Nodes::of::<O>(client, options.retry.clone()),
        operation,
        limits: Limits {
            time: options.retry.time_allowed(),
            stall: options.stall_after,
            age: options.max_call_age,
            idle: options.idle_close,
            stop_on_error: options.stop_on_error,
            passes_input_errors: options.resume_past_input_errors,
        },
        shared: Arc::clone(&shared),
        input: Box::pin(input),
        input_ended: false,
        drains_until: None,
        stopped: false,
        first_unanswered: u64::MAX,
        run: None,
        lanes: Lanes::new(options.calls),
        look_up: None,
        spread: Spread::new(options),
        // All nodes have the same records.
        canary: Canary::new(
            Arc::clone(&client.nodes()[0].methods.of::<O>().canary),
            (O::LOST_ANSWER == LostAnswer::LookUp)
                .then(|| Arc::clone(&client.nodes()[0].methods.apart)),
        ),
        learnt: Arc::clone(&client.nodes()[0].methods.of::<O>().learnt),
        deletes: None,
        budget: 0,
        gate_opens: None,
        ends_by: None,
        clock: Clock::default(),
        pace: options.rate.map(Pace::new),
        input_opens: None,
        recesses: options.keep_trying.then(Recesses::default),
        log: Log::new(&shared.control, method, is_single).keeps_trying(options.keep_trying),
        meter: Meter::new(&shared.control, method),
        takes: PhantomData,
    };
    let results = async_stream::stream! {
        let mut driver = driver;
        driver.log.begin(driver.nodes.names());
        driver.nodes.tell_circuits();
        driver.resume();
        while let Some(outcome) = poll_fn(|cx| driver.poll_result(cx)).await {
            yield outcome;
        }
        driver.leave();
    };
    Adapter::new(method, (lower, upper), shared, results)
}

/// Whether this can be the path of a gRPC method.
const fn is_path(method: &str) -> bool {
    let bytes = method.as_bytes();
    let (mut at, mut slashes) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'/' => slashes += 1,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' => {}
            _ => return false,
        }
        at += 1;
    }
    slashes == 2 && bytes[0] == b'/' && bytes[at - 1] != b'/'
}

/// What stands in the window.
enum Entry<O: Operation, T, E> {
    Item {
        input: O::Input,
        tag: T,
        /// What [`Operation::check`] gave. `None`: it refused the item.
        checked: Option<O::Checked>,
    },
    /// The input failed here.
    Error(E),
}

impl<O: Operation, T, E> Entry<O, T, E> {
    /// An item that was checked, as all are that wait for an answer.
    fn item(&self) -> (&O::Input, &O::Checked) {
        self.checked()
            .expect("only what was checked is sent, looked up or answered")
    }

    fn cid(&self) -> Option<&Cid> {
        self.checked().and_then(|(_, checked)| O::cid(checked))
    }

    fn checked(&self) -> Option<(&O::Input, &O::Checked)> {
        match self {
            Self::Item { input, checked, .. } => Some((input, checked.as_ref()?)),
            Self::Error(_) => None,
        }
    }
}

#[derive(Clone, Copy)]
struct Limits {
    time: Duration,
    stall: Option<Duration>,
    age: Option<Duration>,
    idle: Option<Duration>,
    stop_on_error: bool,
    passes_input_errors: bool,
}

struct Driver<S, O, T, F, V>
where
    S: Stream,
    S::Item: Arrival<V, Input = O::Input, Tag = T, Error = F::InputError>,
    O: Operation,
    F: Failure<Input = O::Input, Tag = T>,
{
    operation: O,
    limits: Limits,
    shared: Arc<Shared<S, Outcome<O, T, F>>>,
    input: Pin<Box<S>>,
    input_ended: bool,
    /// No more input is taken, and by then all is given up.
    drains_until: Option<Instant>,
    stopped: bool,
    /// The first item that was handed out without an answer.
    first_unanswered: u64,
    /// What follows a checkpoint. It is over before the log is told of the end.
    run: Option<Run>,
    window: Window<Entry<O, T, F::InputError>, O::Output>,
    /// The calls that do the work.
    lanes: Lanes<O::Request, O::Answer>,
    /// The call that looks up what became of items whose answer was lost.
    look_up: Option<LookUp<O::Question>>,
    /// What waits for the CID of its record, if that is computed elsewhere.
    spread: Option<Spread<Ticket<O::Answer>>>,
    /// An item that has succeeded, to be sent again.
    canary: Canary<O::Request, <O::Question as Question>::Request>,
    /// How far calls may run ahead, as all adapters of the client have seen it.
    learnt: Arc<Learnt>,
    /// While calls delete, or are about to: what keeps canaries away, and since when.
    deletes: Option<(Deletes, Instant)>,
    nodes: Nodes,
    /// How many events may still be taken in before the task's other work gets a turn.
    budget: usize,
    /// When a call that is wanted might be opened.
    gate_opens: Option<Instant>,
    /// By when calls have to end that carry nothing any more.
    ends_by: Option<Instant>,
    clock: Clock,
    /// How many items a second are taken.
    pace: Option<Pace>,
    /// When the next item may be taken, if its pace is what keeps it.
    input_opens: Option<Instant>,
    /// Of an adapter that does not give up for good.
    recesses: Option<Recesses>,
    log: Log,
    meter: Meter,
    takes: PhantomData<fn(V)>,
}

impl<S, O, T, F, V> Driver<S, O, T, F, V>
where
    S: Stream,
    S::Item: Arrival<V, Input = O::Input, Tag = T, Error = F::InputError>,
    O: Operation,
    F: Failure<Input = O::Input, Tag = T>,
{
    /// After so many bytes of results the transport has its turn. A turn costs as much as two records. Where answers
    /// are long, requests are short, so a larger part does not keep the line idle.
    const PART: usize = if O::ANSWER_LEN > 0 { 2 * CHUNK } else { CHUNK };

    /// Works until the window has a result to hand out, or all is done (`None`).
    ///
    /// Answers that have come are handled before the input is asked for more, so that new requests leave in batches and
    /// not one for each answer. But calls must not run out of requests, so the input is asked first when half of the
    /// window is free. Answers are also handled before timers: an answer that has come has come in time.
    ///
    /// Where records are long, to verify all that has come would keep the line idle. So when a part has been handed
    /// out, the input is asked for more, and the transport has its turn to send it.
    fn poll_result(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome<O, T, F>>> {
        self.clock.resume();
        self.note_answered();
        self.obey();
        let mut filled = false;
        let mut came = false;
        self.budget = EVENTS_AT_ONCE;
        loop {
            if self.stopped {
                return Poll::Ready(None);
            }
            if let Some(settled) = self.window.pop() {
                return Poll::Ready(Some(self.hand_out(settled)));
            }
            if self.spread.is_some() && self.poll_spread(cx).is_ready() {
                continue;
            }
            if self.budget == 0 {
                // A server that always has an answer ready must not keep timers from being looked at.
                return self.give_way(cx);
            }
            if self.takes_input() && self.window.has_freed(Self::PART) {
                self.fill(cx);
                return self.give_way(cx);
            }
            if !filled && self.window.is_half_empty() {
                filled = true;
                self.fill(cx);
                continue;
            }
            if let Poll::Ready(goes_on) = self.poll_calls(cx) {
                // Items of a call that has ended may have to be sent again.
                filled &= goes_on;
                came = true;
                self.budget = self.budget.saturating_sub(1);
                continue;
            }
            // An answer makes room in its call, though it may have made none in the window.
            if !filled || std::mem::take(&mut came) && self.window.has_waiting() {
                filled = true;
                self.fill(cx);
                continue;
            }
            if self.is_done() {
                return Poll::Ready(None);
            }
            if self.spread.as_mut().is_some_and(Spread::go_on) {
                self.budget = self.budget.saturating_sub(EVENTS_OF_BATCH);
                continue;
            }
            if self.poll_timers(cx).is_pending() {
                if !self.shared.control.waits(cx) {
                    self.meter.publish(self.window.in_flight());
                    return Poll::Pending;
                }
                // An order has come just now.
                return self.give_way(cx);
            }
            filled = false;
            self.budget = self.budget.saturating_sub(1);
        }
    }

    /// Does what is due, and lets the task's other work have its turn.
    fn give_way<R>(&mut self, cx: &mut Context<'_>) -> Poll<R> {
        let now = Instant::now();
        self.clock.count(now);
        self.do_what_is_due(cx, now);
        let deadline = self.next_deadline(now);
        self.clock.pause(now, deadline);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does what the handles have told.
    fn obey(&mut self) {
        match self.shared.control.order() {
            None => {}
            Some(Order::Drain(deadline)) => self.drains_until = Some(deadline),
            Some(Order::Stop) => self.stopped = true,
        }
    }

    fn takes_input(&self) -> bool {
        !self.input_ended && self.drains_until.is_none() && !self.stopped
    }

    fn is_done(&self) -> bool {
        !self.takes_input()
            && self.window.is_empty()
            && self.lanes.is_empty()
            && self.look_up.is_none()
    }

    /// Takes what the input has and the window has room for, a chunk at most, and sends it.
    fn fill(&mut self, cx: &mut Context<'_>) {
        let mut left = TAKEN_AT_ONCE;
        let enough = self.window.begin_chunk().saturating_add(CHUNK);
        let mut interrupted = false;
        let now = Instant::now();
        // Timers may not have been looked at for long, if the input and the server are always ready.
        self.window.wake(now);
        self.window.success(self.nodes.learn());
        if self.takes_input() {
            self.window.note_time(self.clock.waited());
        }
        self.input_opens = None;
        self.try_again(now);
        while self.takes_input() && self.window.has_room() {
            // While the server is away the input is left alone, but for the item of a probe.
            if !self.window.is_empty() && !self.window.is_refusing() && self.nodes.are_shut(cx) {
                break;
            }
            if left == 0 || self.window.bytes() >= enough {
                interrupted = true;
                cx.waker().wake_by_ref();
                break;
            }
            left -= 1;
            if self.is_leaving_out() {
                if self.leave_out(cx).is_pending() {
                    break;
                }
                continue;
            }
            if let Some(pace) = &mut self.pace
                && !self.window.is_refusing()
                && let Some(at) = pace.opens_at(now)
            {
                self.input_opens = Some(at);
                break;
            }
            if !self.checkpoint_allows() {
                break;
            }
            match self.input.as_mut().poll_next(cx) {
                Poll::Ready(Some(item)) => {
                    if let Some(pace) = &mut self.pace
                        && !self.window.is_refusing()
                    {
                        pace.take(now);
                    }
                    self.take(item);
                    self.note_taken();
                    // The input may work in place, and for long.
                    self.obey();
                }
                Poll::Ready(None) => self.input_ended = true,
                Poll::Pending => break,
            }
        }
        self.hand_on(cx, now, interrupted);
    }

    /// Hands to the calls what has been taken, and gives up what has no time left.
    fn hand_on(&mut self, cx: &Context<'_>, now: Instant, more_is_ready: bool) {
        self.meter
            .taken_below(self.window.next_index() - self.begins_at());
        if self.canary.is_under_way() && !self.lanes.has_canary() {
            self.canary.is_over();
        }
        // An item whose time is up is not sent.
        self.expire(self.clock.waited());
        self.gate_opens = None;
        self.window.time_is(self.clock.waited());
        self.window.scout();
        if self.lanes.is_empty() && self.window.has_waiting() && !self.window.has_lost() {
            // Where few calls may be opened, what is known to be sent must not wait for what may be stored.
            self.send(cx, now, more_is_ready);
            self.look_up(cx, now);
        } else {
            self.look_up(cx, now);
            self.send(cx, now, more_is_ready);
        }
        if self.lanes.is_empty() && !self.window.has_waiting() {
            self.deletes = None;
        }
        self.meter.publish(self.window.in_flight());
    }

    /// Goes on after it has given up, if it is time for that.
    fn try_again(&mut self, now: Instant) {
        let Some(Recesses { items, look_ups }) = &mut self.recesses else {
            return;
        };
        let retry = self.nodes.retry();
        let wait = |times| retry.wait_after(times);
        if self.window.refuses_look_ups() && look_ups.is_over(now, wait) {
            self.window.try_look_ups_again();
        }
        if self.window.is_refusing() && items.is_over(now, wait) {
            self.window.try_again();
            self.nodes.try_again();
        }
    }

    fn note_taken(&self) {
        let taken = self.window.next_index() - self.begins_at();
        self.shared.control.counters.taken.set(taken);
    }

    fn take(&mut self, item: S::Item) {
        let item = match item.arrive() {
            Ok(item) => item,
            Err(error) => {
                let told = Error::new(ErrorKind::Input, "it gave an error in place of an item");
                return self.window.take_settled(Entry::Error(error), 0, Err(told));
            }
        };
        let Prepared {
            input,
            tag,
            cid,
            fate,
        } = item;
        let bytes = self.operation.size(&input);
        // A call that is acknowledged as a whole carries what is there at once.
        let may_wait = matches!(fate, Fate::Sent) && !O::ACKNOWLEDGED.is_whole();
        if let Some(spread) = self.spread.as_mut().filter(|_| may_wait) {
            let record = match cid {
                None => self.operation.to_hash(&input),
                Some(_) => None,
            };
            // Those that are the same are told apart by their order.
            if record.is_some() || self.window.has_unchecked() {
                let checked = None;
                let entry = Entry::Item {
                    input,
                    tag,
                    checked,
                };
                let index = self.window.take_unchecked(entry, bytes);
                return spread.push(Ticket::Input { index, cid }, record);
            }
        }
        let check = || match cid {
            None => self.operation.check(&input),
            Some(cid) => self.operation.check_known(&input, cid),
        };
        let (checked, is_stored) = match fate {
            Fate::Refused(error) => (Err(error), false),
            Fate::Sent => (check(), false),
            Fate::Stored => (check(), true),
        };
        let stored = cid
            .filter(|_| is_stored)
            .and_then(|cid| self.operation.stored(cid));
        let (checked, outcome) = match checked {
            Ok(checked) => (Some(checked), stored.map(Ok)),
            Err(error) => (None, Some(Err(error))),
        };
        let entry = Entry::Item {
            input,
            tag,
            checked,
        };
        match outcome {
            None => self.window.take(entry, bytes),
            Some(outcome) => self.window.take_settled(entry, bytes, outcome),
        }
    }

    fn hand_out(&mut self, settled: Out<O, T, F>) -> Outcome<O, T, F> {
        let settled = concluded::<O, T, F>(settled);
        let is_answer = match &settled.outcome {
            Ok(_) => true,
            Err(error) => error.kind().is_answer(),
        };
        let was_answered = settled.attempts > 0 && is_answer;
        if was_answered {
            self.nodes.progress();
        }
        if let Err(error) = &settled.outcome
            && !is_answer
            && !(error.kind() == ErrorKind::Input && self.limits.passes_input_errors)
        {
            self.first_unanswered = self.first_unanswered.min(settled.index);
        }
        let counters = &self.shared.control.counters;
        if settled.duplicate_of.is_some() {
            counters.duplicates.add(1);
        }
        let handed_out = self.window.handed_out_below();
        counters
            .answered_below
            .set(handed_out.min(self.first_unanswered));
        if was_answered && let Some(recesses) = &mut self.recesses {
            recesses.items.succeeded();
            self.log.goes_on();
        }
        match &settled.outcome {
            Ok(output) => {
                counters.succeeded.add(1);
                if O::is_already_stored(output) {
                    counters.already_stored.add(1);
                }
            }
            Err(error) => {
                counters.failure(settled.index, error);
                self.stopped |= self.limits.stop_on_error;
            }
        }
        result::<O, T, F>(settled)
    }

    /// Takes back what the transport has not taken, of all calls.
    fn withdraw(&mut self) {
        for lane in self.lanes.iter_mut() {
            withdraw(lane, &mut self.window);
        }
        if let Some(LookUp { lane, .. }) = &mut self.look_up {
            withdraw(lane, &mut self.window);
        }
    }

    fn end_calls(&mut self) {
        self.withdraw();
        self.lanes.clear();
        self.look_up = None;
    }

    /// Leaves what it has for [`Adapter::into_remainder`].
    fn leave(mut self) {
        self.end_calls();
        self.verify_the_rest();
        self.log.end(self.stopped);
        let next_index = self.next_index();
        let (settled, unsettled) = self.window.dismantle();
        let given_back = settled.len() + unsettled.len();
        self.shared
            .control
            .counters
            .given_back
            .set(given_back as u64);
        let mut remainder = Remainder {
            input: self.input,
            input_ended: self.input_ended,
            next_index,
            unread: settled
                .into_iter()
                .map(|settled| result::<O, T, F>(concluded::<O, T, F>(settled)))
                .collect(),
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
            let Entry::Item { input, tag, .. } = entry else {
                unreachable!("an error of the input has its result at once");
            };
            let leftover = Leftover {
                index,
                input,
                tag,
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

/// Gives back to the window what the transport has not taken of a call.
fn withdraw<R, A, E, U: Clone>(lane: &mut Lane<R, A>, window: &mut Window<E, U>)
where
    R: Message + 'static,
    A: Message + Default + 'static,
{
    let transmitted = lane.retract();
    window.withdraw(&mut lane.flight, transmitted);
}

/// What the operation makes of an item's outcome.
fn concluded<O: Operation, T, F: Failure>(mut settled: Out<O, T, F>) -> Out<O, T, F> {
    // What was found before it was sent is no word of the server's.
    if settled.outcome.is_err() && settled.entry.checked().is_some() {
        settled.outcome = settled.outcome.or_else(O::refused);
    }
    settled
}

fn result<O, T, F>(settled: Out<O, T, F>) -> Outcome<O, T, F>
where
    O: Operation,
    F: Failure<Input = O::Input, Tag = T>,
{
    let Settled {
        index,
        entry,
        attempts,
        outcome,
        duplicate_of,
    } = settled;
    let (input, tag, checked) = match entry {
        Entry::Item {
            input,
            tag,
            checked,
        } => (input, tag, checked),
        Entry::Error(error) => {
            return Err(F::of_input(InputError {
                operation: O::NAME,
                index,
                error,
            }));
        }
    };
    match outcome {
        Ok(output) => {
            let checked = checked.expect("only what was checked is answered");
            let place = Place {
                index,
                tag,
                attempts,
                duplicate_of,
            };
            Ok(O::success(place, checked, output))
        }
        Err(error) => Err(F::of_item(Failed {
            operation: O::NAME,
            index,
            input,
            tag,
            attempts,
            duplicate_of,
            error,
        })),
    }
}

/// What asks whether a lost write was made.
fn question<O: Operation, T, E>(
    operation: &O,
    entry: &Entry<O, T, E>,
) -> Option<<O::Question as Question>::Request> {
    let (input, checked) = entry.checked()?;
    operation.question(input, checked)
}
