//! Giving up: items whose time is up, and all at once.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use super::slot::State;
use super::{Ended, Flight, Window};
use crate::engine::waited::Waited;
use crate::error::{Error, ErrorKind};
use crate::operation::LostAnswer;
use crate::verdict;

impl<E, O: Clone> Window<E, O> {
    /// When the time of the first item is up.
    pub(crate) fn expires_at(&self, time: Duration) -> Option<Waited> {
        let (_, taken) = self.taken_at.front().filter(|_| self.held > 0)?;
        taken.checked_add(time)
    }

    /// A call loses what its transport has not taken, which is all but the first `transmitted` requests. These
    /// requests have not left, and will not leave by that call.
    pub(crate) fn withdraw(&mut self, flight: &mut Flight, transmitted: usize) {
        for index in flight.cut(transmitted) {
            let Some(slot) = self.slot(index) else {
                continue;
            };
            match slot.state {
                State::Sent => self.take_back(index),
                State::LookedUp => self.doubt(index),
                _ => {}
            }
        }
        self.fail_rest(true);
    }

    /// Gives up the items that were taken `time` before `now` or earlier. `last` is the last fault of the adapter: the
    /// cause that is given to items which have met none themselves.
    pub(crate) fn expire(&mut self, now: Waited, time: Duration, last: Option<&Arc<Status>>) {
        while let Some((from, taken)) = self.taken_at.front().copied()
            && taken.checked_add(time).is_some_and(|end| end <= now)
        {
            self.taken_at.pop_front();
            let next = self.next_index();
            let to = self.taken_at.front().map_or(next, |(to, _)| *to);
            for index in from.max(self.first)..to {
                self.fail_unanswered_item(
                    index,
                    &format!("no answer in {} s", time.as_secs_f64()),
                    last,
                );
            }
        }
    }

    /// Gives up all items that have no result. `last` is as in [`expire`](Self::expire).
    pub(crate) fn fail_unanswered(&mut self, reason: &str, last: Option<&Arc<Status>>) {
        for index in self.first..self.next_index() {
            self.fail_unanswered_item(index, reason, last);
        }
    }

    fn fail_unanswered_item(&mut self, index: u64, reason: &str, last: Option<&Arc<Status>>) {
        let lost = self.rules.lost_answer;
        let Some(slot) = self.slot(index) else {
            return;
        };
        match slot.state {
            State::Answered | State::Settled(_) => return,
            State::Sent if lost != LostAnswer::AskAgain => {
                // The server may still carry it out.
                slot.trouble.get_or_insert_default().may_have_landed = true;
            }
            _ => {}
        }
        let mut error = Error::new(slot.kind_of_loss(), reason.to_owned());
        let own = slot.trouble.as_ref().and_then(|t| t.last.as_ref());
        if let Some(last) = own.or(last) {
            error = error.with_status(Arc::clone(last));
        }
        self.settle(index, Err(error));
    }

    /// Gives `status` to all that has no outcome, and to every item still to come: nothing is sent
    /// any more. What may have landed says so.
    pub(crate) fn fail_all(&mut self, kind: ErrorKind, status: Arc<Status>) {
        self.refused = Some((kind, status));
        self.fail_rest(false);
    }

    /// A call was refused for who asks, or what is asked. So will the others be, unless they show another token; what
    /// they carry may still be answered.
    pub(super) fn caller_refused(&mut self, ended: &Ended, status: Arc<Status>) {
        if !ended.is_asked_again {
            self.refused = Some((verdict::kind_of_whole(&status), status));
            self.fail_rest(true);
        }
    }

    /// What comes from now on is sent again, as if nothing had been refused.
    pub(crate) fn try_again(&mut self) {
        self.refused = None;
    }

    /// Whether nothing is looked up since the server refused a lookup.
    pub(crate) fn refuses_look_ups(&self) -> bool {
        self.cannot_look_up
    }

    pub(crate) fn try_look_ups_again(&mut self) {
        self.cannot_look_up = false;
    }

    /// Nothing is sent any more, so what is left to be sent fails.
    pub(super) fn fail_rest(&mut self, spare_sent: bool) {
        let Some((kind, status)) = self.refused.clone() else {
            return;
        };
        let lost = self.rules.lost_answer;
        for index in self.first..self.next_index() {
            let Some(slot) = self.slot(index) else {
                continue;
            };
            let may_have_landed = match slot.state {
                // What is the same as another has that one's outcome.
                State::Answered | State::Settled(_) | State::Duplicate => continue,
                State::Sent if spare_sent => continue,
                State::Sent => lost != LostAnswer::AskAgain,
                _ => slot.may_have_landed(),
            };
            let kind = if may_have_landed {
                ErrorKind::OutcomeUnknown
            } else {
                kind
            };
            self.settle(index, Err(Error::from_status(kind, Arc::clone(&status))));
        }
    }
}
