//! A push takes records, not borrows of them.

use agntcy_dir_stream::prelude::*;
use futures::stream;

fn main() {
    let client = client();
    let records: Vec<Record> = vec![];
    let _ = stream::iter(&records).push_to(&client);
}

fn client() -> Client {
    unimplemented!()
}
