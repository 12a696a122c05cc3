//! Stream adapters for the AGNTCY Directory.

mod cid;
mod error;
mod proto;
mod record;

pub use crate::cid::Cid;
pub use crate::error::{Error, ErrorKind};
pub use crate::record::Record;
