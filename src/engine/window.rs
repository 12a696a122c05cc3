//! The window: what was taken from the input and whose result is not yet handed out.
//!
//! A plain state machine with no I/O and no clock. The driver tells it what happened, and asks it
//! what to send and what to hand out, so every order of events can be tested without a network.

use std::collections::VecDeque;

use tonic::Status;

use super::verdict::{self, Blame};
use crate::error::{Error, ErrorKind};

/// How a call answers its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// The N-th answer is the N-th request's.
    EachItem,
    /// One answer at the end is everybody's, so a call carries a bounded segment of the input.
    WholeCall,
}

/// How much a window may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct End {
    /// `Ok` with `None` left unanswered is the natural end.
    pub(crate) status: Result<(), Status>,
    /// How many requests of this call the transport took, and so may have sent.
    pub(crate) taken: usize,
    /// How many answers came.
    pub(crate) answers: usize,
}

/// An item with its result, on its way out.
#[derive(Debug)]
pub(crate) struct Settled<E, O> {
    pub(crate) index: u64,
    pub(crate) entry: E,
    pub(crate) attempts: u32,
    pub(crate) outcome: Result<O, Error>,
}

#[derive(Debug)]
struct Slot<E, O> {
    entry: E,
    bytes: usize,
    attempts: u32,
    state: State<O>,
}

#[derive(Debug)]
enum State<O> {
    /// To be sent, by this call or the next.
    Waiting,
    /// Given to the call, not answered.
    Sent,
    Settled(Result<O, Error>),
}

/// Entries `E` in input order, each on its way to an outcome `O`.
#[derive(Debug)]
pub(crate) struct Window<E, O> {
    limits: Limits,
    acknowledged: Acknowledged,
    /// What a lost answer means for an item that left.
    lost: ErrorKind,
    slots: VecDeque<Slot<E, O>>,
    /// The index of `slots[0]`.
    first: u64,
    bytes: usize,
    /// No slot below this index is `Waiting`.
    unsent: u64,
    /// No slot below this index is `Sent`.
    unanswered: u64,
    /// How many slots are `Sent`.
    in_flight: usize,
    /// How many requests of the current call are answered.
    answered: usize,
    /// How many items the next call may carry.
    segment: usize,
    /// How many items from the first unanswered on are known to hold one that fails the whole
    /// call; 0 when nothing is known.
    suspects: usize,
    /// Why no further item is sent at all.
    refused: Option<(ErrorKind, Status)>,
}

impl<E, O> Window<E, O> {
    pub(crate) fn new(limits: Limits, acknowledged: Acknowledged, lost: ErrorKind) -> Self {
        Self {
            limits,
            acknowledged,
            lost,
            slots: VecDeque::new(),
            first: 0,
            bytes: 0,
            unsent: 0,
            unanswered: 0,
            in_flight: 0,
            answered: 0,
            segment: usize::MAX,
            suspects: 0,
            refused: None,
        }
    }

    /// Whether another item may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.slots.len() < self.limits.items && self.bytes < self.limits.bytes
    }

    /// Whether so much of the window is free that the line could run dry.
    pub(crate) fn is_half_empty(&self) -> bool {
        self.has_room()
            && self.slots.len() <= self.limits.items / 2
            && self.bytes <= self.limits.bytes / 2
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the next result in order can be handed out.
    pub(crate) fn has_result(&self) -> bool {
        matches!(
            self.slots.front(),
            Some(Slot {
                state: State::Settled(_),
                ..
            })
        )
    }

    /// Takes an item of `bytes` bytes on the wire, to be sent.
    pub(crate) fn take(&mut self, entry: E, bytes: usize) {
        let state = match &self.refused {
            None => State::Waiting,
            Some((kind, status)) => State::Settled(Err(Error::from_status(*kind, status.clone()))),
        };
        self.push(entry, bytes, state);
    }

    /// Takes an item of `bytes` bytes that must not be sent. It is held until it is handed out,
    /// so it counts like any other.
    pub(crate) fn refuse(&mut self, entry: E, bytes: usize, error: Error) {
        self.push(entry, bytes, State::Settled(Err(error)));
    }

    fn push(&mut self, entry: E, bytes: usize, state: State<O>) {
        self.bytes += bytes;
        self.slots.push_back(Slot {
            entry,
            bytes,
            attempts: 0,
            state,
        });
    }

    /// The next item the call may carry, counted as sent. `None`: no item waits, or the call's
    /// segment is full.
    pub(crate) fn send_next(&mut self) -> Option<&E> {
        if self.in_flight >= self.segment {
            return None;
        }
        let position = self.next_waiting()?;
        self.unsent += 1;
        self.in_flight += 1;
        let slot = &mut self.slots[position];
        slot.state = State::Sent;
        slot.attempts += 1;
        Some(&slot.entry)
    }

    /// Whether the current call can carry no more.
    pub(crate) fn segment_is_full(&self) -> bool {
        self.in_flight >= self.segment
    }

    fn next_waiting(&mut self) -> Option<usize> {
        loop {
            let position = self.position(self.unsent);
            match self.slots.get(position)?.state {
                State::Waiting => return Some(position),
                _ => self.unsent += 1,
            }
        }
    }

    fn next_sent(&mut self) -> Option<usize> {
        if self.in_flight == 0 {
            return None;
        }
        loop {
            let position = self.position(self.unanswered);
            match self.slots.get(position)?.state {
                State::Sent => return Some(position),
                _ => self.unanswered += 1,
            }
        }
    }

    fn position(&self, index: u64) -> usize {
        usize::try_from(index - self.first).expect("a window fits in memory")
    }

    /// An answer of the current call: `judge` makes the oldest unanswered item's outcome of it.
    /// `false`: nothing was unanswered, so the answer is nobody's.
    pub(crate) fn answer(&mut self, judge: impl FnOnce(&E) -> Result<O, Error>) -> bool {
        let Some(position) = self.next_sent() else {
            // The call is given up: nothing that the next one is told belongs to this one.
            self.answered = 0;
            return false;
        };
        let outcome = judge(&self.slots[position].entry);
        self.settle(position, outcome);
        self.answered += 1;
        true
    }

    fn settle(&mut self, position: usize, outcome: Result<O, Error>) {
        self.slots[position].state = State::Settled(outcome);
        self.in_flight -= 1;
    }

    /// The call is over. What it leaves unanswered is settled, or waits for the next call.
    ///
    /// `done` makes the outcome of an item whose whole call was acknowledged.
    pub(crate) fn call_ended(&mut self, end: End, done: impl Fn(&E) -> Result<O, Error>) {
        let sent = self.in_flight;
        let untouched = end.taken <= self.answered;
        self.uncount_untaken(end.taken);
        match (end.status, self.acknowledged) {
            (Ok(()), Acknowledged::WholeCall) if end.answers > 0 => {
                while let Some(position) = self.next_sent() {
                    let outcome = done(&self.slots[position].entry);
                    self.settle(position, outcome);
                }
                self.narrow(self.suspects.saturating_sub(sent));
                if self.suspects == 0 {
                    self.segment = self.segment.saturating_mul(2);
                }
            }
            (Ok(()), _) => {
                let missing = Status::unavailable("the server ended the call with answers missing");
                self.fail_sent(&missing, end.taken);
            }
            // A call that ended before it took an item cannot have failed at it.
            (Err(status), _) if untouched && verdict::blame(&status) == Blame::Item => {
                self.fail_sent(&status, end.taken);
                self.narrow(0);
            }
            (Err(status), acknowledged) => match verdict::blame(&status) {
                Blame::Item if acknowledged == Acknowledged::WholeCall && sent > 1 => {
                    self.requeue_sent();
                    self.narrow(sent);
                }
                Blame::Item => {
                    if let Some(position) = self.next_sent() {
                        let kind = verdict::kind_of_item(&status);
                        self.settle(position, Err(Error::from_status(kind, status)));
                    }
                    self.requeue_sent();
                    self.narrow(0);
                    if acknowledged == Acknowledged::WholeCall {
                        // Where one fails the next may, as when the server's storage is down:
                        // segments grow again with each that succeeds.
                        self.segment = 1;
                    }
                }
                Blame::Moment => {
                    self.fail_sent(&status, end.taken);
                    self.narrow(0);
                }
                Blame::Whole => self.fail_all(status),
            },
        }
        self.answered = 0;
    }

    /// The transport took the first `taken` requests of this call: the rest were never tried.
    fn uncount_untaken(&mut self, taken: usize) {
        let untaken = (self.answered + self.in_flight).saturating_sub(taken);
        self.slots
            .iter_mut()
            .rev()
            .filter(|slot| matches!(slot.state, State::Sent))
            .take(untaken)
            .for_each(|slot| slot.attempts -= 1);
    }

    /// Puts what is unanswered back before the items that wait.
    fn requeue_sent(&mut self) {
        if let Some(position) = self.next_sent() {
            self.unsent = self.first + position as u64;
        }
        for slot in &mut self.slots {
            if matches!(slot.state, State::Sent) {
                slot.state = State::Waiting;
            }
        }
        self.in_flight = 0;
    }

    /// Gives `status` to all that is unanswered.
    fn fail_sent(&mut self, status: &Status, taken: usize) {
        while let Some(position) = self.next_sent() {
            let kind = if self.answered < taken {
                self.lost
            } else {
                ErrorKind::NotSent
            };
            self.answered += 1;
            self.settle(position, Err(Error::from_status(kind, status.clone())));
        }
    }

    /// Gives `status` to all that has no outcome, and to every item still to come.
    fn fail_all(&mut self, status: Status) {
        let kind = verdict::kind_of_whole(&status);
        for slot in &mut self.slots {
            if !matches!(slot.state, State::Settled(_)) {
                slot.state = State::Settled(Err(Error::from_status(kind, status.clone())));
            }
        }
        self.in_flight = 0;
        self.refused = Some((kind, status));
    }

    /// Halves the next call while it is known to hold an item that fails the whole of it.
    fn narrow(&mut self, suspects: usize) {
        self.suspects = suspects;
        if suspects > 0 {
            self.segment = (suspects / 2).max(1);
        }
    }

    /// The next result in input order, out of the window.
    pub(crate) fn pop(&mut self) -> Option<Settled<E, O>> {
        if !self.has_result() {
            return None;
        }
        let slot = self.slots.pop_front()?;
        let State::Settled(outcome) = slot.state else {
            unreachable!("has_result looked at this slot");
        };
        let index = self.first;
        self.first += 1;
        self.bytes -= slot.bytes;
        self.unsent = self.unsent.max(self.first);
        self.unanswered = self.unanswered.max(self.first);
        Some(Settled {
            index,
            entry: slot.entry,
            attempts: slot.attempts,
            outcome,
        })
    }
}

#[cfg(test)]
mod tests;
