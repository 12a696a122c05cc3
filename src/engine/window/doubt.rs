//! Looking up what became of items whose answer was lost.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::{Code, Status};

use super::flight::Unanswered;
use super::scout::Decision;
use super::slot::{Loss, Slot, State};
use super::{Ended, Flight, Report, Window};
use crate::engine::waited::Waited;
use crate::operation::LostAnswer;
use crate::verdict::Verdict;

impl<E, O: Clone> Window<E, O> {
    /// Whether an item is to be looked up.
    pub(crate) fn has_doubt(&self) -> bool {
        !self.in_doubt.is_empty()
    }

    /// Whether an answer was lost that is to be looked up.
    pub(crate) fn has_lost(&self) -> bool {
        let first = self.in_doubt.first();
        first.is_some_and(|(loss, _)| !loss.is_scouted())
    }

    /// What asks for the next item to be looked up. An item that nothing can ask for is sent.
    pub(crate) fn next_question<Q>(&mut self, question: impl Fn(&E) -> Option<Q>) -> Option<Q> {
        loop {
            let (_, index) = *self.in_doubt.first()?;
            match question(&self.live(index).entry) {
                None => self.push_after_all(index),
                question => return question,
            }
        }
    }

    /// What asks for the next item to be looked up by the call, which is `LookedUp` from now on.
    pub(crate) fn look_up_next<Q>(
        &mut self,
        flight: &mut Flight,
        question: impl Fn(&E) -> Option<Q>,
    ) -> Option<Q> {
        if flight.is_full() {
            return None;
        }
        let question = self.next_question(question)?;
        let (loss, index) = *self.in_doubt.first()?;
        if loss.is_scouted()
            && let Some(scout) = &mut self.scout
            && !scout.carries_another()
        {
            return None;
        }
        flight.carry(index);
        self.set_state(index, State::LookedUp);
        Some(question)
    }

    /// The call that looks up is over.
    pub(crate) fn look_up_ended(
        &mut self,
        flight: &Flight,
        ended: &Ended,
        wait: impl Fn(u32) -> Option<Instant>,
    ) -> Report {
        // The item that the server was at. It may have been given up meanwhile.
        let at = flight
            .unanswered(ended.end.transmitted)
            .find(|item| item.was_transmitted);
        let left: Vec<u64> = flight
            .unanswered(ended.end.transmitted)
            .map(|item| item.index)
            .filter(|index| self.is_looked_up(*index))
            .collect();
        for index in &left {
            self.doubt(*index);
        }
        if !flight.is_awaited() {
            self.scouting_ended(false);
            return Report::Quiet;
        }
        let verdict = ended.verdict.unwrap_or(Verdict::Transient);
        let is_missing = |status: &Arc<Status>| status.code() == Code::NotFound;
        let was_at_one = at.is_some();
        let at = at.map(|at| at.index).filter(|at| left.first() == Some(at));
        match (verdict, at) {
            (Verdict::Record, Some(at)) => {
                if ended.end.status.as_ref().is_some_and(is_missing) {
                    self.is_not_there(at);
                } else {
                    // What became of it stays open, and to send it again does no harm.
                    let is_scouted = self.live(at).lost().is_some_and(Loss::is_scouted);
                    self.note_why_open(at, ended);
                    self.push_after_all(at);
                    if is_scouted {
                        self.scouting_ended(true);
                    }
                }
                Report::Alive
            }
            (Verdict::Record, None) if was_at_one => Report::Alive,
            // The next lookup shows another token.
            (Verdict::Caller, _) if ended.is_asked_again => Report::Quiet,
            (Verdict::Caller, _) => {
                self.cannot_look_up = true;
                self.expects_stored = None;
                while let Some((_, index)) = self.in_doubt.first().copied() {
                    self.note_why_open(index, ended);
                    self.push_after_all(index);
                }
                Report::Quiet
            }
            (verdict, at) => {
                self.stop_guessing();
                if let Some(at) = at.filter(|at| self.live(*at).lost().is_some()) {
                    let max_attempts = self.rules.max_attempts;
                    let trouble = self.live(at).trouble.get_or_insert_default();
                    trouble.lookups += 1;
                    if trouble.lookups >= max_attempts || wait(trouble.lookups).is_none() {
                        self.send_again(at);
                    }
                }
                match verdict {
                    Verdict::Attempt => Report::Fails,
                    _ => Report::Broke,
                }
            }
        }
    }

    /// What became of an item stays open since the question has failed so. If it is not sent again, that is its error.
    fn note_why_open(&mut self, index: u64, ended: &Ended) {
        if !self.rules.may_repeat
            && let Some(trouble) = &mut self.live(index).trouble
        {
            trouble.last.clone_from(&ended.end.status);
        }
    }

    /// Whether what became of an item can be looked up.
    pub(crate) fn looks_up(&self) -> bool {
        self.rules.retries && self.can_look_up()
    }

    fn can_look_up(&self) -> bool {
        self.rules.lost_answer == LostAnswer::LookUp && !self.cannot_look_up
    }

    /// So long has the adapter waited.
    pub(crate) fn time_is(&mut self, now: Waited) {
        if let Some(scout) = &mut self.scout {
            scout.time_is(now);
        }
    }

    /// Decides which of the items that were taken are looked up before they are sent.
    pub(crate) fn scout(&mut self) {
        let Some(mut scout) = self.scout.take() else {
            return;
        };
        let next = self.unchecked_from();
        let from = self.scouted.max(self.first);
        if self.can_look_up() && self.refused.is_none() {
            for index in from..next {
                let is_fresh = |slot: &Slot<E, O>| {
                    matches!(slot.state, State::Waiting)
                        && slot.attempts == 0
                        && slot.trouble.is_none()
                };
                if self.slot(index).is_some_and(|slot| is_fresh(slot)) && scout.looks_up_next() {
                    self.live(index).trouble.get_or_insert_default().lost =
                        Some(Loss::scouted(index));
                    self.doubt(index);
                }
            }
        }
        self.scouted = next;
        // These come last.
        let last = self.in_doubt.last();
        if last.is_some_and(|(loss, _)| loss.is_scouted()) {
            scout.wants_call();
        }
        self.scout = Some(scout);
    }

    /// A call that looks up is over: at a record that is missing, or behind the last that it carried.
    fn scouting_ended(&mut self, is_missing: bool) {
        let Some(mut scout) = self.scout.take() else {
            return;
        };
        match scout.ended(is_missing) {
            Decision::Stay => {}
            // What has not left yet may be looked up after all.
            Decision::LookUpAll => self.scouted = self.unsent,
            Decision::Push(items) => {
                let scouted = self.in_doubt.range((Loss::scouted(0), 0)..);
                let pushed: Vec<_> = scouted.take(items as usize).copied().collect();
                scout.pushed_unseen(u32::try_from(pushed.len()).unwrap_or(u32::MAX));
                self.doubt_no_more(pushed);
            }
        }
        self.scout = Some(scout);
    }

    /// `behind` are the items that stood behind a record that is stored already. Whoever pushes one record again
    /// often pushes many again, and each of them would end a call. So these items are looked up before they are
    /// sent, and so are the items that are taken from now on, until one is found to be missing.
    pub(super) fn expect_stored(&mut self, behind: &[Unanswered], call: u64) {
        if !self.looks_up() {
            return;
        }
        self.expects_stored = Some(call);
        for item in behind {
            self.guess(item.index, call, item.place as u64);
        }
    }

    /// Has an item looked up that is taken while records are expected to be stored.
    pub(super) fn guess_next(&mut self, index: u64) {
        if let Some(call) = self.expects_stored {
            // A place behind all items that the call itself has carried.
            self.guess(index, call, (1 << 32) + index);
        }
    }

    fn guess(&mut self, index: u64, call: u64, place: u64) {
        let trouble = self.live(index).trouble.get_or_insert_default();
        if trouble.lost.is_none() {
            trouble.lost = Some(Loss {
                call,
                place,
                is_guess: true,
            });
        }
        self.doubt(index);
    }

    /// Sends the items that were only expected to be stored. A lookup that fails costs more than a call that ends.
    fn stop_guessing(&mut self) {
        self.expects_stored = None;
        if let Some(scout) = &mut self.scout {
            scout.failed();
        }
        let guesses = self.in_doubt.iter().filter(|(loss, _)| loss.is_guess);
        let guesses = guesses.copied().collect();
        self.doubt_no_more(guesses);
    }

    /// The item is not stored. A server works in order, so neither are those that were behind it in
    /// the call that lost their answers.
    fn is_not_there(&mut self, index: u64) {
        let Some(lost) = self.live(index).lost() else {
            return;
        };
        if lost.is_scouted() {
            self.doubt_no_more(vec![(lost, index)]);
            return self.scouting_ended(true);
        }
        if self.expects_stored == Some(lost.call) {
            self.expects_stored = None;
        }
        let behind = self.in_doubt.range((lost, 0)..);
        let behind = behind.take_while(|(loss, _)| loss.call == lost.call);
        let behind = behind.copied().collect();
        self.doubt_no_more(behind);
    }

    /// These items need no lookup any more: they are sent.
    fn doubt_no_more(&mut self, items: Vec<(Loss, u64)>) {
        for (loss, index) in items {
            if let Some(trouble) = &mut self.live(index).trouble {
                trouble.lost = None;
            }
            if loss.is_guess && !self.rules.retries {
                // It was not sent before.
                self.requeue(index);
            } else {
                self.send_again(index);
            }
        }
    }

    /// The lookup of an item gives no answer, so it is sent.
    fn push_after_all(&mut self, index: u64) {
        match self.live(index).lost() {
            Some(loss) if loss.is_guess => self.doubt_no_more(vec![(loss, index)]),
            _ => self.send_again(index),
        }
    }

    fn is_looked_up(&mut self, index: u64) -> bool {
        self.slot(index)
            .is_some_and(|slot| matches!(slot.state, State::LookedUp))
    }

    /// Has an item looked up.
    pub(super) fn doubt(&mut self, index: u64) {
        let loss = self.live(index).lost();
        let loss = loss.expect("an item is in doubt when its answer was lost");
        self.set_state(index, State::InDoubt(loss));
    }
}
