//! The integration tests, one binary: linking the transport is slow.

#![allow(clippy::unwrap_used)]

mod adapters;
mod auto_traits;
mod cid;
mod record;
mod support;
mod wire;
