//! Several calls side by side.

use std::num::{NonZeroU32, NonZeroUsize};

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use futures::{StreamExt, stream};

use crate::support::{in_a_week, record};

fn calls(calls: usize) -> Options {
    Options::new().calls(NonZeroUsize::new(calls).unwrap())
}

#[tokio::test(start_paused = true)]
async fn sixteen_calls_of_a_server_that_allows_two() {
    let store = Store::builder()
        .max_calls(NonZeroU32::new(2).unwrap())
        .build();
    let client = store.client();
    let records = stream::iter((0..1_000).map(record));
    let results: Vec<_> = in_a_week(records.push_to_with(&client, &calls(16)).collect()).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(results.len(), 1_000);
    println!("{:?}", store.calls().len());
}
