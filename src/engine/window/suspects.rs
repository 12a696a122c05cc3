//! Items at which the server failed without saying whose fault that is.
//!
//! Such a failure says one of two things: this record cannot be judged, or what judges records is
//! away. Only other items tell the two apart. So a failure counts against its item only if another
//! item has succeeded since the item failed before: in an outage none does, and no item is failed
//! for it. An item that has failed is sent behind the others, and nothing is sent behind one that has
//! failed twice.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long the tries of an item last at least, where nothing else succeeds and so nothing tells a bad
/// record from an outage.
const PATIENCE: Duration = Duration::from_secs(120);

/// The last failure of an item that has counted against it, or would have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// How many items had succeeded when it failed last.
    successes: u64,
    /// When a failure of it last counted.
    counted: Instant,
}

/// What is known of the server when it fails at an item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) now: Instant,
    /// How many items had succeeded, of all, when this node last had a success.
    pub(crate) proved: u64,
    /// How many times in a row it has failed at an item before, with no success between.
    pub(crate) failures: u32,
}

#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// How many items have succeeded in all. Each shows that the server does its work.
    successes: u64,
    /// Those that wait for their next try, in the order in which they failed.
    queue: VecDeque<Suspect>,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    index: u64,
    /// How many items had succeeded when it failed.
    successes: u64,
    /// How many requests are sent before it has waited for long enough.
    due: u64,
}

impl Suspects {
    /// An item has succeeded.
    pub(super) fn success(&mut self) {
        self.successes += 1;
    }

    pub(super) fn successes(&self) -> u64 {
        self.successes
    }

    /// The server has failed at an item that may fail `most` times, and last did as in `last`.
    /// Returns what to note of it, and whether this failure counts against the item.
    pub(super) fn failed(
        &self,
        last: Option<Failure>,
        most: u32,
        evidence: Evidence,
    ) -> (Failure, bool) {
        let Evidence { now, proved, .. } = evidence;
        let spread = PATIENCE / most.saturating_sub(1).max(1);
        let counts = last.is_none_or(|last| {
            proved > last.successes || now.duration_since(last.counted) >= spread
        });
        let counted = last.filter(|_| !counts).map_or(now, |last| last.counted);
        let failure = Failure {
            successes: self.successes,
            counted,
        };
        (failure, counts)
    }

    /// An item that has failed is to be sent again, at the latest when `due` requests have been sent.
    pub(super) fn push(&mut self, index: u64, failure: Failure, due: u64) {
        let successes = failure.successes;
        self.queue.push_back(Suspect {
            index,
            successes,
            due,
        });
    }

    pub(super) fn remove(&mut self, index: u64) {
        self.queue.retain(|suspect| suspect.index != index);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The first in line.
    pub(super) fn first(&self) -> Option<u64> {
        self.queue.front().map(|suspect| suspect.index)
    }

    /// The first, if another item has succeeded since it failed: so its next try tells whose fault it
    /// is. While there are `others` to send it lets them go first, but not for ever.
    pub(super) fn first_ready(&self, others: bool, sent: u64) -> Option<u64> {
        let first = self.queue.front()?;
        let is_ready = first.successes < self.successes && (!others || first.due <= sent);
        is_ready.then_some(first.index)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn after(seconds: u64, proved: u64) -> Evidence {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        Evidence {
            now: *START + Duration::from_secs(seconds),
            proved,
            failures: 0,
        }
    }

    #[test]
    fn a_failure_counts_once_for_each_success_of_another() {
        let mut suspects = Suspects::default();
        let (first, counts) = suspects.failed(None, 5, after(0, 0));
        assert!(counts, "the first failure is a try");
        let (again, counts) = suspects.failed(Some(first), 5, after(1, 0));
        assert!(!counts, "nothing has shown that the server does its work");
        suspects.success();
        let (after_success, counts) = suspects.failed(Some(again), 5, after(2, 1));
        assert!(counts);
        let (_, counts) = suspects.failed(Some(after_success), 5, after(3, 1));
        assert!(!counts, "the same success proves nothing twice");
    }

    #[test]
    fn a_success_on_another_node_does_not_count() {
        let mut suspects = Suspects::default();
        suspects.success();
        let (first, _) = suspects.failed(None, 5, after(0, 1));
        suspects.success();
        let (_, counts) = suspects.failed(Some(first), 5, after(0, 1));
        assert!(!counts);
    }

    #[test]
    fn where_nothing_succeeds_the_tries_take_two_minutes() {
        for most in [2, 3, 5, 10] {
            let suspects = Suspects::default();
            let (mut last, mut tries, mut seconds) = (None, 0, 0);
            while tries < most {
                let (failure, counts) = suspects.failed(last, most, after(seconds, 0));
                last = Some(failure);
                tries += u32::from(counts);
                seconds += 1;
            }
            assert!((120..=140).contains(&seconds), "{most} tries: {seconds} s");
        }
    }

    #[test]
    fn the_others_go_first_but_not_for_ever() {
        let mut suspects = Suspects::default();
        let (failure, _) = suspects.failed(None, 5, after(0, 0));
        suspects.push(7, failure, 100);
        assert_eq!(suspects.first_ready(false, 0), None, "nothing is proved");
        suspects.success();
        assert_eq!(suspects.first_ready(true, 99), None);
        assert_eq!(suspects.first_ready(true, 100), Some(7));
        assert_eq!(suspects.first_ready(false, 0), Some(7));
        suspects.remove(7);
        assert!(suspects.is_empty());
    }
}
