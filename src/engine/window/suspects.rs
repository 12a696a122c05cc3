//! Items at which the server failed without saying whose fault that is.
//!
//! Such a failure says one of two things: this record cannot be judged, or what judges records is
//! away. Only other items tell the two apart. So a failure counts against its item only if another
//! item, of any adapter of the client, was sent since the item failed before, and has succeeded: in an
//! outage none does, and no item is failed for it. An item that has failed is sent behind the others, and nothing is sent behind one that has
//! failed twice.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::proof::Tick;

/// How long the tries of an item last at least, where nothing else succeeds and so nothing tells a bad
/// record from an outage.
const PATIENCE: Duration = Duration::from_secs(120);

/// The last failure of an item that has counted against it, or would have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// When it failed last.
    at: Tick,
    /// When a failure of it last counted.
    counted: Instant,
}

/// What is known of the server when it fails at an item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) now: Instant,
    /// When the latest item was sent that has succeeded there.
    pub(crate) proved: Tick,
    /// How many times in a row it has failed at an item before, with no such success between.
    pub(crate) failures: u32,
}

#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// When the latest item was sent that has succeeded on any node.
    proved: Tick,
    /// Those that wait for their next try, in the order in which they failed.
    queue: VecDeque<Suspect>,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    index: u64,
    /// When it failed.
    at: Tick,
    /// How many requests are sent before it has waited for long enough.
    due: u64,
}

impl Suspects {
    /// An item has succeeded that was sent at `tick`.
    pub(super) fn success(&mut self, tick: Tick) {
        self.proved = self.proved.max(tick);
    }

    #[cfg(test)]
    pub(super) fn proved(&self) -> Tick {
        self.proved
    }

    /// The server has failed at an item that may fail `most` times, and last did as in `last`.
    /// Returns what to note of it, and whether this failure counts against the item.
    pub(super) fn failed(last: Option<Failure>, most: u32, evidence: Evidence) -> (Failure, bool) {
        let Evidence { now, proved, .. } = evidence;
        let spread = PATIENCE / most.saturating_sub(1).max(1);
        let counts =
            last.is_none_or(|last| proved >= last.at || now.duration_since(last.counted) >= spread);
        let counted = last.filter(|_| !counts).map_or(now, |last| last.counted);
        let at = Tick::of_failure();
        (Failure { at, counted }, counts)
    }

    /// An item that has failed is to be sent again, at the latest when `due` requests have been sent.
    pub(super) fn push(&mut self, index: u64, failure: Failure, due: u64) {
        let at = failure.at;
        self.queue.push_back(Suspect { index, at, due });
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

    /// The first, if another item was sent since it failed, and has succeeded: so its next try tells whose fault it
    /// is. While there are `others` to send it lets them go first, but not for ever.
    pub(super) fn first_ready(&self, others: bool, sent: u64) -> Option<u64> {
        let first = self.queue.front()?;
        let is_ready = first.at <= self.proved && (!others || first.due <= sent);
        is_ready.then_some(first.index)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn after(seconds: u64, proved: Tick) -> Evidence {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        Evidence {
            now: *START + Duration::from_secs(seconds),
            proved,
            failures: 0,
        }
    }

    /// As long as nothing has succeeded.
    const NOTHING: Tick = Tick::NEVER;

    #[test]
    fn a_failure_counts_once_for_each_success_of_another() {
        let (first, counts) = Suspects::failed(None, 5, after(0, NOTHING));
        assert!(counts, "the first failure is a try");
        let sent_between = Tick::now();
        let (again, counts) = Suspects::failed(Some(first), 5, after(1, NOTHING));
        assert!(!counts, "nothing has shown that the server does its work");
        let sent_since = Tick::now();
        let (_, counts) = Suspects::failed(Some(again), 5, after(2, sent_between));
        assert!(
            !counts,
            "what was sent before the failure says nothing of it"
        );
        let (last, counts) = Suspects::failed(Some(again), 5, after(2, sent_since));
        assert!(counts);
        let (_, counts) = Suspects::failed(Some(last), 5, after(3, sent_since));
        assert!(!counts, "the same success proves nothing twice");
    }

    #[test]
    fn where_nothing_succeeds_the_tries_take_two_minutes() {
        for most in [2, 3, 5, 10] {
            let (mut last, mut tries, mut seconds) = (None, 0, 0);
            while tries < most {
                let (failure, counts) = Suspects::failed(last, most, after(seconds, NOTHING));
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
        let (failure, _) = Suspects::failed(None, 5, after(0, NOTHING));
        suspects.push(7, failure, 100);
        assert_eq!(suspects.first_ready(false, 0), None, "nothing is proved");
        suspects.success(Tick::now());
        assert_eq!(suspects.first_ready(true, 99), None);
        assert_eq!(suspects.first_ready(true, 100), Some(7));
        assert_eq!(suspects.first_ready(false, 0), Some(7));
        suspects.remove(7);
        assert!(suspects.is_empty());
    }
}
