//! Text is no record until it has been parsed.

use agntcy_dir_stream::prelude::*;
use futures::stream;

fn main() {
    let client = client();
    let texts = vec![r#"{"name": "a"}"#.to_owned()];
    let _ = stream::iter(texts).push_to(&client);
}

fn client() -> Client {
    unimplemented!()
}
