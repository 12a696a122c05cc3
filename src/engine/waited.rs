//! The time that an adapter has waited.

use std::time::Duration;

/// How long an adapter has waited in all, for the server or its input, as [`Clock`](super::clock::Clock) counts it. Time in
/// which the consumer works on a result is not in it, so limits are compared with this, and not with the
/// time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Waited(Duration);

impl Waited {
    pub(crate) fn add(&mut self, more: Duration) {
        self.0 += more;
    }

    /// When it will have waited for so much longer; `None`: never.
    pub(crate) fn checked_add(self, more: Duration) -> Option<Self> {
        self.0.checked_add(more).map(Self)
    }

    /// How long it has waited since.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    #[cfg(test)]
    pub(crate) fn of(time: Duration) -> Self {
        Self(time)
    }
}
