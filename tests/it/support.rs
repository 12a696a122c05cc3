//! A peer that does what a test tells it, without a network or a runtime, and test records.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use agntcy_dir_stream::{Cid, Client, Error, ErrorKind, Failed, Options, Record};
use bytes::{Buf, Bytes, BytesMut};
use futures::channel::{mpsc, oneshot};
use futures::task::noop_waker;
use futures::{FutureExt, Stream, StreamExt};
use http_body::{Body as _, Frame};
use http_body_util::StreamBody;
use proptest::test_runner::{Config as ProptestConfig, RngSeed};
use prost::Message;
use tonic::body::Body;

/// A valid record; each number gives another.
pub(crate) fn record(number: usize) -> Record {
    serde_json::json!({
        "name": format!("agent-{number}"),
        "version": "1.0.0",
        "schema_version": "1.0.0",
        "number": number,
    })
    .try_into()
    .expect("a JSON object of names and small numbers is a record")
}

/// A record of this many bytes on the wire.
pub(crate) fn sized(len: usize) -> Record {
    let text = |fill: usize| -> Record {
        let fill = "x".repeat(fill);
        let text = format!(r#"{{"name":"long","schema_version":"1.0.0","fill":"{fill}"}}"#);
        text.parse().expect("JSON")
    };
    let around = text(len).encoded_len() - len;
    let record = text(len - around);
    assert_eq!(record.encoded_len(), len);
    record
}

pub(crate) fn cid(record: &Record) -> Cid {
    record.cid().expect("test records have CIDs")
}

/// The words of an error that must be of kind `Invalid`.
pub(crate) fn invalid<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.expect_err("invalid");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error.to_string()
}

/// The real records that the examples use: file name and text.
pub(crate) fn example_records() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/records");
    let mut records: Vec<_> = std::fs::read_dir(folder)
        .expect(folder)
        .map(|entry| entry.expect(folder).path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(&path).expect(&name);
            (name, text)
        })
        .collect();
    records.sort();
    assert!(records.len() >= 10, "the examples are there");
    records
}

/// A Record message with `lists` lists in each other, at the key `a`.
pub(crate) fn nested(lists: usize) -> Vec<u8> {
    // From the inside out, so that no length has to be guessed.
    let mut reversed = Vec::new();
    let mut wrap = |tag: u8| {
        let mut head = vec![tag];
        prost::encoding::encode_varint(reversed.len() as u64, &mut head);
        reversed.extend(head.into_iter().rev());
    };
    for list in 0..lists {
        if list > 0 {
            wrap(0x0a);
        }
        wrap(0x32);
    }
    wrap(0x12);
    reversed.extend_from_slice(b"a\x01\x0a");
    for tag in [0x0a, 0x0a] {
        let mut head = vec![tag];
        prost::encoding::encode_varint(reversed.len() as u64, &mut head);
        reversed.extend(head.into_iter().rev());
    }
    reversed.reverse();
    reversed
}

/// A client, and the peer that it talks to.
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
    waker: (std::task::Waker, futures_test::task::AwokenCount),
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

    /// Reads what the client has sent so far. Returns how many chunks that were.
    fn read(&mut self) -> usize {
        let mut chunks = 0;
        while self.read_chunk() > 0 {
            chunks += 1;
        }
        chunks
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
        self.read();
        let mut messages = Vec::new();
        while self.received.len() >= 5 {
            let len = (&self.received[1..5]).get_u32() as usize;
            if self.received.len() < 5 + len {
                break;
            }
            let message = self.received.split_to(5 + len).freeze();
            messages.push((message[0], message.slice(5..)));
        }
        messages
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

    /// The refs that have come since the last look.
    pub(crate) fn refs(&mut self) -> Vec<String> {
        self.requests::<Text>().into_iter().map(|r| r.cid).collect()
    }

    /// How many chunks of requests are there to read.
    pub(crate) fn chunks(&mut self) -> usize {
        self.read()
    }

    pub(crate) fn is_half_closed(&mut self) -> bool {
        self.read();
        matches!(self.requests, Requests::HalfClosed)
    }

    pub(crate) fn is_reset(&mut self) -> bool {
        self.read();
        matches!(self.requests, Requests::Reset)
    }

    fn head(&mut self, head: http::response::Builder) {
        if let Some(headers) = self.headers.take() {
            // An error here is a client that is gone, which a server finds out later too.
            let _ = headers.send(head);
        }
    }

    fn send(&mut self, frame: Frame<Bytes>) {
        self.head(http::Response::builder().header("content-type", "application/grpc"));
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
        self.head(
            http::Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-encoding", encoding),
        );
        let mut frame = framed(compressed).to_vec();
        frame[0] = 1;
        self.send(Frame::data(frame.into()));
    }

    /// Answers with a CID: a `RecordRef`, and as much of a `RecordMeta` as has to be there.
    pub(crate) fn answer_cid(&mut self, cid: impl ToString) {
        let cid = cid.to_string();
        self.answer(&Text { cid });
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
        self.end_with(code, message, http::HeaderMap::new());
    }

    /// Ends the call with a status, and more in the trailers.
    pub(crate) fn end_with(
        mut self,
        code: tonic::Code,
        message: impl AsRef<[u8]>,
        mut trailers: http::HeaderMap,
    ) {
        trailers.insert("grpc-status", (code as i32).into());
        let message = http::HeaderValue::from_bytes(message.as_ref());
        trailers.insert("grpc-message", message.expect("a header value"));
        self.send(Frame::trailers(trailers));
    }

    /// Ends the call with nothing but headers, a status among them.
    pub(crate) fn end_in_headers(mut self, code: tonic::Code, message: &[u8]) {
        self.head(
            http::Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", code as i32)
                .header("grpc-message", message),
        );
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

    /// Ends the call as the transport does when it breaks.
    pub(crate) fn break_off(self) {}
}

/// `RecordRef`, and a `RecordMeta` with nothing but its CID, are the same on the wire.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Text {
    #[prost(string, tag = "1")]
    pub(crate) cid: String,
}

/// A gRPC message as it stands in a body.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::from(&[0][..]);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame.freeze()
}

/// What went wrong with each, if anything.
pub(crate) fn kinds<S, I, T>(results: &[Result<S, Failed<I, T>>]) -> Vec<Option<ErrorKind>> {
    let kind = |result: &Result<S, Failed<I, T>>| result.as_ref().err().map(Failed::kind);
    results.iter().map(kind).collect()
}

pub(crate) fn window(items: usize) -> Options {
    Options::new().window(items)
}

pub(crate) fn poll<S: Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    Pin::new(stream).poll_next(&mut context())
}

/// The result that has to be there now.
pub(crate) fn next<S: Stream + Unpin>(stream: &mut S) -> S::Item {
    match poll(stream) {
        Poll::Ready(Some(item)) => item,
        Poll::Ready(None) => panic!("the stream has ended"),
        Poll::Pending => panic!("no result is ready"),
    }
}

/// An address below the ports that the system gives to outgoing connections: nobody takes it while
/// its server is away.
pub(crate) fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed))
        .take(1_000)
        .map(|port| format!("127.0.0.1:{port}"))
        .find(|address| std::net::TcpListener::bind(address).is_ok())
        .expect("a free port")
}

/// Waits for what has to come, long enough for any machine; a hang fails here, with a backtrace.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this should not take a minute")
}

/// The same under a paused clock, where a wait costs nothing but may be long.
pub(crate) async fn in_a_week<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(7 * 24 * 3600), future)
        .await
        .expect("this should not take a week of paused time")
}

/// A property is tried with so many cases, which are the same in each run, so that a change that is red is
/// red for what it changed. `PROPTEST_CASES` asks for another number, of cases that nobody has tried.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    let (cases, rng_seed) = match wanted {
        Some(cases) => {
            let cases = cases.parse().expect("PROPTEST_CASES is a number");
            (cases, ProptestConfig::default().rng_seed)
        }
        None => (usual, RngSeed::Fixed(0)),
    };
    ProptestConfig {
        cases,
        rng_seed,
        ..ProptestConfig::default()
    }
}

/// Runs a case to its end, and sees that no task is left.
pub(crate) fn on_paused_clock<F: Future>(case: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let output = runtime.block_on(case);
    runtime.block_on(async {
        let metrics = tokio::runtime::Handle::current().metrics();
        for _ in 0..1_000 {
            if metrics.num_alive_tasks() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} tasks are left", metrics.num_alive_tasks());
    });
    output
}

/// A result of any operation: its place, tag, and error with the number of attempts.
pub(crate) type Seen<S> = (u64, usize, Result<S, (ErrorKind, u32)>);

/// Reads results under a paused clock, to their end, and does something after each.
pub(crate) async fn read_all<S, I>(
    mut results: impl Stream<Item = Result<S, Failed<I, usize>>> + Unpin,
    tag: impl Fn(&S) -> (u64, usize),
    mut after_each: impl AsyncFnMut(&Seen<S>),
) -> Vec<Seen<S>> {
    let mut seen = Vec::new();
    while let Some(result) = in_a_week(results.next()).await {
        let result = match result {
            Ok(success) => {
                let (index, number) = tag(&success);
                (index, number, Ok(success))
            }
            Err(failed) => {
                let error = (failed.kind(), failed.attempts);
                (failed.index, failed.tag, Err(error))
            }
        };
        after_each(&result).await;
        seen.push(result);
    }
    assert!(
        results.next().now_or_never().unwrap().is_none(),
        "it is fused"
    );
    seen
}

/// Polls a future or stream once, with a waker that does nothing.
pub(crate) fn context() -> Context<'static> {
    static WAKER: std::sync::LazyLock<std::task::Waker> = std::sync::LazyLock::new(noop_waker);
    Context::from_waker(&WAKER)
}
