//! The messages about events.

use std::collections::BTreeMap;

use prost::Message;

// The types of events.
pub(crate) const PUSHED: i32 = 1;
pub(crate) const PULLED: i32 = 2;
pub(crate) const DELETED: i32 = 3;
pub(crate) const PUBLISHED: i32 = 4;
pub(crate) const UNPUBLISHED: i32 = 5;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Listen {
    #[prost(int32, repeated, tag = "1")]
    pub(crate) types: Vec<i32>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) labels: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) cids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Heard {
    #[prost(message, optional, tag = "1")]
    pub(crate) event: Option<Event>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Event {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(int32, tag = "2")]
    pub(crate) r#type: i32,
    #[prost(message, optional, tag = "3")]
    pub(crate) time: Option<prost_types::Timestamp>,
    #[prost(string, tag = "4")]
    pub(crate) resource_id: String,
    #[prost(string, repeated, tag = "5")]
    pub(crate) labels: Vec<String>,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(crate) metadata: BTreeMap<String, String>,
}
