//! Takes in what the calls bring: answers, and ends.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::time::Instant;
use tonic::Status;

use super::{Driver, Entry, key};
use crate::engine::calls::{End, Event, Lane};
use crate::engine::nodes::{Canary, Cause, Incident, Moment, Route};
use crate::engine::operation::Operation;
use crate::engine::window::{Acknowledged, Aftermath, Answered, Ended, Evidence, Lost};
use crate::item::Tagged;
use crate::record_ref as refs;
use crate::verdict::{self, Verdict};

/// How many times in a row a node may fail at items, with no success between, before that is taken
/// for an outage though there are others to try.
const UNPROVED: u32 = 64;

/// How many bytes of answers count as one event more in what is done in one poll.
const BYTES_OF_EVENT: usize = 4 << 10;

impl<S, O, T> Driver<S, O, T>
where
    S: Stream,
    S::Item: Tagged<Input = O::Input, Tag = T>,
    O: Operation,
{
    /// Takes the next event of a call in. Whether what waits is with the calls that go on.
    pub(super) fn poll_calls(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let waited = self.clock.waited();
        if let Some(lane) = &mut self.look_up
            && let Poll::Ready(event) = lane.poll_event(cx, waited)
        {
            return Poll::Ready(self.look_up_event(event));
        }
        if let Poll::Ready((place, event)) = self.lanes.poll_event(cx, waited) {
            return Poll::Ready(self.call_event(place, event));
        }
        if self.lanes.poll_asked(cx) {
            for lane in self.lanes.iter_mut().filter(|lane| !lane.was_asked()) {
                lane.withdraw(&mut self.window);
            }
            return Poll::Ready(false);
        }
        Poll::Pending
    }

    fn call_event(&mut self, place: usize, event: Event<O::Answer>) -> bool {
        match event {
            Event::Answer(_) if O::ACKNOWLEDGED == Acknowledged::WholeCall => {
                let is_first = self.lanes.get(place).answers() == 1;
                if !is_first {
                    self.out_of_step(place, "the server has answered the call twice");
                }
                is_first
            }
            Event::Answer(answer) => self.answer(place, answer),
            Event::Ended(end) => {
                let lane = self.lanes.remove(place);
                let ended = self.judge(end, lane.route);
                self.call_ended(&lane, ended);
                false
            }
        }
    }

    fn answer(&mut self, place: usize, answer: O::Answer) -> bool {
        let operation = &self.operation;
        let lane = self.lanes.get(place);
        // One for each call is enough, and costs little.
        let is_first = O::LOST != Lost::Repeated && lane.flight.answered() == 0;
        let is_canary = is_first && lane.flight.is_at_canary();
        let (canary, budget, left) = (&mut self.canary, &mut self.budget, lane.left);
        let judge = |entry: &_| {
            let outcome = accept(operation, entry, answer);
            if is_first && outcome.is_ok() {
                keep(canary, operation, entry, left);
            }
            outcome
        };
        let answered = self.window.answer(&mut lane.flight, judge, |output| {
            let len = O::len(output);
            *budget = budget.saturating_sub(len / BYTES_OF_EVENT);
            len
        });
        let node = self.nodes.node(lane.route.node);
        match answered {
            Answered::Unexpected => {
                self.out_of_step(place, "the server has answered what was not asked");
                return false;
            }
            Answered::Succeeded => {
                node.succeeded(lane.flight.proves());
                if is_canary {
                    self.canary.succeeded();
                }
            }
            Answered::Otherwise => node.answered(),
        }
        lane.answered(node.incident());
        self.lanes.answered(place, Instant::now);
        true
    }

    /// The server does not keep to the protocol: what it says next in this call could be anybody's.
    fn out_of_step(&mut self, place: usize, words: &'static str) {
        let lane = self.lanes.remove(place);
        let evidence = self.evidence(lane.route);
        let ended = lane.abandon(Status::data_loss(words), false, evidence);
        if lane.flight.is_awaited() {
            self.call_ended(&lane, ended);
        } else {
            let status = ended.failure.map(|(_, status)| status);
            if lane.flight.is_unused() {
                self.opened_in_vain(evidence.now);
            }
            // The server is there, so that the next call may be made at once, but not one after the other.
            self.fault(evidence.now, Cause::Named, status, (lane.route, lane.seen));
        }
    }

    fn look_up_event(&mut self, event: Event<refs::Answer>) -> bool {
        let Some(mut lane) = self.look_up.take() else {
            return false;
        };
        match event {
            Event::Answer(answer) => {
                let operation = &self.operation;
                let answered = refs::answered(&answer.cid).ok();
                let is_of_another =
                    |entry| key(operation, entry).is_none_or(|key| Some(key) != answered);
                if self.window.awaited(&lane.flight).is_some_and(is_of_another) {
                    // Nothing can be told from that.
                    let words = Status::data_loss("the lookup answered with another record");
                    let evidence = self.evidence(lane.route);
                    let mut ended = lane.abandon(words, false, evidence);
                    if let Some((verdict, _)) = &mut ended.failure {
                        *verdict = Verdict::Record;
                    }
                    self.look_up_ended(&lane, ended);
                    return false;
                }
                let is_canary = lane.flight.is_at_canary();
                if is_canary {
                    self.canary.looked_up(answered);
                }
                let (canary, left) = (&mut self.canary, lane.left);
                let expected = self.window.looked_up(&mut lane.flight, |entry| {
                    // To push it again tells as much as to push another.
                    if !canary.is_known() {
                        keep(canary, operation, entry, left);
                    }
                    let key = key(operation, entry);
                    let found = key.and_then(|key| operation.found(key));
                    Ok(found.expect("what is looked up has a key"))
                });
                if expected {
                    let node = self.nodes.node(lane.route.node);
                    node.looked_up(!is_canary);
                    lane.answered(node.incident());
                    self.look_up = Some(lane);
                }
                expected
            }
            Event::Ended(end) => {
                let ended = self.judge(end, lane.route);
                self.look_up_ended(&lane, ended);
                false
            }
        }
    }

    fn judge(&mut self, end: End, route: Route) -> Ended {
        let judged = |status| (self.nodes.retry().verdict(&status), Arc::new(status));
        Ended {
            failure: end.status.err().map(judged),
            taken: end.taken,
            acknowledged: end.acknowledged,
            stalled: false,
            is_of_call: false,
            evidence: self.evidence(route),
        }
    }

    /// Whether what has succeeded may be asked for again.
    fn may_ask(&self) -> bool {
        self.nodes.retry().is_on() && (O::LOST == Lost::Nothing || self.window.looks_up())
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
            failures: node.failures(),
        }
    }

    pub(super) fn call_ended(&mut self, lane: &Lane<O::Request, O::Answer>, mut ended: Ended) {
        let now = ended.evidence.now;
        let failure = ended.failure.clone();
        let status = failure.as_ref().map(|(_, status)| Arc::clone(status));
        let is_of_moment = matches!(failure, Some((Verdict::Transient, _)));
        // Whatever it ended with, it was not for what it carried.
        let is_vain = is_of_moment || !lane.is_finished();
        let never_opened = lane.flight.is_unused() && !lane.was_asked() && is_vain;
        let is_refused = self.lanes.is_refused(lane);
        ended.is_of_call = is_refused
            && status
                .as_ref()
                .is_some_and(|status| verdict::is_of_limit(status));
        let is_vain_work = ended.taken > 0 && lane.flight.answered() == 0;
        let is_at_canary = lane.flight.ended_at_canary(ended.taken);
        if is_at_canary && is_refused_record(failure.as_ref()) {
            self.canary.refused();
        }
        let operation = &self.operation;
        let aftermath = self.window.call_ended(
            &lane.flight,
            ended,
            self.nodes.wait(now, failure.as_ref()),
            |entry| accept(operation, entry, O::Answer::default()),
        );
        match aftermath {
            Aftermath::Quiet if never_opened => {
                self.opened_in_vain(now);
                self.fault(now, Cause::Line, status, (lane.route, lane.seen));
            }
            Aftermath::Quiet => {}
            Aftermath::Answered => self.nodes.node(lane.route.node).answered(),
            Aftermath::Succeeded(tick) => {
                if is_at_canary {
                    self.canary.succeeded();
                }
                self.nodes.node(lane.route.node).succeeded(tick);
            }
            Aftermath::FailedAtItem => self.failed_at_item(now, status, lane),
            Aftermath::Fault { named } => {
                if !named && is_refused {
                    self.lane_refused(now);
                }
                let cause = match named {
                    true => Cause::Named,
                    false if is_vain_work => Cause::Work,
                    false => Cause::Line,
                };
                self.fault(now, cause, status, (lane.route, lane.seen));
            }
        }
    }

    /// A call has ended before it carried anything. Without retries no fault makes the next one wait, so
    /// there are no more lanes than those that run, for a while.
    fn opened_in_vain(&mut self, now: Instant) {
        if !self.nodes.retry().is_on() && !self.lanes.is_empty() {
            self.lane_refused(now);
        }
    }

    fn lane_refused(&mut self, now: Instant) {
        let retry = self.nodes.retry();
        self.lanes.refused(now, |times| retry.wait_after(times));
    }

    /// The server has failed at an item. Whether that is an outage, other items tell: as long as there
    /// is one to try or under way, or the canary, nothing waits and the breaker does not count it.
    fn failed_at_item(
        &mut self,
        now: Instant,
        status: Option<Arc<Status>>,
        lane: &Lane<O::Request, O::Answer>,
    ) {
        let may_ask = self.may_ask();
        if may_ask {
            self.canary.item_failed();
        }
        let has_canary = may_ask && self.canary.is_known();
        let may_tell = has_canary || self.window.has_fresh() || self.window.is_in_flight();
        let node = self.nodes.node(lane.route.node);
        node.learn();
        node.failed_at_item();
        if may_tell && node.failures() <= UNPROVED && !node.is_in_trouble() {
            self.note_fault(status);
        } else {
            self.fault(now, Cause::Named, status, (lane.route, lane.seen));
        }
    }

    pub(super) fn look_up_ended(&mut self, lane: &Lane<refs::Request, refs::Answer>, ended: Ended) {
        let now = ended.evidence.now;
        let failure = ended.failure.clone();
        let is_at_canary = lane.flight.ended_at_canary(ended.taken);
        if is_at_canary && is_refused_record(failure.as_ref()) {
            self.canary.not_found();
        }
        // What it did not find out about it is not found out this time.
        self.canary.look_up_ended();
        let wait = self.nodes.wait(now, failure.as_ref());
        match self.window.look_up_ended(&lane.flight, ended, wait) {
            Aftermath::Fault { named } => {
                let status = failure.map(|(_, status)| status);
                let cause = match named {
                    true => Cause::Named,
                    false => Cause::Line,
                };
                self.fault(now, cause, status, (lane.route, lane.seen));
            }
            Aftermath::Answered => self.nodes.node(lane.route.node).looked_up(false),
            _ => {}
        }
    }

    fn fault(
        &mut self,
        now: Instant,
        cause: Cause,
        status: Option<Arc<Status>>,
        (route, seen): (Route, Incident),
    ) {
        let status = self.note_fault(status);
        let node = self.nodes.node(route.node);
        node.fault(now, cause, &status, seen);
    }

    fn note_fault(&mut self, status: Option<Arc<Status>>) -> Arc<Status> {
        let status = status.unwrap_or_else(|| Arc::new(Status::unavailable("answers are missing")));
        self.shared.counters.fault(&status);
        self.nodes.note_fault(Arc::clone(&status));
        status
    }
}

fn is_refused_record(failure: Option<&(Verdict, Arc<Status>)>) -> bool {
    matches!(failure, Some((Verdict::Record, _)))
}

/// Keeps an item that has succeeded.
fn keep<O: Operation, T>(
    canary: &mut Canary<O::Request>,
    operation: &O,
    entry: &Entry<O, T>,
    left: Moment,
) {
    let asked = entry.asked.as_ref().expect("only what was checked is sent");
    let key = match O::LOST {
        Lost::LookedUp => match key(operation, entry) {
            // What cannot be looked up is not sent again.
            None => return,
            key => key,
        },
        _ => None,
    };
    canary.keep(operation.request(&entry.input, asked), key, left);
}

fn accept<O: Operation, T>(
    operation: &O,
    entry: &Entry<O, T>,
    answer: O::Answer,
) -> Result<O::Output, crate::Error> {
    let asked = entry.asked.as_ref().expect("only what was checked is sent");
    operation.accept(&entry.input, asked, answer)
}
