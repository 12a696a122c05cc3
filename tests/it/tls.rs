//! TLS: who is trusted, what is shown, and what is said where the two sides do not come together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
#[cfg(unix)]
use std::{future::pending, io};

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Serving, Store};
use agntcy_dir_stream::{ClientBuilder, Error, ErrorKind, Retry, Token};
use futures::{StreamExt as _, stream};
#[cfg(unix)]
use tokio::{io::DuplexStream, task::spawn_blocking};

#[cfg(unix)]
use crate::support::blocking::{make_pipe, with_blocking_threads};
use crate::support::clock::soon;
use crate::support::folder::Folder;
use crate::support::records::{record, records};
use crate::support::sockets::server_that_says;
use crate::support::tls::{Ca, Front, Signed, Speaks};

/// This machine, by its address and its name.
const HERE: &[&str] = &["127.0.0.1", "localhost"];

/// A store behind TLS.
struct Secured {
    store: Store,
    _serving: Serving,
    front: Front,
}

async fn secured(store: Store, speaks: &Speaks<'_>) -> Secured {
    let serving = store.listen("127.0.0.1:0").await.unwrap();
    let front = Front::of(serving.address(), speaks).await;
    Secured {
        store,
        _serving: serving,
        front,
    }
}

async fn served(speaks: &Speaks<'_>) -> Secured {
    secured(Store::new(), speaks).await
}

fn works(client: &Client) -> impl Future<Output = ()> {
    let results = records(20).push_to_with(client, &Options::new().window(10).calls(2));
    async move {
        let summary = soon(results.finish()).await;
        assert_eq!(summary.stats.succeeded, 20, "{summary}");
        assert_eq!(summary.stats.faults, 0, "{summary}");
    }
}

/// All that `{:#}` of anyhow prints.
fn whole(error: Error) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[tokio::test]
async fn a_server_of_the_right_ca_is_talked_to_by_all_its_names() {
    let ca = Ca::new();
    let certificate = ca.sign(HERE);
    let server = served(&Speaks::with(&certificate)).await;
    let folder = Folder::new("right");
    let file = folder.write("ca.pem", ca.pem());
    for url in [server.front.url.clone(), server.front.url_by("localhost")] {
        for builder in [
            Client::builder(&url).ca_file(&file),
            Client::builder(&url).ca_pem(ca.pem()),
            Client::builder(&url).ca_pem(ca.pem()).connections(2),
        ] {
            server.store.clear();
            works(&soon(builder.clone().connect()).await.unwrap()).await;
            server.store.clear();
            works(&builder.connect_lazy().unwrap()).await;
        }
    }
}

#[tokio::test]
async fn the_certificate_may_be_for_another_name_if_that_is_said() {
    let ca = Ca::new();
    let certificate = ca.sign(&["dir.example.org"]);
    let server = served(&Speaks::with(&certificate)).await;
    let builder = Client::builder(&server.front.url).ca_pem(ca.pem());
    let client = soon(builder.server_name("dir.example.org").connect()).await;
    works(&client.unwrap()).await;
}

#[tokio::test]
async fn an_old_server_and_one_that_says_nothing_of_its_protocol_are_talked_to() {
    let ca = Ca::new();
    let certificate = ca.sign(HERE);
    for (alpn, is_old) in [(&["h2"][..], true), (&[], false), (&[], true)] {
        let speaks = Speaks {
            alpn,
            is_old,
            ..Speaks::with(&certificate)
        };
        let server = served(&speaks).await;
        let builder = Client::builder(&server.front.url).ca_pem(ca.pem());
        works(&soon(builder.connect()).await.unwrap()).await;
    }
}

/// What is said where a client and a server do not come together, by `connect` and by an adapter.
async fn assert_fails(builder: ClientBuilder, url: &str, words: &str, cause: &str) {
    // Nothing waits until its time is up.
    let builder = builder.connect_timeout(Duration::MAX);
    let error = soon(builder.clone().connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = whole(error);
    let begin = format!("server unavailable: cannot connect to {url}: {words}");
    assert!(error.starts_with(&begin), "{error}\n{begin}");
    assert!(error.contains(cause), "{error}");
    assert_eq!(error.matches(url).count(), 1, "{error}");

    let client = builder.connect_lazy().unwrap();
    let options = Options::new().retry(Retry::off());
    let mut results = records(1).push_to_with(&client, &options);
    let failed = soon(results.next()).await.unwrap().unwrap_err();
    assert_eq!((failed.kind(), failed.attempts), (ErrorKind::NotSent, 0));
    let begin = format!("not sent: cannot connect to {url}: {words}");
    let error = whole(failed.error);
    assert!(error.starts_with(&begin), "{error}\n{begin}");
    assert!(error.contains(cause), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_refused_and_it_is_said_why() {
    let (ca, other, namesake) = (Ca::new(), Ca::new(), Ca::new_named("the CA"));
    let folder = Folder::new("untrusted");
    let file = folder.write("ca.pem", other.pem());
    let [good, good_of_namesake, for_another, expired, too_early] = [
        ca.sign(HERE),
        Ca::new_named("the CA").sign(HERE),
        ca.sign(&["dir.example.org"]),
        ca.sign_for_years(HERE, 2019, 2020),
        ca.sign_for_years(HERE, 2099, 2100),
    ];
    type Build<'a> = &'a dyn Fn(&str) -> ClientBuilder;
    let cases: [(&Signed, Build<'_>, String, &str); 7] = [
        (
            &good_of_namesake,
            &|url| Client::builder(url).ca_pem(namesake.pem()),
            "no CA in the PEM text that was given has signed the server's certificate: ".to_owned(),
            "BadSignature",
        ),
        (
            &good,
            &|url| Client::builder(url).ca_file(&file),
            format!(
                "no CA in `{}` has signed the server's certificate: ",
                file.display()
            ),
            "UnknownIssuer",
        ),
        (
            &good,
            &|url| Client::builder(url).ca_pem(other.pem()),
            "no CA in the PEM text that was given has signed the server's certificate: ".to_owned(),
            "UnknownIssuer",
        ),
        (
            &good,
            &|url| Client::builder(url),
            "no CA that this system trusts has signed the server's certificate: ".to_owned(),
            "UnknownIssuer",
        ),
        (
            &for_another,
            &|url| Client::builder(url).ca_pem(ca.pem()),
            "the server's certificate is for another name: ".to_owned(),
            "dir.example.org",
        ),
        (
            &expired,
            &|url| Client::builder(url).ca_pem(ca.pem()),
            "the server's certificate has expired: ".to_owned(),
            "expired",
        ),
        (
            &too_early,
            &|url| Client::builder(url).ca_pem(ca.pem()),
            "the server's certificate is not valid yet: ".to_owned(),
            "not valid yet",
        ),
    ];
    for (certificate, builder, words, cause) in cases {
        let server = served(&Speaks::with(certificate)).await;
        let url = &server.front.url;
        assert_fails(builder(url), url, &words, cause).await;
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_a_server_that_does_not_accept_it_says_so() {
    let (ca, clients, others) = (Ca::new(), Ca::new(), Ca::new());
    let certificate = ca.sign(HERE);
    let good = clients.sign(&["importer"]);
    let bad = others.sign(&["importer"]);
    let folder = Folder::new("client");
    let files = |name: &str, signed: &Signed| {
        (
            folder.write(&format!("{name}.pem"), &signed.certificate),
            folder.write(&format!("{name}.key"), &signed.key),
        )
    };
    let (good_file, good_key) = files("good", &good);
    let (bad_file, bad_key) = files("bad", &bad);
    for is_old in [false, true] {
        let speaks = Speaks::with(&certificate).wants_clients_of(&clients);
        let server = served(&Speaks { is_old, ..speaks }).await;
        let url = &server.front.url;
        let builder = || Client::builder(url).ca_pem(ca.pem());
        for builder in [
            builder().client_certificate_files(&good_file, &good_key),
            builder().client_certificate_pem(&good.certificate, &good.key),
        ] {
            server.store.clear();
            works(&soon(builder.connect()).await.unwrap()).await;
        }
        let none = "the server wants a client certificate, and none was given";
        assert_fails(builder(), url, none, "alert").await;
        let refused = builder().client_certificate_files(&bad_file, &bad_key);
        let words = format!(
            "the server does not accept the client certificate in `{}`",
            bad_file.display()
        );
        assert_fails(refused, url, &words, "alert").await;
    }
}

#[tokio::test]
async fn tls_to_a_server_without_it_and_the_other_way_round_say_so() {
    let words = "the server does not speak TLS: its URL may begin with http://";
    let serving = Store::new().listen("127.0.0.1:0").await.unwrap();
    for url in [
        serving.url(),
        server_that_says(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
        server_that_says(b"SSH-2.0-OpenSSH_9.6\r\n").await,
    ] {
        let url = url.replace("http://", "https://");
        assert_fails(Client::builder(&url), &url, words, "").await;
    }
    let url = server_that_says(b"").await.replace("http://", "https://");
    let closed = "the server closed the connection during the TLS handshake";
    assert_fails(Client::builder(&url), &url, closed, "").await;

    let certificate = Ca::new().sign(HERE);
    let server = served(&Speaks::with(&certificate)).await;
    let url = server.front.url.replace("https://", "http://");
    let words = "the server expects TLS: its URL has to begin with https://";
    assert_fails(Client::builder(&url), &url, words, "").await;
}

#[tokio::test]
async fn a_server_that_speaks_tls_and_no_http2_says_so() {
    let ca = Ca::new();
    let certificate = ca.sign(HERE);
    let speaks = Speaks {
        alpn: &["http/1.1"],
        ..Speaks::with(&certificate)
    };
    let server = served(&speaks).await;
    let url = &server.front.url;
    let words = "the server does not speak HTTP/2 over TLS";
    assert_fails(Client::builder(url).ca_pem(ca.pem()), url, words, "").await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_with_the_reason() {
    let ca = Ca::new();
    let (one, other) = (ca.sign(HERE), ca.sign(HERE));
    let server = served(&Speaks::with(&one)).await;
    let folder = Folder::new("files");
    let path = |name: &str| folder.path(name);
    folder.write("ca.pem", ca.pem());
    folder.write("one.pem", &one.certificate);
    folder.write("one.key", &one.key);
    folder.write("other.key", &other.key);
    folder.write("empty", "");
    folder.write(
        "garbage",
        "-----BEGIN CERTIFICATE-----\nSECRET!\n-----END CERTIFICATE-----\n",
    );
    let broken = "-----BEGIN PRIVATE KEY-----\nSECRET!\n-----END PRIVATE KEY-----\n";
    folder.write("garbage.key", broken);
    let no_der = "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n";
    folder.write("no-der", no_der);
    let builder = || Client::builder(&server.front.url);
    let ca_file = |name: &str| builder().ca_file(path(name));
    let client = |certificate: &str, key: &str| {
        ca_file("ca.pem").client_certificate_files(path(certificate), path(key))
    };
    for (builder, words) in [
        (ca_file("missing"), "cannot read `…/missing`: No such file"),
        (ca_file(""), "cannot read `…/`: Is a directory"),
        (
            ca_file("empty"),
            "there is no certificate (`BEGIN CERTIFICATE`) in `…/empty`",
        ),
        (
            ca_file("one.key"),
            "there is no certificate (`BEGIN CERTIFICATE`) in `…/one.key`",
        ),
        (
            ca_file("garbage"),
            "cannot read each certificate in `…/garbage`",
        ),
        (ca_file("no-der"), "cannot use a certificate in `…/no-der`"),
        (
            client("missing", "one.key"),
            "cannot read `…/missing`: No such file",
        ),
        (
            client("one.pem", "missing"),
            "cannot read `…/missing`: No such file",
        ),
        (
            client("one.pem", "one.pem"),
            "there is no private key (`BEGIN PRIVATE KEY`) in `…/one.pem`",
        ),
        (
            client("one.pem", "garbage.key"),
            "cannot read a private key in `…/garbage.key`",
        ),
        (
            client("one.pem", "other.key"),
            "cannot use the client certificate in `…/one.pem` with the key in `…/other.key`",
        ),
    ] {
        let folder = folder.path("");
        let words = words.replace("…/", &folder.to_string_lossy());
        let error = soon(builder.clone().connect()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let said = whole(error);
        assert!(
            said.starts_with(&format!("invalid: {words}")),
            "{said}\n{words}"
        );
        let client = builder.connect_lazy().unwrap();
        let options = Options::new().retry(Retry::off());
        let mut results = records(1).push_to_with(&client, &options);
        let failed = soon(results.next()).await.unwrap().unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::NotSent);
        let failed = whole(failed.error);
        assert!(failed.contains(&words), "{failed}");
        for shown in [said, failed, format!("{client:?}")] {
            assert!(!shown.contains("SECRET"), "{shown}");
        }
    }
}

#[tokio::test]
async fn options_of_tls_and_an_http_url_do_not_go_together() {
    let ca = Ca::new();
    let signed = ca.sign(HERE);
    let plain = || Client::builder("http://127.0.0.1:1");
    for (builder, words) in [
        (plain().ca_pem(ca.pem()), "a CA is of use with TLS only"),
        (
            plain().client_certificate_pem(&signed.certificate, &signed.key),
            "a client certificate is of use with TLS only",
        ),
        (
            plain().server_name("dir"),
            "a server name is of use with TLS only",
        ),
        (
            plain().server_name("not a name"),
            "the server's name is neither",
        ),
        (
            plain().header("a b", "c"),
            "`a b` is not the name of a header",
        ),
        (
            plain().header("grpc-timeout", "1S"),
            "the header `grpc-timeout` is not one to set",
        ),
        (
            plain().header("Authorization", "SECRET"),
            "the header `authorization` is not one to set",
        ),
        (
            plain().header("a", "SECRET\n"),
            "the header `a` has characters that no header can have",
        ),
    ] {
        for error in [
            builder.clone().connect_lazy().unwrap_err(),
            soon(builder.connect()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let said = error.to_string();
            assert!(said.starts_with(&format!("invalid: {words}")), "{said}");
            assert!(!said.contains("SECRET"), "{said}");
        }
    }
}

/// All that is replaced while a stream runs: the CA that is trusted, the client's certificate, and the server's.
#[tokio::test]
async fn certificates_that_are_replaced_are_used_by_the_next_connection() {
    let folder = Folder::new("rotation");
    let file = |name: &str| folder.path(name);
    let rotate = || {
        let (ca, clients) = (Ca::new(), Ca::new());
        let client = clients.sign(&["importer"]);
        folder.write("ca.pem", ca.pem());
        folder.write("client.pem", client.certificate);
        folder.write("client.key", client.key);
        (ca.sign(HERE), clients)
    };
    let (certificate, clients) = rotate();
    let server = served(&Speaks::with(&certificate).wants_clients_of(&clients)).await;
    let builder = Client::builder(&server.front.url).ca_file(file("ca.pem"));
    let builder = builder.client_certificate_files(file("client.pem"), file("client.key"));
    let client = soon(builder.connect()).await.unwrap();
    let options = Options::new().window(16);
    let mut results = records(1_000).push_to_with(&client, &options);
    for _ in 0..3 {
        for _ in 0..200 {
            soon(results.next()).await.unwrap().unwrap();
        }
        let (certificate, clients) = rotate();
        server
            .front
            .change(&Speaks::with(&certificate).wants_clients_of(&clients));
    }
    let summary = soon(results.finish()).await;
    assert_eq!(summary.stats.succeeded, 1_000, "{summary}");
    assert_eq!(server.store.len(), 1_000);
}

/// As on a file server that is away. A pipe hangs until somebody writes to it.
#[cfg(unix)]
#[test]
fn a_file_that_hangs_holds_one_thread() {
    let folder = Folder::new("tls-file-hangs");
    let pipe = folder.path("ca.pem");
    make_pipe(&pipe);
    with_blocking_threads(2, async {
        let client = Client::builder("https://127.0.0.1:1")
            .connector(|_| pending::<io::Result<DuplexStream>>())
            .ca_file(&pipe)
            .connect_timeout(Duration::from_millis(1))
            .connect_lazy()
            .unwrap();
        for _ in 0..5 {
            let options = Options::new().retry(Retry::off());
            let given_up = records(1).push_to_with(&client, &options);
            assert_eq!(soon(given_up.finish()).await.stats.failed, 1);
        }
        // There is a thread for this as long as one alone hangs.
        let writing = spawn_blocking(move || std::fs::write(pipe, Ca::new().pem()));
        soon(writing).await.unwrap().unwrap();
    });
}

/// A server is renewed before its clients know the new CA.
#[tokio::test]
async fn a_ca_that_comes_late_is_waited_for() {
    let folder = Folder::new("late");
    let (old, new) = (Ca::new(), Ca::new());
    let file = folder.write("ca.pem", old.pem());
    let certificate = new.sign(HERE);
    let server = served(&Speaks::with(&certificate)).await;
    let client = Client::builder(&server.front.url)
        .ca_file(&file)
        .connect_lazy()
        .unwrap();
    let mut results = records(10).push_to(&client);
    let handle = results.handle();
    let told = async {
        while handle.last_fault().is_none() {
            tokio::task::yield_now().await;
        }
        folder.write("ca.pem", new.pem());
    };
    let (first, ()) = soon(futures::future::join(results.next(), told)).await;
    first.unwrap().unwrap();
    assert_eq!(soon(results.finish()).await.stats.succeeded, 10);
    let fault = handle.last_fault().unwrap();
    assert!(
        fault.contains("has signed the server's certificate"),
        "{fault}"
    );
}

#[tokio::test]
async fn a_token_that_is_refused_in_mid_stream_is_renewed_over_tls_by_four_calls() {
    let ca = Ca::new();
    let certificate = ca.sign(HERE);
    let (accepted, asked) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
    let store = {
        let accepted = Arc::clone(&accepted);
        let accepts = move |token: &str| token == accepted.load(Ordering::Relaxed).to_string();
        Store::builder().authorize(accepts).build()
    };
    let server = secured(store, &Speaks::with(&certificate)).await;
    let token = {
        let asked = Arc::clone(&asked);
        Token::from_fn(move || {
            let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
            async move { Ok::<_, Error>(number.to_string()) }
        })
    };
    let builder = Client::builder(&server.front.url)
        .ca_pem(ca.pem())
        .token(token);
    let client = soon(builder.connections(2).connect()).await.unwrap();
    let age = Some(Duration::from_millis(20));
    let options = Options::new().calls(4).window(64).max_call_age(age);
    let mut results = stream::iter((0..).map(record)).push_to_with(&client, &options);
    for round in 1..=4 {
        for _ in 0..200 {
            soon(results.next()).await.unwrap().unwrap();
        }
        // From now on no call is opened with the token that was good.
        accepted.store(round + 1, Ordering::Relaxed);
        while asked.load(Ordering::Relaxed) == round {
            soon(results.next()).await.unwrap().unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), round + 1);
    }
    let stats = results.stats();
    // That tokens are refused so soon after they were accepted looks like a server that changes its mind.
    assert_eq!(stats.failed, 0, "{stats:?}");
}
