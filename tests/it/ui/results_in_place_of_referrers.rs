//! Referrers that could not be made are for `try_push_referrers_to`.

use agntcy_dir_stream::prelude::*;
use futures::stream;

fn push(client: &Client, made: Vec<std::io::Result<Referrer>>) {
    let _ = stream::iter(made).push_referrers_to(client);
}

fn main() {}
