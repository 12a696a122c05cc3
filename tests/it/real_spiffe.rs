//! The real server behind the identities of a real SPIRE, whose SVIDs live for seconds. `tests/interop/run spiffe` builds
//! both, and runs the tests of one mode after those of the other, each with the variables of DIR's clients.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ClientBuilder, Error, ErrorKind, Spiffe, Summary};
use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::support::clock::soon;
use crate::support::records::{cid, cids, record, records};

/// Who the server is, and who we are.
const ID: &str = "spiffe://example.org/dir";

/// What its X.509 SVID has beside that.
const NAME: &str = "dir.example.org";

/// Longer than an SVID is good: 30 seconds for X.509, 10 seconds and a minute for JWT, as the server judges it.
const LONG: Duration = Duration::from_secs(80);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by `tests/interop/run spiffe`"))
}

fn url() -> String {
    variable("DIRECTORY_CLIENT_SERVER_ADDRESS")
}

fn socket() -> String {
    variable("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH")
}

fn shows(identity: Spiffe) -> ClientBuilder {
    Client::builder(url()).spiffe(identity)
}

/// Pushes, looks up, pulls and deletes records.
async fn goes_there_and_back(client: &Client) {
    const COUNT: usize = 200;
    let whole = |what, summary: Summary| {
        println!("{what}: {summary}");
        assert_eq!(summary.stats.succeeded, COUNT as u64);
    };
    whole(
        "pushed",
        soon(records(COUNT).push_to(client).finish()).await,
    );
    whole("found", soon(cids(COUNT).lookup_in(client).finish()).await);
    let pulled: Vec<_> = soon(cids(COUNT).pull_from(client).collect()).await;
    assert_eq!(pulled.len(), COUNT);
    for (number, result) in pulled.into_iter().enumerate() {
        let pulled = result.unwrap_or_else(|failed| panic!("{failed}"));
        assert_eq!(pulled.record.cid().unwrap(), cid(&record(number)));
    }
    whole(
        "deleted",
        soon(cids(COUNT).delete_from(client).finish()).await,
    );
}

async fn both_ways_of_making_a_client_work(identity: Spiffe) {
    let start = Instant::now();
    let made = [
        soon(shows(identity).connect()).await,
        soon(Client::from_env()).await,
    ];
    println!("two clients after {:?}", start.elapsed());
    for client in made {
        goes_there_and_back(&client.unwrap()).await;
    }
}

/// A stream of records that come slowly. The server closes each connection after some seconds, and no call lasts longer.
async fn a_long_stream_loses_nothing(identity: Spiffe) {
    let client = soon(shows(identity).connect()).await.unwrap();
    let end = Instant::now() + LONG;
    let slow = stream::unfold(10_000, move |number| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        (Instant::now() < end).then(|| (record(number), number + 1))
    });
    let options = Options::new().max_call_age(Some(Duration::from_secs(3)));
    let push = Box::pin(slow).push_to_with(&client, &options);
    let summary = tokio::time::timeout(2 * LONG, push.finish()).await;
    let summary = summary.expect("it ends when its input does");
    println!("a long stream: {summary}");
    assert_eq!(summary.stats.failed, 0, "{summary}");
    assert!(summary.stats.succeeded > 200, "{summary}");
    assert!(summary.stats.calls > 15, "{summary}");
}

/// What is said, within seconds, where no connection can be made.
async fn no_connection(what: &str, client: ClientBuilder) -> String {
    let start = Instant::now();
    let connecting = tokio::time::timeout(Duration::from_secs(5), client.connect()).await;
    let error = connecting.expect("it should not take 5 s").unwrap_err();
    said(what, start, &error);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    in_full(&error)
}

/// The same, where the first call is refused.
async fn denied(what: &str, client: ClientBuilder) -> String {
    let start = Instant::now();
    let client = soon(client.connect()).await.unwrap();
    let push = tokio::time::timeout(Duration::from_secs(5), client.push(record(1))).await;
    let failed = push.expect("it should not take 5 s").unwrap_err();
    said(what, start, &failed.error);
    assert_eq!(failed.kind(), ErrorKind::Denied);
    in_full(&failed.error)
}

fn said(what: &str, start: Instant, error: &Error) {
    println!("{what}: {}, after {:?}", in_full(error), start.elapsed());
}

/// An error with its causes, as programs print it.
fn in_full(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        words = format!("{words}: {next}");
        cause = next.source();
    }
    words
}

#[track_caller]
fn assert_says(words: &str, part: &str) {
    assert!(words.contains(part), "`{part}` is not in: {words}");
}

/// TLS as far as it goes without SPIFFE.
fn without_identity() -> ClientBuilder {
    Client::builder(url())
        .ca_file(variable("SPIRE_BUNDLE"))
        .server_name(NAME)
}

async fn plain_text_is_told() {
    let url = url().replace("https://", "http://");
    let words = no_connection("plain text", Client::builder(&url)).await;
    assert_says(&words, "it may expect TLS");
}

mod x509 {
    use super::*;

    fn identity() -> Spiffe {
        Spiffe::x509().socket(socket()).server_id(ID)
    }

    #[tokio::test]
    #[ignore = "needs SPIRE and the real server: run `tests/interop/run spiffe`"]
    async fn all_operations_go_by_the_builder_and_by_the_environment() {
        both_ways_of_making_a_client_work(identity()).await;
    }

    #[tokio::test]
    #[ignore = "needs SPIRE and the real server: run `tests/interop/run spiffe`"]
    async fn a_stream_outlives_its_svids() {
        // The socket is that of SPIFFE_ENDPOINT_SOCKET.
        a_long_stream_loses_nothing(Spiffe::x509()).await;
    }

    #[tokio::test]
    #[ignore = "needs SPIRE and the real server: run `tests/interop/run spiffe`"]
    async fn mistakes_are_told_at_once() {
        plain_text_is_told().await;
        let words = no_connection("no certificate", without_identity()).await;
        // The server's alert may be lost, as it closes the connection behind it.
        assert_says(&words, "a client certificate");
        let other = Spiffe::x509()
            .socket(socket())
            .server_id("spiffe://example.org/other");
        let words = no_connection("another server", shows(other)).await;
        assert_says(&words, &format!("the server is `{ID}`, which is none"));
        let nowhere = Spiffe::x509().socket("/nowhere.sock");
        let words = no_connection("no Workload API", shows(nowhere)).await;
        assert_says(
            &words,
            "`/nowhere.sock`: cannot connect to it: No such file",
        );
    }
}

mod jwt {
    use super::*;

    fn identity() -> Spiffe {
        Spiffe::jwt("dir").socket(socket()).server_id(ID)
    }

    #[tokio::test]
    #[ignore = "needs SPIRE and the real server: run `tests/interop/run spiffe`"]
    async fn all_operations_go_by_the_builder_and_by_the_environment() {
        both_ways_of_making_a_client_work(identity()).await;
    }

    #[tokio::test]
    #[ignore = "needs SPIRE and the real server: run `tests/interop/run spiffe`"]
    async fn a_stream_outlives_its_svids() {
        a_long_stream_loses_nothing(Spiffe::jwt("dir")).await;
    }

    #[tokio::test]
    #[ignore = "needs SPIRE and the real server: run `tests/interop/run spiffe`"]
    async fn mistakes_are_told_at_once() {
        plain_text_is_told().await;
        let words = denied("no token", without_identity()).await;
        assert_says(&words, "missing authorization header");
        let words = denied("X.509 alone", shows(Spiffe::x509().socket(socket()))).await;
        assert_says(&words, "missing authorization header");
        let words = denied(
            "another audience",
            shows(Spiffe::jwt("other").socket(socket())),
        )
        .await;
        assert_says(&words, "invalid or expired token");
    }
}
