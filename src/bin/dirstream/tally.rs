//! What a run comes to: counts, failures by their cause, and how fast it went.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agntcy_dir_stream::ErrorKind;
use indicatif::HumanDuration;

use crate::exit::is_server_away;
use crate::outcome::Outcome;

/// How many causes are told apart. What comes later is counted together.
const MAX_CAUSES: usize = 64;

/// How many failures of a cause are shown.
const EXAMPLES: usize = 3;

/// How many points the plot has at most.
const MAX_POINTS: usize = 240;

/// What failures have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cause {
    pub(crate) stage: &'static str,
    pub(crate) kind: &'static str,
    /// The message, without what differs from one record to the next.
    pub(crate) message: String,
}

#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    /// Where the first of them are, and what each said.
    pub(crate) examples: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Tally {
    began: Instant,
    pub(crate) ok: u64,
    pub(crate) already_stored: u64,
    pub(crate) failed: u64,
    pub(crate) causes: BTreeMap<Cause, Failures>,
    /// Whether a failure says that the server was away.
    pub(crate) is_server_away: bool,
    /// One behind the last index.
    pub(crate) seen_below: u64,
    rate: Vec<u64>,
    /// How long each point of it is.
    step: Duration,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            ok: 0,
            already_stored: 0,
            failed: 0,
            causes: BTreeMap::new(),
            is_server_away: false,
            seen_below: 0,
            rate: Vec::new(),
            step: Duration::from_millis(20),
        }
    }

    pub(crate) fn count(&mut self, outcome: &Outcome) {
        self.tick();
        self.seen_below = self.seen_below.max(outcome.index + 1);
        let Some(error) = &outcome.error else {
            self.ok += 1;
            self.already_stored += u64::from(outcome.done.already_stored == Some(true));
            return;
        };
        self.failed += 1;
        self.is_server_away |= is_server_away(error.kind);
        let mut cause = Cause {
            stage: error.stage,
            kind: error.kind.as_str(),
            message: in_common(&error.message),
        };
        if self.causes.len() >= MAX_CAUSES && !self.causes.contains_key(&cause) {
            cause.message = "and others".to_owned();
        }
        let failures = self.causes.entry(cause).or_default();
        failures.count += 1;
        if failures.examples.len() < EXAMPLES {
            let example = (outcome.place().to_string(), error.message.clone());
            failures.examples.push(example);
        }
    }

    fn tick(&mut self) {
        let mut now = self.point(self.began.elapsed());
        while now >= MAX_POINTS {
            let halved = self.rate.chunks(2).map(|pair| pair.iter().sum());
            self.rate = halved.collect();
            self.step *= 2;
            now = self.point(self.began.elapsed());
        }
        if self.rate.len() <= now {
            self.rate.resize(now + 1, 0);
        }
        self.rate[now] += 1;
    }

    fn point(&self, elapsed: Duration) -> usize {
        (elapsed.as_nanos() / self.step.as_nanos()) as usize
    }

    pub(crate) fn total(&self) -> u64 {
        self.ok + self.failed
    }

    pub(crate) fn took(&self) -> String {
        let elapsed = self.began.elapsed();
        match elapsed.as_secs() {
            ..60 => format!("{:.1} s", elapsed.as_secs_f64()),
            _ => HumanDuration(elapsed).to_string(),
        }
    }

    /// How many a second, from the beginning to now.
    pub(crate) fn a_second(&self) -> f64 {
        self.total() as f64 / self.began.elapsed().as_secs_f64().max(1e-3)
    }

    /// How many a second there were, at times in seconds.
    pub(crate) fn rate(&self) -> impl Iterator<Item = (f64, f64)> {
        let step = self.step.as_secs_f64();
        let points = self.rate.iter().zip(1..);
        points.map(move |(count, point)| (f64::from(point) * step, *count as f64 / step))
    }

    /// The causes, the most frequent first.
    pub(crate) fn by_count(&self) -> Vec<(&Cause, &Failures)> {
        let mut causes: Vec<_> = self.causes.iter().collect();
        causes.sort_by_key(|(_, failures)| std::cmp::Reverse(failures.count));
        causes
    }
}

/// The counts of a tally, for who looks at them from elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) done: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// One behind the last index.
    pub(crate) seen_below: AtomicU64,
}

impl Counts {
    pub(crate) fn show(&self, tally: &Tally) {
        self.done.store(tally.total(), Ordering::Relaxed);
        self.failed.store(tally.failed, Ordering::Relaxed);
        self.seen_below.store(tally.seen_below, Ordering::Relaxed);
    }
}

/// A message without numbers, CIDs, and what is in quotes.
fn in_common(message: &str) -> String {
    let mut common = String::new();
    let mut quote = None;
    for word in message.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let end = word.len() - word.chars().next_back().map_or(0, char::len_utf8);
        let (text, mark) = match word.chars().next_back() {
            Some(last) if !last.is_alphanumeric() => (&word[..end], Some(last)),
            _ => (word, None),
        };
        if quote.is_none() {
            // A single digit may be a version's.
            match text.len() > 1 && text.chars().any(|c| c.is_ascii_digit()) {
                true => common.push('…'),
                false => common.push_str(text),
            }
        }
        match (quote, mark) {
            (Some(open), Some(mark)) if mark == open => {
                quote = None;
                common.push('…');
                common.push(mark);
            }
            (None, Some(mark)) => {
                common.push(mark);
                if matches!(mark, '`' | '"') {
                    quote = Some(mark);
                }
            }
            _ => {}
        }
    }
    common
}

/// What a failure of this kind asks of who reads it.
pub(crate) fn advice(kind: &str) -> &'static str {
    let is = |known: ErrorKind| known.as_str() == kind;
    if is(ErrorKind::Rejected) || is(ErrorKind::Invalid) {
        "the records are at fault: another run will not help"
    } else if is(ErrorKind::NotFound) {
        "the server has no such record"
    } else if is(ErrorKind::Denied) {
        "look at the token, and at what it may do"
    } else if is(ErrorKind::Input) {
        "what was put in is at fault: a file, or a program that signs"
    } else if ErrorKind::ALL
        .iter()
        .any(|known| is(*known) && is_server_away(*known))
    {
        "the server was away: run it again"
    } else {
        "see the messages"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_one_record_to_the_next_is_left_out() {
        for (message, common) in [
            ("invalid: `oops` is not a CID", "invalid: `…` is not a CID"),
            (
                "not found: baeareid2 at column 17.",
                "not found: … at column ….",
            ),
            (
                r#"invalid: Some("a b") is no name"#,
                r#"invalid: Some("…") is no name"#,
            ),
            ("no schema_version", "no schema_version"),
            ("äöü: nein 33", "äöü: nein …"),
            (
                "text in UTF-8, version 7.7.7",
                "text in UTF-8, version 7.7.7",
            ),
            ("an \"open one", "an \""),
        ] {
            assert_eq!(in_common(message), common);
        }
    }
}
