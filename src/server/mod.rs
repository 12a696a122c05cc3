//! The embedded store: a DIR server in this process (feature `server`).
//!
//! It answers over the same wire as a real server, message by message: the same statuses, the
//! same limits, in order, with the call ended at the first error. It keeps records in memory, and
//! validates only what needs no schema service: that there is data, a `schema_version` and a
//! `name`. [`Builder::validate`] adds more.
//!
//! What is to be published is queued, as on a real server, and [`Store::run_publications`] is the worker.
//!
//! It searches as a DIR server does, by all that a query can be about, and tells what happens to those who listen:
//! the records that clients push, pull, delete and publish, and what [`Store::insert`], [`Store::remove`] and
//! [`Store::clear`] do, as if another client had done it. No record of it was ever verified, scanned or claimed, so queries
//! for such find none. Where servers of release 1.2 know less, [`Builder::release_1_2`] has it do so, too.
//!
//! Use it to try things out, as the peer in your tests, and with [`Fault`]s on demand for what
//! should not happen but does. [`Store::client`] is a client over memory, with no port at all;
//! [`Store::listen`] is a server that any DIR client can talk to, as is
//! `cargo run --release --features server --example store`; and [`Store::serve`] serves what carries bytes otherwise.
//!
//! What clients can take of it is bounded, beside the records that they store: half-sent messages,
//! answers not taken, resets, idle connections ([`Builder`]). So is how long one of them can keep it from the others,
//! for which it does not do all that a real server does:
//!
//! - A search that compares too much is refused with `InvalidArgument`. It may compare 8 million letters and numbers,
//!   and 8,192 more for each record that is stored.
//! - A call that listens with more than 4,096 filters is refused with `InvalidArgument`.
//! - An event is lost to a listener that has no room for it ([`Builder::event_buffer`]), or whose filters would have to
//!   be compared with too many labels: 16 million letters for all listeners together.
//!
//! ```
//! use agntcy_dir_stream::prelude::*;
//! use agntcy_dir_stream::server::{Fault, Store};
//! use agntcy_dir_stream::{ErrorKind, Status};
//! use futures::{StreamExt, stream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), agntcy_dir_stream::Error> {
//! let store = Store::new();
//! store.inject(Fault::status(Status::invalid_argument("not today")).at(1));
//!
//! let record = |name| Record::from_json(format!(r#"{{"name": "{name}", "schema_version": "1"}}"#));
//! let records = stream::iter([record("a")?, record("b")?, record("c")?]);
//! let client = store.client();
//! let results: Vec<_> = records.push_to(&client).collect().await;
//!
//! assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::Rejected);
//! assert_eq!(store.len(), 2);
//! assert_eq!(store.calls().len(), 2);
//! # Ok(())
//! # }
//! ```

// The files stand in layers; each uses only those above it.
//
// 1. steps, pattern, search (what a record is found by), content, budget, publications, events, call (the log), fault,
//    preface, gate, encoding, identity, sparing, misuse, control
// 2. inner: what all connections of a store share
// 3. answers, referrers, routing: what the store says to each request
// 4. live, messages, body: a call that runs, and what comes and goes in it
// 5. service: how a call runs; listings: one that lists; unary: one that has a single request
// 6. connection
// 7. listen, memory (over a line that may be long): where connections come from
// 8. store: the public face

mod answers;
mod body;
mod budget;
mod call;
mod connection;
mod content;
mod control;
mod encoding;
mod events;
mod fault;
mod gate;
mod identity;
mod inner;
mod line;
mod listen;
mod listings;
mod live;
mod memory;
mod messages;
mod misuse;
mod pattern;
mod preface;
mod publications;
mod referrers;
mod routing;
mod search;
mod service;
mod sparing;
mod steps;
mod store;
#[cfg(test)]
mod tests;
mod unary;

pub use self::call::{Call, End, Method};
pub use self::fault::Fault;
pub use self::inner::{AlreadyStored, Validation};
pub use self::listen::Serving;
pub use self::store::{Builder, Store};
