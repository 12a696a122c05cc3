//! The lanes side by side: how many there may be, whose turn it is, and which one carries the next
//! item.

use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message;
use tokio::time::Instant;

use super::call::Event;
use super::lane::Lane;
use super::nodes::{Load, Route};

pub(super) struct Lanes<R, A> {
    lanes: Vec<Lane<R, A>>,
    /// How many are wanted.
    most: usize,
    /// How many the server lets run, as far as is known: it refuses more.
    allowed: usize,
    /// How many were refused in a row, and when one more is tried.
    refusals: u32,
    more_at: Option<Instant>,
    /// Whose turn it is to be polled.
    turn: usize,
    /// How many answers have come, of all lanes.
    answers: u64,
    /// Whether there is one that the transport has not opened.
    is_opening: bool,
}

/// The lane that has the least to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Least {
    pub(super) place: usize,
    pub(super) load: usize,
    /// What the next after it has to do.
    pub(super) next_load: usize,
}

impl<R, A> Lanes<R, A>
where
    R: Message + 'static,
    A: Message + Default + 'static,
{
    pub(super) fn new(most: usize) -> Self {
        Self {
            lanes: Vec::new(),
            most,
            allowed: most,
            refusals: 0,
            more_at: None,
            turn: 0,
            answers: 0,
            is_opening: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane<R, A>> {
        self.lanes.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane<R, A>> {
        self.lanes.iter_mut()
    }

    pub(super) fn get(&mut self, place: usize) -> &mut Lane<R, A> {
        &mut self.lanes[place]
    }

    pub(super) fn add(&mut self, lane: Lane<R, A>) {
        self.lanes.push(lane);
        self.is_opening = true;
    }

    pub(super) fn remove(&mut self, place: usize) -> Lane<R, A> {
        // The order of lanes means nothing.
        self.lanes.swap_remove(place)
    }

    pub(super) fn remove_if(
        &mut self,
        mut is_meant: impl FnMut(&Lane<R, A>) -> bool,
    ) -> Option<Lane<R, A>> {
        let place = self.lanes.iter().position(&mut is_meant)?;
        Some(self.remove(place))
    }

    pub(super) fn clear(&mut self) {
        self.lanes.clear();
    }

    /// Those that have carried nothing, and that the transport has not opened, are of no use when
    /// another call is wanted more, or none. Nobody will know of them.
    pub(super) fn clear_unopened(&mut self, cx: &Context<'_>) {
        self.lanes
            .retain_mut(|lane| !lane.flight.is_unused() || lane.is_asked(cx));
    }

    /// Whether another may be opened, as far as their number goes. If not, `opens` is told when one
    /// might.
    pub(super) fn has_room(&mut self, now: Instant, opens: impl FnOnce(Option<Instant>)) -> bool {
        if self.more_at.is_some_and(|at| at <= now) {
            self.more_at = None;
            self.allowed = (self.allowed + 1).min(self.most);
        }
        let has_room = self.lanes.len() < self.most.min(self.allowed);
        if !has_room {
            opens(self.more_at);
        }
        has_room
    }

    /// How many calls a connection carries. One beyond what the server allows waits in the transport
    /// until another has ended, so there is at most one that the transport has not opened.
    pub(super) fn load(&self, route: Route) -> Load {
        let opens = |lane: &Lane<R, A>| !lane.was_asked() && !lane.is_finished();
        let is_opening = self
            .lanes
            .iter()
            .any(|lane| lane.route == route && opens(lane));
        (!is_opening).then(|| self.on(route))
    }

    pub(super) fn on(&self, route: Route) -> usize {
        let on_it = self.lanes.iter().filter(|lane| lane.route == route);
        on_it.count()
    }

    pub(super) fn on_node(&self, node: usize) -> usize {
        let on_it = self.lanes.iter().filter(|lane| lane.route.node == node);
        on_it.count()
    }

    /// Notices which lanes the transport has opened. Whether there is a new one: then what it has not
    /// taken of the others goes to those.
    pub(super) fn poll_asked(&mut self, cx: &Context<'_>) -> bool {
        if self.most == 1 || !self.is_opening {
            return false;
        }
        let unasked = self.lanes.iter_mut().filter(|lane| !lane.was_asked());
        let any_new = unasked.fold(false, |any, lane| lane.is_asked(cx) || any);
        self.is_opening = self.lanes.iter().any(|lane| !lane.was_asked());
        any_new
    }

    /// The lane to carry the next item; with `unused`, one that has carried nothing. Those that the
    /// transport has not opened carry nothing while there are others, for they may have to wait.
    pub(super) fn least(&self, unused: bool) -> Option<Least> {
        let any_asked = self.lanes.iter().any(Lane::was_asked);
        let mut least: Option<Least> = None;
        for (place, lane) in self.lanes.iter().enumerate() {
            if lane.is_finished()
                || lane.flight.is_full()
                || any_asked && !lane.was_asked()
                || unused && !lane.flight.is_unused()
            {
                continue;
            }
            let load = lane.flight.load();
            match &mut least {
                Some(least) if least.load <= load => least.next_load = least.next_load.min(load),
                _ => {
                    least = Some(Least {
                        place,
                        load,
                        next_load: least.map_or(usize::MAX, |least| least.load),
                    });
                }
            }
        }
        least
    }

    /// How many of `window` items one lane may have unanswered: its share, so that those that are
    /// opened first, or are slow, do not take it all.
    pub(super) fn share(&self, window: usize) -> usize {
        let is_held_up = |lane: &Lane<R, A>| lane.is_held_up && !lane.was_asked();
        let lanes = if self.is_opening && self.lanes.iter().any(is_held_up) {
            let asked = self.lanes.iter().filter(|lane| lane.was_asked());
            asked.count().max(1)
        } else {
            self.most.min(self.allowed)
        };
        window.div_ceil(lanes)
    }

    /// The next event of any of them, in turn.
    pub(super) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        waited: Duration,
    ) -> Poll<(usize, Event<A>)> {
        for _ in 0..self.lanes.len() {
            if self.turn >= self.lanes.len() {
                self.turn = 0;
            }
            if let Poll::Ready(event) = self.lanes[self.turn].poll_event(cx, waited) {
                // It may have more.
                return Poll::Ready((self.turn, event));
            }
            self.turn += 1;
        }
        Poll::Pending
    }

    /// A lane has an answer.
    pub(super) fn answered(&mut self, place: usize, now: impl FnOnce() -> Instant) {
        self.answers += 1;
        if self.most == 1 {
            return;
        }
        let (route, answered) = (self.lanes[place].route, self.lanes[place].flight.answered());
        if self.is_opening {
            let others = self.lanes.iter_mut().filter(|lane| lane.route == route);
            for lane in others {
                lane.is_held_up = true;
            }
        }
        if answered == 1 && self.allowed < self.most && self.more_at.is_none() {
            // The last one that was tried is not refused.
            self.refusals = 0;
            self.more_at = Some(now());
        }
    }

    /// This lane is gone, by a fault. Where others had answers since it was opened and it had none,
    /// the server may allow no more than them.
    pub(super) fn broke(&mut self, lane: &Lane<R, A>, now: Instant, wait: impl Fn(u32) -> Duration) {
        let others_run = self.answers > lane.answers_before;
        if lane.flight.answered() == 0 && others_run && !self.lanes.is_empty() {
            self.allowed = self.lanes.len();
            self.refusals += 1;
            self.more_at = now.checked_add(wait(self.refusals));
        }
    }
}
