//! What a connection does with time, over a pipe and under a paused clock.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::connection::serve;
use super::{End, Store};

const MINUTE: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(15 * 60);

/// A pipe to a store that treats it as a socket.
fn pipe(store: &Store) -> (DuplexStream, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (stop, never) = watch::channel(false);
    let served = serve(Arc::clone(&store.inner), theirs, None, never, Some(IDLE));
    let served = tokio::spawn(async move {
        served.await;
        drop(stop);
    });
    (ours, served)
}

async fn connect(store: &Store) -> (SendRequest<Bytes>, JoinHandle<()>) {
    let (pipe, served) = pipe(store);
    let (send, connection) = h2::client::handshake(pipe).await.unwrap();
    tokio::spawn(async move {
        // It ends with an error when the store cuts it.
        let _ = connection.await;
    });
    (send.ready().await.unwrap(), served)
}

fn lookup() -> http::Request<()> {
    http::Request::post("http://store/agntcy.dir.store.v1.StoreService/Lookup")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// Five bytes that announce a message of 1 MiB, and a part of it.
fn half_a_message() -> Bytes {
    let mut half = vec![0, 0, 16, 0, 0];
    half.resize(1 << 19, 0);
    half.into()
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_calls_is_closed() {
    let store = Store::new();
    let (connection, served) = connect(&store).await;
    let begun = Instant::now();
    sleep(IDLE - MINUTE).await;
    // A call begins the time anew.
    let mut connection = connection.ready().await.unwrap();
    let (response, _) = connection.send_request(lookup(), true).unwrap();
    response.await.unwrap();
    served.await.unwrap();
    let after = begun.elapsed();
    assert!(after >= 2 * IDLE - MINUTE, "{after:?}");
    assert!(after < 2 * IDLE, "{after:?}");
    assert!(connection.ready().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_keeps_its_connection() {
    let store = Store::new();
    let (mut connection, served) = connect(&store).await;
    let (response, mut requests) = connection.send_request(lookup(), false).unwrap();
    sleep(10 * IDLE).await;
    assert!(!served.is_finished());
    requests.send_data(Bytes::new(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_left() {
    let store = Store::new();
    for said in ["", "PRI * HTTP/2.0\r\n\r\n"] {
        let (mut pipe, served) = pipe(&store);
        pipe.write_all(said.as_bytes()).await.unwrap();
        let begun = Instant::now();
        served.await.unwrap();
        assert!(begun.elapsed() < MINUTE, "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_there_any_more_is_left() {
    let store = Store::new();
    let (mut pipe, served) = pipe(&store);
    // A greeting, and then no answer to any ping.
    pipe.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let begun = Instant::now();
    tokio::spawn(async move {
        let mut nothing = Vec::new();
        pipe.read_to_end(&mut nothing).await
    });
    served.await.unwrap();
    assert!(begun.elapsed() < IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_stops_coming_ends_its_call() {
    let store = Store::new();
    let (mut connection, _served) = connect(&store).await;
    let (response, mut requests) = connection.send_request(lookup(), false).unwrap();
    requests.send_data(half_a_message(), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");
    let calls = store.wait_for(|calls| calls[0].end.is_some()).await;
    assert_eq!(
        calls[0].end,
        Some(End::Status(tonic::Code::DeadlineExceeded))
    );
}

#[tokio::test(start_paused = true)]
async fn what_calls_took_comes_back() {
    let store = Store::new();
    let (mut connection, served) = connect(&store).await;
    let mut open = Vec::new();
    for call in 0..10 {
        let (response, mut requests) = connection.send_request(lookup(), false).unwrap();
        let mut sent = half_a_message();
        if call % 2 == 0 {
            sent.truncate(5);
        }
        requests.send_data(sent, false).unwrap();
        open.push((response, requests));
        connection = connection.ready().await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    // What is only announced takes nothing; what has come counts, with up to as much to come.
    let taken = store.inner.budget.taken();
    let come = 5 * half_a_message().len();
    assert!((come..3 * come).contains(&taken), "{taken}");
    for (_, requests) in &mut open {
        requests.send_reset(h2::Reason::CANCEL);
    }
    store
        .wait_for(|calls| calls.iter().all(|call| call.end == Some(End::Cancelled)))
        .await;
    // A handler is dropped after it has said how its call ended.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(store.inner.budget.taken(), 0);
    assert!(!served.is_finished());
}

#[cfg(feature = "gzip")]
#[tokio::test(start_paused = true)]
async fn a_compressed_message_counts_packed_and_unpacked() {
    use std::io::Write as _;
    const LEN: usize = 1 << 20;
    let store = Store::new();
    let (mut connection, _served) = connect(&store).await;
    // An unknown field, which the store passes over, of bytes that cannot be packed.
    let mut message = vec![0x82, 0x01];
    prost::encoding::encode_varint(LEN as u64, &mut message);
    let mut random = fastrand::Rng::with_seed(1);
    message.extend(std::iter::repeat_with(|| random.u8(..)).take(LEN));
    let mut packed = vec![1, 0, 0, 0, 0];
    let mut gzip = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
    gzip.write_all(&message).unwrap();
    gzip.finish().unwrap();
    let len = u32::try_from(packed.len() - 5).unwrap();
    packed[1..5].copy_from_slice(&len.to_be_bytes());
    // An empty CID would end the call.
    let mut lookup = lookup();
    lookup
        .headers_mut()
        .insert("grpc-encoding", "gzip".parse().unwrap());
    store.inject(super::Fault::stall());
    let (_response, mut requests) = connection.send_request(lookup, false).unwrap();
    requests.send_data(packed.into(), false).unwrap();
    let is_read = |calls: &[super::Call]| calls.iter().any(|call| call.requests == 1);
    store.wait_for(is_read).await;
    let taken = store.inner.budget.taken();
    assert!(taken >= 2 * LEN, "{taken}");
}
