//! The lanes side by side: how many there may be, whose turn it is, and which one carries the next
//! item.

use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message;
use tokio::time::Instant;

use super::call::Event;
use super::lane::Lane;
use super::limit::Limit;
use crate::engine::nodes::{Incident, Load, Route};
use crate::engine::waited::Waited;

pub(crate) struct Lanes<R, A> {
    lanes: Vec<Lane<R, A>>,
    limit: Limit,
    /// Whose turn it is to be polled.
    turn: usize,
    /// How many events it has had in a row.
    in_a_row: u32,
    /// Whether there is a lane that the transport has not started.
    is_starting: bool,
}

/// How many events in a row one lane may have before the others have their turn. Else results that are handed out as
/// they come could be those of one lane alone.
const IN_A_ROW: u32 = 64;

/// The lane that has the least to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeastLoaded {
    pub(crate) place: usize,
    pub(crate) load: usize,
    /// What the next after it has to do.
    pub(crate) next_load: usize,
}

impl<R, A> Lanes<R, A>
where
    R: Message + 'static,
    A: Message + Default + 'static,
{
    pub(crate) fn new(wanted: usize) -> Self {
        Self {
            lanes: Vec::new(),
            limit: Limit::new(wanted),
            turn: 0,
            in_a_row: 0,
            is_starting: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lane<R, A>> {
        self.lanes.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane<R, A>> {
        self.lanes.iter_mut()
    }

    pub(crate) fn get(&mut self, place: usize) -> &mut Lane<R, A> {
        &mut self.lanes[place]
    }

    pub(crate) fn add(&mut self, mut lane: Lane<R, A>) {
        // Where one lane is wanted, nobody asks whether it was started.
        if !self.limit.is_one() {
            lane.join_others();
            self.is_starting = true;
        }
        self.lanes.push(lane);
    }

    pub(crate) fn remove(&mut self, place: usize) -> Lane<R, A> {
        // The order of lanes means nothing.
        self.lanes.swap_remove(place)
    }

    /// When the first of them has made no progress for `limit`.
    pub(crate) fn stalls_at(&self, limit: Option<Duration>) -> Option<Waited> {
        let stalls_at = |lane: &Lane<R, A>| lane.stalls_at(limit, self.waits_for_connection(lane));
        self.lanes.iter().filter_map(stalls_at).min()
    }

    /// A lane that has made no progress for `limit`, and whether that is a fault. It is none where the lane has carried
    /// nothing and waits for the server's limit.
    pub(crate) fn take_stalled(
        &mut self,
        waited: Waited,
        limit: Option<Duration>,
    ) -> Option<(Lane<R, A>, bool)> {
        for place in 0..self.lanes.len() {
            let waits_for_connection = self.waits_for_connection(&self.lanes[place]);
            let lane = &mut self.lanes[place];
            if lane.has_stalled(waited, limit, waits_for_connection) {
                let is_fault = waits_for_connection || !lane.flight.is_unused();
                return Some((self.remove(place), is_fault));
            }
        }
        None
    }

    /// Whether this lane waits for a connection, and not for the server's limit.
    fn waits_for_connection(&self, lane: &Lane<R, A>) -> bool {
        self.is_starting && !lane.was_started() && !self.has_started(lane.route)
    }

    /// Whether the transport has started a lane on this connection.
    fn has_started(&self, route: Route) -> bool {
        let mut on_it = self.lanes.iter().filter(|lane| lane.route == route);
        on_it.any(Lane::was_started)
    }

    /// Whether the canary is under way.
    pub(crate) fn has_canary(&self) -> bool {
        self.lanes.iter().any(|lane| lane.flight.has_canary())
    }

    pub(crate) fn clear(&mut self) {
        self.lanes.clear();
    }

    /// Closes the lanes that have carried nothing and that the transport has not started: another call is wanted more,
    /// or none is. Where other lanes run on the connection, they are half-closed and end as soon as they are started.
    /// Where none does, they wait for a connection, and are dropped. (If they wait for calls of other adapters, the
    /// server sees an empty call that is reset.)
    pub(crate) fn close_unstarted(&mut self, cx: &Context<'_>, waited: Waited) {
        if !self.is_starting {
            return;
        }
        let opened = |lane: &mut Lane<R, A>| lane.is_started(cx).then_some(lane.route);
        let opened: Vec<Route> = self.lanes.iter_mut().filter_map(opened).collect();
        self.lanes.retain_mut(|lane| {
            if lane.was_started() || !lane.flight.is_unused() {
                return true;
            }
            lane.close(waited);
            opened.contains(&lane.route)
        });
    }

    /// Whether another may be opened, as far as their number goes.
    pub(crate) fn has_room(&mut self, now: Instant) -> bool {
        self.limit.has_room(self.lanes.len(), now)
    }

    /// When there might be room for another, if there is none.
    pub(crate) fn opens_at(&self) -> Option<Instant> {
        self.limit.opens_at()
    }

    /// How many calls a connection carries. A call beyond what the server allows waits in the transport until another
    /// has ended, so there is at most one that the transport has not started.
    pub(crate) fn load(&self, route: Route) -> Load {
        let opens = |lane: &Lane<R, A>| !lane.was_started() && !lane.is_finished();
        let is_starting = self
            .lanes
            .iter()
            .any(|lane| lane.route == route && opens(lane));
        (!is_starting).then(|| self.on(route))
    }

    pub(crate) fn on(&self, route: Route) -> usize {
        let on_it = self.lanes.iter().filter(|lane| lane.route == route);
        on_it.count()
    }

    pub(crate) fn on_node(&self, node: usize) -> usize {
        let on_it = self.lanes.iter().filter(|lane| lane.route.node == node);
        on_it.count()
    }

    /// Notices which lanes the transport has started. Returns whether there is a new one: then requests that wait in
    /// other lanes are better sent by that.
    pub(crate) fn poll_started(&mut self, cx: &Context<'_>) -> bool {
        if !self.is_starting {
            return false;
        }
        let mut any_new = false;
        for lane in self.lanes.iter_mut().filter(|lane| !lane.was_started()) {
            any_new |= lane.is_started(cx);
        }
        self.is_starting = self.lanes.iter().any(|lane| !lane.was_started());
        any_new
    }

    /// The lane to carry the next item, of those on nodes that `may_have` it; with `unused`, one that has carried nothing. A
    /// lane that the transport has not started is passed over while there are others, since it may have to wait.
    pub(crate) fn least_loaded(
        &self,
        unused: bool,
        may_have: impl Fn(usize) -> bool,
    ) -> Option<LeastLoaded> {
        let any_started = self.lanes.iter().any(Lane::was_started);
        let mut least: Option<LeastLoaded> = None;
        for (place, lane) in self.lanes.iter().enumerate() {
            if lane.is_finished()
                || lane.flight.is_full()
                || any_started && !lane.was_started()
                || unused && !lane.flight.is_unused()
                || !may_have(lane.route.node)
            {
                continue;
            }
            let load = lane.flight.load();
            match &mut least {
                Some(least) if least.load <= load => least.next_load = least.next_load.min(load),
                _ => {
                    least = Some(LeastLoaded {
                        place,
                        load,
                        next_load: least.map_or(usize::MAX, |least| least.load),
                    });
                }
            }
        }
        least
    }

    /// How many may be open now.
    pub(crate) fn allowed(&self) -> usize {
        self.limit.calls()
    }

    /// How many of `window` items one lane may have unanswered. Each lane has its share, so that those that are opened
    /// first, or are slow, do not take all.
    pub(crate) fn share(&self, window: usize) -> usize {
        let lanes = if self.is_starting && self.lanes.iter().any(Lane::is_delayed) {
            let started = self.lanes.iter().filter(|lane| lane.was_started());
            started.count().max(1)
        } else {
            self.limit.calls()
        };
        window.div_ceil(lanes)
    }

    /// Whether there will be more lanes in a moment. Where there is a connection, a lane starts without a round trip.
    /// So only few items are handed out until then.
    pub(crate) fn is_growing(&self) -> bool {
        let are_more = self.lanes.len() < self.limit.calls();
        let opens = |lane: &Lane<R, A>| {
            !lane.was_started() && !lane.is_delayed() && (are_more || self.has_started(lane.route))
        };
        self.is_starting && self.lanes.iter().any(opens)
    }

    /// The next event of any of them, in turn.
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        waited: Waited,
    ) -> Poll<(usize, Event<A>)> {
        for _ in 0..self.lanes.len() {
            if self.turn >= self.lanes.len() {
                self.turn = 0;
            }
            let place = self.turn;
            if let Poll::Ready(event) = self.lanes[place].poll_event(cx, waited) {
                // It may have more.
                self.in_a_row += 1;
                if self.in_a_row >= IN_A_ROW {
                    self.next_turn();
                }
                return Poll::Ready((place, event));
            }
            self.next_turn();
        }
        Poll::Pending
    }

    fn next_turn(&mut self) {
        self.turn += 1;
        self.in_a_row = 0;
    }

    /// When the transport should have started the first lane that it has not.
    pub(crate) fn late_at(&self) -> Option<Waited> {
        if !self.is_starting {
            return None;
        }
        self.lanes.iter().filter_map(Lane::late_at).min()
    }

    pub(crate) fn mark_delayed(&mut self, cx: &Context<'_>, waited: Waited) {
        for lane in &mut self.lanes {
            if lane.late_at().is_some_and(|at| at <= waited) && !lane.is_started(cx) {
                lane.mark_delayed();
                // Whether a single lane was started is not looked at, before. Now it has to be, or it counts as delayed for ever.
                self.is_starting = true;
            }
        }
    }

    /// A lane has an answer. `seen` is the last incident on its node.
    pub(crate) fn note_answer(
        &mut self,
        place: usize,
        seen: Incident,
        now: impl FnOnce() -> Instant,
    ) {
        self.lanes[place].note_answer(seen);
        if self.limit.is_one() {
            return;
        }
        let (route, answered) = (self.lanes[place].route, self.lanes[place].flight.answers());
        if self.is_starting {
            let others = self.lanes.iter_mut().filter(|lane| lane.route == route);
            for lane in others {
                lane.mark_delayed();
            }
        }
        if answered == 1 {
            let run = |lane: &&Lane<R, A>| lane.flight.answers() > 0;
            self.limit
                .first_answer(self.lanes.iter().filter(run).count(), now);
        }
    }

    /// Whether the server may have refused this lane, which is removed already, because others run: others have had
    /// answers, this one had none, and so many were never seen to run side by side.
    pub(crate) fn is_refused(&self, lane: &Lane<R, A>) -> bool {
        let runs = |lane: &Lane<R, A>| lane.flight.answers() > 0;
        let is_beside = |other: &Lane<R, A>| other.route.node == lane.route.node && runs(other);
        !runs(lane)
            && self.limit.may_refuse_beside(self.lanes.len())
            && self.lanes.iter().any(is_beside)
    }

    /// The server has refused a lane, which is removed already.
    pub(crate) fn refused(&mut self, now: Instant, wait: impl Fn(u32) -> Duration) {
        self.limit.refused_beside(self.lanes.len(), now, wait);
    }
}
