//! Does what is due, and finds out what is due next.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::time::Instant;
use tonic::{ConnectError, Status};

use super::{Driver, Limits};
use crate::engine::calls::Lane;
use crate::engine::waited::Waited;
use crate::error::ErrorKind;
use crate::failed::Failure;
use crate::item::Arrival;
use crate::operation::Operation;

/// How long a call may take to end when all items have their results. A call that has ended by itself is not reset.
const END_TIME: Duration = Duration::from_secs(5);

impl<S, O, T, F, V> Driver<S, O, T, F, V>
where
    S: Stream,
    S::Item: Arrival<V, Input = O::Input, Tag = T, Error = F::InputError>,
    O: Operation,
    F: Failure<Input = O::Input, Tag = T>,
{
    /// Does what is due, or waits for what is due next.
    pub(super) fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        self.clock.count(now);
        if self.do_what_is_due(cx, now) {
            return Poll::Ready(());
        }
        let deadline = self.next_deadline(now);
        self.clock.poll_until(cx, now, deadline)
    }

    pub(super) fn do_what_is_due(&mut self, cx: &Context<'_>, now: Instant) -> bool {
        let waited = self.clock.waited();
        let limits = self.limits;
        let is_due = |at: Option<Waited>| at.is_some_and(|at| at <= waited);
        let mut done = self.window.wake(now);
        done |= self.expire(waited);
        while let Some((lane, is_fault)) = self.lanes.take_stalled(waited, limits.stall) {
            done = true;
            if !is_fault {
                continue;
            }
            let end = lane.stall(limits.stall);
            lane.leave_connection();
            self.call_ended(lane, end);
        }
        done |= self.drop_stalled_look_up(waited);
        for lane in self.lanes.iter_mut() {
            if lane.closes_at(now, limits.idle).is_some_and(|at| at <= now) {
                lane.close(waited);
                done = true;
            }
        }
        if is_due(self.late_at()) {
            self.mark_delayed(cx, waited);
            done = true;
        }
        if is_due(self.gives_up_at(waited)) {
            self.end_calls();
            let last = self.nodes.why_open();
            self.log.gives_up(&last);
            self.window.fail_all(ErrorKind::CircuitOpen, last);
            done = true;
        }
        if self.drains_until.is_some_and(|until| until <= now) && !self.is_done() {
            let last = self.why_no_answer();
            self.end_calls();
            self.verify_the_rest();
            self.window
                .fail_unanswered("the adapter was drained", last.as_ref());
            done = true;
        }
        if self.ends_by(now).is_some_and(|until| until <= now) {
            self.end_calls();
            done = true;
        }
        done
    }

    /// Gives up the items whose time is up. Returns whether there were any.
    pub(super) fn expire(&mut self, waited: Waited) -> bool {
        let time = self.limits.time;
        let is_due = self.window.expires_at(time).is_some_and(|at| at <= waited);
        if is_due {
            self.withdraw();
            let last = self.why_no_answer();
            self.window.expire(waited, time, last.as_ref());
            self.drop_given_up();
        }
        is_due
    }

    /// Why there is no answer, as far as is known: the last fault, or before there was any, what all
    /// calls wait for.
    fn why_no_answer(&self) -> Option<Arc<Status>> {
        let no_connection = || {
            let waits: Option<Vec<_>> = self.lanes.iter().map(Lane::waits_for).collect();
            let cause = ConnectError(waits?.pop()?.into());
            Some(Arc::new(Status::from_error(cause.into())))
        };
        self.nodes.last_fault().or_else(no_connection)
    }

    /// When the rest is failed because the server is away.
    fn gives_up_at(&mut self, waited: Waited) -> Option<Waited> {
        let wants = !self.window.is_empty() && !self.window.is_refusing();
        let at = self.nodes.gives_up_at(waited, wants);
        // A call that is under way may show that the server is back.
        let is_asking = !self.lanes.is_empty() || self.look_up.is_some();
        at.filter(|_| self.recesses.is_none() || !is_asking)
    }

    /// By when calls have to end, if all items have their results.
    fn ends_by(&mut self, now: Instant) -> Option<Instant> {
        let is_over = !self.takes_input() && self.window.is_empty() && !self.is_done();
        if !is_over {
            self.ends_by = None;
            return None;
        }
        Some(*self.ends_by.get_or_insert(now + END_TIME))
    }

    pub(super) fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let gives_up_at = self.gives_up_at(self.clock.waited());
        let ends_by = self.ends_by(now);
        let Limits { stall, idle, .. } = self.limits;
        let waits = [
            self.window.expires_at(self.limits.time),
            self.lanes.stalls_at(stall),
            self.look_up
                .as_ref()
                .and_then(|look_up| look_up.lane.stalls_at(stall, false)),
            self.late_at(),
            gives_up_at,
        ];
        let waits = waits.into_iter().flatten().min();
        let closes_at = self.lanes.iter_mut().filter_map(|l| l.closes_at(now, idle));
        let times = [
            closes_at.min(),
            waits.and_then(|waited| self.clock.at(now, waited)),
            self.window.rests_until(),
            self.gate_opens,
            self.input_opens,
            self.drains_until,
            ends_by,
        ];
        times.into_iter().flatten().min()
    }
}
