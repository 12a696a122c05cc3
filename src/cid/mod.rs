//! Content identifiers.

/// The content identifier of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cid(cid::Cid);
