//! The record comes first, and the tag second.

use agntcy_dir_stream::prelude::*;
use futures::stream;

fn main() {
    let client = client();
    let records: Vec<(u64, Record)> = vec![];
    let _ = stream::iter(records).push_to(&client);
}

fn client() -> Client {
    unimplemented!()
}
