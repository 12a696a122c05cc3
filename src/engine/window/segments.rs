//! How many items a call carries that is acknowledged as a whole: one of them that is refused, or a
//! call that takes too long, is found by halving.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Segments {
    /// How many items a call may carry.
    limit: usize,
    /// More than that took too long.
    longest: usize,
    /// Calls that were refused, and how many of their items it may still be: all of them are sent
    /// again, but only so many at once.
    refused: BTreeMap<u64, usize>,
}

impl Segments {
    pub(super) fn new() -> Self {
        Self {
            limit: usize::MAX,
            longest: usize::MAX,
            refused: BTreeMap::new(),
        }
    }

    /// How many items a call may carry whose first was in this refused call: half of those that it may
    /// be.
    pub(super) fn size(&self, refused_in: Option<u64>) -> usize {
        let suspects = refused_in.and_then(|call| self.refused.get(&call));
        let half = suspects.map_or(usize::MAX, |suspects| (suspects / 2).max(1));
        self.limit.min(self.longest).min(half)
    }

    /// A call was refused with so many items in it.
    pub(super) fn refused(&mut self, call: u64, items: usize) {
        self.refused.insert(call, items);
    }

    /// Whether one of those in this call is still to be found.
    pub(super) fn is_open(&self, call: u64) -> bool {
        self.refused.contains_key(&call)
    }

    /// The one that was refused in this call has been found, or is among fewer.
    pub(super) fn narrowed(&mut self, call: u64) {
        self.refused.remove(&call);
    }

    /// It is none of the items of this call that has its result now.
    pub(super) fn cleared(&mut self, call: u64) {
        if let Some(suspects) = self.refused.get_mut(&call) {
            *suspects -= 1;
            if *suspects == 0 {
                self.refused.remove(&call);
            }
        }
    }

    /// The one that was refused stands alone. Where one is refused the next may be, as when the
    /// server's storage is down: segments grow again with each that succeeds.
    pub(super) fn found(&mut self) {
        self.limit = 1;
    }

    /// A call has succeeded that held none of a refused one.
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
        segments.refused(1, 100);
        assert_eq!(segments.size(Some(1)), 50);
        assert_eq!(segments.size(None), usize::MAX);
        for _ in 0..98 {
            segments.cleared(1);
        }
        assert_eq!(segments.size(Some(1)), 1);
        segments.narrowed(1);
        segments.found();
        assert_eq!(segments.size(Some(1)), 1);
        segments.succeeded();
        segments.succeeded();
        assert_eq!(segments.size(None), 4);
    }

    #[test]
    fn a_call_that_took_too_long_is_halved_and_stays_so() {
        let mut segments = Segments::new();
        segments.stalled(1024);
        for _ in 0..9 {
            segments.succeeded();
        }
        assert_eq!(segments.size(None), 512);
        segments.stalled(1);
        assert_eq!(segments.size(None), 1);
    }
}
