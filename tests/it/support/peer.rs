//! A server in the test's own hands: it does what the test tells it, without a network.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agntcy_dir_stream::{Client, Record};
use bytes::{Bytes, BytesMut};
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, Stream, StreamExt};
use futures_test::task::AwokenCount;
use http_body::{Body as _, Frame};
use http_body_util::StreamBody;
use prost::Message;
use tokio::time::advance;
use tonic::body::Body;

use super::messages::{RecordRef, framed, grpc_response, take_message, trailers};
use super::polling::assert_pending;
use super::records::{cid, number_of};

/// A client, and the peer at the other end of it.
pub(crate) fn scripted() -> (Client, Peer) {
    let peer = Peer::default();
    (Client::from_service(peer.clone()), peer)
}

/// The server's side of a client made by [`scripted`].
#[derive(Clone, Default)]
pub(crate) struct Peer {
    calls: Arc<Mutex<VecDeque<PeerCall>>>,
}

impl Peer {
    /// The next call that was opened and not yet seen.
    pub(crate) fn try_call(&self) -> Option<PeerCall> {
        self.calls.lock().unwrap().pop_front()
    }

    pub(crate) fn call(&self) -> PeerCall {
        self.try_call().expect("no call was opened")
    }
}

impl tower::Service<http::Request<Body>> for Peer {
    type Response = http::Response<Body>;
    type Error = std::io::Error;
    type Future =
        Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send + 'static>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (headers, opened) = oneshot::channel();
        let (frames, body) = mpsc::unbounded();
        self.calls.lock().unwrap().push_back(PeerCall {
            path: request.uri().path().to_owned(),
            sent_headers: request.headers().clone(),
            requests: Requests::Open(request.into_body()),
            received: BytesMut::new(),
            waker: futures_test::task::new_count_waker(),
            headers: Some(headers),
            frames,
        });
        let body = Body::new(StreamBody::new(body.map(Ok::<_, std::io::Error>)));
        opened
            .map(move |opened| {
                let head = opened.map_err(|_| std::io::Error::other("the peer is gone"))?;
                Ok(head.body(body).expect("a valid response"))
            })
            .boxed()
    }
}

/// One call, as the peer sees it.
pub(crate) struct PeerCall {
    pub(crate) path: String,
    pub(crate) sent_headers: http::HeaderMap,
    requests: Requests,
    received: BytesMut,
    waker: (Waker, AwokenCount),
    headers: Option<oneshot::Sender<http::response::Builder>>,
    frames: mpsc::UnboundedSender<Frame<Bytes>>,
}

enum Requests {
    Open(Body),
    HalfClosed,
    Reset,
}

impl PeerCall {
    /// How often the request body has woken the peer since it was last polled.
    pub(crate) fn wakes(&self) -> usize {
        self.waker.1.get()
    }

    /// Reads what the client has sent so far. Returns how many chunks that was.
    pub(crate) fn chunks(&mut self) -> usize {
        std::iter::from_fn(|| Some(self.read_chunk()).filter(|len| *len > 0)).count()
    }

    /// Reads the next chunk that the client has sent. Returns its length in bytes, and 0 if there is
    /// none.
    pub(crate) fn read_chunk(&mut self) -> usize {
        let Requests::Open(body) = &mut self.requests else {
            return 0;
        };
        let mut cx = Context::from_waker(&self.waker.0);
        match Pin::new(body).poll_frame(&mut cx) {
            Poll::Pending => return 0,
            Poll::Ready(None) => self.requests = Requests::HalfClosed,
            Poll::Ready(Some(Err(_))) => self.requests = Requests::Reset,
            Poll::Ready(Some(Ok(frame))) => {
                let data = frame.into_data().expect("a client sends no trailers");
                self.received.extend_from_slice(&data);
                return data.len();
            }
        }
        0
    }

    /// The messages that have come since the last look, as they are: with the flag that says
    /// whether they are compressed.
    pub(crate) fn messages(&mut self) -> Vec<(u8, Bytes)> {
        self.chunks();
        std::iter::from_fn(|| take_message(&mut self.received)).collect()
    }

    /// The requests that have come since the last look.
    pub(crate) fn requests<R: Message + Default>(&mut self) -> Vec<R> {
        let messages = self.messages().into_iter();
        messages
            .map(|(_, message)| R::decode(message).expect("the client sends valid messages"))
            .collect()
    }

    /// The records that have come since the last look.
    pub(crate) fn records(&mut self) -> Vec<Record> {
        self.requests()
    }

    /// The numbers of the records that have come since the last look.
    pub(crate) fn numbers(&mut self) -> Vec<usize> {
        self.records().iter().map(number_of).collect()
    }

    /// The refs that have come since the last look.
    pub(crate) fn refs(&mut self) -> Vec<String> {
        self.requests::<RecordRef>()
            .into_iter()
            .map(|r| r.cid)
            .collect()
    }

    #[cfg(feature = "server")]
    /// How many frames of answers the client has not read.
    pub(crate) fn unread(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn is_half_closed(&mut self) -> bool {
        self.chunks();
        matches!(self.requests, Requests::HalfClosed)
    }

    pub(crate) fn is_reset(&mut self) -> bool {
        self.chunks();
        matches!(self.requests, Requests::Reset)
    }

    fn head(&mut self, head: http::response::Builder) {
        if let Some(headers) = self.headers.take() {
            // An error here is a client that is gone, which a server finds out later too.
            let _ = headers.send(head);
        }
    }

    fn send(&mut self, frame: Frame<Bytes>) {
        self.head(grpc_response());
        let _ = self.frames.unbounded_send(frame);
    }

    pub(crate) fn answer(&mut self, message: &impl Message) {
        self.answer_bytes(framed(&message.encode_to_vec()));
    }

    /// Answers with a part of a framed message, or of several.
    pub(crate) fn answer_bytes(&mut self, bytes: Bytes) {
        self.send(Frame::data(bytes));
    }

    /// Answers with what should be a message in this encoding.
    #[cfg(feature = "gzip")]
    pub(crate) fn answer_compressed(&mut self, encoding: &str, compressed: &[u8]) {
        self.head(grpc_response().header("grpc-encoding", encoding));
        let mut frame = framed(compressed).to_vec();
        frame[0] = 1;
        self.send(Frame::data(frame.into()));
    }

    /// Answers with a CID: a `RecordRef`, and as much of a `RecordMeta` as has to be there.
    pub(crate) fn answer_cid(&mut self, cid: impl ToString) {
        self.answer(&RecordRef::new(cid));
    }

    /// Stores all records that have come, like a good server. Returns how many they were.
    pub(crate) fn store_all(&mut self) -> usize {
        let records = self.records();
        for record in &records {
            self.answer_cid(cid(record));
        }
        records.len()
    }

    /// Ends the call with a status.
    pub(crate) fn end(self, code: tonic::Code, message: &str) {
        self.end_with(trailers(code, message));
    }

    /// Ends the call with these trailers.
    pub(crate) fn end_with(mut self, trailers: http::HeaderMap) {
        self.send(Frame::trailers(trailers));
    }

    /// Ends the call with nothing but headers, a status among them.
    pub(crate) fn end_in_headers(mut self, code: tonic::Code, message: &[u8]) {
        let head = grpc_response().header("grpc-status", code as i32);
        self.head(head.header("grpc-message", message));
    }

    /// Answers with a page in place of gRPC, as a proxy does.
    pub(crate) fn end_with_page(mut self, status: u16, headers: &[(&str, &str)]) {
        let mut head = http::Response::builder()
            .status(status)
            .header("content-type", "text/html");
        for (name, value) in headers {
            head = head.header(*name, *value);
        }
        self.head(head);
        self.send(Frame::data(Bytes::from_static(b"<html>Bad Gateway</html>")));
    }

    /// Says of a lookup that has come, or of a pull, that its first record is not there.
    pub(crate) fn find_nothing(mut self) {
        self.refs();
        self.end(tonic::Code::NotFound, "");
    }

    /// Ends the call as the transport does when it breaks.
    pub(crate) fn break_off(self) {}
}

/// Polls over the waits between attempts, up to the next call.
pub(crate) async fn next_call<S: Stream + Unpin>(results: &mut S, peer: &Peer) -> PeerCall {
    for _ in 0..10_000 {
        assert_pending(results);
        if let Some(call) = peer.try_call() {
            return call;
        }
        advance(Duration::from_millis(50)).await;
    }
    panic!("no call was opened in 500 s");
}

/// Like [`next_call`], for a call of this method.
pub(crate) async fn next_call_of<S: Stream + Unpin>(
    results: &mut S,
    peer: &Peer,
    path: &str,
) -> PeerCall {
    let call = next_call(results, peer).await;
    assert_eq!(call.path, path);
    call
}
