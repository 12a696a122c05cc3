//! What the end of a call means for the items that it leaves without an answer.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;

use super::flight::Unanswered;
use super::slot::{Loss, State, Trouble};
use super::suspects::{Blame, Evidence, Suspects};
use super::{Ended, Flight, Report, Rules, Window};
use crate::engine::tick::Tick;
use crate::error::{Error, ErrorKind};
use crate::operation::LostAnswer;
use crate::verdict::{self, Verdict};

/// An item at which the server fails is looked up after its first failure, unless so many came before
/// in a row that it is likely to be an outage; and at its last try.
const LOOKED_UP: u32 = 16;

/// What a call leaves behind.
pub(super) struct Left {
    /// The items that it carried to the server, which have no answer.
    pub(super) items: Vec<Unanswered>,
    /// The request that the server was at. It may be the canary's, or that of an item that was given up meanwhile.
    at: Option<Unanswered>,
}

impl Left {
    /// The item that the server was at, if it still waits for its result.
    pub(super) fn first(&self) -> Option<Unanswered> {
        let first = self.items.first().copied();
        first.filter(|first| self.at.is_some_and(|at| at.index == first.index))
    }

    fn is_at_canary(&self) -> bool {
        self.at.as_ref().is_some_and(Unanswered::is_canary)
    }

    /// The verdict and status of an end that leaves this behind. Where the end says OK, the status says `missing`.
    pub(super) fn judge(&self, ended: &Ended, missing: &str) -> (Verdict, Arc<Status>) {
        let Some((verdict, status)) = ended.failure() else {
            return (Verdict::Transient, Arc::new(Status::unavailable(missing)));
        };
        let verdict = match verdict {
            // A call that ended before it took an item cannot have failed at it.
            Verdict::Record | Verdict::Attempt if self.at.is_none() => Verdict::Transient,
            verdict => verdict,
        };
        (verdict, Arc::clone(status))
    }
}

impl<E, O: Clone> Window<E, O> {
    /// A call is over. What it leaves unanswered is settled, or waits for another call.
    ///
    /// `wait` says when an item that has had so many tries may be sent again, and `None` that it may not; `done` makes
    /// the outcome of an item whose whole call was acknowledged; `len` is how long its request is, in bytes.
    pub(crate) fn call_ended(
        &mut self,
        flight: &Flight,
        ended: &Ended,
        wait: impl Fn(u32) -> Option<Instant>,
        done: impl Fn(&E) -> Result<O, Error>,
        len: impl Fn(&E) -> usize,
    ) -> Report {
        let left = self.left_by(flight, ended.end.transmitted);
        let report = if self.rules.acknowledged.is_whole() {
            self.whole_ended(flight, &left, ended, wait, done, len)
        } else {
            self.each_ended(flight, &left, ended, wait, len)
        };
        self.fail_rest(true);
        if let Some(scout) = &mut self.scout {
            scout.pushes_nothing();
        }
        report
    }

    /// What the call did not carry to the server waits again.
    fn left_by(&mut self, flight: &Flight, transmitted: usize) -> Left {
        let mut items = Vec::new();
        for item in flight.unanswered(transmitted) {
            let is_sent = |slot: &mut super::Slot<E, O>| matches!(slot.state, State::Sent);
            if !self.slot(item.index).is_some_and(is_sent) {
                continue;
            }
            if item.was_transmitted {
                items.push(item);
            } else {
                self.take_back(item.index);
            }
        }
        let at = flight
            .unanswered(transmitted)
            .find(|item| item.was_transmitted);
        Left { items, at }
    }

    /// The end of a call whose N-th answer is the N-th request's.
    fn each_ended(
        &mut self,
        flight: &Flight,
        left: &Left,
        ended: &Ended,
        wait: impl Fn(u32) -> Option<Instant>,
        len: impl Fn(&E) -> usize,
    ) -> Report {
        if !flight.is_awaited() {
            // Its status is about no item. If there is a fault, the next call meets it, too.
            return Report::Quiet;
        }
        let missing = "the server ended the call with answers missing";
        let (mut verdict, status) = left.judge(ended, missing);
        if verdict == Verdict::Record && self.too_long(&left.items, &status, &len) == Err(()) {
            // The message that was too long is none of these, so that its answer was lost.
            verdict = Verdict::Transient;
        }
        if verdict == Verdict::Caller {
            self.requeue_all(&left.items);
            self.caller_refused(ended, status);
            return Report::Quiet;
        }
        self.note_depth(flight, left, verdict, &status);
        match (verdict, left.first()) {
            (Verdict::Record, at) if at.is_some() || verdict::oversize(&status).is_some() => {
                self.refused_one(&left.items, flight, &status, &len);
                Report::Alive
            }
            (Verdict::Attempt, Some(at)) => {
                self.requeue_all(&left.items[1..]);
                let number = flight.number;
                let proves = flight.would_prove(flight.answers() + 1);
                let report = self.failed_at(at, number, proves, &status, ended.evidence, wait);
                if matches!(report, Report::Works(_)) {
                    self.expect_stored(&left.items[1..], flight.number);
                }
                report
            }
            // The server was at the canary, or at an item that was given up meanwhile.
            (Verdict::Record | Verdict::Attempt, _) => {
                self.requeue_behind(&left.items, flight, &status);
                if verdict == Verdict::Record {
                    Report::Alive
                } else if verdict::is_already_stored(&status) {
                    self.succeeded(flight.would_prove(flight.answers() + 1))
                } else if left.is_at_canary() {
                    Report::Fails
                } else {
                    Report::FailedAtItem
                }
            }
            (Verdict::Transient | Verdict::Caller, at) => {
                let at = at.filter(|_| !ended.is_of_call);
                self.broke(flight, &left.items, at, &status, wait);
                Report::Broke
            }
        }
    }

    /// Tells the depth how many requests were sent in vain: those behind the one at which the server ended the call.
    fn note_depth(&mut self, flight: &Flight, left: &Left, verdict: Verdict, status: &Status) {
        if verdict == Verdict::Attempt && verdict::is_already_stored(status) {
            // What is behind it is looked up before it is sent again.
            return;
        }
        let at_one = usize::from(verdict != Verdict::Transient);
        // A server that is away does not show how long calls live.
        let is_told = left.at.is_some() && (at_one > 0 || flight.answers() > 0);
        // Nor does an item at which the server had failed before: it was sent as the last of its call.
        let is_suspect = |slot: &mut super::Slot<E, O>| slot.last_failure().is_some();
        let alone = left.items.len() == 1 && self.slot(left.items[0].index).is_some_and(is_suspect);
        if is_told && !alone {
            let in_vain = left.items.len().saturating_sub(at_one);
            self.depth.ended(in_vain);
        }
    }

    /// The answer to this item, which was the last that came, says that the server failed at it. The call goes on.
    pub(crate) fn attempt_failed(
        &mut self,
        index: u64,
        flight: &Flight,
        status: &Arc<Status>,
        evidence: Evidence,
        wait: impl Fn(u32) -> Option<Instant>,
    ) -> Report {
        let at = Unanswered {
            index,
            place: flight.answers() - 1,
            was_transmitted: true,
        };
        // It went on behind it, so what it says of this item says nothing of those that the call has carried behind it.
        self.calls += 1;
        let number = self.calls;
        self.failed_at(at, number, flight.proves(), status, evidence, wait)
    }

    /// The server failed at this item without saying whose fault that is. `call` is what its answer was lost in, and a
    /// success at it `proves` that the server worked then.
    pub(super) fn failed_at(
        &mut self,
        at: Unanswered,
        call: u64,
        proves: Tick,
        status: &Arc<Status>,
        mut evidence: Evidence,
        wait: impl Fn(u32) -> Option<Instant>,
    ) -> Report {
        let is_stored = verdict::is_already_stored(status);
        if is_stored {
            // To say that, the server must have looked at this item, just now.
            evidence.proved = Tick::now();
            if let Some(scout) = &mut self.scout {
                scout.refused();
            }
        }
        let cannot_write = verdict::cannot_write(status);
        if cannot_write {
            evidence = evidence.of_writes();
        }
        let max_attempts = self.rules.max_attempts;
        let last = self.live(at.index).last_failure();
        let (failure, blame) = Suspects::failed(last, evidence);
        let trouble = self.live(at.index).trouble.get_or_insert_default();
        trouble.tries += u32::from(blame != Blame::Open);
        trouble.failure = Some(failure);
        trouble.named = true;
        trouble.alone = false;
        trouble.last = Some(Arc::clone(status));
        trouble.unwritten += u32::from(cannot_write && blame == Blame::Open);
        trouble.rest = wait(trouble.tries + trouble.unwritten);
        trouble.exhausted =
            trouble.rest.is_none() || trouble.tries >= max_attempts || blame == Blame::Last;
        let exhausted = trouble.exhausted;
        let is_first = last.is_none() && evidence.failures < LOOKED_UP;
        let must_not_repeat = self.must_not_repeat();
        if self.rules.retries && (is_stored || is_first || exhausted || must_not_repeat) {
            // The server may have failed at it because it is stored already.
            self.lost(&[at], call);
        }
        self.retry(at.index);
        if is_stored {
            // The server works, whatever becomes of this item.
            self.succeeded(proves)
        } else {
            Report::FailedAtItem
        }
    }

    /// The call broke. `at` is the item that the server was at, which may be the cause.
    pub(super) fn broke(
        &mut self,
        flight: &Flight,
        items: &[Unanswered],
        at: Option<Unanswered>,
        status: &Arc<Status>,
        wait: impl Fn(u32) -> Option<Instant>,
    ) {
        let is_write = self.rules.lost_answer != LostAnswer::AskAgain;
        for item in items {
            let trouble = self.live(item.index).trouble.get_or_insert_default();
            trouble.last = Some(Arc::clone(status));
            trouble.named = false;
            trouble.may_have_landed = is_write;
        }
        if let Some(at) = at {
            let max_attempts = self.rules.max_attempts;
            let trouble = self.live(at.index).trouble.get_or_insert_default();
            trouble.tries += 1;
            let until = wait(trouble.tries);
            trouble.alone = trouble.tries + 1 >= max_attempts;
            // That one call broke need not be the item's fault, so it does not wait for its next attempt.
            trouble.rest = until.filter(|_| trouble.tries > 1);
            trouble.exhausted = until.is_none()
                || trouble.tries >= max_attempts && (flight.is_single() || max_attempts == 1);
        }
        self.lost(items, flight.number);
        for item in items {
            self.retry(item.index);
        }
        if !self.rules.retries {
            self.fail_unsent(flight, status);
        }
    }

    /// The server refused one of `left`: it gets the server's words, and the others go on.
    pub(super) fn refused_one(
        &mut self,
        left: &[Unanswered],
        flight: &Flight,
        status: &Arc<Status>,
        len: impl Fn(&E) -> usize,
    ) {
        let lost = self.rules.lost_answer;
        let found = self.too_long(left, status, len).unwrap_or(0);
        let (before, rest) = left.split_at(found);
        // A server that finds a message too long drops the answers before it.
        self.lost(before, flight.number);
        for item in before {
            self.retry(item.index);
        }
        self.requeue_behind(&rest[1..], flight, status);
        let refused = rest[0].index;
        let trouble = self.live(refused).trouble.as_ref();
        let is_in_doubt = trouble.is_some_and(|trouble| trouble.is_in_doubt());
        let kind = if is_in_doubt && lost == LostAnswer::LookUp {
            // This try was refused; what became of an earlier one was never found out.
            ErrorKind::OutcomeUnknown
        } else {
            verdict::kind_of_record(status)
        };
        self.settle(refused, Err(Error::from_status(kind, Arc::clone(status))));
    }

    /// Which of `left` the server found too long. The first, where it said something else; an error, where it is none of
    /// them.
    fn too_long(
        &mut self,
        left: &[Unanswered],
        status: &Status,
        len: impl Fn(&E) -> usize,
    ) -> Result<usize, ()> {
        let Some(said) = verdict::oversize(status) else {
            return Ok(0);
        };
        let bytes = |item: &Unanswered| len(&self.live(item.index).entry);
        let lens: Vec<usize> = left.iter().map(bytes).collect();
        let found = lens.iter().position(|len| Some(*len) == said.found);
        // What was compressed does not have this length, but is too long anyway.
        let over = |limit| lens.iter().position(|len| *len > limit);
        found.or_else(|| said.limit.and_then(over)).ok_or(())
    }

    /// The answers to these were lost with this call.
    pub(super) fn lost(&mut self, items: &[Unanswered], call: u64) {
        if self.rules.lost_answer == LostAnswer::AskAgain {
            return;
        }
        for Unanswered { index, place, .. } in items {
            let trouble = self.live(*index).trouble.get_or_insert_default();
            trouble.lost = Some(Loss {
                call,
                place: *place as u64,
                is_guess: false,
            });
        }
    }

    /// What is to be done about an item that a fault met.
    fn retry(&mut self, index: u64) {
        if self.looks_up() && self.live(index).lost().is_some() {
            self.doubt(index);
        } else {
            self.send_again(index);
        }
    }

    /// Sends an item again which, as far as is known, was not carried out; or gives it its error, if it has had its
    /// attempts.
    pub(super) fn send_again(&mut self, index: u64) {
        let Rules {
            retries,
            lost_answer,
            ..
        } = self.rules;
        // What may have been made, and was not found to be missing, could be made twice.
        let must_not_repeat = self.must_not_repeat();
        let slot = self.live(index);
        let trouble = slot.trouble.as_deref();
        let is_over =
            |trouble: &Trouble| trouble.exhausted || must_not_repeat && trouble.is_in_doubt();
        if !retries || trouble.is_some_and(is_over) {
            let error = slot.failure(lost_answer);
            self.settle(index, Err(error));
        } else if let Some(until) = trouble.and_then(|trouble| trouble.rest) {
            self.set_state(index, State::Resting(until));
        } else {
            self.requeue(index);
        }
    }

    /// It waits to be sent.
    pub(super) fn requeue(&mut self, index: u64) {
        if let Some(failure) = self.live(index).last_failure() {
            let due = self.sent.saturating_add(self.depth.now() as u64);
            self.set_state(index, State::Suspect);
            self.suspects.push(index, failure, due);
        } else {
            self.set_state(index, State::Waiting);
        }
    }

    /// These stood behind the item that the call ended at, so the server has not begun them. But if the end is that an
    /// answer could not be read, it has gone on.
    fn requeue_behind(&mut self, items: &[Unanswered], flight: &Flight, status: &Arc<Status>) {
        if !verdict::is_unreadable(status) || !self.must_not_repeat() {
            return self.requeue_all(items);
        }
        self.lost(items, flight.number);
        for item in items {
            let trouble = self.live(item.index).trouble.get_or_insert_default();
            trouble.last = Some(Arc::clone(status));
            self.retry(item.index);
        }
    }

    /// Whether what may have been made is sent again only when a lookup has not found it.
    pub(super) fn must_not_repeat(&self) -> bool {
        self.rules.lost_answer == LostAnswer::LookUp && !self.rules.may_repeat
    }

    pub(super) fn requeue_all(&mut self, items: &[Unanswered]) {
        for item in items {
            self.requeue(item.index);
        }
    }

    /// Without retries, a call that breaks fails the items that its transport had not taken, too.
    fn fail_unsent(&mut self, flight: &Flight, status: &Arc<Status>) {
        let lost = self.rules.lost_answer;
        for Unanswered { index, .. } in flight.unanswered(0) {
            if let Some(slot) = self.slot(index)
                && matches!(slot.state, State::Waiting)
            {
                slot.trouble.get_or_insert_default().last = Some(Arc::clone(status));
                let error = slot.failure(lost);
                self.settle(index, Err(error));
            }
        }
    }
}
