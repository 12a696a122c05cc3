//! Answers that nobody asked for, or too many, too late, and for other items.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Retry};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use tonic::body::Body;

use super::service::{PollLimit, Response, Server, body};
use crate::support::clock::{SECOND, in_a_week};
use crate::support::messages::{
    RecordMeta, RecordRef, framed, grpc_response, take_message, trailers,
};
use crate::support::peer::scripted;
use crate::support::polling::{assert_pending, next, poll};
use crate::support::records::{cid, cids, record, records};
use crate::support::results::kinds;

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

fn signatures() -> impl Stream<Item = Referrer> + Unpin + Send {
    stream::iter((0..5).map(|number| {
        let data = r#"{"signature": "c2ln"}"#.parse().unwrap();
        Referrer::new(cid(&record(number)), Referrer::SIGNATURE, data)
    }))
}

/// Runs this operation on five items. Returns what became of each.
async fn run(operation: &str, client: &Client, options: &Options) -> Vec<Option<ErrorKind>> {
    macro_rules! run {
        ($results:expr) => {{
            let results = PollLimit::new($results).collect::<Vec<_>>();
            kinds(&in_a_week(results).await)
        }};
    }
    match operation {
        "push" => run!(records(5).push_to_with(client, options)),
        "pull" => run!(cids(5).pull_from_with(client, options)),
        "lookup" => run!(cids(5).lookup_in_with(client, options)),
        "delete" => run!(cids(5).delete_from_with(client, options)),
        "push_referrers" => run!(signatures().push_referrers_to_with(client, options)),
        "pull_referrers" => run!(cids(5).pull_referrers_from_with(client, options)),
        "delete_referrers" => run!(cids(5).delete_referrers_from_with(client, options)),
        "publish" => run!(cids(5).publish_to_with(client, options)),
        "unpublish" => run!(cids(5).unpublish_from_with(client, options)),
        _ => unreachable!(),
    }
}

const OPERATIONS: [&str; 9] = [
    "push",
    "pull",
    "lookup",
    "delete",
    "push_referrers",
    "pull_referrers",
    "delete_referrers",
    "publish",
    "unpublish",
];

/// Answers each request with what `answer` makes of it, and ends well after the last.
fn answering(
    request: http::Request<Body>,
    answer: impl Fn(Bytes) -> Vec<Bytes> + Send + 'static,
) -> Body {
    let mut received = BytesMut::new();
    let answers = request
        .into_body()
        .into_data_stream()
        .map_ok(move |data| {
            received.extend_from_slice(&data);
            let messages = std::iter::from_fn(|| take_message(&mut received));
            let answers = messages.flat_map(|(_, message)| answer(message));
            let framed = answers.map(|answer| Ok::<_, tonic::Status>(Frame::data(framed(&answer))));
            stream::iter(framed.collect::<Vec<_>>())
        })
        .try_flatten();
    let end = stream::iter([Ok(Frame::trailers(trailers(Code::Ok, "")))]);
    Body::new(StreamBody::new(answers.chain(end)))
}

/// This answer each millisecond: where it came at once, time would stand still.
fn without_end(answer: Bytes) -> Body {
    let answers = stream::repeat(answer).then(|answer| async {
        sleep(Duration::from_millis(1)).await;
        answer
    });
    body(answers)
}

/// What a server does with a call.
type Respond = fn(http::Request<Body>) -> Body;

const WAYS: [(&str, Respond); 7] = [
    ("empty answers without end", |_| without_end(Bytes::new())),
    ("answers without end that cannot be read", |_| {
        without_end(Bytes::from_static(&[0xff; 8]))
    }),
    ("answers without end that are for another item", |_| {
        let another = RecordRef::new(cid(&record(99))).encode_to_vec();
        without_end(Bytes::from(another))
    }),
    ("each request back, twice", |request| {
        answering(request, |asked| vec![asked.clone(), asked])
    }),
    ("an answer for another item", |request| {
        answering(request, |_| {
            vec![RecordRef::new(cid(&record(99))).encode_to_vec().into()]
        })
    }),
    ("no answer, and all is well", |_| {
        let end = Frame::trailers(trailers(Code::Ok, ""));
        Body::new(StreamBody::new(stream::iter([Ok::<_, std::io::Error>(
            end,
        )])))
    }),
    ("answers after the end", |_| {
        let end = [Frame::trailers(trailers(Code::Ok, ""))];
        let another = || Frame::data(framed(&RecordRef::new(cid(&record(99))).encode_to_vec()));
        let frames = stream::iter(end).chain(stream::repeat_with(another));
        Body::new(StreamBody::new(frames.map(Ok::<_, std::io::Error>)))
    }),
];

#[tokio::test(start_paused = true)]
async fn whatever_is_answered_each_item_has_one_result_in_its_time_after_few_calls() {
    for (way, respond) in WAYS {
        for operation in OPERATIONS {
            let server = Server::new(move |request| -> Response {
                grpc_response().body(respond(request)).unwrap()
            });
            let calls = Arc::clone(&server.calls);
            let options = Options::new().retry(Retry::new().timeout(12 * SECOND));
            let start = Instant::now();
            let results = run(operation, &Client::from_service(server), &options).await;
            let took = start.elapsed();
            let calls = calls.load(Ordering::Relaxed);
            let what = format!("{operation}, {way}: {results:?}");
            assert_eq!(results.len(), 5, "{what}");
            assert!(took <= 13 * SECOND, "{what}: {took:?}");
            assert!(calls <= 60, "{what}: {calls} calls in {took:?}");
            // Of these it can be told whether they are done.
            let done = results.iter().filter(|kind| kind.is_none()).count();
            match (operation, way) {
                // That is a true answer, once.
                ("lookup", "each request back, twice") => assert_eq!(done, 1, "{what}"),
                ("push" | "pull" | "lookup" | "delete", _) => assert_eq!(done, 0, "{what}"),
                _ => {}
            }
        }
    }
}

/// What was listed once is not found again, and a list that is not whole ends with an error.
#[tokio::test(start_paused = true)]
async fn whatever_is_listed_a_search_has_an_end_after_few_calls() {
    for (way, respond) in WAYS {
        let server = Server::new(move |request| -> Response {
            grpc_response().body(respond(request)).unwrap()
        });
        let calls = Arc::clone(&server.calls);
        let client = Client::from_service(server);
        let options = Options::new().retry(Retry::new().timeout(12 * SECOND));
        let start = Instant::now();
        let search = client.search_with(Query::new().name("agent-1"), &options);
        let found: Vec<_> = in_a_week(PollLimit::new(Box::pin(search)).collect()).await;
        let (took, calls) = (start.elapsed(), calls.load(Ordering::Relaxed));
        let what = format!("{way}: {found:?}, {took:?}, {calls} calls");
        assert!(took <= 30 * SECOND, "{what}");
        assert!(calls <= 60, "{what}");
        assert!(found.len() <= 2, "{what}");
        assert!(found.last().is_some_and(Result::is_err), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_told_a_listener_asks_with_waits() {
    for (way, respond) in WAYS {
        let server = Server::new(move |request| -> Response {
            grpc_response().body(respond(request)).unwrap()
        });
        let calls = Arc::clone(&server.calls);
        let client = Client::from_service(server);
        let events = client.listen(EventFilter::new());
        let events = PollLimit::new(Box::pin(events)).map(|heard| heard.is_ok());
        let mut events = events.collect::<Vec<_>>();
        // It has no end where the server has none.
        let _ = timeout(12 * SECOND, &mut events).await;
        let calls = calls.load(Ordering::Relaxed);
        // The first wait of several is 100 ms, and each call that tells something is the first.
        assert!(calls <= 120, "{way}: {calls} calls in 12 s");
    }
}

/// Five signatures, pushed to a server that answers each request, after a millisecond, that it failed.
#[tokio::test(start_paused = true)]
async fn items_at_which_the_server_says_it_failed_are_sent_again_with_waits() {
    let server = Server::new(|request: http::Request<Body>| -> Response {
        let asked = request.into_body().into_data_stream();
        let failed = asked.map_ok(|data| {
            let mut asked = BytesMut::from(data);
            let messages = std::iter::from_fn(|| take_message(&mut asked)).count();
            without_end(Bytes::new()).into_data_stream().take(messages)
        });
        let failed = failed.try_flatten().map_ok(Frame::data);
        grpc_response()
            .body(Body::new(StreamBody::new(failed)))
            .unwrap()
    });
    let options = Options::new().retry(Retry::new().timeout(12 * SECOND));
    let results = signatures().push_referrers_to_with(&Client::from_service(server), &options);
    let handle = results.handle();
    let start = Instant::now();
    let results: Vec<_> = in_a_week(PollLimit::new(results).collect()).await;
    let (took, sent) = (start.elapsed(), handle.stats().sent);
    assert_eq!(results.len(), 5);
    assert!(took <= 13 * SECOND, "{took:?}");
    assert!(sent <= 100, "{sent} sent");
}
