//! A service that keeps a directory filled, and can be seen from outside: its metrics for Prometheus, its health from
//! the adapter's handle, its log by `tracing`.
//!
//! ```text
//! RUST_LOG=info cargo run --release --features metrics,server --example service -- 127.0.0.1:9100 [URL]
//! curl 127.0.0.1:9100/metrics
//! curl 127.0.0.1:9100/health
//! ```
//!
//! It pushes a record each millisecond to the directory at the URL, or to a store in the same process. At Ctrl-C it
//! brings to an end what it has taken.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use agntcy_dir_stream::{Handle, describe_metrics};
use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use futures::{Stream, StreamExt, stream};
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
    let results = feed().push_to(&client);
    let handle = results.handle();
    let pushing = tokio::spawn(results.for_each(async |result| {
        if let Err(failed) = result {
            tracing::error!("{failed}");
        }
    }));

    let listener = TcpListener::bind(&address).await.context(address)?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    axum::serve(listener, router(prometheus, handle.clone()))
        .with_graceful_shutdown(stop)
        .await?;

    handle.drain(GRACE);
    pushing.await?;
    println!("{}", handle.stats());
    Ok(())
}

/// What there is to push, for ever.
fn feed() -> impl Stream<Item = Record> + Send + Unpin {
    let records = (0..).map(|number| {
        let record = json!({
            "name": format!("example.org/agents/{number}"),
            "version": "1.0.0",
            "schema_version": "1.0.0",
        });
        record.try_into().expect("an object of texts is a record")
    });
    let timed = stream::iter(records).then(async |record| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        record
    });
    Box::pin(timed)
}

/// What can be asked of the service.
pub(crate) fn router(prometheus: PrometheusHandle, handle: Handle) -> Router {
    let metrics = move || {
        let text = prometheus.render();
        async move { text }
    };
    let health = move || {
        let health = health(&handle);
        async move { health }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
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
