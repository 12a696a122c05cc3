//! What an adapter does when calls break, items fail or the server is away. The peer does what the test
//! says, under a paused clock.

mod attempts;
mod circuit_breaker;
mod lost_answers;
mod poison;
mod server_fails;
mod stalls;
mod timeouts;

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
