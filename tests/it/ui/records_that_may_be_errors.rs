//! A source that can fail gives no records, but results.

use agntcy_dir_stream::prelude::*;
use futures::stream;

fn main() {
    let client = client();
    let records: Vec<Result<Record, std::io::Error>> = vec![];
    let _ = stream::iter(records).push_to(&client);
}

fn client() -> Client {
    unimplemented!()
}
