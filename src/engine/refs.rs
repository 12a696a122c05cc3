//! What the operations on refs have in common: how a CID goes out and comes back.

use crate::cid::Cid;
use crate::error::{Error, ErrorKind};
use crate::proto::core::RecordRef;

/// What a ref takes in the window, in bytes: its CID. What else the caller's own type holds is
/// not known.
pub(crate) const SIZE: usize = size_of::<Cid>();

/// The method that looks records up.
pub(crate) const LOOKUP: &str = "/agntcy.dir.store.v1.StoreService/Lookup";

pub(crate) fn request(cid: &Cid) -> RecordRef {
    RecordRef {
        cid: cid.to_string(),
    }
}

/// The CID in a server's answer, which the server must get right.
pub(crate) fn answered(text: &str) -> Result<Cid, Error> {
    text.parse().map_err(|error| {
        Error::new(ErrorKind::Mismatch, "the server's answer has no CID").with_source(error)
    })
}
