//! An item at which the server fails: whose fault it is, and when the item gets its error.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Retry};
use futures::channel::mpsc;
use futures::stream;
use tokio::time::{Instant, advance};
use tonic::Code;

use super::{At, next_lookup_finds_nothing, pushing, serve_push, without_breaker};
use crate::support::clock::SECOND;
use crate::support::messages::{LOOKUP, PUSH};
use crate::support::peer::{next_call, next_call_of, scripted};
use crate::support::polling::{assert_ended, assert_pending, next};
use crate::support::records::{cid, cids, number_of, record};

#[tokio::test(start_paused = true)]
async fn after_an_internal_error_a_record_is_looked_up_then_sent_again_and_the_others_go_on() {
    let options = Options::new().retry(Retry::new().max_attempts(3));
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
    assert_pending(&mut results);
    let (mut look_up, mut call) = (peer.call(), peer.call());
    assert_eq!((look_up.path.as_str(), call.path.as_str()), (LOOKUP, PUSH));
    assert_eq!(look_up.refs(), [cid(&record(0)).to_string()]);
    assert_eq!(call.numbers(), [1]);
    call.answer_cid(cid(&record(1)));
    look_up.end(Code::NotFound, "");
    assert_pending(&mut results);
    assert_eq!(results.stats().succeeded, 0, "results keep their order");

    // After its wait it goes out again by the call that runs; the validator is back.
    advance(SECOND).await;
    assert_pending(&mut results);
    assert_eq!(call.numbers(), [0]);
    call.answer_cid(cid(&record(0)));
    let pushed = next(&mut results).unwrap();
    assert_eq!((pushed.index, pushed.already_stored), (0, false));
    assert_eq!(next(&mut results).unwrap().index, 1);
    assert!(peer.try_call().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_internal_error_of_a_record_that_is_stored_is_a_success() {
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
async fn an_internal_error_is_the_records_own_when_its_attempts_are_used_up() {
    let options = Options::new().retry(Retry::new().max_attempts(3));
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to_with(&without_breaker(client), &options);
    records.unbounded_send(record(0)).unwrap();
    for other in 1..=3 {
        let mut call = next_call_of(&mut results, &peer, PUSH).await;
        if other > 1 {
            // The server does its work on another.
            assert_eq!(call.store_all(), 1);
            advance(SECOND / 10).await;
            assert_pending(&mut results);
        }
        assert_eq!(call.numbers(), [0]);
        call.end(Code::Internal, "the disk is full");
        records.unbounded_send(record(other)).unwrap();
        if other != 2 {
            // The first time, and before it is failed.
            next_lookup_finds_nothing(&mut results, &peer).await;
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
async fn a_record_that_has_succeeded_is_asked_for_again_to_tell_whose_fault_it_is() {
    let text = |number| cid(&record(number)).to_string();
    for is_there in [true, false] {
        let (client, peer) = scripted();
        let (records, input) = mpsc::unbounded();
        let mut results = input.push_to(&without_breaker(client));
        records.unbounded_send(record(0)).unwrap();
        let mut call = next_call_of(&mut results, &peer, PUSH).await;
        call.store_all();
        assert!(next(&mut results).is_ok());
        advance(5 * SECOND).await;
        records.unbounded_send(record(1)).unwrap();
        assert_pending(&mut results);
        assert_eq!(call.numbers(), [1]);
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
        let sent = call.numbers();
        assert_eq!(sent, if is_there { vec![0, 1] } else { vec![1] });
        // The answer to what was asked for again makes no result.
        for number in sent {
            call.answer_cid(text(number));
        }
        assert_eq!(next(&mut results).unwrap().index, 1);
        assert_pending(&mut results);
        assert_eq!(results.stats().succeeded, 2);
    }
}

/// The status does not say whose fault it is. A pull changes nothing, so what has succeeded is asked for again
/// at once.
#[tokio::test(start_paused = true)]
async fn a_pull_asks_again_for_what_it_has_had() {
    let (client, peer) = scripted();
    let (refs, input) = mpsc::unbounded();
    let mut results = input.pull_from(&without_breaker(client));
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
    let refs = cids(6);
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
    assert_ended(&mut results);
}

/// Nothing tells whether it is the record or the server.
#[tokio::test(start_paused = true)]
async fn an_item_that_fails_where_nothing_else_is_tried_has_two_minutes() {
    let (client, peer) = scripted();
    let records = stream::iter([record(0)]);
    let options = Options::new().retry(Retry::new().max_attempts(3));
    let mut results = records.push_to_with(&without_breaker(client), &options);
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < Duration::from_secs(110) {
        let mut call = next_call_of(&mut results, &peer, PUSH).await;
        assert_eq!(call.numbers(), [0]);
        call.end(Code::Internal, "the disk is full");
        if calls == 0 {
            next_lookup_finds_nothing(&mut results, &peer).await;
        }
        calls += 1;
    }
    assert!((200..600).contains(&calls), "{calls} calls");
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(call.store_all(), 1);
    assert_eq!(next(&mut results).unwrap().index, 0);
}

/// The server fails at bad records and does not call them bad. The good ones behind them must not fail.
#[tokio::test(start_paused = true)]
async fn records_at_which_the_server_fails_do_not_fail_the_ones_behind_them() {
    for (bad, size) in [(3, 1), (4, 4), (15, 1024)] {
        let (client, peer) = scripted();
        let records = stream::iter((0..bad + 10).map(record));
        let mut results = records.push_to_with(&client, &Options::new().window(size));
        let is_bad = |number: usize| number < bad;
        let at = |record: &Record| match is_bad(number_of(record)) {
            true => At::Fail,
            false => At::Store,
        };
        let (results, _) = serve_push(&mut results, &peer, at).await;
        for (number, result) in results.into_iter().enumerate() {
            match result {
                Ok(_) => assert!(!is_bad(number), "{number}"),
                Err(failed) => {
                    assert_eq!(
                        failed.kind(),
                        ErrorKind::ServerFailed,
                        "{bad} in {size}: {failed}"
                    );
                    assert!(is_bad(number), "{failed}");
                }
            }
        }
    }
}
