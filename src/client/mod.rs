//! The way to a DIR server.

mod connect;
mod single;
mod transport;

use std::fmt;
use std::sync::Arc;

use tonic::transport::Channel;

#[cfg(feature = "server")]
pub(crate) use self::connect::with_settings;
pub(crate) use self::transport::Transport;
use crate::breaker::{Breaker, CircuitBreaker};

/// A DIR server, and the way to it. Cheap to clone; clones share the connection and the
/// [`CircuitBreaker`].
///
/// ```no_run
/// use agntcy_dir_stream::prelude::*;
///
/// # async fn example() -> Result<(), agntcy_dir_stream::Error> {
/// let client = Client::connect("http://127.0.0.1:8888").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    breaker: Arc<Breaker>,
}

impl Client {
    /// A client over any gRPC transport: a channel of your own making, with interceptors or
    /// layers around it, or one in memory.
    ///
    /// That is any `tower` service which `tonic` takes as a client's transport. It is cloned for
    /// each call that is opened, and polled ready before it. Response headers may come late: a Go
    /// server sends them with its first answer.
    ///
    /// The service must let go of each chunk of the request body once it is sent: the next is
    /// given only then. A layer that keeps whole request bodies, to replay them, would wait for
    /// ever, as it would with any endless stream.
    ///
    /// The service's own settings apply. A channel that is not made by
    /// [`connect`](Self::connect) wants a header list of 1 MiB (validation errors are long), must
    /// not shrink HTTP/2's connection window, and needs pings to find out that a connection is
    /// dead: when a call stalls, the next one goes by this same service. A DIR server allows one
    /// ping a minute.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use agntcy_dir_stream::prelude::*;
    /// use tonic::transport::Endpoint;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = Endpoint::from_static("http://127.0.0.1:8888")
    ///     .http2_max_header_list_size(1 << 20)
    ///     .initial_connection_window_size(64 << 20)
    ///     .http2_keep_alive_interval(Duration::from_secs(90))
    ///     .keep_alive_timeout(Duration::from_secs(20))
    ///     .connect_timeout(Duration::from_secs(20))
    ///     .connect_lazy();
    /// let client = Client::from_service(channel);
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_service<S>(service: S) -> Self
    where
        S: tonic::client::GrpcService<tonic::body::Body> + Clone + Send + 'static,
        S::Future: Send,
        S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        <S::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::over(transport::over(service))
    }

    /// A client over connections that it makes itself, beginning with `first`.
    pub(crate) fn from_connections(
        first: Channel,
        make: impl Fn() -> Channel + Send + Sync + 'static,
    ) -> Self {
        Self::over(transport::over_connections(first, make))
    }

    fn over(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            breaker: Breaker::new(CircuitBreaker::new()),
        }
    }

    /// This client with a circuit breaker of its own, which its later clones and the adapters made
    /// with them share. Pipelines that should not feel each other's faults want one each.
    #[must_use]
    pub fn with_breaker(mut self, settings: CircuitBreaker) -> Self {
        self.breaker = Breaker::new(settings);
        self
    }

    pub(crate) fn breaker(&self) -> Arc<Breaker> {
        Arc::clone(&self.breaker)
    }

    pub(crate) fn transport(&self) -> Arc<dyn Transport> {
        Arc::clone(&self.transport)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
