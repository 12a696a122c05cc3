//! An item has one tag, which may be a pair.

use agntcy_dir_stream::prelude::*;
use futures::stream;

fn main() {
    let client = client();
    let records: Vec<(Record, u64, &str)> = vec![];
    let _ = stream::iter(records).push_to(&client);
}

fn client() -> Client {
    unimplemented!()
}
