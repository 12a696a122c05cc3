//! The calls of an adapter, side by side: each is a lane, with what it carries and how it has fared.

mod call;
mod lane;
mod lanes;
mod limit;
mod long_status;
mod progress;
mod queue;
mod request_body;
mod response_body;

pub(super) use self::call::{CHUNK, Event};
pub(super) use self::lane::{Lane, Setup};
pub(super) use self::lanes::{Lanes, LeastLoaded};
pub(crate) use self::long_status::without_the_middle;
