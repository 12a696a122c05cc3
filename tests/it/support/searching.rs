//! The messages about searches.

use agntcy_dir_stream::Record;
use prost::Message;

// The types of queries.
pub(crate) const NAME: i32 = 1;
pub(crate) const VERSION: i32 = 2;
pub(crate) const SKILL_ID: i32 = 3;
pub(crate) const SKILL_NAME: i32 = 4;
pub(crate) const LOCATOR: i32 = 5;
pub(crate) const MODULE_NAME: i32 = 6;
pub(crate) const DOMAIN_ID: i32 = 7;
pub(crate) const DOMAIN_NAME: i32 = 8;
pub(crate) const CREATED_AT: i32 = 9;
pub(crate) const AUTHOR: i32 = 10;
pub(crate) const SCHEMA_VERSION: i32 = 11;
pub(crate) const MODULE_ID: i32 = 12;
pub(crate) const VERIFIED: i32 = 13;
pub(crate) const TRUSTED: i32 = 14;
pub(crate) const ANNOTATION: i32 = 15;
pub(crate) const SCAN_SEVERITY: i32 = 17;
pub(crate) const SCAN_SAFE: i32 = 18;
pub(crate) const DESCRIPTION: i32 = 19;
pub(crate) const SCAN_STATUS: i32 = 20;
pub(crate) const IDENTITY_VERIFIED: i32 = 24;

// How what is found is sorted.
pub(crate) const RECENCY: i32 = 1;
pub(crate) const POPULARITY: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Search {
    #[prost(message, repeated, tag = "1")]
    pub(crate) queries: Vec<Query>,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) limit: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) offset: Option<u32>,
    #[prost(int32, tag = "4")]
    pub(crate) sort_mode: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Query {
    #[prost(int32, tag = "1")]
    pub(crate) r#type: i32,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
    #[prost(bool, tag = "3")]
    pub(crate) negate: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FoundCid {
    #[prost(string, tag = "1")]
    pub(crate) cid: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FoundRecord {
    #[prost(message, optional, tag = "1")]
    pub(crate) record: Option<Record>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Count {
    #[prost(uint32, tag = "1")]
    pub(crate) total: u32,
}

impl Query {
    pub(crate) fn new(r#type: i32, value: impl Into<String>) -> Self {
        Self {
            r#type,
            value: value.into(),
            negate: false,
        }
    }

    pub(crate) fn not(r#type: i32, value: impl Into<String>) -> Self {
        Self {
            negate: true,
            ..Self::new(r#type, value)
        }
    }
}

impl Search {
    pub(crate) fn of(queries: impl IntoIterator<Item = Query>) -> Self {
        Self {
            queries: queries.into_iter().collect(),
            ..Self::default()
        }
    }

    /// So many at most, behind so many others.
    pub(crate) fn page(self, offset: u32, limit: u32) -> Self {
        Self {
            limit: Some(limit),
            offset: Some(offset),
            ..self
        }
    }
}
