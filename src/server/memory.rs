//! The store without a port: a client whose connections are pipes in this process.

use std::future::{Ready, ready};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::watch;

use super::connection;
use super::inner::Inner;
use super::line;
use crate::client::{Client, Connection};

/// What a pipe holds in each direction, in bytes.
const PIPE: usize = 64 << 10;

pub(super) fn client(store: &Arc<Inner>) -> Client {
    let pipes = Pipes(Arc::clone(store));
    let connection = Connection::new(Uri::from_static("http://store.in.memory"), pipes);
    Client::over(Arc::new(connection))
}

#[derive(Clone)]
struct Pipes(Arc<Inner>);

impl tonic::codegen::Service<Uri> for Pipes {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (mut ours, theirs) = tokio::io::duplex(PIPE);
        if !self.0.round_trip.is_zero() {
            ours = line::lengthen(ours, PIPE, self.0.round_trip);
        }
        // Nobody stops it: it ends with the client.
        let (_, never) = watch::channel(false);
        // It takes nothing of the system, so it may be idle for ever. And a test's paused clock may
        // run ahead of a ping.
        let idle = None;
        let store = Arc::clone(&self.0);
        tokio::spawn(connection::serve(store, theirs, None, never, idle));
        ready(Ok(TokioIo::new(ours)))
    }
}
