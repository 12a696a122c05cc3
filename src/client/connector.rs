//! A function of the user's that makes connections, in place of TCP.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codegen::Service;

/// What goes to and fro, whatever carries it.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Bytes for IO {}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<Box<dyn Bytes>>>> + Send>>;

#[derive(Clone)]
pub(super) struct Connector(Arc<dyn Fn(String) -> Connecting + Send + Sync>);

impl Connector {
    pub(super) fn of<F, Fut, IO>(connect: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<IO>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self(Arc::new(move |server| {
            let connecting = connect(server);
            Box::pin(async move {
                let io: Box<dyn Bytes> = Box::new(connecting.await?);
                Ok(TokioIo::new(io))
            })
        }))
    }
}

/// The host and the port of a URL that has a host.
fn server(origin: &Uri) -> String {
    let of_scheme = match origin.scheme() == Some(&Scheme::HTTPS) {
        true => 443,
        false => 80,
    };
    let host = origin.host().unwrap_or_default();
    format!("{host}:{}", origin.port_u16().unwrap_or(of_scheme))
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Bytes>>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, origin: Uri) -> Connecting {
        (self.0)(server(&origin))
    }
}

/// What a function has captured is its own.
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}
