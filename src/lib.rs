//! Stream adapters for the AGNTCY Directory (DIR), the open registry of AI-agent records.
//!
//! Search, pull, push, look up, sign, publish and delete records in bulk, from inside a pipeline: extension traits on
//! [`Stream`], each with a method that turns a stream of items into a stream of results.
//!
//! ```
//! use agntcy_dir_stream::prelude::*;
//! use futures::{StreamExt, stream};
//!
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let records = stream::iter([
//!     r#"{"name": "a", "version": "1", "schema_version": "1.0.0"}"#.parse::<Record>()?,
//!     r#"{"name": "this one lacks a schema version"}"#.parse()?,
//! ]);
//! let mut results = records.push_to(&client);
//! while let Some(result) = results.next().await {
//!     match result {
//!         Ok(pushed) => println!("{} {}", pushed.index, pushed.cid),
//!         Err(failed) => eprintln!("{failed}, in {:?}", failed.input),
//!     }
//! }
//! # Ok(())
//! # }
//! # #[cfg(feature = "server")]
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! #     example(agntcy_dir_stream::server::Store::new().client()).await.unwrap();
//! # });
//! ```
//!
//! | | a stream of | gives, for each item |
//! |---|---|---|
//! | [`push_to`](PushExt::push_to) | [`Record`] | its CID: [`Pushed`] |
//! | [`pull_from`](PullExt::pull_from) | [`ToCid`] | the record: [`Pulled`] |
//! | [`lookup_in`](LookupExt::lookup_in) | [`ToCid`] | its metadata: [`Found`] |
//! | [`exists_in`](ExistsExt::exists_in) | [`ToCid`] | whether the record is there: [`Existence`] |
//! | [`delete_from`](DeleteExt::delete_from) | [`ToCid`] | that it is gone: [`Deleted`] |
//! | [`push_referrers_to`](PushReferrersExt::push_referrers_to) | [`Referrer`] | that it is stored beside its record: [`PushedReferrer`] |
//! | [`pull_referrers_from`](PullReferrersExt::pull_referrers_from) | [`ToReferrers`] | the record's referrers: [`PulledReferrers`] |
//! | [`delete_referrers_from`](DeleteReferrersExt::delete_referrers_from) | [`ToReferrers`] | what was deleted: [`DeletedReferrers`] |
//! | [`sign_with`](SignExt::sign_with) | the results of a push | its signatures, made by a function of yours and pushed: [`Signed`] |
//! | [`publish_to`](PublishExt::publish_to) | [`ToCid`] | that it is queued to be published: [`Published`] |
//! | [`unpublish_from`](UnpublishExt::unpublish_from) | [`ToCid`] | that it is no longer published: [`Unpublished`] |
//! | [`through`](ThroughExt::through) | inputs of an [`Operation`](operation::Operation) | what that makes of the answer: any method of any gRPC service |
//!
//! Items may also be pairs `(item, T)`: the tag `T` comes back with the result. Each method has a form with `_with` (or
//! `_with_options`) that takes [`Options`], and all but `sign_with` have forms with `try_` over inputs that can fail,
//! such as the results of another adapter. For a single item there are methods on the [`Client`]; for services in which
//! many have one now and then, [`Client::pusher`]. The [`cookbook`] has recipes for pipelines.
//!
//! Pipelines begin with what a server has. These are methods of the [`Client`], each of which gives a [`Source`]:
//!
//! | | gives |
//! |---|---|
//! | [`search`](Client::search) | the CIDs of the records that match a [`Query`], each once; the list is whole, or ends with an error |
//! | [`listen`](Client::listen) | [`Event`]s as they come, and each [`Gap`] in which some may have been missed |
//! | [`follow`](Client::follow) | what there is, and then each [`Change`]; where events may be missing it lists again |
//!
//! # What every adapter promises
//!
//! 1. Exactly one result for each input item, with its index, in input order unless
//!    [`Options::unordered`] says otherwise; and it is true, if the server keeps to the protocol.
//! 2. A bad record fails alone. A DIR server ends a call at its first error; the adapter gives
//!    that error to the record it belongs to, opens a new call and goes on with those after it.
//!    Nothing that was answered is sent again, but for one item where it has to tell an outage from
//!    records at fault ([`Retry`]). When the call breaks, what became of the records in
//!    it is found out, and the rest is tried again as [`Retry`] says.
//! 3. A failed result ([`Failed`]) gives back what was put in: the record or ref, its tag, its
//!    index, and how often it was tried. It is a [`std::error::Error`].
//! 4. Nothing happens before the first poll. The adapter is no task, and spawns none (a connection is
//!    one, and [`Options::verify_threads`] has CIDs computed elsewhere): the input is polled in place,
//!    so it may borrow and need not be `Send`; the adapter is `Send` whenever the input and its
//!    items are.
//! 5. An item is taken only when there is room in the window ([`Options::window`], in items and
//!    bytes), so a slow server or a paused consumer stops the input.
//! 6. Dropped is cancelled: its calls are reset on the wire, without ever looking finished; at once,
//!    unless HTTP/2's flow control has not one byte to spare, and then with the server's next window
//!    update. A stream that is read to its end does not reset a call that the server ends, too.
//!    Beside these ends there are [`finish`](Adapter::finish), [`drain`](Adapter::drain) and
//!    [`into_remainder`](Adapter::into_remainder).
//! 7. `next()` is cancel-safe: no result is lost in a `select!`.
//! 8. [`FusedStream`], honest `size_hint`, a bounded amount of work per poll; any runtime flavour
//!    of tokio.
//!
//! # What goes in
//!
//! | | where |
//! |---|---|
//! | errors of the input, and stages that feed each other | [`TryFailed`] |
//! | records that are stored already | [`Options::skip_stored`], [`PushItem::skip_if`] |
//! | items that come twice | [`Options::dedup`] |
//! | rules of yours | [`PushItem::precheck`] |
//! | how many a second | [`Options::rate`] |
//!
//! # When things break
//!
//! | | where |
//! |---|---|
//! | what is tried again, how often, how long | [`Retry`], [`Options::retry`] |
//! | what the end of a call says, and about whom | [`Verdict`] |
//! | what each outcome says about the server | [`ErrorKind`] |
//! | what happens while the server is away | [`CircuitBreaker`] |
//! | calls that stall, grow old, or have nothing to do | [`Options`] |
//! | what has been done so far | [`Stats`], [`Handle`] |
//! | where a restart goes on, and what `kill -9` repeats | [`Checkpoint`] |
//! | stopping, and what is left then | [`Adapter`], [`Handle`], [`Remainder`] |
//!
//! # Speed
//!
//! | | where |
//! |---|---|
//! | several calls side by side, where a record takes the server time | [`Options::calls`] |
//! | several connections, several nodes of a directory | [`Client::with_connections`], [`Client::with_nodes_of`] |
//! | how far calls run ahead, and what that does where records are bad | [`Options::window`], [`Options::in_flight`] |
//! | checking, which is most of the CPU time, and on how many threads | [`Options::verify`], [`Options::verify_threads`] |
//!
//! # Connections
//!
//! | | where |
//! |---|---|
//! | a URL, TLS, client certificates, headers | [`Client::connect`], [`ClientBuilder`] |
//! | tokens that expire | [`Token`] |
//! | the variables of DIR's own clients | [`Client::from_env`] |
//! | Unix sockets, proxies, and other ways to connect | [`ClientBuilder::connector`] |
//! | a channel of your own | [`Client::from_service`] |
//!
//! # Seen from outside
//!
//! [`Handle`] has the counts of an adapter, and the last fault in words. With the feature `metrics`, the recorder of
//! the `metrics` crate is told as well: `describe_metrics` has the table. `examples/service.rs` shows both to
//! Prometheus.
//!
#![doc = include_str!("logs.md")]
//!
//! # Features
//!
//! - `tls` (on by default): `https`, with [rustls](https://docs.rs/rustls) and the system's CAs.
//! - `metrics`: counts, levels and times for the recorder of the [metrics](https://docs.rs/metrics) crate.
//! - `spiffe`: X.509 and JWT SVIDs from the Workload API, in `Spiffe`.
//! - `server`: an embedded store to try things out and to test against, with faults on demand.
//! - `gzip`, `zstd`: [`Compression`] of calls, for slow lines. `zstd` is a C library.
//! - `cli`: `dirstream`, a program that does all this in a shell.
//!
//! # What it does not do
//!
#![doc = include_str!("limits.md")]
//!
//! [`Stream`]: futures_core::Stream
//! [`FusedStream`]: futures_core::FusedStream

// On docs.rs, what a feature brings is marked with its name.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod breaker;
mod causes;
pub mod checkpoint;
mod cid;
mod client;
mod delete;
mod engine;
mod error;
mod escape;
mod exists;
mod failed;
mod follow;
mod forms;
mod handle;
mod item;
mod later;
mod listen;
mod lookup;
mod meter;
pub mod operation;
mod options;
mod outage;
pub mod prelude;
mod proto;
mod publish;
mod pull;
mod push;
mod pusher;
mod record;
mod record_ref;
mod referrers;
mod retry;
mod runtime;
mod search;
#[cfg(feature = "server")]
pub mod server;
mod single;
mod stats;
mod through;
mod unpublish;
mod unreachable;
mod verdict;

// It holds nothing but text. Its recipes need the embedded store.
#[cfg(any(doc, all(doctest, feature = "server")))]
#[doc = include_str!("cookbook.md")]
pub mod cookbook {}

pub use tonic::{Code, Status};

pub use crate::breaker::CircuitBreaker;
pub use crate::checkpoint::Checkpoint;
pub use crate::cid::Cid;
#[cfg(feature = "spiffe")]
pub use crate::client::Spiffe;
pub use crate::client::{Client, ClientBuilder, Compression, Token};
pub use crate::delete::{DeleteExt, DeleteResult, Deleted, TryDeleteResult};
pub use crate::engine::{Adapter, BoxAdapter, ItemResult, Leftover, Remainder, Source};
pub use crate::error::{Error, ErrorKind};
pub use crate::exists::{Existence, ExistsExt, ExistsResult, TryExistsResult};
pub use crate::failed::{Failed, InputError, TryFailed};
pub use crate::follow::{Change, FollowResult};
pub use crate::handle::Handle;
pub use crate::item::{Item, Prepared, PushItem, Tagged, ToCid};
pub use crate::listen::{Event, EventFilter, EventKind, Gap, Heard, ListenResult};
pub use crate::lookup::{Found, LookupExt, LookupResult, TryLookupResult};
#[cfg(feature = "metrics")]
pub use crate::meter::describe_metrics;
pub use crate::options::Options;
pub use crate::publish::{
    Publication, PublishExt, PublishResult, PublishStatus, Published, TryPublishResult,
};
pub use crate::pull::{PullExt, PullResult, Pulled, TryPullResult};
pub use crate::push::{PushExt, PushResult, Pushed, TryPushResult};
pub use crate::pusher::Pusher;
pub use crate::record::{MAX_RECORD_LEN, Record};
pub use crate::referrers::{
    DeleteReferrersExt, DeleteReferrersResult, DeletedReferrers, PullReferrersExt,
    PullReferrersResult, PulledReferrers, PushReferrerResult, PushReferrersExt, PushedReferrer,
    Referrer, ReferrersOf, SignExt, SignFailed, SignResult, Signed, Signing, ToReferrers,
    TryDeleteReferrersResult, TryPullReferrersResult, TryPushReferrerResult,
};
pub use crate::retry::Retry;
pub use crate::search::{Query, SearchResult, Sort};
pub use crate::stats::{FirstFailure, Stats, Summary};
pub use crate::through::{ThroughExt, ThroughResult, TryThroughResult};
pub use crate::unpublish::{TryUnpublishResult, UnpublishExt, UnpublishResult, Unpublished};
pub use crate::verdict::Verdict;

/// The target of all that is told to the log.
pub(crate) const LOG: &str = "agntcy_dir_stream";

/// Runs the README's example.
#[cfg(all(doctest, feature = "server", feature = "tls"))]
#[doc = include_str!("../README.md")]
struct Readme;
