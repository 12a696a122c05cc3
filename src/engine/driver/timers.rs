//! Does what is due, and finds out what is due next.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::Driver;
use crate::engine::Operation;
use crate::error::ErrorKind;
use crate::item::Tagged;

impl<S, O, T> Driver<S, O, T>
where
    S: Stream,
    S::Item: Tagged<Input = O::Input, Tag = T>,
    O: Operation,
{
    /// Does what is due, or waits for what is due next.
    pub(super) fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.do_what_is_due(now) {
            return Poll::Ready(());
        }
        let deadline = self.next_deadline(now);
        self.clock.poll_until(cx, now, deadline)
    }

    fn do_what_is_due(&mut self, now: Instant) -> bool {
        let waited = self.clock.waited();
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= waited);
        let mut done = self.window.wake(now);
        if is_due(self.window.expires_at(self.limits.time)) {
            self.window.expire(waited, self.limits.time);
            done = true;
        }
        if is_due(
            self.lane
                .as_ref()
                .and_then(|l| l.stalls_at(self.limits.stall)),
        ) && let Some(lane) = self.lane.take()
        {
            self.transport.leave(lane.connection);
            let (flight, ended) = lane.abandon(stalled(self.limits.stall));
            self.call_ended(&flight, ended);
            done = true;
        }
        if is_due(
            self.look_up
                .as_ref()
                .and_then(|l| l.stalls_at(self.limits.stall)),
        ) && let Some(lane) = self.look_up.take()
        {
            self.transport.leave(lane.connection);
            let (flight, ended) = lane.abandon(stalled(self.limits.stall));
            self.look_up_ended(&flight, ended);
            done = true;
        }
        if let Some(lane) = &mut self.lane
            && lane
                .closes_at(now, self.limits.idle)
                .is_some_and(|at| at <= now)
        {
            lane.finish();
            done = true;
        }
        if is_due(self.pace.gives_up_at(waited)) && !self.window.is_refusing() {
            self.end_calls();
            let last = self.pace.last_fault();
            self.window.fail_all(ErrorKind::CircuitOpen, last);
            done = true;
        }
        if self.drains_until.is_some_and(|until| until <= now) && !self.is_done() {
            self.window.give_up_all("the adapter was drained");
            self.end_calls();
            done = true;
        }
        done
    }

    fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let gives_up_at = self
            .pace
            .gives_up_at(self.clock.waited())
            .filter(|_| !self.window.is_refusing());
        let waits = [
            self.window.expires_at(self.limits.time),
            self.lane
                .as_ref()
                .and_then(|l| l.stalls_at(self.limits.stall)),
            self.look_up
                .as_ref()
                .and_then(|l| l.stalls_at(self.limits.stall)),
            gives_up_at,
        ];
        let waits = waits.into_iter().flatten().min();
        let idle = self.limits.idle;
        let times = [
            waits.and_then(|waited| self.clock.at(now, waited)),
            self.lane
                .as_mut()
                .and_then(|lane| lane.closes_at(now, idle)),
            self.window.rests_until(),
            self.gate_opens,
            self.drains_until,
        ];
        times.into_iter().flatten().min()
    }
}

fn stalled(limit: Option<Duration>) -> Status {
    let seconds = limit.unwrap_or_default().as_secs_f64();
    Status::new(
        Code::DeadlineExceeded,
        format!("the call made no progress in {seconds} s"),
    )
}
