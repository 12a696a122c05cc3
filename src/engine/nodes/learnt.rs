//! How far calls may run ahead, as far as the adapters of a client have learnt it of a method.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::lesson::Lesson;

/// After so long, what was learnt weighs half as much.
const HALF_LIFE: Duration = Duration::from_secs(60);

/// What it weighs at most, in ends of calls. So a few calls are enough to change it.
const MOST: f64 = 8.0;

#[derive(Debug, Default)]
pub(crate) struct Learnt(Mutex<Option<(Lesson, Instant)>>);

impl Learnt {
    /// An adapter has seen this.
    pub(crate) fn note(&self, new: Lesson, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lesson = new;
        if let Some(old) = faded(*known, now) {
            lesson.weight = old.weight + new.weight;
            lesson.depth = between(old.depth, new.depth, new.weight / lesson.weight);
        }
        lesson.weight = lesson.weight.min(MOST);
        *known = Some((lesson, now));
    }

    /// What calls begin with, where they would begin with `unknown` if nothing were known. It comes back to that with
    /// time.
    pub(crate) fn depth(&self, unknown: f64, now: Instant) -> f64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Lesson { depth, weight }) = faded(*known, now) else {
            return unknown;
        };
        let way = match depth < unknown {
            // One bad record among the first shows little.
            true => weight / (weight + 1.0),
            // A round trip is saved only by all of it.
            false => weight.min(1.0),
        };
        between(unknown, depth, way)
    }
}

/// What is left of it by now.
fn faded(known: Option<(Lesson, Instant)>, now: Instant) -> Option<Lesson> {
    let (lesson, at) = known?;
    let age = now
        .saturating_duration_since(at)
        .div_duration_f64(HALF_LIFE);
    let weight = lesson.weight * (-age).exp2();
    (weight > f64::MIN_POSITIVE).then_some(Lesson { weight, ..lesson })
}

/// A depth between two, `way` of the way from the first to the second, on a logarithmic scale.
fn between(from: f64, to: f64, way: f64) -> f64 {
    from * (to / from).powf(way)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: f64 = 1000.0;

    /// What calls begin with so many seconds after `lessons`: depths, and what they weigh.
    fn after(seconds: u64, lessons: &[(f64, f64)]) -> f64 {
        let learnt = Learnt::default();
        let now = Instant::now();
        for (depth, weight) in lessons.iter().copied() {
            learnt.note(Lesson { depth, weight }, now);
        }
        learnt.depth(UNKNOWN, now + Duration::from_secs(seconds))
    }

    #[test]
    fn where_many_records_are_bad_calls_begin_with_few_and_that_is_forgotten() {
        assert_eq!(after(0, &[]), UNKNOWN);
        let bad = [(10.0, 100.0)];
        let times = [0, 60, 120, 300, 600, 3_600];
        let begins = times.map(|seconds| after(seconds, &bad));
        assert!(begins[0] < 20.0, "{begins:?}");
        assert!(begins.is_sorted(), "{begins:?}");
        assert!(begins[3] > 300.0, "{begins:?}");
        assert!(begins[5] > 999.0, "{begins:?}");
    }

    #[test]
    fn one_bad_record_shows_little() {
        assert!(after(0, &[(32.0, 1.0)]) > 150.0);
        let good_and_one_bad = [(1024.0, 1000.0), (32.0, 1.0)];
        assert!(after(0, &good_and_one_bad) > 600.0);
        let bad_and_one_good = [(10.0, 100.0), (13.0, 1.0 / 64.0)];
        assert!(after(0, &bad_and_one_good) < 20.0);
    }

    #[test]
    fn what_is_known_to_be_good_begins_with_more_than_what_is_not_known() {
        let learnt = Learnt::default();
        let now = Instant::now();
        let lesson = Lesson {
            depth: 1024.0,
            weight: 16.0,
        };
        learnt.note(lesson, now);
        let soon = now + Duration::from_secs(120);
        assert_eq!(
            [now, soon].map(|at| learnt.depth(100.0, at).round()),
            [1024.0; 2]
        );
        let later = now + Duration::from_secs(3_600);
        assert!(learnt.depth(100.0, later) < 101.0);
    }

    #[test]
    fn records_that_become_good_are_learnt_within_two_batches() {
        let bad = (10.0, 100.0);
        assert!(after(0, &[bad, (1024.0, 16.0)]) > 150.0);
        assert!(after(0, &[bad, (1024.0, 16.0), (1024.0, 16.0)]) > 450.0);
    }
}
