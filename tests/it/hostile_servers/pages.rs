//! Pages and other answers in the place of gRPC: they are told, and not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Retry};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use tonic::body::Body;

use super::service::{PollLimit, Server};
use crate::support::clock::{SECOND, in_a_week};
use crate::support::messages::PULL;
use crate::support::records::cids;

const STATUSES: [u16; 13] = [
    200, 201, 204, 301, 302, 303, 307, 308, 400, 404, 500, 502, 503,
];

const CONTENT_TYPES: [Option<&str>; 5] = [
    None,
    Some("text/html"),
    Some("application/json"),
    Some("application/x-protobuf"),
    Some("\u{e9}"),
];

#[tokio::test(start_paused = true)]
async fn a_page_without_end_is_not_read_and_a_redirect_is_not_followed() {
    for status in STATUSES {
        for content_type in CONTENT_TYPES {
            let what = format!("{status} {content_type:?}");
            let read = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&read);
            let server = Server::new(move |request: http::Request<Body>| {
                assert_eq!(request.uri().path(), PULL);
                let count = Arc::clone(&count);
                let page = stream::repeat_with(move || {
                    count.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"<html>")))
                });
                let mut head = http::Response::builder()
                    .status(status)
                    .header("location", "https://example.org/elsewhere");
                if let Some(content_type) = content_type {
                    head = head.header("content-type", content_type.as_bytes());
                }
                head.body(Body::new(StreamBody::new(page))).unwrap()
            });
            let calls = Arc::clone(&server.calls);
            let options = Options::new().retry(Retry::new().timeout(12 * SECOND));
            let results = cids(3).pull_from_with(&Client::from_service(server), &options);
            let results = in_a_week(PollLimit::new(results).collect::<Vec<_>>()).await;
            assert_eq!(results.len(), 3);
            for result in results {
                let failed = result.unwrap_err();
                let expected = match status {
                    404 => ErrorKind::Unsupported,
                    _ => ErrorKind::Unavailable,
                };
                assert!(
                    failed.kind() == expected || failed.kind() == ErrorKind::NotSent,
                    "{what}: {failed}"
                );
                let words = failed.to_string();
                assert!(words.contains(&format!("HTTP {status}")), "{words}");
                assert!(words.contains("in place of gRPC"), "{words}");
            }
            let (read, calls) = (read.load(Ordering::Relaxed), calls.load(Ordering::Relaxed));
            assert_eq!(read, 0, "{what}: frames were read");
            assert!(calls < 50, "{what}: {calls} calls in 12 s");
        }
    }
}
