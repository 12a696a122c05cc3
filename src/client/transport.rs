//! The seam between the engine and what carries its calls.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::body::Body;
use tonic::client::GrpcService;

use super::way::Way;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Opening =
    Pin<Box<dyn Future<Output = Result<http::Response<Body>, BoxError>> + Send>>;

/// Opens calls.
pub(crate) trait Transport: Send + Sync {
    /// Sends `request`, whose body is the call's outgoing side, and waits for response headers.
    fn open(&self, request: http::Request<Body>, way: &Way) -> Opening;

    /// This call's connection is silent, and may be dead without knowing it: calls to come take
    /// another.
    fn leave(&self, _way: &Way) {}

    /// The way to the same server by a connection of its own, if one can be made here.
    fn another(&self) -> Option<Arc<dyn Transport>> {
        None
    }

    /// What it is called in logs.
    fn name(&self) -> String {
        "service".to_owned()
    }

    /// Whether it is known that others can read what goes by it.
    fn is_plain(&self) -> bool {
        false
    }
}

pub(super) fn over<S>(service: S) -> Arc<dyn Transport>
where
    S: GrpcService<Body> + Clone + Send + 'static,
    S::Future: Send,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    Arc::new(Service(Mutex::new(service)))
}

/// A tower service. The lock makes it shareable where it is not by itself, and is held for a
/// clone only.
struct Service<S>(Mutex<S>);

impl<S> Transport for Service<S>
where
    S: GrpcService<Body> + Clone + Send + 'static,
    S::Future: Send,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    fn open(&self, request: http::Request<Body>, _: &Way) -> Opening {
        let mut service = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx))
                .await
                .map_err(Into::into)?;
            let response = service.call(request).await.map_err(Into::into)?;
            Ok(response.map(Body::new))
        })
    }
}
