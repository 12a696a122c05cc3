//! How a client comes by its connections: what it may be given, what it finds at the other end, and
//! in which runtime.

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{AlreadyStored, Call, Serving, Store};
use agntcy_dir_stream::{Error, ErrorKind, Retry};
use futures::stream::{self, StreamExt};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::support::clock::{SECOND, in_a_week, runtime, soon};
use crate::support::properties::cases;
use crate::support::records::{record, records, sized};
use crate::support::results::causes;
use crate::support::sockets::{free_address, listener, server_that_says};

/// A store that is served by a runtime of its own, which outlives those of the clients.
fn served() -> (Store, Serving, Runtime) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let store = Store::new();
    let serving = runtime.block_on(store.listen("127.0.0.1:0")).unwrap();
    (store, serving, runtime)
}

/// Every kind of client that makes its own connections.
fn clients(store: &Store, url: &str) -> Vec<Client> {
    vec![
        runtime().block_on(soon(Client::connect(url))).unwrap(),
        Client::connect_lazy(url).unwrap(),
        Client::connect_lazy(url).unwrap().with_connections(2),
        #[cfg(feature = "gzip")]
        Client::connect_lazy(url)
            .unwrap()
            .with_compression(agntcy_dir_stream::Compression::Gzip),
        store.client(),
        store.client().with_connections(2),
    ]
}

/// Pushes a few records, which meets no fault.
async fn push_some(client: &Client) {
    let options = Options::new().window(10).calls(2);
    let results = records(20).push_to_with(client, &options);
    let summary = soon(results.finish()).await;
    assert_eq!(summary.stats.succeeded, 20, "{summary}");
    assert_eq!(summary.stats.faults, 0, "{summary}");
}

#[test]
fn a_client_is_made_outside_of_a_runtime_and_outlives_those_that_use_it() {
    let (store, serving, _server) = served();
    for client in clients(&store, &serving.url()) {
        for _ in 0..3 {
            store.clear();
            runtime().block_on(push_some(&client));
        }
    }
}

/// A runtime on one thread works only while something is awaited in it.
#[test]
fn a_runtime_that_rests_holds_up_no_other() {
    let (store, serving, _server) = served();
    for client in clients(&store, &serving.url()) {
        let [one, other] = [runtime(), runtime()];
        for runtime in [&one, &other, &one] {
            store.clear();
            runtime.block_on(push_some(&client));
        }
    }
}

#[test]
fn a_runtime_that_ends_disturbs_no_call_in_another() {
    let (store, serving, _server) = served();
    for client in clients(&store, &serving.url()) {
        let [one, other] = [runtime(), runtime()];
        store.clear();
        one.block_on(push_some(&client));
        store.clear();
        let mut results = records(100).push_to_with(&client, &Options::new().window(10));
        other.block_on(async {
            for _ in 0..30 {
                soon(results.next()).await.unwrap().unwrap();
            }
        });
        drop(one);
        let summary = other.block_on(soon(results.finish()));
        assert_eq!(summary.stats.succeeded, 100, "{summary}");
        assert_eq!(summary.stats.faults, 0, "{summary}");
    }
}

const NO_GRPC_SERVERS: [(&[u8], &str); 8] = [
    (
        // As Python's `http.server` does.
        b"<!DOCTYPE HTML>\n<html lang=\"en\">\n",
        "the server answers with HTTP/1, not HTTP/2",
    ),
    (
        b"<html>\r\n<head><title>400 Bad Request</title></head>\r\n",
        "the server answers with HTTP/1, not HTTP/2",
    ),
    (
        b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n",
        "the server answers with HTTP/1, not HTTP/2",
    ),
    (
        b"\x15\x03\x01\x00\x02\x02\x46",
        "the server expects TLS: its URL has to begin with https://",
    ),
    (
        b"SSH-2.0-OpenSSH_9.6\r\n",
        "the server speaks SSH, not HTTP/2",
    ),
    (
        b"-ERR unknown command\r\n",
        "the server does not speak HTTP/2",
    ),
    (
        b"",
        "the server closed the connection before it said anything: \
         it may expect TLS or another protocol, or be a proxy with no server behind it",
    ),
    (
        b"\x00\x00\x06\x04",
        "the server closed the connection before its HTTP/2 settings",
    ),
];

#[tokio::test]
async fn connecting_to_what_is_no_grpc_server_says_what_is_there() {
    for (words, found) in NO_GRPC_SERVERS {
        let url = server_that_says(words).await;
        let error = soon(Client::connect(&url)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(
            error.to_string(),
            format!("server unavailable: cannot connect to {url}: {found}")
        );
    }
}

#[tokio::test]
async fn an_adapter_says_what_is_there_and_that_nothing_was_sent() {
    for (words, found) in NO_GRPC_SERVERS {
        let url = server_that_says(words).await;
        let client = Client::connect_lazy(&url).unwrap();
        let options = Options::new().window(10).retry(Retry::off());
        let mut results = stream::iter([record(1)]).push_to_with(&client, &options);
        let failed = soon(results.next()).await.unwrap().unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::NotSent, "{failed}");
        let found = format!("cannot connect to {url}: {found}");
        assert!(failed.error.to_string().contains(&found), "{failed}");
        assert_eq!(results.handle().last_fault().unwrap(), found);
    }
}

/// How often `part` is in `whole`.
fn times(whole: &str, part: &str) -> usize {
    whole.matches(part).count()
}

#[tokio::test]
async fn connecting_to_a_port_where_nobody_listens_names_it_and_the_cause() {
    let url = format!("http://{}", free_address());
    let error = soon(Client::connect(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        format!("server unavailable: cannot connect to {url}")
    );
    let refused = causes(&error).filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    let kinds: Vec<_> = refused.map(std::io::Error::kind).collect();
    assert_eq!(kinds, [std::io::ErrorKind::ConnectionRefused]);

    let words = format!("cannot connect to {url}: tcp connect error: Connection refused");
    let client = Client::connect_lazy(&url).unwrap();
    let options = Options::new().window(10).retry(Retry::off());
    let mut results = stream::iter([record(1)]).push_to_with(&client, &options);
    let failed = soon(results.next()).await.unwrap().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotSent);
    assert!(failed.error.to_string().contains(&words), "{failed}");
    let fault = results.handle().last_fault().unwrap();
    assert!(fault.starts_with(&words), "{fault}");
}

/// However the chain is printed, no words come twice.
#[tokio::test]
async fn an_error_of_connecting_has_address_and_cause_once() {
    let nobody = format!("http://{}", free_address());
    let mut cases = vec![
        (nobody, "Connection refused"),
        ("http://nobody.invalid:8888".to_owned(), "dns error"),
        // Of no network.
        ("http://255.255.255.255:1".to_owned(), "tcp connect error"),
    ];
    for (words, found) in NO_GRPC_SERVERS {
        cases.push((server_that_says(words).await, found));
    }
    for (url, cause) in cases {
        let error = soon(Client::connect(&url)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let whole = format!("{:#}", anyhow::Error::from(error));
        let begin = format!("server unavailable: cannot connect to {url}: ");
        assert!(whole.starts_with(&begin), "{whole}");
        for part in [&url, cause] {
            assert_eq!(times(&whole, part), 1, "{part}: {whole}");
        }
        let parts: Vec<_> = whole.split(": ").collect();
        for part in &parts {
            assert_eq!(times(&whole, part), 1, "{part}: {whole}");
        }
    }
}

/// All that an error shows, however it is printed.
fn shown(error: &Error) -> String {
    let mut shown = format!("{error} {error:?} {error:#?}");
    for cause in causes(error) {
        shown += &format!(" {cause} {cause:?}");
    }
    shown
}

#[tokio::test]
async fn a_url_with_more_than_a_server_is_refused_and_says_what_is_wrong() {
    for (url, words) in [
        ("http://host/prefix", "a path is not used"),
        ("http://host:1/a/", "a path is not used"),
        ("http://user:123/SECRET@host", "a path is not used"),
        ("http://host?SECRET", "a query is not used"),
        ("http://host/?a=SECRET", "a query is not used"),
        ("http://host/#SECRET", "a fragment is not used"),
        ("http://host#SECRET", "a fragment is not used"),
        ("http://user:SECRET@host", "a user is not used"),
        ("http://SECRET@host:1/", "a user is not used"),
        #[cfg(feature = "tls")]
        ("https://user:SECRET@host", "a user is not used"),
        (
            "ftp://user:SECRET@host",
            "it begins with neither http:// nor https://",
        ),
        ("http://user:SE CRET@host", "it cannot be read"),
        ("http://user:SE/CRET@host", "a path is not used"),
        (
            "user:SECRET@host:8888",
            "it begins with neither http:// nor https://",
        ),
        (
            "localhost:8888",
            "it begins with neither http:// nor https://",
        ),
        ("", "it begins with neither http:// nor https://"),
        ("http://user:SECRET@", "it cannot be read"),
        (
            "http://host:99999",
            "what is behind the host's colon is not a port",
        ),
        (
            "http://user:SECRET",
            "what is behind the host's colon is not a port",
        ),
        (
            "http://host:",
            "what is behind the host's colon is not a port",
        ),
        (
            "http://host:+80",
            "what is behind the host's colon is not a port",
        ),
        ("http://:8888", "it has no host"),
        ("http:///", "it cannot be read"),
    ] {
        for error in [
            soon(Client::connect(url)).await.unwrap_err(),
            Client::connect_lazy(url).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}: {error}");
            assert_eq!(
                error.to_string(),
                format!("invalid: not a URL such as http://127.0.0.1:8888: {words}"),
                "{url}"
            );
        }
    }
    let error = Client::connect_lazy("[::1]:80").unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid: `[::1]:80` is not a URL such as http://[::1]:80"
    );
}

/// What somebody may have written in the place of a URL, with a secret somewhere in it.
fn url_with(secret: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let one_of = |these: &'static [&'static str]| {
        prop::sample::select(these).prop_map(str::to_owned).boxed()
    };
    let parts = (
        one_of(&[
            "http://", "HTTP://", "https://", "ftp://", "http:/", "http:", "//", "://", "",
        ]),
        one_of(&["", "user", "user:", "user:pass", ":"]),
        one_of(&["@", "", "/", "%40", "@@"]),
        one_of(&[
            "",
            "host",
            "a.example",
            "127.0.0.1",
            "[::1]",
            "[",
            "host:123",
        ]),
        one_of(&["", ":8888", ":", ":99999", ":x"]),
        one_of(&["", "/", "/path", "//", "/user@host", "\\"]),
        one_of(&["", "?", "?a=b", "?a@b"]),
        one_of(&["", "#", "#a", "#a@b"]),
    );
    // A secret in the place of the host is a host.
    let place = prop::sample::select(&[1, 2, 4, 5, 6, 7][..]);
    let joint = one_of(&["", ":", "/", "?", "#", "@", "=", " "]);
    let is_whole = any::<bool>();
    (parts, place, joint, is_whole, secret).prop_map(|(parts, place, joint, is_whole, secret)| {
        let (scheme, user, at, host, port, path, query, fragment) = parts;
        let mut parts = [scheme, user, at, host, port, path, query, fragment];
        let joint = match (is_whole, place) {
            (true, 4) => ":",
            (true, 5) => "/",
            (true, 6) => "?",
            (true, 7) => "#",
            (true, _) => "",
            (false, _) => &joint,
        };
        if is_whole {
            parts[place].clear();
        }
        parts[place] += joint;
        parts[place] += &secret;
        parts.concat()
    })
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn a_refused_url_gives_no_secret_away(
        url in url_with("s3cret[ -~]{0,3}hunter2|s3cret\\PC?hunter2|9[0-9]{3,7}".boxed()),
    ) {
        // The one that may be repeated.
        prop_assume!(url.parse::<std::net::SocketAddr>().is_err());
        if let Err(error) = Client::connect_lazy(&url) {
            let shown = shown(&error).to_lowercase();
            for secret in ["s3cret", "hunter2", "9"] {
                prop_assert!(!shown.contains(secret), "{}: {}", url, shown);
            }
        }
    }
}

#[tokio::test]
async fn a_url_may_be_written_in_several_ways() {
    let store = Store::builder().already_stored(AlreadyStored::Ref).build();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(serving) = store.listen(address).await else {
            assert_ne!(address, "127.0.0.1:0", "IPv6 may be missing");
            continue;
        };
        let url = serving.url();
        for url in [&url, &format!("{url}/"), &url.replace("http", "HTTP")] {
            let client = soon(Client::connect(url)).await.unwrap();
            push_some(&client).await;
        }
        let url = url.replace("127.0.0.1", "localhost");
        push_some(&Client::connect_lazy(url).unwrap()).await;
    }
}

#[test]
fn connecting_outside_of_a_runtime_is_an_error() {
    let connecting = Client::connect("http://127.0.0.1:8888");
    let error = futures::executor::block_on(connecting).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        "invalid: connecting takes a runtime: this is outside of any tokio runtime"
    );
}

/// Many consumers stop reading, and each holds what HTTP/2 lets a server send ahead.
#[tokio::test(start_paused = true)]
async fn paused_adapters_starve_no_other_on_their_connection() {
    const PAUSED: usize = 64;
    // Together they hold 85 MiB.
    const AHEAD: usize = 7;
    let store = Store::new();
    let large = store.insert(sized(200_000)).unwrap();
    let small = store.insert(record(1)).unwrap();
    let client = store.client();
    let options = Options::new().window(AHEAD).stall_after(None).dedup(false);
    let mut paused = Vec::new();
    for _ in 0..PAUSED {
        let refs = stream::iter([large; AHEAD]).chain(stream::pending());
        let mut results = refs.pull_from_with(&client, &options);
        in_a_week(results.next()).await.unwrap().unwrap();
        paused.push(results);
    }
    let all = |calls: &[Call]| {
        calls.iter().map(|call| call.answers).sum::<u64>() == (PAUSED * AHEAD) as u64
    };
    in_a_week(store.wait_for(all)).await;
    in_a_week(client.pull(small)).await.unwrap();
    for mut results in paused {
        let rest: Vec<_> = in_a_week(results.by_ref().take(AHEAD - 1).collect()).await;
        assert!(rest.iter().all(Result::is_ok));
    }
    assert_eq!(store.calls().len(), PAUSED + 1);
}

#[tokio::test]
async fn each_call_has_the_headers_that_were_set() {
    let (listener, url) = listener().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((request, _))) = connection.accept().await {
            // It is reset, and asked for again.
            tell.send(request.headers().clone()).unwrap();
        }
    });
    let client = Client::builder(&url)
        .header("x-tenant", "one")
        .header("X-Tenant", "two")
        .header("x-bytes", b"\xff")
        .connect();
    let client = soon(client).await.unwrap();
    let options = Options::new().retry(Retry::new().timeout(SECOND));
    let mut results = records(1).push_to_with(&client, &options);
    let _ = soon(results.next()).await;
    drop(results);
    drop(client);
    let mut calls = 0;
    while let Some(headers) = soon(told.recv()).await {
        let tenants: Vec<_> = headers.get_all("x-tenant").iter().collect();
        assert_eq!(tenants, ["one", "two"]);
        assert_eq!(headers["x-bytes"].as_bytes(), b"\xff");
        assert!(headers.get("authorization").is_none());
        calls += 1;
    }
    assert!(calls > 1);
}
