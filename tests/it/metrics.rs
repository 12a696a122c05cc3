//! What the recorder of the `metrics` crate is told.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use ::metrics;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Store};
use agntcy_dir_stream::{ErrorKind, Retry, Stats, Token, describe_metrics};
use futures::{FutureExt as _, StreamExt as _, stream};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshot};
use proptest::prelude::*;

use crate::support::clock::{in_a_week, on_paused_clock};
use crate::support::ends::{Ended, ended};
use crate::support::polling::{assert_pending, next};
use crate::support::properties::cases;
use crate::support::records::{nameless, record, records};
use crate::support::stores::slow_down;

/// What was told while `what` ran under a paused clock: by name and labels, without that of the operation.
fn told<F: Future>(what: F) -> (BTreeMap<String, DebugValue>, F::Output) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let output = metrics::with_local_recorder(&recorder, || {
        describe_metrics();
        on_paused_clock(in_a_week(what))
    });
    (by_name(snapshotter.snapshot()), output)
}

fn by_name(snapshot: Snapshot) -> BTreeMap<String, DebugValue> {
    let entries = snapshot.into_vec().into_iter();
    let named = entries.map(|(key, unit, description, value)| {
        let key = key.key();
        assert!(
            unit.is_some() && description.is_some(),
            "{key} is not described"
        );
        let labels = key
            .labels()
            .map(|label| format!(" {}={}", label.key(), label.value()));
        (
            format!("{}{}", key.name(), labels.collect::<String>()),
            value,
        )
    });
    named.collect()
}

#[track_caller]
fn count(told: &BTreeMap<String, DebugValue>, name: &str) -> u64 {
    match told.get(name) {
        Some(DebugValue::Counter(count)) => *count,
        other => panic!("{name}: {other:?} in {told:#?}"),
    }
}

#[track_caller]
fn level(told: &BTreeMap<String, DebugValue>, name: &str) -> f64 {
    match told.get(name) {
        Some(DebugValue::Gauge(level)) => **level,
        other => panic!("{name}: {other:?} in {told:#?}"),
    }
}

#[track_caller]
fn times(told: &BTreeMap<String, DebugValue>, name: &str) -> Vec<f64> {
    match told.get(name) {
        Some(DebugValue::Histogram(times)) => times.iter().map(|time| **time).collect(),
        other => panic!("{name}: {other:?} in {told:#?}"),
    }
}

/// A push in which a call breaks, with records that are refused and one that is stored already.
async fn troubled() -> Stats {
    let store = Store::new();
    slow_down(&store, Duration::from_millis(5));
    store.insert(record(3)).unwrap();
    store.inject(Fault::no_connection());
    let records = (0..100).map(|number| {
        if number % 25 == 7 {
            nameless(number)
        } else {
            record(number)
        }
    });
    let options = Options::new().window(20);
    let mut results = stream::iter(records).push_to_with(&store.client(), &options);
    for _ in 0..50 {
        let _ = results.next().await.unwrap();
    }
    store.inject(Fault::cut_after());
    results.finish().await.stats
}

#[test]
fn the_counts_are_those_of_the_stats() {
    let (told, stats) = told(troubled());
    let push = |name: &str| count(&told, &format!("dir_stream.{name} operation=push"));
    for (name, expected) in [
        ("records", None),
        ("requests", Some(stats.sent)),
        ("resends", Some(stats.resent)),
        ("bytes.sent", Some(stats.bytes_sent)),
        ("bytes.received", Some(stats.bytes_received)),
        ("calls", Some(stats.calls)),
        ("faults", Some(stats.faults)),
    ] {
        match expected {
            Some(expected) => assert_eq!(push(name), expected, "{name}"),
            // Each outcome has a count of its own.
            None => assert!(!told.contains_key("dir_stream.records operation=push")),
        }
    }
    let outcome = |outcome| {
        count(
            &told,
            &format!("dir_stream.records operation=push outcome={outcome}"),
        )
    };
    assert_eq!(
        (
            outcome("ok") + outcome("already_stored"),
            outcome("rejected")
        ),
        (96, 4)
    );
    assert_eq!(outcome("already_stored"), stats.already_stored);
    assert!(
        stats.already_stored >= 1 && stats.resent > 0 && stats.faults >= 1,
        "{stats}"
    );
    assert!(
        stats.bytes_sent > 96 * 50 && stats.bytes_received > 96 * 50,
        "{stats:?}"
    );
    assert_eq!(level(&told, "dir_stream.in_window operation=push"), 0.0);
    assert_eq!(level(&told, "dir_stream.in_flight operation=push"), 0.0);
}

/// As `try_for_each` does at the first error.
#[test]
fn what_was_counted_before_an_adapter_is_dropped_is_told() {
    let (told, ()) = told(async {
        let records = stream::iter([record(0), record(1), nameless(2), record(3)]);
        let results = records.push_to(&Store::new().client());
        let seen: Vec<_> = results.take(3).collect().await;
        assert!(seen[2].is_err());
    });
    let outcome = |outcome| {
        count(
            &told,
            &format!("dir_stream.records operation=push outcome={outcome}"),
        )
    };
    assert_eq!((outcome("ok"), outcome("rejected")), (2, 1));
    assert_eq!(level(&told, "dir_stream.in_window operation=push"), 0.0);
}

#[test]
fn gauges_are_up_while_an_adapter_works_and_down_when_it_is_dropped() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let name = |what: &str| format!("dir_stream.{what} operation=push");
    let look = || {
        let entries = snapshotter.snapshot().into_vec().into_iter();
        let named = entries.map(|(key, _, _, value)| {
            let key = key.key();
            let labels = key
                .labels()
                .map(|label| format!(" {}={}", label.key(), label.value()));
            (
                format!("{}{}", key.name(), labels.collect::<String>()),
                value,
            )
        });
        named.collect::<BTreeMap<_, _>>()
    };
    metrics::with_local_recorder(&recorder, || {
        on_paused_clock(async {
            let store = Store::new();
            store.inject(Fault::stall().times(u64::MAX));
            let client = store.client();
            let mut adapters: Vec<_> = (0..2)
                .map(|_| records(10).chain(stream::pending()).push_to(&client))
                .collect();
            for adapter in &mut adapters {
                assert_pending(adapter);
            }
            while store.calls().len() < 2 {
                tokio::task::yield_now().await;
                adapters.iter_mut().for_each(assert_pending);
            }
            // A look begins at zero again.
            let assert_changed = |by: f64| {
                let changed = look();
                for what in ["in_window", "in_flight"] {
                    assert_eq!(level(&changed, &name(what)), by, "{what}");
                }
            };
            assert_changed(20.0);
            adapters.pop();
            assert_changed(-10.0);
            drop(adapters);
            assert_changed(-10.0);
        });
    });
}

#[test]
fn the_times_of_a_record_and_of_its_call_are_told() {
    let (told, ()) = told(async {
        let store = Store::new();
        slow_down(&store, Duration::from_millis(100));
        let summary = records(10)
            .push_to_with(&store.client(), &Options::new().window(1))
            .finish()
            .await;
        assert_eq!(summary.stats.succeeded, 10);
    });
    let flights = times(&told, "dir_stream.flight.duration operation=push");
    assert_eq!(flights.len(), 10);
    assert!(
        flights.iter().all(|flight| (0.1..0.11).contains(flight)),
        "{flights:?}"
    );
    let queued = times(&told, "dir_stream.queue.duration operation=push");
    assert_eq!(queued.len(), 10);
    assert!(queued.iter().all(|time| *time < 0.01), "{queued:?}");
    let calls = times(
        &told,
        "rpc.client.call.duration rpc.system.name=grpc rpc.method=agntcy.dir.store.v1.StoreService/Push \
         rpc.response.status_code=OK server.address=store.in.memory",
    );
    assert_eq!(calls.len(), 1);
    assert!((1.0..1.1).contains(&calls[0]), "{calls:?}");
}

#[test]
fn an_open_circuit_and_new_tokens_are_told() {
    let (told, ()) = told(async {
        let store = Store::builder().authorize(|token| token == "2").build();
        let number = std::sync::atomic::AtomicUsize::new(1);
        let token = Token::from_fn(move || {
            let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::future::ready(Ok::<_, std::io::Error>(number.to_string()))
        });
        let client = store.client().with_token(token).unwrap();
        client.push(record(1)).await.unwrap();
        store.inject(Fault::no_connection().times(u64::MAX));
        let away = store.client();
        let mut results = records(3).push_to(&away);
        let handle = results.handle();
        while !handle.stats().circuit_open {
            assert!(results.next().now_or_never().is_none());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_pending(&mut results);
    });
    assert_eq!(count(&told, "dir_stream.tokens source=function"), 2);
    assert_eq!(
        level(
            &told,
            "dir_stream.circuit.open server.address=store.in.memory"
        ),
        1.0
    );
}

/// Acts when it is asked for the gauge of a circuit.
struct ActsAtCircuit {
    told: DebuggingRecorder,
    act: Cell<Option<Box<dyn FnOnce()>>>,
}

impl Recorder for ActsAtCircuit {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.told.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        if key.name() == "dir_stream.circuit.open" {
            let act = self.act.take();
            act.into_iter().for_each(|act| act());
        }
        self.told.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.told.register_histogram(key, metadata)
    }
}

/// What the second adapter has seen of it is no longer so when it is told.
#[test]
fn the_gauge_of_a_circuit_is_true_when_an_adapter_begins_as_it_closes() {
    let told = DebuggingRecorder::new();
    let snapshotter = told.snapshotter();
    let recorder = ActsAtCircuit {
        told,
        act: Cell::default(),
    };
    metrics::with_local_recorder(&recorder, || {
        on_paused_clock(async {
            let store = Store::new();
            store.inject(Fault::no_connection().times(3));
            let client = store.client();
            let wait = Duration::from_millis(50);
            let options = Options::new().retry(Retry::new().backoff(wait, wait));
            let mut first = records(1)
                .chain(stream::pending())
                .push_to_with(&client, &options);
            let handle = first.handle();
            while store.calls().iter().all(|call| call.answers == 0) {
                assert_pending(&mut first);
                tokio::time::sleep(wait).await;
            }
            assert!(handle.stats().circuit_open, "its answer is not taken yet");
            let closes = move || {
                next(&mut first).unwrap();
            };
            recorder.act.set(Some(Box::new(closes)));
            assert_pending(&mut stream::pending::<Record>().push_to(&client));
            assert!(!handle.stats().circuit_open);
        });
    });
    let entries = snapshotter.snapshot().into_vec().into_iter();
    let mut circuits = entries.filter(|entry| entry.0.key().name() == "dir_stream.circuit.open");
    let (_, _, _, level) = circuits.next().unwrap();
    assert_eq!(level, DebugValue::Gauge(0.0.into()));
}

fn counts_as_its_stats(ended: &Ended) {
    let (told, stats) = told(ended.run());
    let operation = ended.job.name();
    // Nothing is told of what there was none of.
    let of = |what: String| match told.get(&format!("dir_stream.{what}")) {
        None => 0,
        Some(DebugValue::Counter(count)) => *count,
        other => panic!("{what}: {other:?}"),
    };
    let count = |name: &str| of(format!("{name} operation={operation}"));
    let outcome = |outcome: &str| of(format!("records operation={operation} outcome={outcome}"));
    // Requests that a call gives back count, and are not sent.
    assert!(count("requests") >= stats.sent, "{stats}");
    assert_eq!(count("resends"), stats.resent);
    assert_eq!(count("bytes.sent"), stats.bytes_sent);
    assert_eq!(count("bytes.received"), stats.bytes_received);
    assert_eq!(count("calls"), stats.calls);
    assert_eq!(count("faults"), stats.faults);
    assert_eq!(outcome("ok"), stats.succeeded - stats.already_stored);
    assert_eq!(outcome("already_stored"), stats.already_stored);
    for kind in ErrorKind::ALL {
        assert_eq!(outcome(kind.as_str()), stats.failed_as(*kind), "{kind:?}");
    }
    for name in ["in_window", "in_flight"] {
        let name = format!("dir_stream.{name} operation={operation}");
        let is_zero = told
            .get(&name)
            .is_none_or(|level| *level == DebugValue::Gauge(0.0.into()));
        assert!(is_zero, "{name}: {told:#?}");
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn whatever_its_end_the_counts_are_those_of_the_stats(ended in ended()) {
        counts_as_its_stats(&ended);
    }
}
