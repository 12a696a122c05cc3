//! The example of a service that can be seen from outside.

use agntcy_dir_stream::describe_metrics;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Store};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::ServiceExt as _;

use crate::support::clock::{SECOND, in_a_week, on_paused_clock};
use crate::support::polling::assert_pending;
use crate::support::records::records;

#[allow(dead_code)]
#[path = "../../examples/service.rs"]
mod example;

async fn get(router: &axum::Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
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
            let mut results = records(3)
                .chain(futures::stream::pending())
                .push_to(&client);
            let router = example::router(prometheus, results.handle());
            for _ in 0..3 {
                in_a_week(results.next()).await.unwrap().unwrap();
            }
            assert_pending(&mut results);
            let (status, text) = get(&router, "/metrics").await;
            assert_eq!(status, StatusCode::OK);
            for line in [
                "# HELP dir_stream_records Results handed out, by outcome",
                "# TYPE dir_stream_records counter",
                r#"dir_stream_records{operation="push",outcome="ok"} 3"#,
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
            assert!(text.starts_with("3 ok, 0 failed"), "{text}");
        });
    });
}

#[test]
fn health_says_that_the_directory_is_away_and_why() {
    on_paused_clock(async {
        let store = Store::new();
        store.inject(Fault::no_connection().times(u64::MAX));
        let results = records(3).push_to(&store.client());
        let handle = results.handle();
        let recorder = PrometheusBuilder::new().build_recorder();
        let router = example::router(recorder.handle(), handle.clone());
        let pushing = tokio::spawn(results.count());
        while !handle.stats().circuit_open {
            tokio::time::sleep(SECOND).await;
        }
        let (status, text) = get(&router, "/health").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.starts_with("waiting for the directory: "), "{text}");
        handle.stop();
        in_a_week(pushing).await.unwrap();
    });
}
