//! The ref comes first, and the tag second.

use agntcy_dir_stream::prelude::*;
use futures::stream;

fn main() {
    let client = client();
    let refs: Vec<(u64, Cid)> = vec![];
    let _ = stream::iter(refs).pull_from(&client);
}

fn client() -> Client {
    unimplemented!()
}
