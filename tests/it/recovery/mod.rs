//! What an adapter does when calls break, items fail or the server is away. The peer does what the test
//! says, under a paused clock.

mod attempts;
mod circuit_breaker;
#[cfg(feature = "server")]
mod full_disk;
mod lost_answers;
#[cfg(feature = "server")]
mod outages;
mod poison;
mod server_fails;
mod stalls;
mod timeouts;

use std::collections::HashSet;
use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::CircuitBreaker;
use agntcy_dir_stream::prelude::*;
use futures::Stream;
use tokio::time::advance;
use tonic::Code;

use crate::support::clock::SECOND;
use crate::support::messages::{LOOKUP, PUSH};
use crate::support::peer::{Peer, PeerCall, next_call, next_call_of, scripted};
use crate::support::polling::{assert_pending, poll};
use crate::support::records::{cid, number_with_cid, record, records};

fn without_breaker(client: Client) -> Client {
    client.with_breaker(CircuitBreaker::off())
}

/// With a breaker that opens at the first fault and never gives up.
fn with_hasty_breaker(client: Client) -> Client {
    let breaker = CircuitBreaker::new().threshold(1);
    client.with_breaker(breaker.give_up_after(None))
}

/// A push that has sent these records in its first call.
async fn pushing(
    count: usize,
    options: Options,
) -> (impl Stream<Item = PushResult> + Unpin, Peer, PeerCall) {
    let (client, peer) = scripted();
    let mut results = records(count).push_to_with(&without_breaker(client), &options);
    let call = next_call_of(&mut results, &peer, PUSH).await;
    (results, peer, call)
}

/// The next call is a lookup. It finds nothing.
async fn next_lookup_finds_nothing<S: Stream + Unpin>(results: &mut S, peer: &Peer) {
    let look_up = next_call_of(results, peer, LOOKUP).await;
    look_up.find_nothing();
}

/// Breaks the next `faults` calls.
async fn break_calls<S: Stream + Unpin>(results: &mut S, peer: &Peer, faults: usize) {
    for _ in 0..faults {
        let mut call = next_call(results, peer).await;
        call.refs();
        call.break_off();
    }
    assert_pending(results);
}

/// Serves all calls well until there is a result, for at most so many seconds.
async fn serve_until_result<S: Stream + Unpin>(
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
                    call.answer(&record(number_with_cid(&text)));
                }
            }
            if call.is_half_closed() {
                call.end(Code::Ok, "");
            } else {
                running.push(call);
            }
        }
        calls = running;
        advance(SECOND / 10).await;
    }
    None
}

/// What a server does when it comes to a record.
enum At {
    Store,
    BreakOff,
    Fail,
}

/// Serves a push to its end. The server works on the records one after the other, and tells by lookups what it has
/// stored. Returns the results, and the records that came in each chunk.
async fn serve_push<S: Stream + Unpin>(
    results: &mut S,
    peer: &Peer,
    at: impl Fn(&Record) -> At,
) -> (Vec<S::Item>, Vec<Vec<Record>>) {
    let mut seen = Vec::new();
    let mut calls: Vec<PeerCall> = Vec::new();
    let mut stored = HashSet::new();
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
                    match at(&record) {
                        At::Store => {
                            stored.insert(cid(&record).to_string());
                            call.answer_cid(cid(&record));
                        }
                        At::BreakOff => {
                            call.break_off();
                            continue 'calls;
                        }
                        At::Fail => {
                            call.end(Code::Internal, "something is wrong with it");
                            continue 'calls;
                        }
                    }
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
