//! The messages about publishing, as far as they are about CIDs.

use prost::Message;

use super::messages::RecordRef;

pub(crate) const PENDING: i32 = 1;
pub(crate) const IN_PROGRESS: i32 = 2;
pub(crate) const COMPLETED: i32 = 3;
pub(crate) const FAILED: i32 = 4;

/// A request to publish, or to unpublish: they are the same on the wire.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Publish {
    #[prost(message, optional, tag = "1")]
    pub(crate) refs: Option<Refs>,
    #[prost(message, optional, tag = "2")]
    pub(crate) queries: Option<Queries>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Refs {
    #[prost(message, repeated, tag = "1")]
    pub(crate) refs: Vec<RecordRef>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Queries {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) queries: Vec<Vec<u8>>,
}

/// What names a publication.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PublicationId {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Publication {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(int32, tag = "2")]
    pub(crate) status: i32,
    #[prost(string, tag = "3")]
    pub(crate) created: String,
    #[prost(string, tag = "4")]
    pub(crate) updated: String,
}

impl Publish {
    pub(crate) fn refs<C: ToString>(cids: impl IntoIterator<Item = C>) -> Self {
        let refs = cids.into_iter().map(RecordRef::new).collect();
        Self {
            refs: Some(Refs { refs }),
            queries: None,
        }
    }

    pub(crate) fn queries(queries: Vec<Vec<u8>>) -> Self {
        Self {
            refs: None,
            queries: Some(Queries { queries }),
        }
    }
}

impl PublicationId {
    pub(crate) fn new(id: impl Into<String>) -> Self {
        Self { id: id.into() }
    }
}
