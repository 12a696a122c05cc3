//! An outage, as the log is told of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long nothing more is said of an outage.
const QUIET: Duration = Duration::from_secs(10);

/// After how long without a fault the next one is of another outage: longer than calls wait at most. Who has met it
/// may be gone, and not have seen its end.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// What was said of an outage of a node, or of a source of tokens. The adapters of a client share it, so that not each of
/// them says the same.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    is_on: AtomicBool,
    state: Mutex<Option<State>>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    said: Instant,
    last: Instant,
    faults: u64,
}

/// What there is to say of an outage that is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsOn {
    pub(crate) faults: u64,
    pub(crate) lasts: Duration,
}

/// What there is to say of one that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsOver {
    pub(crate) faults: u64,
    pub(crate) lasted: Duration,
}

impl Outage {
    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a fault. Returns what is to be said, if it is time for that.
    pub(crate) fn fault(&self, now: Instant) -> Option<IsOn> {
        let mut state = self.state();
        let known = state.take().filter(|known| now < known.last + FORGOTTEN);
        let is_new = known.is_none();
        let on = state.insert(known.unwrap_or(State {
            since: now,
            said: now,
            last: now,
            faults: 0,
        }));
        self.is_on.store(true, Ordering::Release);
        on.faults += 1;
        on.last = now;
        if !is_new && now < on.said + QUIET {
            return None;
        }
        on.said = now;
        Some(IsOn {
            faults: on.faults,
            lasts: now.saturating_duration_since(on.since),
        })
    }

    /// It has answered. Returns what is to be said, if an outage is over.
    pub(crate) fn answered(&self, now: impl FnOnce() -> Instant) -> Option<IsOver> {
        // This is asked for each answer.
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let was_on = self.state().take()?;
        self.is_on.store(false, Ordering::Release);
        Some(IsOver {
            faults: was_on.faults,
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
            let on = outage.fault(start + second * SECOND)?;
            Some((second, on.faults, on.lasts.as_secs()))
        });
        assert_eq!(
            said.collect::<Vec<_>>(),
            [(0, 1, 0), (10, 11, 10), (20, 21, 20)]
        );
        let over = outage.answered(|| start + 30 * SECOND).unwrap();
        assert_eq!((over.faults, over.lasted), (25, 30 * SECOND));
        assert_eq!(outage.answered(|| unreachable!()), None);
        assert!(outage.fault(start + 31 * SECOND).is_some(), "another one");
    }

    #[test]
    fn one_whose_end_nobody_saw_is_over_by_itself() {
        let (outage, start) = (Outage::default(), Instant::now());
        outage.fault(start).unwrap();
        let on = outage.fault(start + FORGOTTEN).unwrap();
        assert_eq!((on.faults, on.lasts), (1, Duration::ZERO));
    }
}
