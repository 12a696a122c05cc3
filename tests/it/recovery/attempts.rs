//! How often an item is tried, and the waits between its attempts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Retry, Status, Verdict};
use futures::stream;
use tokio::time::{Instant, advance};
use tonic::Code;

use super::{pushing, without_breaker};
use crate::support::clock::SECOND;
use crate::support::messages::{PUSH, trailers};
use crate::support::peer::{next_call, next_call_of, scripted};
use crate::support::polling::{assert_ended, assert_pending, next, poll};
use crate::support::records::{cid, cids, record, records};

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_resets_at_once_does_not_spin() {
    let (client, peer) = scripted();
    let client = without_breaker(client);
    let refs = stream::iter([cid(&record(0))]);
    let mut results =
        refs.pull_from_with(&client, &Options::new().retry(Retry::new().max_attempts(8)));
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
async fn an_answer_starts_the_backoff_anew() {
    let (client, peer) = scripted();
    let client = without_breaker(client);
    let mut results = cids(100).pull_from_with(&client, &Options::new().window(2));
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
    let client = without_breaker(client);
    let busy = |millis: &str| {
        let mut trailers = trailers(Code::Unavailable, "busy");
        trailers.insert("grpc-retry-pushback-ms", millis.parse().unwrap());
        trailers
    };
    let mut results = cids(2).pull_from(&client);
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    call.end_with(busy("20000"));
    assert_pending(&mut results);
    advance(Duration::from_millis(19_900)).await;
    assert_pending(&mut results);
    assert!(peer.try_call().is_none(), "it was asked to wait for 20 s");
    advance(Duration::from_millis(200)).await;
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs().len(), 2);
    call.end_with(busy("-1"));
    let failed = next(&mut results).unwrap_err();
    assert_eq!((failed.index, failed.kind()), (0, ErrorKind::Unavailable));
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(call.refs().len(), 1);
    call.answer(&record(1));
    assert_eq!(next(&mut results).unwrap().index, 1);
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_proxy_is_transient_and_its_retry_after_is_kept() {
    let (client, peer) = scripted();
    let mut results = stream::iter([cid(&record(0))]).pull_from(&client);
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    call.end_with_page(502, &[("retry-after", "30")]);
    assert_pending(&mut results);
    advance(29 * SECOND).await;
    assert_pending(&mut results);
    assert!(peer.try_call().is_none());
    advance(2 * SECOND).await;
    assert_pending(&mut results);
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
async fn a_caller_can_give_verdicts_of_its_own() {
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
    assert_eq!(call.numbers(), [1]);
    assert_eq!(judged.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn without_retries_each_item_is_sent_once() {
    let options = Options::new().retry(Retry::off());
    let (mut results, peer, mut call) = pushing(3, options).await;
    call.records();
    call.answer_cid(cid(&record(0)));
    call.end(Code::Internal, "already exists");
    next(&mut results).unwrap();
    let failed = next(&mut results).unwrap_err();
    assert_eq!((failed.index, failed.kind()), (1, ErrorKind::ServerFailed));
    // The one behind it is carried on, and at once.
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.numbers(), [2]);
    call.end(Code::Unavailable, "away");
    let failed = next(&mut results).unwrap_err();
    assert_eq!(
        (failed.index, failed.kind()),
        (2, ErrorKind::OutcomeUnknown)
    );
    assert_ended(&mut results);
    assert!(peer.try_call().is_none(), "nothing is looked up");
}

#[tokio::test]
async fn without_any_wait_a_poll_returns_all_the_same() {
    let (client, _peer) = scripted();
    let options = Options::new()
        .stall_after(Some(Duration::from_nanos(1)))
        .retry(Retry::new().backoff(Duration::ZERO, Duration::ZERO));
    let mut results = stream::iter([record(0)]).push_to_with(&without_breaker(client), &options);
    // It returns.
    assert_pending(&mut results);
}

#[tokio::test(start_paused = true)]
async fn an_item_is_sent_again_though_there_is_always_a_result() {
    let (client, peer) = scripted();
    let options = Options::new().window(64).unordered(true);
    let records = records(5_000);
    let mut results = records.push_to_with(&without_breaker(client), &options);
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    call.records();
    call.end(Code::Internal, "no");
    assert_pending(&mut results);
    let (look_up, mut call) = (peer.call(), peer.call());
    look_up.find_nothing();
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
