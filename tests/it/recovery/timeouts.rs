//! The time that an item has: what becomes of it when that is over.

use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Retry};
use futures::stream;
use tokio::time::{Instant, advance};
use tonic::Code;

use super::{break_calls, pushing, serve_until_result, with_hasty_breaker, without_breaker};
use crate::support::clock::SECOND;
use crate::support::peer::{next_call, scripted};
use crate::support::polling::{assert_ended, assert_pending, next, poll};
use crate::support::records::{cid, record, records};

#[tokio::test(start_paused = true)]
async fn an_item_that_times_out_before_it_left_is_not_sent_later() {
    let options = Options::new().retry(Retry::new().timeout(10 * SECOND));
    let (client, peer) = scripted();
    let client = without_breaker(client);
    let mut results = records(2).push_to_with(&client, &options);
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
        assert_ended(&mut results);
        assert!(peer.try_call().is_none());
        advance(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_times_out_in_flight_is_unknown_and_its_late_answer_is_ignored() {
    let retry = Retry::new().timeout(10 * SECOND);
    let (mut results, _peer, mut call) = pushing(2, Options::new().retry(retry)).await;
    assert_eq!(call.numbers(), [0, 1]);
    advance(9 * SECOND).await;
    assert_pending(&mut results);
    advance(2 * SECOND).await;
    for index in 0..2 {
        let failed = next(&mut results).unwrap_err();
        assert_eq!(
            (failed.index, failed.kind()),
            (index, ErrorKind::OutcomeUnknown)
        );
    }
    assert_pending(&mut results);
    call.answer_cid(cid(&record(0)));
    call.answer_cid(cid(&record(1)));
    call.end(Code::Ok, "");
    assert_ended(&mut results);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_consumer_at_work_does_not_count() {
    let options = Options::new()
        .retry(Retry::new().timeout(10 * SECOND))
        .stall_after(Some(5 * SECOND));
    let (mut results, _peer, mut call) = pushing(3, options).await;
    assert_eq!(call.numbers(), [0, 1, 2]);
    for number in 0..3 {
        call.answer_cid(cid(&record(number)));
        assert_eq!(next(&mut results).unwrap().index, number as u64);
        // An hour of work on each result.
        advance(3600 * SECOND).await;
    }
    call.end(Code::Ok, "");
    assert_ended(&mut results);
}

#[tokio::test(start_paused = true)]
async fn no_wait_is_too_long_for_a_clock() {
    let (client, peer) = scripted();
    let client = with_hasty_breaker(client);
    let mut results = stream::iter([cid(&record(0))]).pull_from(&client);
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    call.end_with_page(503, &[("retry-after", "18446744073709551615")]);
    assert_pending(&mut results);
    // Others of the client are not kept waiting for that.
    advance(61 * SECOND).await;
    let mut other = stream::iter([cid(&record(1))]).pull_from(&client);
    let result = serve_until_result(&mut other, &peer, 60).await;
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
    assert_pending(&mut results);
    assert!(peer.try_call().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_given_all_results_ends_though_the_server_is_silent() {
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
    assert_pending(&mut results);
    advance(6 * SECOND).await;
    assert_ended(&mut results);
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
    assert_ended(&mut results);
    assert_eq!(results.stats().faults, 0);
}
