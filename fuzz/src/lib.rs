//! What the targets share.

pub mod answers;
pub mod digits;
mod known;
pub mod memory;
pub mod odd_wire;
pub mod run;
pub mod slow_cid;
pub mod slow_wire;
mod spin;
mod support;
pub mod text;
pub mod tree;
pub mod typed;
pub mod zoo;
