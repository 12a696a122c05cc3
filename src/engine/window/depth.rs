//! How many requests a call may have unanswered: few where calls keep ending at bad records.

use std::num::NonZeroUsize;

/// How much one call that ends says about the next: an eighth. Growth is as slow, an eighth for
/// each answer beyond what was expected, which is by an eighth in each round trip.
const WEIGHT: f64 = 1.0 / 8.0;

/// How far a call may run ahead of what is expected of it. Where one record in ten is bad, a call
/// that is as deep as its expected end gets there in 1.5 round trips on average; a quarter more
/// makes that 1.4, and what is sent in vain still stays near to what gets through.
const AHEAD: f64 = 1.25;

/// What is behind a bad record in its call is sent in vain, at most the depth of it. So the depth
/// follows how many answers there are from one end of a call to the next, as a mean that forgets:
/// deeper, and most of what is sent is sent twice; shallower, and the way to the next bad record
/// takes several round trips.
///
/// Additive increase and multiplicative decrease, the usual rule, would find the same mean and
/// swing around it by half of it, where each swing costs one of the two.
#[derive(Debug)]
pub(super) struct Depth {
    least: f64,
    most: f64,
    /// How many answers are expected from one end of a call to the next.
    run: f64,
    /// How many there were since the last end, and in the run before.
    answers: u64,
    before: u64,
}

impl Depth {
    /// It starts at the most.
    #[allow(clippy::cast_precision_loss)] // No window is that large.
    pub(super) fn new(least: NonZeroUsize, most: NonZeroUsize) -> Self {
        let most = most.get() as f64;
        Self {
            least: (least.get() as f64).min(most),
            most,
            run: most,
            answers: 0,
            before: 0,
        }
    }

    pub(super) fn answered(&mut self) {
        self.answers += 1;
    }

    /// A call has ended at an item, or broken, with others behind.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn ended(&mut self) {
        let answers = self.answers as f64;
        let last_two = (self.answers + self.before) as f64 / 2.0;
        self.before = std::mem::take(&mut self.answers);
        self.run = if last_two < self.run * WEIGHT {
            // Far from what was expected: things have changed.
            self.run / 2.0
        } else {
            self.run + (answers - self.run) * WEIGHT
        };
        self.run = self.run.min(self.most);
    }

    /// How many requests a call may have unanswered.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub(super) fn now(&self) -> usize {
        // What has come shows already, before the call ends.
        let grown = (self.answers as f64 - self.run).max(0.0) * WEIGHT;
        let expected = (self.run + grown + 1.0) * AHEAD;
        expected.clamp(self.least, self.most) as usize
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn depth(least: usize, most: usize) -> Depth {
        let bound = |bound| NonZeroUsize::new(bound).unwrap();
        Depth::new(bound(least), bound(most))
    }

    fn run(depth: &mut Depth, answers: u64) {
        for _ in 0..answers {
            depth.answered();
        }
        depth.ended();
    }

    #[test]
    fn it_starts_at_the_most_and_stays_there_while_all_is_well() {
        let mut depth = depth(1, 1000);
        assert_eq!(depth.now(), 1000);
        for _ in 0..5_000 {
            depth.answered();
        }
        assert_eq!(depth.now(), 1000);
        depth.ended();
        assert_eq!(depth.now(), 1000, "a rare end says nothing");
    }

    #[test]
    fn it_comes_down_to_what_calls_live_for_within_three_windows_sent_in_vain() {
        let mut depth = depth(1, 1000);
        let mut wasted = 0;
        for _ in 0..25 {
            wasted += depth.now();
            run(&mut depth, 9);
        }
        assert!((10..=16).contains(&depth.now()), "{depth:?}");
        assert!(wasted <= 3_000, "{wasted}");
    }

    #[test]
    fn it_keeps_to_its_bounds() {
        let mut depth = depth(4, 1000);
        for _ in 0..100 {
            run(&mut depth, 0);
        }
        assert_eq!(depth.now(), 4);
        assert_eq!(self::depth(8, 2).now(), 2, "the most comes first");
    }

    #[test]
    fn it_grows_again_before_a_call_has_ended() {
        let mut depth = depth(1, 1000);
        for _ in 0..100 {
            run(&mut depth, 9);
        }
        let mut round_trips = 0;
        while depth.now() < 1000 {
            round_trips += 1;
            for _ in 0..depth.now() {
                depth.answered();
            }
        }
        assert!(round_trips <= 50, "{round_trips}");
    }

    /// With one bad record in ten at random, the mean depth is between what a call lives for and
    /// half more.
    #[test]
    fn it_does_not_swing_much() {
        let mut depth = depth(1, 1000);
        let mut random = fastrand::Rng::with_seed(7);
        let (mut sum, mut ends) = (0, 0);
        for _ in 0..100_000 {
            if random.u32(0..10) == 0 {
                depth.ended();
                ends += 1;
                if ends > 100 {
                    sum += depth.now();
                }
            } else {
                depth.answered();
            }
        }
        let mean = sum / (ends - 100);
        assert!((10..=15).contains(&mean), "{mean}");
    }
}
