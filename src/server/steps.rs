//! How much is compared at once, at most: who compares holds a lock that all others wait for.

use std::cell::Cell;

/// So many steps, each about as long as it takes to compare two letters. `None`: more were wanted.
pub(super) struct Steps(Cell<Option<usize>>);

impl Steps {
    pub(super) fn new(steps: usize) -> Self {
        Self(Cell::new(Some(steps)))
    }

    /// Takes so many. `false`: there are not as many left, and from now on there are none.
    pub(super) fn take(&self, steps: usize) -> bool {
        let left = self.0.get().and_then(|left| left.checked_sub(steps));
        self.0.set(left);
        left.is_some()
    }

    pub(super) fn are_spent(&self) -> bool {
        self.0.get().is_none()
    }
}
