//! Takes in what the calls bring: answers, and ends.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use prost::Message;
use tokio::time::Instant;
use tonic::Status;

use super::{Driver, Entry, Ticket, question, withdraw};
use crate::client::Refusal;
use crate::engine::calls::{Event, Lane};
use crate::engine::log;
use crate::engine::nodes::{Canary, Cause, Moment, Origin, Route, Success};
use crate::engine::window::{End, Ended, EndedBy, Evidence, Judged, Report};
use crate::error::{Error, ErrorKind};
use crate::failed::Failure;
use crate::item::Arrival;
use crate::operation::{Acknowledged, LostAnswer, Operation, Question};
use crate::record::Record;
use crate::verdict::{self, Verdict};

/// How many times in a row a node may fail at items, with no success between, before that counts as an outage though
/// there are other items to try.
const UNPROVED: u32 = 64;

/// So many bytes of an answer count as one event more, in what is handled in one poll.
const BYTES_OF_EVENT: usize = 4 << 10;

impl<S, O, T, F, V> Driver<S, O, T, F, V>
where
    S: Stream,
    S::Item: Arrival<V, Input = O::Input, Tag = T, Error = F::InputError>,
    O: Operation,
    F: Failure<Input = O::Input, Tag = T>,
{
    /// Handles the next event of a call. `false`: items may wait again that a call had, and have to be sent.
    pub(super) fn poll_calls(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let waited = self.clock.waited();
        self.window.time_is(waited);
        if let Poll::Ready(goes_on) = self.poll_look_up(cx, waited) {
            return Poll::Ready(goes_on);
        }
        if let Poll::Ready((place, event)) = self.lanes.poll_event(cx, waited) {
            return Poll::Ready(self.call_event(place, event));
        }
        if self.lanes.poll_started(cx) {
            for lane in self.lanes.iter_mut().filter(|lane| !lane.was_started()) {
                // A call that is half-closed would go out empty.
                if !(O::ACKNOWLEDGED.is_one_request() && lane.is_finished()) {
                    withdraw(lane, &mut self.window);
                }
            }
            return Poll::Ready(false);
        }
        Poll::Pending
    }

    fn call_event(&mut self, place: usize, event: Event<O::Answer>) -> bool {
        match event {
            Event::Answer(answer) if O::ACKNOWLEDGED.is_whole() => {
                let answers = &mut self.lanes.get(place).answers;
                answers.push(answer);
                let is_first = answers.len() == 1;
                if !is_first {
                    self.out_of_step(place, "the server has answered the call twice");
                }
                is_first
            }
            Event::Answer(answer) if O::ACKNOWLEDGED == Acknowledged::OneItem => {
                self.part_of_answer(place, answer)
            }
            Event::Answer(answer) => match self.to_verify(&answer) {
                Some(record) => self.answer_to_verify(place, answer, record),
                None => self.answer(place, |operation, entry| {
                    let (input, checked) = entry.item();
                    Judged::Outcome(operation.accept(input, checked, answer))
                }),
            },
            Event::Ended(end) => {
                if O::ACKNOWLEDGED == Acknowledged::OneItem {
                    self.conclude(place, &end);
                }
                let lane = self.lanes.remove(place);
                self.call_ended(lane, end);
                false
            }
        }
    }

    /// An answer of a call that carries one item, and may have more.
    fn part_of_answer(&mut self, place: usize, answer: O::Answer) -> bool {
        let lane = self.lanes.get(place);
        if !lane.flight.is_awaited() {
            self.out_of_step(place, "the server has answered what was not asked");
            return false;
        }
        let is_first = lane.answers.is_empty();
        // An empty one takes memory, too.
        lane.answers_len += answer.encoded_len().max(size_of::<O::Answer>()).max(1);
        lane.answers.push(answer);
        if is_first {
            lane.accepted();
            let node = self.nodes.node(lane.route.node);
            node.note_alive();
            lane.note_answer(node.incident());
        }
        if lane.answers_len <= O::MAX_ANSWER_LEN || lane.answers.len() == 1 {
            return true;
        }
        let words = format!(
            "the server's answers are longer than {} bytes in all",
            O::MAX_ANSWER_LEN
        );
        let error = Error::new(ErrorKind::Mismatch, words.clone());
        self.answer(place, |_, _| Judged::Outcome(Err(error)));
        let lane = self.lanes.remove(place);
        let end = lane.abandon(EndedBy::Disorder, Status::data_loss(words));
        self.call_ended(lane, end);
        false
    }

    /// Drops the calls that carry one request, if its items were taken back before it left: to these methods, a call
    /// without a request is an error. And those whose one item was given up while its answers came: what else comes is
    /// for nobody. (A call without any answer is left to stall, so that a server that is silent shows.)
    pub(super) fn drop_given_up(&mut self) {
        if !O::ACKNOWLEDGED.is_one_request() {
            return;
        }
        for place in (0..self.lanes.len()).rev() {
            let lane = self.lanes.get(place);
            let is_empty = lane.is_finished() && lane.flight.is_unused();
            let trickles = O::ACKNOWLEDGED == Acknowledged::OneItem && !lane.answers.is_empty();
            if is_empty || trickles && self.window.has_given_up(&lane.flight) {
                self.lanes.remove(place).tell("given up");
            }
        }
    }

    /// A call has ended that carried one item: what came is the item's answer, if the server says that it is all.
    fn conclude(&mut self, place: usize, end: &End) {
        let lane = self.lanes.get(place);
        if end.status.is_some() || end.transmitted == 0 || !lane.flight.is_awaited() {
            return;
        }
        let answers = std::mem::take(&mut lane.answers);
        self.answer(place, |operation, entry| {
            let (input, checked) = entry.item();
            let accept = |answer| operation.accept(input, checked, answer);
            let outputs: Result<Vec<_>, _> = answers.into_iter().map(accept).collect();
            Judged::Outcome(outputs.and_then(|outputs| operation.join(outputs)))
        });
    }

    /// The record of an answer that is to be verified elsewhere.
    fn to_verify(&self, answer: &O::Answer) -> Option<Record> {
        // Whether the server has failed must be known at once.
        if self.spread.is_none() || O::ANSWERS_MAY_FAIL {
            return None;
        }
        self.operation.to_verify(answer)
    }

    fn answer_to_verify(&mut self, place: usize, answer: O::Answer, record: Record) -> bool {
        let index = self.lanes.get(place).flight.next();
        let len = answer.encoded_len();
        let mut awaited = None;
        let goes_on = self.answer(place, |_, _| {
            awaited = Some(answer);
            Judged::Later(len)
        });
        if let Some(spread) = &mut self.spread
            && let Some((index, answer)) = index.zip(awaited)
        {
            spread.push(Ticket::Answer { index, answer }, Some(record));
        }
        self.budget = self.budget.saturating_sub(len / BYTES_OF_EVENT);
        goes_on
    }

    /// The next item of this call has its answer, of which `judge` makes its outcome.
    fn answer(
        &mut self,
        place: usize,
        judge: impl FnOnce(&O, &Entry<O, T, F::InputError>) -> Judged<O::Output>,
    ) -> bool {
        let operation = &self.operation;
        let lane = self.lanes.get(place);
        // To keep one item of each call as the canary is enough, and costs little.
        let is_first = lane.flight.answers() == 0;
        if is_first {
            lane.accepted();
        }
        let is_first = may_repeat::<O>() && is_first;
        let is_canary = lane.flight.is_at_canary();
        let mut was_there = false;
        let (canary, budget, left) = (&mut self.canary, &mut self.budget, lane.left);
        let next = lane.flight.next();
        let mut failure = None;
        let judge = |entry: &_| {
            let judged = judge(operation, entry);
            if is_first && !matches!(judged, Judged::Outcome(Err(_))) {
                keep(canary, operation, entry, left);
            }
            match judged {
                Judged::Outcome(Err(error)) if O::ANSWERS_MAY_FAIL && O::may_pass(&error) => {
                    failure = Some(error);
                    Judged::Failed
                }
                judged => judged,
            }
        };
        let report = self.window.answer(&mut lane.flight, judge, |output| {
            let len = O::len(output);
            was_there = O::is_already_stored(output);
            *budget = budget.saturating_sub(len / BYTES_OF_EVENT);
            len
        });
        if let Some((error, index)) = failure.zip(next) {
            self.attempt_failed(place, index, &error);
            return true;
        }
        let lane = self.lanes.get(place);
        let node = self.nodes.node(lane.route.node);
        match report {
            None => {
                self.out_of_step(place, "the server has answered what was not asked");
                return false;
            }
            Some(Report::Works(tick)) => {
                node.note_success(tick);
                if is_canary {
                    self.canary.succeeded();
                } else if !was_there {
                    node.note_written(tick);
                }
            }
            Some(_) => node.note_alive(),
        }
        self.lanes.note_answer(place, node.incident(), Instant::now);
        true
    }

    /// The server's answer to an item says that it failed at it. The call goes on.
    fn attempt_failed(&mut self, place: usize, index: u64, error: &Error) {
        let status = match error.status() {
            Some(status) => status.clone(),
            None => Status::internal(error.to_string()),
        };
        let status = Arc::new(status);
        let origin = self.lanes.get(place).origin();
        let evidence = self.evidence(origin.route);
        let now = evidence.now;
        let wait = self.nodes.wait(now, Some((Verdict::Attempt, &status)));
        let flight = &self.lanes.get(place).flight;
        let report = self
            .window
            .attempt_failed(index, flight, &status, evidence, wait);
        match report {
            Report::Works(tick) => self.nodes.node(origin.route.node).note_success(tick),
            _ => self.failed_at_item(now, Some(status), origin),
        }
        let incident = self.nodes.node(origin.route.node).incident();
        self.lanes.note_answer(place, incident, Instant::now);
    }

    /// The server does not keep to the protocol. Nothing shows which item its next answer would belong to, so the call
    /// is dropped.
    fn out_of_step(&mut self, place: usize, words: &'static str) {
        let mut lane = self.lanes.remove(place);
        let end = lane.abandon(EndedBy::Disorder, Status::data_loss(words));
        if lane.flight.is_awaited() {
            self.call_ended(lane, end);
        } else {
            let Evidence { now, .. } = self.evidence(lane.route);
            if lane.flight.is_unused() {
                self.opened_in_vain(now);
            }
            let origin = lane.origin();
            let node = self.nodes.name(origin.route.node);
            lane.measure(node, end.status.as_deref());
            log::out_of_step(&mut lane, words);
            // The server has answered, so the next call may be opened at once. If that goes on, there are waits.
            self.fault(now, Cause::Named, end.status, origin);
        }
    }

    /// What is made of the end of a call, whose status says `usual` of it.
    pub(super) fn judge<R, A>(
        &mut self,
        end: End,
        lane: &Lane<R, A>,
        usual: fn(&Status) -> Verdict,
    ) -> Ended
    where
        R: Message + 'static,
        A: Message + Default + 'static,
    {
        let retry = self.nodes.retry();
        let verdict = end.status.as_ref().map(|status| match end.by {
            EndedBy::Peer => retry.verdict(status, usual),
            EndedBy::Stall | EndedBy::Disorder => Verdict::Transient,
        });
        let refusal = match lane.refusal(&end, verdict) {
            // Without retries nothing would make the next call wait.
            Some(Refusal::Later) if !self.nodes.retry().is_on() => Some(Refusal::Final),
            refusal => refusal,
        };
        if refusal == Some(Refusal::Later) {
            self.fault(
                Instant::now(),
                Cause::Line,
                end.status.clone(),
                lane.origin(),
            );
        }
        let is_asked_again = matches!(refusal, Some(Refusal::Again | Refusal::Later))
            // Another node may take what this one refuses.
            || verdict == Some(Verdict::Caller)
                && end
                    .status
                    .as_ref()
                    .is_some_and(|status| self.nodes.set_aside(lane.route.node, status));
        Ended {
            is_asked_again,
            end,
            verdict,
            is_of_call: false,
            evidence: self.evidence(lane.route),
        }
    }

    /// Whether an item that has succeeded may be sent again.
    fn may_ask(&self) -> bool {
        may_repeat::<O>()
            && self.nodes.retry().is_on()
            && (O::LOST_ANSWER == LostAnswer::AskAgain || self.window.looks_up())
    }

    /// What is known of this node by now.
    pub(super) fn evidence(&mut self, route: Route) -> Evidence {
        let may_ask = self.may_ask();
        let tells = may_ask && self.canary.may_tell();
        let node = self.nodes.node(route.node);
        Evidence {
            now: Instant::now(),
            tells,
            proved: node.learn(),
            wrote: node.latest_written(),
            failures: node.failures(),
        }
    }

    pub(super) fn call_ended(&mut self, mut lane: Lane<O::Request, O::Answer>, end: End) {
        let mut ended = self.judge(end, &lane, O::verdict);
        let now = ended.evidence.now;
        let mut origin = lane.origin();
        // A call that hangs is told of at once, whatever it had done before: it has waited for long already.
        origin.worked &= ended.end.by != EndedBy::Stall;
        let status = ended.end.status.clone();
        // Whether the call ended for another reason than what it carried.
        let is_vain = ended.verdict == Some(Verdict::Transient) || !lane.is_finished();
        let never_started = lane.flight.is_unused() && !lane.was_started() && is_vain;
        let is_refused = self.lanes.is_refused(&lane);
        ended.is_of_call = is_refused && status.as_deref().is_some_and(verdict::is_of_limit);
        let is_vain_work = ended.end.transmitted > 0 && lane.flight.answers() == 0;
        let is_at_canary = lane.flight.ended_at_canary(ended.end.transmitted);
        if is_at_canary && ended.verdict == Some(Verdict::Record) {
            self.canary.refused();
        }
        let (operation, answers) = (&self.operation, &lane.answers);
        let was_refusing = self.window.is_refusing();
        let report = self.window.call_ended(
            &lane.flight,
            &ended,
            self.nodes.wait(now, ended.failure()),
            |entry| {
                let answer = answers.first().cloned();
                let answer = answer.expect("a call that is acknowledged has an answer");
                let (input, checked) = entry.item();
                operation.accept(input, checked, answer)
            },
            |entry| {
                let (input, checked) = entry.item();
                operation.request(input, checked).encoded_len()
            },
        );
        if let Some(lesson) = self.window.teach() {
            self.learnt.note(lesson, now);
        }
        log::call_ended(&mut lane, &ended, report);
        lane.measure(self.nodes.name(origin.route.node), status.as_deref());
        if !was_refusing
            && self.window.is_refusing()
            && let Some(status) = &status
        {
            self.log.is_refused(status);
        }
        if ended.end.acknowledged {
            lane.acknowledged();
        }
        let cause = match report {
            Report::Quiet if never_started && !ended.is_asked_again => {
                self.opened_in_vain(now);
                Cause::Line
            }
            Report::Quiet => return,
            Report::Alive => return self.nodes.node(lane.route.node).note_alive(),
            Report::Works(tick) => {
                if is_at_canary {
                    self.canary.succeeded();
                }
                return self.nodes.node(lane.route.node).note_success(tick);
            }
            Report::FailedAtItem => {
                return self.failed_at_item(now, status, origin);
            }
            Report::Fails => Cause::Named,
            Report::Broke => {
                if is_refused {
                    self.lane_refused(now);
                }
                match is_vain_work {
                    true => Cause::Work,
                    false => Cause::Line,
                }
            }
        };
        self.fault(now, cause, status, origin);
    }

    /// A call has ended before it carried anything. Without retries no fault makes the next call wait, so for a while
    /// no more lanes are opened than those that run.
    fn opened_in_vain(&mut self, now: Instant) {
        if !self.nodes.retry().is_on() && !self.lanes.is_empty() {
            self.lane_refused(now);
        }
    }

    fn lane_refused(&mut self, now: Instant) {
        let retry = self.nodes.retry();
        self.lanes.refused(now, |times| retry.wait_after(times));
    }

    /// The server has failed at an item. Other items show whether that is an outage. As long as there is one to try,
    /// one in flight, or the canary, nothing waits and the breaker does not count the failure.
    fn failed_at_item(&mut self, now: Instant, status: Option<Arc<Status>>, origin: Origin) {
        // A server that cannot write may do all the same with what it has.
        let may_ask = self.may_ask() && !status.as_deref().is_some_and(verdict::cannot_write);
        if may_ask {
            self.canary.item_failed();
        }
        let has_canary = may_ask && self.canary.is_known();
        let may_tell = has_canary || self.window.has_fresh() || self.window.is_in_flight();
        let node = self.nodes.node(origin.route.node);
        node.learn();
        node.failed_at_item();
        if may_tell && node.failures() <= UNPROVED && !node.is_in_trouble() {
            self.note_fault(status);
        } else {
            self.fault(now, Cause::Named, status, origin);
        }
    }

    pub(super) fn fault(
        &mut self,
        now: Instant,
        cause: Cause,
        status: Option<Arc<Status>>,
        origin: Origin,
    ) {
        let status = self.note_fault(status);
        let node = self.nodes.node(origin.route.node);
        node.fault(now, cause, &status, origin);
    }

    fn note_fault(&mut self, status: Option<Arc<Status>>) -> Arc<Status> {
        let status = status.unwrap_or_else(|| Arc::new(Status::unavailable("answers are missing")));
        self.shared.control.counters.fault(&status);
        self.nodes.note_fault(Arc::clone(&status));
        status
    }
}

/// Whether an item that has succeeded may be sent again to tell whether the server works. An answer that may say that
/// the server failed would have to be judged, and nobody does.
pub(super) const fn may_repeat<O: Operation>() -> bool {
    O::MAY_REPEAT && !O::ANSWERS_MAY_FAIL
}

/// Keeps an item that has succeeded.
pub(super) fn keep<O: Operation, T, E>(
    canary: &mut Canary<O::Request, <O::Question as Question>::Request>,
    operation: &O,
    entry: &Entry<O, T, E>,
    left: Moment,
) {
    let (input, checked) = entry.item();
    let question = match O::LOST_ANSWER {
        LostAnswer::LookUp => match question(operation, entry) {
            // What cannot be looked up must not be written again.
            None => return,
            question => question,
        },
        _ => None,
    };
    let success = Success {
        request: operation.request(input, checked),
        record: question.as_ref().and_then(O::Question::record),
        question,
    };
    canary.keep(success, left);
}
