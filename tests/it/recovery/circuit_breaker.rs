//! The circuit breaker that the adapters of a client share.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::Poll;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{CircuitBreaker, ErrorKind, Retry};
use futures::channel::mpsc;
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, advance};
use tonic::Code;

use super::{break_calls, serve_until_result, with_hasty_breaker};
use crate::support::clock::SECOND;
use crate::support::messages::PUSH;
use crate::support::peer::{next_call, next_call_of, scripted};
use crate::support::polling::{assert_pending, counted, next, poll};
use crate::support::records::{cid, cids, number_with_cid, record, records};

fn counted_cids(taken: &Cell<usize>) -> impl Stream<Item = Cid> + Unpin {
    counted(taken).map(|record| cid(&record))
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_stops_the_input_and_sends_one_item_at_a_time() {
    let (client, peer) = scripted();
    let taken = Cell::new(0);
    let mut results = counted_cids(&taken).pull_from_with(&client, &Options::new().window(10));
    assert_pending(&mut results);
    assert_eq!(taken.get(), 10);
    break_calls(&mut results, &peer, 3).await;

    let mut carried = BTreeSet::new();
    for _ in 0..4 {
        let mut probe = next_call(&mut results, &peer).await;
        let refs = probe.refs();
        assert_eq!(refs.len(), 1);
        carried.extend(refs);
        assert!(probe.is_half_closed());
        advance(5 * SECOND).await;
        assert_pending(&mut results);
        assert!(peer.try_call().is_none(), "one probe at a time");
        probe.break_off();
    }
    assert_eq!(carried.len(), 4, "each probe is another item");
    assert_eq!(taken.get(), 10, "the input is left alone");

    let mut probe = next_call(&mut results, &peer).await;
    let number = number_with_cid(&probe.refs()[0]);
    probe.answer(&record(number));
    probe.end(Code::Ok, "");
    assert_pending(&mut results);
    assert_eq!(peer.call().refs().len(), 9, "all go on at once");
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_gives_up_after_its_time_with_an_error_of_its_own() {
    let (client, peer) = scripted();
    let breaker = CircuitBreaker::new().give_up_after(Some(60 * SECOND));
    let client = client.with_breaker(breaker);
    let taken = Cell::new(0);
    let input = counted_cids(&taken).take(30);
    let options = Options::new()
        .window(10)
        .retry(Retry::new().max_attempts(100));
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
    let options = Options::new().retry(Retry::new().max_attempts(100));
    let mut results = records(2).push_to_with(&client, &options);
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
    let mut results = records(20).push_to(&client);
    for _ in 0..20 {
        assert_pending(&mut results);
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
    let taken = Cell::new(0);
    let (waker, wakes) = futures_test::task::new_count_waker();
    let mut two = counted_cids(&taken).pull_from(&client.clone());
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
    assert_pending(&mut one);
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
    assert_pending(&mut two);
    assert!(peer.try_call().is_none());
    drop(one);
    drop(probe);
    assert_pending(&mut two);
    assert!(peer.try_call().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_nobody_polls_does_not_hold_up_other_adapters() {
    let (client, peer) = scripted();
    let client = with_hasty_breaker(client);
    let refs = stream::iter([cid(&record(0)), cid(&record(1))]);
    let mut one = refs.pull_from(&client);
    break_calls(&mut one, &peer, 1).await;
    let probe = next_call(&mut one, &peer).await;
    // From here on nobody polls it.
    let mut two = stream::iter([cid(&record(2))]).pull_from(&client);
    let start = Instant::now();
    let result = serve_until_result(&mut two, &peer, 600).await;
    result.expect("it goes on by itself").unwrap();
    assert!(start.elapsed() <= 61 * SECOND, "{:?}", start.elapsed());
    drop(probe);
}

/// The push is what polls the pull, so it must not wait for the end of the pull's probe.
#[tokio::test(start_paused = true)]
async fn adapters_in_a_chain_over_one_client_do_not_wait_for_each_other() {
    let (client, peer) = scripted();
    let client = with_hasty_breaker(client);
    let refs = cids(3);
    let options = Options::new().unordered(true);
    let pulled = refs
        .pull_from_with(&client, &options)
        .map(|pulled| pulled.unwrap().record);
    let mut results = pulled.push_to_with(&client, &Options::new().window(1));
    break_calls(&mut results, &peer, 1).await;
    let mut probe = next_call(&mut results, &peer).await;
    let number = number_with_cid(&probe.refs()[0]);
    probe.answer(&record(number));
    let mut push = next_call_of(&mut results, &peer, PUSH).await;
    assert_eq!(push.records().len(), 1);
    // Nobody reads the end of the probe: the window of the push is full.
    probe.end(Code::Ok, "");
    push.break_off();
    let start = Instant::now();
    let result = serve_until_result(&mut results, &peer, 600).await;
    result.expect("they go on").unwrap();
    assert!(start.elapsed() < 10 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_adapter_with_nothing_to_send_does_not_give_up() {
    let (client, peer) = scripted();
    let client = client.with_breaker(CircuitBreaker::new().threshold(1));
    let (refs, input) = mpsc::unbounded();
    let mut idle = input.pull_from(&client);
    assert_pending(&mut idle);
    let mut other = stream::iter([cid(&record(0))]).pull_from(&client);
    break_calls(&mut other, &peer, 1).await;
    drop(other);
    for _ in 0..400 {
        assert_pending(&mut idle);
        advance(SECOND).await;
    }
    refs.unbounded_send(cid(&record(5))).unwrap();
    let result = serve_until_result(&mut idle, &peer, 60).await;
    result.expect("the server is back").unwrap();
}
