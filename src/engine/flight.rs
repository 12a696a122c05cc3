//! What one call carries: the items that were given to it and have no answer yet, in the order in
//! which they left.

use std::collections::VecDeque;

/// Made by [`Window::launch`](super::window::Window::launch), filled by the window, and given back
/// to it when the call has ended.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Which call of the window this is.
    pub(super) number: u64,
    /// How many items it may carry in all.
    pub(super) limit: usize,
    /// A probe takes the item that has failed least often, and not the first.
    pub(super) is_probe: bool,
    /// The indexes of those without an answer.
    pub(super) items: VecDeque<u64>,
    pub(super) sent: usize,
    pub(super) answered: usize,
}

impl Flight {
    pub(super) fn new(number: u64, limit: usize, is_probe: bool) -> Self {
        Self {
            number,
            limit,
            is_probe,
            items: VecDeque::new(),
            sent: 0,
            answered: 0,
        }
    }

    pub(super) fn carry(&mut self, index: u64) {
        self.items.push_back(index);
        self.sent += 1;
    }

    /// Whom the next answer belongs to.
    pub(super) fn land(&mut self) -> Option<u64> {
        let index = self.items.pop_front()?;
        self.answered += 1;
        Some(index)
    }

    /// Whether it can carry no more.
    pub(crate) fn is_full(&self) -> bool {
        self.sent >= self.limit
    }

    /// Whether an answer is awaited.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.items.is_empty()
    }

    /// Whether it has carried one item in all.
    pub(super) fn is_single(&self) -> bool {
        self.sent == 1
    }

    /// What has no answer, in order, with whether the transport took it: of this call's requests,
    /// it took the first `taken`.
    pub(super) fn unanswered(&self, taken: usize) -> impl Iterator<Item = (u64, bool)> + use<> {
        let taken = taken.saturating_sub(self.answered);
        let items: Vec<u64> = self.items.iter().copied().collect();
        items
            .into_iter()
            .enumerate()
            .map(move |(place, index)| (index, place < taken))
    }
}
