//! How this crate is used here.

use agntcy_dir_stream::Options;

/// `n` calls side by side, each with its own share of the window.
pub fn with_calls(options: Options, n: usize) -> Options {
    // There is one call at a time so far.
    let _ = n;
    options
}

/// As bare as the hand-written loops: nothing is verified.
pub fn bare() -> Options {
    Options::new().verify(false)
}
