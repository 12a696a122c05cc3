//! An adapter is `Send` only if its items are.

use std::rc::Rc;

use agntcy_dir_stream::prelude::*;
use futures::{StreamExt, stream};

async fn pull(client: Client, cids: Vec<Cid>) {
    let items = cids.into_iter().map(|cid| (cid, Rc::new(1)));
    let mut results = stream::iter(items).pull_from(&client);
    while results.next().await.is_some() {}
}

fn main() {
    let client = client();
    tokio::spawn(pull(client, vec![]));
}

fn client() -> Client {
    unimplemented!()
}
