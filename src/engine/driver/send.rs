//! Opens calls, gives them what is to be sent, and closes them.

use std::task::Context;
use std::time::Duration;

use futures_core::Stream;
use tokio::time::Instant;

use super::Driver;
use super::look_up::LookUp;
use crate::breaker::Probe;
use crate::engine::calls::{Lane, LeastLoaded, Setup};
use crate::engine::log::call_span;
use crate::engine::nodes::{Load, Route};
use crate::engine::waited::Waited;
use crate::engine::window::flight::FEW;
use crate::failed::Failure;
use crate::item::Arrival;
use crate::operation::{Acknowledged, Operation};

/// How often a delete looks whether a canary that is in flight has its answer.
const CANARY_TIME: Duration = Duration::from_millis(5);

/// How long a delete waits for that at most. Nobody may be polling the adapter that has sent the canary.
const MOST_OF_CANARY: Duration = Duration::from_secs(5);

impl<S, O, T, F, V> Driver<S, O, T, F, V>
where
    S: Stream,
    S::Item: Arrival<V, Input = O::Input, Tag = T, Error = F::InputError>,
    O: Operation,
    F: Failure<Input = O::Input, Tag = T>,
{
    /// Asks for a call on the connection with the least to do, and notes when to ask again.
    pub(super) fn may_open(
        &mut self,
        cx: &Context<'_>,
        now: Instant,
        load: impl Fn(&Self, Route) -> Load,
    ) -> Option<(Route, Option<Probe>)> {
        let others_run = self.lanes.iter().any(Lane::was_started);
        let load = |route| load(self, route);
        let (permit, opens) = self.nodes.permit(cx, now, others_run, load);
        self.note_gate(opens);
        permit
    }

    /// When a call that is wanted might be opened.
    fn note_gate(&mut self, opens: Option<Instant>) {
        self.gate_opens = self.gate_opens.into_iter().chain(opens).min();
    }

    /// What a call is opened with, on this route.
    pub(super) fn setup(
        &mut self,
        path: &'static str,
        route: Route,
        probe: Option<Probe>,
        ages_at: Option<Instant>,
    ) -> Setup {
        let counters = &self.shared.control.counters;
        counters.calls.add(1);
        Setup {
            traffic: counters.traffic.clone(),
            flight_time: self.meter.flight_time(),
            span: call_span(path, self.nodes.name(route.node), counters.calls.get()),
            flight: self.window.launch(probe.is_some()),
            route,
            seen: self.nodes.node(route.node).incident(),
            left: self.canary.now(),
            probe,
            ages_at,
            waited: self.clock.waited(),
        }
    }

    /// Hands what waits to the calls, opening those that are wanted and may be.
    pub(super) fn send(&mut self, cx: &Context<'_>, now: Instant, more_is_ready: bool) {
        let waited = self.clock.waited();
        for lane in self.lanes.iter_mut() {
            if lane.is_old(now) {
                lane.close(waited);
            }
        }
        self.hand_out_work(cx, now);
        for lane in self.lanes.iter_mut() {
            if !lane.batch.is_empty() {
                lane.send(waited);
            }
        }
        let counters = &self.shared.control.counters;
        counters.sent.set(self.window.sent());
        counters.resent.set(self.window.resent());
        self.meter
            .sent_below(self.window.unsent() - self.begins_at());
        self.close_what_is_done(cx, more_is_ready);
    }

    fn hand_out_work(&mut self, cx: &Context<'_>, now: Instant) {
        let mut may_open = true;
        while self.window.has_waiting() {
            if self.window.is_stuck() && self.canary.is_to_be_looked_up() {
                // The canary will show more than the items that are left.
                return;
            }
            let alone = self.window.wants_to_be_alone();
            let mut least = self.least_loaded(alone, now);
            if may_open && least.is_none_or(|least| least.load > 0) {
                may_open = self.open_lane(cx, now);
                if may_open {
                    least = self.least_loaded(alone, now);
                }
            }
            let Some(least) = least else {
                if alone {
                    self.make_room(None);
                }
                return;
            };
            let share = match O::ACKNOWLEDGED {
                Acknowledged::EachItem if self.lanes.is_growing() => 1,
                _ => self.lanes.share(self.window.size()),
            };
            let room = share.min(self.window.depth()).saturating_sub(least.load);
            if room == 0 {
                return;
            }
            let canary = self.canary_for(least.place);
            // The lane takes items until another one has less to do.
            let items = match may_open && self.lanes.has_room(now) {
                true => 1,
                false => room.min((least.next_load - least.load).max(1)),
            };
            let lane = self.lanes.get(least.place);
            if let Some(canary) = canary {
                lane.flight.carry_canary();
                lane.batch.push_back(canary);
            }
            lane.batch.reserve(items.min(FEW));
            for _ in 0..items {
                let Some(entry) = self.window.send_next(&mut lane.flight) else {
                    break;
                };
                let (input, checked) = entry.item();
                if O::DELETES
                    && let Some(cid) = O::cid(checked)
                {
                    self.nodes.forget(cid);
                }
                lane.batch.push_back(self.operation.request(input, checked));
            }
        }
    }

    /// The lane to carry the next item. Where an answer may say that the server failed, the call is not ended by that, so
    /// nothing would slow it down. So the next item waits as long as a new call would.
    fn least_loaded(&mut self, alone: bool, now: Instant) -> Option<LeastLoaded> {
        if !O::ANSWERS_MAY_FAIL {
            return self.lanes.least_loaded(alone, |_| true);
        }
        let (nodes, lanes) = (&self.nodes, &self.lanes);
        let held_until = |node| nodes.held_until(node, now);
        let least = lanes.least_loaded(alone, |node| held_until(node).is_none());
        let held = lanes.iter().filter_map(|lane| held_until(lane.route.node));
        let opens = held.min();
        self.note_gate(opens);
        least
    }

    /// The canary, if this lane is to carry it before the next item.
    fn canary_for(&mut self, place: usize) -> Option<O::Request> {
        if !self.canary.is_ready() || self.lanes.has_canary() {
            return None;
        }
        let lane = self.lanes.get(place);
        let is_needed = self.nodes.is_doubtful(lane.route.node) || self.window.is_stuck();
        if is_needed && !lane.flight.is_full() {
            self.canary.take()
        } else {
            None
        }
    }

    fn open_lane(&mut self, cx: &Context<'_>, now: Instant) -> bool {
        if !self.lanes.has_room(now) {
            self.note_gate(self.lanes.opens_at());
            self.rebalance(now);
            return false;
        }
        if O::DELETES && !self.may_delete(now) {
            return false;
        }
        let load = |driver: &Self, route| driver.lanes.load(route);
        let Some((route, probe)) = self.may_open(cx, now, load) else {
            return false;
        };
        let ages_at = self.limits.age.and_then(|age| {
            // Earlier by up to a tenth, so that calls are not all replaced at once.
            now.checked_add(age - age.mul_f64(0.1 * fastrand::f64()))
        });
        if let Some(unknown) = self.window.begins(self.lanes.allowed()) {
            self.window.begin(self.learnt.depth(unknown, now));
        }
        let mut setup = self.setup(O::METHOD, route, probe, ages_at);
        if O::ACKNOWLEDGED == Acknowledged::OneItem {
            setup.flight.limit_to_one();
        }
        let joins = O::ACKNOWLEDGED == Acknowledged::WholeBatch;
        let link = self.nodes.link(route);
        let max_answer_len = O::MAX_ANSWER_LEN;
        self.lanes
            .add(Lane::open(link, O::METHOD, max_answer_len, joins, setup));
        true
    }

    /// Whether no canary is in flight that could be stored again behind its delete.
    fn may_delete(&mut self, now: Instant) -> bool {
        let apart = self.nodes.apart();
        let (deletes, since) = self.deletes.get_or_insert_with(|| (apart.delete(), now));
        let may_begin = deletes.may_begin() || now.duration_since(*since) >= MOST_OF_CANARY;
        if !may_begin {
            self.note_gate(Some(now + CANARY_TIME));
        }
        may_begin
    }

    /// Closes a lane of the node with the most lanes, if a node has come back that should have it.
    fn rebalance(&mut self, now: Instant) {
        let lanes = &self.lanes;
        if lanes.iter().any(Lane::is_finished) {
            return;
        }
        let most = self.nodes.overloaded(
            now,
            |node| lanes.on_node(node),
            |route| lanes.load(route).is_some(),
        );
        if let Some(most) = most {
            self.close_one(|lane| lane.route.node == most);
        }
    }

    /// Closes the lane with the least to do, unless there is room already or will be.
    fn make_room(&mut self, route: Option<Route>) {
        let is_meant = |lane: &Lane<_, _>| route.is_none_or(|route| lane.route == route);
        let is_room = |lane: &Lane<_, _>| match lane.is_finished() {
            true => is_meant(lane) && lane.was_started(),
            false => route.is_none() && lane.flight.is_unused() && !lane.is_delayed(),
        };
        if !self.lanes.iter().any(is_room) {
            self.close_one(is_meant);
        }
    }

    fn close_one(&mut self, is_meant: impl Fn(&Lane<O::Request, O::Answer>) -> bool) {
        let is_meant =
            |lane: &&mut Lane<_, _>| !lane.is_delayed() && !lane.is_finished() && is_meant(lane);
        let lanes = self.lanes.iter_mut().filter(is_meant);
        if let Some(lane) = lanes.min_by_key(|lane| lane.flight.load()) {
            lane.close(self.clock.waited());
        }
    }

    fn close_what_is_done(&mut self, cx: &Context<'_>, more_is_ready: bool) {
        let over = match O::ACKNOWLEDGED {
            Acknowledged::EachItem | Acknowledged::OneItem => {
                !self.takes_input() && self.look_up.is_none() && !self.window.has_unsent()
            }
            // The server answers when the call is half-closed, so it is as soon as no more items are ready.
            Acknowledged::WholeCall | Acknowledged::WholeBatch => !more_is_ready,
        };
        let over = over || self.window.is_refusing();
        let is_wanted = !over || self.window.has_waiting();
        let waited = self.clock.waited();
        // While more may come, a lane stays that was not seen to start: it may wait for its connection, and only a lane
        // hears that there is none.
        let waits = |lane: &Lane<_, _>| lane.flight.is_unused() && !lane.was_started();
        let ends = !self.takes_input() && !self.window.has_unsent() || self.window.is_refusing();
        if !is_wanted && ends {
            self.lanes.close_unstarted(cx, waited);
        }
        for lane in self.lanes.iter_mut() {
            let stays = is_wanted && lane.flight.is_unused() || !ends && waits(lane);
            if over && !stays || lane.flight.is_full() {
                lane.close(waited);
            }
        }
    }

    /// When the transport should have started a call that it has not.
    pub(super) fn late_at(&self) -> Option<Waited> {
        let look_up = self.look_up.as_ref().filter(|_| !self.lanes.is_empty());
        let look_up = look_up.and_then(|look_up| look_up.lane.late_at());
        look_up.into_iter().chain(self.lanes.late_at()).min()
    }

    /// The server may allow no more calls than are open: one that works makes room for one that looks
    /// up.
    pub(super) fn mark_delayed(&mut self, cx: &Context<'_>, waited: Waited) {
        self.lanes.mark_delayed(cx, waited);
        if let Some(LookUp { lane, .. }) = &mut self.look_up
            && lane.late_at().is_some_and(|at| at <= waited)
            && !lane.is_started(cx)
        {
            if lane.is_on_its_way() {
                // No call that runs keeps it.
                lane.note_on_its_way(waited);
                return;
            }
            lane.mark_delayed();
            let route = lane.route;
            self.make_room(Some(route));
        }
    }
}
