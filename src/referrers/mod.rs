//! Referrers: documents that are kept beside a record and refer to it, such as signatures.

mod delete;
mod pull;
mod push;
mod sign;
mod wire;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

pub use self::delete::{
    DeleteReferrersExt, DeleteReferrersResult, DeletedReferrers, TryDeleteReferrersResult,
};
pub use self::pull::{
    PullReferrersExt, PullReferrersResult, PulledReferrers, TryPullReferrersResult,
};
pub use self::push::{PushReferrerResult, PushReferrersExt, PushedReferrer, TryPushReferrerResult};
pub use self::sign::{SignExt, SignFailed, SignResult, Signed, Signing};
use crate::cid::Cid;
use crate::error::Error;
use crate::item::{self, Prepared, Tagged, ToCid};
use crate::record::Record;

/// A document that a directory keeps beside a record, such as its signature.
///
/// Its data are a JSON object, kept as wire bytes as a [`Record`] keeps its own, so that is their type. As records, two
/// are equal (`==`) if their wire bytes are; a server may write the same object in another order.
///
/// ```
/// use agntcy_dir_stream::{Cid, Record, Referrer};
///
/// # let cid = Record::from_json(r#"{"name": "a"}"#)?.cid()?;
/// let data = Record::from_json(r#"{"signature": "MEUCIQD…", "algorithm": "ECDSA_P256_SHA256"}"#)?;
/// let mut signature = Referrer::new(cid, Referrer::SIGNATURE, data);
/// signature.created_at = "2026-01-01T00:00:00Z".into();
/// # Ok::<_, agntcy_dir_stream::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Referrer {
    /// The record that it refers to.
    pub record: Cid,
    /// What it is: the full name of one of DIR's message types.
    pub referrer_type: String,
    /// What it says. A record [without data](Record::data) stands for none.
    pub data: Record,
    /// Annotations of it.
    pub annotations: BTreeMap<String, String>,
    /// When it was made: RFC 3339 by convention, unchecked. May be empty.
    pub created_at: String,
    /// Its own CID, if a server has told it. It is not sent.
    pub cid: Option<Cid>,
}

impl Referrer {
    /// The type of a signature of a record.
    pub const SIGNATURE: &'static str = "agntcy.dir.sign.v1.Signature";
    /// The type of a public key with which signatures of the record can be verified.
    pub const PUBLIC_KEY: &'static str = "agntcy.dir.sign.v1.PublicKey";
    /// The type of a report of what a scanner has found. A server of version 1.2.0 does not know it.
    pub const SCAN_REPORT: &'static str = "agntcy.dir.security.v1.ScanReport";

    /// A referrer without annotations and time. The other fields can be set afterwards.
    #[must_use]
    pub fn new(record: Cid, referrer_type: impl Into<String>, data: Record) -> Self {
        Self {
            record,
            referrer_type: referrer_type.into(),
            data,
            annotations: BTreeMap::new(),
            created_at: String::new(),
            cid: None,
        }
    }

    /// The CID that a DIR server 1.2.0 gives it: of the canonical JSON of all that it has.
    fn own_cid(&self) -> Result<Cid, Error> {
        #[derive(Serialize)]
        struct Document<'a> {
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            annotations: &'a BTreeMap<String, String>,
            #[serde(skip_serializing_if = "str::is_empty")]
            created_at: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a Record>,
            record_ref: RecordRef,
            r#type: &'a str,
        }
        #[derive(Serialize)]
        struct RecordRef {
            cid: String,
        }
        let document = Document {
            annotations: &self.annotations,
            created_at: &self.created_at,
            data: self.data.data().map(|_| &self.data),
            record_ref: RecordRef {
                cid: self.record.to_string(),
            },
            r#type: &self.referrer_type,
        };
        Record::from_serialize(&document)?.cid()
    }
}

/// Shows what it is, not what is in it.
impl fmt::Debug for Referrer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Referrer")
            .field("record", &self.record)
            .field("referrer_type", &self.referrer_type)
            .field("created_at", &self.created_at)
            .field("cid", &self.cid)
            .finish_non_exhaustive()
    }
}

/// Which referrers of a record: all, those of a type, or one.
///
/// ```
/// use agntcy_dir_stream::{Record, Referrer, ReferrersOf};
///
/// # let record = Record::from_json(r#"{"name": "a"}"#)?.cid()?;
/// let signatures = ReferrersOf::new(record).of_type(Referrer::SIGNATURE);
/// # let _ = signatures;
/// # Ok::<_, agntcy_dir_stream::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct ReferrersOf {
    record: Cid,
    referrer_type: Option<String>,
    referrer: Option<Cid>,
}

impl ReferrersOf {
    /// All of this record.
    pub fn new(record: Cid) -> Self {
        Self {
            record,
            referrer_type: None,
            referrer: None,
        }
    }

    /// Those of this type alone, such as [`Referrer::SIGNATURE`].
    pub fn of_type(mut self, referrer_type: impl Into<String>) -> Self {
        self.referrer_type = Some(referrer_type.into());
        self
    }

    /// The one of this CID alone, which [`PushedReferrer::cid`] or [`Referrer::cid`] tells.
    pub fn only(mut self, referrer: Cid) -> Self {
        self.referrer = Some(referrer);
        self
    }
}

impl Tagged for ReferrersOf {
    type Input = Self;
    type Tag = ();

    fn prepare(self) -> Prepared<Self, ()> {
        Prepared::new(self, ())
    }
}

impl<T> Tagged for (ReferrersOf, T) {
    type Input = ReferrersOf;
    type Tag = T;

    fn prepare(self) -> Prepared<ReferrersOf, T> {
        Prepared::new(self.0, self.1)
    }
}

impl item::sealed::Sealed for ReferrersOf {}
impl<T> item::sealed::Sealed for (ReferrersOf, T) {}

/// What says which referrers are meant: [`ReferrersOf`], or any ref ([`ToCid`]), which stands for all of its record.
/// For these it is implemented already; a type of yours implements `ToCid`, or is made a `ReferrersOf`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which referrers are meant",
    label = "items are refs, `ReferrersOf`, or these with a tag",
    note = "a ref is a `Cid`, its text, a `Record`, or a type of yours that implements `ToCid`",
    note = "borrowed `ReferrersOf`: use `.cloned()`"
)]
pub trait ToReferrers: sealed::Sealed {
    /// Which referrers.
    ///
    /// # Errors
    ///
    /// Of kind [`Invalid`](crate::ErrorKind::Invalid), where there is no CID.
    fn to_referrers(&self) -> Result<ReferrersOf, Error>;
}

impl<R: ToCid> ToReferrers for R {
    fn to_referrers(&self) -> Result<ReferrersOf, Error> {
        self.to_cid().map(ReferrersOf::new)
    }
}

impl ToReferrers for ReferrersOf {
    fn to_referrers(&self) -> Result<ReferrersOf, Error> {
        Ok(self.clone())
    }
}

mod sealed {
    use super::{ReferrersOf, ToCid};

    pub trait Sealed {}

    impl<R: ToCid> Sealed for R {}
    impl Sealed for ReferrersOf {}
}
