//! The real server under faults: killed and started again, closing its connections after seconds,
//! without its schema service, with records that it cannot take or cannot give back; and what is in
//! the files below. `tests/interop/run server` builds it and runs these.

#[cfg(all(feature = "cli", target_os = "linux"))]
mod few_files;
#[cfg(target_os = "linux")]
mod frozen;
#[cfg(target_os = "linux")]
mod full_disk;
#[cfg(target_os = "linux")]
mod registry;
#[cfg(target_os = "linux")]
mod stepped_clock;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Failed, Retry, Stats};
use futures::{Stream, StreamExt, stream};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::clock::soon;
use crate::support::records::{cid, cids, example_texts, record, records};
use crate::support::sockets::free_address;

/// The server as a process, on a folder and an address of its own.
struct Server {
    folder: PathBuf,
    address: String,
    more: &'static [&'static str],
    process: Child,
}

impl Server {
    async fn start(name: &str, more: &'static [&'static str]) -> Self {
        let folder = folder(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self::start_in(folder, more).await
    }

    /// On a folder that is there.
    async fn start_in(folder: PathBuf, more: &'static [&'static str]) -> Self {
        let address = free_address();
        let process = spawn(&folder, &address, more).await;
        Self {
            folder,
            address,
            more,
            process,
        }
    }

    async fn client(&self) -> Client {
        soon(Client::connect(format!("http://{}", self.address)))
            .await
            .unwrap()
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    async fn kill(&mut self) {
        soon(self.process.kill()).await.unwrap();
    }

    #[cfg(target_os = "linux")]
    fn signal(&self, signal: rustix::process::Signal) {
        send_signal(&self.process, signal);
    }

    async fn restart(&mut self) {
        self.process = spawn(&self.folder, &self.address, self.more).await;
    }

    fn mark(&self, marker: &str) {
        std::fs::write(self.folder.join(marker), "").unwrap();
    }

    fn unmark(&self, marker: &str) {
        let _ = std::fs::remove_file(self.folder.join(marker));
    }

    async fn until_marked(&self, marker: &str) {
        let is_marked = async {
            while !self.folder.join(marker).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(is_marked).await;
    }
}

/// Where a server of this name has its data.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[cfg(target_os = "linux")]
fn send_signal(process: &Child, signal: rustix::process::Signal) {
    let id = i32::try_from(process.id().expect("it runs")).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}

async fn spawn(folder: &Path, address: &str, more: &[&str]) -> Child {
    let binary = std::env::var("DIR_SERVER_BIN").expect("DIR_SERVER_BIN names the server");
    let mut process = Command::new(binary)
        .arg("-scratch")
        .arg(folder)
        .args(["-listen", address])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let listens = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("listening on ") {
                return;
            }
        }
        panic!("the server ended before it listened");
    };
    soon(listens).await;
    // What it prints later has to go somewhere.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    process
}

/// Runs a stream to its end; at the result of this place, `act` is run beside it.
async fn run<S, I>(
    mut results: impl Stream<Item = Result<S, Failed<I>>> + Unpin,
    at: usize,
    act: impl Future<Output = ()>,
) -> Vec<Result<S, Failed<I>>> {
    let mut seen = Vec::new();
    while seen.len() < at {
        seen.push(soon(results.next()).await.expect("more results"));
    }
    let rest = async {
        let mut rest = Vec::new();
        while let Some(result) = results.next().await {
            rest.push(result);
        }
        rest
    };
    let (rest, ()) =
        tokio::time::timeout(Duration::from_secs(180), futures::future::join(rest, act))
            .await
            .expect("it should not take three minutes");
    seen.extend(rest);
    seen
}

fn all_pushed(results: Vec<PushResult>, count: usize) {
    assert_eq!(results.len(), count);
    for (number, result) in results.into_iter().enumerate() {
        let pushed = result.unwrap_or_else(|failed| panic!("{failed}"));
        assert_eq!(
            (pushed.index, pushed.cid),
            (number as u64, cid(&record(number)))
        );
    }
}

async fn all_there(client: &Client, count: usize) {
    let refs = cids(count);
    let found: BTreeSet<_> = soon(
        refs.lookup_in(client)
            .map(|found| found.unwrap().cid)
            .collect(),
    )
    .await;
    assert_eq!(found.len(), count);
}

fn print(what: &str, stats: &Stats) {
    println!("{what}: {stats}");
}

const COUNT: usize = 200;

#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn the_real_server_is_killed_in_mid_push_and_all_is_stored() {
    for window in [1, 64, 1_000] {
        let mut server = Server::start("killed-in-push", &[]).await;
        let client = server.client().await;
        let options = Options::new().window(window.try_into().unwrap());
        let results = records(COUNT).push_to_with(&client, &options);
        let handle = results.handle();
        let kill = async {
            // Killed while it writes, the server tears its own index. So while it validates.
            server.mark("schema-stall");
            server.until_marked("schema-stalled").await;
            server.kill().await;
            server.unmark("schema-stall");
            tokio::time::sleep(Duration::from_secs(1)).await;
            server.restart().await;
        };
        let start = std::time::Instant::now();
        all_pushed(run(results, 50, kill).await, COUNT);
        let stats = handle.stats();
        println!("{:?}", start.elapsed());
        print(&format!("killed in mid-push, window {window}"), &stats);
        assert!(stats.faults > 0, "the kill was felt");
        assert!(stats.resent <= (stats.faults + 1) * window as u64);
        all_there(&server.client().await, COUNT).await;

        // Once more: all is stored already.
        let again = records(COUNT).push_to_with(&client, &options);
        let start = std::time::Instant::now();
        let again: Vec<_> = soon(again.collect()).await;
        println!("{COUNT} records that are there: {:?}", start.elapsed());
        assert!(
            again
                .iter()
                .all(|r| r.as_ref().is_ok_and(|pushed| pushed.already_stored))
        );
        all_pushed(again, COUNT);
    }
}

#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn the_real_server_is_killed_in_mid_pull_and_all_is_had() {
    let mut server = Server::start("killed-in-pull", &[]).await;
    let client = server.client().await;
    let push = records(50).push_to(&client);
    all_pushed(soon(push.collect()).await, 50);
    for calls in [1, 4] {
        let refs = stream::iter((0..5_000).map(|number| cid(&record(number % 50))));
        let options = Options::new().calls(calls.try_into().unwrap());
        let results = refs.pull_from_with(&client, &options);
        let handle = results.handle();
        let kill = async {
            server.kill().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            server.restart().await;
        };
        let pulled = run(results, 500, kill).await;
        print(
            &format!("killed in mid-pull, {calls} calls"),
            &handle.stats(),
        );
        assert!(handle.stats().faults > 0, "the kill was felt");
        assert_eq!(pulled.len(), 5_000);
        for (number, result) in pulled.into_iter().enumerate() {
            let pulled = result.unwrap_or_else(|failed| panic!("{failed}"));
            // It is the record, with its fields in another order.
            assert_eq!(pulled.record.cid().unwrap(), cid(&record(number % 50)));
        }
    }
}

#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn connections_that_live_for_seconds_lose_nothing() {
    let server = Server::start("aged", &["-age", "2s", "-grace", "1s"]).await;
    let client = server.client().await;
    // Calls that end before the grace is over are never cut; others are, and recover.
    for (age, calls) in [(Some(Duration::from_millis(500)), 1), (None, 3)] {
        let calls = calls.try_into().unwrap();
        let options = Options::new().max_call_age(age).calls(calls);
        let first = if age.is_some() { 0 } else { COUNT };
        let records = stream::iter((first..first + COUNT).map(record));
        let push = records.push_to_with(&client, &options);
        let handle = push.handle();
        let results = run(push, 0, async {}).await;
        print(&format!("aged, push, calls of {age:?}"), &handle.stats());
        assert_eq!(results.len(), COUNT);
        for result in results {
            result.unwrap_or_else(|failed| panic!("{failed}"));
        }
        all_there(&client, first + COUNT).await;

        // Enough to outlive several connections.
        let end = tokio::time::Instant::now() + Duration::from_secs(12);
        let refs = stream::iter(0..)
            .take_while(|_| std::future::ready(tokio::time::Instant::now() < end))
            .map(|number: usize| cid(&record(number % COUNT)));
        let results = refs.pull_from_with(&client, &options);
        let handle = results.handle();
        let summary = tokio::time::timeout(Duration::from_secs(60), results.finish()).await;
        let summary = summary.expect("it ends when its input does");
        print(&format!("aged, pull, calls of {age:?}"), &handle.stats());
        assert_eq!(summary.stats.failed, 0, "{summary}");
    }
}

#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn an_outage_of_the_schema_service_fails_nobody() {
    for (window, calls) in [(16, 1), (1_000, 4)] {
        let server = Server::start("outage", &[]).await;
        let client = server.client().await;
        let retry = Retry::new().backoff(Duration::from_millis(100), Duration::from_secs(2));
        let options = Options::new()
            .window(window.try_into().unwrap())
            .calls(calls.try_into().unwrap())
            .retry(retry);
        let results = records(COUNT).push_to_with(&client, &options);
        let handle = results.handle();
        let outage = async {
            server.mark("schema-down");
            tokio::time::sleep(Duration::from_secs(5)).await;
            server.unmark("schema-down");
        };
        all_pushed(run(results, 50, outage).await, COUNT);
        let stats = handle.stats();
        print(
            &format!("outage of the schema service, window {window}, {calls} calls"),
            &stats,
        );
        assert!(stats.faults > 0, "the outage was felt");
        all_there(&client, COUNT).await;
    }
}

/// A real record under another name, and with another `schema_version`, or without one.
fn published(number: usize, name: &str, schema_version: Option<Option<&str>>) -> Record {
    static RECORDS: LazyLock<Vec<serde_json::Value>> = LazyLock::new(|| {
        let parse = |(name, text): (String, String)| serde_json::from_str(&text).expect(&name);
        example_texts().into_iter().map(parse).collect()
    });
    let mut record = RECORDS[number % RECORDS.len()].clone();
    record["name"] = format!("{name}-{number}").into();
    match schema_version {
        None => {}
        Some(None) => drop(record.as_object_mut().unwrap().remove("schema_version")),
        Some(Some(other)) => record["schema_version"] = other.into(),
    }
    record.try_into().unwrap()
}

/// Pushes records, each with what should become of it, with the default options.
async fn import(
    client: &Client,
    records: Vec<(Record, Option<ErrorKind>)>,
) -> (Stats, Vec<Failed<Record, Option<ErrorKind>>>) {
    let mut results = stream::iter(records).push_to(client);
    let handle = results.handle();
    let mut failures = Vec::new();
    let end = tokio::time::Instant::now() + Duration::from_secs(180);
    while let Some(result) = tokio::time::timeout_at(end, results.next())
        .await
        .unwrap_or_else(|_| panic!("it should not take three minutes: {}", handle.stats()))
    {
        match result {
            Ok(pushed) => assert_eq!(pushed.tag, None, "{} is stored", pushed.index),
            Err(failed) => {
                assert_eq!(Some(failed.kind()), failed.tag, "{failed}");
                failures.push(failed);
            }
        }
    }
    (handle.stats(), failures)
}

/// What is published carries any schema version, and a schema service serves a few.
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn records_of_versions_that_nobody_serves_hold_up_no_import() {
    const UNSERVED: [&str; 7] = [
        "0.1.3", "0.2.0", "0.3.1", "0.3.2", "0.4.0", "0.5.0", "0.6.0",
    ];
    let records: Vec<_> = (0..300)
        // As good as shuffled, and each once.
        .map(|place| place * 97 % 300)
        .map(|number| match number / 20 {
            part @ 0..7 => (published(number, "old", Some(Some(UNSERVED[part]))), true),
            7 => (published(number, "without", Some(None)), true),
            8 => (published(number, "refuse", None), true),
            _ => (published(number, "good", None), false),
        })
        .map(|(record, is_bad)| (record, is_bad.then_some(ErrorKind::Rejected)))
        .collect();
    let good: Vec<_> = records
        .iter()
        .filter(|(_, failure)| failure.is_none())
        .map(|(record, _)| cid(record))
        .collect();
    let bad = (records.len() - good.len()) as u64;

    let server = Server::start("versions", &[]).await;
    let client = server.client().await;
    let start = std::time::Instant::now();
    let (stats, failures) = import(&client, records).await;
    print(
        &format!("300 records, {bad} bad, {:?}", start.elapsed()),
        &stats,
    );
    println!("{}", failures[0]);
    assert!(failures.iter().all(|failed| failed.error.is_of_item()));
    assert_eq!(stats.faults, 0, "nothing that would open the circuit");
    assert!(stats.calls <= bad + 2, "{stats}");
    let found: Vec<_> = soon(stream::iter(&good).lookup_in(&client).collect()).await;
    assert!(found.iter().all(Result::is_ok), "{found:?}");
}

/// The server stores what its validator lets in, and decodes it before it gives it back.
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_stored_record_that_the_server_cannot_decode_fails_alone_and_at_once() {
    let server = Server::start("undecodable", &[]).await;
    let client = server.client().await;
    let undecodable: Record = serde_json::json!({
        "name": "its version is no text",
        "version": 1,
        "schema_version": "1.0.0",
    })
    .try_into()
    .unwrap();
    let mut records: Vec<_> = (0..50).map(record).collect();
    records.insert(20, undecodable);
    let refs: Vec<_> = records.iter().map(cid).collect();
    let pushed: Vec<_> = soon(stream::iter(records).push_to(&client).collect()).await;
    assert!(pushed.iter().all(Result::is_ok), "{pushed:?}");

    let mut results = stream::iter(&refs).pull_from(&client);
    let handle = results.handle();
    for number in 0..refs.len() {
        match soon(results.next()).await.unwrap() {
            Ok(pulled) => assert_ne!(pulled.index, 20),
            Err(failed) => {
                println!("{failed}");
                assert_eq!(number, 20);
                assert_eq!((failed.index, failed.kind()), (20, ErrorKind::Rejected));
                assert_eq!(failed.attempts, 1);
            }
        }
    }
    print("pull, one that cannot be decoded", &handle.stats());
    let stats = handle.stats();
    assert_eq!((stats.calls, stats.faults), (2, 0), "{stats}");
}

/// A schema service that fails at some records for good, in words that say nothing of that.
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_record_that_breaks_its_validator_holds_up_nobody() {
    let records: Vec<_> = (0..200)
        // Shuffled, with a few good and a few bad ones in a row.
        .map(|place| place * 37 % 200)
        .map(|number| match number / 20 % 2 {
            0 => (published(number, "good", None), None),
            _ => (
                published(number, "broken", None),
                Some(ErrorKind::ServerFailed),
            ),
        })
        .collect();
    let good: Vec<_> = records
        .iter()
        .filter(|(_, failure)| failure.is_none())
        .map(|(record, _)| cid(record))
        .collect();

    let server = Server::start("broken", &[]).await;
    let client = server.client().await;
    let start = std::time::Instant::now();
    let (stats, failures) = import(&client, records).await;
    print(
        &format!("200 records, half of them broken, {:?}", start.elapsed()),
        &stats,
    );
    assert_eq!((stats.succeeded, failures.len()), (100, 100), "{stats}");
    let found: Vec<_> = soon(stream::iter(&good).lookup_in(&client).collect()).await;
    assert!(found.iter().all(Result::is_ok), "{found:?}");
}

/// The nightly run over the same sources: most is stored, some is new, and some comes twice in a row.
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_second_run_pushes_what_is_new_and_little_more() {
    const STORED: usize = 600;
    let server = Server::start("real-second-run", &[]).await;
    let client = server.client().await;
    let first = soon(records(STORED).push_to(&client).finish()).await;
    assert_eq!(first.stats.succeeded, STORED as u64, "{first}");

    // Behind a hundred stored ones, ten are new; each comes twice.
    let number = |place: usize| match place % 110 {
        within if within < 100 => place / 110 * 100 + within,
        within => STORED + place / 110 * 10 + within - 100,
    };
    let input = (0..660).flat_map(|place| [record(number(place)), record(number(place))]);
    let options = Options::new().skip_stored(true);
    let results = stream::iter(input).push_to_with(&client, &options);
    let summary = soon(results.finish()).await;
    println!("{summary}");
    let stats = &summary.stats;
    assert_eq!(
        (stats.succeeded, stats.duplicates),
        (1_320, 660),
        "{summary}"
    );
    // What is stored and sent all the same ends a call on this server.
    assert!(
        stats.sent - stats.resent < 60 + STORED as u64 / 5,
        "{summary}"
    );
    assert!(stats.calls < 200, "{summary}");
    all_there(&client, STORED + 60).await;
}

/// Searches in the middle of pushes and deletes, and while the server is killed: what was there all the time is found.
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn searches_of_the_real_server_are_whole_while_it_is_killed() {
    const STORED: usize = 400;
    let mut server = Server::start("real-search", &[]).await;
    let client = server.client().await;
    let first = soon(records(STORED).push_to(&client).finish()).await;
    assert_eq!(first.stats.succeeded, STORED as u64, "{first}");
    let there: BTreeSet<_> = (0..STORED).map(|number| cid(&record(number))).collect();
    for round in 0..5 {
        let mut search = client.search(Query::new());
        let mut found = BTreeSet::new();
        for _ in 0..round * 50 {
            assert!(found.insert(soon(search.next()).await.unwrap().unwrap()));
        }
        server.kill().await;
        server.restart().await;
        while let Some(cid) = soon(search.next()).await {
            assert!(found.insert(cid.unwrap()), "each once");
        }
        assert_eq!(found, there);
    }
}

/// The mirror of the examples, from the real server to a store in this process: pushes, deletes, and two kills.
#[cfg(feature = "server")]
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_mirror_of_the_real_server_becomes_equal_to_it() {
    use agntcy_dir_stream::server::Store;

    let mut server = Server::start("real-mirror", &[]).await;
    let client = server.client().await;
    let store = Store::new();
    let copy = store.client();
    let options = Options::new().relist_every(Duration::from_secs(10));
    let from = server.client().await;
    let settings = crate::mirror::mirror::Settings {
        options: Options::new(),
        deletes: true,
        tries_again: true,
    };
    let changes = from.follow_with(Query::new(), &options);
    let mirrored =
        crate::mirror::mirror::mirror(&from, &copy, changes, &settings, |done| println!("{done}"));
    let trouble = async {
        let mut there = BTreeSet::new();
        for round in 0..6 {
            let numbers = round * 40..round * 40 + 60;
            let pushed = stream::iter(numbers.clone().map(record))
                .push_to(&client)
                .finish();
            assert_eq!(soon(pushed).await.stats.failed, 0);
            there.extend(numbers);
            let gone: Vec<_> = there
                .iter()
                .copied()
                .filter(|number| number % 6 == round)
                .collect();
            let refs = stream::iter(gone.iter().map(|number| cid(&record(*number))));
            assert_eq!(
                soon(refs.delete_from(&client).finish()).await.stats.failed,
                0
            );
            there.retain(|number| !gone.contains(number));
            if round % 2 == 1 {
                server.kill().await;
                server.restart().await;
            }
        }
        let expected: BTreeSet<_> = there.iter().map(|number| cid(&record(*number))).collect();
        let equal = async {
            while BTreeSet::from_iter(store.cids()) != expected {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        soon(equal).await;
        println!("{} records in both", expected.len());
    };
    tokio::select! {
        ended = mirrored => panic!("the mirror has ended: {ended:?}"),
        () = trouble => {}
    }
}

/// A run of the tool, in the server's folder.
#[cfg(feature = "cli")]
fn tool(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dirstream"));
    command
        .args(arguments)
        .args(["--server", &format!("http://{}", server.address)])
        .current_dir(&server.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[cfg(feature = "cli")]
async fn lines_of(mut command: Command) -> (Option<i32>, Vec<serde_json::Value>) {
    let ran = soon(command.output()).await.unwrap();
    let out = String::from_utf8(ran.stdout).unwrap();
    let parse = |line| serde_json::from_str(line).unwrap();
    (ran.status.code(), out.lines().map(parse).collect())
}

/// The job of a night, by the tool: 30 of 300 records are refused, 6 have no schema version, and the tool is killed in the
/// middle. Then what is there is found, pulled, signed, published, mirrored and deleted.
#[cfg(feature = "cli")]
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn the_tool_accounts_for_each_record() {
    let server = Server::start("tool", &[]).await;
    let text = |number: usize| match number {
        number if number % 10 == 4 => published(number, "refuse", None).to_string(),
        number if number % 50 == 17 => published(number, "without", Some(None)).to_string(),
        number => published(number, "tool", None).to_string(),
    };
    let input: String = (0..300).map(|number| text(number) + "\n").collect();
    std::fs::write(server.folder.join("in.ndjson"), input).unwrap();

    let push = [
        "push",
        "in.ndjson",
        "--no-check",
        "--checkpoint",
        "cp",
        "--window",
        "16",
    ];
    let mut process = tool(&server, &push).spawn().unwrap();
    let mut first = BufReader::new(process.stdout.take().unwrap()).lines();
    for _ in 0..100 {
        soon(first.next_line()).await.unwrap().unwrap();
    }
    soon(process.kill()).await.unwrap();

    let mut process = tool(&server, &push).spawn().unwrap();
    let mut second = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut lines: Vec<serde_json::Value> = Vec::new();
    while let Some(line) = soon(second.next_line()).await.unwrap() {
        lines.push(serde_json::from_str(&line).unwrap());
    }
    assert_eq!(soon(process.wait()).await.unwrap().code(), Some(1));
    let begins_at = lines[0]["index"].as_u64().unwrap();
    assert!((84..=100).contains(&begins_at), "{begins_at}");
    for (index, line) in (begins_at..300).zip(&lines) {
        let is_bad = index % 10 == 4 || index % 50 == 17;
        assert_eq!(line["index"], index);
        assert_eq!(line["error"]["kind"] == "rejected", is_bad, "{line}");
        assert_eq!(line["cid"].is_string(), !is_bad, "{line}");
    }
    assert_eq!(begins_at + lines.len() as u64, 300);

    // All that is good is there.
    let (code, found) = lines_of(tool(
        &server,
        &["search", "name=tool-*", "--results", "found"],
    ))
    .await;
    assert_eq!((code, found.len()), (Some(0), 0));
    let (code, pulled) = lines_of(tool(&server, &["pull", "found", "--to", "copies"])).await;
    assert_eq!((code, pulled.len()), (Some(0), 264));
    let sign = "cat >/dev/null; echo '{\"type\": \"agntcy.dir.sign.v1.Signature\", \"data\": {\"signature\": \"abc\"}}'";
    let sign = [
        "push",
        "copies",
        "--skip-stored",
        "--publish",
        "--sign-with",
        sign,
    ];
    let (code, signed) = lines_of(tool(&server, &sign)).await;
    assert_eq!((code, signed.len()), (Some(0), 264));
    let (code, referrers) = lines_of(tool(&server, &["referrers", "pull", "found"])).await;
    assert_eq!(code, Some(0));
    let is_signed = |line: &serde_json::Value| line["referrers"][0]["data"]["signature"] == "abc";
    assert!(referrers.iter().all(is_signed));
    let (code, _) = lines_of(tool(&server, &["referrers", "delete", "found"])).await;
    assert_eq!(code, Some(0));
    let again = referrers
        .iter()
        .map(|line| format!("{}\n", line["referrers"][0]));
    std::fs::write(server.folder.join("again"), again.collect::<String>()).unwrap();
    let (code, pushed) = lines_of(tool(&server, &["referrers", "push", "again"])).await;
    assert_eq!((code, pushed.len()), (Some(0), 264));
    for publish in [&["publish", "found"][..], &["publish", "--undo", "found"]] {
        let (code, lines) = lines_of(tool(&server, publish)).await;
        assert_eq!((code, lines.len()), (Some(0), 264), "{publish:?}");
    }

    #[cfg(feature = "server")]
    {
        let copy = agntcy_dir_stream::server::Store::new();
        let serving = crate::support::stores::listen(&copy).await;
        let from = format!("http://{}", server.address);
        let mut mirror = Command::new(env!("CARGO_BIN_EXE_dirstream"));
        mirror.args(["mirror", "--from", &from, "--to", &serving.url()]);
        let (code, mirrored) = lines_of(mirror).await;
        assert_eq!((code, mirrored.len(), copy.len()), (Some(0), 264, 264));
    }

    let (code, deleted) = lines_of(tool(&server, &["delete", "found"])).await;
    assert_eq!((code, deleted.len()), (Some(0), 264));
    let (code, there) = lines_of(tool(&server, &["lookup", "--exists", "found"])).await;
    assert_eq!(code, Some(0));
    assert!(there.iter().all(|line| line["exists"] == false));
}
