//! The embedded store as a client without this crate sees it: what it answers, row by row.

use std::time::Duration;

use agntcy_dir_stream::server::{
    AlreadyStored, Call, End, Fault, Method, Serving, Store, Validation,
};
use agntcy_dir_stream::{Client, Code, Record, Status};
use bytes::Bytes;
use futures::{FutureExt, Stream, stream};
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::support::{Text, cid, framed, record, soon};

/// What a foreign client knows of the store: its address.
struct Foreign {
    channel: Channel,
    serving: Serving,
}

async fn foreign(store: &Store) -> Foreign {
    let serving = store.listen("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::from_shared(serving.url()).unwrap();
    Foreign {
        channel: endpoint.connect().await.unwrap(),
        serving,
    }
}

impl Foreign {
    async fn open<Q, A>(
        &self,
        method: Method,
        requests: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<tonic::Streaming<A>, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = format!("/agntcy.dir.store.v1.StoreService/{method}");
        grpc.streaming(
            tonic::Request::new(requests),
            path.parse().unwrap(),
            ProstCodec::<Q, A>::default(),
        )
        .await
        .map(tonic::Response::into_inner)
    }

    /// A whole call: the answers, and how it ended.
    async fn call<Q, A>(&self, method: Method, requests: Vec<Q>) -> (Vec<A>, Result<(), Status>)
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let call = async {
            let mut answers = Vec::new();
            let mut streaming = match self.open(method, stream::iter(requests)).await {
                Ok(streaming) => streaming,
                Err(status) => return (answers, Err(status)),
            };
            loop {
                match streaming.message().await {
                    Ok(Some(answer)) => answers.push(answer),
                    Ok(None) => return (answers, Ok(())),
                    Err(status) => return (answers, Err(status)),
                }
            }
        };
        soon(call).await
    }

    async fn push(&self, records: Vec<Record>) -> (usize, Result<(), Status>) {
        let (answers, end) = self.call::<_, Text>(Method::Push, records).await;
        (answers.len(), end)
    }

    /// Pull and lookup answer with messages whose field 1 says which record it is; delete with
    /// an empty one.
    async fn refs<A: Message + Default + 'static>(
        &self,
        method: Method,
        cids: &[&str],
    ) -> (Vec<A>, Result<(), Status>) {
        let text = |cid: &&str| Text {
            cid: (*cid).to_owned(),
        };
        self.call(method, cids.iter().map(text).collect()).await
    }
}

#[track_caller]
fn assert_status(end: Result<(), Status>, code: Code, words: &str) {
    let status = end.expect_err(words);
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(words), "{}", status.message());
}

fn from(json: &str) -> Record {
    json.parse().unwrap()
}

/// A record of this many bytes.
fn sized(len: usize) -> Record {
    let text = |fill: usize| {
        let fill = "x".repeat(fill);
        from(&format!(
            r#"{{"name":"long","schema_version":"1.0.0","fill":"{fill}"}}"#
        ))
    };
    let around = text(len).encoded_len() - len;
    let record = text(len - around);
    assert_eq!(record.encoded_len(), len);
    record
}

#[tokio::test]
async fn pushes_are_answered_as_a_real_server_does() {
    let store = Store::builder()
        .validate(|record| match record.name() {
            Some("refuse") => Validation::Refuse(vec!["a".into(), "b".into()]),
            Some("fail") => Validation::Fail("HTTP 503".into()),
            _ => Validation::Pass,
        })
        .build();
    let foreign = foreign(&store).await;
    store.insert(record(0)).unwrap();
    let malformed = Record::decode(&b"\x0a\x02\x0a\x09"[..]).unwrap();
    let rows = [
        (
            Record::default(),
            Code::InvalidArgument,
            "record validation failed: [record is nil]",
        ),
        (
            from("{}"),
            Code::Internal,
            "failed to validate record: the record has no schema_version",
        ),
        (
            from(r#"{"name":"a","schema_version":""}"#),
            Code::Internal,
            "failed to validate record",
        ),
        (
            from(r#"{"schema_version":"1.0.0"}"#),
            Code::InvalidArgument,
            "record validation failed: [name: is required]",
        ),
        (
            from(r#"{"name":"refuse","schema_version":"1.0.0"}"#),
            Code::InvalidArgument,
            "record validation failed: [a; b]",
        ),
        (
            from(r#"{"name":"fail","schema_version":"1.0.0"}"#),
            Code::Internal,
            "failed to validate record: HTTP 503",
        ),
        (malformed, Code::Internal, "failed to marshal record"),
        (record(0), Code::Internal, "already exists"),
        (
            sized((4 << 20) + 1),
            Code::ResourceExhausted,
            "grpc: received message larger than max (4194305 vs. 4194304)",
        ),
    ];
    for (number, (bad, code, words)) in (1..).zip(rows) {
        let before = store.len();
        let requests = vec![record(number), bad, record(1000 + number)];
        let (answers, end) = foreign.push(requests).await;
        assert_status(end, code, words);
        assert_eq!(answers, 1, "{words}");
        assert_eq!(
            store.len(),
            before + 1,
            "{words}: nothing behind it is stored"
        );
    }
    let (answers, end) = foreign.push(vec![sized(4 << 20)]).await;
    end.expect("4 MiB are not over 4 MiB");
    assert_eq!(answers, 1);
}

#[tokio::test]
async fn a_stored_record_can_be_answered_with_its_cid() {
    let store = Store::builder().already_stored(AlreadyStored::Ref).build();
    let foreign = foreign(&store).await;
    let (answers, end) = foreign.push(vec![record(1), record(1), record(2)]).await;
    end.unwrap();
    assert_eq!((answers, store.len()), (3, 2));
}

#[tokio::test]
async fn refs_are_answered_as_a_real_server_does() {
    let store = Store::new();
    let foreign = foreign(&store).await;
    let kept = store.insert(record(1)).unwrap().to_string();
    let missing = cid(&record(2)).to_string();
    for method in [Method::Pull, Method::Lookup] {
        for (bad, code, words) in [
            (missing.as_str(), Code::NotFound, missing.as_str()),
            ("oops", Code::NotFound, "oops"),
            ("", Code::InvalidArgument, "record cid is required"),
        ] {
            let (answers, end) = foreign.refs::<Record>(method, &[&kept, bad, &kept]).await;
            assert_status(end, code, words);
            assert_eq!(answers.len(), 1, "{method} {bad:?}");
        }
    }
    let (answers, end) = foreign.refs::<Record>(Method::Pull, &[&kept, &kept]).await;
    end.unwrap();
    assert_eq!(answers, [record(1), record(1)]);

    let described = from(
        r#"{"name":"a","schema_version":"0.8.0","created_at":"2025-01-01","annotations":{"k":"v"}}"#,
    );
    let cid = store.insert(described).unwrap().to_string();
    let (answers, end) = foreign.refs::<Meta>(Method::Lookup, &[&cid]).await;
    end.unwrap();
    let meta = Meta {
        cid,
        annotations: [("k".to_owned(), "v".to_owned())].into(),
        schema_version: "0.8.0".into(),
        created_at: "2025-01-01".into(),
    };
    assert_eq!(answers, [meta]);
}

#[derive(Clone, PartialEq, Message)]
struct Meta {
    #[prost(string, tag = "1")]
    cid: String,
    #[prost(map = "string, string", tag = "2")]
    annotations: std::collections::HashMap<String, String>,
    #[prost(string, tag = "3")]
    schema_version: String,
    #[prost(string, tag = "4")]
    created_at: String,
}

#[tokio::test]
async fn a_delete_is_idempotent_and_keeps_what_it_did() {
    let store = Store::new();
    let foreign = foreign(&store).await;
    let kept = store.insert(record(1)).unwrap();
    let missing = cid(&record(2)).to_string();
    let (answers, end) = foreign
        .refs::<()>(Method::Delete, &[&missing, "oops"])
        .await;
    end.unwrap();
    assert_eq!((answers.len(), store.len()), (1, 1));
    let (answers, end) = foreign
        .refs::<()>(Method::Delete, &[&kept.to_string(), ""])
        .await;
    assert_status(end, Code::InvalidArgument, "record cid is required");
    assert_eq!((answers.len(), store.len()), (0, 0));
}

#[derive(Clone, PartialEq, Message)]
struct Referrer {
    /// `PushReferrerRequest`: the record. `PullReferrerRequest` and `DeleteReferrerRequest` too.
    #[prost(message, optional, tag = "1")]
    record: Option<Text>,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct Pushed {
    #[prost(bool, tag = "1")]
    success: bool,
    #[prost(string, optional, tag = "2")]
    error: Option<String>,
    #[prost(message, optional, tag = "3")]
    referrer: Option<Text>,
}

/// `PullReferrerResponse`, and `DeleteReferrerResponse`, as far as it matters.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, repeated, tag = "1")]
    referrer: Vec<Text>,
}

fn referrer(cid: impl ToString, kind: &str) -> Referrer {
    Referrer {
        record: Some(Text {
            cid: cid.to_string(),
        }),
        kind: kind.to_owned(),
    }
}

#[tokio::test]
async fn referrers_are_kept_with_their_record() {
    let store = Store::new();
    let foreign = foreign(&store).await;
    let kept = store.insert(record(1)).unwrap();
    let missing = cid(&record(2));
    let requests = vec![
        referrer(kept, "a"),
        referrer(missing, "a"),
        referrer("", "a"),
        referrer(kept, ""),
        referrer(kept, "b"),
    ];
    let (answers, end) = foreign
        .call::<_, Pushed>(Method::PushReferrer, requests)
        .await;
    end.unwrap();
    let said: Vec<_> = answers
        .iter()
        .map(|answer| answer.error.as_deref())
        .collect();
    let not_found = format!("record not found: {missing}");
    assert_eq!(
        said,
        [
            None,
            Some(not_found.as_str()),
            Some("record cid is required"),
            Some("referrer type is required"),
            None
        ]
    );
    for answer in &answers {
        assert_eq!(answer.success, answer.error.is_none());
        assert_eq!(answer.success, answer.referrer.is_some());
    }

    let count = async |request| {
        let (answers, end) = foreign
            .call::<Referrer, Answer>(Method::PullReferrer, vec![request])
            .await;
        end.unwrap();
        answers
            .iter()
            .map(|answer| answer.referrer.len())
            .collect::<Vec<_>>()
    };
    // An empty type is not written, so it is not asked for.
    assert_eq!(count(referrer(kept, "")).await, [1, 1], "one response each");
    assert_eq!(count(referrer(kept, "a")).await, [1]);
    assert_eq!(
        count(referrer(missing, "a")).await,
        [0],
        "empty, then the end"
    );

    #[derive(Clone, PartialEq, Message)]
    struct Delete {
        #[prost(message, optional, tag = "1")]
        record: Option<Text>,
        #[prost(string, optional, tag = "3")]
        kind: Option<String>,
    }
    let delete = |kind: Option<&str>| Delete {
        record: referrer(kept, "").record,
        kind: kind.map(str::to_owned),
    };
    let requests = vec![delete(Some("a")), delete(Some("a")), delete(None)];
    let (answers, end) = foreign
        .call::<_, Answer>(Method::DeleteReferrer, requests)
        .await;
    end.unwrap();
    let deleted: Vec<_> = answers.iter().map(|answer| answer.referrer.len()).collect();
    assert_eq!(deleted, [1, 0, 1]);
}

#[tokio::test]
async fn headers_come_with_the_first_answer() {
    let store = Store::new();
    let foreign = foreign(&store).await;
    let (send, requests) = futures::channel::mpsc::unbounded();
    let mut open = Box::pin(foreign.open::<Record, Text>(Method::Push, requests));
    let waiting = store.wait_for(|calls| calls.len() == 1).boxed();
    let (_, opened) = soon(futures::future::select(waiting, &mut open))
        .await
        .factor_first();
    assert!(opened.now_or_never().is_none(), "no request, no headers");
    send.unbounded_send(record(1)).unwrap();
    let mut streaming = soon(open).await.unwrap();
    assert_eq!(
        soon(streaming.message()).await.unwrap().unwrap().cid,
        cid(&record(1)).to_string()
    );
}

trait FactorFirst<T> {
    fn factor_first(self) -> T;
}

impl<A, B, C, D> FactorFirst<(A, D)> for futures::future::Either<(A, D), (B, C)> {
    fn factor_first(self) -> (A, D) {
        match self {
            Self::Left(both) => both,
            Self::Right(_) => panic!("the second was ready first"),
        }
    }
}

/// An HTTP/2 connection on which a test sends its own frames.
async fn raw(serving: &Serving) -> h2::client::SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(serving.address())
        .await
        .unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(async move {
        // It ends with an error when the test drops its end.
        let _ = connection.await;
    });
    send.ready().await.unwrap()
}

fn lookup_request(serving: &Serving) -> http::Request<()> {
    http::Request::post(format!(
        "{}/agntcy.dir.store.v1.StoreService/Lookup",
        serving.url()
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .body(())
    .unwrap()
}

/// Go sends each message in frames of its own, and an eager client reads nothing before all are
/// sent.
#[tokio::test]
async fn many_small_requests_may_wait_unread() {
    const REQUESTS: usize = 100_000;
    let store = Store::new();
    let serving = store.listen("127.0.0.1:0").await.unwrap();
    let kept = store.insert(record(1)).unwrap();
    let message = framed(
        &Text {
            cid: kept.to_string(),
        }
        .encode_to_vec(),
    );
    let mut connection = raw(&serving).await;
    let (response, mut requests) = connection
        .send_request(lookup_request(&serving), false)
        .unwrap();
    for _ in 0..REQUESTS {
        requests.send_data(message.clone(), false).unwrap();
    }
    requests.send_data(Bytes::new(), true).unwrap();
    // The store stops reading when nobody takes its answers: what is sent then waits unread.
    let mut body = soon(response).await.unwrap().into_body();
    let mut answers = 0;
    let mut pending = bytes::BytesMut::new();
    while let Some(data) = soon(body.data()).await {
        let data = data.expect("the store keeps the connection");
        body.flow_control().release_capacity(data.len()).unwrap();
        pending.extend_from_slice(&data);
        while pending.len() >= 5 {
            let len = 5 + u32::from_be_bytes(pending[1..5].try_into().unwrap()) as usize;
            if pending.len() < len {
                break;
            }
            let _ = pending.split_to(len);
            answers += 1;
        }
    }
    assert_eq!(answers, REQUESTS);
    let trailers = soon(body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn many_resets_are_no_attack() {
    let store = Store::new();
    let serving = store.listen("127.0.0.1:0").await.unwrap();
    let mut connection = raw(&serving).await;
    for _ in 0..25 {
        for _ in 0..100 {
            connection = soon(connection.ready()).await.unwrap();
            let (_, mut requests) = connection
                .send_request(lookup_request(&serving), false)
                .unwrap();
            requests.send_reset(h2::Reason::CANCEL);
        }
        // When this is answered, the store has read all before it: only so many calls may be
        // open at once.
        connection = soon(connection.ready()).await.unwrap();
        let (response, _) = connection
            .send_request(lookup_request(&serving), true)
            .unwrap();
        assert_eq!(soon(response).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn what_is_no_method_is_unimplemented() {
    let store = Store::new();
    let foreign = foreign(&store).await;
    let mut grpc = Grpc::new(foreign.channel.clone());
    grpc.ready().await.unwrap();
    let status = grpc
        .streaming(
            tonic::Request::new(stream::iter([Text::default()])),
            "/agntcy.dir.store.v1.StoreService/Nothing".parse().unwrap(),
            ProstCodec::<Text, Text>::default(),
        )
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(store.calls().is_empty());
}

#[tokio::test]
async fn a_shutdown_lets_calls_end_and_takes_no_other() {
    let store = Store::new();
    let foreign = foreign(&store).await;
    let (send, requests) = futures::channel::mpsc::unbounded();
    send.unbounded_send(record(1)).unwrap();
    let mut streaming = soon(foreign.open::<Record, Text>(Method::Push, requests))
        .await
        .unwrap();
    soon(streaming.message()).await.unwrap().unwrap();
    let url = foreign.serving.url();
    let mut shutdown = Box::pin(foreign.serving.shutdown());
    assert!(futures::poll!(&mut shutdown).is_pending());
    // The call that runs is served on.
    send.unbounded_send(record(2)).unwrap();
    let answer = futures::join!(soon(streaming.message()), async {
        assert!(
            tokio::time::timeout(Duration::from_millis(1), &mut shutdown)
                .await
                .is_err(),
            "a call still runs"
        );
    });
    answer.0.unwrap().unwrap();
    drop(send);
    let (end, ()) = soon(futures::future::join(streaming.message(), shutdown)).await;
    assert!(end.unwrap().is_none());
    assert_eq!(store.len(), 2);
    let error = Client::connect(&url).await.unwrap_err();
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn the_log_tells_how_calls_ended() {
    let store = Store::new();
    let foreign = foreign(&store).await;
    foreign.push(vec![record(1), record(2)]).await.1.unwrap();
    foreign.push(vec![Record::default()]).await.1.unwrap_err();
    let (send, requests) = futures::channel::mpsc::unbounded::<Record>();
    let opened = foreign.open::<_, Text>(Method::Push, requests);
    let seen = store.wait_for(|calls| calls.len() == 3);
    // The call is dropped when the log has it.
    soon(futures::future::select(Box::pin(opened), Box::pin(seen))).await;
    let calls = soon(store.wait_for(|calls| calls.iter().all(|call| call.end.is_some()))).await;
    let told = |call: &Call| (call.number, call.requests, call.answers, call.end);
    assert_eq!(
        calls.iter().map(told).collect::<Vec<_>>(),
        [
            (0, 2, 2, Some(End::Ok)),
            (1, 1, 0, Some(End::Status(Code::InvalidArgument))),
            (2, 0, 0, Some(End::Cancelled)),
        ]
    );
    assert!(calls[0].half_closed);
    assert!(!calls[2].half_closed);
    drop(send);
}

#[tokio::test]
async fn faults_happen_where_they_were_asked_for() {
    let store = Store::new();
    let foreign = foreign(&store).await;
    let records = |count| (0..count).map(record).collect::<Vec<_>>();
    let refs: Vec<String> = (0..4)
        .map(|number| store.insert(record(number)).unwrap().to_string())
        .collect();
    let refs: Vec<&str> = refs.iter().map(String::as_str).collect();

    store.inject(
        Fault::status(Status::unavailable("first"))
            .on(Method::Lookup)
            .at(2),
    );
    store.inject(Fault::status(Status::aborted("second")).in_call(1).at(1));
    let (answers, end) = foreign.refs::<Text>(Method::Lookup, &refs).await;
    assert_status(end, Code::Unavailable, "first");
    assert_eq!(answers.len(), 2);
    let (answers, end) = foreign.refs::<Text>(Method::Lookup, &refs).await;
    assert_status(end, Code::Aborted, "second");
    assert_eq!(answers.len(), 1);
    foreign.refs::<Text>(Method::Lookup, &refs).await.1.unwrap();

    store.inject(Fault::end().at(3));
    let (answers, end) = foreign.refs::<Text>(Method::Lookup, &refs).await;
    end.unwrap();
    assert_eq!(answers.len(), 3);

    store.inject(Fault::wrong_answer().at(1).times(2));
    let (answers, end) = foreign.refs::<Record>(Method::Pull, &refs).await;
    end.unwrap();
    assert_eq!(answers[0], record(0));
    assert_ne!(answers[1], record(1));
    let (answers, end) = foreign.refs::<Text>(Method::Lookup, &refs).await;
    end.unwrap();
    assert_ne!(answers[1].cid, refs[1]);

    store.inject(Fault::spare_answer());
    let (answers, end) = foreign.refs::<Text>(Method::Lookup, &refs).await;
    end.unwrap();
    assert_eq!(answers.len(), 5);

    store.inject(Fault::delay(Duration::from_millis(1)));
    foreign.refs::<Text>(Method::Lookup, &refs).await.1.unwrap();

    store.inject(Fault::go_away().at(1));
    let (answers, end) = foreign.refs::<Text>(Method::Lookup, &refs).await;
    end.expect("the call that runs goes on");
    assert_eq!(answers.len(), 4);

    store.clear();
    store.inject(Fault::cut().on(Method::Push).at(2));
    let (answers, end) = foreign.push(records(4)).await;
    let status = end.unwrap_err();
    assert!(std::error::Error::source(&status).is_some(), "{status:?}");
    assert!(answers <= 2);
    assert_eq!(store.len(), 2);
}
