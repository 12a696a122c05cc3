//! Bursts: so many events at once that a server may have dropped some.

use std::time::Duration;

use tokio::time::Instant;

/// How many events a server keeps for a listener that it cannot send them to.
const KEPT: u32 = 100;

/// Events that come within this time, or behind each other without a wait, are of one burst. It is over when none has come for
/// so long.
const CLOSE: Duration = Duration::from_secs(1);

/// How often a burst that does not end is told of.
const LONG: Duration = Duration::from_secs(10);

/// Whether a server may have dropped events. It drops what comes while it keeps as many as it does. All of these come here, so
/// there is no loss where fewer come at once.
#[derive(Debug)]
pub(super) struct Burst {
    began: Instant,
    last: Instant,
    /// Since it began.
    count: u32,
    /// When it is to be told of.
    told_at: Option<Instant>,
}

impl Burst {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            last: now,
            count: 0,
            told_at: None,
        }
    }

    /// An event was read. Whether the line was empty before it.
    pub(super) fn event(&mut self, now: Instant, had_caught_up: bool) {
        self.last = now;
        if self.told_at.is_none()
            && had_caught_up
            && now.saturating_duration_since(self.began) > CLOSE
        {
            self.began = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        if self.count >= KEPT && self.told_at.is_none() {
            self.told_at = Some(now + LONG);
        }
    }

    /// When it is to be told that events may be missing, if nothing else comes.
    pub(super) fn is_told_at(&self) -> Option<Instant> {
        Some(self.told_at?.min(self.last + CLOSE))
    }

    /// Whether it lasts so long that it is told of in the midst of it.
    pub(super) fn is_long(&self, now: Instant) -> bool {
        self.told_at.is_some_and(|at| at <= now)
    }

    /// It is told.
    pub(super) fn is_told(&mut self, now: Instant) {
        *self = Self::new(now);
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
        let mut burst = Burst::new(start);
        for n in 0..10_000 {
            burst.event(start + millis(n * 20), true);
            assert_eq!(burst.is_told_at(), None);
        }
    }

    #[test]
    fn a_hundred_at_once_are_told_of_when_it_is_quiet_again() {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        for n in 0..150 {
            assert_eq!(burst.is_told_at().is_some(), n >= 100);
            burst.event(start + millis(n), true);
        }
        let told_at = burst.is_told_at().unwrap();
        assert_eq!(told_at, start + millis(149) + CLOSE);
        burst.is_told(told_at);
        assert_eq!(burst.is_told_at(), None);
    }

    /// Whoever reads slowly may have kept the server waiting, however long that takes.
    #[test]
    fn a_hundred_behind_each_other_are_a_burst_however_slowly_they_are_read() {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        for n in 0..100 {
            burst.event(start + millis(n * 3_000), n == 0);
        }
        assert!(burst.is_told_at().is_some());
    }

    #[test]
    fn a_burst_without_an_end_is_told_of_each_ten_seconds() {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        let mut told = 0;
        for n in 0..60_000 {
            let now = start + millis(n);
            if burst.is_told_at().is_some_and(|at| at <= now) {
                burst.is_told(now);
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
            let mut burst = Burst::new(start);
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

    /// What a server keeps comes as fast as the line takes it.
    #[test]
    fn what_a_server_has_kept_is_a_burst_over_a_slow_line_too() {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        let mut was_told = false;
        for n in 0..100 {
            burst.event(start + millis(n * 12), true);
            was_told |= burst.is_told_at().is_some();
        }
        assert!(was_told);
    }
}
