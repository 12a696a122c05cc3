//! What the connections of a store share: its content, faults, log and settings.

use std::sync::Arc;
use std::time::Duration;

use super::budget::Budget;
use super::call::Log;
use super::content::Content;
use super::events::Events;
use super::fault::Faults;
use super::identity::Authorize;
use super::publications::Publications;
use super::sparing::Sparing;
use crate::record::Record;

pub(super) struct Inner {
    pub(super) content: Content,
    pub(super) publications: Publications,
    pub(super) events: Events,
    pub(super) faults: Faults,
    pub(super) log: Arc<Log>,
    /// Of clients that break the rules.
    pub(super) warnings: Arc<Sparing>,
    pub(super) validate: Option<Box<Validate>>,
    pub(super) authorize: Option<Box<Authorize>>,
    pub(super) already_stored: AlreadyStored,
    /// It answers as server 1.2.0.
    pub(super) release_1_2: bool,
    pub(super) max_calls: u32,
    pub(super) max_connections: usize,
    pub(super) idle_timeout: Duration,
    pub(super) budget: Arc<Budget>,
    pub(super) compresses: bool,
    /// How long the line of a client over memory is.
    pub(super) round_trip: Duration,
}

pub(super) type Validate = dyn Fn(&Record) -> Validation + Send + Sync;

/// What a validator says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Validation {
    /// The record is good.
    Pass,
    /// The record is bad, for these reasons. The push ends with `InvalidArgument`.
    Refuse(Vec<String>),
    /// The validator itself failed, for this reason. The push ends with `Internal`
    /// `failed to validate record: …`, as when a real server cannot reach its schema service. A
    /// reason that ends in `HTTP 503` reads as an outage, one in `HTTP 404` as a schema version that
    /// nobody serves: see [`Verdict`](crate::Verdict).
    Fail(String),
}

/// What the store answers to a push of a record, or of a referrer, that it has already. Real servers differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AlreadyStored {
    /// `Internal`, which ends the call: a real server over a local folder, its default. For a referrer, which
    /// has a result of its own, no success, and `… already exists`.
    #[default]
    Error,
    /// The CID, as for a new one: a real server over a registry.
    Ref,
}
