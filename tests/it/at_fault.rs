//! A record that the server fails at each time, in words that tell nothing, is not an outage: it
//! gets its error, soon and for few calls, and the others are stored. An outage is waited for, and
//! costs no record its tries. Random shares of such records, under a paused clock.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{AlreadyStored, Fault, Method, Store, Validation};
use agntcy_dir_stream::{ErrorKind, Handle, Pulled, Pushed, Retry, Status};
use futures::stream;
use proptest::prelude::*;
use tokio::time::Instant;

use crate::support::clock::{in_a_week, on_paused_clock};
use crate::support::properties::cases;
use crate::support::records::{cid, record};
use crate::support::results::{Seen, read_all};
use crate::support::stores::VAGUE_WORDS;

const OUTAGE: Duration = Duration::from_secs(60);

/// How long the adapter may wait for each bad record, in all.
const WAIT_OF_ONE: Duration = Duration::from_millis(20);

/// How many requests the server may work on for each bad record, lookups among them.
const REQUESTS_OF_ONE: u32 = 16;

/// A timer goes off up to a millisecond late. Apart from that, a run without a bad record takes no paused time.
const TICKS: Duration = Duration::from_millis(5);

/// The adapter comes back so long after the end of an outage, at the latest.
const LATE: Duration = Duration::from_secs(10);

/// Of the first records so many may all be bad: a call begins with so many requests.
const BEGINNING: usize = 64;

/// Which records are bad, in input order.
#[derive(Clone)]
struct Records(Vec<bool>);

/// A dot for each good record and an `x` for each bad one.
impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signs = self.0.iter().map(|bad| if *bad { 'x' } else { '.' });
        f.write_str(&signs.collect::<String>())
    }
}

impl Records {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn bad(&self) -> u32 {
        self.0.iter().map(|bad| u32::from(*bad)).sum()
    }

    /// One bad record, or a share of them, at random places.
    fn scattered(len: usize, share: f64, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self((0..len).map(|_| rng.f64() < share).collect())
    }
}

#[derive(Clone, Debug)]
struct Case {
    records: Records,
    window: usize,
    calls: usize,
    unordered: bool,
    /// Whether the store answers to a record that it has with an error.
    already: bool,
    /// Whether the server fails at one try in ten, whatever the record.
    is_flaky: bool,
    /// After how many accepted records the server fails at all of them, for a minute.
    outage: Option<usize>,
    /// How long the server takes for a request.
    pace: Duration,
    /// Of what is random in the server and in the adapter.
    seed: u64,
}

/// Up to `most` records.
fn records(most: usize) -> impl Strategy<Value = Records> {
    let share = prop_oneof![Just(0.0), Just(0.01), Just(0.1), Just(0.5), Just(0.9)];
    let len = prop_oneof![3 => 0..=most / 5, 1 => 0..=most];
    let scattered = (share, len)
        .prop_flat_map(|(share, len)| prop::collection::vec(prop::bool::weighted(share), len));
    // How long runs of good and of bad ones are, at most.
    let runs = prop_oneof![Just((99, 1)), Just((90, 10)), Just((60, 60)), Just((7, 60)),];
    let runs = runs.prop_flat_map(|(good, bad): (usize, usize)| {
        prop::collection::vec((0..=good, 0..=bad), 0..5)
    });
    let runs = runs.prop_map(move |runs| {
        let runs = runs.into_iter();
        let flags = runs.flat_map(|(good, bad)| [vec![false; good], vec![true; bad]].concat());
        flags.take(most).collect()
    });
    prop_oneof![2 => scattered, 1 => runs].prop_map(Records)
}

fn case(most: usize) -> impl Strategy<Value = Case> {
    let window = prop_oneof![
        Just(1usize),
        Just(2),
        Just(5),
        Just(16),
        Just(17),
        Just(64),
        Just(1000),
    ];
    (
        records(most),
        window,
        prop_oneof![Just(1usize), Just(8)],
        (any::<bool>(), any::<bool>()),
        prop::bool::weighted(0.3),
        // Before a record was accepted, an outage cannot be told from bad records.
        prop::option::weighted(0.3, 1usize..50),
        prop_oneof![5 => Just(0), 1 => Just(5), 1 => Just(300), 1 => Just(1_200)],
        any::<u64>(),
    )
        .prop_map(
            |(records, window, calls, (unordered, already), is_flaky, outage, pace, seed)| Case {
                records,
                window,
                calls,
                unordered,
                already,
                is_flaky,
                outage,
                pace: Duration::from_millis(pace),
                seed,
            },
        )
}

/// A validator that fails at bad records each time, and at the others as the case says.
struct Validator {
    /// The CID of each record, and whether it is bad.
    records: std::collections::HashMap<Cid, (bool, u32)>,
    flaky: Option<fastrand::Rng>,
    /// How often in a row it may fail at a good record: five times would be a failure by right.
    most_in_a_row: u32,
    outage: Option<usize>,
    accepted: usize,
    down_until: Option<Instant>,
}

impl Validator {
    fn of(case: &Case) -> Self {
        let bad = case.records.0.iter().enumerate();
        let records = bad.map(|(number, bad)| (cid(&record(number)), (*bad, 0)));
        Self {
            records: records.collect(),
            flaky: case.is_flaky.then(|| fastrand::Rng::with_seed(case.seed)),
            // Its first and its last moment can each cost a record a try.
            most_in_a_row: if case.outage.is_some() { 1 } else { 3 },
            outage: case.outage,
            accepted: 0,
            down_until: None,
        }
    }

    fn validate(&mut self, record: &Record) -> Validation {
        if self.outage == Some(self.accepted) && self.down_until.is_none() {
            self.down_until = Some(Instant::now() + OUTAGE);
        }
        let fail = || Validation::Fail(VAGUE_WORDS.to_owned());
        if self.is_down() {
            return fail();
        }
        let (is_bad, in_a_row) = self.records.get_mut(&cid(record)).unwrap();
        let stumbles = self.flaky.as_mut().is_some_and(|rng| rng.u32(..10) == 0);
        if *is_bad {
            return fail();
        }
        if stumbles && *in_a_row < self.most_in_a_row {
            *in_a_row += 1;
            return fail();
        }
        *in_a_row = 0;
        self.accepted += 1;
        Validation::Pass
    }

    fn is_down(&self) -> bool {
        self.down_until.is_some_and(|until| Instant::now() < until)
    }
}

/// How a case went.
struct Run<S> {
    seen: Vec<Seen<S>>,
    /// All that was waited: a paused clock goes on only while everybody waits.
    waited: Duration,
    had_outage: bool,
    /// At which results, before any outage, the circuit was seen open.
    open_at: Vec<u64>,
}

impl Case {
    fn options(&self) -> Options {
        Options::new()
            .window(self.window)
            .calls(self.calls)
            .unordered(self.unordered)
            // A slow server may take more than the usual ten minutes for a window.
            .retry(Retry::new().timeout(Duration::MAX))
    }

    /// Whether one of the first records is good. If not, the adapter knows of nothing that the
    /// server takes, and all that it has in hand looks as in an outage.
    fn begins_well(&self) -> bool {
        let mut first = self.records.0.iter().take(self.window.min(BEGINNING));
        first.any(|bad| !*bad) || self.records.len() == 0
    }

    fn numbers(&self) -> std::ops::Range<usize> {
        0..self.records.len()
    }

    fn slow_down(&self, store: &Store, method: Method) {
        if !self.pace.is_zero() {
            for method in [method, Method::Lookup] {
                store.inject(Fault::delay(self.pace).on(method).times(u64::MAX));
            }
        }
    }

    async fn push(&self) -> (Store, Run<Pushed<usize>>) {
        fastrand::seed(self.seed);
        let validator = Arc::new(Mutex::new(Validator::of(self)));
        let store = Store::builder()
            .already_stored(match self.already {
                true => AlreadyStored::Error,
                false => AlreadyStored::Ref,
            })
            .validate({
                let validator = Arc::clone(&validator);
                move |record| validator.lock().unwrap().validate(record)
            })
            .build();
        self.slow_down(&store, Method::Push);
        let had_outage = || validator.lock().unwrap().down_until.is_some();
        let records = stream::iter(self.numbers().map(|number| (record(number), number)));
        let results = records.push_to_with(&store.client(), &self.options());
        let handle = results.handle();
        let run = read(
            results,
            |pushed| (pushed.index, pushed.tag),
            &handle,
            had_outage,
        );
        let run = run.await;
        (store, run)
    }

    async fn pull(&self) -> Run<Pulled<usize>> {
        fastrand::seed(self.seed);
        let store = Store::new();
        for number in self.numbers() {
            let cid = store.insert(record(number)).unwrap();
            if self.records.0[number] {
                let fault = Fault::status(Status::internal(VAGUE_WORDS)).on(Method::Pull);
                store.inject(fault.of(cid).times(u64::MAX));
            }
        }
        self.slow_down(&store, Method::Pull);
        let refs = stream::iter(self.numbers().map(|number| (cid(&record(number)), number)));
        let results = refs.pull_from_with(&store.client(), &self.options());
        let handle = results.handle();
        read(
            results,
            |pulled| (pulled.index, pulled.tag),
            &handle,
            || false,
        )
        .await
    }

    fn check<S>(&self, run: &Run<S>) {
        self.check_results(run);
        if !self.begins_well() || self.is_flaky {
            // A flaky server may fail by chance at the good ones of the beginning, and three times in
            // a row.
            return;
        }
        assert!(
            run.open_at.is_empty(),
            "bad records opened the circuit: it was open at the results of {:?}",
            run.open_at
        );
        if self.window < 16 {
            return;
        }
        let bad = self.records.bad();
        let waits =
            WAIT_OF_ONE * bad + self.pace * (self.records.len() as u32 + REQUESTS_OF_ONE * bad);
        let (what, most) = match run.had_outage {
            true => ("an outage and bad records", OUTAGE + LATE + waits),
            false => ("bad records", waits + TICKS),
        };
        assert!(
            run.waited <= most,
            "{:?} were waited for {} of {what}, {most:?} is the limit",
            run.waited,
            bad,
        );
    }

    /// Each record has one result, and the right one.
    fn check_results<S>(&self, run: &Run<S>) {
        let mut results: Vec<_> = run.seen.iter().collect();
        if !self.unordered {
            assert!(results.is_sorted_by_key(|(index, _, _)| *index), "order");
        }
        results.sort_by_key(|(index, _, _)| *index);
        assert_eq!(results.len(), self.records.len(), "one result for each");
        for (place, (index, number, result)) in results.into_iter().enumerate() {
            assert_eq!((*index, *number), (place as u64, place));
            let result = result.as_ref().map_err(|error| *error);
            match (self.records.0[place], result) {
                (false, Ok(_)) => {}
                (true, Err((ErrorKind::ServerFailed, attempts))) => {
                    assert!(attempts > 0, "{place}");
                }
                // As after any outage that does not end.
                (_, Err((ErrorKind::CircuitOpen, _))) if !self.begins_well() => {}
                (true, Ok(_)) => panic!("record {place} is bad, and succeeded"),
                (is_bad, Err((kind, attempts))) => {
                    let what = if is_bad { "bad" } else { "good" };
                    panic!("record {place} is {what}, and failed as {kind:?} in {attempts} calls");
                }
            }
        }
    }
}

async fn read<S, I>(
    results: impl futures::Stream<Item = Result<S, agntcy_dir_stream::Failed<I, usize>>> + Unpin,
    tag: impl Fn(&S) -> (u64, usize),
    handle: &Handle,
    had_outage: impl Fn() -> bool,
) -> Run<S> {
    let start = Instant::now();
    let mut open_at = Vec::new();
    let seen = read_all(results, tag, async |(index, _, _)| {
        if handle.stats().circuit_open && !had_outage() {
            open_at.push(*index);
        }
    });
    let seen = seen.await;
    Run {
        seen,
        waited: start.elapsed(),
        had_outage: had_outage(),
        open_at,
    }
}

/// What it costs to push records of which a share is bad.
#[derive(Clone, Copy, Debug)]
struct Cost {
    bad: u32,
    calls: u64,
    sent: u64,
    waited: Duration,
    /// By a real clock, both ends together: to be shown, not asserted.
    took: Duration,
}

fn cost(records: Records) -> Cost {
    let case = Case {
        records,
        window: 1024,
        calls: 1,
        unordered: false,
        already: true,
        is_flaky: false,
        outage: None,
        pace: Duration::ZERO,
        seed: 1,
    };
    on_paused_clock(async {
        fastrand::seed(case.seed);
        let validator = Mutex::new(Validator::of(&case));
        let store = Store::builder()
            .validate(move |record| validator.lock().unwrap().validate(record))
            .build();
        let start = Instant::now();
        let began = std::time::Instant::now();
        let records = stream::iter(case.numbers().map(record));
        let summary = in_a_week(records.push_to(&store.client()).finish()).await;
        let bad = case.records.bad();
        let waited = start.elapsed();
        assert_eq!(
            summary.stats.failed_as(ErrorKind::ServerFailed),
            u64::from(bad)
        );
        assert_eq!(store.len(), case.records.len() - bad as usize);
        Cost {
            bad,
            calls: summary.stats.calls,
            sent: summary.stats.sent,
            waited,
            took: began.elapsed(),
        }
    })
}

impl Cost {
    /// One call would do if none was bad.
    fn check_calls(&self) {
        assert!(
            self.calls <= 1 + 12 * u64::from(self.bad),
            "more than 12 calls for each bad record: {self:?}"
        );
    }
}

#[test]
fn half_of_a_thousand_records_bad_take_few_calls_and_no_time() {
    let cost = cost(Records::scattered(1_000, 0.5, 1));
    cost.check_calls();
    assert!(cost.waited < Duration::from_secs(10), "{cost:?}");
}

/// The table is shown with `--nocapture`.
#[test]
fn a_bad_record_takes_few_calls_whatever_the_share() {
    println!("300 records, of which bad | calls | a bad one | requests sent | waited | took");
    let shares = [0.01, 0.1, 0.5, 0.9];
    let costs = shares.map(|share| cost(Records::scattered(300, share, 1)));
    for cost in costs {
        let Cost {
            bad,
            calls,
            sent,
            waited,
            took,
        } = cost;
        let each = calls as f64 / f64::from(bad);
        println!("{bad:25} | {calls:5} | {each:9.1} | {sent:13} | {waited:6?} | {took:?}");
    }
    for cost in costs {
        assert!(cost.bad > 0);
        cost.check_calls();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 1_000, ..cases(120) })]

    #[test]
    fn a_bad_record_fails_alone_and_soon_in_a_push(case in case(200)) {
        on_paused_clock(async {
            let (store, run) = case.push().await;
            case.check(&run);
            for (_, number, result) in run.seen {
                let record = record(number);
                assert_eq!(store.contains(&cid(&record)), result.is_ok(), "{number} is stored");
                if let Ok(pushed) = result {
                    assert_eq!(pushed.cid, cid(&record));
                }
            }
        });
    }

    #[test]
    fn a_bad_record_fails_alone_and_soon_in_a_pull(case in case(60)) {
        // A store's faults know no time, and no chance.
        let case = Case { is_flaky: false, outage: None, ..case };
        on_paused_clock(async {
            let run = case.pull().await;
            case.check(&run);
            for (_, number, result) in run.seen {
                if let Ok(pulled) = result {
                    assert_eq!(pulled.record, record(number));
                }
            }
        });
    }
}
