//! Connecting over TCP, with the settings that a DIR server's streams need.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::runtime::Handle;

use super::Client;
use super::connection::{CONNECT_TIMEOUT, Connection, OUTSIDE};
use crate::error::{Error, ErrorKind};
use crate::unreachable::Unreachable;

/// How long a connection may be silent before TCP asks whether the other side is still there: else
/// a host that vanished while an answer is awaited would never be missed.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

impl Client {
    /// Connects to a DIR server: `http://host:port`.
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
    /// The URL has a host, and a port if that is not 80. A path, a query or a user is refused.
    ///
    /// It is tried once: for a server that may not be there yet, use
    /// [`connect_lazy`](Self::connect_lazy). TLS is not built in: bring a channel of your own to
    /// [`from_service`](Self::from_service) for it.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if `url` is not an `http` URL of a server and nothing more, or
    /// outside of a tokio runtime. It says what is wrong, and repeats nothing of the URL, which may hold
    /// a secret at any place: only a plain IP address and port, as below.
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if nobody answers there, or not with HTTP/2. It names the
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
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, Error> {
        let origin = origin(url.as_ref())?;
        if Handle::try_current().is_err() {
            return Err(Error::invalid(format!(
                "connecting takes a runtime: {OUTSIDE}"
            )));
        }
        let connection = Connection::new(origin, tcp());
        match connection.ready().await {
            Ok(_) => Ok(Self::over(Arc::new(connection))),
            Err(Unreachable { words, cause }) => {
                let error = Error::new(ErrorKind::Unavailable, words.to_string());
                Err(match cause {
                    Some(cause) => error.with_source(cause),
                    None => error,
                })
            }
        }
    }

    /// A client for a DIR server that need not be there yet: as [`connect`](Self::connect), but the
    /// connection is made with the first call. Adapters wait for the server as for any that is away.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) as of [`connect`](Self::connect), for the URL alone.
    pub fn connect_lazy(url: impl AsRef<str>) -> Result<Self, Error> {
        let connection = Connection::new(origin(url.as_ref())?, tcp());
        Ok(Self::over(Arc::new(connection)))
    }
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    // For all addresses of a host together, so that one that does not answer leaves time for others.
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp
}

/// The server that a URL names. What a URL may have beyond that would not be used, so it is refused.
///
/// Any part of it may be a secret, or of one: a password in the place of the port, or one with a `/` in
/// it, which ends the host. So what is refused is not repeated, unless it is an address and a port as
/// a whole.
fn origin(url: &str) -> Result<Uri, Error> {
    if let Ok(address) = url.parse::<SocketAddr>() {
        return Err(Error::invalid(format!(
            "`{address}` is not a URL such as http://{address}"
        )));
    }
    if !url.contains("://") {
        return Err(refused("it does not begin with http://"));
    }
    let uri: Uri = url
        .parse()
        .map_err(|error| refused("it cannot be read").with_source(error))?;
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(refused("it has no host"));
    };
    let (user, server) = match authority.as_str().rsplit_once('@') {
        Some((user, server)) => (Some(user), server),
        None => (None, authority.as_str()),
    };
    let host = authority.host();
    let port = server
        .strip_prefix(host)
        .and_then(|port| port.strip_prefix(':'))
        .filter(|port| port.bytes().all(|digit| digit.is_ascii_digit()))
        .and(authority.port_u16());
    let what = if *scheme == Scheme::HTTPS {
        "only http is built in, not https; Client::from_service takes any channel"
    } else if *scheme != Scheme::HTTP {
        "only http is built in; Client::from_service takes any channel"
    } else if user.is_some() {
        "a user is not used"
    } else if url.contains('#') {
        "a fragment is not used"
    } else if uri.query().is_some() {
        "a query is not used"
    } else if uri.path() != "/" {
        "a path is not used"
    } else if host.is_empty() {
        "it has no host"
    // What looks like a port and is none would be taken for port 80.
    } else if server != host && port.is_none() {
        "what is behind the host's colon is not a port"
    } else {
        return Ok(uri);
    };
    Err(refused(what))
}

fn refused(what: &'static str) -> Error {
    Error::invalid(format!("not a URL such as http://127.0.0.1:8888: {what}"))
}
