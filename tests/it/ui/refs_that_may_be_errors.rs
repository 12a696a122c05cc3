//! A source that can fail gives no refs, but results.

use agntcy_dir_stream::prelude::*;
use futures::stream;

fn main() {
    let client = client();
    let refs: Vec<Result<Cid, std::io::Error>> = vec![];
    let _ = stream::iter(refs).delete_from(&client);
}

fn client() -> Client {
    unimplemented!()
}
