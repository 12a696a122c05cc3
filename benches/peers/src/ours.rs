//! How this crate is used here.

use agntcy_dir_stream::Options;

/// So many calls side by side, each with its share of the window.
pub fn with_calls(options: Options, calls: usize) -> Options {
    options.calls(calls)
}

/// As bare as the hand-written loops: nothing is verified.
pub fn bare() -> Options {
    Options::new().verify(false)
}
