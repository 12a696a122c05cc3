//! What a DIR server answers: one suite, asked of the embedded store in every test run, and of
//! the real server by `tests/interop/run server`.

mod adapters;
mod events;
mod publishing;
mod referrers;
mod search;
mod sources;

use std::collections::BTreeSet;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Builder, Method, Store, Validation};
use agntcy_dir_stream::{Code, ErrorKind, Record};
use futures::{StreamExt, stream};
use prost::Message as _;
use serde_json::json;

use crate::support::clock::soon;
use crate::support::foreign::{ForeignClient, assert_status};
use crate::support::messages::RecordRef;
use crate::support::records::{cid, example_texts, from_json, record, sized};
use crate::support::results::kinds;
use crate::support::stores::listen;

/// A record whose validator does as its name says: `refuse…` is invalid, and for `fail…` the
/// validator is down. Each number gives another record.
fn named(name: &str, number: usize) -> Record {
    from_json(json!({"name": name, "schema_version": "1.0.0", "number": number}))
}

/// One request that is answered with an error.
struct Row<Q> {
    what: &'static str,
    request: Q,
    code: Code,
    words: &'static str,
}

fn row<Q>(what: &'static str, request: Q, code: Code, words: &'static str) -> Row<Q> {
    Row {
        what,
        request,
        code,
        words,
    }
}

/// A server under test. Its store is empty, and its validator knows the names.
struct Server {
    client: Client,
    foreign: ForeignClient,
    /// The embedded store, if it is that one.
    embedded: Option<Store>,
    /// It answers as server 1.2.0.
    is_1_2: bool,
    url: String,
}

impl Server {
    async fn at(url: &str, embedded: Option<&Store>) -> Self {
        Self {
            client: soon(Client::connect(url)).await.unwrap(),
            foreign: ForeignClient::connect(url).await,
            embedded: embedded.cloned(),
            is_1_2: embedded.is_none(),
            url: url.to_owned(),
        }
    }

    async fn has(&self, record: &Record) -> bool {
        match soon(self.client.lookup(record)).await {
            Ok(_) => true,
            Err(failed) if failed.kind() == ErrorKind::NotFound => false,
            Err(failed) => panic!("{failed}"),
        }
    }
}

/// Runs all checks. Each may rely on the records of those before it.
async fn conforms(server: &Server) {
    soon(server.client.push(record(0))).await.unwrap();
    refs_are_answered_row_by_row(server).await;
    pushes_are_answered_row_by_row(server).await;
    deletes_are_idempotent(server).await;
    referrers::conform(server).await;
    publishing::conforms(server).await;
    adapters::conform(server).await;
    search::conforms(server).await;
    events::conform(server).await;
    sources::conform(server).await;
    the_limit_is_4_mib(server).await;
    a_stored_record_is_found_to_be_stored(server).await;
    real_and_generated_records_have_the_same_cid(server).await;
    bad_records_fail_alone(server).await;
    missing_records_fail_alone(server).await;
    a_long_status_arrives(server).await;
    a_dropped_call_is_over(server).await;
}

async fn pushes_are_answered_row_by_row(server: &Server) {
    let rows = [
        row(
            "no data",
            Record::default(),
            Code::InvalidArgument,
            "record validation failed: [record is nil]",
        ),
        row(
            "empty Struct",
            from_json(json!({})),
            Code::Internal,
            "failed to validate record",
        ),
        row(
            "no schema_version",
            from_json(json!({"name": "a"})),
            Code::Internal,
            "failed to validate record",
        ),
        row(
            "no name",
            from_json(json!({"schema_version": "1.0.0"})),
            Code::InvalidArgument,
            "record validation failed: [",
        ),
        row(
            "refused",
            named("refuse", 0),
            Code::InvalidArgument,
            "record validation failed: [",
        ),
        row(
            "validator down",
            named("fail", 0),
            Code::Internal,
            "HTTP 503",
        ),
        row(
            "already stored",
            record(0),
            Code::Internal,
            "already exists",
        ),
        row(
            "over 4 MiB",
            sized((4 << 20) + 1),
            Code::ResourceExhausted,
            "grpc: received message larger than max (4194305 vs. 4194304)",
        ),
        row(
            "data that is no Struct",
            Record::decode(&b"\x0a\x02\x0a\x09"[..]).unwrap(),
            Code::Internal,
            "",
        ),
    ];
    for (number, row) in (1..).zip(rows) {
        let what = format!("push, {}", row.what);
        let (before, behind) = (named("before", number), named("behind", number));
        let requests = vec![before.clone(), row.request, behind.clone()];
        let (answers, end) = server.foreign.push(requests).await;
        assert_status(&what, end, row.code, row.words);
        // A message over the limit can take the answers before it along.
        let lost = row.code == Code::ResourceExhausted;
        assert!(answers == 1 || lost, "{what}: {answers} answers before it");
        assert!(
            server.has(&before).await || lost,
            "{what}: the record before it is stored"
        );
        assert!(
            !server.has(&behind).await,
            "{what}: the record behind it is not"
        );
    }
}

async fn refs_are_answered_row_by_row(server: &Server) {
    let good = cid(&record(0)).to_string();
    for method in [Method::Pull, Method::Lookup] {
        for (what, bad, code) in [
            ("missing", cid(&record(9_999)).to_string(), Code::NotFound),
            ("malformed", "oops".to_owned(), Code::NotFound),
            ("empty", String::new(), Code::InvalidArgument),
        ] {
            let what = format!("{method}, {what}");
            let (answers, end) = server
                .foreign
                .refs::<Record>(method, &[&good, &bad, &good])
                .await;
            let words = if bad.is_empty() {
                "record cid is required"
            } else {
                ""
            };
            assert_status(&what, end, code, words);
            assert_eq!(answers.len(), 1, "{what}");
        }
    }
    let pulled = server.foreign.refs::<Record>(Method::Pull, &[&good]).await;
    pulled.1.unwrap();
    pulled.0[0]
        .verify(&cid(&record(0)))
        .expect("what was pushed comes back");
    let (found, end) = server
        .foreign
        .refs::<RecordRef>(Method::Lookup, &[&good])
        .await;
    end.unwrap();
    assert_eq!(found[0].cid, good);
    let found = soon(server.client.lookup(&record(0))).await.unwrap();
    assert_eq!(found.schema_version, "1.0.0");
}

async fn deletes_are_idempotent(server: &Server) {
    let missing = cid(&record(9_999)).to_string();
    let (answers, end) = server
        .foreign
        .refs::<()>(Method::Delete, &[&missing, "oops"])
        .await;
    end.expect("what is not there is deleted");
    assert_eq!(answers.len(), 1);

    let gone = named("gone", 0);
    soon(server.client.push(gone.clone())).await.unwrap();
    let text = cid(&gone).to_string();
    let (_, end) = server
        .foreign
        .refs::<()>(Method::Delete, &[&text, ""])
        .await;
    assert_status(
        "delete, empty",
        end,
        Code::InvalidArgument,
        "record cid is required",
    );
    assert!(!server.has(&gone).await, "the one before it is deleted");

    soon(server.client.push(gone.clone())).await.unwrap();
    soon(server.client.delete(&gone)).await.unwrap();
    assert!(!server.has(&gone).await);
    soon(server.client.delete(&gone)).await.expect("again");
}

async fn the_limit_is_4_mib(server: &Server) {
    let fits = sized(4 << 20);
    let results = stream::iter([record(1), fits.clone(), sized((4 << 20) + 1), record(2)])
        .push_to(&server.client);
    let results: Vec<_> = soon(results.collect()).await;
    assert_eq!(
        kinds(&results),
        [None, None, Some(ErrorKind::Invalid), None]
    );
    let pulled = soon(server.client.pull(&fits)).await.unwrap();
    assert_eq!(pulled.record.encoded_len(), 4 << 20);
}

async fn a_stored_record_is_found_to_be_stored(server: &Server) {
    let records = || stream::iter((0..100).map(|number| named("twice", number)));
    let first: Vec<_> = soon(records().push_to(&server.client).collect()).await;
    assert!(first.iter().all(Result::is_ok), "{first:?}");
    let second: Vec<_> = soon(records().push_to(&server.client).collect()).await;
    assert_eq!(second.len(), 100);
    for (number, pushed) in second.into_iter().enumerate() {
        let pushed = pushed.unwrap();
        assert_eq!(pushed.cid, cid(&named("twice", number)));
        assert!(pushed.already_stored);
    }
}

/// A JSON value made of a seed, of all that Go and Rust could write in different ways.
fn generated(seed: u64, depth: u32) -> serde_json::Value {
    let mix = seed
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let inner = |place: u64| generated(mix ^ (place << 7), depth + 1);
    match mix >> 61 {
        0 => json!(null),
        1 => json!(mix & 1 == 0),
        2 => {
            let number = f64::from_bits(mix.rotate_left(17));
            serde_json::Number::from_f64(number).map_or(json!(0), Into::into)
        }
        3 => {
            #[allow(clippy::cast_precision_loss)]
            let number = (mix >> 20) as f64 / f64::from(1 << (mix & 7));
            json!(number)
        }
        4 | 5 => {
            let letters = [
                "a",
                "<&>",
                "\u{2028}\u{2029}",
                "\"\\/",
                "\u{1}\n\t\u{7f}",
                "日本",
                "😀",
                "é",
            ];
            let pick = |place: u64| letters[(mix >> (3 * place) & 7) as usize];
            json!((0..mix >> 58 & 7).map(pick).collect::<String>())
        }
        6 if depth < 4 => json!((0..mix & 3).map(inner).collect::<Vec<_>>()),
        7 if depth < 4 => {
            let entry = |place: u64| (format!("k{}", mix >> (8 * place) & 0xff), inner(place));
            json!(
                (0..mix & 3)
                    .map(entry)
                    .collect::<std::collections::BTreeMap<_, _>>()
            )
        }
        _ => json!(mix >> 12),
    }
}

/// The adapter compares the server's CID with its own.
async fn real_and_generated_records_have_the_same_cid(server: &Server) {
    let real = example_texts()
        .into_iter()
        .map(|(name, text)| (text.parse().unwrap(), name));
    let generated = (0..500).map(|number| {
        let value = json!({
            "name": format!("generated-{number}"),
            "schema_version": "1.0.0",
            "content": (0..8).map(|part| generated(number << 8 | part, 0)).collect::<Vec<_>>(),
        });
        (from_json(value), format!("generated {number}"))
    });
    let mut results = Box::pin(stream::iter(real.chain(generated)).push_to(&server.client));
    while let Some(result) = soon(results.next()).await {
        if let Err(failed) = result {
            panic!("{}: {failed}", failed.tag);
        }
    }
}

fn is_bad(number: usize) -> bool {
    number % 10 == 3
}

async fn bad_records_fail_alone(server: &Server) {
    let records =
        (0..1_000).map(|number| named(if is_bad(number) { "refuse" } else { "one" }, number));
    // Each bad one has the window behind it sent in vain.
    let options = Options::new().window(32.try_into().unwrap());
    let mut results = Box::pin(stream::iter(records).push_to_with(&server.client, &options));
    let mut next = 0;
    while let Some(result) = soon(results.next()).await {
        match result {
            Ok(pushed) => assert!(!is_bad(next) && pushed.index == next as u64, "{next}"),
            Err(failed) => {
                assert!(is_bad(next) && failed.index == next as u64, "{failed}");
                assert_eq!(failed.kind(), ErrorKind::Rejected, "{failed}");
            }
        }
        next += 1;
    }
    assert_eq!(next, 1_000);
}

async fn missing_records_fail_alone(server: &Server) {
    // Of those that were pushed above, half are asked for, and as many that were not.
    let asked = || {
        (0..)
            .filter(|number| !is_bad(*number))
            .take(500)
            .flat_map(|number| {
                [
                    (named("one", number), true),
                    (named("nobody", number), false),
                ]
            })
    };
    let total = asked().count();
    let mut found = BTreeSet::new();
    let mut results = Box::pin(stream::iter(asked()).lookup_in(&server.client));
    while let Some(result) = soon(results.next()).await {
        match result {
            Ok(result) => assert!(result.tag && found.insert(result.cid)),
            Err(failed) => assert!(
                !failed.tag && failed.kind() == ErrorKind::NotFound,
                "{failed}"
            ),
        }
    }
    assert_eq!(found.len() * 2, total);
    let mut results = Box::pin(stream::iter(asked()).pull_from(&server.client));
    let mut pulled = 0;
    while let Some(result) = soon(results.next()).await {
        match result {
            Ok(result) => assert!(result.tag && found.remove(&result.cid)),
            Err(failed) => assert!(
                !failed.tag && failed.kind() == ErrorKind::NotFound,
                "{failed}"
            ),
        }
        pulled += 1;
    }
    assert_eq!((pulled, found.len()), (total, 0));
}

/// A record with many faults has a status message longer than most header lists.
async fn a_long_status_arrives(server: &Server) {
    let failed = soon(server.client.push(named("refuse-1000", 0)))
        .await
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Rejected, "{failed}");
    let status = failed.error.status().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().len() > 16 << 10,
        "{}",
        status.message().len()
    );
}

async fn a_dropped_call_is_over(server: &Server) {
    // In mid-push, with a window behind it.
    let records = (0..).map(|number| named("dropped", number));
    let mut results = Box::pin(stream::iter(records).push_to(&server.client));
    for _ in 0..5 {
        soon(results.next()).await.unwrap().unwrap();
    }
    drop(results);
    // In mid-pull.
    let refs = stream::repeat_with(|| cid(&record(0)));
    let mut results = Box::pin(refs.pull_from(&server.client));
    for _ in 0..5 {
        soon(results.next()).await.unwrap().unwrap();
    }
    drop(results);
    // A server that has answered these has long seen the resets before them.
    for _ in 0..10 {
        soon(server.client.lookup(&record(0))).await.unwrap();
    }
    let window = Options::DEFAULT_WINDOW;
    let mut stored = 0;
    for number in 0..=window {
        stored += usize::from(server.has(&named("dropped", number)).await);
    }
    assert!((5..window).contains(&stored), "{stored} of {window} landed");
    // And it stays so.
    assert!(!server.has(&named("dropped", window)).await);
}

#[tokio::test]
async fn the_embedded_store_conforms() {
    let store = with_a_validator(Store::builder()).build();
    let serving = listen(&store).await;
    conforms(&Server::at(&serving.url(), Some(&store)).await).await;
    serving.shutdown().await;
}

#[tokio::test]
async fn the_embedded_store_conforms_as_release_1_2() {
    let builder = Store::builder().release_1_2(true);
    let store = with_a_validator(builder).build();
    let serving = listen(&store).await;
    let server = Server {
        is_1_2: true,
        ..Server::at(&serving.url(), Some(&store)).await
    };
    search::conforms(&server).await;
    events::conform(&server).await;
    serving.shutdown().await;
}

fn with_a_validator(builder: Builder) -> Builder {
    builder.validate(|record| match record.name() {
        Some(name) if name.starts_with("fail") => Validation::Fail("HTTP 503".into()),
        Some(name) if name.starts_with("refuse") => {
            let count = name
                .strip_prefix("refuse-")
                .map_or(1, |count| count.parse().unwrap());
            Validation::Refuse(vec!["an attribute is unknown".to_owned(); count])
        }
        _ => Validation::Pass,
    })
}

#[tokio::test]
#[ignore = "needs the real server: tests/interop/run server"]
async fn the_real_server_conforms() {
    let url = std::env::var("DIR_SERVER_URL").expect("DIR_SERVER_URL is the real server's URL");
    let server = Server::at(&url, None).await;
    conforms(&server).await;

    // While the call opens: the server has the record, and its validator does not answer.
    let stalled = named("stall", 0);
    let input = stream::iter([stalled.clone()]).chain(stream::pending());
    let mut results = Box::pin(input.push_to(&server.client));
    let waited = tokio::time::timeout(Duration::from_secs(1), results.next()).await;
    assert!(waited.is_err(), "there is nothing to answer");
    drop(results);
    assert!(!server.has(&stalled).await);
}
