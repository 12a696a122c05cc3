//! Ends of calls that make no sense: each item has an error all the same, and none is taken for done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Retry};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message as _;
use tokio::time::Instant;
use tonic::body::Body;

use super::service::{PollLimit, Server};
use crate::support::clock::{SECOND, in_a_week};
use crate::support::messages::{RecordRef, framed, grpc_response};
use crate::support::records::{cid, cids, record};
use crate::support::results::kinds;

/// Trailers of these values, which are headers that may stand there, but for what they say.
fn trailers(values: &[(&'static str, &[u8])]) -> HeaderMap {
    let values = values.iter().map(|(name, value)| {
        let value = HeaderValue::from_bytes(value).unwrap();
        (HeaderName::from_static(name), value)
    });
    let mut trailers = HeaderMap::new();
    for (name, value) in values {
        trailers.append(name, value);
    }
    trailers
}

/// How a call may end. None is the end of a call that went well.
fn ends() -> Vec<(String, HeaderMap)> {
    const STATUS: &str = "grpc-status";
    const MESSAGE: &str = "grpc-message";
    const DETAILS: &str = "grpc-status-details-bin";
    let long = vec![b'A'; 1 << 20];
    let ends: Vec<Vec<(&'static str, &[u8])>> = vec![
        vec![],
        vec![("x", b"y")],
        vec![(STATUS, b"")],
        vec![(STATUS, b"OK")],
        vec![(STATUS, b"99")],
        vec![(STATUS, b"-1")],
        vec![(STATUS, b"00")],
        vec![(STATUS, b" 0")],
        vec![(STATUS, b"0x0")],
        vec![(STATUS, b"4294967296")],
        vec![(STATUS, b"\xff")],
        vec![(STATUS, b"14"), (STATUS, b"0")],
        vec![(STATUS, b"14"), (MESSAGE, b"%"), (MESSAGE, b"%zz%4")],
        vec![(STATUS, b"14"), (MESSAGE, b"%00%1b%ff\t\x80")],
        vec![(STATUS, b"14"), (MESSAGE, &long)],
        vec![(STATUS, b"14"), (DETAILS, b"?!")],
        vec![(STATUS, b"14"), (DETAILS, b"\xff")],
        vec![(STATUS, b"14"), (DETAILS, b""), (DETAILS, b"?")],
        vec![(STATUS, b"14"), (DETAILS, &long)],
        vec![
            (STATUS, b"14"),
            ("grpc-retry-pushback-ms", b"-9223372036854775808"),
        ],
        vec![
            (STATUS, b"14"),
            ("grpc-retry-pushback-ms", b"99999999999999999999"),
        ],
        vec![(STATUS, b"14"), ("retry-after", b"99999999999999999999")],
    ];
    let named = |values: Vec<(&'static str, &[u8])>| {
        let shown: Vec<_> = values
            .iter()
            .map(|(name, value)| (name, String::from_utf8_lossy(&value[..value.len().min(30)])))
            .collect();
        (format!("{shown:?}"), trailers(&values))
    };
    ends.into_iter().map(named).collect()
}

/// A client of a server that ends each call so, after this answer if there is one; and the count of its calls.
fn ending(end: &HeaderMap, answer: Option<Bytes>) -> (Client, Arc<AtomicUsize>) {
    let end = end.clone();
    let server = Server::new(move |_| {
        let answer = answer.as_ref().map(|answer| Frame::data(framed(answer)));
        let frames = answer.into_iter().chain([Frame::trailers(end.clone())]);
        let frames: Vec<_> = frames.map(Ok::<_, std::io::Error>).collect();
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        grpc_response().body(body).unwrap()
    });
    let calls = Arc::clone(&server.calls);
    (Client::from_service(server), calls)
}

fn within_12_seconds() -> Options {
    Options::new().retry(Retry::new().timeout(12 * SECOND))
}

async fn all<S: Stream + Unpin>(results: S, calls: &AtomicUsize, what: &str) -> Vec<S::Item> {
    let start = Instant::now();
    let results = in_a_week(PollLimit::new(results).collect::<Vec<_>>()).await;
    let (took, calls) = (start.elapsed(), calls.load(Ordering::Relaxed));
    assert!(took <= 13 * SECOND, "{what}: {took:?}");
    assert!(calls <= 50, "{what}: {calls} calls in {took:?}");
    results
}

#[tokio::test(start_paused = true)]
async fn whatever_ends_a_call_its_items_have_their_results_in_time() {
    for (what, end) in ends() {
        let (client, calls) = ending(&end, None);
        let results = cids(3).lookup_in_with(&client, &within_12_seconds());
        let kinds = kinds(&all(results, &calls, &what).await);
        assert_eq!(kinds, [Some(ErrorKind::NotSent); 3], "{what}");

        // The first of the items is answered in each call.
        let answer = RecordRef::new(cid(&record(0))).encode_to_vec();
        let (client, calls) = ending(&end, Some(answer.into()));
        let results = cids(3).lookup_in_with(&client, &within_12_seconds());
        let results = all(results, &calls, &what).await;
        let found = results.iter().map(Result::is_ok).collect::<Vec<_>>();
        assert_eq!(found, [true, false, false], "{what}");
    }
}

/// A delete is done when its call has ended well.
#[tokio::test(start_paused = true)]
async fn no_end_but_a_good_one_tells_that_deletes_are_done() {
    for (what, end) in ends() {
        let (client, calls) = ending(&end, Some(Bytes::new()));
        let results = cids(3).delete_from_with(&client, &within_12_seconds());
        let results = all(results, &calls, &what).await;
        assert_eq!(results.len(), 3, "{what}");
        assert!(results.iter().all(Result::is_err), "{what}: {results:?}");
    }
}

/// However long the words, and whatever is in them.
#[tokio::test(start_paused = true)]
async fn what_is_printed_of_an_end_is_short_and_does_not_act_on_a_terminal() {
    for (what, end) in ends() {
        let (client, calls) = ending(&end, None);
        let results = cids(3).lookup_in_with(&client, &within_12_seconds());
        for result in all(results, &calls, &what).await {
            let failed = result.unwrap_err();
            for printed in [failed.to_string(), format!("{failed:?}")] {
                assert!(printed.len() < 10_000, "{what}: {}", printed.len());
                assert!(!printed.contains(char::is_control), "{what}: {printed:?}");
            }
        }
    }
}
