//! A service whose request handlers push records by one stream, and that can be seen from outside: its metrics for
//! Prometheus, its health from the adapter's handle, its log by `tracing`.
//!
//! ```text
//! RUST_LOG=info cargo run --release --features metrics,server --example service -- 127.0.0.1:9100 [URL]
//! curl 127.0.0.1:9100/records -d '{"name": "a", "version": "1", "schema_version": "1.0.0"}'
//! curl 127.0.0.1:9100/metrics
//! curl 127.0.0.1:9100/health
//! ```
//!
//! It pushes to the directory at the URL, or to a store in the same process. At Ctrl-C it brings to an end what it has
//! taken.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use agntcy_dir_stream::{Error, Handle, Pusher, describe_metrics};
use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::{get, post};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use tokio::net::TcpListener;

/// How long what was taken may take to be pushed at the end.
const GRACE: Duration = Duration::from_secs(5);

/// The upper bounds of the buckets of all times, in seconds.
const TIMES: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let mut args = std::env::args().skip(1);
    let address = args.next().context("usage: service ADDRESS [URL]")?;

    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("duration".to_owned()), TIMES)?
        .install_recorder()?;
    describe_metrics();

    let client = match args.next() {
        Some(url) => Client::connect_lazy(url)?,
        None => Store::new().client(),
    };
    let (pusher, pushing) = client.pusher(&Options::new());
    let pushing = tokio::spawn(pushing);

    let listener = TcpListener::bind(&address).await.context(address)?;
    println!("listening on http://{}", listener.local_addr()?);
    let handle = pusher.handle();
    let stop = async move {
        tokio::signal::ctrl_c().await.unwrap_or(());
        // The server waits for its handlers, and these for the directory: so the drain begins now.
        handle.drain(GRACE);
    };
    axum::serve(listener, router(prometheus, pusher))
        .with_graceful_shutdown(stop)
        .await?;

    println!("{}", pushing.await?);
    Ok(())
}

/// What can be asked of the service.
pub(crate) fn router(prometheus: PrometheusHandle, pusher: Pusher) -> Router {
    let handle = pusher.handle();
    let metrics = move || {
        let text = prometheus.render();
        async move { text }
    };
    let health = move || {
        let health = health(&handle);
        async move { health }
    };
    let records = move |body: Bytes| push(pusher.clone(), body);
    Router::new()
        .route("/records", post(records))
        .route("/metrics", get(metrics))
        .route("/health", get(health))
}

/// Pushes one record. All requests that are under way share a call.
async fn push(pusher: Pusher, body: Bytes) -> (StatusCode, String) {
    let pushed = match Record::from_json(body) {
        Ok(record) => pusher.push(record).await.map_err(Error::from),
        Err(error) => Err(error),
    };
    match pushed {
        Ok(pushed) => {
            let answer = json!({"cid": pushed.cid, "already_stored": pushed.already_stored});
            (StatusCode::CREATED, format!("{answer}\n"))
        }
        // Another try would not help.
        Err(error) if error.is_of_item() => {
            (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n"))
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// Whether records get through, and why not.
fn health(handle: &Handle) -> (StatusCode, String) {
    let stats = handle.stats();
    if handle.has_ended() {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the stream is over: {stats}\n"),
        )
    } else if stats.circuit_open {
        let why = handle.last_fault().unwrap_or_default();
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for the directory: {why}\n"),
        )
    } else {
        (StatusCode::OK, format!("{stats}\n"))
    }
}
