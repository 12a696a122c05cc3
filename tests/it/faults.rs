//! Whatever goes wrong, in whatever order: each item has one result, and it is true. Random
//! schedules of all the faults that the embedded store can make, for each operation, under a
//! paused clock.

mod publishing;
mod referrers;

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{AlreadyStored, End, Fault, Method, Store};
use agntcy_dir_stream::{CircuitBreaker, Code, ErrorKind, Failed, Retry, Stats, Status};
use futures::{Stream, StreamExt, stream};
use proptest::prelude::*;
use tokio::time::Instant;

use crate::support::clock::{in_a_week, on_paused_clock};
use crate::support::properties::cases;
use crate::support::records::{cid, nameless, record, records};
use crate::support::results::{Seen, read_all};

/// What an input item is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Item {
    /// A record to be stored, or one that is there.
    Good,
    /// For a push, a record that is there before.
    Stored,
    /// A record that the store refuses, or a ref to nothing.
    Bad,
    /// What is found before it is sent.
    Invalid,
    /// The same as the one before it; the first one is good.
    Same,
}

/// What a fault is, in a form that can be shown and shrunk.
#[derive(Clone, Debug)]
struct Planned {
    what: What,
    /// Call and place.
    at: Option<(u64, u64)>,
    /// The number of a record.
    of: Option<usize>,
    times: u64,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Cut,
    CutAfter,
    NoConnection,
    End,
    GoAway,
    Stall,
    Spare,
    Wrong,
    Delay,
    Unavailable,
    Exhausted,
    Internal,
    Refused,
}

impl Planned {
    fn fault(&self) -> Fault {
        let mut fault = match self.what {
            What::Cut => Fault::cut(),
            What::CutAfter => Fault::cut_after(),
            What::NoConnection => Fault::no_connection(),
            What::End => Fault::end(),
            What::GoAway => Fault::go_away(),
            What::Stall => Fault::stall(),
            What::Spare => Fault::spare_answer(),
            What::Wrong => Fault::wrong_answer(),
            What::Delay => Fault::delay(Duration::from_secs(7)),
            What::Unavailable => Fault::status(Status::unavailable("fault")),
            What::Exhausted => Fault::status(Status::resource_exhausted("fault")),
            What::Internal => Fault::status(Status::internal("fault")),
            What::Refused => Fault::status(Status::invalid_argument("fault")),
        };
        if let Some((call, place)) = self.at {
            fault = fault.in_call(call).at(place);
        }
        if let Some(number) = self.of {
            fault = fault.of(cid(&record(number)));
        }
        fault.times(self.times)
    }

    /// Whether it makes the store say what is not so.
    fn lies(&self) -> bool {
        matches!(self.what, What::Wrong | What::Spare)
    }

    /// Whether it is answered twice, so that what is said next seems to be of the item behind.
    fn is_out_of_step(&self) -> bool {
        matches!(self.what, What::Spare)
    }

    fn refuses(&self) -> bool {
        matches!(self.what, What::Refused | What::Internal)
    }
}

#[derive(Clone, Debug)]
struct Case {
    items: Vec<Item>,
    faults: Vec<Planned>,
    window: usize,
    tries: u32,
    retries: bool,
    unordered: bool,
    breaker: u32,
    time: u64,
    already: bool,
    /// Whether a push leaves out what is stored, and whether one of the same outcome is enough.
    skip_stored: bool,
    dedup: bool,
    /// How many calls are wanted, over how many nodes and connections to each, and how many the server
    /// allows on one.
    calls: (usize, usize, usize, u32),
    /// How many a call may have in flight, and how many calls may be opened a second.
    in_flight: Option<(usize, usize)>,
    rate: Option<u32>,
    /// Seconds for which the consumer works on each result, and the input on each item.
    pauses: (u64, u64),
}

fn planned() -> impl Strategy<Value = Planned> {
    let what = prop_oneof![
        3 => Just(What::Cut),
        3 => Just(What::CutAfter),
        1 => Just(What::NoConnection),
        1 => Just(What::End),
        1 => Just(What::GoAway),
        1 => Just(What::Stall),
        1 => Just(What::Spare),
        1 => Just(What::Wrong),
        1 => Just(What::Delay),
        1 => Just(What::Unavailable),
        1 => Just(What::Exhausted),
        2 => Just(What::Internal),
        1 => Just(What::Refused),
    ];
    let at = prop::option::weighted(0.7, (0u64..6, 0u64..8));
    let of = prop::option::weighted(0.3, 0usize..24);
    (what, at, of, 1u64..8).prop_map(|(what, at, of, times)| Planned {
        what,
        at,
        of,
        times,
    })
}

fn case() -> impl Strategy<Value = Case> {
    let item = prop_oneof![
        6 => Just(Item::Good),
        1 => Just(Item::Stored),
        1 => Just(Item::Bad),
        1 => Just(Item::Invalid),
        2 => Just(Item::Same),
    ];
    (
        prop::collection::vec(item, 0..24),
        prop::collection::vec(planned(), 0..5),
        prop_oneof![Just(1usize), 2usize..12, Just(1000)],
        (1u32..6, prop::bool::weighted(0.9), any::<bool>()),
        prop_oneof![Just(0u32), 1u32..5],
        prop_oneof![4 => Just(3_600u64), 1 => 1u64..20],
        (any::<bool>(), any::<bool>(), prop::bool::weighted(0.8)),
        prop_oneof![
            2 => Just((1usize, 1usize, 1usize, 1000u32)),
            1 => (1usize..9, 1usize..3, 1usize..4, 1u32..4),
            1 => (2usize..9, 1usize..3, 1usize..4, Just(1000u32)),
        ],
        (
            prop::option::weighted(0.3, (1usize..6, 1usize..6)),
            prop::option::weighted(0.2, prop_oneof![Just(1u32), Just(20)]),
        ),
        (prop_oneof![3 => Just(0u64), 1 => 1u64..30], 0u64..2),
    )
        .prop_map(
            |(
                items,
                faults,
                window,
                (tries, retries, unordered),
                breaker,
                time,
                (already, skip_stored, dedup),
                calls,
                (in_flight, rate),
                pauses,
            )| {
                Case {
                    items,
                    faults,
                    window,
                    tries,
                    retries,
                    unordered,
                    breaker,
                    time,
                    already,
                    skip_stored,
                    dedup,
                    calls,
                    in_flight,
                    rate,
                    pauses,
                }
            },
        )
}

impl Case {
    /// What this item is the same as.
    fn first(&self, number: usize) -> usize {
        let others = self.items[..=number]
            .iter()
            .rposition(|item| *item != Item::Same);
        others.unwrap_or(0)
    }

    /// Whether these are two, and the same.
    fn is_same(&self, one: usize, other: usize) -> bool {
        one != other && self.first(one) == self.first(other)
    }

    fn has_same(&self, number: usize) -> bool {
        (0..self.items.len()).any(|other| self.is_same(number, other))
    }

    fn item(&self, number: usize) -> Item {
        match self.items[self.first(number)] {
            Item::Same => Item::Good,
            item => item,
        }
    }

    fn record(&self, number: usize) -> Record {
        let first = self.first(number);
        match self.item(number) {
            Item::Bad => nameless(first),
            Item::Invalid => Record::default(),
            _ => record(first),
        }
    }

    fn text(&self, number: usize) -> String {
        match self.item(number) {
            Item::Invalid => "oops".to_owned(),
            _ => cid(&self.record(number)).to_string(),
        }
    }

    fn options(&self) -> Options {
        let retry = Retry::new()
            .max_attempts(self.tries)
            .timeout(Duration::from_secs(self.time));
        let options = match self.in_flight {
            None => Options::new(),
            Some((least, most)) => Options::new().in_flight(least, most),
        };
        options
            .window(self.window)
            .retry(if self.retries { retry } else { Retry::off() })
            .stall_after(Some(Duration::from_secs(5)))
            .unordered(self.unordered)
            .skip_stored(self.skip_stored)
            .dedup(self.dedup)
            .calls(self.calls.0)
    }

    /// The store with its faults, and a client of it.
    fn stage(&self, is_push: bool) -> (Store, Client) {
        let store = self.store(is_push);
        let client = self.client_of(&store);
        (store, client)
    }

    /// Has the faults happen from now on. Returns a client.
    fn client_of(&self, store: &Store) -> Client {
        for fault in &self.faults {
            store.inject(fault.fault());
        }
        let (_, nodes, connections, _) = self.calls;
        // All of the same store.
        let nodes = (0..nodes).map(|_| store.client());
        let client = nodes.reduce(Client::with_nodes_of).unwrap();
        let client = client.with_connections(connections);
        // Where there is little time, a rate may be all that it takes to run out of it.
        let client = match self.rate.filter(|_| self.time > 1_000) {
            None => client,
            Some(rate) => client.with_call_rate(rate),
        };
        client.with_breaker(self.breaker())
    }

    fn breaker(&self) -> CircuitBreaker {
        match self.breaker {
            0 => CircuitBreaker::off(),
            threshold => CircuitBreaker::new().threshold(threshold),
        }
    }

    /// What the store holds before: for a push what is stored already, else all that is good.
    fn store(&self, is_push: bool) -> Store {
        let already = match self.already {
            true => AlreadyStored::Error,
            false => AlreadyStored::Ref,
        };
        let store = Store::builder()
            .already_stored(already)
            .max_calls(self.calls.3)
            .build();
        for number in 0..self.items.len() {
            let item = self.item(number);
            if item == Item::Stored || item == Item::Good && !is_push {
                store.insert(self.record(number)).unwrap();
            }
        }
        store
    }

    fn input<I>(&self, item: impl Fn(usize) -> I) -> impl Stream<Item = (I, usize)> {
        let pause = Duration::from_secs(self.pauses.1);
        stream::iter(0..self.items.len()).then(move |number| {
            let item = (item(number), number);
            async move {
                if number % 5 == 3 {
                    tokio::time::sleep(pause).await;
                }
                item
            }
        })
    }

    fn has(&self, is: impl Fn(&Planned) -> bool) -> bool {
        self.faults.iter().any(is)
    }
}

/// Runs a stream of results to its end, with pauses.
async fn run<S, I>(
    case: &Case,
    results: impl Stream<Item = Result<S, Failed<I, usize>>> + Unpin,
    tag: impl Fn(&S) -> (u64, usize),
) -> Vec<Seen<S>> {
    let pause = Duration::from_secs(case.pauses.0);
    read_all(results, tag, async |_| {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    })
    .await
}

/// What holds for every operation.
fn check<S>(case: &Case, seen: &mut [Seen<S>], stats: &Stats, store: &Store, method: Method) {
    if !case.unordered {
        assert!(seen.is_sorted_by_key(|(index, _, _)| *index), "input order");
    }
    seen.sort_by_key(|(index, _, _)| *index);
    assert_eq!(seen.len(), case.items.len(), "one result for each item");
    for (place, (index, number, result)) in seen.iter().enumerate() {
        assert_eq!((*index, *number), (place as u64, place));
        let item = case.item(place);
        match result {
            Ok(_) => assert!(item != Item::Invalid, "{place}"),
            Err((kind, attempts)) => {
                assert_eq!(
                    item == Item::Invalid,
                    *kind == ErrorKind::Invalid,
                    "{place}"
                );
                if matches!(kind, ErrorKind::Invalid | ErrorKind::NotSent) {
                    assert_eq!(*attempts, 0, "{place}: {kind}");
                }
                if case.faults.is_empty() && case.time > 1_000 && case.retries {
                    assert!(
                        item == Item::Bad || item == Item::Invalid,
                        "{place}: {kind}"
                    );
                }
            }
        }
    }
    let succeeded = seen.iter().filter(|(_, _, result)| result.is_ok()).count();
    assert_eq!(stats.succeeded, succeeded as u64);
    assert_eq!(stats.failed, (seen.len() - succeeded) as u64);
    assert_eq!(stats.taken, seen.len() as u64);
    let has_no_answer = |(_, _, result): &Seen<S>| match result {
        Ok(_) => false,
        Err((kind, _)) => matches!(
            kind,
            ErrorKind::NotSent
                | ErrorKind::OutcomeUnknown
                | ErrorKind::Unavailable
                | ErrorKind::CircuitOpen
        ),
    };
    let answered_below = seen.iter().position(has_no_answer).unwrap_or(seen.len());
    assert_eq!(stats.answered_below, answered_below as u64);
    assert_eq!(stats.in_window, 0);
    // What is sent again was in a call that met a fault, or that the server ended at a record.
    let is_at_record = |end: &Option<End>| {
        matches!(end, Some(End::Status(code))
            if !matches!(code, Code::Unavailable | Code::ResourceExhausted))
    };
    let calls = store.calls();
    let calls = calls.iter().filter(|call| call.method == method);
    let ends = stats.faults + calls.filter(|call| is_at_record(&call.end)).count() as u64;
    let window = case.window.min(case.items.len()) as u64;
    assert!(
        stats.resent <= window * ends,
        "{} resent, in {ends} windows of {window}",
        stats.resent
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_told_to_go_away_costs_no_wait_and_no_try() {
    let store = Store::new();
    let client = store.client();
    for call in 0..5 {
        store.inject(Fault::go_away().in_call(call).at(3));
    }
    let start = Instant::now();
    let once = Retry::new().max_attempts(1);
    for _ in 0..5 {
        let records = records(10);
        let options = Options::new().window(2).retry(once.clone());
        let results: Vec<_> = in_a_week(records.push_to_with(&client, &options).collect()).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

/// The adapter's own timer ends each wait, whatever is waited for: under a paused clock, time that is
/// slept away for no reason shows.
#[tokio::test(start_paused = true)]
async fn waits_end_when_they_should() {
    let faults: [(&str, &[Fault]); 6] = [
        (
            "lost and away",
            &[Fault::cut_after().at(3), Fault::no_connection().times(2)],
        ),
        (
            "lost, and the lookup too",
            &[Fault::cut_after().at(3), Fault::cut().on(Method::Lookup)],
        ),
        ("away from the start", &[Fault::no_connection().times(4)]),
        (
            "internal twice",
            &[Fault::status(Status::internal("no"))
                .of(cid(&record(3)))
                .times(2)],
        ),
        ("breaks twice", &[Fault::cut().of(cid(&record(3))).times(2)]),
        (
            "exhausted",
            &[Fault::status(Status::resource_exhausted("no"))
                .at(3)
                .times(4)],
        ),
    ];
    for (what, faults) in faults {
        let store = Store::new();
        for fault in faults {
            store.inject(fault.clone());
        }
        let start = Instant::now();
        let results = records(10).push_to(&store.client()).collect::<Vec<_>>();
        let results = in_a_week(results).await;
        assert!(results.iter().all(Result::is_ok), "{what}: {results:?}");
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "{what}: {:?}",
            start.elapsed()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4_000, ..cases(2_500) })]

    #[test]
    fn every_push_has_a_true_result(case in case()) {
        on_paused_clock(async {
            let (store, client) = case.stage(true);
            let results = Box::pin(case.input(|number| case.record(number)))
                .push_to_with(&client, &case.options());
            let handle = results.handle();
            let mut seen = run(&case, results, |pushed| (pushed.index, pushed.tag)).await;
            check(&case, &mut seen, &handle.stats(), &store, Method::Push);
            // What became of those that are the same.
            let others: Vec<_> = seen
                .iter()
                .map(|(_, number, _)| {
                    let mut same = seen.iter().filter(|(_, other, _)| case.is_same(*number, *other));
                    same.any(|(_, _, result)| matches!(
                            result,
                            Ok(_) | Err((ErrorKind::OutcomeUnknown | ErrorKind::Mismatch, _))
                        ))
                })
                .collect();
            for ((_, number, result), other_may_be_there) in seen.into_iter().zip(others) {
                let record = case.record(number);
                let is_there = record.cid().is_ok_and(|cid| store.contains(&cid));
                // Another may have stored it before or behind this one.
                let was_there = case.item(number) == Item::Stored || is_there && other_may_be_there;
                match result {
                    Ok(pushed) => {
                        assert!(is_there, "{number} was acknowledged");
                        assert_eq!(pushed.cid, cid(&record));
                        if pushed.already_stored && !was_there {
                            assert!(case.has(|fault| !fault.refuses()), "no answer was lost");
                        }
                    }
                    Err((ErrorKind::Mismatch, _)) => assert!(case.has(Planned::lies)),
                    Err(_) if case.has(Planned::is_out_of_step) => {}
                    Err((ErrorKind::OutcomeUnknown, attempts)) => {
                        assert!(attempts > 0 || other_may_be_there);
                        // A server's own word has to fall on the lookup too.
                        let faults: u64 = case.faults.iter().map(|fault| fault.times).sum();
                        assert!(faults > 1 || case.has(|fault| !fault.refuses()),
                            "{number}: nothing hid the answer");
                    }
                    Err((kind @ (ErrorKind::Rejected | ErrorKind::ServerFailed), _)) => {
                        assert!(case.item(number) == Item::Bad || case.has(Planned::refuses)
                            || was_there && !case.retries, "{number}: {kind}");
                        assert_eq!(is_there, was_there, "{number}: {kind}");
                    }
                    Err((kind, _)) => assert_eq!(is_there, was_there, "{number}: {kind}"),
                }
            }
        });
    }

    #[test]
    fn every_pull_has_a_true_result(case in case()) {
        on_paused_clock(async {
            let (store, client) = case.stage(false);
            let results = Box::pin(case.input(|number| case.text(number)))
                .pull_from_with(&client, &case.options());
            let handle = results.handle();
            let mut seen = run(&case, results, |pulled| (pulled.index, pulled.tag)).await;
            check(&case, &mut seen, &handle.stats(), &store, Method::Pull);
            for (_, number, result) in seen {
                match result {
                    Ok(pulled) => assert_eq!(pulled.record, case.record(number)),
                    Err(_) if case.has(Planned::is_out_of_step) => {}
                    Err((ErrorKind::NotFound, _)) => assert_eq!(case.item(number), Item::Bad),
                    Err((ErrorKind::Mismatch, _)) => assert!(case.has(Planned::lies)),
                    Err((kind, _)) => assert_ne!(kind, ErrorKind::OutcomeUnknown, "a read changes nothing"),
                }
            }
        });
    }

    #[test]
    fn every_lookup_has_a_true_result(case in case()) {
        on_paused_clock(async {
            let (store, client) = case.stage(false);
            let results = Box::pin(case.input(|number| case.text(number)))
                .lookup_in_with(&client, &case.options());
            let handle = results.handle();
            let mut seen = run(&case, results, |found| (found.index, found.tag)).await;
            check(&case, &mut seen, &handle.stats(), &store, Method::Lookup);
            for (_, number, result) in seen {
                match result {
                    Ok(found) => assert_eq!(found.cid, cid(&case.record(number))),
                    Err(_) if case.has(Planned::is_out_of_step) => {}
                    Err((ErrorKind::NotFound, _)) => assert_eq!(case.item(number), Item::Bad),
                    Err((ErrorKind::Mismatch, _)) => assert!(case.has(Planned::lies)),
                    Err((kind, _)) => assert_ne!(kind, ErrorKind::OutcomeUnknown, "a read changes nothing"),
                }
            }
        });
    }

    #[test]
    fn every_delete_has_a_true_result(case in case()) {
        // A delete that is passed over looks like any other.
        let lies = |fault: &Planned| fault.lies() || matches!(fault.what, What::End);
        let case = Case {
            faults: case.faults.into_iter().filter(|fault| !lies(fault)).collect(),
            ..case
        };
        on_paused_clock(async {
            let (store, client) = case.stage(false);
            let results = Box::pin(case.input(|number| case.text(number)))
                .delete_from_with(&client, &case.options());
            let handle = results.handle();
            let mut seen = run(&case, results, |deleted| (deleted.index, deleted.tag)).await;
            check(&case, &mut seen, &handle.stats(), &store, Method::Delete);
            for (_, number, result) in seen {
                let is_there = case.record(number).cid().is_ok_and(|cid| store.contains(&cid));
                let was_there = matches!(case.item(number), Item::Good | Item::Stored);
                match result {
                    Ok(deleted) => {
                        assert!(!is_there, "{number} was acknowledged");
                        assert_eq!(deleted.cid, cid(&case.record(number)));
                    }
                    Err((ErrorKind::OutcomeUnknown, attempts)) => assert!(attempts > 0 && !case.faults.is_empty()),
                    Err((ErrorKind::Rejected | ErrorKind::ServerFailed, _)) => {
                        assert!(case.has(Planned::refuses));
                    }
                    // Another that is the same may have deleted it.
                    Err((kind, _)) => assert!(is_there == was_there || case.has_same(number), "{number}: {kind}"),
                }
            }
        });
    }
}
