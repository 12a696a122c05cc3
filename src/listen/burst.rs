//! Bursts: so many events at once that a server may have dropped some.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How many events a server keeps for a listener that it cannot send them to.
const KEPT: usize = 100;

/// So many events within this time are a burst. It is over when none has come for so long.
const CLOSE: Duration = Duration::from_secs(1);

/// How often a burst that does not end is told of.
const LONG: Duration = Duration::from_secs(10);

/// Whether a server may have dropped events. It drops what comes while it keeps as many as it does. All of these come
/// here: one behind the other, unless the reader is slow, or the line brings less than a hundred a second.
#[derive(Debug)]
pub(super) struct Burst {
    /// When the latest were read.
    read: VecDeque<Instant>,
    /// How many were read since the line was empty.
    behind: usize,
    /// When it is to be told of.
    told_at: Option<Instant>,
}

impl Burst {
    pub(super) fn new() -> Self {
        Self {
            read: VecDeque::with_capacity(KEPT),
            behind: 0,
            told_at: None,
        }
    }

    /// An event was read. Whether the line was empty before it.
    pub(super) fn event(&mut self, now: Instant, had_caught_up: bool) {
        if had_caught_up {
            self.behind = 0;
        }
        self.behind += 1;
        if self.read.len() == KEPT {
            self.read.pop_front();
        }
        self.read.push_back(now);
        let is_close = |first: &Instant| now.saturating_duration_since(*first) <= CLOSE;
        let are_close = self.read.len() == KEPT && self.read.front().is_some_and(is_close);
        if (are_close || self.behind >= KEPT) && self.told_at.is_none() {
            self.told_at = Some(now + LONG);
        }
    }

    /// When it is to be told that events may be missing, if nothing else comes.
    pub(super) fn is_told_at(&self) -> Option<Instant> {
        let last = self.read.back()?;
        Some(self.told_at?.min(*last + CLOSE))
    }

    /// Whether it lasts so long that it is told of in the midst of it.
    pub(super) fn is_long(&self, now: Instant) -> bool {
        self.told_at.is_some_and(|at| at <= now)
    }

    /// It is told.
    pub(super) fn is_told(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn what_comes_a_few_at_a_time_is_no_burst() {
        let start = Instant::now();
        let mut burst = Burst::new();
        for n in 0..10_000 {
            burst.event(start + millis(n * 20), true);
            assert_eq!(burst.is_told_at(), None);
        }
    }

    #[test]
    fn a_hundred_at_once_are_told_of_when_it_is_quiet_again() {
        let start = Instant::now();
        let mut burst = Burst::new();
        for n in 0..150 {
            assert_eq!(burst.is_told_at().is_some(), n >= 100);
            burst.event(start + millis(n), true);
        }
        let told_at = burst.is_told_at().unwrap();
        assert_eq!(told_at, start + millis(149) + CLOSE);
        burst.is_told();
        assert_eq!(burst.is_told_at(), None);
    }

    /// Whoever reads slowly may have kept the server waiting, however long that takes.
    #[test]
    fn a_hundred_behind_each_other_are_a_burst_however_slowly_they_are_read() {
        let start = Instant::now();
        let mut burst = Burst::new();
        for n in 0..100 {
            burst.event(start + millis(n * 3_000), n == 0);
        }
        assert!(burst.is_told_at().is_some());
    }

    #[test]
    fn a_burst_without_an_end_is_told_of_each_ten_seconds() {
        let start = Instant::now();
        let mut burst = Burst::new();
        let mut told = 0;
        for n in 0..60_000 {
            let now = start + millis(n);
            if burst.is_told_at().is_some_and(|at| at <= now) {
                burst.is_told();
                told += 1;
            }
            burst.event(now, false);
        }
        assert_eq!(told, 5);
    }

    /// A few events before it make no difference.
    #[test]
    fn a_hundred_at_once_are_a_burst_whenever_they_come() {
        let start = Instant::now();
        let missed = (0..2_000).step_by(5).filter(|at| {
            let mut burst = Burst::new();
            burst.event(start, true);
            let mut was_told = false;
            // 150 in 30 ms, which a reader that is awake takes a few at a time.
            for n in 0..150_u64 {
                let now = start + millis(*at) + Duration::from_micros(n * 200);
                burst.event(now, n % 10 == 0);
                was_told |= burst.is_told_at().is_some();
            }
            !was_told
        });
        let missed: Vec<u64> = missed.collect();
        assert_eq!(
            missed,
            Vec::<u64>::new(),
            "ms behind an event, and no gap is told"
        );
    }
}
