//! Calls that make no progress, are idle or grow old: when they are left, and what becomes of what they carried.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Retry};
use futures::channel::mpsc;
use futures::{StreamExt, stream};
use tokio::time::{Instant, advance};
use tonic::Code;

use crate::support::clock::{SECOND, soon};
use crate::support::peer::{PeerCall, next_call, scripted};
use crate::support::polling::{assert_pending, next, poll};
use crate::support::records::{cid, cids, record, sized};

#[tokio::test(start_paused = true)]
async fn a_call_without_progress_is_dropped_and_another_goes_on() {
    let options = Options::new().stall_after(Some(10 * SECOND));
    let (client, peer) = scripted();
    let refs = cids(3).chain(stream::pending());
    let mut results = Box::pin(refs.pull_from_with(&client, &options));
    let mut call = next_call(&mut results, &peer).await;
    call.refs();
    for number in 0..2 {
        // Slow is not stalled.
        advance(9 * SECOND).await;
        assert_pending(&mut results);
        call.answer(&record(number));
        assert_eq!(next(&mut results).unwrap().index, number as u64);
        assert_pending(&mut results);
    }
    advance(11 * SECOND).await;
    assert_pending(&mut results);
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
        assert_pending(&mut results);
        advance(3600 * SECOND).await;
    }
    assert!(!call.is_reset());
    records.unbounded_send(record(1)).unwrap();
    assert_pending(&mut results);
    advance(9 * SECOND).await;
    assert_pending(&mut results);
    assert_eq!(call.store_all(), 1, "the clock starts when it is sent");
    next(&mut results).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_old_call_hands_over_without_losing_or_resending_anything() {
    let options = Options::new().window(4).max_call_age(Some(60 * SECOND));
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to_with(&client, &options);
    records.unbounded_send(record(0)).unwrap();
    records.unbounded_send(record(1)).unwrap();
    let mut old = next_call(&mut results, &peer).await;
    assert_eq!(old.numbers(), [0, 1]);
    advance(50 * SECOND).await;
    assert_pending(&mut results);
    assert!(!old.is_half_closed());
    advance(11 * SECOND).await;
    assert_pending(&mut results);
    assert!(old.is_half_closed());
    records.unbounded_send(record(2)).unwrap();
    assert_pending(&mut results);
    assert!(peer.try_call().is_none(), "the old one has yet to answer");
    old.answer_cid(cid(&record(0)));
    old.answer_cid(cid(&record(1)));
    old.end(Code::Ok, "");
    for index in 0..2 {
        assert_eq!(next(&mut results).unwrap().index, index);
    }
    assert_pending(&mut results);
    let mut new = peer.call();
    assert_eq!(new.numbers(), [2]);
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
    assert_pending(&mut results);
    advance(29 * SECOND).await;
    assert_pending(&mut results);
    assert!(!call.is_half_closed());
    advance(2 * SECOND).await;
    assert_pending(&mut results);
    assert!(call.is_half_closed());
    call.end(Code::Ok, "");
    assert_pending(&mut results);
    assert!(peer.try_call().is_none(), "nothing is to be sent");
    records.unbounded_send(record(1)).unwrap();
    assert_pending(&mut results);
    assert_eq!(peer.call().store_all(), 1);
    next(&mut results).unwrap();
    assert_eq!(results.stats().faults, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_handed_over_though_there_is_always_a_result() {
    let (client, peer) = scripted();
    let options = Options::new().window(8).max_call_age(Some(240 * SECOND));
    let records = stream::iter((0..).map(record));
    let mut results = records.push_to_with(&client, &options);
    assert_pending(&mut results);
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
async fn an_idle_call_that_is_refused_fails_nobody() {
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to(&client);
    records.unbounded_send(record(0)).unwrap();
    let mut call = next_call(&mut results, &peer).await;
    call.store_all();
    next(&mut results).unwrap();
    call.end(Code::Unauthenticated, "the token has expired");
    assert_pending(&mut results);
    // The next call has a new one.
    records.unbounded_send(record(1)).unwrap();
    assert_pending(&mut results);
    peer.call().store_all();
    next(&mut results).unwrap();
}

/// Here the transport takes requests in a thread of its own, at any moment.
#[tokio::test]
async fn what_is_not_sent_was_not_taken_even_while_a_call_is_dropped() {
    let input: Vec<Record> = (0..300).map(|n| sized(33_000 + n)).collect();
    for _ in 0..50 {
        let (client, peer) = scripted();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let reader = std::thread::spawn(move || {
            let mut call: Option<PeerCall> = None;
            let mut read = BTreeSet::new();
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
        let options = Options::new()
            .window(300)
            .window_bytes(usize::MAX)
            .stall_after(Some(Duration::from_micros(100)))
            .verify(false)
            .retry(Retry::off());
        let results = stream::iter(input.clone()).push_to_with(&client, &options);
        let results: Vec<_> = soon(results.collect()).await;
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

    use crate::support::clock::in_a_week;
    use crate::support::records::records;

    let store = Store::new();
    let paced = records(3).then(async |record| {
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
