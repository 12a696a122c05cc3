//! Servers that mean harm or are broken: what they can cost is bounded in polls, bytes and calls, and each
//! item has its result in the time that the options give.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Retry};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message as _;
use tokio::time::Instant;
use tonic::body::Body;

use crate::support::clock::in_a_week;
use crate::support::messages::{RecordMeta, RecordRef, framed, grpc_response};
use crate::support::peer::scripted;
use crate::support::polling::{assert_pending, next, poll};
use crate::support::records::{cid, cids, record, records};

/// A server that answers each call at once with what `answer` gives. It counts the calls.
#[derive(Clone)]
struct Server<F> {
    answer: F,
    calls: Arc<AtomicUsize>,
}

impl<F> Server<F> {
    fn new(answer: F) -> Self {
        let calls = Arc::default();
        Self { answer, calls }
    }
}

type Response = http::Response<Body>;

impl<F> tower::Service<http::Request<Body>> for Server<F>
where
    F: Fn(http::Request<Body>) -> Response,
{
    type Response = Response;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Response, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok((self.answer)(request)))
    }
}

/// A body of these messages, each in a frame of its own.
fn body(messages: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    let frames = messages.map(|message| Ok::<_, std::io::Error>(Frame::data(framed(&message))));
    Body::new(StreamBody::new(frames))
}

/// A stream that may be polled fewer than 100,000 times: more polls are a spin.
struct PollLimit<S> {
    stream: S,
    polls: usize,
}

impl<S> PollLimit<S> {
    fn new(stream: S) -> Self {
        Self { stream, polls: 0 }
    }
}

impl<S: Stream + Unpin> Stream for PollLimit<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.polls += 1;
        assert!(self.polls < 100_000, "it is polled without end");
        self.stream.poll_next_unpin(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_is_answered_without_end_has_an_end() {
    let server = Server::new(|_| {
        grpc_response()
            .body(body(stream::repeat(Bytes::new())))
            .unwrap()
    });
    let calls = Arc::clone(&server.calls);
    let options = Options::new().retry(Retry::new().timeout(Duration::from_secs(12)));
    let start = Instant::now();
    let results = cids(50).delete_from_with(&Client::from_service(server), &options);
    let results: Vec<_> = in_a_week(PollLimit::new(results).collect::<Vec<_>>()).await;
    assert_eq!(results.len(), 50);
    assert!(results.iter().all(Result::is_err));
    assert!(
        start.elapsed() <= Duration::from_secs(13),
        "{:?}",
        start.elapsed()
    );
    let calls = calls.load(Ordering::Relaxed);
    assert!((2..100).contains(&calls), "{calls} calls in 12 s");
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_asked_for_are_no_progress() {
    let server = Server::new(|_| {
        let answer = RecordRef::new(cid(&record(0)));
        let answer = Bytes::from(answer.encode_to_vec());
        grpc_response().body(body(stream::repeat(answer))).unwrap()
    });
    let calls = Arc::clone(&server.calls);
    let options = Options::new().retry(Retry::new().timeout(Duration::from_secs(12)));
    let start = Instant::now();
    let results = cids(5).lookup_in_with(&Client::from_service(server), &options);
    let results: Vec<_> = in_a_week(PollLimit::new(results).collect::<Vec<_>>()).await;
    assert_eq!(results.len(), 5);
    assert!(
        start.elapsed() <= Duration::from_secs(13),
        "{:?}",
        start.elapsed()
    );
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls < 100, "{calls} calls in 12 s");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_to_be_asked_again_at_once_is_asked_with_waits() {
    let server = Server::new(|_| {
        grpc_response()
            .header("grpc-status", "14")
            .header("grpc-message", "again")
            .header("grpc-retry-pushback-ms", "0")
            .body(Body::empty())
            .unwrap()
    });
    let calls = Arc::clone(&server.calls);
    let options = Options::new().retry(Retry::new().timeout(Duration::from_secs(12)));
    let start = Instant::now();
    let results = records(5).push_to_with(&Client::from_service(server), &options);
    let results: Vec<_> = in_a_week(PollLimit::new(results).collect::<Vec<_>>()).await;
    for result in results {
        let failed = result.unwrap_err();
        assert_eq!((failed.kind(), failed.attempts), (ErrorKind::NotSent, 0));
        assert!(failed.to_string().contains("again"), "{failed}");
    }
    let took = start.elapsed();
    assert!((12..=13).contains(&took.as_secs()), "{took:?}");
    let calls = calls.load(Ordering::Relaxed);
    assert!((3..50).contains(&calls), "{calls} calls in 12 s");
}

/// The transport is always busy, so the adapter never waits, but time passes.
#[tokio::test(start_paused = true)]
async fn time_passes_though_the_server_always_has_something_to_say() {
    // Every byte of an answer that never ends takes a second.
    let server = Server::new(|_| {
        let bytes = stream::iter(0..).then(|number: u64| async move {
            if number > 0 {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            let head: &'static [u8] = if number == 0 { &[0, 0, 1, 0, 0] } else { b"x" };
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(head)))
        });
        grpc_response()
            .body(Body::new(StreamBody::new(bytes)))
            .unwrap()
    });
    let options = Options::new().retry(Retry::new().timeout(Duration::from_secs(15)));
    let results = cids(3).pull_from_with(&Client::from_service(server), &options);
    let start = Instant::now();
    let results: Vec<_> = in_a_week(PollLimit::new(results).collect::<Vec<_>>()).await;
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(Result::is_err));
    assert!(
        start.elapsed() <= Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_too_long_metadata_fails_its_item_alone() {
    let (client, peer) = scripted();
    let mut results = cids(3).lookup_in(&client);
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs().len(), 3);
    call.answer(&RecordMeta::with_annotations(cid(&record(0)), 10));
    call.answer(&RecordMeta::with_annotations(cid(&record(1)), 300_000));
    assert_eq!(next(&mut results).unwrap().annotations.len(), 10);
    let failed = next(&mut results).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Mismatch, "{failed}");
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs().len(), 1);
    call.answer(&RecordMeta::with_annotations(cid(&record(2)), 10));
    assert!(next(&mut results).is_ok());
}

/// Thirty answers of 200 KB of small annotations, which take many times as much when they are read.
#[tokio::test(start_paused = true)]
async fn long_metadata_are_asked_for_as_far_as_there_is_room() {
    let (client, peer) = scripted();
    let bytes = 1 << 20;
    let options = Options::new().window_bytes(bytes);
    let mut results = cids(30).lookup_in_with(&client, &options);
    assert_pending(&mut results);
    let mut call = peer.call();
    let (mut asked, mut answered, mut seen) = (call.refs().len(), 0, 0);
    assert_eq!(asked, 30, "nothing is known of their length");
    // All but the first are lost, so that now something is.
    call.answer(&RecordMeta::with_annotations(cid(&record(0)), 20_000));
    assert_eq!(next(&mut results).unwrap().annotations.len(), 20_000);
    call.end(tonic::Code::Unavailable, "");
    seen += 1;
    answered += 1;
    let mut call = None;
    while seen < 30 {
        if let std::task::Poll::Ready(Some(result)) = poll(&mut results) {
            assert_eq!(result.unwrap().annotations.len(), 20_000);
            seen += 1;
            continue;
        }
        call = call.or_else(|| {
            asked = answered;
            peer.try_call()
        });
        let Some(call) = &mut call else {
            tokio::time::advance(Duration::from_millis(100)).await;
            continue;
        };
        asked += call.refs().len();
        assert!(asked - seen <= 5, "{asked} were asked for, {seen} had");
        if answered < asked {
            call.answer(&RecordMeta::with_annotations(
                cid(&record(answered)),
                20_000,
            ));
            answered += 1;
        }
    }
}
