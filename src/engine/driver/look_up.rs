//! The call that looks up what became of items whose answer was lost, from its opening to its end.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::time::Instant;
use tonic::Status;

use super::receive::may_repeat;
use super::{Driver, question};
use crate::engine::calls::{Event, Lane};
use crate::engine::log;
use crate::engine::nodes::Cause;
use crate::engine::waited::Waited;
use crate::engine::window::{End, EndedBy, Report};
use crate::failed::Failure;
use crate::item::Arrival;
use crate::operation::{Operation, Question};
use crate::verdict::Verdict;

/// A call that looks up. It carries all that was in doubt when it was opened, and is half-closed at once.
pub(super) struct LookUp<Q: Question> {
    pub(super) lane: Lane<Q::Request, Q::Answer>,
    /// What has no answer yet.
    asked: VecDeque<Q::Request>,
}

impl<S, O, T, F, V> Driver<S, O, T, F, V>
where
    S: Stream,
    S::Item: Arrival<V, Input = O::Input, Tag = T, Error = F::InputError>,
    O: Operation,
    F: Failure<Input = O::Input, Tag = T>,
{
    /// Looks up what is in doubt, all in one call.
    pub(super) fn look_up(&mut self, cx: &Context<'_>, now: Instant) {
        let waited = self.clock.waited();
        let wants_canary = !self.window.is_empty()
            && (self.nodes.has_doubtful() || !self.window.has_fresh())
            && self.canary.is_to_be_looked_up();
        if self.look_up.is_some() || !self.window.has_doubt() && !wants_canary {
            return;
        }
        let operation = &self.operation;
        let asks = |entry: &_| question(operation, entry);
        if self.window.next_question(asks).is_none() && !wants_canary {
            return;
        }
        let load = |driver: &Self, route| Some(driver.lanes.on(route));
        let Some((route, probe)) = self.may_open(cx, now, load) else {
            return;
        };
        self.lanes.close_unstarted(cx, waited);
        let path = O::Question::METHOD;
        let setup = self.setup(path, route, probe, None);
        let link = self.nodes.link(route);
        let mut lane = Lane::open(link, path, O::Question::MAX_ANSWER_LEN, false, setup);
        let mut asked = VecDeque::new();
        if wants_canary && let Some(question) = self.canary.look_up() {
            lane.flight.carry_canary();
            asked.push_back(question);
        }
        let operation = &self.operation;
        let asks = |entry: &_| question(operation, entry);
        while let Some(question) = self.window.look_up_next(&mut lane.flight, asks) {
            asked.push_back(question);
        }
        lane.batch = asked.clone();
        self.shared.control.counters.lookup_calls.add(1);
        lane.send(waited);
        lane.close(waited);
        self.look_up = Some(LookUp { lane, asked });
    }

    /// Handles the next event of the call. The result is as in [`poll_calls`](Self::poll_calls).
    pub(super) fn poll_look_up(&mut self, cx: &mut Context<'_>, waited: Waited) -> Poll<bool> {
        let Some(look_up) = &mut self.look_up else {
            return Poll::Pending;
        };
        let Poll::Ready(event) = look_up.lane.poll_event(cx, waited) else {
            return Poll::Pending;
        };
        Poll::Ready(match event {
            Event::Answer(answer) => self.look_up_answer(answer),
            Event::Ended(end) => {
                self.look_up_ended(end, None);
                false
            }
        })
    }

    fn look_up_answer(&mut self, answer: <O::Question as Question>::Answer) -> bool {
        let Some(LookUp { lane, asked }) = &mut self.look_up else {
            return false;
        };
        let is_answered = |asked: &_| O::Question::is_answered_by(asked, &answer);
        let is_its_own = asked.pop_front().is_some_and(|asked| is_answered(&asked));
        if self.window.awaits_item(&lane.flight) && !is_its_own {
            // Such an answer shows nothing about the item.
            let words = Status::data_loss("the lookup answered with another record");
            let end = lane.abandon(EndedBy::Disorder, words);
            self.look_up_ended(end, Some(Verdict::Record));
            return false;
        }
        let is_canary = lane.flight.is_at_canary();
        if is_canary {
            self.canary.looked_up(is_answered);
        }
        let (canary, operation, left) = (&mut self.canary, &self.operation, lane.left);
        let expected = self.window.looked_up(&mut lane.flight, |entry| {
            // A record that was found is as good a canary as one that was pushed now.
            if may_repeat::<O>() && !canary.is_known() {
                super::keep(canary, operation, entry, left);
            }
            let (input, checked) = entry.item();
            operation.found(input, checked, answer)
        });
        if expected {
            lane.accepted();
            let node = self.nodes.node(lane.route.node);
            node.looked_up(!is_canary);
            lane.note_answer(node.incident());
        } else {
            self.look_up = None;
        }
        expected
    }

    /// The call is over. A `verdict` stands in place of that of its status.
    fn look_up_ended(&mut self, end: End, verdict: Option<Verdict>) {
        let Some(LookUp { mut lane, .. }) = self.look_up.take() else {
            return;
        };
        let mut ended = self.judge(end, &lane, Verdict::of);
        ended.verdict = verdict.or(ended.verdict);
        let now = ended.evidence.now;
        let is_at_canary = lane.flight.ended_at_canary(ended.end.transmitted);
        if is_at_canary && ended.verdict == Some(Verdict::Record) {
            self.canary.not_found();
        }
        // If the canary has no answer by now, it stays unknown until the next failure.
        self.canary.look_up_ended();
        let wait = self.nodes.wait(now, ended.failure());
        let report = self.window.look_up_ended(&lane.flight, &ended, wait);
        log::call_ended(&mut lane, &ended, report);
        let node = self.nodes.name(lane.route.node);
        lane.measure(node, ended.end.status.as_deref());
        let cause = match report {
            Report::Fails => Cause::Named,
            Report::Broke => Cause::Line,
            Report::Alive => return self.nodes.node(lane.route.node).looked_up(false),
            Report::Quiet | Report::Works(_) | Report::FailedAtItem => return,
        };
        self.fault(now, cause, ended.end.status, lane.origin());
    }

    /// Ends the call if it has made no progress. Returns whether it did.
    pub(super) fn drop_stalled_look_up(&mut self, waited: Waited) -> bool {
        let limit = self.limits.stall;
        let Some(LookUp { lane, .. }) = &mut self.look_up else {
            return false;
        };
        if !lane.has_stalled(waited, limit, false) {
            return false;
        }
        let end = lane.stall(limit);
        lane.leave_connection();
        self.look_up_ended(end, None);
        true
    }
}
