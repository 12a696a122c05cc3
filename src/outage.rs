//! An outage, as the log is told of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::later::later;

/// How long nothing more is said, once something was.
pub(crate) const QUIET: Duration = Duration::from_secs(10);

/// After how long without a fault the next one is of another outage, or after twice the wait for the next try, if that is
/// longer. Who has met it may be gone, and not have seen its end.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// What was said of the outages of a node's method, or of a source of tokens. The adapters of a client share it, so that
/// not each of them says the same.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// Whether one is on. Changed under the lock of the state, and beside it for those who only ask.
    is_on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    on: Option<On>,
    /// When something was last said, of this outage or the one before.
    said: Option<Instant>,
}

#[derive(Debug)]
struct On {
    since: Instant,
    /// When it is forgotten, if there is no other fault.
    until: Instant,
    faults: u64,
    /// The last of them, in words. The first may say only that a call broke, and what is behind that comes in the time in
    /// which nothing more is said.
    last_fault: String,
    /// Whether anything was said of it.
    is_known: bool,
}

/// What there is to say of an outage that is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsOn {
    pub(crate) faults: u64,
    pub(crate) lasts: Duration,
}

/// What there is to say of one that is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IsOver {
    pub(crate) faults: u64,
    pub(crate) last_fault: String,
    pub(crate) lasted: Duration,
}

impl Outage {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a fault, and the next try is after this wait. Returns what is to be said, if it is time for that.
    pub(crate) fn fault(&self, now: Instant, wait: Duration, words: &str) -> Option<IsOn> {
        let mut state = self.state();
        let known = state.on.take().filter(|on| now < on.until);
        let is_quiet = state.said.is_some_and(|said| now < said + QUIET);
        let on = state.on.insert(known.unwrap_or(On {
            since: now,
            until: now,
            faults: 0,
            last_fault: String::new(),
            is_known: false,
        }));
        self.is_on.store(true, Ordering::Release);
        on.faults += 1;
        words.clone_into(&mut on.last_fault);
        on.until = later(now, FORGOTTEN.max(wait.saturating_mul(2)));
        if is_quiet {
            return None;
        }
        on.is_known = true;
        let is_on = IsOn {
            faults: on.faults,
            lasts: now.saturating_duration_since(on.since),
        };
        state.said = Some(now);
        Some(is_on)
    }

    /// It has answered. Returns what is to be said, if an outage is over of which something was said.
    pub(crate) fn answered(&self, now: impl FnOnce() -> Instant) -> Option<IsOver> {
        // This is asked for each answer.
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.state();
        let was_on = state.on.take();
        self.is_on.store(false, Ordering::Release);
        let was_on = was_on.filter(|on| on.is_known)?;
        Some(IsOver {
            faults: was_on.faults,
            last_fault: was_on.last_fault,
            lasted: now().saturating_duration_since(was_on.since),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_fault_is_said_at_once_and_then_one_in_ten_seconds() {
        let (outage, start) = (Outage::default(), Instant::now());
        let said = (0..25).filter_map(|second| {
            let words = format!("the fault of second {second}");
            let on = outage.fault(start + second * SECOND, SECOND, &words)?;
            Some((second, on.faults, on.lasts.as_secs()))
        });
        assert_eq!(
            said.collect::<Vec<_>>(),
            [(0, 1, 0), (10, 11, 10), (20, 21, 20)]
        );
        let over = outage.answered(|| start + 31 * SECOND).unwrap();
        assert_eq!((over.faults, over.lasted), (25, 31 * SECOND));
        assert_eq!(over.last_fault, "the fault of second 24");
        assert_eq!(outage.answered(|| unreachable!()), None);
        assert!(
            outage.fault(start + 32 * SECOND, SECOND, "").is_some(),
            "another one"
        );
    }

    /// As of a server that fails at some calls, and answers others.
    #[test]
    fn many_short_ones_are_not_said_more_often() {
        let (outage, start) = (Outage::default(), Instant::now());
        let mut said = (0, 0);
        for tenth in 0..300 {
            let now = start + tenth * SECOND / 10;
            said.0 += usize::from(outage.fault(now, SECOND, "").is_some());
            said.1 += usize::from(outage.answered(|| now).is_some());
        }
        assert_eq!(said, (3, 3));
    }

    #[test]
    fn one_whose_end_nobody_saw_is_over_by_itself() {
        let (outage, start) = (Outage::default(), Instant::now());
        outage.fault(start, SECOND, "").unwrap();
        let on = outage.fault(start + FORGOTTEN, SECOND, "").unwrap();
        assert_eq!((on.faults, on.lasts), (1, Duration::ZERO));
        // Who waits for long is not gone.
        let wait = 3 * FORGOTTEN;
        outage
            .fault(start + FORGOTTEN + 10 * SECOND, wait, "")
            .unwrap();
        let on = outage.fault(start + 2 * wait, wait, "").unwrap();
        assert_eq!(on.faults, 3);
    }
}
