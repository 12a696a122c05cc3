//! Retries, settling, poison, stalls, rotation and the circuit breaker, against a peer that does
//! what the test says, under a paused clock.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{CircuitBreaker, ErrorKind, Retry, Status, Verdict};
use futures::channel::mpsc;
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, advance};
use tonic::Code;

use crate::support::{Peer, PeerCall, cid, next, poll, record, scripted, window};

const PUSH: &str = "/agntcy.dir.store.v1.StoreService/Push";
const LOOKUP: &str = "/agntcy.dir.store.v1.StoreService/Lookup";

const SECOND: Duration = Duration::from_secs(1);

fn tries(tries: u32) -> Retry {
    Retry::new().max_attempts(tries)
}

/// A breaker that opens late enough not to be seen.
fn patient(client: Client) -> Client {
    client.with_breaker(CircuitBreaker::off())
}

fn waits<S: Stream + Unpin>(stream: &mut S) {
    assert!(poll(stream).is_pending(), "a result came early");
}

/// Polls over the waits between tries, up to the next call.
async fn next_call<S: Stream + Unpin>(results: &mut S, peer: &Peer) -> PeerCall {
    for _ in 0..10_000 {
        waits(results);
        if let Some(call) = peer.try_call() {
            return call;
        }
        advance(Duration::from_millis(50)).await;
    }
    panic!("no call was opened in 500 s");
}

/// Like [`next_call`], for a call of this method.
async fn next_call_of<S: Stream + Unpin>(results: &mut S, peer: &Peer, path: &str) -> PeerCall {
    let call = next_call(results, peer).await;
    assert_eq!(call.path, path);
    call
}

fn numbers(call: &mut PeerCall) -> Vec<u64> {
    let number = |record: &Record| -> u64 {
        let value = serde_json::Value::try_from(record).unwrap();
        let number = value["number"].as_f64().unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let number = number as u64;
        number
    };
    call.records().iter().map(number).collect()
}

/// A push that has sent these records in its first call.
async fn pushing(
    count: usize,
    options: Options,
) -> (impl Stream<Item = PushResult> + Unpin, Peer, PeerCall) {
    let (client, peer) = scripted();
    let mut results = stream::iter((0..count).map(record)).push_to_with(&patient(client), &options);
    let call = next_call_of(&mut results, &peer, PUSH).await;
    (results, peer, call)
}

// ---- what was lost is settled, and sent again --------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_push_whose_answer_was_lost_is_looked_up_before_it_is_sent_again() {
    let (mut results, peer, mut call) = pushing(5, Options::new()).await;
    assert_eq!(numbers(&mut call), [0, 1, 2, 3, 4]);
    call.answer_cid(cid(&record(0)));
    call.break_off();
    assert!(!next(&mut results).unwrap().already_stored);

    let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
    let asked: Vec<_> = (1..5).map(|n| cid(&record(n)).to_string()).collect();
    assert_eq!(look_up.refs(), asked, "all that is in doubt, in one call");
    // The server had got to the third.
    look_up.answer_cid(cid(&record(1)));
    look_up.answer_cid(cid(&record(2)));
    look_up.end(Code::NotFound, "record not found");
    for number in 1..3 {
        let pushed = next(&mut results).unwrap();
        assert_eq!(
            (pushed.index, pushed.cid),
            (number, cid(&record(number as usize)))
        );
        assert!(pushed.already_stored);
    }

    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(
        numbers(&mut call),
        [3, 4],
        "what is not there, and only that"
    );
    call.answer_cid(cid(&record(3)));
    call.answer_cid(cid(&record(4)));
    call.end(Code::Ok, "");
    for number in 3..5 {
        let pushed = next(&mut results).unwrap();
        assert_eq!((pushed.index, pushed.already_stored), (number, false));
    }
    assert!(matches!(poll(&mut results), Poll::Ready(None)));
}

#[tokio::test(start_paused = true)]
async fn what_the_transport_never_took_needs_no_lookup() {
    let (client, peer) = scripted();
    let mut results = stream::iter((0..3).map(record)).push_to(&client);
    let call = next_call(&mut results, &peer).await;
    // It has read nothing.
    call.break_off();
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(call.store_all(), 3);
    call.end(Code::Ok, "");
    for _ in 0..3 {
        assert!(!next(&mut results).unwrap().already_stored);
    }
    assert_eq!(results.stats().faults, 1);
    assert_eq!(results.stats().lookup_calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pull_is_asked_again_and_a_delete_sent_again_without_a_lookup() {
    let (client, peer) = scripted();
    let refs: Vec<_> = (0..3).map(|n| cid(&record(n))).collect();
    let texts: Vec<_> = refs.iter().map(ToString::to_string).collect();

    let mut results = stream::iter(refs.clone()).pull_from(&client);
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    call.answer(&record(0));
    call.break_off();
    assert_eq!(next(&mut results).unwrap().record, record(0));
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(call.refs(), texts[1..]);
    call.answer(&record(1));
    call.answer(&record(2));
    call.end(Code::Ok, "");
    assert_eq!(next(&mut results).unwrap().record, record(1));
    assert_eq!(next(&mut results).unwrap().index, 2);

    let mut results = stream::iter(refs).delete_from(&client);
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    call.break_off();
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(call.refs(), texts);
    call.answer(&());
    call.end(Code::Ok, "");
    for _ in 0..3 {
        next(&mut results).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_came_count_before_the_end_does() {
    let (mut results, peer, mut call) = pushing(3, Options::new()).await;
    // Three answers and the end are there before the adapter is polled again.
    call.store_all();
    call.end(Code::Unavailable, "shutting down");
    for _ in 0..3 {
        assert!(!next(&mut results).unwrap().already_stored);
    }
    assert!(matches!(poll(&mut results), Poll::Ready(None)));
    assert!(peer.try_call().is_none(), "nothing was left to retry");
}

#[tokio::test(start_paused = true)]
async fn an_ok_end_with_answers_missing_is_a_fault() {
    let (mut results, peer, mut call) = pushing(2, Options::new()).await;
    call.records();
    call.answer_cid(cid(&record(0)));
    call.end(Code::Ok, "");
    next(&mut results).unwrap();
    let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
    assert_eq!(look_up.refs().len(), 1);
    look_up.end(Code::NotFound, "");
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(numbers(&mut call), [1]);
}

/// The server says it is the record's neighbour's fault: the answers before an oversize message are
/// lost with it.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_long_for_the_server_is_found_by_its_length() {
    let (client, peer) = scripted();
    let long = crate::support::sized(5_000);
    let input = [record(0), record(1), long.clone(), record(3)];
    let mut results = stream::iter(input).push_to(&client);
    let mut call = next_call(&mut results, &peer).await;
    call.records();
    call.end(
        Code::ResourceExhausted,
        "grpc: received message larger than max (5000 vs. 4096)",
    );
    let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
    look_up.refs();
    look_up.answer_cid(cid(&record(0)));
    look_up.end(Code::NotFound, "");
    let mut call = peer.try_call();
    let (mut sent, mut seen) = (Vec::new(), Vec::new());
    while sent.len() < 2 {
        if let Some(call) = &mut call {
            for record in call.records() {
                call.answer_cid(cid(&record));
                sent.push(record);
            }
        }
        while let Poll::Ready(Some(result)) = poll(&mut results) {
            seen.push(result);
        }
        call = call.or_else(|| peer.try_call());
        advance(Duration::from_millis(10)).await;
    }
    assert!(!sent.contains(&long), "it is not sent again");
    while seen.len() < 4 {
        seen.push(next(&mut results));
    }
    let failed = seen.remove(2).unwrap_err();
    assert_eq!((failed.index, failed.kind()), (2, ErrorKind::Rejected));
    assert_eq!(failed.input, long);
    let cids: Vec<_> = seen.into_iter().map(|pushed| pushed.unwrap().cid).collect();
    assert_eq!(cids, [0, 1, 3].map(|number| cid(&record(number))));
}

// ---- a record at which the server fails --------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn internal_is_settled_then_tried_again_and_the_others_go_on() {
    let options = Options::new().retry(tries(3));
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to_with(&client, &options);
    for number in 0..2 {
        records.unbounded_send(record(number)).unwrap();
    }
    let mut call = next_call(&mut results, &peer).await;
    call.records();
    call.end(Code::Internal, "validator: HTTP 503");
    // The other leaves at once, and this one is looked up.
    waits(&mut results);
    let (mut look_up, mut call) = (peer.call(), peer.call());
    assert_eq!((look_up.path.as_str(), call.path.as_str()), (LOOKUP, PUSH));
    assert_eq!(look_up.refs(), [cid(&record(0)).to_string()]);
    assert_eq!(numbers(&mut call), [1]);
    call.answer_cid(cid(&record(1)));
    look_up.end(Code::NotFound, "");
    waits(&mut results);
    assert_eq!(results.stats().succeeded, 0, "results keep their order");

    // After its wait it goes out again by the call that runs; the validator is back.
    advance(SECOND).await;
    waits(&mut results);
    assert_eq!(numbers(&mut call), [0]);
    call.answer_cid(cid(&record(0)));
    let pushed = next(&mut results).unwrap();
    assert_eq!((pushed.index, pushed.already_stored), (0, false));
    assert_eq!(next(&mut results).unwrap().index, 1);
    assert!(peer.try_call().is_none());
}

#[tokio::test(start_paused = true)]
async fn internal_of_a_record_that_is_there_is_a_success() {
    for (code, message) in [
        (Code::Internal, "failed to push record: already exists"),
        (Code::AlreadyExists, "there"),
        (Code::Internal, "the disk is full"),
    ] {
        let (mut results, peer, mut call) = pushing(1, Options::new()).await;
        call.records();
        call.end(code, message);
        let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
        look_up.refs();
        look_up.answer_cid(cid(&record(0)));
        look_up.end(Code::Ok, "");
        let pushed = next(&mut results).unwrap();
        assert!(pushed.already_stored, "{message}");
        assert_eq!(pushed.cid, cid(&record(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn internal_is_that_records_error_when_its_tries_are_over() {
    let options = Options::new().retry(tries(3));
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to_with(&patient(client), &options);
    records.unbounded_send(record(0)).unwrap();
    for other in 1..=3 {
        let mut call = next_call_of(&mut results, &peer, PUSH).await;
        if other > 1 {
            // The server does its work on another.
            assert_eq!(call.store_all(), 1);
            advance(SECOND / 10).await;
            waits(&mut results);
        }
        assert_eq!(numbers(&mut call), [0]);
        call.end(Code::Internal, "the disk is full");
        records.unbounded_send(record(other)).unwrap();
        if other != 2 {
            // The first time, and before it is failed.
            let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
            look_up.refs();
            look_up.end(Code::NotFound, "");
        }
    }
    drop(records);
    let failed = next(&mut results).unwrap_err();
    assert_eq!(
        (failed.attempts, failed.kind()),
        (3, ErrorKind::ServerFailed)
    );
    assert!(failed.to_string().contains("the disk is full"), "{failed}");
    assert_eq!(next(&mut results).unwrap().index, 1);
    assert_eq!(next(&mut results).unwrap().index, 2);
}

/// Nothing else is left to be tried, so what has succeeded is asked for again, if it is still there.
#[tokio::test(start_paused = true)]
async fn what_has_succeeded_is_asked_for_again_to_tell_whose_fault_it_is() {
    let text = |number| cid(&record(number)).to_string();
    for is_there in [true, false] {
        let (client, peer) = scripted();
        let (records, input) = mpsc::unbounded();
        let mut results = input.push_to(&patient(client));
        records.unbounded_send(record(0)).unwrap();
        let mut call = next_call_of(&mut results, &peer, PUSH).await;
        call.store_all();
        assert!(next(&mut results).is_ok());
        advance(5 * SECOND).await;
        records.unbounded_send(record(1)).unwrap();
        waits(&mut results);
        assert_eq!(numbers(&mut call), [1]);
        call.end(Code::Internal, "no");
        let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
        assert_eq!(look_up.refs(), [text(0), text(1)]);
        if is_there {
            look_up.answer_cid(text(0));
        }
        look_up.end(Code::NotFound, "");
        if !is_there {
            let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
            assert_eq!(look_up.refs(), [text(1)]);
            look_up.end(Code::NotFound, "");
        }
        let mut call = next_call_of(&mut results, &peer, PUSH).await;
        let sent = numbers(&mut call);
        assert_eq!(sent, if is_there { vec![0, 1] } else { vec![1] });
        // The answer to what was asked for again makes no result.
        for number in sent {
            call.answer_cid(text(number as usize));
        }
        assert_eq!(next(&mut results).unwrap().index, 1);
        waits(&mut results);
        assert_eq!(results.stats().succeeded, 2);
    }
}

/// The server says so itself, and nothing in it says whose fault it is: a pull changes nothing, so it is
/// asked for again at once.
#[tokio::test(start_paused = true)]
async fn a_pull_asks_again_for_what_it_has_had() {
    let (client, peer) = scripted();
    let (refs, input) = mpsc::unbounded();
    let mut results = input.pull_from(&patient(client));
    for number in 0..2 {
        refs.unbounded_send(cid(&record(number))).unwrap();
    }
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    call.answer(&record(0));
    call.end(Code::Internal, "no");
    assert!(next(&mut results).is_ok());
    for tries in 2..=5 {
        let mut call = next_call(&mut results, &peer).await;
        let asked = call.refs();
        assert_eq!(asked, [0, 1].map(|number| cid(&record(number)).to_string()));
        call.answer(&record(0));
        call.end(Code::Internal, "no");
        assert_eq!(results.stats().faults, tries - 1);
    }
    let failed = next(&mut results).unwrap_err();
    assert_eq!(
        (failed.kind(), failed.attempts),
        (ErrorKind::ServerFailed, 5)
    );
}

#[tokio::test(start_paused = true)]
async fn without_retries_nothing_is_asked_for_again() {
    let (client, peer) = scripted();
    let refs = stream::iter((0..6).map(|number| cid(&record(number))));
    let options = Options::new().retry(Retry::off());
    let mut results = refs.pull_from_with(&client, &options);
    let mut asked = Vec::new();
    for number in 0..5 {
        let mut call = next_call(&mut results, &peer).await;
        asked.push(call.refs().len());
        if number == 0 {
            call.answer(&record(0));
            call.end(Code::Internal, "no");
            assert!(next(&mut results).is_ok());
        } else {
            call.end(Code::Internal, "no");
        }
        assert_eq!(
            next(&mut results).unwrap_err().kind(),
            ErrorKind::ServerFailed
        );
    }
    assert_eq!(asked, [6, 4, 3, 2, 1]);
    assert!(matches!(poll(&mut results), Poll::Ready(None)));
}

/// Nothing tells whether it is the record or the server.
#[tokio::test(start_paused = true)]
async fn an_item_that_fails_where_nothing_else_is_tried_has_two_minutes() {
    let (client, peer) = scripted();
    let records = stream::iter([record(0)]);
    let options = Options::new().retry(tries(3));
    let mut results = records.push_to_with(&patient(client), &options);
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < Duration::from_secs(110) {
        let mut call = next_call_of(&mut results, &peer, PUSH).await;
        assert_eq!(numbers(&mut call), [0]);
        call.end(Code::Internal, "the disk is full");
        if calls == 0 {
            let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
            look_up.refs();
            look_up.end(Code::NotFound, "");
        }
        calls += 1;
    }
    assert!((200..600).contains(&calls), "{calls} calls");
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(call.store_all(), 1);
    assert_eq!(next(&mut results).unwrap().index, 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_settled_is_unknown() {
    // The caller may push, but not look up.
    let options = Options::new().retry(tries(1));
    let (mut results, peer, mut call) = pushing(2, options).await;
    call.records();
    call.break_off();
    let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
    look_up.refs();
    look_up.end(Code::PermissionDenied, "no lookups");
    let failed = next(&mut results).unwrap_err();
    assert_eq!(
        (failed.index, failed.kind()),
        (0, ErrorKind::OutcomeUnknown)
    );
    assert!(failed.error.may_have_landed());
    // The one behind it was not the first victim, so it has its try left.
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(numbers(&mut call), [1]);
    call.answer_cid(cid(&record(1)));
    assert_eq!(next(&mut results).unwrap().index, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_answers_with_another_record_settles_nothing() {
    let options = Options::new().retry(tries(1));
    let (mut results, peer, mut call) = pushing(1, options).await;
    call.records();
    call.break_off();
    let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
    look_up.refs();
    look_up.answer_cid(cid(&record(7)));
    let failed = next(&mut results).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_breaks_is_made_again() {
    let (mut results, peer, mut call) = pushing(2, Options::new()).await;
    call.records();
    call.break_off();
    for _ in 0..3 {
        let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
        assert_eq!(look_up.refs().len(), 2);
        look_up.break_off();
    }
    let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
    look_up.refs();
    look_up.answer_cid(cid(&record(0)));
    look_up.answer_cid(cid(&record(1)));
    assert!(next(&mut results).unwrap().already_stored);
    assert!(next(&mut results).unwrap().already_stored);
}

// ---- tries and waits ---------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_resets_at_once_does_not_spin() {
    let (client, peer) = scripted();
    let client = patient(client);
    let refs = stream::iter([cid(&record(0))]);
    let mut results = refs.pull_from_with(&client, &Options::new().retry(tries(8)));
    let start = Instant::now();
    let mut times = Vec::new();
    let failed = loop {
        match poll(&mut results) {
            Poll::Ready(result) => break result.unwrap().unwrap_err(),
            Poll::Pending => {}
        }
        if let Some(mut call) = peer.try_call() {
            times.push(start.elapsed());
            call.refs();
            call.break_off();
        } else {
            advance(Duration::from_millis(10)).await;
        }
    };
    assert_eq!(
        (failed.kind(), failed.attempts),
        (ErrorKind::Unavailable, 8)
    );
    assert_eq!(times.len(), 8);
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (tries, gap) in gaps.iter().enumerate() {
        let least = Duration::from_millis(100 << tries);
        assert!(*gap >= least, "{gap:?} after {} tries", tries + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_set_the_waits_back() {
    let (client, peer) = scripted();
    let client = patient(client);
    let refs = stream::iter((0..100).map(|n| cid(&record(n))));
    let mut results = refs.pull_from_with(&client, &window(2));
    for number in 0..20 {
        let before = Instant::now();
        let mut call = next_call(&mut results, &peer).await;
        assert!(
            before.elapsed() <= Duration::from_millis(250),
            "{:?} before call {number}",
            before.elapsed()
        );
        call.refs();
        call.answer(&record(number));
        call.break_off();
        assert_eq!(next(&mut results).unwrap().index, number as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_says_when_to_come_back_and_that_it_wants_no_more() {
    let (client, peer) = scripted();
    let client = patient(client);
    let trailers = |millis: &str| {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-retry-pushback-ms", millis.parse().unwrap());
        trailers
    };
    let refs = stream::iter((0..2).map(|n| cid(&record(n))));
    let mut results = refs.pull_from(&client);
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    call.end_with(Code::Unavailable, "busy", trailers("20000"));
    waits(&mut results);
    advance(Duration::from_millis(19_900)).await;
    waits(&mut results);
    assert!(peer.try_call().is_none(), "it was asked to wait for 20 s");
    advance(Duration::from_millis(200)).await;
    waits(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs().len(), 2);
    call.end_with(Code::Unavailable, "go away", trailers("-1"));
    let failed = next(&mut results).unwrap_err();
    assert_eq!((failed.index, failed.kind()), (0, ErrorKind::Unavailable));
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(call.refs().len(), 1);
    call.answer(&record(1));
    assert_eq!(next(&mut results).unwrap().index, 1);
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_proxy_is_a_fault_of_the_moment_with_its_retry_after() {
    let (client, peer) = scripted();
    let mut results = stream::iter([cid(&record(0))]).pull_from(&client);
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    call.end_with_page(502, &[("retry-after", "30")]);
    waits(&mut results);
    advance(29 * SECOND).await;
    waits(&mut results);
    assert!(peer.try_call().is_none());
    advance(2 * SECOND).await;
    waits(&mut results);
    let mut call = peer.call();
    call.refs();
    call.end_with_page(200, &[]);
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    call.answer(&record(0));
    next(&mut results).unwrap();

    // But who is turned away at the door is told so.
    for (status, kind) in [(401, ErrorKind::Denied), (404, ErrorKind::Unsupported)] {
        let mut results = stream::iter([cid(&record(0))]).pull_from(&client);
        next_call(&mut results, &peer)
            .await
            .end_with_page(status, &[]);
        let failed = next(&mut results).unwrap_err();
        assert_eq!(failed.kind(), kind);
        assert!(failed.to_string().contains("text/html"), "{failed}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_judgement_can_be_replaced() {
    let judged = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&judged);
    let retry = Retry::new().classify(move |status: &Status| {
        seen.fetch_add(1, Ordering::Relaxed);
        match status.code() {
            Code::Internal => Verdict::Record,
            _ => Verdict::of(status),
        }
    });
    let (mut results, peer, mut call) = pushing(2, Options::new().retry(retry)).await;
    call.records();
    call.end(Code::Internal, "no");
    let failed = next(&mut results).unwrap_err();
    assert_eq!((failed.index, failed.kind()), (0, ErrorKind::ServerFailed));
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(numbers(&mut call), [1]);
    assert_eq!(judged.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn off_is_one_word() {
    let options = Options::new().retry(Retry::off());
    let (mut results, peer, mut call) = pushing(3, options).await;
    call.records();
    call.answer_cid(cid(&record(0)));
    call.end(Code::Internal, "already exists");
    next(&mut results).unwrap();
    let failed = next(&mut results).unwrap_err();
    assert_eq!((failed.index, failed.kind()), (1, ErrorKind::ServerFailed));
    // The one behind it is carried on, and at once.
    waits(&mut results);
    let mut call = peer.call();
    assert_eq!(numbers(&mut call), [2]);
    call.end(Code::Unavailable, "away");
    let failed = next(&mut results).unwrap_err();
    assert_eq!(
        (failed.index, failed.kind()),
        (2, ErrorKind::OutcomeUnknown)
    );
    assert!(matches!(poll(&mut results), Poll::Ready(None)));
    assert!(peer.try_call().is_none(), "nothing is looked up");
}

// ---- time --------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn an_item_whose_time_is_up_and_that_never_left_is_not_sent_and_never_lands() {
    let options = Options::new().retry(Retry::new().timeout(10 * SECOND));
    let (client, peer) = scripted();
    let client = patient(client);
    let mut results = stream::iter((0..2).map(record)).push_to_with(&client, &options);
    let start = Instant::now();
    let failed = loop {
        match poll(&mut results) {
            Poll::Ready(result) => break result.unwrap().unwrap_err(),
            // Nobody is there.
            Poll::Pending => drop(peer.try_call()),
        }
        // What a poll comes late is not waited, so it must come soon after each timer.
        advance(Duration::from_millis(10)).await;
    };
    assert!(start.elapsed() >= 10 * SECOND);
    assert!(start.elapsed() <= 11 * SECOND);
    assert_eq!((failed.kind(), failed.attempts), (ErrorKind::NotSent, 0));
    assert!(failed.to_string().contains("no answer in 10 s"), "{failed}");
    let failed = next(&mut results).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotSent);
    // The server comes back too late.
    for _ in 0..1000 {
        assert!(matches!(poll(&mut results), Poll::Ready(None)));
        assert!(peer.try_call().is_none());
        advance(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_time_is_up_in_flight_is_unknown_and_its_late_answer_nobodys() {
    let retry = Retry::new().timeout(10 * SECOND);
    let (mut results, _peer, mut call) = pushing(2, Options::new().retry(retry)).await;
    assert_eq!(numbers(&mut call), [0, 1]);
    advance(9 * SECOND).await;
    waits(&mut results);
    advance(2 * SECOND).await;
    for index in 0..2 {
        let failed = next(&mut results).unwrap_err();
        assert_eq!(
            (failed.index, failed.kind()),
            (index, ErrorKind::OutcomeUnknown)
        );
    }
    waits(&mut results);
    call.answer_cid(cid(&record(0)));
    call.answer_cid(cid(&record(1)));
    call.end(Code::Ok, "");
    assert!(matches!(poll(&mut results), Poll::Ready(None)));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_consumer_at_work_does_not_count() {
    let options = Options::new()
        .retry(Retry::new().timeout(10 * SECOND))
        .stall_after(Some(5 * SECOND));
    let (mut results, _peer, mut call) = pushing(3, options).await;
    assert_eq!(numbers(&mut call), [0, 1, 2]);
    for number in 0..3 {
        call.answer_cid(cid(&record(number)));
        assert_eq!(next(&mut results).unwrap().index, number as u64);
        // An hour of work on each result.
        advance(3600 * SECOND).await;
    }
    call.end(Code::Ok, "");
    assert!(matches!(poll(&mut results), Poll::Ready(None)));
}

// ---- poison ------------------------------------------------------------------------------------

/// A peer that stores what it gets, but breaks at some records. Returns how many calls it saw.
async fn serve<S: Stream + Unpin>(
    results: &mut S,
    peer: &Peer,
    breaks_at: impl Fn(&Record) -> bool,
) -> (Vec<S::Item>, Vec<Vec<Record>>) {
    let mut seen = Vec::new();
    let mut calls: Vec<PeerCall> = Vec::new();
    let mut stored = std::collections::HashSet::new();
    let mut items = Vec::new();
    loop {
        match poll(results) {
            Poll::Ready(Some(item)) => {
                items.push(item);
                continue;
            }
            Poll::Ready(None) => return (items, seen),
            Poll::Pending => {}
        }
        calls.extend(peer.try_call());
        let mut running = Vec::new();
        'calls: for mut call in calls {
            if call.path == LOOKUP {
                for text in call.refs() {
                    if !stored.contains(&text) {
                        call.end(Code::NotFound, "");
                        continue 'calls;
                    }
                    call.answer_cid(text);
                }
            } else {
                let records = call.records();
                if !records.is_empty() {
                    seen.push(records.clone());
                }
                for record in records {
                    if breaks_at(&record) {
                        call.break_off();
                        continue 'calls;
                    }
                    stored.insert(cid(&record).to_string());
                    call.answer_cid(cid(&record));
                }
            }
            if call.is_half_closed() {
                call.end(Code::Ok, "");
            } else {
                running.push(call);
            }
        }
        calls = running;
        advance(Duration::from_millis(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_breaks_every_call_is_sent_alone_then_gets_its_error() {
    for options in [window(1), window(7), Options::new()] {
        let (client, peer) = scripted();
        let records = (0..50).map(record);
        let mut results = stream::iter(records).push_to_with(&client, &options);
        let poison = record(20);
        let (results, calls) = serve(&mut results, &peer, |record| *record == poison).await;
        assert_eq!(results.len(), 50);
        for (number, result) in results.into_iter().enumerate() {
            match result {
                Ok(pushed) => assert_eq!(pushed.index, number as u64),
                Err(failed) => {
                    assert_eq!((failed.index, number), (20, 20), "{failed}");
                    // It was looked up and is not there, but the server may still be at it.
                    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown, "{failed}");
                    assert!((2..=5).contains(&failed.attempts), "{}", failed.attempts);
                }
            }
        }
        let last = calls.iter().rfind(|call| call.contains(&poison)).unwrap();
        assert_eq!(last.len(), 1, "the last try is made alone");
    }
}

#[tokio::test(start_paused = true)]
async fn many_poisonous_records_hold_up_nobody() {
    let (client, peer) = scripted();
    let mut results = stream::iter((0..200).map(record)).push_to(&client);
    let poison: Vec<_> = (0..200).step_by(10).map(record).collect();
    let (results, _) = serve(&mut results, &peer, |record| poison.contains(record)).await;
    assert_eq!(results.len(), 200);
    for (number, result) in results.into_iter().enumerate() {
        assert_eq!(result.is_err(), number % 10 == 0, "{number}");
    }
}

// ---- stalls and rotation -----------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_call_without_progress_is_dropped_and_another_goes_on() {
    let options = Options::new().stall_after(Some(10 * SECOND));
    let (client, peer) = scripted();
    let refs = stream::iter((0..3).map(|n| cid(&record(n)))).chain(stream::pending());
    let mut results = Box::pin(refs.pull_from_with(&client, &options));
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    for number in 0..2 {
        // Slow is not stalled.
        advance(9 * SECOND).await;
        waits(&mut results);
        call.answer(&record(number));
        assert_eq!(next(&mut results).unwrap().index, number as u64);
        waits(&mut results);
    }
    advance(11 * SECOND).await;
    waits(&mut results);
    assert!(call.is_reset());
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(call.refs().len(), 1);
    call.answer(&record(2));
    assert_eq!(next(&mut results).unwrap().index, 2);
    assert_eq!(results.stats().faults, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_with_nothing_in_flight_does_not_stall() {
    let options = Options::new()
        .stall_after(Some(10 * SECOND))
        .idle_close(None)
        .max_call_age(None);
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to_with(&client, &options);
    records.unbounded_send(record(0)).unwrap();
    let mut call = next_call(&mut results, &peer).await;
    call.store_all();
    next(&mut results).unwrap();
    for _ in 0..10 {
        waits(&mut results);
        advance(3600 * SECOND).await;
    }
    assert!(!call.is_reset());
    records.unbounded_send(record(1)).unwrap();
    waits(&mut results);
    advance(9 * SECOND).await;
    waits(&mut results);
    assert_eq!(call.store_all(), 1, "the clock starts when it is sent");
    next(&mut results).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_old_call_hands_over_without_losing_or_resending_anything() {
    let options = window(4).max_call_age(Some(60 * SECOND));
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to_with(&client, &options);
    records.unbounded_send(record(0)).unwrap();
    records.unbounded_send(record(1)).unwrap();
    let mut old = next_call(&mut results, &peer).await;
    assert_eq!(numbers(&mut old), [0, 1]);
    advance(50 * SECOND).await;
    waits(&mut results);
    assert!(!old.is_half_closed());
    advance(11 * SECOND).await;
    waits(&mut results);
    assert!(old.is_half_closed());
    records.unbounded_send(record(2)).unwrap();
    waits(&mut results);
    assert!(peer.try_call().is_none(), "the old one has yet to answer");
    old.answer_cid(cid(&record(0)));
    old.answer_cid(cid(&record(1)));
    old.end(Code::Ok, "");
    for index in 0..2 {
        assert_eq!(next(&mut results).unwrap().index, index);
    }
    waits(&mut results);
    let mut new = peer.call();
    assert_eq!(numbers(&mut new), [2]);
    let stats = results.stats();
    assert_eq!((stats.calls, stats.resent, stats.faults), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_idle_call_is_closed_and_the_next_item_opens_another() {
    let options = Options::new().idle_close(Some(30 * SECOND));
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to_with(&client, &options);
    records.unbounded_send(record(0)).unwrap();
    let mut call = next_call(&mut results, &peer).await;
    call.store_all();
    next(&mut results).unwrap();
    waits(&mut results);
    advance(29 * SECOND).await;
    waits(&mut results);
    assert!(!call.is_half_closed());
    advance(2 * SECOND).await;
    waits(&mut results);
    assert!(call.is_half_closed());
    call.end(Code::Ok, "");
    waits(&mut results);
    assert!(peer.try_call().is_none(), "nothing is to be sent");
    records.unbounded_send(record(1)).unwrap();
    waits(&mut results);
    assert_eq!(peer.call().store_all(), 1);
    next(&mut results).unwrap();
    assert_eq!(results.stats().faults, 0);
}

// ---- the circuit breaker -----------------------------------------------------------------------

/// An input that counts what is taken.
fn counted(taken: &std::cell::Cell<usize>) -> impl Stream<Item = Cid> + Unpin {
    stream::repeat_with(|| {
        taken.set(taken.get() + 1);
        cid(&record(taken.get()))
    })
}

/// Breaks the next `faults` calls.
async fn break_calls<S: Stream + Unpin>(results: &mut S, peer: &Peer, faults: usize) {
    for _ in 0..faults {
        let mut call = next_call(results, peer).await;
        call.refs();
        call.break_off();
    }
    waits(results);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_stops_the_input_and_sends_one_item_at_a_time() {
    let (client, peer) = scripted();
    let taken = std::cell::Cell::new(0);
    let mut results = counted(&taken).pull_from_with(&client, &window(10));
    waits(&mut results);
    assert_eq!(taken.get(), 10);
    break_calls(&mut results, &peer, 3).await;

    let mut carried = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let mut probe = next_call(&mut results, &peer).await;
        let refs = probe.refs();
        assert_eq!(refs.len(), 1);
        carried.extend(refs);
        assert!(probe.is_half_closed());
        advance(5 * SECOND).await;
        waits(&mut results);
        assert!(peer.try_call().is_none(), "one probe at a time");
        probe.break_off();
    }
    assert_eq!(carried.len(), 4, "each probe is another item");
    assert_eq!(taken.get(), 10, "the input is left alone");

    let mut probe = next_call(&mut results, &peer).await;
    let asked: Cid = probe.refs()[0].parse().unwrap();
    let number = (1..=10).find(|n| cid(&record(*n)) == asked).unwrap();
    probe.answer(&record(number));
    probe.end(Code::Ok, "");
    waits(&mut results);
    assert_eq!(peer.call().refs().len(), 9, "all go on at once");
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_gives_up_after_its_time_with_an_error_of_its_own() {
    let (client, peer) = scripted();
    let breaker = CircuitBreaker::new().give_up_after(Some(60 * SECOND));
    let client = client.with_breaker(breaker);
    let taken = std::cell::Cell::new(0);
    let input = counted(&taken).take(30);
    let options = window(10).retry(tries(100));
    let mut results = input.pull_from_with(&client, &options);
    let start = Instant::now();
    let mut kinds = Vec::new();
    loop {
        match poll(&mut results) {
            Poll::Ready(Some(result)) => kinds.push(result.unwrap_err()),
            Poll::Ready(None) => break,
            Poll::Pending => {
                if let Some(mut call) = peer.try_call() {
                    call.refs();
                    call.break_off();
                }
                advance(SECOND).await;
            }
        }
        if kinds.is_empty() {
            assert!(taken.get() <= 10);
        }
    }
    assert!((60..90).contains(&start.elapsed().as_secs()));
    assert_eq!(kinds.len(), 30, "the rest too, each with its own result");
    for failed in &kinds {
        assert_eq!(failed.kind(), ErrorKind::CircuitOpen, "{failed}");
        assert!(failed.error.status().is_some(), "with the last fault");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_in_doubt_is_unknown_when_the_breaker_gives_up() {
    let (client, peer) = scripted();
    let client = client.with_breaker(CircuitBreaker::new().give_up_after(Some(60 * SECOND)));
    let options = Options::new().retry(tries(100));
    let mut results = stream::iter((0..2).map(record)).push_to_with(&client, &options);
    let mut call = next_call(&mut results, &peer).await;
    call.records();
    call.break_off();
    let failed = loop {
        match poll(&mut results) {
            Poll::Ready(result) => break result.unwrap().unwrap_err(),
            Poll::Pending => drop(peer.try_call()),
        }
        advance(SECOND).await;
    };
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test(start_paused = true)]
async fn refused_records_never_open_the_breaker() {
    let (client, peer) = scripted();
    let mut results = stream::iter((0..20).map(record)).push_to(&client);
    for _ in 0..20 {
        waits(&mut results);
        let mut call = peer.call();
        call.records();
        call.end(Code::InvalidArgument, "no");
        assert_eq!(next(&mut results).unwrap_err().kind(), ErrorKind::Rejected);
    }
}

#[tokio::test(start_paused = true)]
async fn adapters_of_one_client_share_the_breaker_and_go_on_together() {
    let (client, peer) = scripted();
    let refs = |from: usize| stream::iter((from..from + 2).map(|n| cid(&record(n))));
    let mut one = refs(0).pull_from(&client);
    break_calls(&mut one, &peer, 3).await;
    // The other finds it open. It may take what a probe needs, and no more.
    let taken = std::cell::Cell::new(0);
    let (waker, wakes) = futures_test::task::new_count_waker();
    let mut two = counted(&taken).pull_from(&client.clone());
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(Pin::new(&mut two).poll_next(&mut cx).is_pending());
    assert_eq!(taken.get(), 1);
    assert!(peer.try_call().is_none());

    let mut probe = next_call(&mut one, &peer).await;
    assert_eq!(
        probe.refs(),
        [cid(&record(1)).to_string()],
        "the least tried"
    );
    assert!(Pin::new(&mut two).poll_next(&mut cx).is_pending());
    assert!(peer.try_call().is_none(), "one probe for both");
    let before = wakes.get();
    probe.answer(&record(1));
    probe.end(Code::Ok, "");
    waits(&mut one);
    let ones = peer.try_call();
    assert!(wakes.get() > before, "the other is woken");
    assert!(Pin::new(&mut two).poll_next(&mut cx).is_pending());
    assert!(
        peer.call().refs().len() > 1 && taken.get() > 1,
        "and takes more"
    );
    let mut call = match ones {
        Some(call) => call,
        None => next_call(&mut one, &peer).await,
    };
    assert_eq!(call.refs(), [cid(&record(0)).to_string()]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_adapter_is_dropped_leaves_the_way_to_others() {
    let (client, peer) = scripted();
    let refs = || stream::iter([cid(&record(0)), cid(&record(1))]);
    let mut one = refs().pull_from(&client);
    let mut two = refs().pull_from(&client);
    break_calls(&mut one, &peer, 3).await;
    let probe = next_call(&mut one, &peer).await;
    waits(&mut two);
    assert!(peer.try_call().is_none());
    drop(one);
    drop(probe);
    waits(&mut two);
    assert!(peer.try_call().is_some());
}

/// Serves all calls well until a result is there, or for so many seconds.
async fn served_well<S: Stream + Unpin>(
    results: &mut S,
    peer: &Peer,
    seconds: u64,
) -> Option<S::Item> {
    let mut calls: Vec<PeerCall> = Vec::new();
    for _ in 0..seconds * 10 {
        if let Poll::Ready(item) = poll(results) {
            return item;
        }
        calls.extend(peer.try_call());
        let mut running = Vec::new();
        for mut call in calls {
            if call.path == PUSH {
                call.store_all();
            } else if call.path == LOOKUP {
                call.refs().iter().for_each(|text| call.answer_cid(text));
            } else {
                for text in call.refs() {
                    let asked = (0..200).map(record).find(|r| cid(r).to_string() == text);
                    call.answer(&asked.unwrap());
                }
            }
            if call.is_half_closed() {
                call.end(Code::Ok, "");
            } else {
                running.push(call);
            }
        }
        calls = running;
        advance(Duration::from_millis(100)).await;
    }
    None
}

/// A breaker that opens at the first fault, and waits for ever.
fn hasty(client: Client) -> Client {
    let breaker = CircuitBreaker::new().threshold(1);
    client.with_breaker(breaker.give_up_after(None))
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_nobody_polls_does_not_hold_up_other_adapters() {
    let (client, peer) = scripted();
    let client = hasty(client);
    let refs = stream::iter([cid(&record(0)), cid(&record(1))]);
    let mut one = refs.pull_from(&client);
    break_calls(&mut one, &peer, 1).await;
    let probe = next_call(&mut one, &peer).await;
    // From here on nobody polls it.
    let mut two = stream::iter([cid(&record(2))]).pull_from(&client);
    let start = Instant::now();
    let result = served_well(&mut two, &peer, 600).await;
    result.expect("it goes on by itself").unwrap();
    assert!(start.elapsed() <= 61 * SECOND, "{:?}", start.elapsed());
    drop(probe);
}

/// The push is what polls the pull, so it must not wait for the end of the pull's probe.
#[tokio::test(start_paused = true)]
async fn adapters_in_a_chain_over_one_client_do_not_wait_for_each_other() {
    let (client, peer) = scripted();
    let client = hasty(client);
    let refs = stream::iter((0..3).map(|number| cid(&record(number))));
    let options = Options::new().unordered(true);
    let pulled = refs
        .pull_from_with(&client, &options)
        .map(|pulled| pulled.unwrap().record);
    let mut results = pulled.push_to_with(&client, &window(1));
    break_calls(&mut results, &peer, 1).await;
    let mut probe = next_call(&mut results, &peer).await;
    let asked = probe.refs().remove(0);
    let asked = (0..3).map(record).find(|r| cid(r).to_string() == asked);
    probe.answer(&asked.unwrap());
    let mut push = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(push.records().len(), 1);
    // Nobody reads the end of the probe: the window of the push is full.
    probe.end(Code::Ok, "");
    push.break_off();
    let start = Instant::now();
    let result = served_well(&mut results, &peer, 600).await;
    result.expect("they go on").unwrap();
    assert!(start.elapsed() < 10 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_adapter_with_nothing_to_send_does_not_give_up() {
    let (client, peer) = scripted();
    let client = client.with_breaker(CircuitBreaker::new().threshold(1));
    let (refs, input) = mpsc::unbounded();
    let mut idle = input.pull_from(&client);
    waits(&mut idle);
    let mut other = stream::iter([cid(&record(0))]).pull_from(&client);
    break_calls(&mut other, &peer, 1).await;
    drop(other);
    for _ in 0..400 {
        waits(&mut idle);
        advance(SECOND).await;
    }
    refs.unbounded_send(cid(&record(5))).unwrap();
    let result = served_well(&mut idle, &peer, 60).await;
    result.expect("the server is back").unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_wait_is_too_long_for_a_clock() {
    let (client, peer) = scripted();
    let client = hasty(client);
    let mut results = stream::iter([cid(&record(0))]).pull_from(&client);
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    call.end_with_page(503, &[("retry-after", "18446744073709551615")]);
    waits(&mut results);
    // Others of the client are not kept waiting for that.
    advance(61 * SECOND).await;
    let mut other = stream::iter([cid(&record(1))]).pull_from(&client);
    let result = served_well(&mut other, &peer, 60).await;
    result.expect("it asks for itself").unwrap();

    let waits_for_ever = Retry::new().backoff(Duration::MAX, Duration::MAX);
    let options = Options::new()
        .retry(waits_for_ever.timeout(Duration::MAX))
        .stall_after(Some(Duration::MAX))
        .max_call_age(Some(Duration::MAX))
        .idle_close(Some(Duration::MAX));
    let mut results = stream::iter([cid(&record(0))]).pull_from_with(&client, &options);
    break_calls(&mut results, &peer, 1).await;
    advance(3600 * SECOND).await;
    waits(&mut results);
    assert!(peer.try_call().is_none());
}

#[tokio::test]
async fn no_wait_at_all_leaves_the_task_its_turn() {
    let (client, _peer) = scripted();
    let options = Options::new()
        .stall_after(Some(Duration::from_nanos(1)))
        .retry(Retry::new().backoff(Duration::ZERO, Duration::ZERO));
    let mut results = stream::iter([record(0)]).push_to_with(&patient(client), &options);
    // It returns.
    waits(&mut results);
}

#[tokio::test(start_paused = true)]
async fn a_record_without_a_cid_cannot_be_looked_up() {
    let (client, peer) = scripted();
    // A Value of no kind has no canonical form.
    let odd = <Record as prost::Message>::decode(&b"\x0a\x07\x0a\x05\x0a\x01a\x12\x00"[..]);
    let options = Options::new().verify(false).retry(tries(1));
    let input = stream::iter([odd.unwrap()]);
    let mut results = input.push_to_with(&patient(client), &options);
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(call.records().len(), 1);
    call.break_off();
    let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
    assert_eq!(look_up.refs(), [""]);
    look_up.answer_cid("");
    assert_eq!(
        next(&mut results).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_is_handed_over_though_there_is_always_a_result() {
    let (client, peer) = scripted();
    let options = window(8).max_call_age(Some(240 * SECOND));
    let records = stream::iter((0..).map(record));
    let mut results = records.push_to_with(&client, &options);
    waits(&mut results);
    let mut call = peer.call();
    let start = Instant::now();
    while !call.is_half_closed() {
        // The server is faster than the consumer.
        call.store_all();
        if let Poll::Ready(Some(result)) = poll(&mut results) {
            result.unwrap();
        }
        advance(SECOND).await;
        assert!(start.elapsed() < 260 * SECOND, "it goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rested_item_is_sent_though_there_is_always_a_result() {
    let (client, peer) = scripted();
    let options = window(64).unordered(true);
    let records = stream::iter((0..5_000).map(record));
    let mut results = records.push_to_with(&patient(client), &options);
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    call.records();
    call.end(Code::Internal, "no");
    waits(&mut results);
    let (mut look_up, mut call) = (peer.call(), peer.call());
    look_up.refs();
    look_up.end(Code::NotFound, "");
    let mut seen = 0;
    loop {
        let records = call.records();
        records
            .iter()
            .for_each(|record| call.answer_cid(cid(record)));
        if records.contains(&record(0)) {
            break;
        }
        if let Poll::Ready(Some(result)) = poll(&mut results) {
            result.unwrap();
            seen += 1;
        }
        assert!(seen < 100, "it waits");
        advance(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_results_are_out_ends_though_the_server_is_silent() {
    let (client, peer) = scripted();
    let options = Options::new()
        .stall_after(None)
        .retry(Retry::new().timeout(10 * SECOND));
    let mut results = stream::iter([record(0)]).push_to_with(&client, &options);
    let mut call = next_call(&mut results, &peer).await;
    call.records();
    advance(11 * SECOND).await;
    assert_eq!(
        next(&mut results).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
    waits(&mut results);
    advance(6 * SECOND).await;
    assert!(matches!(poll(&mut results), Poll::Ready(None)));
}

#[tokio::test(start_paused = true)]
async fn a_delete_in_a_call_that_was_refused_as_a_whole_may_be_done() {
    let (client, peer) = scripted();
    let refs = stream::iter((0..2).map(|number| cid(&record(number))));
    let mut results = refs.delete_from(&client);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(call.refs().len(), 2);
    // For the second, say.
    call.end(Code::PermissionDenied, "not yours");
    assert_eq!(
        next(&mut results).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_call_that_is_refused_fails_nobody() {
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to(&client);
    records.unbounded_send(record(0)).unwrap();
    let mut call = next_call(&mut results, &peer).await;
    call.store_all();
    next(&mut results).unwrap();
    call.end(Code::Unauthenticated, "the token has expired");
    waits(&mut results);
    // The next call has a new one.
    records.unbounded_send(record(1)).unwrap();
    waits(&mut results);
    peer.call().store_all();
    next(&mut results).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_no_fault_though_its_item_was_given_up() {
    let (client, peer) = scripted();
    let options = Options::new().retry(Retry::new().timeout(10 * SECOND));
    let mut results = stream::iter([record(0)]).push_to_with(&client, &options);
    let mut call = next_call(&mut results, &peer).await;
    call.records();
    advance(11 * SECOND).await;
    next(&mut results).unwrap_err();
    call.end(Code::InvalidArgument, "no");
    assert!(matches!(poll(&mut results), Poll::Ready(None)));
    assert_eq!(results.stats().faults, 0);
}

/// What was behind another in the call is told by the order of sending, not of the input.
#[tokio::test(start_paused = true)]
async fn lookups_are_made_in_the_order_of_sending() {
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to(&patient(client));
    records.unbounded_send(record(0)).unwrap();
    // The second time that a call breaks at 0, it rests.
    for _ in 0..2 {
        let mut call = next_call_of(&mut results, &peer, PUSH).await;
        call.records();
        call.break_off();
        let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
        look_up.refs();
        look_up.end(Code::NotFound, "");
    }
    // While 0 rests, 1 goes out; then 0, by the same call.
    records.unbounded_send(record(1)).unwrap();
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    advance(SECOND).await;
    waits(&mut results);
    assert_eq!(numbers(&mut call), [1, 0]);
    // The server has stored 1, and breaks at 0.
    call.break_off();
    let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
    assert_eq!(look_up.refs(), [1, 0].map(|n| cid(&record(n)).to_string()));
    look_up.answer_cid(cid(&record(1)));
    look_up.end(Code::NotFound, "");
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(numbers(&mut call), [0], "1 is there");
}

/// Bad records that the server does not call bad must not take good ones with them.
#[tokio::test(start_paused = true)]
async fn records_at_which_the_server_fails_do_not_fail_the_ones_behind_them() {
    for (bad, size) in [(3, 1), (4, 4), (15, 1024)] {
        let (client, peer) = scripted();
        let records = stream::iter((0..bad + 10).map(record));
        let mut results = records.push_to_with(&client, &window(size));
        let is_bad = |number: u64| number < bad as u64;
        let mut calls: Vec<PeerCall> = Vec::new();
        let mut seen = Vec::new();
        loop {
            match poll(&mut results) {
                Poll::Ready(Some(result)) => {
                    seen.push(result);
                    continue;
                }
                Poll::Ready(None) => break,
                Poll::Pending => calls.extend(peer.try_call()),
            }
            let mut running = Vec::new();
            for mut call in calls {
                if call.path == LOOKUP {
                    call.refs();
                    call.end(Code::NotFound, "");
                    continue;
                }
                let sent = numbers(&mut call);
                let good = sent.iter().take_while(|number| !is_bad(**number));
                for number in good.clone() {
                    call.answer_cid(cid(&record(*number as usize)));
                }
                if good.count() < sent.len() {
                    call.end(Code::Internal, "something is wrong with it");
                } else if call.is_half_closed() {
                    call.end(Code::Ok, "");
                } else {
                    running.push(call);
                }
            }
            calls = running;
            advance(Duration::from_millis(100)).await;
        }
        for (number, result) in seen.into_iter().enumerate() {
            match result {
                Ok(_) => assert!(!is_bad(number as u64), "{number}"),
                Err(failed) => {
                    assert_eq!(
                        failed.kind(),
                        ErrorKind::ServerFailed,
                        "{bad} in {size}: {failed}"
                    );
                    assert!(is_bad(number as u64), "{failed}");
                }
            }
        }
    }
}

/// The transport takes requests from a thread of its own, in the middle of everything.
#[tokio::test]
async fn what_is_not_sent_was_not_taken_even_while_a_call_is_dropped() {
    let input: Vec<Record> = (0..300)
        .map(|n| crate::support::sized(33_000 + n))
        .collect();
    for _ in 0..50 {
        let (client, peer) = scripted();
        let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let reader = std::thread::spawn(move || {
            let mut call: Option<PeerCall> = None;
            let mut read = std::collections::BTreeSet::new();
            loop {
                // Once more after it is over.
                let is_last = over.load(Ordering::Acquire);
                call = call.or_else(|| peer.try_call());
                let records = call.as_mut().map(PeerCall::records).unwrap_or_default();
                read.extend(records.iter().map(prost::Message::encoded_len));
                if is_last {
                    return read;
                }
            }
        });
        let options = window(300)
            .window_bytes(usize::MAX)
            .stall_after(Some(Duration::from_micros(100)))
            .verify(false)
            .retry(Retry::off());
        let results = stream::iter(input.clone()).push_to_with(&client, &options);
        let results: Vec<_> = crate::support::soon(results.collect()).await;
        is_over.store(true, Ordering::Release);
        let read = reader.join().unwrap();
        for failed in results.into_iter().filter_map(Result::err) {
            let len = prost::Message::encoded_len(&failed.input);
            let landed = failed.kind() == ErrorKind::NotSent && read.contains(&len);
            assert!(!landed, "{failed}, but the peer has it");
        }
    }
}

/// With the defaults the time to close an idle call is also that of a stall.
#[cfg(feature = "server")]
#[tokio::test(start_paused = true)]
async fn an_idle_call_is_closed_and_not_reset() {
    use agntcy_dir_stream::server::{End, Store};

    use crate::support::in_a_week;

    let store = Store::new();
    let paced = stream::iter((0..3).map(record)).then(async |record| {
        tokio::time::sleep(Duration::from_secs(100)).await;
        record
    });
    let results = Box::pin(paced).push_to(&store.client());
    let results: Vec<_> = in_a_week(results.collect()).await;
    assert!(results.iter().all(Result::is_ok));
    let seen = store.calls();
    assert_eq!(seen.len(), 3);
    assert!(
        seen.iter().all(|call| call.end == Some(End::Ok)),
        "{seen:?}"
    );
}
