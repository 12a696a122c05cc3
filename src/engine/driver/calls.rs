//! Opens calls, gives them what is to be sent, and takes in what they bring.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::time::Instant;
use tonic::Status;

use super::{Driver, Entry};
use crate::breaker::{Permit, Probe};
use crate::cid::Cid;
use crate::engine::call::{End, Event};
use crate::engine::flight::Flight;
use crate::engine::lane::Lane;
use crate::engine::window::{Acknowledged, Aftermath, Ended};
use crate::engine::{Operation, refs};
use crate::item::Tagged;
use crate::proto::core::{RecordMeta, RecordRef};
use crate::verdict::Verdict;

impl<S, O, T> Driver<S, O, T>
where
    S: Stream,
    S::Item: Tagged<Input = O::Input, Tag = T>,
    O: Operation,
{
    /// Asks whether a call may be opened now, and notes when to ask again.
    fn may_open(&mut self, cx: &Context<'_>, now: Instant) -> Option<Option<Probe>> {
        match self.pace.permit(cx, now) {
            Permit::Granted => Some(None),
            Permit::Probe(probe) => Some(Some(probe)),
            Permit::Denied(until) => {
                self.gate_opens = self.gate_opens.into_iter().chain(until).min();
                None
            }
        }
    }

    /// Hands what waits to the call, opening one if there is none and it may be.
    pub(super) fn send(&mut self, cx: &Context<'_>, now: Instant, more_is_ready: bool) {
        if let Some(lane) = &mut self.lane
            && lane.is_old(now)
        {
            lane.finish();
        }
        if self.lane.is_none() {
            if !self.window.has_waiting() {
                return;
            }
            let Some(probe) = self.may_open(cx, now) else {
                return;
            };
            let flight = self.window.launch(probe.is_some());
            let ages_at = self.limits.age.and_then(|age| {
                // Earlier by up to a tenth, so that adapters do not all turn at once.
                now.checked_add(age - age.mul_f64(0.1 * fastrand::f64()))
            });
            self.shared.counters.calls.add(1);
            self.lane = Some(Lane::open(
                Arc::clone(&self.transport),
                O::METHOD,
                flight,
                probe,
                ages_at,
                self.clock.waited(),
            ));
        }
        let takes_input = self.takes_input();
        let Some(lane) = &mut self.lane else { return };
        if lane.is_finished() {
            return;
        }
        while let Some(entry) = self.window.send_next(&mut lane.flight) {
            let asked = entry.asked.as_ref().expect("only what was checked waits");
            self.batch
                .push_back(self.operation.request(&entry.input, asked));
        }
        if !self.batch.is_empty() {
            self.shared.counters.sent.add(self.batch.len() as u64);
            self.shared.counters.resent.set(self.window.resent());
            lane.send(&mut self.batch, self.clock.waited());
        }
        let over = match O::ACKNOWLEDGED {
            Acknowledged::EachItem => {
                !takes_input && self.look_up.is_none() && !self.window.has_unsent()
            }
            // The answer comes when the segment is closed, so it closes when nothing more is at
            // hand.
            Acknowledged::WholeCall => !more_is_ready,
        };
        if over || lane.flight.is_full() || self.window.wants_to_be_alone() {
            lane.finish();
        }
    }

    /// Looks up what is in doubt, all in one call.
    pub(super) fn look_up(&mut self, cx: &Context<'_>, now: Instant) {
        if self.look_up.is_some() || !self.window.has_doubt() {
            return;
        }
        let Some(probe) = self.may_open(cx, now) else {
            return;
        };
        let mut flight = self.window.launch_look_up(probe.is_some());
        let mut batch = VecDeque::new();
        while let Some(entry) = self.window.look_up_next(&mut flight) {
            // Without a key it asks for nothing, and the server refuses that: it cannot be told.
            let key = key(&self.operation, entry);
            batch.push_back(key.map_or_else(RecordRef::default, |key| refs::request(&key)));
        }
        self.shared.counters.calls.add(1);
        self.shared.counters.lookup_calls.add(1);
        let waited = self.clock.waited();
        let transport = Arc::clone(&self.transport);
        let mut lane = Lane::open(transport, refs::LOOKUP, flight, probe, None, waited);
        lane.send(&mut batch, waited);
        lane.finish();
        self.look_up = Some(lane);
    }

    /// Takes the next event of a call in. Whether that call goes on.
    pub(super) fn poll_calls(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let waited = self.clock.waited();
        if let Some(lane) = &mut self.look_up
            && let Poll::Ready(event) = lane.poll_event(cx, waited)
        {
            return Poll::Ready(self.look_up_event(event));
        }
        if let Some(lane) = &mut self.lane
            && let Poll::Ready(event) = lane.poll_event(cx, waited)
        {
            return Poll::Ready(self.call_event(event));
        }
        Poll::Pending
    }

    fn call_event(&mut self, event: Event<O::Answer>) -> bool {
        match event {
            Event::Answer(_) if O::ACKNOWLEDGED == Acknowledged::WholeCall => true,
            Event::Answer(answer) => {
                let Some(lane) = &mut self.lane else {
                    return false;
                };
                let operation = &self.operation;
                let expected = self
                    .window
                    .answer(&mut lane.flight, |entry| accept(operation, entry, answer));
                if expected {
                    lane.answered();
                    self.pace.answered();
                } else {
                    // The server does not keep to the protocol: what it says next could be
                    // anybody's.
                    self.lane = None;
                }
                expected
            }
            Event::Ended(end) => {
                if let Some(lane) = self.lane.take() {
                    let ended = self.judge(end);
                    self.call_ended(&lane.flight, ended);
                }
                false
            }
        }
    }

    fn look_up_event(&mut self, event: Event<RecordMeta>) -> bool {
        let Some(mut lane) = self.look_up.take() else {
            return false;
        };
        match event {
            Event::Answer(meta) => {
                let operation = &self.operation;
                let answered = refs::answered(&meta.cid).ok();
                let is_of_another =
                    |entry| key(operation, entry).is_none_or(|key| Some(key) != answered);
                if self.window.awaited(&lane.flight).is_some_and(is_of_another) {
                    // Nothing can be told from that.
                    let words = Status::data_loss("the lookup answered with another record");
                    let mut ended = lane.abandon(words.clone());
                    ended.failure = Some((Verdict::Record, words));
                    self.look_up_ended(&lane.flight, ended);
                    return false;
                }
                let expected = self.window.answer(&mut lane.flight, |entry| {
                    let key = key(operation, entry);
                    let found = key.and_then(|key| operation.found(key));
                    Ok(found.expect("what is looked up has a key"))
                });
                if expected {
                    lane.answered();
                    self.pace.looked_up();
                    self.look_up = Some(lane);
                }
                expected
            }
            Event::Ended(end) => {
                let ended = self.judge(end);
                self.look_up_ended(&lane.flight, ended);
                false
            }
        }
    }

    fn judge(&self, end: End) -> Ended {
        Ended {
            failure: end
                .status
                .err()
                .map(|status| (self.pace.retry().verdict(&status), status)),
            taken: end.taken,
            answers: end.answers,
        }
    }

    pub(super) fn call_ended(&mut self, flight: &Flight, ended: Ended) {
        let now = Instant::now();
        let status = ended.failure.as_ref().map(|(_, status)| status.clone());
        let operation = &self.operation;
        let aftermath = self.window.call_ended(
            flight,
            ended,
            self.pace.wait(now, status.as_ref()),
            |entry| accept(operation, entry, O::Answer::default()),
        );
        match aftermath {
            Aftermath::Quiet => {}
            Aftermath::Answered => self.pace.answered(),
            Aftermath::Fault { named } => self.fault(now, named, status),
        }
    }

    pub(super) fn look_up_ended(&mut self, flight: &Flight, ended: Ended) {
        let now = Instant::now();
        let status = ended.failure.as_ref().map(|(_, status)| status.clone());
        let wait = self.pace.wait(now, status.as_ref());
        match self.window.look_up_ended(flight, ended, wait) {
            Aftermath::Quiet => {}
            Aftermath::Answered => self.pace.looked_up(),
            Aftermath::Fault { named } => self.fault(now, named, status),
        }
    }

    fn fault(&mut self, now: Instant, named: bool, status: Option<Status>) {
        let status = status.unwrap_or_else(|| Status::unavailable("answers are missing"));
        self.shared.counters.fault(&status);
        self.pace.fault(now, named, &status);
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

fn key<O: Operation, T>(operation: &O, entry: &Entry<O, T>) -> Option<Cid> {
    operation.key(&entry.input, entry.asked.as_ref()?)
}
