//! How many items a call carries that is acknowledged as a whole: an item that is refused is found by
//! halving, and so is the number of items that the server can take in time.

use std::collections::BTreeMap;

/// A call that was refused as a whole says that one of its items is at fault, and not which. Its items are its
/// *candidates*: they are sent again in halves, until the one stands alone.
#[derive(Debug)]
pub(super) struct Segments {
    /// How many items a call may carry. It doubles with each call that succeeds and carried no candidate.
    limit: usize,
    /// More items than that took too long.
    longest: usize,
    /// Refused calls whose item was not found yet, and how many candidates each still has.
    refused: BTreeMap<u64, usize>,
    /// The items of refused calls that have no result yet, and the call in which each was refused last.
    candidates: BTreeMap<u64, u64>,
}

impl Segments {
    pub(super) fn new() -> Self {
        Self {
            limit: usize::MAX,
            longest: usize::MAX,
            refused: BTreeMap::new(),
            candidates: BTreeMap::new(),
        }
    }

    /// How many items a call may carry whose first is `item`: half of the candidates, if it is one.
    pub(super) fn size(&self, item: u64) -> usize {
        let call = self.candidates.get(&item);
        let candidates = call.and_then(|call| self.refused.get(call));
        let half = candidates.map_or(usize::MAX, |candidates| (candidates / 2).max(1));
        self.limit.min(self.longest).min(half)
    }

    /// Whether `item` may be the one that a refused call was refused for.
    pub(super) fn is_candidate(&self, item: u64) -> bool {
        let call = self.candidates.get(&item);
        call.is_some_and(|call| self.refused.contains_key(call))
    }

    /// `call` was refused as a whole, and carried `items`. Where these are candidates of an earlier call, its
    /// item is among them.
    pub(super) fn refused(&mut self, call: u64, items: impl Iterator<Item = u64>) {
        let mut count = 0;
        for item in items {
            count += 1;
            if let Some(earlier) = self.candidates.insert(item, call) {
                self.refused.remove(&earlier);
            }
        }
        if count > 0 {
            self.refused.insert(call, count);
        }
    }

    /// A call was refused that carried `item` alone: it is the one. Where one is refused the next may be, as
    /// when the server's storage is down, so the next calls carry one item, too.
    pub(super) fn found(&mut self, item: Option<u64>) {
        if let Some(call) = item.and_then(|item| self.candidates.get(&item)) {
            self.refused.remove(call);
        }
        self.limit = 1;
    }

    /// `item` has its result.
    pub(super) fn settled(&mut self, item: u64) {
        if let Some(call) = self.candidates.remove(&item)
            && let Some(candidates) = self.refused.get_mut(&call)
        {
            *candidates -= 1;
            if *candidates == 0 {
                self.refused.remove(&call);
            }
        }
    }

    /// A call has succeeded that carried no candidate.
    pub(super) fn succeeded(&mut self) {
        self.limit = self.limit.saturating_mul(2);
    }

    /// A call with so many items took too long: no later one has as many.
    pub(super) fn stalled(&mut self, items: usize) {
        self.longest = (items / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_call_is_halved_until_one_is_found() {
        let mut segments = Segments::new();
        segments.refused(1, 0..100);
        assert_eq!(segments.size(99), 50);
        assert_eq!(segments.size(100), usize::MAX);
        for item in 0..98 {
            segments.settled(item);
        }
        assert!(segments.is_candidate(98));
        assert_eq!(segments.size(98), 1);
        segments.found(Some(98));
        assert!(!segments.is_candidate(99), "the one was found");
        assert_eq!(segments.size(99), 1);
        segments.succeeded();
        segments.succeeded();
        assert_eq!(segments.size(100), 4);
    }

    #[test]
    fn a_half_that_is_refused_clears_the_other() {
        let mut segments = Segments::new();
        segments.refused(1, 0..8);
        segments.refused(2, 0..4);
        assert_eq!(segments.size(0), 2);
        assert!(!segments.is_candidate(4));
        assert_eq!(segments.size(4), usize::MAX);
        segments.refused(3, 2..4);
        assert!(!segments.is_candidate(0) && segments.is_candidate(2));
    }

    #[test]
    fn a_call_that_carried_nothing_has_no_candidates() {
        let mut segments = Segments::new();
        segments.refused(1, 0..0);
        assert_eq!(segments.size(0), usize::MAX);
        segments.found(None);
        assert_eq!(segments.size(0), 1);
    }

    #[test]
    fn a_call_that_took_too_long_is_halved_and_stays_so() {
        let mut segments = Segments::new();
        segments.stalled(1024);
        for _ in 0..9 {
            segments.succeeded();
        }
        assert_eq!(segments.size(0), 512);
        segments.stalled(1);
        assert_eq!(segments.size(0), 1);
    }
}
