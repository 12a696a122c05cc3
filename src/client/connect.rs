//! Connecting over TCP, with the settings that a DIR server's streams need.

use std::time::Duration;

use tonic::transport::Endpoint;

use super::Client;
use crate::error::{Error, ErrorKind};

/// HTTP/2 connection window in bytes. h2 charges small frames that are not yet read against half
/// of it, and closes the connection when that is used up; a Go server sends each small answer as
/// a frame of its own, so this stands far above the stream window.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// HTTP/2 stream window in bytes: what a server may send ahead in one call.
const STREAM_WINDOW: u32 = 4 << 20;

/// The largest header list in bytes. A server puts all validation errors of a record into one
/// status message, which can pass the usual 16 KiB.
const HEADER_LIST: u32 = 1 << 20;

/// How long a connection may be silent before TCP asks whether the other side is still there: else
/// a host that vanished while an answer is awaited would never be missed.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// How long a connection with calls on it may be silent before HTTP/2 asks whether the server is
/// still there. A DIR server allows one ping a minute, and cuts the connection of a client that
/// asks more often.
const PING_INTERVAL: Duration = Duration::from_secs(90);

/// How long the answer to a ping may take. Then the connection is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

impl Client {
    /// Connects to a DIR server: `http://host:port`.
    ///
    /// One HTTP/2 connection, made now and made again when it is lost, or when a call on it has
    /// [stalled](crate::Options::stall_after). Connecting may take 20 seconds. A silent connection
    /// that has calls on it is asked every 90 seconds, by an HTTP/2 ping, whether the server is
    /// still there, and given up when no answer comes in 20.
    ///
    /// It is tried once: for a server that may not be there yet, use
    /// [`connect_lazy`](Self::connect_lazy). TLS is not built in: bring a channel of your own to
    /// [`from_service`](Self::from_service) for it.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if `url` is not an `http` URL,
    /// [`Unavailable`](ErrorKind::Unavailable) if nobody answers there. Both name the address.
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
        let url = url.as_ref();
        let endpoint = endpoint(url)?;
        let first = endpoint.connect().await.map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("cannot connect to {url}"))
                .with_source(error)
        })?;
        Ok(Self::from_connection(first, move || {
            endpoint.connect_lazy()
        }))
    }

    /// A client for a DIR server that need not be there yet: as [`connect`](Self::connect), but the
    /// connection is made with the first call. Adapters wait for the server as for any that is away.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if `url` is not an `http` URL.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn connect_lazy(url: impl AsRef<str>) -> Result<Self, Error> {
        let endpoint = endpoint(url.as_ref())?;
        let connect = move || endpoint.connect_lazy();
        Ok(Self::from_connection(connect(), connect))
    }
}

fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let uri: http::Uri = url
        .parse()
        .map_err(|error| not_a_url(url).with_source(error))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => {}
        (Some(scheme), Some(_)) => {
            return Err(Error::invalid(format!(
                "`{url}`: only http is built in, not {scheme}; Client::from_service takes any channel"
            )));
        }
        _ => return Err(not_a_url(url)),
    }
    Ok(with_settings(Endpoint::from(uri)))
}

/// The settings that a DIR server's streams need.
pub(crate) fn with_settings(endpoint: Endpoint) -> Endpoint {
    endpoint
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .http2_max_header_list_size(HEADER_LIST)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(Some(TCP_KEEPALIVE))
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .user_agent(concat!("agntcy-dir-stream/", env!("CARGO_PKG_VERSION")))
        .expect("a fixed ASCII name is a header value")
}

fn not_a_url(url: &str) -> Error {
    Error::invalid(format!(
        "`{url}` is not a URL such as http://127.0.0.1:8888"
    ))
}

#[cfg(all(test, feature = "server"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;

    use hyper_util::rt::TokioIo;
    use tokio::time::Instant;

    use super::*;
    use crate::options::Options;
    use crate::pull::PullExt as _;
    use crate::record::Record;

    /// A server that takes a call and is never heard of again: no reset, no end of the connection.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_died_is_found_out_by_a_ping() {
        let connect = tower::service_fn(|_| async {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(theirs).await.unwrap();
                let call = connection.accept().await;
                std::future::pending::<()>().await;
                drop((connection, call));
            });
            Ok::<_, Infallible>(TokioIo::new(ours))
        });
        let channel = with_settings(Endpoint::from_static("http://dead"))
            .connect_with_connector_lazy(connect);
        let client = Client::from_service(channel);
        let options = Options::new().stall_after(None).retry(crate::Retry::off());
        let record: Record = r#"{"name": "a"}"#.parse().unwrap();
        let start = Instant::now();
        let pull = futures::stream::iter([record]).pull_from_with(&client, &options);
        let summary = tokio::time::timeout(Duration::from_secs(3600), pull.finish()).await;
        assert_eq!(summary.unwrap().stats.failed_as(ErrorKind::Unavailable), 1);
        let took = start.elapsed();
        let pinged = PING_INTERVAL + PING_TIMEOUT;
        assert!((PING_INTERVAL..=2 * pinged).contains(&took), "{took:?}");
    }
}
