//! Servers that mean harm or are broken: what they can cost is bounded in polls, bytes and calls, and each
//! item has its result in the time that the options give.

mod answers;
mod attacker;
mod closing;
mod frames;
mod headers;
#[cfg(feature = "server")]
mod lists;
mod messages;
mod pages;
mod ports;
mod service;
mod trailers;
