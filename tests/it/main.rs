//! The integration tests, one binary: linking the transport is slow.

#![allow(clippy::unwrap_used)]

mod adapters;
#[cfg(feature = "server")]
mod at_fault;
mod auto_traits;
#[cfg(feature = "server")]
mod batches;
#[cfg(feature = "server")]
mod call_each;
#[cfg(feature = "server")]
mod checkpoints;
mod cid;
#[cfg(any(feature = "gzip", feature = "zstd"))]
mod compression;
#[cfg(feature = "server")]
mod conformance;
#[cfg(feature = "server")]
mod connect;
#[cfg(feature = "server")]
mod connectors;
#[cfg(all(feature = "cli", feature = "server"))]
mod dirstream;
#[cfg(feature = "server")]
mod duplicates;
#[cfg(feature = "server")]
mod endless;
#[cfg(feature = "server")]
mod ends;
#[cfg(feature = "server")]
mod env;
#[cfg(feature = "server")]
mod erased;
#[cfg(feature = "server")]
mod fallible;
#[cfg(feature = "server")]
mod faults;
#[cfg(feature = "server")]
mod follow;
#[cfg(feature = "server")]
mod github_actions;
mod guarantees;
#[cfg(feature = "server")]
mod handles;
mod hostile_servers;
#[cfg(feature = "server")]
mod lanes;
mod layers;
mod ledger;
#[cfg(feature = "server")]
mod listen;
#[cfg(feature = "server")]
mod logs;
#[cfg(all(feature = "metrics", feature = "server"))]
mod metrics;
#[cfg(feature = "server")]
mod mirror;
#[cfg(feature = "server")]
mod misses;
mod must_not_compile;
#[cfg(feature = "server")]
mod network;
mod operations;
mod options;
#[cfg(feature = "server")]
mod pipeline;
#[cfg(feature = "server")]
mod publishing;
#[cfg(feature = "server")]
mod pusher;
#[cfg(feature = "server")]
mod rate;
mod real;
#[cfg(feature = "spiffe")]
mod real_spiffe;
mod record;
mod recovery;
#[cfg(feature = "server")]
mod referrers;
mod routes;
#[cfg(feature = "server")]
mod search;
#[cfg(all(feature = "metrics", feature = "server"))]
mod service;
#[cfg(feature = "server")]
mod shared_client;
#[cfg(feature = "server")]
mod signing;
#[cfg(feature = "server")]
mod skip_stored;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(feature = "server")]
mod spawned;
#[cfg(all(feature = "server", feature = "spiffe", unix))]
mod spiffe;
mod statuses;
#[cfg(feature = "server")]
mod store;
#[cfg(feature = "server")]
mod store_attacks;
#[cfg(feature = "server")]
mod store_events;
#[cfg(feature = "server")]
mod store_limits;
#[cfg(feature = "server")]
mod store_publishing;
#[cfg(feature = "server")]
mod store_referrers;
#[cfg(feature = "server")]
mod store_search;
mod support;
#[cfg(all(feature = "server", feature = "tls"))]
mod tls;
#[cfg(feature = "server")]
mod token_faults;
#[cfg(feature = "server")]
mod tokens;
mod transports;
mod typed;
#[cfg(feature = "server")]
mod unused_connections;
mod verdicts;
#[cfg(feature = "server")]
mod verify_threads;
#[cfg(feature = "server")]
mod waits;
mod wire;
