//! Adapters of one client side by side: what one of them sees of a server the others know, and none
//! keeps the others from their turn.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store, Validation};
use agntcy_dir_stream::{Client, ErrorKind, Status};
use futures::channel::mpsc;
use futures::future::{Either, join, join_all, select};
use futures::{StreamExt as _, stream};
use proptest::prelude::*;
use tokio::time::{Instant, advance};

use crate::support::clock::{in_a_week, on_paused_clock};
use crate::support::polling::assert_pending;
use crate::support::properties::cases;
use crate::support::records::{cid, record, records};
use crate::support::stores::{VAGUE_WORDS, store_that_fails_at};

async fn kind_of_push(client: &Client, number: usize) -> Option<ErrorKind> {
    let result = in_a_week(client.push(record(number))).await;
    result.err().map(|failed| failed.kind())
}

#[test]
fn bad_records_that_are_polled_first_do_not_keep_a_good_one_waiting() {
    on_paused_clock(async {
        let client = store_that_fails_at(0..3).client();
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
        let client = store_that_fails_at([1, 2]).client();
        assert_eq!(kind_of_push(&client, 0).await, None);
        let start = Instant::now();
        assert_eq!(
            kind_of_push(&client, 1).await,
            Some(ErrorKind::ServerFailed)
        );
        assert!(start.elapsed() < Duration::from_secs(1));
        // So it is after a while, when a lookup has to show that the good one is still there.
        advance(Duration::from_secs(3600)).await;
        let start = Instant::now();
        assert_eq!(
            kind_of_push(&client, 2).await,
            Some(ErrorKind::ServerFailed)
        );
        assert!(start.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn single_pushes_side_by_side_are_not_filled_up_with_bad_ones() {
    on_paused_clock(async {
        let (client, start) = (
            store_that_fails_at((0..40).filter(|n| n % 2 == 1)).client(),
            Instant::now(),
        );
        let pushes = stream::iter(0..40).map(|number| kind_of_push(&client, number));
        let kinds: Vec<_> = pushes.buffer_unordered(8).collect().await;
        let failed = kinds
            .iter()
            .filter(|kind| **kind == Some(ErrorKind::ServerFailed));
        assert_eq!((failed.count(), kinds.len()), (20, 40));
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(10), "{waited:?}");
    });
}

#[test]
fn what_the_client_has_deleted_is_not_pushed_again_to_tell_an_outage() {
    on_paused_clock(async {
        let store = store_that_fails_at([1]);
        let client = store.client();
        let good = client.push(record(0)).await.unwrap().cid;
        client.delete(good).await.unwrap();
        assert_eq!(
            kind_of_push(&client, 1).await,
            Some(ErrorKind::ServerFailed)
        );
        assert!(store.is_empty());
    });
}

#[test]
fn what_others_have_deleted_is_not_pushed_again_to_tell_an_outage() {
    on_paused_clock(async {
        let store = store_that_fails_at([1]);
        let client = store.client();
        let good = client.push(record(0)).await.unwrap().cid;
        store.client().delete(good).await.unwrap();
        advance(Duration::from_secs(2)).await;
        assert_eq!(
            kind_of_push(&client, 1).await,
            Some(ErrorKind::ServerFailed)
        );
        assert!(store.is_empty());
    });
}

#[test]
fn a_delete_waits_for_what_is_being_pushed_again() {
    on_paused_clock(async {
        let store = store_that_fails_at([1]);
        let client = store.client();
        let good = client.push(record(0)).await.unwrap().cid;
        let slow = Fault::delay(Duration::from_millis(500)).on(Method::Push);
        store.inject(slow.of(good));
        let delete = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.delete(good).await.unwrap();
        };
        join(kind_of_push(&client, 1), delete).await;
        assert!(store.is_empty());
    });
}

#[test]
fn a_delete_does_not_wait_for_ever_for_an_adapter_that_nobody_polls() {
    on_paused_clock(async {
        let store = store_that_fails_at([1]);
        let client = store.client();
        let good = client.push(record(0)).await.unwrap().cid;
        let slow = Fault::delay(Duration::from_secs(30)).on(Method::Push);
        store.inject(slow.of(good));
        let bad = client.push(record(1));
        // What has succeeded is being pushed again by then.
        let Either::Right((_, forgotten)) = select(
            Box::pin(bad),
            Box::pin(tokio::time::sleep(Duration::from_millis(100))),
        )
        .await
        else {
            panic!("the server takes half a minute");
        };
        let start = Instant::now();
        client.delete(good).await.unwrap();
        let waited = start.elapsed();
        let seconds = Duration::from_secs;
        assert!((seconds(5)..seconds(6)).contains(&waited), "{waited:?}");
        drop(forgotten);
    });
}

/// A pull changes nothing, so it does not have to wait for deletes.
#[test]
fn a_delete_that_rests_keeps_no_pull_from_telling_an_outage() {
    on_paused_clock(async {
        let store = store_that_fails_at([]);
        let client = store.client();
        let cids = [0, 1].map(|number| store.insert(record(number)).unwrap());
        let fault = Fault::status(Status::internal(VAGUE_WORDS)).on(Method::Pull);
        store.inject(fault.of(cids[1]).times(u64::MAX));
        let other = [cid(&record(2))];
        let mut deletes = stream::iter(other)
            .chain(stream::pending())
            .delete_from(&client);
        assert_pending(&mut deletes);
        assert!(client.pull(cids[0]).await.is_ok());
        let start = Instant::now();
        let failed = in_a_week(client.pull(cids[1])).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::ServerFailed);
        assert!(start.elapsed() < Duration::from_secs(1));
        drop(deletes);
    });
}

/// The record that has succeeded fails now as well. So this is an outage, and the other record is tried until
/// it is over.
#[test]
fn a_record_alone_outlives_an_outage_that_another_shows() {
    on_paused_clock(async {
        let start = Instant::now();
        let judge = move |_: &Record| match start.elapsed().as_secs() {
            1..200 => Validation::Fail(VAGUE_WORDS.to_owned()),
            _ => Validation::Pass,
        };
        let client = Store::builder().validate(judge).build().client();
        assert_eq!(kind_of_push(&client, 0).await, None);
        advance(Duration::from_secs(2)).await;
        assert_eq!(kind_of_push(&client, 1).await, None);
        assert!(start.elapsed() >= Duration::from_secs(200));
    });
}

/// A delete is open, and nobody polls it. Until it is done no record may be pushed again, so nothing tells an
/// outage from a bad record.
#[test]
fn a_delete_that_rests_leaves_a_bad_record_its_two_minutes() {
    on_paused_clock(async {
        let client = store_that_fails_at([1]).client();
        assert_eq!(kind_of_push(&client, 0).await, None);
        let other = [cid(&record(2))];
        let mut deletes = stream::iter(other)
            .chain(stream::pending())
            .delete_from(&client);
        assert_pending(&mut deletes);
        let start = Instant::now();
        assert_eq!(
            kind_of_push(&client, 1).await,
            Some(ErrorKind::ServerFailed)
        );
        assert!(start.elapsed() < Duration::from_secs(150));
        drop(deletes);
    });
}

/// What was pushed is deleted at once, while others of the same push fail.
#[test]
fn deletes_are_not_overtaken_by_what_is_pushed_again() {
    for seed in 0..10 {
        on_paused_clock(async {
            fastrand::seed(seed);
            let store = store_that_fails_at((0..300).filter(|number| number % 3 == 1));
            let client = store.client();
            let (pushed, to_delete) = mpsc::unbounded();
            let push = records(300)
                .push_to_with(&client, &Options::new().window(16))
                .for_each(async |result| {
                    if let Ok(result) = result {
                        pushed.unbounded_send(result.cid).unwrap();
                    }
                });
            let push = async {
                push.await;
                pushed.close_channel();
            };
            let delete = to_delete.delete_from(&client).finish();
            let ((), deleted) = in_a_week(join(push, delete)).await;
            assert_eq!(deleted.stats.succeeded, 200);
            assert!(store.is_empty(), "{} came back with {seed}", store.len());
        });
    }
}

/// In the second run the good records are stored already. Lookups find them, which shows as well that the
/// server works.
#[test]
fn bad_records_take_no_time_where_all_others_are_stored() {
    for (count, window) in [(2, 16), (50, 16), (300, 16), (300, 1024)] {
        on_paused_clock(async {
            let store = store_that_fails_at((0..count).filter(|number| number % 7 == 1));
            let records = || records(count);
            let options = Options::new().window(window);
            for run in ["first", "second"] {
                let start = Instant::now();
                let push = records().push_to_with(&store.client(), &options);
                let summary = in_a_week(push.finish()).await;
                let bad = (0..count).filter(|number| number % 7 == 1).count();
                assert_eq!(summary.stats.failed_as(ErrorKind::ServerFailed), bad as u64);
                let waited = start.elapsed();
                let most = Duration::from_secs(2);
                assert!(waited < most, "{run} run of {count}, {window}: {waited:?}");
            }
        });
    }
}

/// A window of bad records looks like an outage until a record behind it is tried.
#[test]
fn good_records_behind_a_window_of_bad_ones_are_found() {
    for bad in [20, 70] {
        on_paused_clock(async {
            let store = store_that_fails_at(0..bad);
            let push = records(200).push_to_with(&store.client(), &Options::new().window(16));
            let start = Instant::now();
            let summary = in_a_week(push.finish()).await;
            assert_eq!(store.len(), 200 - bad);
            assert_eq!(summary.stats.failed_as(ErrorKind::ServerFailed), bad as u64);
            let windows = bad.div_ceil(16) as u32;
            let waited = start.elapsed();
            let most = windows * Duration::from_secs(130);
            assert!(waited < most, "{waited:?} behind {bad}");
        });
    }
}

#[test]
fn where_all_records_are_bad_each_gets_its_own_error() {
    on_paused_clock(async {
        let store = store_that_fails_at(0..200);
        let push = records(200).push_to_with(&store.client(), &Options::new().window(150));
        let summary = in_a_week(push.finish()).await;
        assert_eq!(summary.stats.failed_as(ErrorKind::ServerFailed), 200);
    });
}

proptest! {
    #![proptest_config(cases(60))]

    /// Each adapter has some of the records. If they are sorted, the bad ones come first, which is the worst order.
    #[test]
    fn adapters_side_by_side_learn_from_each_other(
        mut adapters in prop::collection::vec(prop::collection::vec(any::<bool>(), 1..20), 2..6),
        sorted in any::<bool>(),
        items in prop_oneof![Just(1), Just(16), Just(64)],
        seed in any::<u64>(),
    ) {
        if sorted {
            for adapter in &mut adapters {
                adapter.sort_by_key(|is_bad| !*is_bad);
            }
        }
        for adapter in &mut adapters {
            // Where nothing has succeeded yet, nothing tells an outage from bad records.
            if adapter.iter().take(items).all(|is_bad| *is_bad) {
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
            let client = store_that_fails_at(bad.map(|(number, _)| *number)).client();
            let options = Options::new().window(items);
            let start = Instant::now();
            let pushes = adapters.iter().map(|adapter| {
                let records = stream::iter(adapter.iter().map(|(number, is_bad)| (record(*number), *is_bad)));
                let results = records.push_to_with(&client, &options);
                results.for_each(async |result| match result {
                    Ok(pushed) => assert!(!pushed.tag, "a bad one has succeeded"),
                    Err(failed) => {
                        assert!(failed.tag, "a good one failed: {failed}");
                        assert_eq!(failed.kind(), ErrorKind::ServerFailed);
                    }
                })
            });
            in_a_week(join_all(pushes)).await;
            let waited = start.elapsed();
            assert!(waited < Duration::from_secs(10), "{waited:?}");
        });
    }
}
