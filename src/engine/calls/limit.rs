//! How many calls of an adapter the server lets run side by side.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::nodes::shortest_wait;

/// An adapter begins with as many calls as are wanted. When the server refuses one, no more are opened than run, for
/// a while. Then one more is tried, and so on while none is refused.
#[derive(Debug)]
pub(super) struct Limit {
    wanted: usize,
    /// How many may be open now.
    allowed: usize,
    /// How many had answers at the same time: so many the server has let run.
    proven: usize,
    /// How many were refused in a row.
    refusals: u32,
    /// When one more is tried.
    more_at: Option<Instant>,
}

impl Limit {
    pub(super) fn new(wanted: usize) -> Self {
        Self {
            wanted,
            allowed: wanted,
            proven: 0,
            refusals: 0,
            more_at: None,
        }
    }

    /// How many calls may be open.
    pub(super) fn calls(&self) -> usize {
        self.allowed
    }

    /// Whether one is wanted, and no more.
    pub(super) fn is_one(&self) -> bool {
        self.wanted == 1
    }

    /// Whether another call may be opened beside so many.
    pub(super) fn has_room(&mut self, open: usize, now: Instant) -> bool {
        if self.more_at.is_some_and(|at| at <= now) {
            self.more_at = None;
            self.allowed = (self.allowed + 1).min(self.wanted);
        }
        open < self.allowed
    }

    /// When one more is tried, if fewer are allowed than wanted.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        self.more_at
    }

    /// A call has its first answer, and so many have had one by now.
    pub(super) fn first_answer(&mut self, answered: usize, now: impl FnOnce() -> Instant) {
        self.proven = self.proven.max(answered);
        if self.allowed < self.wanted && self.more_at.is_none() {
            // The last one that was tried is not refused.
            self.refusals = 0;
            self.more_at = Some(now());
        }
    }

    /// Whether the server may refuse a call beside so many others: more than that were never seen to run.
    pub(super) fn may_refuse_beside(&self, others: usize) -> bool {
        others >= self.proven
    }

    /// The server has refused a call beside so many others. `wait` is how long to wait after so many
    /// refusals in a row.
    pub(super) fn refused_beside(
        &mut self,
        others: usize,
        now: Instant,
        wait: impl Fn(u32) -> Duration,
    ) {
        self.allowed = others;
        self.refusals = self.refusals.saturating_add(1);
        let wait = wait(self.refusals).max(shortest_wait(self.refusals));
        self.more_at = now.checked_add(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_refused_is_tried_again_one_by_one() {
        let now = Instant::now();
        let mut limit = Limit::new(4);
        assert!(limit.has_room(3, now) && !limit.has_room(4, now));
        limit.refused_beside(1, now, |refusals| refusals * SECOND);
        assert_eq!((limit.calls(), limit.opens_at()), (1, Some(now + SECOND)));
        assert!(!limit.has_room(1, now));
        let later = now + SECOND;
        assert!(limit.has_room(1, later) && !limit.has_room(2, later));
        // It was not refused, so that the next is tried at once.
        limit.first_answer(2, || later);
        assert!(limit.has_room(2, later) && limit.calls() == 3);
    }

    #[test]
    fn waits_grow_with_refusals_in_a_row_and_never_are_nothing() {
        let now = Instant::now();
        let mut limit = Limit::new(4);
        for refusals in 1..4 {
            limit.refused_beside(1, now, |refusals| refusals * SECOND);
            assert_eq!(limit.opens_at(), Some(now + refusals * SECOND));
        }
        limit.refused_beside(1, now, |_| Duration::ZERO);
        assert!(limit.opens_at() > Some(now));
        limit.refused_beside(1, now, |_| Duration::MAX);
        assert_eq!(limit.opens_at(), None, "a time that never comes");
    }

    #[test]
    fn a_server_that_has_let_so_many_run_does_not_refuse_fewer() {
        let mut limit = Limit::new(4);
        assert!(limit.may_refuse_beside(1));
        limit.first_answer(3, Instant::now);
        assert!(!limit.may_refuse_beside(2) && limit.may_refuse_beside(3));
    }
}
