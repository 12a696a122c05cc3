//! Every wait has an end, whatever options are combined, and a call ends as it should.

use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{End, Fault, Method, Store};
use agntcy_dir_stream::{Adapter, CircuitBreaker, ErrorKind, Retry};
use futures::channel::mpsc;
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, advance};
use tonic::Code;

use crate::support::clock::{SECOND, in_a_week, paused_runtime};
use crate::support::messages::framed;
use crate::support::peer::{PeerCall, scripted};
use crate::support::polling::{assert_ended, assert_pending, next, poll};
use crate::support::records::{cid, cids, record, records, sized};
use crate::support::results::kinds;
use crate::support::stores::{calls_of, slow_down, store_with};

/// Lets time pass second by second, and takes the results that come.
async fn results_in_seconds<S: Stream + Unpin>(results: &mut S, seconds: u32) -> Vec<S::Item> {
    let mut seen = Vec::new();
    for _ in 0..seconds {
        while let Poll::Ready(Some(result)) = poll(results) {
            seen.push(result);
        }
        advance(SECOND).await;
    }
    seen
}

/// The only item that the call was to carry was given up before the transport took it.
#[tokio::test(start_paused = true)]
async fn a_closed_call_that_has_carried_nothing_is_not_awaited_for_ever() {
    let (client, peer) = scripted();
    let client = client.with_breaker(CircuitBreaker::off());
    let options = Options::new().retry(Retry::new().timeout(30 * SECOND));
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to_with(&client, &options);
    records.unbounded_send(record(0)).unwrap();
    assert_pending(&mut results);
    let _never_read = peer.call();
    let failed = results_in_seconds(&mut results, 40).await;
    assert_eq!(kinds(&failed), [Some(ErrorKind::NotSent)]);
    // The call is idle for a minute, is closed, and has a minute to end. Then another takes over.
    results_in_seconds(&mut results, 130).await;
    for number in 1..20 {
        records.unbounded_send(record(number)).unwrap();
        results_in_seconds(&mut results, 1).await;
        let mut call = peer.call();
        assert_eq!(call.store_all(), 1);
        assert_eq!(next(&mut results).unwrap().index, number as u64);
        call.end(Code::Ok, "");
        results_in_seconds(&mut results, 1).await;
    }
}

/// The second call waits in the transport until the first has ended.
#[tokio::test(start_paused = true)]
async fn progress_begins_with_the_first_item_of_a_call() {
    let store = Store::builder().max_calls(1).build();
    slow_down(&store, Duration::from_millis(100));
    let options = Options::new()
        .calls(2)
        .max_call_age(Some(100 * SECOND))
        .window(64);
    let results = records(2_500).push_to_with(&store.client(), &options);
    let summary = in_a_week(results.finish()).await;
    assert_eq!(summary.stats.succeeded, 2_500, "{summary}");
    assert_eq!(summary.stats.faults, 0, "{summary}");
    let ends: Vec<_> = store.calls().iter().map(|call| call.end).collect();
    assert!(ends.iter().all(|end| *end == Some(End::Ok)), "{ends:?}");
}

/// A push whose only record so far is answered, its input, and its call.
fn push_with_one_answer(
    options: &Options,
) -> (
    Adapter<mpsc::UnboundedReceiver<Record>, impl Stream<Item = PushResult>>,
    mpsc::UnboundedSender<Record>,
    PeerCall,
) {
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to_with(&client, options);
    records.unbounded_send(record(0)).unwrap();
    assert_pending(&mut results);
    let mut call = peer.call();
    call.store_all();
    assert!(next(&mut results).is_ok());
    (results, records, call)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_quiet_closes_its_call_and_does_not_reset_it() {
    let options = Options::new().stall_after(Some(10 * SECOND));
    let (mut results, records, mut call) = push_with_one_answer(&options);
    assert!(results_in_seconds(&mut results, 20).await.is_empty());
    drop(records);
    assert!(results_in_seconds(&mut results, 4).await.is_empty());
    assert!(call.is_half_closed(), "it has four seconds to end by now");
    call.end(Code::Ok, "");
    assert_ended(&mut results);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_call_that_grows_old_is_closed_and_not_reset() {
    let options = Options::new()
        .stall_after(Some(10 * SECOND))
        .idle_close(None)
        .max_call_age(Some(60 * SECOND));
    let (mut results, _records, mut call) = push_with_one_answer(&options);
    while !call.is_half_closed() {
        assert!(!call.is_reset());
        assert!(results_in_seconds(&mut results, 1).await.is_empty());
    }
    results_in_seconds(&mut results, 8).await;
    assert!(call.is_half_closed(), "it has ten seconds to end");
    call.end(Code::Ok, "");
    assert_pending(&mut results);
    assert_eq!(results.stats().faults, 0);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_before_the_end_of_a_delete_does_not_count() {
    let (client, peer) = scripted();
    let mut results = cids(1_000).delete_from_with(&client, &Options::new().window(1_000));
    assert_pending(&mut results);
    let mut call = peer.call();
    let carried = call.refs().len();
    assert!((1..1_000).contains(&carried), "{carried}");
    assert!(!call.is_half_closed());
    call.answer(&());
    call.end(Code::Ok, "");
    assert!(poll(&mut results).is_pending(), "nothing is acknowledged");
    let mut deleted = 0;
    for _ in 0..3_000 {
        if let Some(mut call) = peer.try_call() {
            call.refs();
            if call.is_half_closed() {
                call.answer(&());
                call.end(Code::Ok, "");
            } else {
                // It has more to come.
                advance(SECOND).await;
                poll(&mut results).is_pending();
                call.refs();
                assert!(call.is_half_closed());
                call.answer(&());
                call.end(Code::Ok, "");
            }
        }
        match poll(&mut results) {
            Poll::Ready(Some(result)) => {
                result.unwrap();
                deleted += 1;
            }
            Poll::Ready(None) => break,
            Poll::Pending => advance(SECOND).await,
        }
    }
    assert_eq!(deleted, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_delete_of_a_server_that_is_slow_is_halved_until_it_is_in_time() {
    let (store, refs) = store_with(1_024);
    slow_down(&store, Duration::from_millis(70));
    let results = stream::iter(refs).delete_from(&store.client());
    let summary = in_a_week(results.finish()).await;
    assert_eq!(summary.stats.succeeded, 1_024, "{summary}");
    assert!(summary.stats.sent <= 2 * 1_024, "{summary}");
    assert!(store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_has_no_time_is_not_sent() {
    for lanes in [1, 4] {
        let store = Store::new();
        let options = Options::new()
            .calls(lanes)
            .retry(Retry::new().timeout(Duration::ZERO));
        let results = records(5_000).push_to_with(&store.client(), &options);
        let summary = in_a_week(results.finish()).await;
        assert_eq!(summary.stats.failed_as(ErrorKind::NotSent), 5_000);
        let requests: u64 = store.calls().iter().map(|call| call.requests).sum();
        assert_eq!(requests, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_may_not_live_make_progress_all_the_same() {
    for lanes in [1, 2, 8] {
        for (idle, age) in [(true, false), (false, true), (true, true)] {
            let zero = |is_zero: bool| is_zero.then_some(Duration::ZERO);
            let store = Store::new();
            let options = Options::new()
                .calls(lanes)
                .idle_close(zero(idle))
                .max_call_age(zero(age));
            let input = stream::iter(0..200).then(async |number| {
                if number % 10 == 0 {
                    tokio::time::sleep(SECOND).await;
                }
                record(number)
            });
            let start = Instant::now();
            let results = Box::pin(input).push_to_with(&store.client(), &options);
            let summary = in_a_week(results.finish()).await;
            assert_eq!(summary.stats.succeeded, 200, "{lanes} lanes: {summary}");
            assert!(summary.stats.calls <= 450, "{lanes} lanes: {summary}");
            assert!(start.elapsed() < 40 * SECOND, "{:?}", start.elapsed());
        }
    }
}

#[test]
#[should_panic(expected = "a call that may make no progress for 0 s")]
fn a_call_that_may_never_make_progress_is_refused() {
    let _ = Options::new().stall_after(Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn out_of_order_a_call_that_is_always_ready_leaves_the_others_their_turn() {
    let (client, peer) = scripted();
    let options = Options::new()
        .calls(2)
        .unordered(true)
        .in_flight(400, usize::MAX);
    let (items, input) = mpsc::unbounded();
    let mut results = input.push_to_with(&client, &options);
    for number in 0..400 {
        items.unbounded_send(record(number)).unwrap();
    }
    let mut open = Vec::new();
    for _ in 0..100 {
        assert_pending(&mut results);
        open.extend(peer.try_call());
        for call in &mut open {
            call.chunks();
        }
    }
    let mut served = Vec::new();
    for call in &mut open {
        let records = call.records();
        for record in &records {
            call.answer_cid(cid(record));
        }
        served.push(records.len());
    }
    assert_eq!(
        served.iter().filter(|count| **count > 100).count(),
        2,
        "{served:?}"
    );
    let first: Vec<u64> = (0..128)
        .map(|_| next(&mut results).unwrap().index)
        .collect();
    // Items go to the two calls in turn.
    let of_one = first.iter().filter(|index| **index % 2 == 0).count();
    assert!((32..=96).contains(&of_one), "of one call: {first:?}");
}

/// A closed call of a method with nothing to do ends like any other.
#[tokio::test(start_paused = true)]
async fn a_pull_over_lanes_resets_nothing_at_its_end() {
    let (store, refs) = store_with(50);
    for lanes in [2, 8, 64] {
        let results = stream::iter(refs.clone())
            .pull_from_with(&store.client(), &Options::new().calls(lanes));
        let summary = in_a_week(results.finish()).await;
        assert_eq!(summary.stats.succeeded, 50);
    }
    let pulls = calls_of(&store, Method::Pull).into_iter();
    let cancelled = pulls.filter(|call| call.end == Some(End::Cancelled));
    assert_eq!(cancelled.count(), 0);
}

/// A record of 3.9 MB leaves in pieces, one in a second and a half.
#[tokio::test(start_paused = true)]
async fn bytes_that_go_out_are_progress() {
    let (client, peer) = scripted();
    let options = Options::new().stall_after(Some(2 * SECOND));
    let long = sized(3_900_000);
    let mut results = stream::iter([long.clone()]).push_to_with(&client, &options);
    assert_pending(&mut results);
    let mut call = peer.call();
    let mut pieces = Vec::new();
    while pieces.iter().sum::<usize>() < 3_900_000 {
        pieces.push(call.read_chunk());
        for _ in 0..3 {
            assert_pending(&mut results);
            advance(Duration::from_millis(500)).await;
        }
    }
    assert!(pieces.len() > 20, "{pieces:?}");
    assert!(pieces.iter().all(|piece| *piece > 0), "{pieces:?}");
    assert_eq!(call.records().len(), 1);
    call.answer_cid(cid(&long));
    assert!(next(&mut results).is_ok());
    assert_eq!(results.stats().faults, 0);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_come_in_are_progress_as_long_as_they_come() {
    let (client, peer) = scripted();
    let options = Options::new().stall_after(Some(2 * SECOND));
    let long = sized(100_000);
    let refs = [long.clone(), record(1)].map(|record| cid(&record));
    let input = stream::iter(refs).chain(stream::pending());
    let mut results = input.pull_from_with(&client, &options);
    assert_pending(&mut results);
    let mut call = peer.call();
    call.refs();
    let mut answer = framed(&prost::Message::encode_to_vec(&long));
    while !answer.is_empty() {
        let piece = answer.split_to(answer.len().min(10_000));
        call.answer_bytes(piece);
        if !answer.is_empty() {
            assert_pending(&mut results);
            advance(Duration::from_millis(1_500)).await;
        }
    }
    assert_eq!(next(&mut results).unwrap().record, long);
    // The next answer is begun, and goes no further.
    let answer = framed(&prost::Message::encode_to_vec(&record(1)));
    call.answer_bytes(answer.slice(..10));
    for _ in 0..3 {
        assert_pending(&mut results);
        advance(SECOND).await;
    }
    assert_pending(&mut results);
    assert_eq!(results.stats().faults, 1);
    assert!(call.is_reset());
}

/// Records of 100 KB come behind a first that is tried again and again.
#[tokio::test(start_paused = true)]
async fn records_that_wait_for_the_first_take_no_more_than_the_windows_bytes() {
    let store = Store::new();
    let long = |number: usize| {
        let mut value = serde_json::Value::try_from(&record(number)).unwrap();
        value["fill"] = "x".repeat(100_000).into();
        Record::try_from(value).unwrap()
    };
    let refs: Vec<_> = (0..300).map(|n| store.insert(long(n)).unwrap()).collect();
    let away = Fault::status(tonic::Status::unavailable("not now"));
    store.inject(away.of(refs[0]).times(4));
    let options = Options::new().window_bytes(2 << 20);
    let mut results = stream::iter(refs).pull_from_with(&store.client(), &options);
    assert_eq!(in_a_week(results.next()).await.unwrap().unwrap().index, 0);
    // What has been answered since is in the window, but for the sixty-four of which nothing was known.
    let answers: u64 = store.calls().iter().map(|call| call.answers).sum();
    assert!(answers <= 64 + 21, "{answers} records of 100 KB");
    assert_eq!(in_a_week(results.count()).await, 299);
}

#[test]
#[should_panic(expected = "is not polled in a tokio runtime")]
fn an_adapter_outside_of_a_runtime_says_so() {
    let (client, _peer) = scripted();
    let mut results = records(1).push_to(&client);
    let _ = poll(&mut results);
}

/// A timer belongs to a runtime. So does a call: what one carries that was opened in a runtime that rests is sent again
/// when it has stalled.
#[test]
fn an_adapter_that_has_waited_goes_on_in_another_runtime() {
    for first_is_gone in [false, true] {
        for waits_for_its_rate in [false, true] {
            let store = Store::new();
            let options = match waits_for_its_rate {
                true => Options::new().rate(1),
                false => Options::new(),
            };
            let mut results = records(3).push_to_with(&store.client(), &options);
            let (first, second) = (paused_runtime(), paused_runtime());
            first.block_on(async {
                if !waits_for_its_rate {
                    store.inject(Fault::no_connection().times(3));
                }
                let seen = tokio::time::timeout(SECOND / 50, results.by_ref().count()).await;
                assert!(seen.is_err(), "it waits");
            });
            let rests = (!first_is_gone).then_some(first);
            let summary = second.block_on(in_a_week(results.finish()));
            assert_eq!(summary.stats.succeeded, 3, "{waits_for_its_rate}");
            drop(rests);
        }
    }
}

/// How many calls a push makes in a minute when each breaks with this fault, and whether the circuit is open then.
/// Lookups are answered.
async fn calls_in_a_minute(fault: Fault, already_sent: usize) -> (usize, bool) {
    let store = Store::new();
    store.inject(fault.on(Method::Push).times(u64::MAX));
    let results = records(already_sent).push_to(&store.client());
    let handle = results.handle();
    let _ = tokio::time::timeout(60 * SECOND, results.finish()).await;
    let pushes = calls_of(&store, Method::Push).len();
    (pushes, handle.stats().circuit_open)
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_finds_nothing_is_no_reason_to_push_again_at_once() {
    let (pushes, is_open) = calls_in_a_minute(Fault::cut(), 1_000).await;
    assert!(pushes < 20, "{pushes} calls broke one after the other");
    assert!(is_open, "the circuit");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_finds_what_was_pushed_shows_that_the_server_works() {
    let (pushes, is_open) = calls_in_a_minute(Fault::cut_after(), 100).await;
    assert_eq!(pushes, 100, "one breaks for each record, and all are found");
    assert!(!is_open, "the circuit");
}
