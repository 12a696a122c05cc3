//! Items at which the server failed without saying whose fault that is.
//!
//! Such a failure means one of two things: the server cannot judge this record, or what judges records is
//! away. Only other items show which it is. So a failure counts against its item only if another item, of any
//! adapter of the client, was sent after the item's last failure and has succeeded. In an outage none succeeds,
//! so no item gets its error for that.
//!
//! An item that has failed is sent behind the others, and nothing is sent behind an item that has failed twice.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::tick::Tick;

/// How long the server has to fail at an item before the item gets its error, where nothing succeeds that would
/// show whether it is an outage.
const PATIENCE: Duration = Duration::from_secs(120);

/// The last failure of an item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// When it failed.
    at: Tick,
    /// When it first failed after the latest success of another item.
    first: Instant,
}

/// What a failure says of its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Nothing: it may be an outage.
    Open,
    /// It counts as one of the item's attempts.
    Try,
    /// It has gone on for too long, so it was the last attempt.
    Last,
}

/// What is known of the server when it fails at an item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) now: Instant,
    /// Whether there is a canary, so that the item need not be given up for time.
    pub(crate) tells: bool,
    /// When the latest item was sent that has succeeded there.
    pub(crate) proved: Tick,
    /// The same of one that was not there already.
    pub(crate) wrote: Tick,
    /// How many times in a row it has failed at an item before, with no such success between.
    pub(crate) failures: u32,
}

impl Evidence {
    /// What is known where the server cannot write. That it does its work at what it has, such as the canary, says
    /// nothing of that.
    pub(super) fn of_writes(self) -> Self {
        Self {
            // As in any outage, no item gets its error for the time that it takes.
            tells: true,
            proved: self.wrote,
            ..self
        }
    }
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
    /// It is sent at the latest when the window has sent so many requests.
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

    /// The server has failed at an item that last failed as in `last`.
    pub(super) fn failed(last: Option<Failure>, evidence: Evidence) -> (Failure, Blame) {
        let Evidence {
            now, tells, proved, ..
        } = evidence;
        let unproved = last.filter(|last| proved < last.at);
        let first = unproved.map_or(now, |last| last.first);
        let blame = match unproved {
            None => Blame::Try,
            Some(_) if !tells && now.duration_since(first) >= PATIENCE => Blame::Last,
            Some(_) => Blame::Open,
        };
        let at = Tick::of_failure();
        (Failure { at, first }, blame)
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

    /// The first, if another item has succeeded that was sent since it failed: then its next attempt shows whose fault
    /// it is. While there are `others` to send it waits behind them, until `due`.
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
            tells: false,
            proved,
            wrote: Tick::NEVER,
            failures: 0,
        }
    }

    /// As long as nothing has succeeded.
    const NOTHING: Tick = Tick::NEVER;

    #[test]
    fn a_failure_counts_once_for_each_success_of_another() {
        let (first, blame) = Suspects::failed(None, after(0, NOTHING));
        assert_eq!(blame, Blame::Try, "the first failure is a try");
        let sent_between = Tick::now();
        let (again, blame) = Suspects::failed(Some(first), after(1, NOTHING));
        assert_eq!(blame, Blame::Open, "nothing shows that the server works");
        let sent_since = Tick::now();
        let (_, blame) = Suspects::failed(Some(again), after(2, sent_between));
        assert_eq!(blame, Blame::Open, "that was sent before the failure");
        let (last, blame) = Suspects::failed(Some(again), after(2, sent_since));
        assert_eq!(blame, Blame::Try);
        let (_, blame) = Suspects::failed(Some(last), after(3, sent_since));
        assert_eq!(blame, Blame::Open, "the same success proves nothing twice");
    }

    #[test]
    fn where_nothing_succeeds_an_item_is_given_up_after_two_minutes() {
        let (mut last, _) = Suspects::failed(None, after(0, NOTHING));
        for seconds in [1, 60, 119] {
            let (failure, blame) = Suspects::failed(Some(last), after(seconds, NOTHING));
            assert_eq!(blame, Blame::Open, "{seconds}");
            last = failure;
        }
        let tells = Evidence {
            tells: true,
            ..after(1_000, NOTHING)
        };
        let (_, blame) = Suspects::failed(Some(last), tells);
        assert_eq!(blame, Blame::Open, "something else tells");
        let (_, blame) = Suspects::failed(Some(last), after(120, NOTHING));
        assert_eq!(blame, Blame::Last);
        // A success of another starts the time anew.
        let (last, blame) = Suspects::failed(Some(last), after(120, Tick::now()));
        assert_eq!(blame, Blame::Try);
        let (_, blame) = Suspects::failed(Some(last), after(200, NOTHING));
        assert_eq!(blame, Blame::Open);
    }

    #[test]
    fn the_others_go_first_but_not_for_ever() {
        let mut suspects = Suspects::default();
        let (failure, _) = Suspects::failed(None, after(0, NOTHING));
        suspects.push(7, failure, 100);
        assert_eq!(suspects.first_ready(false, 0), None, "nothing is proved");
        suspects.success(Tick::now());
        assert_eq!(suspects.first_ready(true, 99), None);
        assert_eq!(suspects.first_ready(true, 100), Some(7));
        assert_eq!(suspects.first_ready(false, 0), Some(7));
        suspects.remove(7);
        assert!(suspects.is_empty());
    }

    #[test]
    fn where_the_server_cannot_write_only_what_was_written_counts() {
        let (first, _) = Suspects::failed(None, after(0, NOTHING).of_writes());
        let judged = |evidence: Evidence| Suspects::failed(Some(first), evidence.of_writes()).1;
        // What is stored already succeeds all the same.
        assert_eq!(judged(after(1_000, Tick::now())), Blame::Open);
        let written = Evidence {
            wrote: Tick::now(),
            ..after(1, NOTHING)
        };
        assert_eq!(judged(written), Blame::Try);
    }
}
