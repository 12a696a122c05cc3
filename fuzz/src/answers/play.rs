//! The server that says what is in a script.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use agntcy_dir_stream::{Cid, Record, Referrer};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::BodyExt as _;
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tonic::body::Body;

use super::script::{Call, Head, Script, Step, Trailers};
use crate::known::KNOWN;
use crate::service::Serve;
use crate::support::messages::{
    RecordMeta, RecordRef, framed, grpc_response, in_field, take_message,
};
use crate::support::reply::{Replied, Reply, reply};

pub(super) struct Server {
    calls: Mutex<Calls>,
}

struct Calls {
    to_come: VecDeque<Call>,
    count: u32,
}

impl Server {
    pub(super) fn new(script: &Script) -> Arc<Self> {
        let to_come = script.calls.iter().cloned().collect();
        Arc::new(Self {
            calls: Mutex::new(Calls { to_come, count: 0 }),
        })
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().expect("nobody panics with it")
    }

    /// Each item has three tries, a lookup for each, and a call that tells an outage; and while the server is away,
    /// there are waits.
    pub(super) fn assert_few_calls(&self, began: Instant, items: usize) {
        let count = self.calls().count;
        let of_items = 12 * (items as u32 + 1);
        let of_time = 4 * (began.elapsed().as_secs() as u32 + 8);
        assert!(
            count <= of_items + of_time,
            "{count} calls in {:?}",
            began.elapsed()
        );
    }
}

impl Serve for Server {
    fn call(self: &Arc<Self>, request: http::Request<Body>) -> Replied {
        let call = {
            let mut calls = self.calls();
            calls.count += 1;
            calls.to_come.pop_front()
        };
        let (reply, replied) = reply();
        tokio::spawn(serve(call, request, reply));
        replied
    }
}

/// The requests of a call as they come.
#[derive(Default)]
struct Requests {
    came: Mutex<(VecDeque<Bytes>, bool)>,
    news: Notify,
}

impl Requests {
    async fn read(&self, mut body: Body) {
        let mut bytes = BytesMut::new();
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
            while let Some((_, message)) = take_message(&mut bytes) {
                self.came
                    .lock()
                    .expect("nobody panics with it")
                    .0
                    .push_back(message);
                self.news.notify_one();
            }
        }
        self.came.lock().expect("nobody panics with it").1 = true;
        self.news.notify_one();
    }

    /// `None`: there are no more.
    async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let mut came = self.came.lock().expect("nobody panics with it");
                if let Some(message) = came.0.pop_front() {
                    return Some(message);
                }
                if came.1 {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }
}

async fn serve(call: Option<Call>, request: http::Request<Body>, mut reply: Reply) {
    let path = request.uri().path().to_owned();
    let requests = Requests::default();
    let frames = reply.frames.clone();
    let speak = async {
        match call {
            Some(call) => speak(call, &path, &requests, &mut reply).await,
            None => say_trailers(&mut reply, &unavailable()),
        }
    };
    // The requests are read on, as a transport does, until the call has its end.
    tokio::select! {
        biased;
        () = frames.closed() => {}
        () = speak => {}
        () = async {
            requests.read(request.into_body()).await;
            std::future::pending().await
        } => {}
    }
}

fn unavailable() -> Trailers {
    Trailers {
        status: b"14".to_vec(),
        message: None,
        details: None,
        pushback: None,
        retry_after: None,
    }
}

async fn speak(call: Call, path: &str, requests: &Requests, reply: &mut Reply) {
    let Call { head, steps, cut } = call;
    if !is_usual(&head) {
        let head = response(&head);
        let _ = reply.head.take().expect("it was not sent").send(head);
    }
    let mut request = None;
    for step in steps {
        match step {
            Step::Bytes(bytes) => say(reply, &bytes, cut),
            Step::Framed(flag, bytes) => {
                let mut frame = framed(&bytes).to_vec();
                frame[0] = flag;
                say(reply, &frame, cut);
            }
            Step::Announced(len) => {
                let mut frame = vec![0];
                frame.extend_from_slice(&len.to_be_bytes());
                say(reply, &frame, cut);
            }
            Step::Right => say(reply, &framed(&answer(path, request.as_ref())), cut),
            Step::RightAnd(more) => {
                let mut message = answer(path, request.as_ref());
                message.extend_from_slice(&more);
                say(reply, &framed(&message), cut);
            }
            Step::Request => request = requests.next().await,
            Step::Wait(millis) => sleep(Duration::from_millis(millis.into())).await,
            Step::Trailers(trailers) => return say_trailers(reply, &trailers),
            Step::Break => return reply.send(Err(io::Error::other("broken"))),
            Step::Hang => std::future::pending().await,
        }
    }
    // The end, without a status.
}

fn is_usual(head: &Head) -> bool {
    matches!(
        head,
        Head {
            status: None,
            content_type: None,
            encoding: None,
            trailers: None
        }
    )
}

fn response(head: &Head) -> http::response::Builder {
    let mut response = match &head.content_type {
        None => grpc_response(),
        Some(text) => http::Response::builder().header("content-type", value(text)),
    };
    if let Some(status) = head.status {
        response = response.status(status);
    }
    if let Some(encoding) = &head.encoding {
        response = response.header("grpc-encoding", value(encoding));
    }
    if let Some(trailers) = &head.trailers {
        for (name, value) in &headers(trailers) {
            response = response.header(name, value);
        }
    }
    response
}

/// What no header may have is left out.
fn value(bytes: &[u8]) -> HeaderValue {
    let bytes: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|byte| *byte >= b' ' && *byte != 0x7f)
        .collect();
    HeaderValue::from_bytes(&bytes).expect("a header value")
}

fn headers(trailers: &Trailers) -> HeaderMap {
    let Trailers {
        status,
        message,
        details,
        pushback,
        retry_after,
    } = trailers;
    let named = [
        ("grpc-status", Some(status)),
        ("grpc-message", message.as_ref()),
        ("grpc-status-details-bin", details.as_ref()),
        ("grpc-retry-pushback-ms", pushback.as_ref()),
        ("retry-after", retry_after.as_ref()),
    ];
    let given = named
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?)));
    given
        .map(|(name, text)| (HeaderName::from_static(name), value(text)))
        .collect()
}

fn say(reply: &mut Reply, bytes: &[u8], cut: usize) {
    for part in bytes.chunks(cut) {
        reply.send(Ok(Frame::data(Bytes::copy_from_slice(part))));
    }
}

fn say_trailers(reply: &mut Reply, trailers: &Trailers) {
    reply.send(Ok(Frame::trailers(headers(trailers))));
}

/// A referrer of a record.
pub(super) fn referrer(record: Cid) -> Referrer {
    let data = Record::from_json(r#"{"signature": "one"}"#).expect("an object");
    Referrer::new(record, Referrer::SIGNATURE, data)
}

/// The right answer of a method to a request, or to one for the first record.
fn answer(path: &str, request: Option<&Bytes>) -> Vec<u8> {
    let method = path.rsplit('/').next().unwrap_or_default();
    // The field of this number, of a message in a field of the other.
    let inner = |bytes: &[u8]| bytes.get(2..).unwrap_or_default().to_vec();
    let reference = match (method, request) {
        (_, None) => None,
        ("Pull" | "Lookup", Some(request)) => RecordRef::decode(request.clone()).ok(),
        ("Push", Some(request)) => {
            let record = Record::decode(request.clone()).ok();
            record
                .and_then(|record| record.cid().ok())
                .map(RecordRef::new)
        }
        (_, Some(request)) => RecordRef::decode(inner(request).as_slice()).ok(),
    };
    let reference = reference.unwrap_or_else(|| RecordRef::new(KNOWN[0].cid));
    match method {
        "Push" => reference.encode_to_vec(),
        "Pull" => {
            let known = KNOWN
                .iter()
                .find(|known| known.cid.to_string() == reference.cid);
            known
                .map(|known| known.record.encode_to_vec())
                .unwrap_or_default()
        }
        "Lookup" => RecordMeta {
            cid: reference.cid,
            ..RecordMeta::default()
        }
        .encode_to_vec(),
        "PushReferrer" => vec![1 << 3, 1],
        "PullReferrer" => {
            let mut referrer = in_field(1, Referrer::SIGNATURE.as_bytes());
            referrer.extend_from_slice(&in_field(2, &reference.encode_to_vec()));
            in_field(1, &referrer)
        }
        "DeleteReferrer" => in_field(1, &RecordRef::new(KNOWN[1].cid).encode_to_vec()),
        "CreatePublication" => in_field(1, b"one"),
        "SearchCIDs" => in_field(1, KNOWN[2].cid.to_string().as_bytes()),
        "CountRecords" => vec![1 << 3, 1],
        "Listen" => {
            let mut event = vec![2 << 3, 1];
            event.extend_from_slice(&in_field(4, KNOWN[3].cid.to_string().as_bytes()));
            in_field(1, &event)
        }
        // A delete, and what is taken back, are answered by nothing.
        _ => Vec::new(),
    }
}
