//! What is decided before a run begins: the operation, its options, and the items.

use std::sync::Arc;
use std::time::Duration;

use agntcy_dir_stream::{CircuitBreaker, Options, Retry};
use arbitrary::{Arbitrary, Result, Unstructured};
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use tokio::time::sleep;

use crate::known::MOST_ITEMS;
use crate::support::clock::SECOND;

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
pub(super) enum Operation {
    Push,
    Pull,
    Lookup,
    Delete,
}

#[derive(Debug)]
pub(super) struct Case {
    pub(super) operation: Operation,
    /// The number of the record of each item.
    pub(super) numbers: Vec<usize>,
    pub(super) window: usize,
    pub(super) lanes: usize,
    in_flight: Option<(usize, usize)>,
    pub(super) unordered: bool,
    dedup: bool,
    skip_stored: bool,
    pub(super) retries: bool,
    pub(super) tries: u32,
    pub(super) time: Duration,
    /// Between tries, the first and the longest.
    pub(super) waits: (Duration, Duration),
    stall_after: Option<Duration>,
    idle_close: Option<Duration>,
    max_call_age: Option<Duration>,
    pub(super) breaker: Option<(u32, Option<Duration>)>,
    /// How long the input takes for each fifth item.
    pub(super) pause: Duration,
    /// How long the transport takes to open a call.
    pub(super) opens_after: Duration,
    /// Which numbers the server refuses, or does not have.
    bad: u16,
    /// Which records have no data.
    invalid: u16,
    /// Which the server of a push has before.
    stored: u16,
    pub(super) seed: u8,
}

impl Case {
    pub(super) fn of(choices: &mut Unstructured<'_>) -> Result<Self> {
        let operation = choices.arbitrary()?;
        let items = choices.int_in_range(0..=MOST_ITEMS)?;
        let has_duplicates = choices.ratio(1, 4)?;
        let most = if has_duplicates {
            items.div_ceil(2)
        } else {
            items
        };
        let numbers = (0..items).map(|place| place % most.max(1)).collect();
        let millis = |choices: &mut Unstructured<'_>, some: &[u64]| -> Result<Duration> {
            choices
                .choose(some)
                .map(|millis| Duration::from_millis(*millis))
        };
        let or_none =
            |choices: &mut Unstructured<'_>, default: Duration| -> Result<Option<Duration>> {
                Ok(match choices.int_in_range(0..=6)? {
                    0 => Some(Duration::ZERO),
                    1 => Some(Duration::from_millis(1)),
                    2 => Some(SECOND),
                    3 => None,
                    _ => Some(default),
                })
            };
        let mut case = Self {
            operation,
            numbers,
            window: *choices.choose(&[1000, 1, 2, 3, 8, 30])?,
            lanes: *choices.choose(&[1, 1, 1, 2, 3, 8])?,
            in_flight: *choices.choose(&[
                None,
                None,
                None,
                Some((1, 1)),
                Some((1000, 1)),
                Some((1, 4)),
            ])?,
            unordered: choices.ratio(1, 3)?,
            dedup: choices.ratio(3, 4)?,
            skip_stored: choices.ratio(1, 4)?,
            retries: choices.ratio(7, 8)?,
            tries: choices.int_in_range(1..=5)?,
            time: *choices.choose(&[
                Retry::DEFAULT_TIMEOUT,
                30 * SECOND,
                SECOND,
                Duration::from_millis(1),
                Duration::ZERO,
            ])?,
            waits: *choices.choose(&[
                (Retry::DEFAULT_MIN_BACKOFF, Retry::DEFAULT_MAX_BACKOFF),
                (SECOND, 60 * SECOND),
                (Duration::ZERO, Duration::ZERO),
            ])?,
            stall_after: or_none(choices, Options::DEFAULT_STALL_AFTER)?
                .filter(|time| !time.is_zero()),
            idle_close: or_none(choices, Options::DEFAULT_IDLE_CLOSE)?,
            max_call_age: or_none(choices, Options::DEFAULT_MAX_CALL_AGE)?,
            breaker: match choices.int_in_range(0..=4)? {
                0 => None,
                1 => Some((1, Some(SECOND))),
                2 => Some((3, None)),
                _ => Some((3, Some(CircuitBreaker::DEFAULT_GIVE_UP_AFTER))),
            },
            pause: millis(choices, &[0, 0, 0, 1_000, 100_000])?,
            opens_after: millis(choices, &[0, 0, 0, 1, 50])?,
            bad: 0,
            invalid: 0,
            stored: 0,
            seed: choices.arbitrary()?,
        };
        // Without waits, two minutes for each of forty items are tens of thousands of calls.
        if case.waits.0.is_zero() {
            case.time = case.time.min(SECOND);
        }
        if choices.ratio(1, 2)? {
            case.bad = choices.arbitrary()?;
        }
        if operation == Operation::Push && choices.ratio(1, 4)? {
            (case.invalid, case.stored) = choices.arbitrary()?;
            case.bad &= !case.stored;
        }
        Ok(case)
    }

    pub(super) fn options(&self) -> Options {
        let retry = if self.retries {
            Retry::new()
        } else {
            Retry::off()
        };
        let retry = retry
            .max_attempts(self.tries)
            .timeout(self.time)
            .backoff(self.waits.0, self.waits.1);
        let options = match self.in_flight {
            None => Options::new(),
            Some((least, most)) => Options::new().in_flight(least, most),
        };
        options
            .window(self.window)
            .calls(self.lanes)
            .unordered(self.unordered)
            .dedup(self.dedup)
            .skip_stored(self.skip_stored)
            .retry(retry)
            .stall_after(self.stall_after)
            .idle_close(self.idle_close)
            .max_call_age(self.max_call_age)
    }

    /// The items, with their places as tags.
    pub(super) fn input<I: Send + 'static>(
        self: &Arc<Self>,
        item: impl Fn(usize) -> I + Send + 'static,
    ) -> BoxStream<'static, (I, usize)> {
        let case = Arc::clone(self);
        let items = (0..self.numbers.len()).map(move |place| (item(case.numbers[place]), place));
        let pause = self.pause;
        let items = stream::iter(items).then(move |item| async move {
            if item.1 % 5 == 3 && !pause.is_zero() {
                sleep(pause).await;
            }
            item
        });
        items.boxed()
    }

    pub(super) fn is_bad(&self, number: usize) -> bool {
        self.bad >> (number % 16) & 1 == 1
    }

    pub(super) fn is_invalid(&self, number: usize) -> bool {
        self.invalid >> (number % 16) & 1 == 1
    }

    /// Whether the server has it at the beginning.
    pub(super) fn is_there(&self, number: usize) -> bool {
        match self.operation {
            Operation::Push => self.stored >> (number % 16) & 1 == 1,
            _ => !self.is_bad(number),
        }
    }

    /// Whether no other item has this one's record.
    pub(super) fn is_unique(&self, number: usize) -> bool {
        self.numbers
            .iter()
            .filter(|other| **other == number)
            .count()
            == 1
    }

    /// The longest that the results can take: each item has its time. While the breaker is open one is taken after
    /// the other, else a window.
    pub(super) fn longest(&self) -> Duration {
        let rounds = match self.breaker {
            Some(_) if self.retries => self.numbers.len(),
            _ => self.numbers.len().div_ceil(self.window),
        };
        let pauses = self.pause * self.numbers.len() as u32;
        self.time * rounds as u32 + pauses
    }
}
