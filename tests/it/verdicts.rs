//! What each end of a call says, and about whom: as a DIR server's answers come, row by row, and as
//! the transport shows what broke.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{Code, ErrorKind, Retry, Status, Verdict};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use h2::Reason;
use h2::server::SendResponse;
use prost::Message as _;
use tonic::transport::Endpoint;

use crate::support::clock::soon;
use crate::support::messages::{RecordRef, framed, grpc_response, take_message, trailers};
use crate::support::records::{cids, number_with_cid, record};
use crate::support::results::kinds;
use crate::support::sockets::listener;

// ---- a DIR server's answers --------------------------------------------------------------------

#[cfg(feature = "server")]
mod rows {
    use std::sync::atomic::{AtomicBool, Ordering};

    use agntcy_dir_stream::server::{AlreadyStored, Fault, Method, Store, Validation};
    use futures::stream;
    use serde_json::json;

    use super::*;

    use crate::support::clock::in_a_week;
    use crate::support::records::{cid, from_json, records, sized};
    use crate::support::stores::calls_of;

    /// A store whose validator does what a record's name says. While `is_down` is set, it fails at each record.
    fn store(is_down: &Arc<AtomicBool>) -> Store {
        let is_down = Arc::clone(is_down);
        Store::builder()
            .validate(move |record| match record.name() {
                _ if is_down.load(Ordering::Relaxed) => Validation::Fail("HTTP 503".into()),
                Some("refuse") => Validation::Refuse(vec!["no".into()]),
                Some("refuse at length") => Validation::Refuse(vec!["no ".repeat(50_000)]),
                Some("unserved") => Validation::Fail(
                    "failed to validate record: schema URL validation failed: failed to validate \
                     record at URL http://schema/api/0.3.1/validate/object/record: HTTP 404"
                        .into(),
                ),
                Some("HTTP 404") => Validation::Fail("HTTP 503".into()),
                _ => Validation::Pass,
            })
            .build()
    }

    /// Each bad record stands between two good ones, which must be stored.
    #[tokio::test(start_paused = true)]
    async fn each_row_of_the_table_has_its_result() {
        let store = store(&Arc::default());
        store.insert(record(500)).unwrap();
        let client = store.client();
        let rows = [
            (
                "fails validation",
                from_json(json!({"name": "refuse", "schema_version": "1"})),
                ErrorKind::Rejected,
            ),
            (
                "fails it at length",
                from_json(json!({"name": "refuse at length", "schema_version": "1"})),
                ErrorKind::Rejected,
            ),
            (
                "no schema_version",
                from_json(json!({"name": "a"})),
                ErrorKind::Rejected,
            ),
            ("empty Struct", from_json(json!({})), ErrorKind::Rejected),
            (
                "a schema_version that is not served",
                from_json(json!({"name": "unserved", "schema_version": "0.3.1"})),
                ErrorKind::Rejected,
            ),
            ("no data", Record::default(), ErrorKind::Invalid),
            ("over 4 MiB", sized((4 << 20) + 1), ErrorKind::Invalid),
        ];
        for (number, (what, bad, kind)) in rows.into_iter().enumerate() {
            let good = [record(2 * number), record(2 * number + 1)];
            let input = stream::iter([good[0].clone(), bad, good[1].clone()]);
            let mut results = input.push_to(&client);
            let handle = results.handle();
            for (index, good) in [(0, &good[0]), (2, &good[1])] {
                let pushed = in_a_week(results.next()).await.unwrap();
                assert_eq!(pushed.expect(what).cid, cid(good), "{what}");
                if index == 0 {
                    let failed = in_a_week(results.next()).await.unwrap().unwrap_err();
                    assert_eq!((failed.index, failed.kind()), (1, kind), "{what}: {failed}");
                    assert!(failed.attempts <= 1, "{what}: {} attempts", failed.attempts);
                }
            }
            assert!(in_a_week(results.next()).await.is_none());
            assert_eq!(handle.stats().faults, 0, "{what} is no fault of the moment");
        }

        let named = from_json(json!({"name": "HTTP 404", "schema_version": "HTTP 404"}));
        let failed = in_a_week(client.push(named)).await.unwrap_err();
        assert_eq!(
            failed.kind(),
            ErrorKind::ServerFailed,
            "an outage: {failed}"
        );
        assert!(failed.attempts > 1, "{} attempts", failed.attempts);

        let pushed = in_a_week(client.push(record(500))).await.unwrap();
        assert!(pushed.already_stored, "already stored");

        let registry = Store::builder().already_stored(AlreadyStored::Ref).build();
        for _ in 0..2 {
            let pushed = in_a_week(registry.client().push(record(500))).await;
            assert!(!pushed.unwrap().already_stored, "a registry does not tell");
        }

        let missing = cid(&record(9_999)).to_string();
        let refs = [
            cid(&record(0)).to_string(),
            missing.clone(),
            "oops".into(),
            cid(&record(1)).to_string(),
        ];
        let expected = [
            None,
            Some(ErrorKind::NotFound),
            Some(ErrorKind::Invalid),
            None,
        ];
        let pulled: Vec<_> = in_a_week(stream::iter(&refs).pull_from(&client).collect()).await;
        assert_eq!(kinds(&pulled), expected, "pull");
        let words = "failed to pull record: failed to unmarshal record for CID x: failed to decode \
                     Record: failed to decode Record: failed to convert 1.0.0 record: json";
        let stored = [0, 1, 2].map(|number| cid(&record(number)));
        let undecodable = Fault::status(Status::internal(words));
        store.inject(undecodable.on(Method::Pull).of(stored[1]));
        let mut results = stream::iter(stored).pull_from(&client);
        let handle = results.handle();
        let pulled: Vec<_> = in_a_week(results.by_ref().collect()).await;
        let expected_of_stored = [None, Some(ErrorKind::Rejected), None];
        assert_eq!(kinds(&pulled), expected_of_stored, "cannot be decoded");
        let stats = handle.stats();
        assert_eq!((stats.calls, stats.faults), (2, 0), "{stats}");
        let found: Vec<_> = in_a_week(stream::iter(&refs).lookup_in(&client).collect()).await;
        assert_eq!(kinds(&found), expected, "lookup");
        let refs = [missing, cid(&record(0)).to_string()];
        let deleted: Vec<_> = in_a_week(stream::iter(refs).delete_from(&client).collect()).await;
        assert!(
            deleted.iter().all(Result::is_ok),
            "delete, missing: {deleted:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_the_validator_fails_nobody() {
        let is_down = Arc::new(AtomicBool::new(true));
        let store = store(&is_down);
        let client = store.client();
        let mut results = records(100).push_to(&client);
        let outage = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            is_down.store(false, Ordering::Relaxed);
        };
        let all = async {
            let mut pushed = Vec::new();
            while let Some(result) = results.next().await {
                pushed.push(result.unwrap().index);
            }
            pushed
        };
        let (pushed, ()) = in_a_week(futures::future::join(all, outage)).await;
        assert_eq!(pushed, (0..100).collect::<Vec<_>>());
        assert_eq!(store.len(), 100);
        let calls = store.calls().len();
        assert!(calls < 500, "{calls} calls in a minute of outage");
        assert!(calls_of(&store, Method::Push).len() > 3);
    }
}

// ---- what the transport shows ------------------------------------------------------------------

/// What a server does to the first pull of a test.
#[derive(Clone, Copy, Debug)]
enum Act {
    Reset(Reason),
    /// Ends the connection at once.
    GoAway(Reason),
    /// Ends the connection gracefully, as a server does at its age limit.
    GracefulGoAway,
    /// Drops the connection without a word.
    Drop,
    Page(u16),
    Status(Code, usize),
    /// A status with details that are no base64, in headers or trailers.
    Details(bool),
    /// The response just ends.
    NoTrailers,
    Garbage,
}

/// A server that does something to the first call and answers all others.
async fn server(act: Act) -> String {
    let (listener, url) = listener().await;
    let act = Arc::new(Mutex::new(Some(act)));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, Arc::clone(&act)));
        }
    });
    url
}

async fn serve(socket: tokio::net::TcpStream, act: Arc<Mutex<Option<Act>>>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let act = act.lock().unwrap().take();
        let mut body = request.into_body();
        match act {
            None => drop(tokio::spawn(answer(body, respond))),
            Some(Act::Reset(reason)) => {
                // Once the request is there: before, it could not have been at fault.
                let _ = futures::future::select(
                    Box::pin(body.data()),
                    Box::pin(std::future::poll_fn(|cx| connection.poll_closed(cx))),
                )
                .await;
                respond.send_reset(reason);
            }
            Some(Act::GoAway(reason)) => connection.abrupt_shutdown(reason),
            Some(Act::GracefulGoAway) => {
                connection.graceful_shutdown();
                tokio::spawn(answer(body, respond));
            }
            Some(Act::Drop) => return,
            Some(Act::Page(status)) => {
                let head = http::Response::builder()
                    .status(status)
                    .header("content-type", "text/html")
                    .body(())
                    .unwrap();
                let mut page = respond.send_response(head, false).unwrap();
                page.send_data(Bytes::from_static(b"<html>Bad Gateway</html>"), true)
                    .unwrap();
            }
            Some(Act::Status(code, len)) => {
                let head = grpc_response()
                    .header("grpc-status", (code as i32).to_string())
                    .header("grpc-message", "x".repeat(len))
                    .body(())
                    .unwrap();
                respond.send_response(head, true).unwrap();
            }
            Some(Act::Details(in_headers)) => {
                let details = [("grpc-status", "14"), ("grpc-status-details-bin", "?!")];
                let [(status, code), (name, value)] = details;
                if in_headers {
                    let head = grpc_response().header(status, code).header(name, value);
                    respond.send_response(head.body(()).unwrap(), true).unwrap();
                } else {
                    let head = grpc_response().body(()).unwrap();
                    let mut answers = respond.send_response(head, false).unwrap();
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert(status, code.parse().unwrap());
                    trailers.insert(name, value.parse().unwrap());
                    answers.send_trailers(trailers).unwrap();
                }
            }
            Some(Act::NoTrailers) => {
                let mut answers = respond
                    .send_response(grpc_response().body(()).unwrap(), false)
                    .unwrap();
                answers.send_data(Bytes::new(), true).unwrap();
            }
            Some(Act::Garbage) => {
                let mut answers = respond
                    .send_response(grpc_response().body(()).unwrap(), false)
                    .unwrap();
                answers
                    .send_data(Bytes::from_static(b"<html>what?"), true)
                    .unwrap();
            }
        }
    }
}

/// Answers refs with their records, like a good server.
async fn answer(mut body: h2::RecvStream, mut respond: SendResponse<Bytes>) {
    let mut answers = respond
        .send_response(grpc_response().body(()).unwrap(), false)
        .unwrap();
    let mut received = BytesMut::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        received.extend_from_slice(&data);
        while let Some((_, message)) = take_message(&mut received) {
            let asked = RecordRef::decode(message).unwrap();
            let record = record(number_with_cid(&asked.cid));
            answers
                .send_data(framed(&record.encode_to_vec()), false)
                .unwrap();
        }
    }
    let _ = answers.send_trailers(trailers(Code::Ok, ""));
}

/// Pulls three records. Returns what became of each, and what was judged.
async fn pull(client: &Client) -> (Vec<Option<ErrorKind>>, Vec<(Code, Verdict)>) {
    let judged = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&judged);
    let retry = Retry::new()
        .backoff(Duration::from_millis(1), Duration::from_millis(5))
        .classify(move |status: &Status| {
            let verdict = Verdict::of(status);
            seen.lock().unwrap().push((status.code(), verdict));
            verdict
        });
    let results = cids(3).pull_from_with(client, &Options::new().retry(retry));
    let results: Vec<_> = soon(results.collect()).await;
    let judged = judged.lock().unwrap().clone();
    (kinds(&results), judged)
}

#[tokio::test]
async fn a_failure_of_the_transport_is_transient_whatever_its_code() {
    let acts = [
        Act::Reset(Reason::INTERNAL_ERROR),
        Act::Reset(Reason::REFUSED_STREAM),
        Act::Reset(Reason::CANCEL),
        Act::Reset(Reason::NO_ERROR),
        Act::Reset(Reason::INADEQUATE_SECURITY),
        Act::Reset(Reason::ENHANCE_YOUR_CALM),
        Act::GoAway(Reason::ENHANCE_YOUR_CALM),
        Act::GoAway(Reason::NO_ERROR),
        Act::Drop,
        Act::Page(502),
        Act::Page(503),
        Act::Page(429),
        Act::Page(200),
        Act::NoTrailers,
        Act::Details(true),
        Act::Details(false),
        Act::Status(Code::Unavailable, 10),
        Act::Status(Code::ResourceExhausted, 10),
    ];
    for act in acts {
        let client = soon(Client::connect(server(act).await)).await.unwrap();
        let (kinds, judged) = pull(&client).await;
        assert_eq!(kinds, [None; 3], "{act:?}");
        assert!(!judged.is_empty(), "{act:?} was not seen");
        for (code, verdict) in judged {
            assert_eq!(verdict, Verdict::Transient, "{act:?} came as {code:?}");
        }
    }
}

#[tokio::test]
async fn a_graceful_goaway_is_no_fault_of_its_calls() {
    let client = soon(Client::connect(server(Act::GracefulGoAway).await))
        .await
        .unwrap();
    let (kinds, judged) = pull(&client).await;
    assert_eq!(kinds, [None; 3]);
    assert!(judged.is_empty(), "{judged:?}");
    // The next call may find the connection closing.
    let (kinds, judged) = pull(&client).await;
    assert_eq!(kinds, [None; 3]);
    assert!(
        judged
            .iter()
            .all(|(_, verdict)| *verdict == Verdict::Transient),
        "{judged:?}"
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_fails_only_its_record() {
    let client = soon(Client::connect(server(Act::Garbage).await))
        .await
        .unwrap();
    let (kinds, judged) = pull(&client).await;
    assert_eq!(kinds, [Some(ErrorKind::Mismatch), None, None]);
    assert_eq!(judged, [(Code::Internal, Verdict::Record)]);
}

#[tokio::test]
async fn a_caller_that_is_refused_is_told_so_for_each_item() {
    for (act, kind) in [
        (Act::Page(401), ErrorKind::Denied),
        (Act::Page(403), ErrorKind::Denied),
        (Act::Page(404), ErrorKind::Unsupported),
        (Act::Status(Code::Unauthenticated, 10), ErrorKind::Denied),
    ] {
        let client = soon(Client::connect(server(act).await)).await.unwrap();
        let (kinds, judged) = pull(&client).await;
        assert_eq!(kinds, [Some(kind); 3], "{act:?}");
        assert_eq!(judged.len(), 1);
        assert_eq!(judged[0].1, Verdict::Caller, "{act:?}");
    }
}

/// All validation errors of a record come in one message.
#[tokio::test]
async fn a_status_of_100_kb_fails_only_its_record_with_our_settings_and_is_a_fault_without() {
    let act = Act::Status(Code::InvalidArgument, 100_000);
    let client = soon(Client::connect(server(act).await)).await.unwrap();
    let (kinds, judged) = pull(&client).await;
    assert_eq!(kinds, [Some(ErrorKind::Rejected), None, None]);
    assert_eq!(judged, [(Code::InvalidArgument, Verdict::Record)]);

    // A channel with the usual 16 KiB of headers shows an HTTP/2 error in its place.
    let channel = Endpoint::from_shared(server(act).await)
        .unwrap()
        .connect_lazy();
    let (kinds, judged) = pull(&Client::from_service(channel)).await;
    assert_eq!(kinds, [None; 3]);
    assert!(
        judged
            .iter()
            .all(|(_, verdict)| *verdict == Verdict::Transient),
        "{judged:?}"
    );
    assert!(!judged.is_empty());
}

/// A layer around the channel can make a status of its own. Its code counts even if another error wraps it.
#[test]
fn a_wrapped_status_is_judged_by_its_code() {
    #[derive(Debug)]
    struct Layer(Status);
    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the layer")
        }
    }
    impl std::error::Error for Layer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let denied = Layer(Status::unauthenticated("no token"));
    assert_eq!(
        Verdict::of(&Status::from_error(denied.into())),
        Verdict::Caller
    );
    let other = Status::from_error("what?".into());
    assert_eq!(other.code(), Code::Unknown);
    assert_eq!(
        Verdict::of(&other),
        Verdict::Transient,
        "it is not the server's word"
    );
}

#[test]
fn each_code_in_the_servers_own_words_has_its_verdict() {
    let verdicts = [
        (Code::InvalidArgument, Verdict::Record),
        (Code::NotFound, Verdict::Record),
        (Code::FailedPrecondition, Verdict::Record),
        (Code::OutOfRange, Verdict::Record),
        (Code::AlreadyExists, Verdict::Attempt),
        (Code::Internal, Verdict::Attempt),
        (Code::Unknown, Verdict::Attempt),
        (Code::DataLoss, Verdict::Attempt),
        (Code::Unavailable, Verdict::Transient),
        (Code::ResourceExhausted, Verdict::Transient),
        (Code::DeadlineExceeded, Verdict::Transient),
        (Code::Aborted, Verdict::Transient),
        (Code::Cancelled, Verdict::Transient),
        (Code::Unauthenticated, Verdict::Caller),
        (Code::PermissionDenied, Verdict::Caller),
        (Code::Unimplemented, Verdict::Caller),
    ];
    for (code, verdict) in verdicts {
        assert_eq!(
            Verdict::of(&Status::new(code, "words")),
            verdict,
            "{code:?}"
        );
    }
    for (status, verdict) in [
        (
            Status::resource_exhausted("grpc: received message larger than max (5 vs. 4)"),
            Verdict::Record,
        ),
        (
            Status::internal(
                "failed to validate record: failed to get schema version from record: \
                 schema_version field is missing",
            ),
            Verdict::Record,
        ),
        (
            Status::internal("failed to decode Protobuf message: invalid wire type"),
            Verdict::Record,
        ),
        (
            Status::unknown("grpc-status header missing, mapped from HTTP status code 200"),
            Verdict::Transient,
        ),
    ] {
        assert_eq!(Verdict::of(&status), verdict, "{status:?}");
    }
}
