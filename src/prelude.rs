//! What a pipeline needs: the traits, unnamed so that they clash with nothing, and the types in their signatures.
//!
//! ```
//! use agntcy_dir_stream::prelude::*;
//! ```

pub use crate::{
    Change, Cid, Client, DeleteExt as _, DeleteReferrersExt as _, DeleteReferrersResult,
    DeleteResult, EventFilter, ExistsExt as _, ExistsResult, FollowResult, Heard, ListenResult,
    LookupExt as _, LookupResult, Options, PublishExt as _, PublishResult, PullExt as _,
    PullReferrersExt as _, PullReferrersResult, PullResult, PushExt as _, PushItem as _,
    PushReferrerResult, PushReferrersExt as _, PushResult, Query, Record, Referrer, ReferrersOf,
    SearchResult, SignExt as _, SignFailed, SignResult, Source, ThroughExt as _, ThroughResult,
    UnpublishExt as _, UnpublishResult,
};
