//! A number does not name a record.

use agntcy_dir_stream::prelude::*;
use futures::stream;

fn main() {
    let client = client();
    let _ = stream::iter([1_u32, 2]).pull_from(&client);
}

fn client() -> Client {
    unimplemented!()
}
