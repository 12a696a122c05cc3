//! A server that cannot write: no record is failed for what it takes all the same, by whichever adapter.

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{ErrorKind, Status};
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::without_breaker;
use crate::support::clock::{SECOND, in_a_week};
use crate::support::records::{cid, record};

/// A store that cannot write, and takes what it has. Another adapter pushes one of the two, once a second.
async fn pushed_to_a_full_disk(fails: u64, other: impl Fn(u64) -> Record) -> Vec<PushResult> {
    let store = Store::new();
    let client = without_breaker(store.client());
    in_a_week(client.push(record(0))).await.unwrap();
    let words = "failed to push record to store: write /store/ingest/a: no space left on device";
    for number in 1..4 {
        let full = Fault::status(Status::internal(words));
        let full = full.on(Method::Push).of(cid(&record(number)));
        store.inject(full.times(fails));
    }
    let records = stream::iter((1..4).map(record));
    let others = async {
        for number in 0.. {
            client.push(other(number)).await.unwrap();
            sleep(SECOND).await;
        }
    };
    tokio::select! {
        results = in_a_week(records.push_to(&client).collect()) => results,
        () = others => unreachable!("it has no end"),
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_server_cannot_write_no_push_of_what_is_stored_counts_against_a_record() {
    let began = Instant::now();
    for result in pushed_to_a_full_disk(15, |_| record(0)).await {
        result.unwrap();
    }
    assert!(began.elapsed() > 120 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn where_a_server_can_write_again_that_counts_against_a_record() {
    for result in pushed_to_a_full_disk(u64::MAX, |number| record(10 + number as usize)).await {
        let failed = result.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::ServerFailed, "{failed}");
    }
}
