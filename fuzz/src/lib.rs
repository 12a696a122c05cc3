//! What the targets share.

pub mod answers;
pub mod digits;
mod known;
pub mod memory;
pub mod odd_wire;
pub mod run;
mod service;
pub mod slow_cid;
pub mod slow_wire;
mod support;
pub mod text;
pub mod tree;
pub mod typed;
pub mod zoo;

/// More polls while no time passes than a case of some dozens of items and answers has any use for.
const MOST_POLLS: u32 = 20_000;
