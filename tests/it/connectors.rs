//! Connections by functions of the user's, and stores that serve what is handed to them.

use std::collections::HashSet;
use std::future::{pending, ready};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{ClientBuilder, ErrorKind, Retry, Token};
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::support::clock::{SECOND, in_a_week, runtime, soon};
use crate::support::records::{record, records};
use crate::support::results::causes;

const URL: &str = "http://dir.example.org:8888";

const PIPE: usize = 1 << 16;

/// Pipes to a store, one a connection.
#[derive(Clone, Default)]
struct Pipes {
    store: Store,
    /// What the function was given.
    servers: Arc<Mutex<Vec<String>>>,
    serving: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Pipes {
    fn connect(&self, server: String) -> io::Result<DuplexStream> {
        let (near, far) = duplex(PIPE);
        let serving = tokio::spawn(self.store.serve(far));
        self.servers.lock().unwrap().push(server);
        self.serving.lock().unwrap().push(serving.abort_handle());
        Ok(near)
    }

    fn client(&self) -> ClientBuilder {
        let this = self.clone();
        Client::builder(URL).connector(move |server| ready(this.connect(server)))
    }

    fn connections(&self) -> usize {
        self.serving.lock().unwrap().len()
    }

    fn break_last(&self) {
        self.serving.lock().unwrap().last().unwrap().abort();
    }
}

async fn push_some(client: &Client) {
    let results = records(20).push_to_with(client, &Options::new().window(10).calls(2));
    let summary = soon(results.finish()).await;
    assert_eq!(summary.stats.succeeded, 20, "{summary}");
    assert_eq!(summary.stats.faults, 0, "{summary}");
}

#[tokio::test]
async fn all_connections_are_made_by_the_function() {
    let pipes = Pipes::default();
    for (client, connections) in [
        (soon(pipes.client().connect()).await.unwrap(), 1),
        (pipes.client().connect_lazy().unwrap(), 1),
        (pipes.client().connections(2).connect_lazy().unwrap(), 2),
    ] {
        pipes.store.clear();
        push_some(&client).await;
        let servers = std::mem::take(&mut *pipes.servers.lock().unwrap());
        assert_eq!(servers, vec!["dir.example.org:8888"; connections]);
    }
}

#[tokio::test]
async fn the_function_is_given_host_and_port() {
    for (url, expected) in [
        ("http://dir.example.org", "dir.example.org:80"),
        ("http://dir.example.org:8888/", "dir.example.org:8888"),
        ("http://[::1]:8888", "[::1]:8888"),
        ("http://[::1]", "[::1]:80"),
        ("http://127.0.0.1:443", "127.0.0.1:443"),
        #[cfg(feature = "tls")]
        ("https://dir.example.org", "dir.example.org:443"),
        #[cfg(feature = "tls")]
        ("https://dir.example.org:80", "dir.example.org:80"),
    ] {
        let refuse = |server| ready(Err::<DuplexStream, _>(io::Error::other(server)));
        let error = soon(Client::builder(url).connector(refuse).connect()).await;
        let error = error.unwrap_err();
        let given = causes(&error).last().unwrap().to_string();
        assert_eq!(given, expected, "{url}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let pipes = Pipes::default();
    let client = pipes.client().connect_lazy().unwrap();
    pipes.store.inject(Fault::stall().on(Method::Push).at(5));
    let pushing = records(20).push_to(&client).finish();
    let breaking = async {
        let took_five =
            |calls: &[agntcy_dir_stream::server::Call]| calls.iter().any(|call| call.answers == 5);
        pipes.store.wait_for(took_five).await;
        pipes.break_last();
    };
    let (summary, ()) = soon(futures::future::join(pushing, breaking)).await;
    assert_eq!(summary.stats.succeeded, 20, "{summary}");
    assert_eq!(summary.stats.faults, 1, "{summary}");
    assert_eq!(pipes.connections(), 2);
}

#[tokio::test]
async fn an_error_of_the_function_is_the_cause_and_the_words_name_the_url() {
    let refuse = |_| {
        let error = io::Error::new(io::ErrorKind::AddrNotAvailable, "the proxy says no");
        ready(Err::<DuplexStream, _>(error))
    };
    let builder = Client::builder(URL).connector(refuse);
    let error = soon(builder.clone().connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        format!("server unavailable: cannot connect to {URL}")
    );
    let mut kinds = causes(&error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    let cause = kinds.next().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::AddrNotAvailable);

    let client = builder.connect_lazy().unwrap();
    let options = Options::new().retry(Retry::off());
    let mut results = records(1).push_to_with(&client, &options);
    let failed = soon(results.next()).await.unwrap().unwrap_err();
    assert_eq!((failed.kind(), failed.attempts), (ErrorKind::NotSent, 0));
    let words = format!("cannot connect to {URL}: the proxy says no");
    assert!(failed.error.to_string().contains(&words), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_function_that_hangs_is_given_up_after_the_timeout_and_dropped() {
    let held = Arc::new(());
    let holds = Arc::clone(&held);
    let hang = move |_| {
        let holds = Arc::clone(&holds);
        async move {
            let never = pending::<io::Result<DuplexStream>>().await;
            drop(holds);
            never
        }
    };
    let builder = Client::builder(URL).connector(hang);
    let began = Instant::now();
    let connecting = builder.connect_timeout(3 * SECOND).connect();
    let error = in_a_week(connecting).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("server unavailable: cannot connect to {URL}: no connection within 3 s")
    );
    assert_eq!(began.elapsed(), 3 * SECOND);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_function_connects_to_is_looked_at_as_ever() {
    let says = |words: &'static [u8]| {
        let connect = move |_| async move {
            let (near, mut far) = duplex(PIPE);
            tokio::spawn(async move {
                far.write_all(words).await.unwrap();
                let _ = far.read_to_end(&mut Vec::new()).await;
            });
            Ok(near)
        };
        Client::builder(URL).connector(connect).connect()
    };
    for (words, found) in [
        (&b""[..], "the server said nothing within 20 s"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "the server answers with HTTP/1, not HTTP/2",
        ),
    ] {
        let error = in_a_week(says(words)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("server unavailable: cannot connect to {URL}: {found}")
        );
    }
}

/// A connection's tasks live in the runtime that it is for, whatever the function spawns there.
#[test]
fn each_runtime_has_a_connection_that_is_made_in_it() {
    let pipes = Pipes::default();
    let runtimes = Arc::new(Mutex::new(HashSet::new()));
    let client = {
        let (pipes, runtimes) = (pipes.clone(), Arc::clone(&runtimes));
        Client::builder(URL).connector(move |server| {
            assert!(runtimes.lock().unwrap().insert(Handle::current().id()));
            ready(pipes.connect(server))
        })
    };
    let client = client.connect_lazy().unwrap();
    let [one, other] = [runtime(), runtime()];
    for runtime in [&one, &other, &one] {
        pipes.store.clear();
        runtime.block_on(push_some(&client));
    }
    let used = HashSet::from([one.handle().id(), other.handle().id()]);
    assert_eq!(*runtimes.lock().unwrap(), used);
}

#[test]
fn a_token_is_not_sent_by_a_connector_without_tls_unless_that_is_allowed() {
    let pipes = Pipes::default();
    let builder = pipes.client().token(Token::new("open sesame"));
    let error = builder.connect_lazy().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let allowed = pipes.client().token_without_tls(Token::new("open sesame"));
    assert!(allowed.connect_lazy().is_ok());
}

#[test]
fn it_shows_that_there_is_a_connector() {
    let shown = |builder: ClientBuilder| format!("{builder:?}");
    assert!(shown(Client::builder(URL)).contains("connector: None"));
    let pipes = Pipes::default();
    assert!(shown(pipes.client()).contains("connector: Some(Connector)"));
}

/// The server is where the URL does not lead to.
#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_goes_over_what_the_function_gives() {
    use tokio::net::TcpStream;

    use crate::support::stores::listen;
    use crate::support::tls::{Ca, Front, Speaks};

    let ca = Ca::new();
    let certificate = ca.sign(&["dir.example.org"]);
    let store = Store::new();
    let serving = listen(&store).await;
    let front = Front::of(serving.address(), &Speaks::with(&certificate)).await;
    let through_pipe = |address: String| {
        move |_| {
            let address = address.clone();
            async move {
                let mut tcp = TcpStream::connect(address).await?;
                let (near, mut far) = duplex(PIPE);
                tokio::spawn(
                    async move { tokio::io::copy_bidirectional(&mut far, &mut tcp).await },
                );
                Ok(near)
            }
        }
    };
    let secured = front.url.trim_start_matches("https://").to_owned();
    let builder = |url: &str| Client::builder(url).ca_pem(ca.pem());

    let by_name = builder("https://dir.example.org").connector(through_pipe(secured.clone()));
    push_some(&soon(by_name.connect()).await.unwrap()).await;

    for (url, address, words) in [
        (
            "https://dir.example.com",
            secured,
            "the server's certificate is for another name",
        ),
        (
            "https://dir.example.org",
            serving.address().to_string(),
            "the server does not speak TLS",
        ),
    ] {
        let connecting = builder(url).connector(through_pipe(address)).connect();
        let error = soon(connecting).await.unwrap_err().to_string();
        let begin = format!("server unavailable: cannot connect to {url}: {words}");
        assert!(error.starts_with(&begin), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_is_dropped_breaks() {
    let store = Store::new();
    store.insert(record(1)).unwrap();
    let (near, far) = duplex(PIPE);
    let serving = tokio::spawn(store.serve(far));
    let (mut read, mut write) = tokio::io::split(near);
    write
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    soon(read.read_exact(&mut [0; 9])).await.unwrap();
    serving.abort();
    soon(read.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(write.write_all(&[0; 9]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_served_is_left_when_nobody_needs_it() {
    let idle = Duration::from_secs(300);
    let store = Store::builder().idle_timeout(idle).build();
    let began = Instant::now();
    let (_near, far) = duplex(PIPE);
    in_a_week(store.serve(far)).await;
    assert_eq!(began.elapsed(), 10 * SECOND);

    let served = Arc::new(Mutex::new(None));
    let serving = Arc::clone(&served);
    let client = Client::builder(URL).connector(move |_| {
        let (near, far) = duplex(PIPE);
        *serving.lock().unwrap() = Some(tokio::spawn(store.serve(far)));
        ready(Ok(near))
    });
    let client = in_a_week(client.connect()).await.unwrap();
    in_a_week(client.push(record(1))).await.unwrap();
    let began = Instant::now();
    let serving = served.lock().unwrap().take().unwrap();
    in_a_week(serving).await.unwrap();
    assert!(began.elapsed() >= idle, "{:?}", began.elapsed());
}

/// A call and a lookup wait for the same connection, which counts as late. Once it is there, the call is to make room for
/// the item that has one attempt left and goes alone.
#[tokio::test(start_paused = true)]
async fn a_call_that_waited_for_its_connection_makes_room_for_an_item_that_goes_alone() {
    let pipes = Pipes::default();
    let client = {
        let pipes = pipes.clone();
        Client::builder(URL).connector(move |server| {
            let pipes = pipes.clone();
            async move {
                if pipes.connections() > 0 {
                    tokio::time::sleep(3 * SECOND).await;
                }
                pipes.connect(server)
            }
        })
    };
    let client = client.connect_lazy().unwrap();
    let push = Fault::stall().on(Method::Push);
    pipes.store.inject(push.in_call(0).at(1));
    let options = Options::new()
        .window(4)
        .in_flight(2, 2)
        .stall_after(Some(10 * SECOND))
        .retry(Retry::new().max_attempts(2));
    let began = Instant::now();
    let summary = in_a_week(records(8).push_to_with(&client, &options).finish()).await;
    assert_eq!(summary.stats.succeeded, 8, "{summary}");
    assert!(began.elapsed() < 30 * SECOND, "{:?}", began.elapsed());
}
