//! A long run over a line that keeps breaking: every record is accounted for, and memory stays
//! flat. `.ci/run` builds the store and runs this.
//!
//! ```text
//! cargo build --release --features server --example store
//! SOAK_STORE=target/release/examples/store cargo test --all-features --test it soak -- --ignored --nocapture
//! ```

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{Handle, Retry};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout_at};

use crate::support::clock::soon;
use crate::support::records::{cid, cids, record, records};
use crate::support::sockets::listener;

const RECORDS: usize = 200_000;

/// What the memory of this process may grow by between the 10,000th record and the last.
const MAY_GROW: u64 = 16 << 20;

/// The store in a process of its own, so that what it holds does not count.
async fn store() -> (Child, String) {
    let binary = std::env::var("SOAK_STORE").expect("SOAK_STORE names the store's binary");
    let mut process = Command::new(binary)
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let first = soon(lines.next_line()).await.unwrap().unwrap();
    let address = first.split("http://").nth(1).unwrap();
    let address = address.split([' ', ';']).next().unwrap().to_owned();
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (process, address)
}

/// What the proxy has done to its connections.
#[derive(Debug, Default)]
struct Done {
    cuts: AtomicU64,
    stalls: AtomicU64,
    delays: AtomicU64,
}

/// A proxy that cuts, delays and stalls its connections at random, each within so many milliseconds.
async fn proxy(upstream: String, longest: u64, done: Arc<Done>) -> String {
    let (listener, url) = listener().await;
    tokio::spawn(async move {
        // The same faults in each run, as far as the machine's pace allows.
        let mut random = fastrand::Rng::with_seed(7);
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&upstream).await.unwrap();
            let end = Instant::now() + Duration::from_millis(random.u64(50..longest));
            tokio::spawn(line(client, server, end, random.fork(), Arc::clone(&done)));
        }
    });
    url
}

async fn line(
    mut client: TcpStream,
    mut server: TcpStream,
    end: Instant,
    mut random: fastrand::Rng,
    done: Arc<Done>,
) {
    let (mut up, mut down) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    loop {
        let step = async {
            tokio::select! {
                read = client.read(&mut up) => {
                    let read = read.unwrap_or(0);
                    read > 0 && server.write_all(&up[..read]).await.is_ok()
                }
                read = server.read(&mut down) => {
                    let read = read.unwrap_or(0);
                    read > 0 && client.write_all(&down[..read]).await.is_ok()
                }
            }
        };
        match timeout_at(end, step).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => break,
        }
        if random.u32(0..2_000) == 0 {
            done.delays.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(random.u64(1..50))).await;
        }
    }
    if random.u32(0..10) == 0 {
        // Without a word, until the client has had enough.
        done.stalls.fetch_add(1, Ordering::Relaxed);
        while client.read(&mut up).await.is_ok_and(|read| read > 0) {}
    } else {
        done.cuts.fetch_add(1, Ordering::Relaxed);
    }
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Reads the indexes of results: each is a success, they are in order, and memory stays flat.
async fn watch<E: std::fmt::Display>(
    what: &str,
    mut results: impl Stream<Item = Result<u64, E>> + Unpin,
    handles: &[Handle],
) {
    let start = Instant::now();
    let (mut seen, mut at_first, mut peak) = (0, 0, 0);
    while let Some(result) = soon(results.next()).await {
        let index = result.unwrap_or_else(|failed| {
            let stats: Vec<_> = handles
                .iter()
                .map(|handle| handle.stats().to_string())
                .collect();
            panic!("{failed}; {stats:#?}")
        });
        assert_eq!(index, seen, "in order, and none left out");
        seen += 1;
        if seen.is_multiple_of(1_000) {
            let resident = resident();
            if seen == 10_000 {
                at_first = resident;
            }
            peak = peak.max(resident);
        }
    }
    let grown = peak.saturating_sub(at_first);
    println!("{what}: {:.1?}, {} KiB grown", start.elapsed(), grown >> 10);
    let mut faults = 0;
    for stats in handles.iter().map(Handle::stats) {
        println!("  {stats}");
        faults += stats.faults;
        assert!(
            stats.resent <= (stats.faults + 1) * 1_024,
            "a window for each fault"
        );
    }
    assert_eq!(seen, RECORDS as u64);
    assert!(grown <= MAY_GROW, "{what}: {grown} bytes grown");
    assert!(faults > 2, "{what}: the line was not bad enough");
}

#[tokio::test]
#[ignore = "takes a minute, and needs the store's binary: see the head of this file"]
async fn every_record_gets_over_a_bad_line() {
    let (_store, address) = store().await;
    let done = Arc::new(Done::default());
    let url = proxy(address.clone(), 1_500, Arc::clone(&done)).await;
    let client = soon(Client::connect(url)).await.unwrap();
    let options = Options::new()
        .stall_after(Some(Duration::from_secs(1)))
        .retry(
            Retry::new()
                .max_attempts(10)
                .backoff(Duration::from_millis(10), Duration::from_millis(500)),
        );

    let refs = || cids(RECORDS);
    let push = records(RECORDS).push_to_with(&client, &options);
    let handle = push.handle();
    watch("push", push.map_ok(|pushed| pushed.index), &[handle]).await;
    let pull = refs().pull_from_with(&client, &options);
    let handle = pull.handle();
    watch("pull", pull.map_ok(|pulled| pulled.index), &[handle]).await;
    // What was stored is found, and copied to another store. The CIDs that were found are all that grows.
    let (_other, other) = store().await;
    let other = soon(Client::connect(format!("http://{other}")))
        .await
        .unwrap();
    // A list begins anew when its call breaks, so now and then one has to come through whole.
    let url = proxy(address.clone(), 6_000, Arc::clone(&done)).await;
    let found = soon(Client::connect(url)).await.unwrap();
    let search = found.search_with(Query::new(), &options);
    let handle = search.handle();
    let pull = search.try_pull_from_with(&client, &options);
    let handles = [handle, pull.handle()];
    let copy = pull.try_push_to(&other).map_ok(|pushed| pushed.index);
    watch("search, pull, push", copy, &handles).await;
    assert_eq!(
        soon(other.count(Query::new())).await.unwrap(),
        RECORDS as u64
    );
    let delete = refs().delete_from_with(&client, &options);
    let handle = delete.handle();
    watch("delete", delete.map_ok(|deleted| deleted.index), &[handle]).await;

    // By a line of its own: nothing is left.
    let direct = soon(Client::connect(format!("http://{address}")))
        .await
        .unwrap();
    let refs = stream::iter((0..RECORDS).step_by(997).map(|number| cid(&record(number))));
    let found = refs
        .lookup_in(&direct)
        .filter(|found| std::future::ready(found.is_ok()));
    assert_eq!(soon(found.count()).await, 0);
    println!("{done:?}");
}
