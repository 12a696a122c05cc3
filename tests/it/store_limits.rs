//! What a client that means harm, or is broken, can take of the embedded store: no more than it
//! allows, and others are served.

use std::time::Duration;

use agntcy_dir_stream::server::{Method, Serving, Store};
use agntcy_dir_stream::{Client, MAX_RECORD_LEN};
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use prost::Message;
use tokio::net::TcpStream;

use crate::support::clock::soon;
use crate::support::http2::{raw_connection, raw_request};
use crate::support::messages::{RecordRef, framed};
use crate::support::records::{record, sized};
use crate::support::stores::{ended_calls, listen, serve};

const MIB: usize = 1 << 20;

/// Another client can push a record and find it.
async fn assert_serves(serving: &Serving) {
    let client = soon(Client::connect(serving.url())).await.unwrap();
    let pushed = soon(client.push(record(1))).await.unwrap();
    soon(client.lookup(&pushed.cid)).await.unwrap();
}

const ROOM: usize = 32 * MIB;

/// The open calls of a client that means harm.
#[derive(Default)]
struct Calls {
    connections: Vec<h2::client::SendRequest<Bytes>>,
    open: Vec<h2::SendStream<Bytes>>,
    answers: Vec<h2::client::ResponseFuture>,
}

impl Calls {
    /// Opens this many calls over one more connection, and sends these bytes in each.
    async fn open(&mut self, serving: &Serving, calls: usize, sent: &Bytes) {
        let mut connection = raw_connection(serving).await;
        for _ in 0..calls {
            connection = soon(connection.ready()).await.unwrap();
            let lookup = raw_request(serving, Method::Lookup);
            let (answer, mut requests) = connection.send_request(lookup, false).unwrap();
            if !sent.is_empty() {
                requests.send_data(sent.clone(), false).unwrap();
            }
            self.open.push(requests);
            self.answers.push(answer);
        }
        self.connections.push(connection);
    }

    /// Waits until this many calls were refused.
    async fn refused(&mut self, calls: usize) {
        let mut ends: FuturesUnordered<_> = self.answers.drain(..).collect();
        for _ in 0..calls {
            let end = soon(ends.next()).await.unwrap().unwrap();
            assert_eq!(end.headers()["grpc-status"], "8");
        }
    }
}

#[tokio::test]
async fn half_sent_messages_take_no_more_than_is_allowed() {
    const CALLS: usize = 200;
    let store = Store::builder().max_buffered(ROOM).build();
    let serving = listen(&store).await;
    let half = framed(&vec![0; 2 * MIB]).slice(..5 + 2 * MIB - 1024);
    let mut calls = Calls::default();
    calls.open(&serving, CALLS, &half).await;
    calls.refused(CALLS - ROOM / half.len()).await;
    assert_serves(&serving).await;
    // What they took comes back.
    drop(calls);
    soon(ended_calls(&store)).await;
    let client = soon(Client::connect(serving.url())).await.unwrap();
    soon(client.push(sized(MAX_RECORD_LEN))).await.unwrap();
}

#[tokio::test]
async fn messages_that_are_only_announced_keep_nobody_out() {
    let store = Store::new();
    let serving = listen(&store).await;
    let head = framed(&vec![0; MAX_RECORD_LEN]).slice(..5);
    let mut calls = Calls::default();
    for connection in 1..=5 {
        calls.open(&serving, 1000, &head).await;
        soon(store.wait_for(|calls| calls.len() >= 1000 * connection)).await;
    }
    let client = soon(Client::connect(serving.url())).await.unwrap();
    for number in 0..100 {
        soon(client.push(record(number))).await.unwrap();
    }
    soon(client.push(sized(MAX_RECORD_LEN))).await.unwrap();
    // And nobody was put out for it.
    let ended = store.calls().into_iter().filter(|call| call.end.is_some());
    assert_eq!(
        ended.filter(|call| call.method == Method::Lookup).count(),
        0
    );
}

/// Opens calls that each pull a record of 4 MiB, and reads no answer.
async fn pull_and_take_nothing(
    store: &Store,
    serving: &Serving,
    window: u32,
    half_close: bool,
) -> (h2::client::SendRequest<Bytes>, Vec<Pull>) {
    let kept = store.insert(sized(MAX_RECORD_LEN)).unwrap();
    let pull = framed(&RecordRef::new(kept).encode_to_vec());
    let socket = TcpStream::connect(serving.address()).await.unwrap();
    let client = h2::client::Builder::new()
        .initial_window_size(window)
        .handshake(socket);
    let (mut connection, driver) = client.await.unwrap();
    tokio::spawn(async move {
        // It ends with an error when the test drops its end.
        let _ = driver.await;
    });
    let mut pulls = Vec::new();
    for _ in 0..UNTAKEN {
        connection = soon(connection.ready()).await.unwrap();
        let request = raw_request(serving, Method::Pull);
        let (answers, mut requests) = connection.send_request(request, false).unwrap();
        requests.send_data(pull.clone(), half_close).unwrap();
        pulls.push((answers, requests));
    }
    (connection, pulls)
}

type Pull = (h2::client::ResponseFuture, h2::SendStream<Bytes>);

const UNTAKEN: usize = 100;

async fn assert_answers_that_nobody_takes_are_bounded(window: u32, half_close: bool) {
    let store = Store::builder().max_buffered(ROOM).build();
    let serving = listen(&store).await;
    let (_connection, pulls) = pull_and_take_nothing(&store, &serving, window, half_close).await;
    let (answers, _open): (Vec<_>, Vec<_>) = pulls.into_iter().unzip();
    let mut ends: FuturesUnordered<_> = answers
        .into_iter()
        .map(|answers| async move { answers.await?.into_body().trailers().await })
        .collect();
    for _ in 0..UNTAKEN - ROOM / MAX_RECORD_LEN {
        let trailers = soon(ends.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "8");
    }
    assert_serves(&serving).await;
}

#[tokio::test]
async fn answers_that_nobody_takes_take_no_more_than_is_allowed() {
    assert_answers_that_nobody_takes_are_bounded(0, false).await;
}

#[tokio::test]
async fn last_answers_that_nobody_takes_take_no_more_than_is_allowed() {
    assert_answers_that_nobody_takes_are_bounded(65_535, true).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_its_client_goes_on() {
    let store = Store::builder()
        .idle_timeout(Duration::from_millis(50))
        .build();
    let (serving, client) = serve(&store).await;
    let pushed = soon(client.push(record(1))).await.unwrap();
    let socket = TcpStream::connect(serving.address()).await.unwrap();
    let (idle, connection) = h2::client::handshake(socket).await.unwrap();
    soon(connection).await.expect("it is closed with grace");
    assert!(idle.ready().await.is_err());
    soon(client.lookup(&pushed.cid)).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_those_allowed_wait() {
    let store = Store::builder().max_connections(2).build();
    let serving = listen(&store).await;
    let served = |mut connection: h2::client::SendRequest<Bytes>| {
        let lookup = raw_request(&serving, Method::Lookup);
        let (answer, _) = connection.send_request(lookup, true).unwrap();
        async move { answer.await.map(|answer| (connection, answer.status())) }.boxed()
    };
    let (first, _) = soon(served(raw_connection(&serving).await)).await.unwrap();
    let (second, _) = soon(served(raw_connection(&serving).await)).await.unwrap();
    let mut third = served(raw_connection(&serving).await);
    let (_second, _) = soon(served(second)).await.unwrap();
    assert!((&mut third).now_or_never().is_none());
    drop(first);
    assert_eq!(soon(third).await.unwrap().1, 200);
}
