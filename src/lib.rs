//! Stream adapters for the AGNTCY Directory.

mod cid;
mod client;
mod delete;
mod engine;
mod error;
mod item;
mod lookup;
mod options;
pub mod prelude;
mod proto;
mod pull;
mod push;
mod record;
#[cfg(feature = "server")]
pub mod server;

pub use crate::cid::Cid;
pub use crate::client::Client;
pub use crate::delete::{DeleteExt, DeleteResult, Deleted};
pub use crate::engine::Adapter;
pub use crate::error::{Error, ErrorKind, Failed};
pub use crate::item::{Tagged, ToCid};
pub use crate::lookup::{Found, LookupExt, LookupResult};
pub use crate::options::Options;
pub use crate::pull::{PullExt, PullResult, Pulled};
pub use crate::push::{PushExt, PushResult, Pushed};
pub use crate::record::{MAX_RECORD_LEN, Record};
pub use tonic::{Code, Status};
