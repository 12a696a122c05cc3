//! Looking up what became of items whose answer was lost.

use tokio::time::Instant;
use tonic::Status;

use super::slot::State;
use super::{Aftermath, Ended, Flight, Window};
use crate::verdict::Verdict;

impl<E, O> Window<E, O> {
    /// Whether an item is to be looked up.
    pub(crate) fn has_doubt(&self) -> bool {
        !self.in_doubt.is_empty()
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
}
