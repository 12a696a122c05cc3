//! Answers that were lost: what became of their items is looked up, and the rest is sent again.

use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Retry};
use futures::channel::mpsc;
use futures::{StreamExt as _, stream};
use tokio::time::advance;
use tonic::Code;

use super::{next_lookup_finds_nothing, pushing, without_breaker};
use crate::support::clock::{SECOND, soon};
use crate::support::messages::{LOOKUP, PUSH};
use crate::support::peer::{next_call, next_call_of, scripted};
use crate::support::polling::{assert_ended, assert_pending, next, poll};
use crate::support::records::{cid, cids, record, records, sized};

#[tokio::test(start_paused = true)]
async fn a_push_whose_answer_was_lost_is_looked_up_before_it_is_sent_again() {
    let (mut results, peer, mut call) = pushing(5, Options::new()).await;
    assert_eq!(call.numbers(), [0, 1, 2, 3, 4]);
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
    assert_eq!(call.numbers(), [3, 4], "what is not there, and only that");
    call.answer_cid(cid(&record(3)));
    call.answer_cid(cid(&record(4)));
    call.end(Code::Ok, "");
    for number in 3..5 {
        let pushed = next(&mut results).unwrap();
        assert_eq!((pushed.index, pushed.already_stored), (number, false));
    }
    assert_ended(&mut results);
}

#[tokio::test(start_paused = true)]
async fn what_the_transport_never_took_needs_no_lookup() {
    let (client, peer) = scripted();
    let mut results = records(3).push_to(&client);
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
    assert_ended(&mut results);
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
    assert_eq!(call.numbers(), [1]);
}

/// A server that gets a message which is too long fails the call, and the answers to the records before it are
/// lost. So the status alone does not tell which record it is about.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_long_for_the_server_is_found_by_its_length() {
    let (client, peer) = scripted();
    let long = sized(5_000);
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

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_looked_up_is_unknown() {
    // The caller may push, but not look up.
    let options = Options::new().retry(Retry::new().max_attempts(1));
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
    assert_eq!(call.numbers(), [1]);
    call.answer_cid(cid(&record(1)));
    assert_eq!(next(&mut results).unwrap().index, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_answers_with_another_record_settles_nothing() {
    let options = Options::new().retry(Retry::new().max_attempts(1));
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

#[tokio::test(start_paused = true)]
async fn a_record_without_a_cid_cannot_be_looked_up() {
    let (client, peer) = scripted();
    // A Value of no kind has no canonical form.
    let odd = <Record as prost::Message>::decode(&b"\x0a\x07\x0a\x05\x0a\x01a\x12\x00"[..]);
    let options = Options::new()
        .verify(false)
        .retry(Retry::new().max_attempts(1));
    let input = stream::iter([odd.unwrap()]);
    let mut results = input.push_to_with(&without_breaker(client), &options);
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(call.records().len(), 1);
    call.break_off();
    let failed = soon(results.next()).await.unwrap().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test(start_paused = true)]
async fn a_delete_in_a_call_that_was_refused_as_a_whole_may_be_done() {
    let (client, peer) = scripted();
    let mut results = cids(2).delete_from(&client);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(call.refs().len(), 2);
    // For the second, say.
    call.end(Code::PermissionDenied, "not yours");
    assert_eq!(
        next(&mut results).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
}

/// A record is behind another in a call if it was sent after it, whatever their order in the input.
#[tokio::test(start_paused = true)]
async fn lookups_are_made_in_the_order_of_sending() {
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to(&without_breaker(client));
    records.unbounded_send(record(0)).unwrap();
    // The second time that a call breaks at 0, it rests.
    for _ in 0..2 {
        let mut call = next_call_of(&mut results, &peer, PUSH).await;
        call.records();
        call.break_off();
        next_lookup_finds_nothing(&mut results, &peer).await;
    }
    // While 0 rests, 1 goes out; then 0, by the same call.
    records.unbounded_send(record(1)).unwrap();
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    advance(SECOND).await;
    assert_pending(&mut results);
    assert_eq!(call.numbers(), [1, 0]);
    // The server has stored 1, and breaks at 0.
    call.break_off();
    let mut look_up = next_call_of(&mut results, &peer, LOOKUP).await;
    assert_eq!(look_up.refs(), [1, 0].map(|n| cid(&record(n)).to_string()));
    look_up.answer_cid(cid(&record(1)));
    look_up.end(Code::NotFound, "");
    let mut call = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(call.numbers(), [0], "1 is there");
}
