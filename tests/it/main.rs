//! Integration tests, one binary: linking the transport is slow.
fn main() {}
