//! How many items a second are taken from the input.

use std::time::Duration;

use tokio::time::Instant;

/// How much of a second's items may be taken at once: timers are no finer than a millisecond, and items that leave together
/// cost less.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Spaces items out evenly, those of some milliseconds together. What was not taken in a pause is not made up for.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    /// When the next item would be due, had all been taken in time.
    due: Option<Instant>,
    /// No item is taken before this time.
    closed_until: Option<Instant>,
}

impl Pace {
    pub(super) fn new(items_per_second: u32) -> Self {
        Self {
            every: Duration::from_secs(1) / items_per_second,
            due: None,
            closed_until: None,
        }
    }

    /// When the next item may be taken, if not now.
    pub(super) fn opens_at(&mut self, now: Instant) -> Option<Instant> {
        if let Some(until) = self.closed_until {
            if until > now {
                return Some(until);
            }
            self.closed_until = None;
        }
        let due = self.due?;
        let ahead = self.ahead();
        if due.checked_sub(ahead)? > now {
            // Several together cost less. The other half is for timers that are late.
            self.closed_until = due.checked_sub(ahead / 2);
        }
        self.closed_until
    }

    /// How long before it is due an item may be taken.
    fn ahead(&self) -> Duration {
        AT_ONCE.saturating_sub(self.every)
    }

    /// An item was taken.
    pub(super) fn take(&mut self, now: Instant) {
        // A timer that was late by less than that costs no items.
        let earliest = now.checked_sub(AT_ONCE - self.ahead()).unwrap_or(now);
        let due = self.due.map_or(now, |due| due.max(earliest));
        self.due = Some(due + self.every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of so many items is taken that are always there, in milliseconds.
    fn taken(pace: &mut Pace, start: Instant, items: usize) -> Vec<u128> {
        let mut now = start;
        let mut taken = Vec::new();
        while taken.len() < items {
            match pace.opens_at(now) {
                None => {
                    pace.take(now);
                    taken.push(now.duration_since(start).as_millis());
                }
                Some(at) => now = at,
            }
        }
        taken
    }

    #[test]
    fn a_slow_pace_is_even() {
        let start = Instant::now();
        assert_eq!(taken(&mut Pace::new(10), start, 5), [0, 100, 200, 300, 400]);
    }

    #[test]
    fn a_fast_pace_takes_ten_milliseconds_of_it_at_once() {
        let (mut pace, start) = (Pace::new(100_000), Instant::now());
        let taken = taken(&mut pace, start, 101_000);
        let at_once = taken.iter().filter(|at| **at == 0).count();
        assert!((1_000..1_200).contains(&at_once), "{at_once}");
        assert_eq!(taken[100_999], 1_000);
    }

    /// Timers are late, each by up to a millisecond and more.
    #[test]
    fn late_timers_cost_no_items() {
        for rate in [33, 64, 70, 90, 99, 100, 101, 120, 1_000] {
            let (mut pace, start) = (Pace::new(rate), Instant::now());
            let (mut now, mut taken) = (start, 0);
            while now < start + Duration::from_secs(10) {
                match pace.opens_at(now) {
                    None => {
                        pace.take(now);
                        taken += 1;
                    }
                    Some(at) => now = at + Duration::from_micros(1_500),
                }
            }
            let wanted = rate * 10;
            assert!(
                (wanted - wanted / 100..=wanted + 1 + rate / 100).contains(&taken),
                "{rate}: {taken}"
            );
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let (mut pace, start) = (Pace::new(1_000), Instant::now());
        taken(&mut pace, start, 100);
        let later = start + Duration::from_secs(3600);
        let after = taken(&mut pace, later, 100);
        assert!(after[99] >= 88, "{after:?}");
    }
}
