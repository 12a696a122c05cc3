//! A `Value` is no record until it has been looked at.

use agntcy_dir_stream::prelude::*;
use futures::stream;

fn main() {
    let client = client();
    let _ = stream::iter([serde_json::json!({"name": "a"})]).push_to(&client);
}

fn client() -> Client {
    unimplemented!()
}
