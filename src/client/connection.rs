//! Connections that are made here: with the first call, and again when they are lost.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{self, Handle};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::ConnectError;
use tonic::body::Body;
use tonic::codegen::Service;

use super::goodbye::{Goodbye, Spawner};
use super::greeting::{Greeting, NoSettings};
use super::making::{Made, Making, NO_CONNECTION, SILENT, Sender, Stage};
#[cfg(feature = "tls")]
use super::tls_error;
use super::transport::{BoxError, Opening, Transport};
use super::way::Way;
use crate::later::later;
use crate::unreachable::Unreachable;

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

/// The server closes what it has accepted, or its settings make no sense.
const ENDED_AT_ONCE: &str = "the connection ended as soon as it was made";

/// Where no connection can be made.
pub(super) const OUTSIDE: &str = "this is outside of any tokio runtime";

/// Makes a connection, in this time at most.
type Make = dyn Fn(Duration, watch::Sender<Stage>) -> Pin<Box<dyn Future<Output = ()> + Send>>
    + Send
    + Sync;

/// The way to one server: a connection for each tokio runtime that it is used in. The tasks of a
/// connection live in a runtime and end with it, or rest when it rests.
#[derive(Clone)]
pub(crate) struct Connection {
    /// Scheme and authority, without any user.
    origin: Uri,
    make: Arc<Make>,
    timeout: Duration,
    /// Whether others can read what goes by it.
    is_plain: bool,
    current: Arc<Mutex<Current>>,
}

#[derive(Default)]
struct Current {
    /// Goes up when the connections are left.
    number: u64,
    connections: Vec<(runtime::Id, Making)>,
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
        let make = move |timeout,
                         stage: watch::Sender<Stage>|
              -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let (target, connector) = (target.clone(), connector.clone());
            Box::pin(async move {
                let made = make(target, connector, timeout, &stage).await;
                stage.send_replace(Stage::Made(made));
            })
        };
        Self {
            origin,
            make: Arc::new(make),
            timeout: CONNECT_TIMEOUT,
            is_plain: false,
            current: Arc::default(),
        }
    }

    /// How long it may take to be made, up to the server's HTTP/2 settings.
    pub(super) fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Others can read what goes by it.
    pub(super) fn plain(self) -> Self {
        Self {
            is_plain: true,
            ..self
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
        self.making(way)?.made().await
    }

    fn making(&self, way: &Way) -> Result<Making, Unreachable> {
        let outside = |_| Unreachable::new(&self.origin, OUTSIDE);
        let runtime = Handle::try_current().map_err(outside)?;
        let mut current = self.current();
        current.connections.retain(|(_, making)| making.is_alive());
        let mut connections = current.connections.iter();
        let known = connections.find(|(id, _)| *id == runtime.id());
        let making = match known {
            Some((_, making)) => making.clone(),
            None => {
                let (making, tell) = Making::new(self.origin.clone());
                // By a task of its own: a call that is polled no more would keep the others waiting.
                runtime.spawn((self.make)(self.timeout, tell));
                current.connections.push((runtime.id(), making.clone()));
                making
            }
        };
        way.takes(current.number, making.clone());
        Ok(making)
    }
}

async fn make<C, IO>(
    origin: Uri,
    mut connector: C,
    timeout: Duration,
    stage: &watch::Sender<Stage>,
) -> Made
where
    C: Service<Uri, Response = TokioIo<IO>, Error: Into<BoxError>>,
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: BoxError| because(&origin, error);
    let late = |what| Unreachable::late(&origin, what, timeout);
    let deadline = later(Instant::now(), timeout);

    let connecting = async {
        poll_fn(|cx| connector.poll_ready(cx)).await?;
        connector.call(origin.clone()).await
    };
    let connected = timeout_at(deadline, connecting).await;
    let io = connected
        .map_err(|_| late(NO_CONNECTION))?
        .map_err(|error| failed(error.into()))?;

    stage.send_replace(Stage::Awaits(SILENT));
    let (io, greeting) = Greeting::of(io.into_inner());
    let (goodbye, spawner, in_use) = Goodbye::new();
    let handshake = timeout_at(deadline, settings(spawner).handshake(TokioIo::new(io))).await;
    let (requests, connection) = handshake
        .map_err(|_| late(SILENT))?
        .map_err(|error| failed(error.into()))?;
    // How it ends is told to its calls.
    tokio::spawn(goodbye.of(connection));

    let heard = timeout_at(deadline, greeting.settings()).await;
    heard
        .map_err(|_| late(SILENT))?
        .map_err(|instead| no_settings(&origin, instead))?;
    Ok(Sender {
        requests,
        _in_use: in_use,
    })
}

/// What TLS says stands beside the server's name, since it says what to do. What the system says stands behind.
fn because(origin: &Uri, error: BoxError) -> Unreachable {
    #[cfg(feature = "tls")]
    let error = match tls_error::words(error) {
        Ok((words, cause)) => {
            return Unreachable {
                cause,
                ..Unreachable::new(origin, words)
            };
        }
        Err(error) => error,
    };
    Unreachable::because(origin, error)
}

fn no_settings(origin: &Uri, NoSettings { instead, cause }: NoSettings) -> Unreachable {
    match cause {
        // TLS itself says what it was.
        #[cfg(feature = "tls")]
        Some(cause) if tls_error::is_of_tls(&cause) => because(origin, cause.into()),
        cause => Unreachable {
            cause: cause.map(|cause| Arc::new(cause) as _),
            ..Unreachable::new(origin, instead.in_words(origin))
        },
    }
}

/// The settings that a DIR server's streams need.
fn settings(spawner: Spawner) -> http2::Builder<Spawner> {
    let mut settings = http2::Builder::new(spawner);
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
                let mut error = match sender.requests.try_send_request(request).await {
                    Ok(response) => return Ok(response.map(Body::new)),
                    Err(error) => error,
                };
                // It comes back if it was not sent: the connection has closed just now.
                match error.take_message() {
                    Some(unsent) if !is_second => request = unsent,
                    // The transport's own words would be that it was canceled.
                    Some(_) => {
                        let unreachable = Unreachable::new(&this.origin, ENDED_AT_ONCE);
                        return Err(ConnectError(unreachable.into()).into());
                    }
                    None => return Err(error.into_error().into()),
                }
                is_second = true;
            }
        })
    }

    fn leave(&self, way: &Way) {
        let mut current = self.current();
        // Another adapter may have left them before. Those of other runtimes are left with them.
        if way.connection() == Some(current.number) {
            current.number += 1;
            current.connections.clear();
        }
    }

    fn another(&self) -> Option<Arc<dyn Transport>> {
        Some(Arc::new(Self {
            current: Arc::default(),
            ..self.clone()
        }))
    }

    fn name(&self) -> String {
        self.origin.to_string().trim_end_matches('/').to_owned()
    }

    fn is_plain(&self) -> bool {
        self.is_plain
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use futures::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::client::Client;
    use crate::error::ErrorKind;
    use crate::options::Options;
    use crate::pull::PullExt as _;
    use crate::record::Record;
    use crate::retry::Retry;

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

    fn silent() -> Connection {
        to(|pipe| async move {
            std::future::pending::<()>().await;
            drop(pipe);
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_given_up_in_words() {
        let start = Instant::now();
        let error = silent().ready().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot connect to http://pipe:1: the server said nothing within 20 s"
        );
        assert_eq!(start.elapsed(), CONNECT_TIMEOUT);
    }

    /// Nobody answers, and nobody refuses.
    fn unanswered() -> Connection {
        let connector = tower::service_fn(|_| {
            std::future::pending::<Result<TokioIo<DuplexStream>, Infallible>>()
        });
        Connection::new(Uri::from_static("http://pipe:1"), connector)
    }

    /// A pull that fails: what its first error says.
    async fn failure(client: Client, options: Options, drained: bool) -> String {
        let record = |n| Record::from_json(format!(r#"{{"name": "{n}"}}"#)).unwrap();
        let records = futures::stream::iter((0..4).map(record));
        let mut pull = records.pull_from_with(&client, &options);
        if drained {
            assert!(futures::poll!(pull.next()).is_pending());
            pull.drain(FIVE);
        }
        let pull = tokio::time::timeout(Duration::from_secs(3600), pull.finish());
        pull.await.unwrap().first_failures.remove(0).message
    }

    const FIVE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn what_ends_before_there_is_a_connection_says_what_it_waits_for() {
        let retry = || Retry::new().timeout(FIVE);
        let off = || Options::new().retry(Retry::off());
        for (make, what) in [
            (silent as fn() -> Connection, "the server said nothing"),
            (unanswered, "no connection"),
        ] {
            let words = format!("cannot connect to http://pipe:1: {what} within 5 s");
            for calls in [1, 3].map(|calls| calls.try_into().unwrap()) {
                let client = || Client::over(Arc::new(make())).with_connections(calls);
                let options = Options::new().retry(retry());
                let expired = failure(client(), options.calls(calls), false).await;
                assert_eq!(expired, format!("not sent: no answer in 5 s: {words}"));
                let drained = failure(client(), Options::new().calls(calls), true).await;
                assert_eq!(
                    drained,
                    format!("not sent: the adapter was drained: {words}")
                );
                let options = off().stall_after(Some(FIVE));
                let stalled = failure(client(), options.calls(calls), false).await;
                let no_progress = "not sent: the call made no progress in 5 s";
                assert_eq!(stalled, format!("{no_progress}: {words}"));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_not_made_is_not_blamed_for_one_that_is() {
        let slow = to(|pipe| async {
            let mut connection = h2::server::handshake(pipe).await.unwrap();
            let call = connection.accept().await;
            std::future::pending::<()>().await;
            drop((connection, call));
        });
        let client = Client::over(Arc::new(slow)).with_nodes_of(Client::over(Arc::new(silent())));
        let options = Options::new()
            .calls(2.try_into().unwrap())
            .retry(Retry::new().timeout(FIVE));
        let words = failure(client, options, false).await;
        assert!(words.ends_with("no answer in 5 s"), "{words}");
    }

    /// Another adapter may have left the connection that a call still waits for.
    #[tokio::test(start_paused = true)]
    async fn a_call_knows_what_it_waits_for_when_others_have_left_that() {
        let connection = silent();
        let (way, other) = (Way::default(), Way::default());
        assert!(way.waits_for().is_none());
        let mut waits = Box::pin(connection.ready_for(&way));
        assert!(futures::poll!(&mut waits).is_pending());
        assert!(futures::poll!(Box::pin(connection.ready_for(&other))).is_pending());
        connection.leave(&other);
        tokio::time::sleep(Duration::from_millis(1_540)).await;
        assert_eq!(
            way.waits_for().unwrap().to_string(),
            "cannot connect to http://pipe:1: the server said nothing within 1.5 s"
        );
        assert!(waits.await.is_err());
        assert!(way.waits_for().is_none());
    }

    /// How many connections a pull makes within a minute to a server that does this with each.
    async fn connections_in_a_minute<F>(
        serve: impl Fn(DuplexStream) -> F + Clone + Send + Sync + 'static,
    ) -> (usize, String)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let closing = to(move |pipe| {
            count.fetch_add(1, Ordering::Relaxed);
            serve(pipe)
        });
        let start = Instant::now();
        let options = Options::new().retry(Retry::new().timeout(Duration::from_secs(60)));
        let words = failure(Client::over(Arc::new(closing)), options, false).await;
        let took = start.elapsed().as_secs();
        assert!((60..=61).contains(&took), "{took} s: {words}");
        (made.load(Ordering::Relaxed), words)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_closes_each_connection_costs_few_of_them() {
        let (made, words) = connections_in_a_minute(|_| async {}).await;
        assert!((5..=30).contains(&made), "{made}: {words}");
        assert!(words.contains("before it said anything"), "{words}");

        let (made, words) = connections_in_a_minute(|mut pipe| async move {
            pipe.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        })
        .await;
        assert!((5..=30).contains(&made), "{made}: {words}");
        assert!(words.contains(ENDED_AT_ONCE), "{words}");

        let (made, words) = connections_in_a_minute(|pipe| async move {
            let mut connection = h2::server::handshake(pipe).await.unwrap();
            connection.accept().await;
        })
        .await;
        assert!((5..=30).contains(&made), "{made}: {words}");
        assert!(words.contains("connection"), "{words}");
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
        assert!(late.connection() > way.connection());
        drop(one);
        let mut made = 0;
        while told.recv().await.is_some() {
            made += 1;
        }
        assert_eq!(made, 2);
    }

    /// hyper has such a call in hand, and looks at nothing else until the server allows it.
    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_though_its_last_call_was_never_allowed() {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let full = to(move |pipe| {
            let tell = tell.clone();
            async move {
                let mut settings = h2::server::Builder::new();
                let settings = settings.max_concurrent_streams(0);
                let mut connection = settings.handshake::<_, Bytes>(pipe).await.unwrap();
                assert!(connection.accept().await.is_none());
                tell.send(()).unwrap();
            }
        });
        let client = Client::over(Arc::new(full));
        let options = Options::new().stall_after(None).retry(Retry::off());
        let record: Record = r#"{"name": "a"}"#.parse().unwrap();
        let mut pull = futures::stream::iter([record]).pull_from_with(&client, &options);
        let waits = tokio::time::timeout(FIVE, pull.next()).await;
        assert!(waits.is_err(), "{waits:?}");
        drop((pull, client));
        let ended = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
        assert_eq!(ended, Ok(Some(())));
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
        let options = Options::new().stall_after(None).retry(Retry::off());
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
