//! Takes in what the calls bring: answers, and ends.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::time::Instant;
use tonic::Status;

use super::{Driver, Entry, key};
use crate::engine::call::{End, Event};
use crate::engine::lane::Lane;
use crate::engine::nodes::Route;
use crate::engine::pace::Incident;
use crate::engine::window::{Acknowledged, Aftermath, Ended};
use crate::engine::{Operation, refs};
use crate::item::Tagged;
use crate::verdict::{self, Verdict};

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
            Event::Answer(_) if O::ACKNOWLEDGED == Acknowledged::WholeCall => true,
            Event::Answer(answer) => {
                let operation = &self.operation;
                let lane = self.lanes.get(place);
                let expected = self
                    .window
                    .answer(&mut lane.flight, |entry| accept(operation, entry, answer));
                if expected {
                    let pace = self.nodes.pace(lane.route.node);
                    pace.answered();
                    lane.answered(pace.incident());
                    self.lanes.answered(place, Instant::now);
                } else {
                    // The server does not keep to the protocol: what it says next could be
                    // anybody's.
                    self.lanes.remove(place);
                }
                expected
            }
            Event::Ended(end) => {
                let lane = self.lanes.remove(place);
                let ended = self.judge(end);
                self.call_ended(&lane, ended);
                false
            }
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
                    let mut ended = lane.abandon(words.clone());
                    ended.failure = Some((Verdict::Record, Arc::new(words)));
                    self.look_up_ended(&lane, ended);
                    return false;
                }
                let expected = self.window.answer(&mut lane.flight, |entry| {
                    let key = key(operation, entry);
                    let found = key.and_then(|key| operation.found(key));
                    Ok(found.expect("what is looked up has a key"))
                });
                if expected {
                    let pace = self.nodes.pace(lane.route.node);
                    pace.looked_up();
                    lane.answered(pace.incident());
                    self.look_up = Some(lane);
                }
                expected
            }
            Event::Ended(end) => {
                let ended = self.judge(end);
                self.look_up_ended(&lane, ended);
                false
            }
        }
    }

    fn judge(&self, end: End) -> Ended {
        Ended {
            failure: end
                .status
                .err()
                .map(|status| (self.nodes.retry().verdict(&status), Arc::new(status))),
            taken: end.taken,
            answers: end.answers,
            is_of_call: false,
        }
    }

    pub(super) fn call_ended(&mut self, lane: &Lane<O::Request, O::Answer>, mut ended: Ended) {
        let now = Instant::now();
        let status = ended.failure.as_ref().map(|(_, status)| Arc::clone(status));
        let never_opened = lane.flight.is_unused()
            && !lane.was_asked()
            && matches!(ended.failure, Some((Verdict::Moment, _)));
        let is_refused = self.lanes.is_refused(lane);
        ended.is_of_call = is_refused
            && status
                .as_ref()
                .is_some_and(|status| verdict::is_of_limit(status));
        let operation = &self.operation;
        let aftermath = self.window.call_ended(
            &lane.flight,
            ended,
            self.nodes.wait(now, status.as_deref()),
            |entry| accept(operation, entry, O::Answer::default()),
        );
        match aftermath {
            Aftermath::Quiet if never_opened => {
                self.fault(now, false, status, (lane.route, lane.seen));
            }
            Aftermath::Quiet => {}
            Aftermath::Answered => self.nodes.pace(lane.route.node).answered(),
            Aftermath::Fault { named } => {
                if !named && is_refused {
                    let retry = self.nodes.retry();
                    self.lanes.refused(now, |times| retry.wait_after(times));
                }
                self.fault(now, named, status, (lane.route, lane.seen));
            }
        }
    }

    pub(super) fn look_up_ended(&mut self, lane: &Lane<refs::Request, refs::Answer>, ended: Ended) {
        let now = Instant::now();
        let status = ended.failure.as_ref().map(|(_, status)| Arc::clone(status));
        let wait = self.nodes.wait(now, status.as_deref());
        match self.window.look_up_ended(&lane.flight, ended, wait) {
            Aftermath::Quiet => {}
            Aftermath::Answered => self.nodes.pace(lane.route.node).looked_up(),
            Aftermath::Fault { named } => {
                self.fault(now, named, status, (lane.route, lane.seen));
            }
        }
    }

    fn fault(
        &mut self,
        now: Instant,
        named: bool,
        status: Option<Arc<Status>>,
        (route, seen): (Route, Incident),
    ) {
        let status = status.unwrap_or_else(|| Arc::new(Status::unavailable("answers are missing")));
        self.shared.counters.fault(&status);
        let pace = self.nodes.pace(route.node);
        pace.fault(now, named, &status, seen);
        self.nodes.note_fault(status);
    }
}

fn accept<O: Operation, T>(
    operation: &O,
    entry: &Entry<O, T>,
    answer: O::Answer,
) -> Result<O::Output, crate::Error> {
    let asked = entry.asked.as_ref().expect("only what was checked is sent");
    operation.accept(&entry.input, asked, answer)
}
