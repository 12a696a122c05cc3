//! What compression costs for each record, and what it saves.
//!
//! ```text
//! cargo bench --features gzip,server,zstd --bench compression
//! ```
//!
//! 20,000 variations of the real records are pushed and pulled over TCP, by an adapter that does
//! not verify them, from and to the embedded store. Client and store each have a thread of their
//! own, whose CPU time is measured: medians of nine rounds, all ways in each. What goes over the
//! line is counted by a proxy, in a run of its own.
//!
//! The line's speed at which it is even is where the time that the line is spared is the CPU time
//! that both sides spend more: on slower lines compression pays. That is so where a line and its two
//! ends take turns; where they work side by side, it pays up to whatever the busier end can do.

#![allow(missing_docs)]

mod records;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agntcy_dir_stream::Compression;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{AlreadyStored, Store};
use futures::{Stream, StreamExt, stream};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

const RECORDS: usize = 20_000;
const DISTINCT: usize = 1_000;
const ROUNDS: usize = 9;

const WAYS: [(&str, Option<Compression>); 3] = [
    ("as they are", None),
    ("gzip", Some(Compression::Gzip)),
    ("zstd", Some(Compression::Zstd)),
];

fn vary() -> Vec<Record> {
    let parse = |text: Vec<u8>| serde_json::from_slice(&text).expect("the examples are JSON");
    let files: Vec<Value> = records::texts().into_iter().map(parse).collect();
    let variations = (0..DISTINCT).map(|number| {
        let mut value = files[number % files.len()].clone();
        value["version"] = format!("1.0.{number}").into();
        Record::try_from(value).expect("the examples are records")
    });
    variations.collect()
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).expect("time goes forward"),
        u32::try_from(time.tv_nsec).expect("less than a second"),
    )
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The store's thread: where it listens, and its CPU time for whom asks.
struct Server {
    address: SocketAddr,
    ask: mpsc::UnboundedSender<oneshot::Sender<Duration>>,
}

impl Server {
    fn start(store: Store) -> Self {
        let (tell, address) = std::sync::mpsc::channel();
        let (ask, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<Duration>>();
        std::thread::spawn(move || {
            runtime().block_on(async move {
                let serving = store.listen("127.0.0.1:0").await.expect("a free port");
                tell.send(serving.address()).expect("the bench waits");
                while let Some(answer) = asked.recv().await {
                    let _ = answer.send(cpu_time());
                }
            });
        });
        let address = address.recv().expect("the store listens");
        Self { address, ask }
    }

    async fn cpu_time(&self) -> Duration {
        let (answer, answered) = oneshot::channel();
        self.ask.send(answer).expect("the store runs");
        answered.await.expect("the store runs")
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(len, Ordering::Relaxed);
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

/// An address that leads to `server`, and how many bytes went there and back.
async fn counted(server: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let bytes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&bytes);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(server).await.expect("the store listens");
            let (client, server) = (client.into_split(), server.into_split());
            tokio::spawn(copy(client.0, server.1, Arc::clone(&count)));
            tokio::spawn(copy(server.0, client.1, Arc::clone(&count)));
        }
    });
    (address, bytes)
}

async fn client(address: SocketAddr, compression: Option<Compression>) -> Client {
    let client = Client::connect(format!("http://{address}")).await;
    let client = client.expect("the store listens");
    match compression {
        Some(compression) => client.with_compression(compression),
        None => client,
    }
}

async fn all_ok<S, I>(results: impl Stream<Item = Result<S, I>>) {
    let mut results = pin!(results);
    let mut count = 0;
    while let Some(result) = results.next().await {
        assert!(result.is_ok(), "all records are good");
        count += 1;
    }
    assert_eq!(count, RECORDS);
}

struct Items {
    records: Vec<Record>,
    cids: Vec<Cid>,
}

impl Items {
    async fn run(&self, operation: &str, client: &Client) {
        let bare = Options::new().verify(false).dedup(false);
        let records = stream::iter(self.records.iter().cycle().take(RECORDS).cloned());
        let cids = stream::iter(self.cids.iter().cycle().take(RECORDS).copied());
        match operation {
            "push" => all_ok(records.push_to_with(client, &bare)).await,
            _ => all_ok(cids.pull_from_with(client, &bare)).await,
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn a_record(total: f64) -> f64 {
    total / RECORDS as f64
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    a_record(times[times.len() / 2].as_secs_f64() * 1e6)
}

#[allow(clippy::cast_precision_loss)]
fn main() {
    let rounds = match std::env::args().any(|argument| argument == "--test") {
        true => 1,
        false => ROUNDS,
    };
    let records = vary();
    let cids = records.iter().map(|record| record.cid().expect("a CID"));
    let cids = cids.collect();
    let store = Store::builder()
        .already_stored(AlreadyStored::Ref)
        .compress_pulled(true)
        .build();
    for record in &records {
        store.insert(record.clone()).expect("a record has a CID");
    }
    let server = Server::start(store);
    let items = Items { records, cids };
    let runtime = runtime();
    println!(
        "for each record: bytes on the line, µs of CPU of client and store, Mbit/s where even"
    );
    for operation in ["push", "pull"] {
        let mut times = vec![(Vec::new(), Vec::new()); WAYS.len()];
        let clients: Vec<Client> = WAYS
            .iter()
            .map(|(_, way)| runtime.block_on(client(server.address, *way)))
            .collect();
        for _ in 0..rounds {
            for (client, times) in clients.iter().zip(&mut times) {
                runtime.block_on(async {
                    let before = (cpu_time(), server.cpu_time().await);
                    items.run(operation, client).await;
                    times.0.push(cpu_time() - before.0);
                    times.1.push(server.cpu_time().await - before.1);
                });
            }
        }
        let mut plain = None;
        for ((name, way), times) in WAYS.iter().zip(times) {
            let bytes = runtime.block_on(async {
                let (address, bytes) = counted(server.address).await;
                items.run(operation, &client(address, *way).await).await;
                a_record(bytes.load(Ordering::Relaxed) as f64)
            });
            let (own, others) = (median(times.0), median(times.1));
            let (all, as_it_was) = *plain.get_or_insert((own + others, bytes));
            let even = match way {
                Some(_) => format!("{:.0}", (as_it_was - bytes) * 8.0 / (own + others - all)),
                None => "–".to_owned(),
            };
            println!("{operation}, {name:<12} {bytes:>6.0} {own:>7.2} {others:>7.2} {even:>6}");
        }
    }
}
