//! How many requests a call may have unanswered: few where calls keep ending at bad records.

use crate::engine::lesson::Lesson;
use crate::options::Options;

/// What a call begins with where bad records are to be expected. One that begins with more goes back, when the first
/// call ends, to this and the number of its answers.
const START: f64 = 64.0;

/// Where nothing is known, all calls together begin with so many bytes of requests: a bad record among the first may
/// make all of them vain. They are the whole window of lookups, and of records of 500 bytes.
const START_BYTES: usize = 512 << 10;

/// How many requests more a call may have unanswered for each answer, while none has ended. So it has four times as
/// many after each round trip.
const GROWTH: f64 = 3.0;

/// How many requests may be sent in vain for each that is answered.
const VAIN: f64 = 0.9;

/// How much of what is earned or lost shows in the depth at once: the rest of an error's cost is
/// borne by those before and after it. The first errors have few before them, and count for more.
const STEP: f64 = 1.0 / 8.0;

/// How much of what is earned goes into what the beginning has cost, until that is paid.
const PAID: f64 = 1.0 / 16.0;

/// A depth that is so many times what calls live for is not approached step by step, but
/// halved.
const FAR: f64 = 16.0;

/// How many answers say as much as the end of a call.
const ANSWERS_OF_END: f64 = 64.0;

/// A depth that is at its maximum might be larger, were the window larger: at least this.
const LARGE: f64 = Options::DEFAULT_WINDOW as f64;

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
///
/// A call that begins with the whole window may lose it at once. That is no measure of the depth that is right, so the
/// depth bears as much of it as a careful beginning would have lost, and the rest is a debt that is paid slowly.
#[derive(Debug)]
pub(super) struct Depth {
    min: f64,
    max: f64,
    depth: f64,
    /// What a careful beginning would have been.
    careful: f64,
    /// What was sent in vain, and did not count.
    debt: f64,
    /// How many calls have ended.
    ends: u64,
    /// How many answers there were since the last end of a call, and between the two before.
    answers: u64,
    before: u64,
    /// What was seen since [`teach`](Self::teach) was asked last, in ends of calls, without the answers since the last
    /// end; and how many of these answers were taught.
    evidence: f64,
    taught: u64,
}

impl Depth {
    #[allow(clippy::cast_precision_loss)] // No window is that large.
    pub(super) fn new(min: usize, max: usize) -> Self {
        let max = max as f64;
        let min = (min as f64).min(max);
        let careful = START.clamp(min, max);
        Self {
            min,
            max,
            depth: careful,
            careful,
            debt: 0.0,
            ends: 0,
            answers: 0,
            before: 0,
            evidence: 0.0,
            taught: 0,
        }
    }

    /// What to begin with where nothing is known, with requests of so many bytes each over so many calls.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn unknown(&self, request_len: usize, calls: usize) -> f64 {
        let each = START_BYTES / request_len.max(1) / calls;
        (each as f64).max(START).clamp(self.min, self.max)
    }

    /// Begins with so many, before anything is sent.
    pub(super) fn begin(&mut self, depth: f64) {
        self.depth = depth.clamp(self.min, self.max);
        self.careful = self.careful.min(self.depth);
    }

    pub(super) fn answered(&mut self) {
        self.answers += 1;
        let mut earned = if self.ends == 0 { GROWTH } else { VAIN * STEP };
        if self.debt > 0.0 {
            self.debt -= VAIN * PAID;
            earned *= 1.0 - PAID;
        }
        self.depth = (self.depth + earned).min(self.max);
    }

    /// A call has ended at an item, or broken, and so many requests with it were in vain.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn ended(&mut self, in_vain: usize) {
        let mut counts = self.depth;
        if self.ends == 0 {
            self.depth = self.depth.min(self.careful + self.answers as f64);
            counts = self.careful;
        }
        let counts = counts.min(in_vain as f64);
        self.debt += in_vain as f64 - counts;
        let last_two = (self.answers + self.before) as f64 / 2.0;
        self.evidence += 1.0 + self.untaught();
        self.taught = 0;
        self.before = std::mem::take(&mut self.answers);
        self.ends += 1;
        let loss = if last_two * FAR < self.depth {
            // As when bad records begin.
            self.depth / 2.0
        } else {
            counts * STEP.max(1.0 / (self.ends + 1) as f64)
        };
        self.depth = (self.depth - loss).max(self.min);
    }

    /// How many requests a call may have unanswered.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn now(&self) -> usize {
        self.depth.round() as usize
    }

    /// What it has shown since this was asked last. `None`: nothing.
    pub(super) fn teach(&mut self) -> Option<Lesson> {
        let weight = self.evidence + self.untaught();
        self.evidence = 0.0;
        self.taught = self.answers;
        let is_free = self.min < self.max;
        let depth = if self.depth >= self.max {
            self.depth.max(LARGE)
        } else if self.max < LARGE && self.depth > self.max / 2.0 {
            // That shows what the caller has set, and not what the server's records are like.
            return None;
        } else {
            self.depth
        };
        (is_free && weight > 0.0).then_some(Lesson { depth, weight })
    }

    /// What the answers since the last end weigh that have not been taught.
    #[allow(clippy::cast_precision_loss)]
    fn untaught(&self) -> f64 {
        (self.answers - self.taught) as f64 / ANSWERS_OF_END
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
    fn while_all_is_well_it_is_at_the_most_in_two_round_trips() {
        let mut depth = Depth::new(1, 1000);
        for _ in 0..2 {
            for _ in 0..depth.now() {
                depth.answered();
            }
        }
        assert_eq!(depth.now(), 1000);
        for _ in 0..1_000 {
            depth.answered();
        }
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

    #[test]
    fn short_requests_begin_with_the_whole_window_and_long_ones_with_half_a_mebibyte() {
        let depth = Depth::new(1, 1024);
        assert_eq!(depth.unknown(100, 1), 1024.0);
        assert_eq!(depth.unknown(2_500, 1), 209.0);
        assert_eq!(depth.unknown(512, 8), 128.0, "over all calls");
        assert_eq!(depth.unknown(4 << 20, 1), START);
        assert_eq!(Depth::new(16, 16).unknown(1, 1), 16.0);
    }

    #[test]
    fn a_beginning_that_was_in_vain_leaves_what_a_careful_one_does() {
        for answers in [0, 9, 100, 900] {
            let [careful, bold] = [START, 1000.0].map(|begin| {
                let mut depth = Depth::new(1, 1000);
                depth.begin(begin);
                end_after(&mut depth, answers);
                depth
            });
            let least = careful.depth.min(START + answers as f64) / 2.0;
            assert!(bold.depth >= least, "{answers}: {bold:?}, {careful:?}");
            assert!(bold.depth <= START + answers as f64, "{bold:?}");
        }
    }

    #[test]
    fn what_it_teaches_is_of_what_has_come_since() {
        let mut depth = Depth::new(1, 100);
        assert!(depth.teach().is_none());
        for _ in 0..128 {
            depth.answered();
        }
        let lesson = depth.teach().expect("answers have come");
        assert_eq!((lesson.weight, lesson.depth), (2.0, LARGE), "a full window");
        assert!(depth.teach().is_none());
        depth.ended(63);
        assert!(depth.teach().is_none(), "it is the bound that shows");
        while depth.depth > 50.0 {
            depth.ended(63);
        }
        let lesson = depth.teach().expect("calls have ended");
        assert_eq!(lesson.depth, depth.depth);
        let mut fixed = Depth::new(8, 8);
        fixed.ended(7);
        assert!(fixed.teach().is_none());
    }

    /// What a stream has cost.
    struct Played {
        /// Requests in vain for each answer.
        in_vain: f64,
        /// Round trips for each bad record.
        trips: f64,
        debt: f64,
    }

    /// One bad record in `every` at random, until there are so many answers, which come in bursts of a depth, or one by
    /// one.
    fn play(every: u32, in_bursts: bool, begin: f64, most: u32) -> Played {
        let mut depth = Depth::new(1, 1000);
        depth.begin(begin);
        let mut random = fastrand::Rng::with_seed(7);
        let (mut answers, mut ends, mut in_vain, mut trips) = (0, 0, 0, 0);
        while answers < most {
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
        Played {
            in_vain: in_vain as f64 / f64::from(answers),
            trips: f64::from(trips) / f64::from(ends),
            debt: depth.debt,
        }
    }

    const BEGINS: [f64; 4] = [8.0, START, 200.0, 1000.0];

    #[test]
    fn what_is_sent_in_vain_stays_below_what_gets_through() {
        for every in [2, 5, 10, 30, 100] {
            for in_bursts in [false, true] {
                for begin in BEGINS {
                    let Played { in_vain, debt, .. } = play(every, in_bursts, begin, 100_000);
                    assert!(in_vain <= 0.95, "1 in {every}, from {begin}: {in_vain}");
                    assert!(debt <= 0.0, "1 in {every}, from {begin}: {debt}");
                }
            }
        }
    }

    #[test]
    fn a_short_stream_sends_no_more_than_its_beginning_beyond_that() {
        for every in [2, 5, 10, 30, 100, 300] {
            for in_bursts in [false, true] {
                for begin in BEGINS {
                    let answers = 1_500;
                    let Played { in_vain, .. } = play(every, in_bursts, begin, answers);
                    // Before the first end it grows by `GROWTH` for each answer.
                    let most = 1.0 + (begin + (GROWTH - VAIN) * f64::from(every)) / 1_500.0;
                    assert!(in_vain <= most, "1 in {every}, from {begin}: {in_vain}");
                }
            }
        }
    }

    #[test]
    fn over_a_long_line_most_calls_get_to_their_bad_record_in_one_round_trip() {
        for begin in BEGINS {
            let Played { trips, .. } = play(10, true, begin, 100_000);
            assert!(trips <= 1.5, "from {begin}: {trips}");
        }
    }
}
