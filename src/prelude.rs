//! What a pipeline needs: the traits, unnamed so that they clash with nothing, and the types in their signatures.
//!
//! ```
//! use agntcy_dir_stream::prelude::*;
//! ```

pub use crate::{
    Cid, Client, DeleteExt as _, DeleteResult, ExistsExt as _, ExistsResult, LookupExt as _,
    LookupResult, Options, PullExt as _, PullResult, PushExt as _, PushItem as _, PushResult,
    Record, ThroughExt as _,
};
