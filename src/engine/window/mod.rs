//! The window: what was taken from the input and whose result is not yet handed out.
//!
//! A plain state machine with no I/O, and no clock but that of failures. The driver tells it what happened, and asks it
//! what to send and what to hand out, so every order of events can be tested without a network.
//!
//! This file has the way of an item when all goes well. The modules below have what happens to it when something
//! breaks.

mod call_ended;
mod depth;
mod doubt;
mod duplicates;
mod expire;
pub(super) mod flight;
mod scout;
mod segments;
mod slot;
mod suspects;
#[cfg(test)]
mod tests;
mod whole_ended;

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;

use self::depth::Depth;
use self::duplicates::Duplicates;
use self::flight::Flight;
pub(crate) use self::flight::{End, EndedBy};
use self::scout::Scout;
use self::segments::Segments;
use self::slot::{Loss, Slot, State};
pub(crate) use self::suspects::Evidence;
use self::suspects::Suspects;
use super::lesson::Lesson;
use super::tick::Tick;
use super::waited::Waited;
use crate::cid::Cid;
use crate::error::{Error, ErrorKind};
use crate::operation::{Acknowledged, LostAnswer};
use crate::verdict::Verdict;

/// How far ahead of the oldest unanswered item results may be handed out of order, in windows:
/// what was handed out leaves a gap, and gaps take memory too.
const WINDOWS_AHEAD: usize = 8;

/// How a window of entries `E` behaves.
#[derive(Debug)]
pub(crate) struct Rules<E> {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
    /// How many requests a call may have unanswered, at least and at most.
    pub(crate) depth: (usize, usize),
    pub(crate) acknowledged: Acknowledged,
    pub(crate) lost_answer: LostAnswer,
    /// Whether a write that may have been made can be made again without harm, where a lookup does not tell.
    pub(crate) may_repeat: bool,
    /// Whether an answer may say that the server failed, which only the item's own outcome tells.
    pub(crate) answers_may_fail: bool,
    /// How long an answer is taken to be, in bytes, before the first has come. 0: answers are not counted.
    pub(crate) answer_len: usize,
    /// Whether anything is sent again, or looked up, after a fault.
    pub(crate) retries: bool,
    pub(crate) max_attempts: u32,
    pub(crate) unordered: bool,
    /// Whether records that are stored are to be left out, for which they are looked up where that pays.
    pub(crate) skip_stored: bool,
    /// What tells whether two items are the same, if one outcome is to be for both.
    pub(crate) dedup: Option<fn(&E) -> Option<&Cid>>,
}

/// How a call ended, and what is made of that.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) end: End,
    /// What the status says; `None` where it is OK.
    pub(crate) verdict: Option<Verdict>,
    /// Whether the server has refused the call because others run, whatever it carried.
    pub(crate) is_of_call: bool,
    /// Whether who asks, or what is asked, was refused, and the next call shows another token or goes to another node.
    pub(crate) is_asked_again: bool,
    pub(crate) evidence: Evidence,
}

/// What an answer, or the end of a call, says about the node that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Nothing.
    Quiet,
    /// It has answered.
    Alive,
    /// It works: a request has succeeded that was sent at this time.
    Works(Tick),
    /// It failed at an item. The item may be at fault, so the others can go on at once.
    FailedAtItem,
    /// It failed at an item that has succeeded before, or at a lookup, so the node is at fault.
    Fails,
    /// The call broke.
    Broke,
}

/// What is made of an answer.
pub(crate) enum Judged<O> {
    Outcome(Result<O, Error>),
    /// The server failed at this attempt.
    Failed,
    /// It will be judged, and takes so many bytes until its result is handed out. Until then it is a success, since the
    /// server has answered.
    Later(usize),
}

/// An item with its result, on its way out.
#[derive(Debug)]
pub(crate) struct Settled<E, O> {
    pub(crate) index: u64,
    pub(crate) entry: E,
    pub(crate) attempts: u32,
    pub(crate) outcome: Result<O, Error>,
    /// The item before it that is the same, and whose outcome this is.
    pub(crate) duplicate_of: Option<u64>,
}

/// An item without a result, as it was when all was stopped.
#[derive(Debug)]
pub(crate) struct Unsettled<E> {
    pub(crate) index: u64,
    pub(crate) entry: E,
    pub(crate) attempts: u32,
    /// Whether it was sent, and may have been carried out.
    pub(crate) is_in_doubt: bool,
}

/// Entries `E` in input order, each on its way to an outcome `O`.
#[derive(Debug)]
pub(crate) struct Window<E, O> {
    rules: Rules<E>,
    /// By index; `None` is a gap, whose result was handed out of order.
    slots: VecDeque<Option<Slot<E, O>>>,
    /// The index of `slots[0]`.
    first: u64,
    /// How many slots are not gaps.
    held: usize,
    bytes: usize,
    /// How many bytes the items and results had that were handed out since [`begin_chunk`](Self::begin_chunk), of those
    /// that had been sent.
    freed: usize,
    /// No slot below this index is `Waiting`.
    unsent: u64,
    /// Which have a result, in the order in which the results came. Empty where results are handed out in input order.
    ready: VecDeque<u64>,
    /// Which are `Resting`, and until when.
    resting: BTreeSet<(Instant, u64)>,
    /// Which are `InDoubt`, in the order in which they were sent.
    in_doubt: BTreeSet<(Loss, u64)>,
    /// When items were taken: from this index on, at this time or later.
    taken_at: VecDeque<(u64, Waited)>,
    calls: u64,
    sent: u64,
    resent: u64,
    depth: Depth,
    /// How many items a call may carry that is acknowledged as a whole.
    segments: Segments,
    /// Items at which the server failed, which may be their own fault.
    suspects: Suspects,
    duplicates: Duplicates,
    /// How many slots are `Unchecked`. All below `first_unchecked` are checked, since they are checked in their order.
    unchecked: usize,
    first_unchecked: u64,
    /// How many slots are `Sent`.
    in_flight: usize,
    /// How long the next answer will be, in bytes, as far as can be told from those before.
    answer_len: usize,
    /// Whether the server refuses lookups.
    cannot_look_up: bool,
    /// The call that ended at a record that was stored already. Until one is found that is not, those behind it are
    /// expected to be stored, too.
    expects_stored: Option<u64>,
    /// Which items are looked up before they are sent, and below which index that is decided.
    scout: Option<Scout>,
    scouted: u64,
    /// Why nothing is sent any more.
    refused: Option<(ErrorKind, Arc<Status>)>,
}

impl Ended {
    pub(crate) fn failure(&self) -> Option<(Verdict, &Arc<Status>)> {
        self.verdict.zip(self.end.status.as_ref())
    }
}

impl<E, O: Clone> Window<E, O> {
    pub(crate) fn new(rules: Rules<E>) -> Self {
        Self {
            slots: VecDeque::new(),
            first: 0,
            held: 0,
            bytes: 0,
            freed: 0,
            unsent: 0,
            ready: VecDeque::new(),
            resting: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            taken_at: VecDeque::new(),
            calls: 0,
            sent: 0,
            resent: 0,
            depth: Depth::new(rules.depth.0, rules.depth.1),
            segments: Segments::new(),
            suspects: Suspects::default(),
            duplicates: Duplicates::default(),
            unchecked: 0,
            first_unchecked: 0,
            in_flight: 0,
            answer_len: rules.answer_len,
            cannot_look_up: false,
            expects_stored: None,
            scout: rules.skip_stored.then(Scout::new),
            scouted: 0,
            refused: None,
            rules,
        }
    }

    /// The first item to be taken has this index.
    pub(crate) fn begin_at(&mut self, index: u64) {
        self.first = index;
        self.unsent = index;
    }

    /// How many items it holds at most.
    pub(crate) fn size(&self) -> usize {
        self.rules.items
    }

    /// Whether another item may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.held < self.rules.items
            && self.bytes_to_come() < self.rules.bytes
            && self.slots.len() < self.rules.items.saturating_mul(WINDOWS_AHEAD)
    }

    /// What it holds in bytes, with the answers that are awaited.
    fn bytes_to_come(&self) -> usize {
        let answers = self.in_flight.saturating_mul(self.answer_len);
        self.bytes.saturating_add(answers)
    }

    /// Whether there is room for the answer to another item.
    fn has_room_for_answer(&self) -> bool {
        self.answer_len == 0
            || self.bytes_to_come().saturating_add(self.answer_len) <= self.rules.bytes
    }

    /// Whether half of the window is free, so that the calls may soon have nothing to carry.
    pub(crate) fn is_half_empty(&self) -> bool {
        self.has_room()
            && self.held <= self.rules.items / 2
            && self.bytes_to_come() <= self.rules.bytes / 2
    }

    /// Whether a `chunk` of bytes that had been sent has been handed out since [`begin_chunk`](Self::begin_chunk).
    pub(crate) fn has_freed(&self, chunk: usize) -> bool {
        self.freed >= chunk
    }

    /// What is handed out counts from now on. Returns what it holds, in bytes.
    pub(crate) fn begin_chunk(&mut self) -> usize {
        self.freed = 0;
        self.bytes
    }

    /// What it holds, in bytes, without the answers that are awaited.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Whether nothing is sent any more: items are taken only to be given their error.
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

    /// How many times an item was sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// No item below this index waits to be sent for the first time.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent
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
    pub(crate) fn note_time(&mut self, time: Waited) {
        let next = self.next_index();
        match self.taken_at.back_mut() {
            // Nothing was taken since.
            Some((from, last)) if *from == next => *last = time,
            Some((_, last)) if *last == time => {}
            _ => self.taken_at.push_back((next, time)),
        }
    }

    /// Takes an item of `bytes` bytes on the wire, to be sent.
    pub(crate) fn take(&mut self, entry: E, bytes: usize) {
        let index = self.next_index();
        let cid = self.rules.dedup.and_then(|cid_of| cid_of(&entry));
        let same = cid.and_then(|cid| self.same_as(index, cid));
        self.push(entry, bytes, State::Waiting);
        self.is_to_be_sent(index, same);
    }

    /// Takes an item of `bytes` bytes on the wire that is not checked yet. Those that are taken after it are checked
    /// after it. Returns its index.
    pub(crate) fn take_unchecked(&mut self, entry: E, bytes: usize) -> u64 {
        let index = self.next_index();
        if self.unchecked == 0 {
            self.first_unchecked = index;
        }
        self.unchecked += 1;
        self.push(entry, bytes, State::Unchecked);
        index
    }

    /// Whether items are not checked yet.
    pub(crate) fn has_unchecked(&self) -> bool {
        self.unchecked > 0
    }

    /// All items below this index are checked.
    fn unchecked_from(&self) -> u64 {
        match self.unchecked {
            0 => self.next_index(),
            _ => self.first_unchecked,
        }
    }

    /// Checks an item. One that `check` refuses fails; the others are to be sent. An item that was given up meanwhile
    /// has its result.
    pub(crate) fn check(&mut self, index: u64, check: impl FnOnce(&mut E) -> Result<(), Error>) {
        let cid_of = self.rules.dedup;
        let Some(slot) = self.slot(index) else { return };
        if !matches!(slot.state, State::Unchecked) {
            return;
        }
        if let Err(error) = check(&mut slot.entry) {
            return self.settle(index, Err(error));
        }
        let cid = cid_of.and_then(|cid_of| cid_of(&slot.entry)).copied();
        let same = cid.and_then(|cid| self.same_as(index, &cid));
        self.set_state(index, State::Waiting);
        self.is_to_be_sent(index, same);
    }

    /// An item has been checked. `same` is the item before it that is the same.
    fn is_to_be_sent(&mut self, index: u64, same: Option<u64>) {
        if let Some(tried) = same {
            self.follow(index, tried);
        } else if let Some((kind, status)) = &self.refused {
            let error = Error::from_status(*kind, Arc::clone(status));
            self.settle(index, Err(error));
        } else {
            self.guess_next(index);
        }
    }

    /// Takes an item of `bytes` bytes that has its outcome before it is sent. It is held until it is handed out,
    /// so it counts like any other.
    pub(crate) fn take_settled(&mut self, entry: E, bytes: usize, outcome: Result<O, Error>) {
        self.push(entry, bytes, State::Waiting);
        self.settle(self.next_index() - 1, outcome);
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
        self.set_state(index, State::Settled(outcome));
        self.live(index).trouble = None;
        self.segments.settled(index);
        if self.rules.unordered {
            self.ready.push_back(index);
        }
        if !self.duplicates.has_outcome_of_another(index) {
            self.pass_on(index);
        }
    }

    /// Moves an item from one state to another, and from list to list.
    fn set_state(&mut self, index: u64, state: State<O>) {
        match std::mem::replace(&mut self.live(index).state, state) {
            State::Unchecked => {
                self.unchecked -= 1;
                self.first_unchecked = index + 1;
            }
            State::Sent => self.in_flight -= 1,
            State::Suspect => self.suspects.remove(index),
            State::Resting(until) => drop(self.resting.remove(&(until, index))),
            State::InDoubt(loss) => drop(self.in_doubt.remove(&(loss, index))),
            State::Duplicate => self.duplicates.waits_no_more(index),
            State::Waiting | State::LookedUp | State::Answered | State::Settled(_) => {}
        }
        match self.live(index).state {
            State::Waiting => self.unsent = self.unsent.min(index),
            State::Sent => self.in_flight += 1,
            State::Resting(until) => drop(self.resting.insert((until, index))),
            State::InDoubt(loss) => drop(self.in_doubt.insert((loss, index))),
            // `requeue` puts it in its place among the suspects.
            State::Suspect | State::Duplicate | State::LookedUp => {}
            State::Unchecked | State::Answered | State::Settled(_) => {}
        }
    }

    /// Whether an item could be sent now.
    pub(crate) fn has_waiting(&mut self) -> bool {
        self.next_to_send().is_some()
    }

    /// Whether an item waits at which the server has not failed before.
    pub(crate) fn has_fresh(&mut self) -> bool {
        self.unchecked > 0 || self.first_waiting().is_some()
    }

    /// How many items have been sent and have no answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether an answer to an item is awaited.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Whether anything is still to be sent, now or later.
    pub(crate) fn has_unsent(&mut self) -> bool {
        self.unchecked > 0
            || !self.resting.is_empty()
            || !self.in_doubt.is_empty()
            || !self.suspects.is_empty()
            || self.first_waiting().is_some()
    }

    /// An item has succeeded that was sent at this time, by whichever adapter.
    pub(crate) fn success(&mut self, tick: Tick) {
        self.suspects.success(tick);
    }

    /// Whether all items that are left are ones at which the server has failed, with no success since. Then
    /// nothing that could be sent shows whether it is an outage or the records are at fault.
    pub(crate) fn is_stuck(&mut self) -> bool {
        self.in_flight == 0
            && !self.suspects.is_empty()
            && self.suspects.first_ready(false, self.sent).is_none()
            && self.first_waiting().is_none()
            && self.unchecked == 0
    }

    /// The next item to be sent, and whether the server has failed at it before. Where there is no room
    /// for another answer that is the first of all, whose result the others wait for.
    fn next_to_send(&mut self) -> Option<(u64, bool)> {
        if !self.has_room_for_answer() {
            return match self.slot(self.first)?.state {
                State::Waiting => Some((self.first, false)),
                State::Suspect => Some((self.first, true)),
                _ => None,
            };
        }
        let fresh = self.first_waiting();
        let suspect = self.suspects.first_ready(fresh.is_some(), self.sent);
        match (suspect, fresh) {
            (Some(suspect), _) => Some((suspect, true)),
            (None, Some(fresh)) => Some((fresh, false)),
            (None, None) if self.in_flight == 0 && self.unchecked == 0 => {
                Some((self.suspects.first()?, true))
            }
            (None, None) => None,
        }
    }

    /// Whether the next item to be sent has to be the only one of its call.
    pub(crate) fn wants_to_be_alone(&mut self) -> bool {
        let next = self.next_to_send();
        next.is_some_and(|(index, is_suspect)| self.is_alone(index, is_suspect))
    }

    fn is_alone(&mut self, index: u64, is_suspect: bool) -> bool {
        let trouble = &self.live(index).trouble;
        trouble.as_ref().is_some_and(|trouble| trouble.alone)
            || is_suspect && self.rules.acknowledged.is_whole()
    }

    /// How many requests a call may have unanswered.
    pub(crate) fn depth(&self) -> usize {
        match self.rules.acknowledged {
            Acknowledged::EachItem => self.depth.now(),
            Acknowledged::OneItem => 1,
            Acknowledged::WholeCall | Acknowledged::WholeBatch => usize::MAX,
        }
    }

    /// What a call begins with where nothing is known, of so many calls side by side. What was taken so far shows how
    /// long requests are. `None`: it has begun.
    pub(crate) fn begins(&self, calls: usize) -> Option<f64> {
        let request_len = self.bytes / self.held.max(1);
        (self.sent == 0).then(|| self.depth.unknown(request_len, calls))
    }

    /// Calls begin with so many requests.
    pub(crate) fn begin(&mut self, depth: f64) {
        self.depth.begin(depth);
    }

    /// What the answers and ends of calls have shown since this was asked last.
    pub(crate) fn teach(&mut self) -> Option<Lesson> {
        let is_of_depth = self.rules.acknowledged == Acknowledged::EachItem;
        is_of_depth.then(|| self.depth.teach()).flatten()
    }

    /// The books of a new call, to send or to look up. A probe carries a single item.
    pub(crate) fn launch(&mut self, is_probe: bool) -> Flight {
        self.calls += 1;
        Flight::new(self.calls, is_probe)
    }

    /// The next item the call may carry, counted as sent. `None`: no item waits, or the call must
    /// not carry it.
    pub(crate) fn send_next(&mut self, flight: &mut Flight) -> Option<&E> {
        if flight.is_full() {
            return None;
        }
        let (index, is_suspect) = if flight.is_probe {
            self.least_tried()?
        } else {
            self.next_to_send()?
        };
        let alone = self.is_alone(index, is_suspect);
        if flight.is_unused() {
            let size = match flight.is_probe || alone {
                true => 1,
                false => self.segments.size(index),
            };
            flight.limit = flight.limit.min(size);
        } else if alone {
            return None;
        }
        flight.carry(index);
        if is_suspect && self.live(index).tries() > 1 {
            // It failed while others did not: the server is likely to end the call at it.
            flight.close_behind();
        }
        self.sent += 1;
        self.resent += u64::from(self.live(index).attempts > 0);
        self.live(index).attempts += 1;
        self.set_state(index, State::Sent);
        Some(&self.live(index).entry)
    }

    /// The transport has not taken the item's request, so the item was not sent.
    fn take_back(&mut self, index: u64) {
        let slot = self.live(index);
        slot.attempts -= 1;
        let is_resent = slot.attempts > 0;
        self.sent -= 1;
        self.resent -= u64::from(is_resent);
        self.requeue(index);
    }

    fn first_waiting(&mut self) -> Option<u64> {
        self.unsent = self.unsent.max(self.first);
        loop {
            let place = usize::try_from(self.unsent - self.first).ok()?;
            match self.slots.get(place)? {
                Some(slot) if matches!(slot.state, State::Waiting) => return Some(self.unsent),
                // What is behind it is not checked either.
                Some(slot) if matches!(slot.state, State::Unchecked) => return None,
                _ => self.unsent += 1,
            }
        }
    }

    /// The item that a probe sends, and whether the server has failed at it before. An item that breaks every call
    /// must not be the only one that is tried, and bad items often come in a row: so it is the last of those with the
    /// fewest faults. Items at which the server has failed are tried when there is no other, in turn.
    fn least_tried(&mut self) -> Option<(u64, bool)> {
        let waiting = (self.first..).zip(&self.slots).filter_map(|(index, slot)| {
            let slot = slot.as_ref()?;
            matches!(slot.state, State::Waiting).then_some((slot.tries(), Reverse(index)))
        });
        let fresh = waiting.min().map(|(_, Reverse(index))| (index, false));
        fresh.or_else(|| self.suspects.first().map(|index| (index, true)))
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
            self.requeue(index);
            woken = true;
        }
        woken
    }

    /// Whether the next answer of a call belongs to an item of the window.
    pub(crate) fn awaits_item(&mut self, flight: &Flight) -> bool {
        let next = flight.next();
        next.is_some_and(|index| self.slot(index).is_some())
    }

    /// Whether the next answer of a call would be of an item that has its result without it.
    pub(crate) fn has_given_up(&mut self, flight: &Flight) -> bool {
        let Some(index) = flight.next().filter(|_| !flight.is_at_canary()) else {
            return false;
        };
        let waits = |slot: &mut Slot<E, O>| matches!(slot.state, State::Sent);
        !self.slot(index).is_some_and(waits)
    }

    /// An answer of a call that does the work: `judge` makes its item's outcome of it, and `len` says how long that is
    /// in bytes. If the attempt failed, [`attempt_failed`](Self::attempt_failed) has to follow, and if it is to be
    /// judged later, [`judge`](Self::judge). `None`: the call has no item that waits for an answer.
    pub(crate) fn answer(
        &mut self,
        flight: &mut Flight,
        judge: impl FnOnce(&E) -> Judged<O>,
        len: impl FnOnce(&O) -> usize,
    ) -> Option<Report> {
        let index = flight.land()?;
        self.depth.answered();
        let Some(slot) = self.slot(index) else {
            if self.rules.answers_may_fail {
                // Nobody can tell what it says.
                return Some(Report::Alive);
            }
            // It answers the canary, or an item that was given up. Both show that the server works.
            return Some(self.succeeded(flight.proves()));
        };
        // An item that was given up meanwhile has its result.
        if !matches!(slot.state, State::Sent) {
            return Some(Report::Alive);
        }
        let (outcome, len) = match judge(&slot.entry) {
            Judged::Failed => return Some(Report::FailedAtItem),
            Judged::Later(len) => (None, Some(len)),
            Judged::Outcome(outcome) => {
                let len = outcome.as_ref().ok().map(len);
                (Some(outcome), len)
            }
        };
        slot.bytes += len.unwrap_or(0);
        self.bytes += len.unwrap_or(0);
        match outcome {
            Some(outcome) => self.settle(index, outcome),
            None => self.set_state(index, State::Answered),
        }
        let Some(len) = len else {
            return Some(Report::Alive);
        };
        if self.answer_len > 0 {
            // Up at once and down slowly: too much memory is worse than a smaller window.
            self.answer_len = len.max(self.answer_len - self.answer_len / 16).max(1);
        }
        if let Some(scout) = &mut self.scout {
            scout.pushed(self.in_flight);
        }
        Some(self.succeeded(flight.proves()))
    }

    /// Makes the outcome of an item of its answer, which has come before.
    pub(crate) fn judge(&mut self, index: u64, judge: impl FnOnce(&E) -> Result<O, Error>) {
        let slot = self.live(index);
        debug_assert!(matches!(slot.state, State::Answered));
        let outcome = judge(&slot.entry);
        self.settle(index, outcome);
    }

    /// The server works: a request has succeeded that was sent at `tick`.
    fn succeeded(&mut self, tick: Tick) -> Report {
        self.suspects.success(tick);
        Report::Works(tick)
    }

    /// An answer of a call that looks up: `judge` makes its item's outcome of it. `false`: the call has no item that
    /// waits for an answer.
    pub(crate) fn looked_up(
        &mut self,
        flight: &mut Flight,
        judge: impl FnOnce(&E) -> Result<O, Error>,
    ) -> bool {
        let Some(index) = flight.land() else {
            return false;
        };
        if let Some(slot) = self.slot(index)
            && matches!(slot.state, State::LookedUp)
        {
            let outcome = judge(&slot.entry);
            let is_scouted = slot.lost().is_some_and(Loss::is_scouted);
            if let Some(scout) = self.scout.as_mut().filter(|_| is_scouted) {
                scout.found();
            }
            self.settle(index, outcome);
        }
        true
    }

    /// The next result, out of the window: in input order, or as they came.
    pub(crate) fn pop(&mut self) -> Option<Settled<E, O>> {
        let index = if self.rules.unordered {
            self.ready.pop_front()?
        } else {
            let slot = self.slots.front()?.as_ref()?;
            matches!(slot.state, State::Settled(_)).then_some(self.first)?
        };
        let slot = if index == self.first {
            self.first += 1;
            self.slots.pop_front()??
        } else {
            let place = usize::try_from(index - self.first).ok()?;
            self.slots.get_mut(place)?.take()?
        };
        let State::Settled(outcome) = slot.state else {
            unreachable!("only what has a result is ready");
        };
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        while self
            .taken_at
            .get(1)
            .is_some_and(|(from, _)| *from <= self.first)
        {
            self.taken_at.pop_front();
        }
        self.held -= 1;
        self.bytes -= slot.bytes;
        if slot.attempts > 0 {
            self.freed = self.freed.saturating_add(slot.bytes);
        }
        Some(Settled {
            index,
            duplicate_of: self.leaves(index, &slot.entry),
            entry: slot.entry,
            attempts: slot.attempts,
            outcome,
        })
    }

    /// Takes the window apart: the results that were not handed out, and the rest, each in input
    /// order.
    pub(crate) fn dismantle(mut self) -> (Vec<Settled<E, O>>, Vec<Unsettled<E>>) {
        let (mut settled, mut unsettled) = (Vec::new(), Vec::new());
        let mut doubtful = BTreeSet::new();
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
                        duplicate_of: self.duplicates.handed_out(index),
                    });
                    continue;
                }
                State::Sent => true,
                // What holds for the one that is tried holds for it.
                State::Duplicate => doubtful.contains(&self.duplicates.group(index)),
                _ => may_have_landed,
            };
            if is_in_doubt {
                doubtful.insert(self.duplicates.group(index));
            }
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
