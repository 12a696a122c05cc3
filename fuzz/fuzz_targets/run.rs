//! A whole run of an adapter, decided byte by byte: each item that was taken has one true result, or is given back; in
//! order, in bounded time, polls and calls.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    match agntcy_dir_stream_fuzz::run::run(data) {
        Ok(()) => Corpus::Keep,
        Err(_) => Corpus::Reject,
    }
});
