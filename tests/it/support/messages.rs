//! The messages of DIR's store service and their gRPC framing.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use tonic::Code;

// The paths of the methods.
pub(crate) const PUSH: &str = "/agntcy.dir.store.v1.StoreService/Push";
pub(crate) const PULL: &str = "/agntcy.dir.store.v1.StoreService/Pull";
pub(crate) const LOOKUP: &str = "/agntcy.dir.store.v1.StoreService/Lookup";
pub(crate) const DELETE: &str = "/agntcy.dir.store.v1.StoreService/Delete";

/// A `RecordRef`. On the wire a `RecordMeta` with nothing but its CID is the same.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RecordRef {
    #[prost(string, tag = "1")]
    pub(crate) cid: String,
}

impl RecordRef {
    pub(crate) fn new(cid: impl ToString) -> Self {
        let cid = cid.to_string();
        Self { cid }
    }
}

/// What a lookup answers with.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RecordMeta {
    #[prost(string, tag = "1")]
    pub(crate) cid: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    pub(crate) schema_version: String,
    #[prost(string, tag = "4")]
    pub(crate) created_at: String,
}

impl RecordMeta {
    /// With this many annotations, which take ten bytes each.
    pub(crate) fn with_annotations(cid: impl ToString, count: usize) -> Self {
        let annotation = |number: usize| (format!("{number:06}"), String::new());
        Self {
            cid: cid.to_string(),
            annotations: (0..count).map(annotation).collect(),
            ..Self::default()
        }
    }
}

/// A gRPC message as it stands in a body.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::from(&[0][..]);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame.freeze()
}

/// A message in a field of another.
pub(crate) fn in_field(tag: u8, message: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    prost::encoding::encode_varint(message.len() as u64, &mut field);
    field.extend_from_slice(message);
    field
}

/// A message that says that it has so many bytes.
pub(crate) fn says(flag: u8, len: u32, message: &[u8]) -> Vec<u8> {
    [&[flag], &len.to_be_bytes()[..], message].concat()
}

/// Takes the next gRPC message from what was received, if it is there as a whole: the flag that says whether
/// it is compressed, and its bytes.
pub(crate) fn take_message(received: &mut BytesMut) -> Option<(u8, Bytes)> {
    let len = received.get(1..5)?.get_u32() as usize;
    if received.len() < 5 + len {
        return None;
    }
    let message = received.split_to(5 + len).freeze();
    Some((message[0], message.slice(5..)))
}

/// The beginning of a gRPC response.
pub(crate) fn grpc_response() -> http::response::Builder {
    http::Response::builder().header("content-type", "application/grpc")
}

/// The trailers that end a gRPC call.
pub(crate) fn trailers(code: Code, message: impl AsRef<[u8]>) -> http::HeaderMap {
    let message = http::HeaderValue::from_bytes(message.as_ref()).expect("a header value");
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", (code as i32).into());
    trailers.insert("grpc-message", message);
    trailers
}
