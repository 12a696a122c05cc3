//! The way to a DIR server.

mod builder;
mod compression;
mod connection;
mod connector;
mod env;
mod files;
mod goodbye;
mod greeting;
mod link;
mod making;
mod node;
mod origin;
#[cfg(feature = "tls")]
mod pem;
mod reading;
mod renewal;
mod repeated;
#[cfg(feature = "spiffe")]
mod spiffe;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_error;
mod token;
mod tokens;
mod transport;
mod way;

use std::fmt;
use std::sync::Arc;

pub use self::builder::ClientBuilder;
pub use self::compression::Compression;
pub(crate) use self::compression::Compressor;
#[cfg(feature = "server")]
pub(crate) use self::connection::Connection;
pub(crate) use self::link::Link;
pub(crate) use self::node::{CallRate, Node};
pub(crate) use self::renewal::Refusal;
#[cfg(feature = "spiffe")]
pub use self::spiffe::Spiffe;
pub use self::token::Token;
use self::tokens::Tokens;
use self::transport::Transport;
pub(crate) use self::way::Way;
use crate::breaker::{Breaker, CircuitBreaker};
use crate::error::Error;

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
    /// Connects to a DIR server: `https://host:port`, or `http://host:port` without TLS.
    ///
    /// One HTTP/2 connection, made now and made again when it is lost, or when a call on it has
    /// [stalled](crate::Options::stall_after). Connecting may take 20 seconds, and is done when the
    /// server has said that it speaks HTTP/2. A silent connection that has calls on it is asked every
    /// 90 seconds, by an HTTP/2 ping, whether the server is still there, and given up when no answer
    /// comes in 20.
    ///
    /// A connection lives in the tokio runtime that it is made in. A client may outlive that: in
    /// each runtime that it is used in, it makes a connection with the first call.
    ///
    /// The URL has a host, and a port if that is not 443, or 80 for `http`. A path, a query or a user is
    /// refused. With `https`, the server is one that this system's CAs vouch for;
    /// [`builder`](Self::builder) has other CAs, client certificates, tokens and more.
    ///
    /// It is tried once: for a server that may not be there yet, use
    /// [`connect_lazy`](Self::connect_lazy).
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::ErrorKind::Invalid) if `url` is not the URL of a server and nothing more, or
    /// outside of a tokio runtime. It says what is wrong, and repeats nothing of the URL, which may hold
    /// a secret at any place: only a plain IP address and port, as below.
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if nobody answers there, or not with HTTP/2, or with a
    /// certificate that is not trusted. It names the
    /// address, and says what was found there; what the system said, such as a refused connection, is
    /// its [source](std::error::Error::source).
    ///
    /// ```
    /// use agntcy_dir_stream::{Client, ErrorKind};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let error = Client::connect("127.0.0.1:8888").await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Invalid);
    /// assert_eq!(
    ///     error.to_string(),
    ///     "invalid: `127.0.0.1:8888` is not a URL such as http://127.0.0.1:8888"
    /// );
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// A client for a DIR server that need not be there yet: as [`connect`](Self::connect), but the
    /// connection is made with the first call. Adapters wait for the server as for any that is away.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::ErrorKind::Invalid) as of [`connect`](Self::connect), for the URL alone.
    pub fn connect_lazy(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(url).connect_lazy()
    }

    /// Sets up a client for this URL, with what it needs beside: CAs, certificates, tokens, headers.
    pub fn builder(url: impl AsRef<str>) -> ClientBuilder {
        ClientBuilder::new(url.as_ref())
    }

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

    /// Over connections without more.
    pub(crate) fn over(transport: Arc<dyn Transport>) -> Self {
        Self::of(Node::over(Link::over(transport)))
    }

    fn of(node: Node) -> Self {
        Self {
            nodes: Arc::new([node]),
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
            breaker: Breaker::new(node.breaker.node(), settings.clone()),
            ..node
        })
    }

    /// This client with compressed messages, on each of its nodes. Default: none is compressed.
    ///
    /// It pays on a slow line, to a server that knows the encoding: see [`Compression`].
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        self.map(|node| Node {
            connections: {
                let links = node.connections.into_iter();
                links
                    .map(|link| link.with_compression(compression))
                    .collect()
            },
            ..node
        })
    }

    /// This client with a bearer token from here for each call, on each of its nodes: for one over a
    /// [service of your own](Self::from_service). Where the service sets `authorization` itself, that is the one.
    ///
    /// Whether that service's connection has TLS is for you to see to.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::ErrorKind::Invalid) if one of its connections is made by this crate without TLS.
    pub fn with_token(self, token: Token) -> Result<Self, Error> {
        let mut links = self.nodes.iter().flat_map(|node| &node.connections);
        if links.any(Link::is_plain) {
            return Err(Error::invalid(builder::IN_PLAIN_SIGHT));
        }
        let tokens = Arc::new(Tokens::of(token));
        Ok(self.map(|node| Node {
            connections: {
                let links = node.connections.into_iter();
                let said = Arc::default();
                links
                    .map(|link| link.with_tokens(Arc::clone(&tokens), Arc::clone(&said)))
                    .collect()
            },
            ..node
        }))
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
    /// growing waits. Only when all are away does the adapter wait. One that refuses the caller, or does not have the
    /// method, is set aside for a minute; only when all do so is that the error of the items.
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
        let nodes = self.nodes.iter().map(|node| &node.breaker);
        f.debug_struct("Client")
            .field("nodes", &nodes.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
