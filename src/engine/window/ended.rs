//! What the end of a call means for the items that it leaves without an answer.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;

use super::slot::{Loss, State};
use super::{Acknowledged, Aftermath, Ended, Flight, Lost, Rules, Window};
use crate::engine::flight::Unanswered;
use crate::error::{Error, ErrorKind};
use crate::verdict::{self, Verdict};

impl<E, O> Window<E, O> {
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
        let aftermath = self.judge_end(flight, ended, wait, done);
        self.fail_rest(true);
        aftermath
    }

    fn judge_end(
        &mut self,
        flight: &Flight,
        ended: Ended,
        wait: impl Fn(u32) -> Option<Instant>,
        done: impl Fn(&E) -> Result<O, Error>,
    ) -> Aftermath {
        // Whom the server was at, though it may have been given up meanwhile.
        let at = flight.unanswered(ended.taken).find(|item| item.was_taken);
        let mut left: Vec<Unanswered> = Vec::new();
        for item in flight.unanswered(ended.taken) {
            let Some(slot) = self.slot(item.index) else {
                continue;
            };
            if !matches!(slot.state, State::Sent) {
                continue;
            }
            if item.was_taken {
                left.push(item);
            } else {
                self.take_back(item.index);
            }
        }
        let is_at_first = left.first().map(|item| item.index) == at.map(|item| item.index);
        let acknowledged_whole = self.rules.acknowledged == Acknowledged::WholeCall;
        let (verdict, status) = match ended.failure {
            None if acknowledged_whole && ended.answers > 0 => {
                let mut suspected = false;
                for Unanswered { index, .. } in left {
                    suspected |= self.is_suspected(index);
                    let outcome = done(&self.live(index).entry);
                    self.settle(index, outcome);
                }
                if !suspected {
                    self.segment = self.segment.saturating_mul(2);
                }
                return Aftermath::Answered;
            }
            // Nobody's: the next call will tell more.
            _ if !flight.is_awaited() => return Aftermath::Quiet,
            None => (
                Verdict::Moment,
                Arc::new(Status::unavailable(
                    "the server ended the call with answers missing",
                )),
            ),
            Some((Verdict::Whole, status)) => {
                if acknowledged_whole && ended.taken > 1 {
                    self.lost(&left, flight.number);
                }
                self.requeue_all(&left);
                self.refuse_all(verdict::kind_of_whole(&status), status);
                return Aftermath::Quiet;
            }
            // A call that ended before it took an item cannot have failed at it.
            Some((Verdict::Record | Verdict::Attempt, status)) if at.is_none() => {
                (Verdict::Moment, status)
            }
            // Not if it is longer than any: another's answer is lost.
            Some((Verdict::Record, status)) if self.too_long(&left, &status) == Err(()) => {
                (Verdict::Moment, status)
            }
            Some(failure) => failure,
        };
        // A server that is away says nothing of how long calls live.
        let at_one = usize::from(verdict != Verdict::Moment);
        if at.is_some() && (at_one > 0 || flight.answered() > 0) {
            self.depth.ended(left.len().saturating_sub(at_one));
        }
        if acknowledged_whole {
            // Some of it may be done: the server stops at the first that it refuses.
            self.lost(&left, flight.number);
        }
        match verdict {
            Verdict::Record | Verdict::Attempt if acknowledged_whole && ended.taken > 1 => {
                self.requeue_all(&left);
                self.suspect(&left, flight.number);
                Aftermath::Quiet
            }
            Verdict::Record | Verdict::Attempt
                if !is_at_first && verdict::oversize(&status).is_none() =>
            {
                self.requeue_all(&left);
                Aftermath::Answered
            }
            Verdict::Record => {
                if acknowledged_whole {
                    self.end_of_suspicion(&left);
                }
                self.refused_one(&left, flight, &status);
                Aftermath::Answered
            }
            Verdict::Attempt => {
                if acknowledged_whole {
                    self.end_of_suspicion(&left);
                }
                let at = left[0];
                self.requeue_all(&left[1..]);
                self.charge(at.index, &status, true, true, &wait);
                if self.rules.retries {
                    // The server may have failed at it because it has it.
                    self.lost(&[at], flight.number);
                }
                self.retry(at.index);
                if verdict::is_already_stored(&status) {
                    self.expect_stored(&left[1..], flight.number);
                    return Aftermath::Answered;
                }
                Aftermath::Fault { named: true }
            }
            Verdict::Moment | Verdict::Whole => {
                let is_write = self.rules.lost != Lost::Nothing;
                for item in &left {
                    let trouble = self.live(item.index).trouble.get_or_insert_default();
                    trouble.last = Some(Arc::clone(&status));
                    trouble.named = false;
                    trouble.may_have_landed = is_write;
                }
                if let Some(at) = left.first().filter(|_| is_at_first && !ended.is_of_call) {
                    self.charge(at.index, &status, false, flight.is_single(), &wait);
                }
                self.lost(&left, flight.number);
                for item in left {
                    self.retry(item.index);
                }
                if !self.rules.retries {
                    self.fail_unsent(flight, &status);
                }
                Aftermath::Fault { named: false }
            }
        }
    }

    /// The server refused one of `left`: it gets the server's words, and the others go on.
    fn refused_one(&mut self, left: &[Unanswered], flight: &Flight, status: &Arc<Status>) {
        let lost = self.rules.lost;
        let found = self.too_long(left, status).unwrap_or(0);
        let (before, rest) = left.split_at(found);
        // A server that finds a message too long drops the answers before it.
        self.lost(before, flight.number);
        for item in before {
            self.retry(item.index);
        }
        self.requeue_all(&rest[1..]);
        let refused = rest[0].index;
        let trouble = self.live(refused).trouble.as_ref();
        let is_in_doubt = trouble.is_some_and(|trouble| trouble.is_in_doubt());
        let kind = if is_in_doubt && lost == Lost::LookedUp {
            // This try was refused; what became of an earlier one was never found out.
            ErrorKind::Unknown
        } else {
            verdict::kind_of_record(status)
        };
        self.settle(refused, Err(Error::from_status(kind, Arc::clone(status))));
    }

    /// Which of `left` the server found too long, if that is what it said: the first where it said
    /// something else.
    fn too_long(&mut self, left: &[Unanswered], status: &Status) -> Result<usize, ()> {
        let Some(said) = verdict::oversize(status) else {
            return Ok(0);
        };
        let bytes = |item: &Unanswered| self.live(item.index).bytes;
        let lens: Vec<usize> = left.iter().map(bytes).collect();
        let found = lens.iter().position(|len| Some(*len) == said.found);
        // What was compressed does not have this length, but is too long anyway.
        let over = |limit| lens.iter().position(|len| *len > limit);
        found.or_else(|| said.limit.and_then(over)).ok_or(())
    }

    /// One of these fails the whole of a call.
    fn suspect(&mut self, items: &[Unanswered], call: u64) {
        if items.is_empty() {
            return;
        }
        self.suspects.insert(call, items.len());
        for item in items {
            let trouble = self.live(item.index).trouble.get_or_insert_default();
            if let Some(before) = trouble.suspected_in.replace(call) {
                // The one that failed that call is among these.
                self.suspects.remove(&before);
            }
        }
    }

    fn is_suspected(&mut self, index: u64) -> bool {
        let trouble = self.live(index).trouble.as_ref();
        let call = trouble.and_then(|trouble| trouble.suspected_in);
        call.is_some_and(|call| self.suspects.contains_key(&call))
    }

    /// An item is suspected no more.
    pub(super) fn drop_suspect(&mut self, call: Option<u64>) {
        if let Some(call) = call
            && let Some(suspects) = self.suspects.get_mut(&call)
        {
            *suspects -= 1;
            if *suspects == 0 {
                self.suspects.remove(&call);
            }
        }
    }

    /// The one that failed the call of which these are left has been found. Where one fails the next
    /// may, as when the server's storage is down: segments grow again with each that succeeds.
    fn end_of_suspicion(&mut self, left: &[Unanswered]) {
        for item in left {
            let trouble = self.live(item.index).trouble.as_ref();
            if let Some(call) = trouble.and_then(|trouble| trouble.suspected_in) {
                self.suspects.remove(&call);
            }
        }
        self.segment = 1;
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
    fn lost(&mut self, items: &[Unanswered], call: u64) {
        if self.rules.lost == Lost::Nothing {
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

    /// As far as can be known it is not done: it is sent again, unless it has had its tries.
    pub(super) fn send_again(&mut self, index: u64) {
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

    pub(super) fn requeue(&mut self, index: u64) {
        self.live(index).state = State::Waiting;
        self.unsent = self.unsent.min(index);
    }

    fn requeue_all(&mut self, items: &[Unanswered]) {
        for item in items {
            self.requeue(item.index);
        }
    }

    /// Without retries, what a broken call did not take fails with it.
    fn fail_unsent(&mut self, flight: &Flight, status: &Arc<Status>) {
        let lost = self.rules.lost;
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
