//! The messages, as `proto/agntcy/dir/store/v1/store_service.proto` describes them: their data stay bytes, and CIDs are
//! written from their own.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::encoding;

use super::{Referrer, ReferrersOf};
use crate::error::Error;
use crate::record::Record;
use crate::record_ref::{self, Request as RecordRef};

/// A `PushReferrerRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PushRequest {
    #[prost(message, optional, tag = "1")]
    record_ref: Option<RecordRef>,
    #[prost(string, tag = "2")]
    referrer_type: String,
    #[prost(btree_map = "string, string", tag = "3")]
    annotations: BTreeMap<String, String>,
    #[prost(string, tag = "4")]
    created_at: String,
    #[prost(bytes = "bytes", optional, tag = "5")]
    data: Option<Bytes>,
}

impl PushRequest {
    /// How long the message is that this would be, in bytes.
    pub(super) fn len(referrer: &Referrer) -> usize {
        let text = |tag, text: &String| match text.is_empty() {
            true => 0,
            false => encoding::string::encoded_len(tag, text),
        };
        let len = encoding::string::encoded_len;
        let data = referrer.data.data();
        encoding::message::encoded_len(1, &RecordRef(Some(referrer.record)))
            + text(2, &referrer.referrer_type)
            + encoding::btree_map::encoded_len(len, len, 3, &referrer.annotations)
            + text(4, &referrer.created_at)
            + data.map_or(0, |data| encoding::bytes::encoded_len(5, data))
    }

    pub(super) fn of(referrer: &Referrer) -> Self {
        Self {
            record_ref: Some(RecordRef(Some(referrer.record))),
            referrer_type: referrer.referrer_type.clone(),
            annotations: referrer.annotations.clone(),
            created_at: referrer.created_at.clone(),
            data: referrer.data.data().cloned(),
        }
    }
}

/// A `PushReferrerResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PushAnswer {
    #[prost(bool, tag = "1")]
    pub(super) success: bool,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
    #[prost(message, optional, tag = "3")]
    pub(super) referrer_ref: Option<record_ref::Answer>,
}

/// A `PullReferrerRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PullRequest {
    #[prost(message, optional, tag = "1")]
    record_ref: Option<RecordRef>,
    #[prost(string, optional, tag = "2")]
    referrer_type: Option<String>,
    #[prost(message, optional, tag = "3")]
    referrer_ref: Option<RecordRef>,
}

impl PullRequest {
    pub(super) fn of(referrers: &ReferrersOf) -> Self {
        Self {
            record_ref: Some(RecordRef(Some(referrers.record))),
            referrer_type: referrers.referrer_type.clone(),
            referrer_ref: referrers.referrer.map(|cid| RecordRef(Some(cid))),
        }
    }
}

/// A `PullReferrerResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PullAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) referrer: Option<RecordReferrer>,
}

/// A `RecordReferrer`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RecordReferrer {
    #[prost(string, tag = "1")]
    referrer_type: String,
    #[prost(message, optional, tag = "2")]
    pub(super) record_ref: Option<record_ref::Answer>,
    #[prost(btree_map = "string, string", tag = "3")]
    annotations: BTreeMap<String, String>,
    #[prost(string, tag = "4")]
    created_at: String,
    #[prost(bytes = "bytes", optional, tag = "5")]
    data: Option<Bytes>,
    #[prost(message, optional, tag = "6")]
    referrer_ref: Option<record_ref::Answer>,
}

impl RecordReferrer {
    /// What is known of it, as one of those that were asked for.
    pub(super) fn read(self, asked: &ReferrersOf) -> Result<Referrer, Error> {
        let cid = |named: record_ref::Answer| record_ref::cid_of(&named.cid);
        let named = self.referrer_ref.filter(|named| !named.cid.is_empty());
        Ok(Referrer {
            record: asked.record,
            referrer_type: self.referrer_type,
            data: self.data.map_or_else(Record::default, Record::with_data),
            annotations: self.annotations,
            created_at: self.created_at,
            cid: named.map(cid).transpose()?,
        })
    }
}

/// A `DeleteReferrerRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DeleteRequest {
    #[prost(message, optional, tag = "1")]
    record: Option<RecordRef>,
    #[prost(message, optional, tag = "2")]
    referrer_ref: Option<RecordRef>,
    #[prost(string, optional, tag = "3")]
    referrer_type: Option<String>,
}

impl DeleteRequest {
    pub(super) fn of(referrers: &ReferrersOf) -> Self {
        Self {
            record: Some(RecordRef(Some(referrers.record))),
            referrer_ref: referrers.referrer.map(|cid| RecordRef(Some(cid))),
            referrer_type: referrers.referrer_type.clone(),
        }
    }
}

/// A `DeleteReferrerResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DeleteAnswer {
    #[prost(message, repeated, tag = "1")]
    pub(super) referrer_refs: Vec<record_ref::Answer>,
}
