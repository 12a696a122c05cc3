//! The window: what was taken from the input and whose result is not yet handed out.
//!
//! A plain state machine with no I/O and no clock. The driver tells it what happened, and asks it
//! what to send and what to hand out, so every order of events can be tested without a network.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::flight::Flight;
use crate::error::{Error, ErrorKind};
use crate::verdict::{self, Verdict};

/// How far ahead of the oldest unanswered item results may be handed out of order, in windows:
/// what was handed out leaves a gap, and gaps take memory too.
const WINDOWS_AHEAD: usize = 8;

/// How a call answers its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// The N-th answer is the N-th request's.
    EachItem,
    /// One answer at the end is everybody's, so a call carries a bounded segment of the input.
    WholeCall,
}

/// What an item is whose request left and whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// A read: nothing has changed, it is asked again.
    Nothing,
    /// A write that can be looked up before it is made again.
    LookedUp,
    /// A write that can be made again without harm.
    Repeated,
}

/// How a window behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
    pub(crate) acknowledged: Acknowledged,
    pub(crate) lost: Lost,
    /// Whether anything is sent again, or looked up, after a fault.
    pub(crate) retries: bool,
    pub(crate) most_tries: u32,
    pub(crate) unordered: bool,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` is OK.
    pub(crate) failure: Option<(Verdict, Status)>,
    /// How many requests of this call the transport took, and so may have sent.
    pub(crate) taken: usize,
    /// How many answers came.
    pub(crate) answers: usize,
}

/// What the end of a call means for the calls to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aftermath {
    /// Nothing.
    Quiet,
    /// The server is there and does its work.
    Answered,
    /// A fault of the moment; `named` where the server said at which item, so that the others can
    /// go on at once.
    Fault { named: bool },
}

/// An item with its result, on its way out.
#[derive(Debug)]
pub(crate) struct Settled<E, O> {
    pub(crate) index: u64,
    pub(crate) entry: E,
    pub(crate) attempts: u32,
    pub(crate) outcome: Result<O, Error>,
}

/// An item without a result, as it was when all was stopped.
#[derive(Debug)]
pub(crate) struct Unsettled<E> {
    pub(crate) index: u64,
    pub(crate) entry: E,
    pub(crate) attempts: u32,
    /// Whether it left and what became of it is not known.
    pub(crate) is_in_doubt: bool,
}

#[derive(Debug)]
struct Slot<E, O> {
    entry: E,
    bytes: usize,
    attempts: u32,
    state: State<O>,
    /// Most items never have any.
    trouble: Option<Box<Trouble>>,
}

#[derive(Debug)]
enum State<O> {
    /// To be sent, by this call or the next.
    Waiting,
    /// Given to a call, not answered.
    Sent,
    /// To be sent, but not yet.
    Resting,
    /// Left, and its answer was lost: to be looked up before it is sent again.
    InDoubt,
    /// Given to the call that looks up, not answered.
    LookedUp,
    Settled(Result<O, Error>),
}

/// What faults have done to an item.
#[derive(Debug, Default)]
struct Trouble {
    /// How many faults it was the first victim of.
    tries: u32,
    /// How many faults met it while it was looked up.
    lookups: u32,
    /// The call that lost its answer, until it was looked up.
    lost_by: Option<u64>,
    /// Whether a broken call may have carried it to the server. A lookup that does not find it
    /// proves nothing: the server may still be at it.
    may_have_landed: bool,
    /// Whether the last fault was the server's own word about this item.
    named: bool,
    /// Whether the next try is its last, to be made alone.
    alone: bool,
    /// Whether there is no next try.
    exhausted: bool,
    /// When the next try may be made; `None`: at once.
    rest: Option<Instant>,
    last: Option<Arc<Status>>,
}

/// Entries `E` in input order, each on its way to an outcome `O`.
#[derive(Debug)]
pub(crate) struct Window<E, O> {
    rules: Rules,
    /// By index; `None` is a gap, whose result was handed out of order.
    slots: VecDeque<Option<Slot<E, O>>>,
    /// The index of `slots[0]`.
    first: u64,
    /// How many slots are not gaps.
    held: usize,
    bytes: usize,
    /// No slot below this index is `Waiting`.
    unsent: u64,
    /// Which have a result, as it came. Only where results are handed out as they come.
    ready: VecDeque<u64>,
    /// Which are `Resting`, and until when.
    resting: BTreeSet<(Instant, u64)>,
    /// Which are `InDoubt`.
    in_doubt: BTreeSet<u64>,
    /// When items were taken: from this index on, at this time or later.
    taken: VecDeque<(u64, Duration)>,
    calls: u64,
    resent: u64,
    /// How many items the next call may carry.
    segment: usize,
    /// How many items from the first unanswered on are known to hold one that fails the whole
    /// call; 0 when nothing is known.
    suspects: usize,
    /// Whether the server does not let us look up.
    cannot_look_up: bool,
    /// Why no further item is sent at all.
    refused: Option<(ErrorKind, Arc<Status>)>,
}

impl<E, O> Window<E, O> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            slots: VecDeque::new(),
            first: 0,
            held: 0,
            bytes: 0,
            unsent: 0,
            ready: VecDeque::new(),
            resting: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            taken: VecDeque::new(),
            calls: 0,
            resent: 0,
            segment: usize::MAX,
            suspects: 0,
            cannot_look_up: false,
            refused: None,
        }
    }

    /// Whether another item may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.held < self.rules.items
            && self.bytes < self.rules.bytes
            && self.slots.len() < self.rules.items.saturating_mul(WINDOWS_AHEAD)
    }

    /// Whether so much of the window is free that the line could run dry.
    pub(crate) fn is_half_empty(&self) -> bool {
        self.has_room() && self.held <= self.rules.items / 2 && self.bytes <= self.rules.bytes / 2
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Whether items are only taken to be failed: nothing is sent any more.
    pub(crate) fn is_refusing(&self) -> bool {
        self.refused.is_some()
    }

    /// Every item below this index was handed out.
    pub(crate) fn handed_out_below(&self) -> u64 {
        self.first
    }

    /// The index that the next item will have.
    pub(crate) fn next_index(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// How many times an item was sent that had been sent before.
    pub(crate) fn resent(&self) -> u64 {
        self.resent
    }

    fn slot(&mut self, index: u64) -> Option<&mut Slot<E, O>> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(place)?.as_mut()
    }

    /// A slot that has to be there: it has no result yet, so it was not handed out.
    fn live(&mut self, index: u64) -> &mut Slot<E, O> {
        self.slot(index)
            .expect("an item without a result is in the window")
    }

    /// Notes that the items that are taken next are taken at this time.
    pub(crate) fn taking_at(&mut self, time: Duration) {
        if self.taken.back().is_none_or(|(_, last)| *last < time) {
            self.taken.push_back((self.next_index(), time));
        }
    }

    /// Takes an item of `bytes` bytes on the wire, to be sent.
    pub(crate) fn take(&mut self, entry: E, bytes: usize) {
        self.push(entry, bytes, State::Waiting);
        if let Some((kind, status)) = &self.refused {
            let error = Error::from_status(*kind, Status::clone(status));
            self.settle(self.next_index() - 1, Err(error));
        }
    }

    /// Takes an item of `bytes` bytes that must not be sent. It is held until it is handed out,
    /// so it counts like any other.
    pub(crate) fn refuse(&mut self, entry: E, bytes: usize, error: Error) {
        self.push(entry, bytes, State::Waiting);
        self.settle(self.next_index() - 1, Err(error));
    }

    fn push(&mut self, entry: E, bytes: usize, state: State<O>) {
        self.bytes += bytes;
        self.held += 1;
        self.slots.push_back(Some(Slot {
            entry,
            bytes,
            attempts: 0,
            state,
            trouble: None,
        }));
    }

    fn settle(&mut self, index: u64, outcome: Result<O, Error>) {
        let slot = self.live(index);
        slot.state = State::Settled(outcome);
        slot.trouble = None;
        if self.rules.unordered {
            self.ready.push_back(index);
        }
    }

    // ---- sending -------------------------------------------------------------------------

    /// Whether an item could be sent now.
    pub(crate) fn has_waiting(&mut self) -> bool {
        self.first_waiting().is_some()
    }

    /// Whether anything is still to be sent, now or later.
    pub(crate) fn has_unsent(&mut self) -> bool {
        !self.resting.is_empty() || !self.in_doubt.is_empty() || self.has_waiting()
    }

    /// Whether the next item to be sent has to be the only one of its call.
    pub(crate) fn wants_to_be_alone(&mut self) -> bool {
        let first = self.first_waiting();
        first.is_some_and(|index| self.is_alone(index))
    }

    fn is_alone(&mut self, index: u64) -> bool {
        let trouble = &self.live(index).trouble;
        trouble.as_ref().is_some_and(|trouble| trouble.alone)
    }

    /// The books of a new call. A probe carries a single item.
    pub(crate) fn launch(&mut self, is_probe: bool) -> Flight {
        let limit = if is_probe || self.wants_to_be_alone() {
            1
        } else {
            self.segment
        };
        self.calls += 1;
        Flight::new(self.calls, limit, is_probe)
    }

    /// The next item the call may carry, counted as sent. `None`: no item waits, or the call must
    /// not carry it.
    pub(crate) fn send_next(&mut self, flight: &mut Flight) -> Option<&E> {
        if flight.is_full() {
            return None;
        }
        let index = if flight.is_probe {
            self.least_tried()?
        } else {
            self.first_waiting()?
        };
        if flight.limit > 1 && self.is_alone(index) {
            return None;
        }
        flight.carry(index);
        self.resent += u64::from(self.live(index).attempts > 0);
        let slot = self.live(index);
        slot.state = State::Sent;
        slot.attempts += 1;
        Some(&slot.entry)
    }

    fn first_waiting(&mut self) -> Option<u64> {
        self.unsent = self.unsent.max(self.first);
        loop {
            let place = usize::try_from(self.unsent - self.first).ok()?;
            match self.slots.get(place)? {
                Some(slot) if matches!(slot.state, State::Waiting) => return Some(self.unsent),
                _ => self.unsent += 1,
            }
        }
    }

    /// The first of those that wait with the fewest faults: an item that breaks every call must not
    /// be the only one to try with.
    fn least_tried(&mut self) -> Option<u64> {
        let waiting = (self.first..).zip(&self.slots).filter_map(|(index, slot)| {
            let slot = slot.as_ref()?;
            matches!(slot.state, State::Waiting).then_some((slot.tries(), index))
        });
        waiting.min().map(|(_, index)| index)
    }

    /// The books of a new call that looks up.
    pub(crate) fn launch_look_up(&mut self, is_probe: bool) -> Flight {
        self.calls += 1;
        let limit = if is_probe { 1 } else { usize::MAX };
        Flight::new(self.calls, limit, is_probe)
    }

    /// The next item to be looked up by the call, counted as asked.
    pub(crate) fn look_up_next(&mut self, flight: &mut Flight) -> Option<&E> {
        if flight.is_full() {
            return None;
        }
        let index = self.in_doubt.pop_first()?;
        flight.carry(index);
        let slot = self.live(index);
        slot.state = State::LookedUp;
        Some(&slot.entry)
    }

    /// Whether an item is to be looked up.
    pub(crate) fn has_doubt(&self) -> bool {
        !self.in_doubt.is_empty()
    }

    /// When the first of those that rest is to be sent.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// Those that have rested wait to be sent. Whether there were any.
    pub(crate) fn wake(&mut self, now: Instant) -> bool {
        let mut woken = false;
        while let Some((until, index)) = self.resting.first().copied()
            && until <= now
        {
            self.resting.pop_first();
            self.requeue(index);
            woken = true;
        }
        woken
    }

    /// The item that the next answer of a call belongs to.
    pub(crate) fn awaited(&mut self, flight: &Flight) -> Option<&E> {
        let index = *flight.items.front()?;
        self.slot(index).map(|slot| &slot.entry)
    }

    // ---- answers -------------------------------------------------------------------------

    /// An answer of a call: `judge` makes its item's outcome of it. `false`: the call has nothing
    /// unanswered, so the answer is nobody's.
    pub(crate) fn answer(
        &mut self,
        flight: &mut Flight,
        judge: impl FnOnce(&E) -> Result<O, Error>,
    ) -> bool {
        let Some(index) = flight.land() else {
            return false;
        };
        // One that was given up meanwhile has its result.
        if let Some(slot) = self.slot(index)
            && matches!(slot.state, State::Sent | State::LookedUp)
        {
            let outcome = judge(&slot.entry);
            self.settle(index, outcome);
        }
        true
    }

    /// A call is over. What it leaves unanswered is settled, or waits for another call.
    ///
    /// `wait` says when an item that has had so many tries may be sent again, and `None` that it
    /// may not; `done` makes the outcome of an item whose whole call was acknowledged.
    pub(crate) fn call_ended(
        &mut self,
        flight: &Flight,
        ended: Ended,
        wait: impl Fn(u32) -> Option<Instant>,
        done: impl Fn(&E) -> Result<O, Error>,
    ) -> Aftermath {
        let mut left: Vec<u64> = Vec::new();
        // Whom the server was at, though it may have been given up meanwhile.
        let at = flight.unanswered(ended.taken).find(|(_, taken)| *taken);
        for (index, was_taken) in flight.unanswered(ended.taken) {
            let Some(slot) = self.slot(index) else {
                continue;
            };
            if !matches!(slot.state, State::Sent) {
                continue;
            }
            if was_taken {
                left.push(index);
            } else {
                // The call never had it.
                slot.attempts -= 1;
                self.requeue(index);
            }
        }
        let acknowledged_whole = self.rules.acknowledged == Acknowledged::WholeCall;
        let (verdict, status) = match ended.failure {
            None if acknowledged_whole && ended.answers > 0 => {
                for index in left {
                    let outcome = done(&self.live(index).entry);
                    self.settle(index, outcome);
                }
                self.narrow(self.suspects.saturating_sub(flight.sent));
                if self.suspects == 0 {
                    self.segment = self.segment.saturating_mul(2);
                }
                return Aftermath::Answered;
            }
            None if !flight.is_awaited() => return Aftermath::Quiet,
            None => (
                Verdict::Moment,
                Status::unavailable("the server ended the call with answers missing"),
            ),
            Some((Verdict::Whole, status)) => {
                self.requeue_all(&left);
                self.fail_all(verdict::kind_of_whole(&status), status);
                return Aftermath::Quiet;
            }
            Some(_) if !flight.is_awaited() => return Aftermath::Quiet,
            // A call that ended before it took an item cannot have failed at it.
            Some((Verdict::Record | Verdict::Attempt, status)) if left.is_empty() => {
                (Verdict::Moment, status)
            }
            // Not if it is longer than any: another's answer is lost.
            Some((Verdict::Record, status)) if self.too_long(&left, &status) == Err(()) => {
                (Verdict::Moment, status)
            }
            Some(failure) => failure,
        };
        let status = Arc::new(status);
        if acknowledged_whole {
            // Some of it may be done: the server stops at the first that it refuses.
            self.lost(&left, flight.number);
        }
        let at = at.map(|(index, _)| index);
        match verdict {
            Verdict::Record | Verdict::Attempt if acknowledged_whole && ended.taken > 1 => {
                self.requeue_all(&left);
                self.narrow(left.len());
                Aftermath::Quiet
            }
            Verdict::Record | Verdict::Attempt
                if left.first().copied() != at && verdict::oversize(&status).is_none() =>
            {
                self.requeue_all(&left);
                Aftermath::Answered
            }
            Verdict::Record => {
                self.refused_one(&left, flight, &status);
                self.end_of_suspicion(acknowledged_whole);
                Aftermath::Answered
            }
            Verdict::Attempt => {
                let at = left[0];
                self.requeue_all(&left[1..]);
                self.charge(at, &status, true, true, &wait);
                if self.rules.retries {
                    // The server may have failed at it because it has it.
                    self.lost(&[at], flight.number);
                }
                self.retry(at);
                self.end_of_suspicion(acknowledged_whole);
                if verdict::is_already_stored(&status) {
                    return Aftermath::Answered;
                }
                Aftermath::Fault { named: true }
            }
            Verdict::Moment | Verdict::Whole => {
                let is_write = self.rules.lost != Lost::Nothing;
                for index in &left {
                    let trouble = self.live(*index).trouble.get_or_insert_default();
                    trouble.last = Some(Arc::clone(&status));
                    trouble.named = false;
                    trouble.may_have_landed = is_write;
                }
                if let Some(at) = left.first() {
                    self.charge(*at, &status, false, flight.is_single(), &wait);
                }
                self.lost(&left, flight.number);
                for index in left {
                    self.retry(index);
                }
                if !self.rules.retries {
                    self.fail_unsent(flight, &status);
                }
                self.narrow(0);
                Aftermath::Fault { named: false }
            }
        }
    }

    /// The server refused one of `left`: it gets the server's words, and the others go on.
    fn refused_one(&mut self, left: &[u64], flight: &Flight, status: &Arc<Status>) {
        let lost = self.rules.lost;
        let found = self.too_long(left, status).unwrap_or(0);
        let (before, rest) = left.split_at(found);
        // A server that finds a message too long drops the answers before it.
        self.lost(before, flight.number);
        for index in before {
            self.retry(*index);
        }
        self.requeue_all(&rest[1..]);
        let slot = self.live(rest[0]);
        let kind = match slot.lost_by() {
            // This try was refused; what became of an earlier one was never found out.
            Some(_) if lost == Lost::LookedUp => ErrorKind::Unknown,
            _ => verdict::kind_of_record(status),
        };
        self.settle(
            rest[0],
            Err(Error::from_status(kind, Status::clone(status))),
        );
    }

    /// Which of `left` the server found too long, if that is what it said: the first where it said
    /// something else.
    fn too_long(&mut self, left: &[u64], status: &Status) -> Result<usize, ()> {
        let Some(len) = verdict::oversize(status) else {
            return Ok(0);
        };
        let found = left.iter().position(|index| self.live(*index).bytes == len);
        found.ok_or(())
    }

    fn end_of_suspicion(&mut self, acknowledged_whole: bool) {
        self.narrow(0);
        if acknowledged_whole {
            // Where one fails the next may, as when the server's storage is down: segments grow
            // again with each that succeeds.
            self.segment = 1;
        }
    }

    /// Halves the next call while it is known to hold an item that fails the whole of it.
    fn narrow(&mut self, suspects: usize) {
        self.suspects = suspects;
        if suspects > 0 {
            self.segment = (suspects / 2).max(1);
        }
    }

    /// A fault met this item first.
    fn charge(
        &mut self,
        index: u64,
        status: &Arc<Status>,
        named: bool,
        alone: bool,
        wait: impl Fn(u32) -> Option<Instant>,
    ) {
        let most = self.rules.most_tries;
        let trouble = self.live(index).trouble.get_or_insert_default();
        trouble.tries += 1;
        let until = wait(trouble.tries);
        trouble.named = named;
        trouble.last = Some(Arc::clone(status));
        trouble.alone = trouble.tries + 1 >= most;
        // The first that breaks under it need not be its fault, so it keeps its place.
        trouble.rest = until.filter(|_| named || trouble.tries > 1);
        trouble.exhausted =
            until.is_none() || trouble.tries >= most && (named || alone || most == 1);
    }

    /// The answers to these were lost with this call.
    fn lost(&mut self, items: &[u64], call: u64) {
        if self.rules.lost == Lost::Nothing {
            return;
        }
        for index in items {
            let trouble = self.live(*index).trouble.get_or_insert_default();
            trouble.lost_by = Some(call);
        }
    }

    /// What is to be done about an item that a fault met.
    fn retry(&mut self, index: u64) {
        let looks_up =
            self.rules.lost == Lost::LookedUp && self.rules.retries && !self.cannot_look_up;
        let slot = self.live(index);
        let in_doubt = slot.trouble.as_ref().is_some_and(|t| t.lost_by.is_some());
        if in_doubt && looks_up {
            slot.state = State::InDoubt;
            self.in_doubt.insert(index);
        } else {
            self.send_again(index);
        }
    }

    /// As far as can be known it is not done: it is sent again, unless it has had its tries.
    fn send_again(&mut self, index: u64) {
        let Rules { retries, lost, .. } = self.rules;
        let slot = self.live(index);
        let trouble = slot.trouble.as_deref();
        if !retries || trouble.is_some_and(|trouble| trouble.exhausted) {
            let error = slot.failure(lost);
            self.settle(index, Err(error));
        } else if let Some(until) = trouble.and_then(|trouble| trouble.rest) {
            slot.state = State::Resting;
            self.resting.insert((until, index));
        } else {
            self.requeue(index);
        }
    }

    fn requeue(&mut self, index: u64) {
        self.live(index).state = State::Waiting;
        self.unsent = self.unsent.min(index);
    }

    fn requeue_all(&mut self, items: &[u64]) {
        for index in items {
            self.requeue(*index);
        }
    }

    /// Without retries, what a broken call did not take fails with it.
    fn fail_unsent(&mut self, flight: &Flight, status: &Arc<Status>) {
        let lost = self.rules.lost;
        for (index, _) in flight.unanswered(0) {
            if let Some(slot) = self.slot(index)
                && matches!(slot.state, State::Waiting)
            {
                slot.trouble.get_or_insert_default().last = Some(Arc::clone(status));
                let error = slot.failure(lost);
                self.settle(index, Err(error));
            }
        }
    }

    // ---- looking up ----------------------------------------------------------------------

    /// The call that looks up is over.
    pub(crate) fn look_up_ended(
        &mut self,
        flight: &Flight,
        ended: Ended,
        wait: impl Fn(u32) -> Option<Instant>,
    ) -> Aftermath {
        let mut left: Vec<u64> = Vec::new();
        // Whom the server was at, unless it was given up meanwhile.
        let at = flight.unanswered(ended.taken).find(|(_, taken)| *taken);
        for (index, _) in flight.unanswered(ended.taken) {
            if let Some(slot) = self.slot(index)
                && matches!(slot.state, State::LookedUp)
            {
                slot.state = State::InDoubt;
                left.push(index);
            }
        }
        self.in_doubt.extend(&left);
        if !flight.is_awaited() {
            return Aftermath::Quiet;
        }
        let (verdict, status) = ended.failure.unwrap_or_else(|| {
            let status = Status::unavailable("the server ended the lookup with answers missing");
            (Verdict::Moment, status)
        });
        let at = at
            .map(|(index, _)| index)
            .filter(|at| left.first() == Some(at));
        match (verdict, at) {
            (Verdict::Record, Some(at)) => {
                if status.code() == tonic::Code::NotFound {
                    self.is_not_there(at);
                } else {
                    self.cannot_be_settled(at);
                }
                Aftermath::Answered
            }
            (Verdict::Whole, _) => {
                self.cannot_look_up = true;
                for index in left {
                    self.cannot_be_settled(index);
                }
                Aftermath::Quiet
            }
            (verdict, at) => {
                if let Some(at) = at {
                    let most = self.rules.most_tries;
                    let trouble = self.live(at).trouble.get_or_insert_default();
                    trouble.lookups += 1;
                    if trouble.lookups >= most || wait(trouble.lookups).is_none() {
                        self.cannot_be_settled(at);
                    }
                }
                Aftermath::Fault {
                    named: verdict == Verdict::Attempt,
                }
            }
        }
    }

    /// The item is not stored. A server works in order, so neither are those that were behind it in
    /// the call that lost their answers.
    fn is_not_there(&mut self, index: u64) {
        let lost_by = self.live(index).lost_by();
        let behind: Vec<u64> = self.in_doubt.range(index..).copied().collect();
        for index in behind {
            let slot = self.live(index);
            if slot.lost_by() == lost_by {
                if let Some(trouble) = &mut slot.trouble {
                    trouble.lost_by = None;
                }
                self.in_doubt.remove(&index);
                self.send_again(index);
            }
        }
    }

    /// What became of it stays open; to send it again does no harm.
    fn cannot_be_settled(&mut self, index: u64) {
        self.in_doubt.remove(&index);
        self.send_again(index);
    }

    // ---- giving up -----------------------------------------------------------------------

    /// When the time of the first item is up.
    pub(crate) fn expires_at(&self, time: Duration) -> Option<Duration> {
        let (_, taken) = self.taken.front().filter(|_| self.held > 0)?;
        taken.checked_add(time)
    }

    /// Gives up the items that were taken `time` before `now` or earlier.
    pub(crate) fn expire(&mut self, now: Duration, time: Duration) {
        while let Some((from, taken)) = self.taken.front().copied()
            && taken.checked_add(time).is_some_and(|end| end <= now)
        {
            self.taken.pop_front();
            let next = self.next_index();
            let to = self.taken.front().map_or(next, |(to, _)| *to);
            for index in from.max(self.first)..to {
                self.give_up(index, &format!("no answer in {} s", time.as_secs_f64()));
            }
        }
    }

    /// Gives up all that has no result.
    pub(crate) fn give_up_all(&mut self, reason: &str) {
        for index in self.first..self.next_index() {
            self.give_up(index, reason);
        }
    }

    fn give_up(&mut self, index: u64, reason: &str) {
        let lost = self.rules.lost;
        let Some(slot) = self.slot(index) else {
            return;
        };
        match slot.state {
            State::Settled(_) => return,
            State::Sent if lost != Lost::Nothing => {
                // Its call may still get to it.
                slot.trouble.get_or_insert_default().may_have_landed = true;
            }
            _ => {}
        }
        let mut error = Error::new(slot.kind_of_loss(), reason.to_owned());
        if let Some(last) = slot.trouble.as_ref().and_then(|t| t.last.as_deref()) {
            error = error.with_status(last.clone());
        }
        self.forget(index);
        self.settle(index, Err(error));
    }

    /// Takes an item off the lists of what is to be done.
    fn forget(&mut self, index: u64) {
        self.in_doubt.remove(&index);
        let rest = self.live(index).trouble.as_ref().and_then(|t| t.rest);
        if let Some(until) = rest {
            self.resting.remove(&(until, index));
        }
    }

    /// Gives `status` to all that has no outcome, and to every item still to come: nothing is sent
    /// any more. What may have landed says so.
    pub(crate) fn fail_all(&mut self, kind: ErrorKind, status: Status) {
        let lost = self.rules.lost;
        for index in self.first..self.next_index() {
            let Some(slot) = self.slot(index) else {
                continue;
            };
            let may_have_landed = match slot.state {
                State::Settled(_) => continue,
                State::Sent => lost != Lost::Nothing,
                _ => slot.may_have_landed(),
            };
            let kind = if may_have_landed {
                ErrorKind::Unknown
            } else {
                kind
            };
            self.forget(index);
            self.settle(index, Err(Error::from_status(kind, status.clone())));
        }
        self.refused = Some((kind, Arc::new(status)));
    }

    // ---- handing out ---------------------------------------------------------------------

    /// The next result, out of the window: in input order, or as they came.
    pub(crate) fn pop(&mut self) -> Option<Settled<E, O>> {
        let index = if self.rules.unordered {
            self.ready.pop_front()?
        } else {
            let slot = self.slots.front()?.as_ref()?;
            matches!(slot.state, State::Settled(_)).then_some(self.first)?
        };
        let place = usize::try_from(index - self.first).ok()?;
        let slot = self.slots.get_mut(place)?.take()?;
        let State::Settled(outcome) = slot.state else {
            unreachable!("only what has a result is ready");
        };
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        while self
            .taken
            .get(1)
            .is_some_and(|(from, _)| *from <= self.first)
        {
            self.taken.pop_front();
        }
        self.held -= 1;
        self.bytes -= slot.bytes;
        Some(Settled {
            index,
            entry: slot.entry,
            attempts: slot.attempts,
            outcome,
        })
    }

    /// Takes the window apart: the results that were not handed out, and the rest, each in input
    /// order.
    pub(crate) fn dismantle(self) -> (Vec<Settled<E, O>>, Vec<Unsettled<E>>) {
        let (mut settled, mut unsettled) = (Vec::new(), Vec::new());
        for (index, slot) in (self.first..).zip(self.slots) {
            let Some(slot) = slot else { continue };
            let may_have_landed = slot.may_have_landed();
            let is_in_doubt = match slot.state {
                State::Settled(outcome) => {
                    settled.push(Settled {
                        index,
                        entry: slot.entry,
                        attempts: slot.attempts,
                        outcome,
                    });
                    continue;
                }
                State::Sent => true,
                _ => may_have_landed,
            };
            unsettled.push(Unsettled {
                index,
                entry: slot.entry,
                attempts: slot.attempts,
                is_in_doubt,
            });
        }
        (settled, unsettled)
    }
}

impl<E, O> Slot<E, O> {
    fn tries(&self) -> u32 {
        self.trouble.as_ref().map_or(0, |trouble| trouble.tries)
    }

    fn lost_by(&self) -> Option<u64> {
        self.trouble.as_ref().and_then(|trouble| trouble.lost_by)
    }

    fn may_have_landed(&self) -> bool {
        let trouble = self.trouble.as_ref();
        trouble.is_some_and(|trouble| trouble.may_have_landed || trouble.lost_by.is_some())
    }

    /// What it is when it is given up.
    fn kind_of_loss(&self) -> ErrorKind {
        if self.may_have_landed() {
            ErrorKind::Unknown
        } else if self.attempts == 0 {
            ErrorKind::NotSent
        } else {
            ErrorKind::Unavailable
        }
    }

    /// Its error, when its tries are over.
    fn failure(&self, lost: Lost) -> Error {
        let kind = self.kind_of_loss();
        let Some(trouble) = self.trouble.as_ref() else {
            return Error::new(kind, "the call broke");
        };
        let Some(status) = trouble.last.as_deref() else {
            return Error::new(kind, "the call broke");
        };
        // The server has said what it makes of this item, and it was looked up where it can be.
        let named = trouble.named && (trouble.lost_by.is_none() || lost == Lost::Repeated);
        let kind = if named {
            verdict::kind_of_record(status)
        } else {
            kind
        };
        Error::from_status(kind, status.clone())
    }
}

#[cfg(test)]
mod tests;
