//! What the operations on refs have in common: how a CID goes out and comes back.
//!
//! The messages are those of `proto/agntcy/dir/core/v1/record.proto`, where a CID is a string. Here
//! it is written straight from its bytes, and read without a copy: on the wire that is the same.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

use crate::cid::Cid;
use crate::error::{Error, ErrorKind};
use crate::operation::Question;

/// What a ref takes in the window, in bytes: its CID. What else the caller's own type holds is
/// not known.
pub(crate) const SIZE: usize = size_of::<Cid>();

/// The method that looks records up.
pub(crate) const LOOKUP: &str = "/agntcy.dir.store.v1.StoreService/Lookup";

/// The tag of the CID in each of these messages.
const CID: u32 = 1;

/// A `RecordRef` on its way out. Without a CID it asks for nothing, which a server refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Request(pub(crate) Option<Cid>);

impl Message for Request {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if let Some(cid) = &self.0 {
            let text = cid.text();
            let text = text.as_bytes();
            encoding::encode_key(CID, WireType::LengthDelimited, buf);
            encoding::encode_varint(text.len() as u64, buf);
            buf.put_slice(text);
        }
    }

    fn encoded_len(&self) -> usize {
        self.0.as_ref().map_or(0, |cid| {
            let len = cid.text_len();
            encoding::key_len(CID) + encoding::encoded_len_varint(len as u64) + len
        })
    }

    fn clear(&mut self) {
        self.0 = None;
    }

    /// It is never read.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        encoding::skip_field(wire_type, tag, buf, ctx)
    }
}

/// A `RecordRef` as an answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Answer {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) cid: Bytes,
}

/// Asks whether a record is there.
pub(crate) enum IsThere {}

impl Question for IsThere {
    const METHOD: &'static str = LOOKUP;
    const MAX_ANSWER_LEN: usize = MAX_META_LEN;
    type Request = Request;
    type Answer = Answer;

    fn is_answered_by(request: &Request, answer: &Answer) -> bool {
        request.0.is_some() && cid_of(&answer.cid).ok() == request.0
    }

    fn record(request: &Request) -> Option<Cid> {
        request.0
    }
}

/// The longest answer in bytes that is read where it is a CID, or nothing: what a later server may add
/// is skipped.
pub(crate) const MAX_REF_LEN: usize = 4 << 10;

/// The longest metadata in bytes that are read.
pub(crate) const MAX_META_LEN: usize = 1 << 20;

/// Metadata up to this length in bytes wait in the window as they are read; longer ones as they came,
/// since many small annotations take thirty times as much.
const SHORT_META: usize = 4 << 10;

/// A `RecordMeta` as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RawMeta(Bytes);

impl Message for RawMeta {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn decode(mut buf: impl Buf) -> Result<Self, DecodeError> {
        Ok(Self(buf.copy_to_bytes(buf.remaining())))
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: WireType,
        _: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), DecodeError> {
        unreachable!("it is never read field by field")
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// Metadata in the window.
#[derive(Clone, Debug)]
pub(crate) enum KeptMeta {
    Short(Meta, usize),
    Long(RawMeta),
}

impl RawMeta {
    /// What it says, and how it is kept.
    pub(crate) fn read(self) -> Result<(Bytes, KeptMeta), DecodeError> {
        let meta = Meta::decode(self.0.clone())?;
        let cid = meta.cid.clone();
        let len = self.0.len();
        Ok((
            cid,
            match len <= SHORT_META {
                true => KeptMeta::Short(meta, len),
                false => KeptMeta::Long(self),
            },
        ))
    }
}

impl KeptMeta {
    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Short(_, len) => *len,
            Self::Long(raw) => raw.0.len(),
        }
    }

    pub(crate) fn into_meta(self) -> Meta {
        match self {
            Self::Short(meta, _) => meta,
            Self::Long(raw) => Meta::decode(raw.0).expect("it was read before"),
        }
    }
}

/// A `RecordMeta`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Meta {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) cid: Bytes,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    pub(crate) schema_version: String,
    #[prost(string, tag = "4")]
    pub(crate) created_at: String,
}

/// The CID in a server's answer, which the server must get right.
pub(crate) fn cid_of(text: &[u8]) -> Result<Cid, Error> {
    let no_cid = |error: Error| {
        Error::new(ErrorKind::Mismatch, "the server's answer has no CID").with_source(error)
    };
    let text =
        std::str::from_utf8(text).map_err(|error| no_cid(Error::invalid(error.to_string())))?;
    text.parse().map_err(no_cid)
}

/// Whether a server's answer is of this CID. If not, of which.
pub(crate) fn is_of(cid: &Cid, text: &[u8]) -> Result<Result<(), Cid>, Error> {
    if cid.is_text(text) {
        return Ok(Ok(()));
    }
    // It may be written otherwise.
    let answered = cid_of(text)?;
    Ok(if answered == *cid {
        Ok(())
    } else {
        Err(answered)
    })
}

/// Metadata that name this CID have to be of the record that was asked for.
pub(crate) fn must_be_of(asked: &Cid, named: &Bytes) -> Result<(), Error> {
    match is_of(asked, named)? {
        Ok(()) => Ok(()),
        Err(answered) => Err(Error::new(
            ErrorKind::Mismatch,
            format!("asked for {asked}, the server answered for {answered}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::proto::core::{RecordMeta, RecordRef};
    use crate::record::Record;

    fn cid() -> Cid {
        let record: Record = r#"{"name": "a"}"#.parse().unwrap();
        record.cid().unwrap()
    }

    #[test]
    fn they_are_the_protos_messages() {
        let text = cid().to_string();
        let proto = RecordRef { cid: text.clone() };
        let request = Request(Some(cid()));
        assert_eq!(request.encode_to_vec(), proto.encode_to_vec());
        assert_eq!(request.encoded_len(), proto.encoded_len());
        assert_eq!(Request(None).encode_to_vec(), b"");
        let answer = Answer::decode(proto.encode_to_vec().as_slice()).unwrap();
        assert_eq!(answer.cid, text);

        let proto = RecordMeta {
            cid: text.clone(),
            annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            schema_version: "1.0.0".to_owned(),
            created_at: "today".to_owned(),
        };
        let meta = Meta::decode(proto.encode_to_vec().as_slice()).unwrap();
        assert_eq!(meta.cid, text);
        assert_eq!(meta.encode_to_vec(), proto.encode_to_vec());
    }

    #[test]
    fn metadata_are_the_same_whether_they_are_short_or_long() {
        for count in [1, 3_000] {
            let entry = |number: usize| (format!("{number}"), "b".to_owned());
            let proto = RecordMeta {
                cid: cid().to_string(),
                annotations: (0..count).map(entry).collect(),
                schema_version: "1.0.0".to_owned(),
                created_at: "today".to_owned(),
            };
            let wire = proto.encode_to_vec();
            let (own, kept) = RawMeta::decode(wire.as_slice()).unwrap().read().unwrap();
            assert_eq!(own, proto.cid);
            assert_eq!(kept.len(), wire.len());
            assert_eq!(matches!(kept, KeptMeta::Long(_)), count > 1);
            let meta = kept.into_meta();
            assert_eq!(meta.annotations, proto.annotations);
            assert_eq!(
                (meta.schema_version, meta.created_at),
                (proto.schema_version, proto.created_at)
            );
        }
        for broken in [&b"\x12\x05\x0a\x09a"[..], b"\x1a\x01\xff"] {
            assert!(RawMeta::decode(broken).unwrap().read().is_err());
        }
    }

    #[test]
    fn an_answer_may_write_the_cid_in_another_base() {
        let upper = cid().to_string().to_uppercase();
        assert_eq!(is_of(&cid(), cid().to_string().as_bytes()).unwrap(), Ok(()));
        assert_eq!(is_of(&cid(), upper.as_bytes()).unwrap(), Ok(()));
        let other: Record = r#"{"name": "b"}"#.parse().unwrap();
        let other = other.cid().unwrap();
        assert_eq!(is_of(&other, upper.as_bytes()).unwrap(), Err(cid()));
        for bad in [&b""[..], b"bad", b"\xff"] {
            let error = is_of(&other, bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Mismatch);
        }
    }
}
