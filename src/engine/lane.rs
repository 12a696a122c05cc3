//! A lane: a call, what it carries, and how it has fared.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message;
use tokio::time::Instant;
use tonic::Status;

use super::call::{Call, Event};
use super::flight::Flight;
use super::window::Ended;
use crate::breaker::Probe;
use crate::client::Transport;
use crate::verdict::Verdict;

pub(super) struct Lane<R, A> {
    pub(super) flight: Flight,
    call: Call<R, A>,
    /// The connection that it was opened on.
    pub(super) connection: u64,
    /// When it is to be handed over to another call.
    ages_at: Option<Instant>,
    /// Since when it has nothing to do.
    idle_since: Option<Instant>,
    /// How long the adapter had waited in all when this call last made progress.
    progress: Duration,
    /// Held by a call that probes, until the server has answered.
    probe: Option<Probe>,
}

impl<R, A> Lane<R, A>
where
    R: Message + 'static,
    A: Message + Default + 'static,
{
    pub(super) fn open(
        transport: Arc<dyn Transport>,
        method: &'static str,
        flight: Flight,
        probe: Option<Probe>,
        ages_at: Option<Instant>,
        waited: Duration,
    ) -> Self {
        Self {
            flight,
            connection: transport.connection(),
            call: Call::open(transport, method),
            ages_at,
            idle_since: None,
            progress: waited,
            probe,
        }
    }

    /// Sends all of `batch`, emptying it.
    pub(super) fn send(&mut self, batch: &mut VecDeque<R>, waited: Duration) {
        if self.idle_since.take().is_some() {
            self.progress = waited;
        }
        self.call.send(batch);
    }

    pub(super) fn finish(&mut self) {
        self.call.finish();
    }

    pub(super) fn is_finished(&self) -> bool {
        self.call.is_finished()
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>, waited: Duration) -> Poll<Event<A>> {
        let event = self.call.poll_event(cx);
        if event.is_ready() {
            self.progress = waited;
        }
        event
    }

    /// When, on the clock of what was waited, it has made no progress for `limit`.
    pub(super) fn stalls_at(&self, limit: Option<Duration>) -> Option<Duration> {
        let awaited = self.flight.is_awaited() || self.is_finished();
        limit
            .filter(|_| awaited)
            .and_then(|limit| self.progress.checked_add(limit))
    }

    /// When it is to be closed: it is old, or has nothing to do.
    pub(super) fn closes_at(
        &mut self,
        now: Instant,
        idle_close: Option<Duration>,
    ) -> Option<Instant> {
        if self.is_finished() {
            return None;
        }
        let idle = if self.flight.is_awaited() {
            self.idle_since = None;
            None
        } else {
            let since = *self.idle_since.get_or_insert(now);
            idle_close.and_then(|idle| since.checked_add(idle))
        };
        [self.ages_at, idle].into_iter().flatten().min()
    }

    /// Whether it is to be handed over to another call.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        self.ages_at.is_some_and(|at| at <= now)
    }

    /// The server has answered, so that nobody need wait for the end of a probe.
    pub(super) fn answered(&mut self) {
        self.probe = None;
    }

    /// Takes back what the transport has not taken. Returns how many requests it has.
    pub(super) fn retract(&self) -> usize {
        self.call.retract()
    }

    /// Ends the call from this side: it counts as one that broke. It is reset when it is dropped.
    pub(super) fn abandon(&self, status: Status) -> Ended {
        let (taken, answers) = self.call.close();
        Ended {
            failure: Some((Verdict::Moment, status)),
            taken,
            answers,
        }
    }
}
