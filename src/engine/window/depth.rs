//! How many requests a call may have unanswered: few where calls keep ending at bad records.

/// Where it starts. While no call has ended it doubles in each round trip, so it is at a window of
/// 1024 after four; and a batch that begins with bad records has not sent much in vain.
const START: f64 = 64.0;

/// How many requests may be sent in vain for each that is answered.
const VAIN: f64 = 0.9;

/// How much of what is earned or lost shows in the depth at once: the rest of an error's cost is
/// borne by those before and after it. The first errors have few before them, and count for more.
const STEP: f64 = 1.0 / 8.0;

/// A depth that is so many times what calls live for is not approached step by step, but
/// halved.
const FAR: f64 = 16.0;

/// What is behind a bad record in its call is sent in vain. So the depth is an account: each answer
/// adds to it, each request that was sent in vain takes from it, and it comes to rest where as much
/// is lost as is earned. That bounds what is sent twice, however many records are bad and however
/// the answers come: where they come one by one, the whole depth is lost at each bad record, and
/// it settles below the number of records from one to the next; where they come in bursts, as over a
/// long line, less is lost, and it settles above, so that most calls get to their bad record in one
/// round trip.
///
/// It is additive increase, as is usual, but a decrease by what was lost. The usual halving knows
/// nothing of the loss, swings by half the depth, and each half of the swing costs: too deep is sent
/// in vain, too shallow takes round trips. It is left for when things have changed.
#[derive(Debug)]
pub(super) struct Depth {
    min: f64,
    max: f64,
    depth: f64,
    /// How many calls have ended.
    ends: u64,
    /// How many answers there were since the last end of a call, and between the two before.
    answers: u64,
    before: u64,
}

impl Depth {
    #[allow(clippy::cast_precision_loss)] // No window is that large.
    pub(super) fn new(min: usize, max: usize) -> Self {
        let max = max as f64;
        let min = (min as f64).min(max);
        Self {
            min,
            max,
            depth: START.clamp(min, max),
            ends: 0,
            answers: 0,
            before: 0,
        }
    }

    pub(super) fn answered(&mut self) {
        self.answers += 1;
        let earned = if self.ends == 0 { 1.0 } else { VAIN * STEP };
        self.depth = (self.depth + earned).min(self.max);
    }

    /// A call has ended at an item, or broken, and so many requests with it were in vain.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn ended(&mut self, in_vain: usize) {
        let last_two = (self.answers + self.before) as f64 / 2.0;
        self.before = std::mem::take(&mut self.answers);
        self.ends += 1;
        let loss = if last_two * FAR < self.depth {
            // As when bad records begin.
            self.depth / 2.0
        } else {
            in_vain as f64 * STEP.max(1.0 / (self.ends + 1) as f64)
        };
        self.depth = (self.depth - loss).max(self.min);
    }

    /// How many requests a call may have unanswered.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn now(&self) -> usize {
        self.depth.round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that end after `answers` of them, where all that is behind is sent in vain.
    fn end_after(depth: &mut Depth, answers: u64) -> usize {
        for _ in 0..answers {
            depth.answered();
        }
        let in_vain = depth.now() - 1;
        depth.ended(in_vain);
        in_vain
    }

    #[test]
    fn while_all_is_well_it_is_at_the_most_in_four_round_trips() {
        let mut depth = Depth::new(1, 1000);
        for _ in 0..4 {
            for _ in 0..depth.now() {
                depth.answered();
            }
        }
        assert_eq!(depth.now(), 1000);
        depth.ended(999);
        assert!(depth.now() >= 500, "{depth:?}");
        for _ in 0..5_000 {
            depth.answered();
        }
        assert_eq!(depth.now(), 1000);
    }

    #[test]
    fn it_comes_down_quickly_where_calls_keep_ending() {
        let mut depth = Depth::new(1, 1000);
        for _ in 0..1_000 {
            depth.answered();
        }
        depth.ended(0);
        let in_vain: usize = (0..25).map(|_| end_after(&mut depth, 9)).sum();
        assert!((7..=16).contains(&depth.now()), "{depth:?}");
        assert!(in_vain <= 3_600, "{in_vain}");
    }

    #[test]
    fn it_keeps_to_its_bounds() {
        let mut depth = Depth::new(4, 1000);
        for _ in 0..100 {
            end_after(&mut depth, 0);
        }
        assert_eq!(depth.now(), 4);
        assert_eq!(Depth::new(8, 2).now(), 2, "the maximum comes first");
        assert_eq!(Depth::new(500, 1000).now(), 500);
    }

    #[test]
    fn it_grows_again_before_a_call_has_ended() {
        let mut depth = Depth::new(1, 1000);
        for _ in 0..100 {
            end_after(&mut depth, 9);
        }
        let mut round_trips = 0;
        while depth.now() < 1000 {
            round_trips += 1;
            for _ in 0..depth.now() {
                depth.answered();
            }
        }
        assert!(round_trips <= 60, "{round_trips}");
    }

    /// One bad record in `every` at random. Returns what was sent in vain for each answer, and the
    /// round trips for each bad record, where answers come in bursts of a depth, or one by one.
    fn play(every: u32, in_bursts: bool) -> (f64, f64) {
        let mut depth = Depth::new(1, 1000);
        let mut random = fastrand::Rng::with_seed(7);
        let (mut answers, mut ends, mut in_vain, mut trips) = (0, 0, 0, 0);
        while answers < 100_000 {
            // A call: flights one after the other, until a bad record.
            let mut left_in_flight = 0;
            loop {
                if left_in_flight == 0 {
                    trips += 1;
                    left_in_flight = depth.now();
                }
                left_in_flight -= 1;
                if random.u32(0..every) == 0 {
                    break;
                }
                answers += 1;
                depth.answered();
            }
            let lost = if in_bursts {
                left_in_flight
            } else {
                depth.now() - 1
            };
            ends += 1;
            in_vain += lost;
            depth.ended(lost);
        }
        (
            in_vain as f64 / f64::from(answers),
            f64::from(trips) / f64::from(ends),
        )
    }

    #[test]
    fn what_is_sent_in_vain_stays_below_what_gets_through() {
        for every in [2, 5, 10, 30, 100] {
            for in_bursts in [false, true] {
                let (in_vain, _) = play(every, in_bursts);
                assert!(in_vain <= 0.95, "1 in {every}: {in_vain}");
            }
        }
    }

    #[test]
    fn over_a_long_line_most_calls_get_to_their_bad_record_in_one_round_trip() {
        let (_, trips) = play(10, true);
        assert!(trips <= 1.5, "{trips}");
    }
}
