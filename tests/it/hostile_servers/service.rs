//! Servers as tower services, which answer each call at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body::Frame;
use http_body_util::StreamBody;
use tonic::body::Body;

use crate::support::messages::framed;

/// A server that answers each call at once with what `answer` gives. It counts the calls.
#[derive(Clone)]
pub(super) struct Server<F> {
    answer: F,
    pub(super) calls: Arc<AtomicUsize>,
}

impl<F> Server<F> {
    pub(super) fn new(answer: F) -> Self {
        let calls = Arc::default();
        Self { answer, calls }
    }
}

pub(super) type Response = http::Response<Body>;

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
pub(super) fn body(messages: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    let frames = messages.map(|message| Ok::<_, std::io::Error>(Frame::data(framed(&message))));
    Body::new(StreamBody::new(frames))
}

/// A stream that may be polled fewer than 100,000 times: more polls are a spin.
pub(super) struct PollLimit<S> {
    stream: S,
    polls: usize,
}

impl<S> PollLimit<S> {
    pub(super) fn new(stream: S) -> Self {
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
