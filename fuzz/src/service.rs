//! What a client is made of: a server behind a clone for each call.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;

use crate::support::reply::Replied;

pub(crate) trait Serve {
    /// Answers a call.
    fn call(self: &Arc<Self>, request: http::Request<Body>) -> Replied;
}

pub(crate) struct Service<S>(Arc<S>);

impl<S> Service<S> {
    pub(crate) fn over(server: &Arc<S>) -> Self {
        Self(Arc::clone(server))
    }
}

impl<S> Clone for Service<S> {
    fn clone(&self) -> Self {
        Self::over(&self.0)
    }
}

impl<S: Serve> tower::Service<http::Request<Body>> for Service<S> {
    type Response = http::Response<Body>;
    type Error = io::Error;
    type Future = Replied;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Replied {
        self.0.call(request)
    }
}
