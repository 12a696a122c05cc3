//! Connections that are made here: with the first call, and again when they are lost.

use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{self, Handle};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::ConnectError;
use tonic::body::Body;
use tonic::codegen::Service;

use super::greeting::Greeting;
use super::transport::{BoxError, Opening, Transport, Way};

/// HTTP/2 connection window in bytes: the largest there is. What is not yet read is bounded by the
/// stream windows alone, so 511 calls whose consumers have stopped reading leave room for another.
/// And h2 charges small frames that are not yet read against half of it, and closes the connection
/// when that is used up; a Go server sends each small answer as a frame of its own.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// HTTP/2 stream window in bytes: what a server may send ahead in one call.
const STREAM_WINDOW: u32 = 4 << 20;

/// The largest header list in bytes. A server puts all validation errors of a record into one
/// status message, which can pass the usual 16 KiB.
const HEADER_LIST: u32 = 1 << 20;

/// How long a connection with calls on it may be silent before HTTP/2 asks whether the server is
/// still there. A DIR server allows one ping a minute, and cuts the connection of a client that
/// asks more often.
const PING_INTERVAL: Duration = Duration::from_secs(90);

/// How long the answer to a ping may take. Then the connection is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may take to be made, up to the server's HTTP/2 settings.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("agntcy-dir-stream/", env!("CARGO_PKG_VERSION")));

/// Where no connection can be made.
pub(super) const OUTSIDE: &str = "this is outside of any tokio runtime";

/// Takes calls for a connection.
type Sender = http2::SendRequest<Body>;
type Made = Result<Sender, Unreachable>;
/// Nothing while it is being made.
type Making = watch::Receiver<Option<Made>>;
type Make = dyn Fn() -> Pin<Box<dyn Future<Output = Made> + Send>> + Send + Sync;

/// The way to one server: a connection for each tokio runtime that it is used in. The tasks of a
/// connection live in a runtime and end with it, or rest when it rests.
#[derive(Clone)]
pub(crate) struct Connection {
    /// Scheme and authority, without any user.
    origin: Uri,
    make: Arc<Make>,
    current: Arc<Mutex<Current>>,
}

struct Current {
    /// Goes up when the connections are left. The first is 1, for a call has none at first.
    number: u64,
    connections: Vec<(runtime::Id, Making)>,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            number: 1,
            connections: Vec::new(),
        }
    }
}

impl Connection {
    /// Connections to `origin`, over what `connector` gives.
    pub(crate) fn new<C, IO>(origin: Uri, connector: C) -> Self
    where
        C: Service<Uri, Response = TokioIo<IO>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let target = origin.clone();
        let make = move || -> Pin<Box<dyn Future<Output = Made> + Send>> {
            Box::pin(make(target.clone(), connector.clone()))
        };
        Self::over(origin, Arc::new(make))
    }

    fn over(origin: Uri, make: Arc<Make>) -> Self {
        Self {
            origin,
            make,
            current: Arc::default(),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection of this runtime, once it is made.
    pub(super) async fn ready(&self) -> Made {
        self.ready_for(&Way::default()).await
    }

    /// The same, for a call, which goes by that connection.
    async fn ready_for(&self, way: &Way) -> Made {
        let gone = || Unreachable::new(&self.origin, "the task that did it has ended", None);
        let mut making = self.making(way)?;
        let made = making.wait_for(Option::is_some).await;
        made.ok().and_then(|made| made.clone()).ok_or_else(gone)?
    }

    fn making(&self, way: &Way) -> Result<Making, Unreachable> {
        let outside = |_| Unreachable::new(&self.origin, OUTSIDE, None);
        let runtime = Handle::try_current().map_err(outside)?;
        let mut current = self.current();
        way.set(current.number);
        current.connections.retain(|(_, making)| is_alive(making));
        let mut connections = current.connections.iter();
        if let Some((_, making)) = connections.find(|(id, _)| *id == runtime.id()) {
            return Ok(making.clone());
        }
        let (made, making) = watch::channel(None);
        let make = (self.make)();
        // By a task of its own: a call that is polled no more would keep the others waiting.
        runtime.spawn(async move { made.send_replace(Some(make.await)) });
        current.connections.push((runtime.id(), making.clone()));
        Ok(making)
    }
}

/// Whether it takes calls, or may yet.
fn is_alive(making: &Making) -> bool {
    match &*making.borrow() {
        Some(Ok(sender)) => !sender.is_closed(),
        Some(Err(_)) => false,
        None => making.has_changed().is_ok(),
    }
}

async fn make<C, IO>(origin: Uri, mut connector: C) -> Made
where
    C: Service<Uri, Response = TokioIo<IO>, Error: Into<BoxError>>,
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: BoxError| Unreachable::because(&origin, error);
    let late = |what: &str| {
        let words = format!("{what} within {} s", CONNECT_TIMEOUT.as_secs());
        Unreachable::new(&origin, words, None)
    };
    let deadline = Instant::now() + CONNECT_TIMEOUT;

    let connecting = async {
        poll_fn(|cx| connector.poll_ready(cx)).await?;
        connector.call(origin.clone()).await
    };
    let connected = timeout_at(deadline, connecting).await;
    let io = connected
        .map_err(|_| late("no connection"))?
        .map_err(|error| failed(error.into()))?;

    let (io, greeting) = Greeting::of(io.into_inner());
    let (sender, connection) = settings()
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| failed(error.into()))?;
    // How it ends is told to its calls.
    tokio::spawn(connection);

    let heard = timeout_at(deadline, greeting.settings()).await;
    heard
        .map_err(|_| late("the server said nothing"))?
        .map_err(|error| failed(error.into()))?;
    Ok(sender)
}

/// The settings that a DIR server's streams need.
fn settings() -> http2::Builder<TokioExecutor> {
    let mut settings = http2::Builder::new(TokioExecutor::new());
    settings
        .timer(TokioTimer::new())
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_header_list_size(HEADER_LIST)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    settings
}

impl Transport for Connection {
    fn open(&self, request: http::Request<Body>, way: &Way) -> Opening {
        let this = self.clone();
        let way = way.clone();
        Box::pin(async move {
            let mut request = this.addressed(request);
            let mut is_second = false;
            loop {
                let mut sender = this
                    .ready_for(&way)
                    .await
                    .map_err(|e| ConnectError(e.into()))?;
                let mut error = match sender.try_send_request(request).await {
                    Ok(response) => return Ok(response.map(Body::new)),
                    Err(error) => error,
                };
                // It comes back if it was not sent: the connection has closed just now.
                match error.take_message() {
                    Some(unsent) if !is_second => request = unsent,
                    _ => return Err(error.into_error().into()),
                }
                is_second = true;
            }
        })
    }

    fn leave(&self, way: &Way) {
        let mut current = self.current();
        // Another adapter may have left them before. Those of other runtimes are left with them.
        if current.number == way.number() {
            current.number += 1;
            current.connections.clear();
        }
    }

    fn another(&self) -> Option<Arc<dyn Transport>> {
        let another = Self::over(self.origin.clone(), Arc::clone(&self.make));
        Some(Arc::new(another))
    }
}

impl Connection {
    fn addressed(&self, mut request: http::Request<Body>) -> http::Request<Body> {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        let origin = self.origin.clone().into_parts();
        (uri.scheme, uri.authority) = (origin.scheme, origin.authority);
        *request.uri_mut() = Uri::from_parts(uri).expect("a server and a path are a URI");
        let headers = request.headers_mut();
        headers.insert(http::header::USER_AGENT, USER_AGENT);
        request
    }
}

/// Why there is no connection. The words say all of it, since a status keeps only the outermost.
#[derive(Clone, Debug)]
pub(super) struct Unreachable(Arc<Reason>);

#[derive(Debug)]
struct Reason {
    words: String,
    cause: Option<BoxError>,
}

impl Unreachable {
    fn new(origin: &Uri, why: impl fmt::Display, cause: Option<BoxError>) -> Self {
        let origin = origin.to_string();
        let words = format!("cannot connect to {}: {why}", origin.trim_end_matches('/'));
        Self(Arc::new(Reason { words, cause }))
    }

    fn because(origin: &Uri, cause: BoxError) -> Self {
        let mut why = cause.to_string();
        let mut behind = cause.source();
        while let Some(cause) = behind {
            why = format!("{why}: {cause}");
            behind = cause.source();
        }
        Self::new(origin, why, Some(cause))
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.words)
    }
}

impl StdError for Unreachable {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let cause = self.0.cause.as_deref();
        cause.map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::client::Client;
    use crate::error::ErrorKind;
    use crate::options::Options;
    use crate::pull::PullExt as _;
    use crate::record::Record;

    /// A connection to what `serve` does with a pipe.
    fn to<F>(serve: impl Fn(DuplexStream) -> F + Clone + Send + Sync + 'static) -> Connection
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let connector = tower::service_fn(move |_| {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(serve(theirs));
            std::future::ready(Ok::<_, Infallible>(TokioIo::new(ours)))
        });
        Connection::new(Uri::from_static("http://pipe:1"), connector)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_given_up_in_words() {
        let silent = to(|pipe| async move {
            std::future::pending::<()>().await;
            drop(pipe);
        });
        let start = Instant::now();
        let error = silent.ready().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot connect to http://pipe:1: the server said nothing within 20 s"
        );
        assert_eq!(start.elapsed(), CONNECT_TIMEOUT);
    }

    #[tokio::test]
    async fn settings_may_come_byte_by_byte() {
        let slow = to(|mut pipe| async move {
            for byte in [0, 0, 0, 4, 0, 0, 0, 0, 0] {
                pipe.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            let _ = pipe.read_to_end(&mut Vec::new()).await;
        });
        let made = slow.ready().await;
        assert!(made.is_ok(), "{made:?}");
    }

    #[tokio::test]
    async fn calls_share_the_connection_that_is_being_made() {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let one = to(move |pipe| {
            tell.send(()).unwrap();
            async move {
                let mut connection = h2::server::handshake(pipe).await.unwrap();
                while connection.accept().await.is_some() {}
            }
        });
        let (way, other) = (Way::default(), Way::default());
        let (first, second) =
            futures::future::join(one.ready_for(&way), one.ready_for(&other)).await;
        assert!(first.is_ok() && second.is_ok());
        // Of those that find it silent one is the first.
        one.leave(&way);
        one.leave(&other);
        let late = Way::default();
        one.leave(&late);
        assert!(one.ready_for(&late).await.is_ok());
        assert!(late.number() > way.number());
        drop(one);
        let mut made = 0;
        while told.recv().await.is_some() {
            made += 1;
        }
        assert_eq!(made, 2);
    }

    /// A server that takes a call and is never heard of again: no reset, no end of the connection.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_died_is_found_out_by_a_ping() {
        let dead = to(|pipe| async {
            let mut connection = h2::server::handshake(pipe).await.unwrap();
            let call = connection.accept().await;
            std::future::pending::<()>().await;
            drop((connection, call));
        });
        let client = Client::over(Arc::new(dead));
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
