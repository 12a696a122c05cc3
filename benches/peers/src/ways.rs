//! The clients: the ways a record can take to a DIR server.
//!
//! A run is prepared first, with all of its input in memory, and then run, so that only the
//! latter is measured. Each record has a buffer of its own, and is dropped when it is done; what
//! comes back is dropped at once.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::pin::pin;

use agntcy_dir::models::core_v1;
use agntcy_dir::{AuthMode, Client as Sdk, Config};
use agntcy_dir_stream::prelude::*;
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::future::LocalBoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use prost::Message;
use prost_types::Struct;
use tokio::runtime::{Builder, Runtime};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::input;
use crate::measure::{Clock, Cost};
use crate::ours;

/// The SDK takes whole batches, all in memory with their answers: its user must choose a size.
const SDK_BATCH: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Push,
    Pull,
    Lookup,
}

impl Operation {
    pub const ALL: [Self; 3] = [Self::Push, Self::Pull, Self::Lookup];

    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Lookup => "lookup",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Push => "/agntcy.dir.store.v1.StoreService/Push",
            Self::Pull => "/agntcy.dir.store.v1.StoreService/Pull",
            Self::Lookup => "/agntcy.dir.store.v1.StoreService/Lookup",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Raw,
    Struct,
    Sdk,
    Go,
    CallEach,
    Ours,
    OursBare,
}

impl Way {
    pub const ALL: [Self; 7] = [
        Self::Raw,
        Self::Struct,
        Self::Sdk,
        Self::Go,
        Self::CallEach,
        Self::Ours,
        Self::OursBare,
    ];

    /// As an argument of the child that runs it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Struct => "struct",
            Self::Sdk => "sdk",
            Self::Go => "go",
            Self::CallEach => "call-each",
            Self::Ours => "ours",
            Self::OursBare => "ours-bare",
        }
    }

    /// As the table has it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Raw => "hand-written loop, raw bytes: the limit",
            Self::Struct => "hand-written loop, `Struct` types",
            Self::Sdk => "Rust SDK 1.8.1, batches of 1,000",
            Self::Go => "Go client 1.2.0, its streams",
            Self::CallEach => "a call per record, raw bytes",
            Self::Ours => "**ours**, default: verified",
            Self::OursBare => "**ours**, unverified",
        }
    }

    /// The slow ones need fewer records to be measured as well.
    pub fn share(self, records: usize) -> usize {
        let share = match self {
            Self::Raw | Self::Ours | Self::OursBare => records,
            Self::Struct | Self::Sdk | Self::Go => records * 2 / 5,
            Self::CallEach => records / 10,
        };
        share.max(1)
    }
}

pub fn operation(name: &str) -> anyhow::Result<Operation> {
    let mut all = Operation::ALL.into_iter();
    all.find(|one| one.name() == name)
        .context("no such operation")
}

pub fn way(name: &str) -> anyhow::Result<Way> {
    let mut all = Way::ALL.into_iter();
    all.find(|one| one.name() == name).context("no such way")
}

/// A record as raw bytes.
#[derive(Clone, PartialEq, Message)]
pub struct Raw {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

impl Raw {
    pub fn copy(record: &Record) -> Self {
        Self {
            data: input::data(record),
        }
    }
}

/// A record as the generated types have it.
#[derive(Clone, PartialEq, Message)]
struct Tree {
    #[prost(message, optional, tag = "1")]
    data: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Ref {
    #[prost(string, tag = "1")]
    cid: String,
}

impl Ref {
    pub fn to(cid: Cid) -> Self {
        Self {
            cid: cid.to_string(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Meta {
    #[prost(string, tag = "1")]
    cid: String,
    #[prost(btree_map = "string, string", tag = "2")]
    annotations: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    schema_version: String,
    #[prost(string, tag = "4")]
    created_at: String,
}

/// The hand-written loop: send all in one call, count the answers.
pub async fn by_hand<Q, A>(
    channel: &Channel,
    operation: Operation,
    requests: impl Stream<Item = Q> + Send + 'static,
) -> anyhow::Result<usize>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(operation.method());
    let codec = ProstCodec::<Q, A>::default();
    let answers = grpc.streaming(tonic::Request::new(requests), path, codec);
    let mut answers = answers.await?.into_inner();
    let mut count = 0;
    while let Some(answer) = answers.message().await? {
        black_box(answer);
        count += 1;
    }
    Ok(count)
}

/// The hand-written loop with a new call for each request.
pub async fn by_hand_each<Q, A>(
    channel: &Channel,
    operation: Operation,
    requests: impl IntoIterator<Item = Q>,
) -> anyhow::Result<usize>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut count = 0;
    for request in requests {
        count += by_hand::<Q, A>(channel, operation, stream::iter([request])).await?;
    }
    Ok(count)
}

/// Counts the results of an adapter, all of which must be good.
pub async fn all_good<S, F>(results: impl Stream<Item = Result<S, F>>) -> anyhow::Result<usize>
where
    F: std::fmt::Display,
{
    let mut results = pin!(results);
    let mut count = 0;
    while let Some(result) = results.next().await {
        match result {
            Ok(success) => drop(black_box(success)),
            Err(failed) => bail!("{failed}"),
        }
        count += 1;
    }
    Ok(count)
}

pub async fn connect(url: &str) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(url.to_owned())?.connect().await?)
}

enum Connection {
    ByHand(Channel),
    Sdk(Box<Sdk>),
    Ours(Client, Options),
}

/// A client that goes one way, alone in its process.
pub struct Runner {
    runtime: Runtime,
    connection: Connection,
    operation: Operation,
    way: Way,
    records: Vec<Record>,
    cids: Vec<Cid>,
}

/// What was prepared. It gives how many answers came.
pub type Run<'a> = LocalBoxFuture<'a, anyhow::Result<usize>>;

impl Runner {
    /// Connects. With one thread, it does all: the client and the connection under it. With two,
    /// the client has the thread that waits, as under `#[tokio::main]`, and the connection is on
    /// one of two workers.
    pub fn new(operation: Operation, way: Way, threads: usize, url: &str) -> anyhow::Result<Self> {
        let mut builder = match threads {
            1 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        if threads > 1 {
            builder.worker_threads(threads);
        }
        let runtime = builder.enable_all().build()?;
        let connection = runtime.block_on(async {
            anyhow::Ok(match way {
                Way::Raw | Way::Struct | Way::CallEach => Connection::ByHand(connect(url).await?),
                Way::Sdk => Connection::Sdk(Box::new(sdk(url).await?)),
                Way::Ours => Connection::Ours(Client::connect(url).await?, Options::new()),
                Way::OursBare => Connection::Ours(Client::connect(url).await?, ours::bare()),
                Way::Go => bail!("a program of its own"),
            })
        })?;
        let records = input::records()?;
        Ok(Self {
            runtime,
            connection,
            operation,
            way,
            cids: input::cids(&records)?,
            records,
        })
    }

    /// Makes all input of a run.
    pub fn prepare(&self, count: usize) -> anyhow::Result<Run<'_>> {
        let Self { records, cids, .. } = self;
        let operation = self.operation;
        let cids = || input::round(cids, count, |cid| Ok(*cid));
        // To print a CID is part of the work, as it is in the adapters.
        let to_ref = |cid: Cid| Ref::to(cid);
        Ok(match (&self.connection, operation) {
            (Connection::ByHand(channel), _) => match (operation, self.way) {
                (Operation::Push, Way::Struct) => {
                    let tree = |record: &Record| {
                        let data = Some(Struct::try_from(record)?);
                        Ok(Tree { data })
                    };
                    let input = stream::iter(input::round(records, count, tree)?);
                    by_hand::<_, Ref>(channel, operation, input).boxed_local()
                }
                (Operation::Push, _) => {
                    let input = input::round(records, count, |record| Ok(Raw::copy(record)))?;
                    self.send::<_, Ref>(channel, input.into_iter())
                }
                (Operation::Pull, Way::Struct) => {
                    self.send::<_, Tree>(channel, cids()?.into_iter().map(to_ref))
                }
                (Operation::Pull, _) => {
                    self.send::<_, Raw>(channel, cids()?.into_iter().map(to_ref))
                }
                (Operation::Lookup, _) => {
                    self.send::<_, Meta>(channel, cids()?.into_iter().map(to_ref))
                }
            },
            (Connection::Sdk(sdk), Operation::Push) => {
                let batches = batches(input::round(records, count, as_sdk)?);
                in_batches(batches, |batch| sdk.push(batch)).boxed_local()
            }
            (Connection::Sdk(sdk), _) => {
                let refs = cids()?.into_iter().map(|cid| core_v1::RecordRef {
                    cid: cid.to_string(),
                });
                let batches = batches(refs.collect());
                match operation {
                    Operation::Pull => in_batches(batches, |b| sdk.pull(b)).boxed_local(),
                    _ => in_batches(batches, |b| sdk.lookup(b)).boxed_local(),
                }
            }
            (Connection::Ours(client, options), Operation::Push) => {
                let input = stream::iter(input::round(records, count, input::copy)?);
                all_good(input.push_to_with(client, options)).boxed_local()
            }
            (Connection::Ours(client, options), Operation::Pull) => {
                let input = stream::iter(cids()?);
                all_good(input.pull_from_with(client, options)).boxed_local()
            }
            (Connection::Ours(client, options), Operation::Lookup) => {
                let input = stream::iter(cids()?);
                all_good(input.lookup_in_with(client, options)).boxed_local()
            }
        })
    }

    fn send<'a, Q, A>(
        &self,
        channel: &'a Channel,
        requests: impl Iterator<Item = Q> + Send + 'static,
    ) -> Run<'a>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        if self.way == Way::CallEach {
            by_hand_each::<Q, A>(channel, self.operation, requests).boxed_local()
        } else {
            by_hand::<Q, A>(channel, self.operation, stream::iter(requests)).boxed_local()
        }
    }

    /// Runs what was prepared.
    pub fn run(&self, run: Run<'_>) -> anyhow::Result<usize> {
        self.runtime.block_on(run)
    }

    /// Prepares and runs; what it cost.
    pub fn measure(&self, count: usize) -> anyhow::Result<Cost> {
        let run = self.prepare(count)?;
        let clock = Clock::start();
        let answers = self.run(run)?;
        let cost = clock.stop(count);
        ensure!(answers == count, "{answers} answers to {count} requests");
        Ok(cost)
    }

    /// The mean size of what is pushed or pulled.
    pub fn mean_size(&self) -> f64 {
        input::mean_size(&self.records)
    }
}

async fn sdk(url: &str) -> anyhow::Result<Sdk> {
    let config = Config {
        server_address: url.to_owned(),
        auth_mode: AuthMode::Insecure,
        ..Config::from_lookup("NOTHING_", |_| None)?
    };
    Ok(Sdk::new(config).await?)
}

/// A record in the SDK's own type.
fn as_sdk(record: &Record) -> anyhow::Result<core_v1::Record> {
    let data: serde_json::Value = record.try_into()?;
    Ok(serde_json::from_value(serde_json::json!({ "data": data }))?)
}

fn batches<T>(all: Vec<T>) -> Vec<Vec<T>> {
    let mut all = all.into_iter();
    let next = || Some(all.by_ref().take(SDK_BATCH).collect::<Vec<T>>());
    std::iter::from_fn(next)
        .take_while(|batch| !batch.is_empty())
        .collect()
}

async fn in_batches<Q, A, F>(
    batches: Vec<Vec<Q>>,
    call: impl Fn(Vec<Q>) -> F,
) -> anyhow::Result<usize>
where
    F: Future<Output = agntcy_dir::Result<Vec<A>>>,
{
    let mut count = 0;
    for batch in batches {
        count += black_box(call(batch).await?).len();
    }
    Ok(count)
}
