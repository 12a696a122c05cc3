//! What is no ref names no referrers.

use agntcy_dir_stream::prelude::*;
use futures::stream;

fn pull(client: &Client, asked: Vec<u64>) {
    let _ = stream::iter(asked).pull_referrers_from(client);
}

fn main() {}
