//! The messages about referrers.

use std::collections::BTreeMap;

use agntcy_dir_stream::Record;
use prost::Message;
use prost_types::Struct;

use super::messages::RecordRef;

pub(crate) const SIGNATURE: &str = "agntcy.dir.sign.v1.Signature";
pub(crate) const PUBLIC_KEY: &str = "agntcy.dir.sign.v1.PublicKey";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PushReferrer {
    #[prost(message, optional, tag = "1")]
    pub(crate) record: Option<RecordRef>,
    #[prost(string, tag = "2")]
    pub(crate) kind: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[prost(string, tag = "4")]
    pub(crate) created_at: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) data: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PushedReferrer {
    #[prost(bool, tag = "1")]
    pub(crate) success: bool,
    #[prost(string, optional, tag = "2")]
    pub(crate) error: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub(crate) referrer: Option<RecordRef>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PullReferrer {
    #[prost(message, optional, tag = "1")]
    pub(crate) record: Option<RecordRef>,
    #[prost(string, optional, tag = "2")]
    pub(crate) kind: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub(crate) referrer: Option<RecordRef>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PulledReferrer {
    #[prost(message, optional, tag = "1")]
    pub(crate) referrer: Option<Referrer>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Referrer {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) record: Option<RecordRef>,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[prost(string, tag = "4")]
    pub(crate) created_at: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) data: Option<Struct>,
    #[prost(message, optional, tag = "6")]
    pub(crate) referrer: Option<RecordRef>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeleteReferrer {
    #[prost(message, optional, tag = "1")]
    pub(crate) record: Option<RecordRef>,
    #[prost(message, optional, tag = "2")]
    pub(crate) referrer: Option<RecordRef>,
    #[prost(string, optional, tag = "3")]
    pub(crate) kind: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeletedReferrers {
    #[prost(message, repeated, tag = "1")]
    pub(crate) referrers: Vec<RecordRef>,
}

impl PushReferrer {
    /// A signature of this record. Each number gives another.
    pub(crate) fn signature(record: impl ToString, number: usize) -> Self {
        let data =
            serde_json::json!({"signature": "c2ln", "number": number, "list": [null, true, 1.5]});
        Self {
            record: Some(RecordRef::new(record)),
            kind: SIGNATURE.to_owned(),
            annotations: [("signed by".to_owned(), "<a@b>".to_owned())].into(),
            created_at: "2025-01-01T00:00:00Z".to_owned(),
            data: Some(data_of(data)),
        }
    }

    /// A public key, which has nothing but its type.
    pub(crate) fn public_key(record: impl ToString) -> Self {
        Self {
            record: Some(RecordRef::new(record)),
            kind: PUBLIC_KEY.to_owned(),
            ..Self::default()
        }
    }

    /// The CID that the server gives it: that of its canonical JSON, in which what is empty is left out.
    pub(crate) fn cid(&self) -> String {
        let mut content = serde_json::Map::new();
        let record = self.record.as_ref().expect("it is for a record");
        content.insert("record_ref".into(), serde_json::json!({"cid": record.cid}));
        content.insert("type".into(), self.kind.clone().into());
        if !self.annotations.is_empty() {
            content.insert("annotations".into(), serde_json::json!(self.annotations));
        }
        if !self.created_at.is_empty() {
            content.insert("created_at".into(), self.created_at.clone().into());
        }
        if let Some(data) = &self.data {
            let data: Record = data.try_into().expect("data that JSON has");
            content.insert("data".into(), data.try_into().expect("JSON"));
        }
        let content: Record = serde_json::Value::Object(content)
            .try_into()
            .expect("an object");
        content.cid().expect("a CID").to_string()
    }

    /// How it is pulled.
    pub(crate) fn pulled(&self) -> Referrer {
        let of = self.clone();
        Referrer {
            referrer: Some(RecordRef::new(self.cid())),
            kind: of.kind,
            record: of.record,
            annotations: of.annotations,
            created_at: of.created_at,
            data: of.data,
        }
    }
}

/// The data of a referrer, from its JSON.
pub(crate) fn data_of(json: serde_json::Value) -> Struct {
    let data: Record = json.try_into().expect("an object");
    (&data).try_into().expect("a Struct")
}
