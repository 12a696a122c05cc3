//! The example of a service that can be seen from outside.

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Store};
use agntcy_dir_stream::{ErrorKind, describe_metrics};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::ServiceExt as _;

use crate::support::clock::{SECOND, in_a_week, on_paused_clock};
use crate::support::records::{cid, nameless, record};

#[allow(dead_code)]
#[path = "../../examples/service.rs"]
mod example;

async fn get(router: &axum::Router, path: &str) -> (StatusCode, String) {
    ask(router, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn ask(router: &axum::Router, request: Request<Body>) -> (StatusCode, String) {
    let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    (head.status, String::from_utf8(text.into()).unwrap())
}

#[test]
fn prometheus_reads_the_metrics_and_health_is_that_of_the_handle() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        describe_metrics();
        on_paused_clock(async {
            let store = Store::new();
            let client = store.client();
            let (pusher, pushing) = client.pusher(&Options::new());
            tokio::spawn(pushing);
            let router = example::router(prometheus, pusher);
            let posts = (0..100).map(|number| {
                let text = match number % 10 {
                    9 => "no record".to_owned(),
                    8 => nameless(number).to_json().unwrap(),
                    _ => record(number).to_json().unwrap(),
                };
                let request = Request::post("/records").body(Body::from(text)).unwrap();
                ask(&router, request)
            });
            let answers = in_a_week(futures::future::join_all(posts)).await;
            for (number, (status, text)) in answers.iter().enumerate() {
                match number % 10 {
                    9 | 8 => assert_eq!(*status, StatusCode::UNPROCESSABLE_ENTITY, "{text}"),
                    _ => {
                        assert_eq!(*status, StatusCode::CREATED, "{text}");
                        assert!(text.contains(&cid(&record(number)).to_string()), "{text}");
                    }
                }
            }
            assert_eq!(store.len(), 80);
            // A call for each that is refused, and one for the rest.
            assert!(store.calls().len() <= 11);
            let (status, text) = get(&router, "/metrics").await;
            assert_eq!(status, StatusCode::OK);
            for line in [
                "# HELP dir_stream_records Results handed out, by outcome",
                "# TYPE dir_stream_records counter",
                r#"dir_stream_records{operation="push",outcome="ok"} 80"#,
                r#"dir_stream_in_window{operation="push"} 0"#,
                r#"dir_stream_circuit_open{server_address="store.in.memory"} 0"#,
            ] {
                assert!(
                    text.lines().any(|known| known == line),
                    "{line} is not in\n{text}"
                );
            }
            let (status, text) = get(&router, "/health").await;
            assert_eq!(status, StatusCode::OK);
            assert!(text.starts_with("80 ok, 10 failed"), "{text}");
        });
    });
}

#[test]
fn health_says_that_the_directory_is_away_and_why() {
    on_paused_clock(async {
        let store = Store::new();
        store.inject(Fault::no_connection().times(u64::MAX));
        let (pusher, pushing) = store.client().pusher(&Options::new());
        let pushing = tokio::spawn(pushing);
        let handle = pusher.handle();
        let recorder = PrometheusBuilder::new().build_recorder();
        let router = example::router(recorder.handle(), pusher.clone());
        let push = tokio::spawn(async move { pusher.push(record(0)).await });
        while !handle.stats().circuit_open {
            tokio::time::sleep(SECOND).await;
        }
        let (status, text) = get(&router, "/health").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.starts_with("waiting for the directory: "), "{text}");
        // What is stopped gets an answer all the same.
        handle.stop();
        assert_eq!(in_a_week(pushing).await.unwrap().stats.taken, 1);
        let failed = in_a_week(push).await.unwrap().unwrap_err();
        assert_eq!(
            (failed.kind(), failed.input),
            (ErrorKind::NotSent, record(0))
        );
        let (status, text) = get(&router, "/health").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.starts_with("the stream is over"), "{text}");
    });
}
