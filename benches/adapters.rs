//! What a record costs the client, beside two hand-written tonic loops.
//!
//! ```text
//! cargo bench --features server --bench adapters
//! ```
//!
//! 100,000 real records (or refs) are pushed, pulled and looked up: over an adapter, over a loop
//! that treats a record as raw bytes (the limit), and over one with the generated `Struct` types.
//! All talk to the same embedded store over TCP, which runs on a thread of its own. Each client
//! is alone on its thread with a current-thread runtime, and what is measured is the CPU time of
//! that thread: the adapter or loop and the HTTP/2 connection under it. Neither loop verifies
//! anything, bounds memory, or gets past a bad record. What is pushed is made before the clock
//! starts, each record by itself, and dropped when it is done; what is pulled is dropped at once.
//!
//! The table at the end has the medians, and their ratios to the loops.

#![allow(missing_docs)]

mod records;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::pin::pin;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{AlreadyStored, Store};
use bytes::Bytes;
use criterion::{Criterion, SamplingMode, Throughput};
use futures::{StreamExt, stream};
use prost::Message;
use prost_types::Struct;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// Records in one run.
const RECORDS: usize = 100_000;
/// Distinct ones among them.
const DISTINCT: usize = 1_000;

/// A record as raw bytes.
#[derive(Clone, PartialEq, Message)]
struct Raw {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

/// A record as the generated types have it.
#[derive(Clone, PartialEq, Message)]
struct Tree {
    #[prost(message, optional, tag = "1")]
    data: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
struct Ref {
    #[prost(string, tag = "1")]
    cid: String,
}

#[derive(Clone, PartialEq, Message)]
struct Meta {
    #[prost(string, tag = "1")]
    cid: String,
    #[prost(btree_map = "string, string", tag = "2")]
    annotations: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    schema_version: String,
    #[prost(string, tag = "4")]
    created_at: String,
}

/// Variations of the real records.
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

/// The hand-written loop: send all, count the answers.
async fn by_hand<Q, A>(
    channel: &Channel,
    method: &'static str,
    requests: impl futures::Stream<Item = Q> + Send + 'static,
) -> usize
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("the store is there");
    let path = format!("/agntcy.dir.store.v1.StoreService/{method}");
    let mut answers = grpc
        .streaming(
            tonic::Request::new(requests),
            path.parse().expect("a path"),
            ProstCodec::<Q, A>::default(),
        )
        .await
        .expect("the store takes calls")
        .into_inner();
    let mut count = 0;
    while let Some(answer) = answers.message().await.expect("all records are good") {
        black_box(answer);
        count += 1;
    }
    count
}

async fn all_ok<S, I>(results: impl futures::Stream<Item = Result<S, I>>) -> usize {
    let mut results = pin!(results);
    let mut count = 0;
    while let Some(result) = results.next().await {
        let Ok(success) = result else {
            panic!("all records are good");
        };
        black_box(success);
        count += 1;
    }
    count
}

/// Everything that a run needs.
struct Setup {
    runtime: tokio::runtime::Runtime,
    client: Client,
    channel: Channel,
    records: Vec<Record>,
    cids: Vec<Cid>,
}

/// The input of a run.
fn copies<T, C>(items: &[T], copy: impl Fn(&T) -> C) -> stream::Iter<std::vec::IntoIter<C>> {
    let all: Vec<C> = items.iter().cycle().take(RECORDS).map(copy).collect();
    stream::iter(all)
}

fn data(record: &Record) -> Bytes {
    Bytes::copy_from_slice(record.data().expect("a record has data"))
}

impl Setup {
    fn new() -> Self {
        let records = vary();
        let store = Store::builder().already_stored(AlreadyStored::Ref).build();
        for record in &records {
            store.insert(record.clone()).expect("a record has a CID");
        }
        let cids = records
            .iter()
            .map(|record| record.cid().expect("a record has a CID"));
        let cids = cids.collect();
        let (send_url, url) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let serving = store.listen("127.0.0.1:0").await.expect("a free port");
                send_url.send(serving.url()).expect("the bench waits");
                std::future::pending::<()>().await;
            });
        });
        let url = url.recv().expect("the store listens");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (client, channel) = runtime.block_on(async {
            let endpoint = Endpoint::from_shared(url.clone()).expect("a URL");
            (
                Client::connect(&url).await.expect("the store listens"),
                endpoint.connect().await.expect("the store listens"),
            )
        });
        Self {
            runtime,
            client,
            channel,
            records,
            cids,
        }
    }

    /// The CPU time of this thread for one run.
    fn time(&self, run: impl Future<Output = usize>) -> Duration {
        let before = cpu_time();
        let answers = self.runtime.block_on(run);
        let took = cpu_time() - before;
        assert_eq!(answers, RECORDS);
        took
    }

    fn run(&self, operation: &str, way: &str) -> Duration {
        let (client, channel) = (&self.client, &self.channel);
        let bare = Options::new().verify(false);
        let records = || {
            copies(&self.records, |r| {
                Record::from_data(data(r)).expect("a record")
            })
        };
        let raw = || copies(&self.records, |record| Raw { data: data(record) });
        let trees = || {
            let tree = |record: &Record| Struct::try_from(record).expect("a record is a Struct");
            copies(&self.records, |record| Tree {
                data: Some(tree(record)),
            })
        };
        let cids = || copies(&self.cids, |cid| *cid);
        // To print a CID is part of the work, as it is in the adapters.
        let refs = || {
            cids().map(|cid| Ref {
                cid: cid.to_string(),
            })
        };
        match (operation, way) {
            ("push", "adapter") => self.time(all_ok(records().push_to(client))),
            ("push", "adapter, unverified") => {
                self.time(all_ok(records().push_to_with(client, &bare)))
            }
            ("push", "raw loop") => self.time(by_hand::<_, Ref>(channel, "Push", raw())),
            ("push", "Struct loop") => self.time(by_hand::<_, Ref>(channel, "Push", trees())),
            ("pull", "adapter") => self.time(all_ok(cids().pull_from(client))),
            ("pull", "adapter, unverified") => {
                self.time(all_ok(cids().pull_from_with(client, &bare)))
            }
            ("pull", "raw loop") => self.time(by_hand::<_, Raw>(channel, "Pull", refs())),
            ("pull", "Struct loop") => self.time(by_hand::<_, Tree>(channel, "Pull", refs())),
            ("lookup", "adapter") => self.time(all_ok(cids().lookup_in(client))),
            ("lookup", "adapter, unverified") => {
                self.time(all_ok(cids().lookup_in_with(client, &bare)))
            }
            ("lookup", "raw loop") => self.time(by_hand::<_, Meta>(channel, "Lookup", refs())),
            (operation, way) => unreachable!("{operation} over {way}"),
        }
    }
}

const RUNS: [(&str, &[&str]); 3] = [
    (
        "push",
        &["adapter", "adapter, unverified", "raw loop", "Struct loop"],
    ),
    (
        "pull",
        &["adapter", "adapter, unverified", "raw loop", "Struct loop"],
    ),
    ("lookup", &["adapter", "adapter, unverified", "raw loop"]),
];

#[allow(clippy::cast_precision_loss)]
fn main() {
    let setup = Setup::new();
    let mut criterion = Criterion::default().configure_from_args();
    let mut taken: BTreeMap<(&str, &str), Vec<Duration>> = BTreeMap::new();
    for (operation, ways) in RUNS {
        let mut group = criterion.benchmark_group(operation);
        group.sample_size(10);
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(RECORDS as u64));
        for way in ways {
            group.bench_function(*way, |b| {
                b.iter_custom(|runs| {
                    let mut all = Duration::ZERO;
                    for _ in 0..runs {
                        let took = setup.run(operation, way);
                        taken.entry((operation, way)).or_default().push(took);
                        all += took;
                    }
                    all
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();

    println!("\nclient CPU a record, median, and its ratio to the loops");
    println!(
        "{:<28} {:>10} {:>12} {:>14}",
        "", "µs", "÷ raw loop", "÷ Struct loop"
    );
    let median = |operation, way| {
        let mut times: Vec<Duration> = taken.get(&(operation, way))?.clone();
        times.sort();
        Some(times[times.len() / 2].as_secs_f64() * 1e6 / RECORDS as f64)
    };
    for (operation, ways) in RUNS {
        for way in ways {
            let Some(own) = median(operation, way) else {
                continue;
            };
            let ratio = |to| match median(operation, to) {
                Some(other) => format!("{:.2}", own / other),
                None => "–".to_owned(),
            };
            println!(
                "{:<28} {own:>10.2} {:>12} {:>14}",
                format!("{operation}, {way}"),
                ratio("raw loop"),
                ratio("Struct loop"),
            );
        }
    }
}
