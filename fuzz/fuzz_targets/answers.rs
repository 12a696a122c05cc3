//! Each operation against a server whose answers are any bytes: each item has one result, in a bounded number of polls
//! and calls, in bounded memory.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    match agntcy_dir_stream_fuzz::answers::run(data) {
        Ok(()) => Corpus::Keep,
        Err(_) => Corpus::Reject,
    }
});
