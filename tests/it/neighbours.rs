//! Adapters of one client side by side: what one of them sees of a server the others know, and none
//! keeps the others from their turn.

use std::collections::HashSet;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Store, Validation};
use agntcy_dir_stream::{Client, ErrorKind};
use futures::future::{Either, join_all, select};
use futures::{StreamExt as _, stream};
use proptest::prelude::*;
use tokio::time::{Instant, advance};

use crate::support::{cases, cid, in_a_week, on_paused_clock, record};

/// A store that fails at these records each time, in words that tell nothing.
fn store(bad: impl IntoIterator<Item = usize>) -> Store {
    let bad: HashSet<Cid> = bad.into_iter().map(|number| cid(&record(number))).collect();
    let judge = move |record: &Record| match bad.contains(&cid(record)) {
        true => Validation::Fail("something went wrong".to_owned()),
        false => Validation::Pass,
    };
    Store::builder().validate(judge).build()
}

async fn kind_of_push(client: &Client, number: usize) -> Option<ErrorKind> {
    let result = in_a_week(client.push(record(number))).await;
    result.err().map(|failed| failed.kind())
}

#[test]
fn bad_records_that_are_polled_first_do_not_keep_a_good_one_waiting() {
    on_paused_clock(async {
        let client = store(0..3).client();
        let start = Instant::now();
        let bad = join_all((0..3).map(|number| Box::pin(client.push(record(number)))));
        let good = Box::pin(client.push(record(3)));
        let Either::Right((pushed, bad)) = in_a_week(select(bad, good)).await else {
            panic!("the good one comes first");
        };
        assert!(pushed.is_ok());
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(10), "{waited:?}");
        // Now it is known that the server does its work.
        assert!(bad.await.iter().all(Result::is_err));
        let waited = start.elapsed() - waited;
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    });
}

#[test]
fn a_single_bad_record_takes_no_time_where_others_have_succeeded() {
    on_paused_clock(async {
        let client = store([1, 2]).client();
        assert_eq!(kind_of_push(&client, 0).await, None);
        let start = Instant::now();
        assert_eq!(kind_of_push(&client, 1).await, Some(ErrorKind::Internal));
        assert!(start.elapsed() < Duration::from_secs(1));
        // So it is after a while, when a lookup has to show that the good one is still there.
        advance(Duration::from_secs(3600)).await;
        let start = Instant::now();
        assert_eq!(kind_of_push(&client, 2).await, Some(ErrorKind::Internal));
        assert!(start.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn single_pushes_side_by_side_are_not_filled_up_with_bad_ones() {
    on_paused_clock(async {
        let (client, start) = (
            store((0..40).filter(|n| n % 2 == 1)).client(),
            Instant::now(),
        );
        let pushes = stream::iter(0..40).map(|number| kind_of_push(&client, number));
        let kinds: Vec<_> = pushes.buffer_unordered(8).collect().await;
        let failed = kinds
            .iter()
            .filter(|kind| **kind == Some(ErrorKind::Internal));
        assert_eq!((failed.count(), kinds.len()), (20, 40));
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(10), "{waited:?}");
    });
}

#[test]
fn what_the_client_has_deleted_is_not_pushed_again_to_tell_an_outage() {
    on_paused_clock(async {
        let store = store([1]);
        let client = store.client();
        let good = client.push(record(0)).await.unwrap().cid;
        client.delete(good).await.unwrap();
        assert_eq!(kind_of_push(&client, 1).await, Some(ErrorKind::Internal));
        assert!(store.is_empty());
    });
}

#[test]
fn what_others_have_deleted_is_not_pushed_again_to_tell_an_outage() {
    on_paused_clock(async {
        let store = store([1]);
        let client = store.client();
        let good = client.push(record(0)).await.unwrap().cid;
        store.client().delete(good).await.unwrap();
        advance(Duration::from_secs(2)).await;
        assert_eq!(kind_of_push(&client, 1).await, Some(ErrorKind::Internal));
        assert!(store.is_empty());
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(60)))]

    /// Each adapter has some of the records, the bad ones first where that is worst.
    #[test]
    fn adapters_side_by_side_learn_from_each_other(
        mut adapters in prop::collection::vec(prop::collection::vec(any::<bool>(), 1..20), 2..6),
        sorted in any::<bool>(),
        window in prop_oneof![Just(1), Just(16), Just(64)],
        seed in any::<u64>(),
    ) {
        if sorted {
            for adapter in &mut adapters {
                adapter.sort_by_key(|is_bad| !*is_bad);
            }
        }
        for adapter in &mut adapters {
            // Where nothing has succeeded yet, nothing tells an outage from bad records.
            if adapter.iter().take(window).all(|is_bad| *is_bad) {
                adapter[0] = false;
            }
        }
        let mut numbers = 0..;
        let adapters: Vec<Vec<(usize, bool)>> = adapters
            .into_iter()
            .map(|adapter| numbers.by_ref().zip(adapter).collect())
            .collect();
        let all = adapters.concat();
        on_paused_clock(async {
            fastrand::seed(seed);
            let bad = all.iter().filter(|(_, is_bad)| *is_bad);
            let client = store(bad.map(|(number, _)| *number)).client();
            let options = crate::support::window(window);
            let start = Instant::now();
            let pushes = adapters.iter().map(|adapter| {
                let records = stream::iter(adapter.iter().map(|(number, is_bad)| (record(*number), *is_bad)));
                let results = records.push_to_with(&client, &options);
                results.for_each(async |result| match result {
                    Ok(pushed) => assert!(!pushed.tag, "a bad one has succeeded"),
                    Err(failed) => {
                        assert!(failed.tag, "a good one failed: {failed}");
                        assert_eq!(failed.kind(), ErrorKind::Internal);
                    }
                })
            });
            in_a_week(join_all(pushes)).await;
            let waited = start.elapsed();
            assert!(waited < Duration::from_secs(10), "{waited:?}");
        });
    }
}
