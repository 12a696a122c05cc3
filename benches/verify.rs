//! Pulls and pushes that verify, with `Options::verify_threads`: how long a record takes, and how many times as fast
//! that is as without.
//!
//! ```text
//! cargo bench --bench verify
//! ```
//!
//! The server is in the task: it counts requests, and has its answers ready. All ways are taken in turn, on one thread
//! besides those that verify, and the best of many short rounds counts.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use agntcy_dir_stream::prelude::*;
use bytes::Bytes;
use futures::future::{Ready, ok};
use futures::stream;
use http_body::Frame;
use prost::Message as _;
use tonic::body::Body;

mod records;

const ROUNDS: usize = 100;
const THREADS: [usize; 4] = [0, 1, 2, 3];
/// How many bytes of records go through in a round.
const BYTES: usize = 8 << 20;

/// Answers the N-th request with the N-th of these, and begins anew behind the last.
#[derive(Clone)]
struct Canned(&'static [Bytes]);

impl tower::Service<http::Request<Body>> for Canned {
    type Response = http::Response<Answers>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answers = Answers {
            requests: request.into_body(),
            header: Vec::new(),
            skip: 0,
            owed: 0,
            answers: self.0.iter().cycle(),
            is_over: false,
        };
        let response = http::Response::builder().header("content-type", "application/grpc");
        ok(response.body(answers).expect("a response"))
    }
}

struct Answers {
    requests: Body,
    /// What has come of the next message's length, and how much is to come of its bytes.
    header: Vec<u8>,
    skip: usize,
    owed: usize,
    answers: std::iter::Cycle<std::slice::Iter<'static, Bytes>>,
    is_over: bool,
}

impl Answers {
    fn count(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (5 - self.header.len()).min(bytes.len());
            if self.skip == 0 {
                self.header.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
            }
            if let [0, a, b, c, d] = self.header[..] {
                self.skip = u32::from_be_bytes([a, b, c, d]) as usize;
                self.owed += 1;
                self.header.clear();
            }
        }
    }
}

impl http_body::Body for Answers {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.owed == 0 {
            if self.is_over {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.requests).poll_frame(cx)) {
                Some(frame) => {
                    let frame = frame.expect("the client sends on");
                    self.count(&frame.into_data().expect("a client sends data"));
                }
                None => {
                    self.is_over = true;
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
            }
        }
        self.owed -= 1;
        let answer = self.answers.next().expect("it has no end");
        Poll::Ready(Some(Ok(Frame::data(answer.clone()))))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct RecordRef {
    #[prost(string, tag = "1")]
    cid: String,
}

fn framed(message: &[u8]) -> Bytes {
    let len = u32::try_from(message.len()).expect("a short message");
    [&[0], &len.to_be_bytes()[..], message].concat().into()
}

/// Records of which each is so many of the real ones.
fn records(joined: usize) -> Vec<Record> {
    let texts = records::texts();
    let texts: Vec<_> = texts
        .iter()
        .map(|text| str::from_utf8(text).expect("JSON"))
        .collect();
    let join = |at: usize| {
        let parts: Vec<_> = (at..at + joined)
            .map(|at| texts[at % texts.len()])
            .collect();
        match joined {
            1 => Record::from_json(parts[0]),
            _ => Record::from_json(format!(r#"{{"parts": [{}]}}"#, parts.join(","))),
        }
    };
    (0..texts.len())
        .map(|at| join(at).expect("a record"))
        .collect()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    println!("| | bytes | threads | µs | times as fast |\n|---|---|---|---|---|");
    for joined in [1, 12] {
        let records: &'static [Record] = records(joined).leak();
        let cids: Vec<Cid> = records.iter().map(|r| r.cid().expect("a record")).collect();
        let cids: &'static [Cid] = cids.leak();
        let pulled: Vec<Bytes> = records.iter().map(|r| framed(&r.to_wire())).collect();
        let pulled = Client::from_service(Canned(pulled.leak()));
        let answer = |cid: &Cid| {
            framed(
                &RecordRef {
                    cid: cid.to_string(),
                }
                .encode_to_vec(),
            )
        };
        let pushed: Vec<Bytes> = cids.iter().map(answer).collect();
        let pushed = Client::from_service(Canned(pushed.leak()));
        let all: usize = records.iter().map(Record::encoded_len).sum();
        let rounds = BYTES / all;
        let count = rounds * records.len();
        let mut best = [[Duration::MAX; THREADS.len()]; 2];
        for _ in 0..ROUNDS {
            for (place, threads) in THREADS.into_iter().enumerate() {
                // The same records come again, and each is to be verified.
                let options = Options::new().dedup(false).verify_threads(threads);
                let refs = stream::iter(cids.iter().copied().cycle().take(count));
                let pull = refs.pull_from_with(&pulled, &options).finish();
                let begun = Instant::now();
                assert_eq!(runtime.block_on(pull).stats.succeeded, count as u64);
                best[0][place] = best[0][place].min(begun.elapsed());
                let items = stream::iter(records.iter().cloned().cycle().take(count));
                let push = items.push_to_with(&pushed, &options).finish();
                let begun = Instant::now();
                assert_eq!(runtime.block_on(push).stats.succeeded, count as u64);
                best[1][place] = best[1][place].min(begun.elapsed());
            }
        }
        for (name, best) in ["pull", "push"].into_iter().zip(best) {
            for (threads, time) in THREADS.into_iter().zip(best) {
                let each = time.as_secs_f64() / count as f64 * 1e6;
                let ratio = best[0].as_secs_f64() / time.as_secs_f64();
                println!(
                    "| {name} | {} | {threads} | {each:.2} | {ratio:.2} |",
                    all / records.len()
                );
            }
        }
    }
}
