//! The way to a DIR server.

mod compression;
mod connect;
mod connection;
mod greeting;
mod node;
mod transport;

use std::fmt;
use std::sync::Arc;

pub use self::compression::Compression;
pub(crate) use self::compression::Compressor;
#[cfg(feature = "server")]
pub(crate) use self::connection::Connection;
pub(crate) use self::connection::Way;
pub(crate) use self::node::{CallRate, Node};
pub(crate) use self::transport::Transport;
use crate::breaker::{Breaker, CircuitBreaker};

/// A DIR server, or several that serve the same directory, and the way to them. Cheap to clone;
/// clones share the connections and the [`CircuitBreaker`]. It may be kept in a static, outlive the
/// runtime that it was made in, and be used in several: each has connections of its own.
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
    /// One or more.
    nodes: Arc<[Node]>,
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
    /// [`connect`](Self::connect) wants a header list of 1 MiB (validation errors are long) and a
    /// wide HTTP/2 connection window (calls whose answers nobody reads use it up), and needs pings
    /// to find out that a connection is dead: when a call stalls, the next one goes by this same
    /// service. A DIR server allows one ping a minute. A tonic channel ends with the runtime that it
    /// was made in.
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
    ///     .initial_connection_window_size((1 << 31) - 1)
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

    pub(crate) fn over(transport: Arc<dyn Transport>) -> Self {
        Self {
            nodes: Arc::new([Node::over(transport)]),
        }
    }

    fn map(self, change: impl Fn(Node) -> Node) -> Self {
        Self {
            nodes: self.nodes.iter().cloned().map(change).collect(),
        }
    }

    /// This client with a circuit breaker of its own, which its later clones and the adapters made
    /// with them share. Pipelines that should not feel each other's faults want one each. Of several
    /// nodes, each gets one.
    #[must_use]
    pub fn with_breaker(self, settings: CircuitBreaker) -> Self {
        self.map(|node| Node {
            breaker: Breaker::new(settings.clone()),
            ..node
        })
    }

    /// This client with compressed messages, on each of its nodes. Default: none is compressed.
    ///
    /// It pays on a slow line, to a server that knows the encoding: see [`Compression`].
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        self.map(|node| Node {
            connections: node
                .connections
                .into_iter()
                .map(|connection| transport::compressed(connection, compression))
                .collect(),
            ..node
        })
    }

    /// This client over so many connections to its server, or to each of its nodes, made when calls
    /// first need them. Default: 1.
    ///
    /// Calls go where the fewest are. One connection carries many calls, and is enough where the
    /// server is what is waited for ([`Options::calls`](crate::Options::calls)); more of them help
    /// where one is limited by a proxy, by a flow-control window on a long line, or by the one task
    /// that works on it.
    ///
    /// An adapter whose consumer stops reading holds up to 4 MiB of what the server has sent in each
    /// of its calls. A connection has room for 511 calls that are held up so, and one more; beyond
    /// that, calls wait until they stall.
    ///
    /// A client over a [service of your own](Self::from_service) stays with that: join several with
    /// [`with_nodes_of`](Self::with_nodes_of).
    ///
    /// # Panics
    ///
    /// At zero.
    #[must_use]
    #[track_caller]
    pub fn with_connections(self, connections: usize) -> Self {
        assert!(connections > 0, "a client has one connection at least");
        self.map(|node| node.with_connections(connections))
    }

    /// This client with a limit to how many calls a second it opens, spaced out evenly, over all of
    /// its later clones and the adapters made with them; of several nodes, on each. Default: none.
    ///
    /// A DIR server may limit the rate of calls, not of records. A call is opened for each of
    /// [`Options::calls`](crate::Options::calls), behind each bad record, and after each fault.
    ///
    /// # Panics
    ///
    /// At zero.
    #[must_use]
    #[track_caller]
    pub fn with_call_rate(self, calls_per_second: u32) -> Self {
        assert!(
            calls_per_second > 0,
            "a client opens one call a second at least"
        );
        self.map(|node| Node {
            rate: Some(CallRate::new(calls_per_second)),
            ..node
        })
    }

    /// This client with the nodes of `other` beside its own, which must serve the same directory.
    ///
    /// A call goes to the node with the fewest, so to use several at once takes as many
    /// [`Options::calls`](crate::Options::calls). Each node has its own circuit breaker: one that
    /// fails is set aside, what its calls carried goes to the others, and it is tried again after
    /// growing waits. Only when all are away does the adapter wait.
    ///
    /// Use [`connect_lazy`](Self::connect_lazy): then a node that is not there does not keep the
    /// others from being used.
    ///
    /// ```
    /// use agntcy_dir_stream::{Client, Error};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let client = Client::connect_lazy("http://10.0.0.1:8888")?
    ///     .with_nodes_of(Client::connect_lazy("http://10.0.0.2:8888")?);
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_nodes_of(self, other: Self) -> Self {
        Self {
            nodes: self.nodes.iter().chain(&*other.nodes).cloned().collect(),
        }
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let breakers = self.nodes.iter().map(|node| &node.breaker);
        f.debug_struct("Client")
            .field("nodes", &breakers.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
