//! The mirror of the examples: whatever happens for a minute, the stores are equal at the end.

use std::time::Duration;

use agntcy_dir_stream::Status;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Call, Fault, Method, Store};
use proptest::prelude::*;

use self::mirror::Settings;
use self::trouble::Trouble;
use crate::support::clock::{SECOND, in_a_week, on_paused_clock};
use crate::support::properties::cases;
use crate::support::records::record;
use crate::support::stores::calls_of;

#[path = "../../examples/mirror/mirror.rs"]
#[expect(
    clippy::module_inception,
    reason = "the example has it in a file of that name"
)]
pub(crate) mod mirror;
#[path = "../../examples/mirror/trouble.rs"]
mod trouble;

proptest! {
    // A seed says nothing by its size.
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..cases(40) })]

    #[test]
    fn a_minute_of_trouble_ends_with_equal_stores(seed: u64) {
        fastrand::seed(seed);
        let took = on_paused_clock(async {
            let trouble = Trouble::new();
            trouble.happens(&mut fastrand::Rng::with_seed(seed), Duration::from_secs(60)).await;
            trouble.settles().await
        });
        // A list each 30 s, one that breaks, and waits of up to a minute before the next.
        let took = took.map(|took| took.as_secs());
        prop_assert!(took.is_some_and(|took| took < 600), "{took:?} s");
    }
}

/// A mirror of one store in another, while `case` goes on.
async fn mirrored(from: &Store, to: &Store, case: impl Future<Output = ()>) {
    let (source, target) = (from.client(), to.client());
    let settings = Settings {
        options: Options::new(),
        deletes: true,
        tries_again: true,
    };
    let changes = source.follow(Query::new());
    tokio::select! {
        ended = mirror::mirror(&source, &target, changes, &settings, |done| println!("{done}")) => panic!("{ended:?}"),
        () = case => {}
    }
}

async fn has_called(store: &Store, method: Method) {
    let called = |calls: &[Call]| calls.iter().any(|call| call.method == method);
    in_a_week(store.wait_for(called)).await;
}

/// Away for longer than anybody waits, and then back.
fn is_away(store: &Store) {
    store.inject(Fault::no_connection().times(30));
}

/// A push whose answer is lost may have stored the record. When it is deleted before that is known, it is not to stay.
#[tokio::test(start_paused = true)]
async fn what_may_have_been_stored_is_deleted_all_the_same() {
    let (from, to) = (Store::new(), Store::new());
    let there = from.insert(record(0)).unwrap();
    to.inject(Fault::cut_after().on(Method::Push));
    mirrored(&from, &to, async {
        has_called(&to, Method::Push).await;
        is_away(&to);
        tokio::time::sleep(60 * SECOND).await;
        from.client().delete(there).await.unwrap();
        tokio::time::sleep(1800 * SECOND).await;
        from.insert(record(1)).unwrap();
        tokio::time::sleep(3600 * SECOND).await;
        assert_eq!(to.cids(), from.cids());
    })
    .await;
}

/// A delete whose answer is lost may have deleted the record. When it is pushed again before that is known, it is not
/// to be missing.
#[tokio::test(start_paused = true)]
async fn what_may_have_been_deleted_is_pushed_all_the_same() {
    let (from, to) = (Store::new(), Store::new());
    let there = from.insert(record(0)).unwrap();
    to.insert(record(0)).unwrap();
    mirrored(&from, &to, async {
        tokio::time::sleep(60 * SECOND).await;
        to.inject(Fault::cut_after().on(Method::Delete));
        from.client().delete(there).await.unwrap();
        has_called(&to, Method::Delete).await;
        is_away(&to);
        tokio::time::sleep(60 * SECOND).await;
        from.insert(record(0)).unwrap();
        tokio::time::sleep(1800 * SECOND).await;
        from.insert(record(1)).unwrap();
        tokio::time::sleep(3600 * SECOND).await;
        assert_eq!(to.cids(), from.cids());
    })
    .await;
}

/// A record that is refused is left out, and the others are there.
#[tokio::test(start_paused = true)]
async fn what_is_refused_holds_up_no_other() {
    let from = Store::new();
    let cids: Vec<_> = (0..5).map(|n| from.insert(record(n)).unwrap()).collect();
    let to = Store::builder()
        .validate(|record: &Record| match record.name() {
            Some("agent-2") => agntcy_dir_stream::server::Validation::Refuse(vec!["no".to_owned()]),
            _ => agntcy_dir_stream::server::Validation::Pass,
        })
        .build();
    mirrored(&from, &to, async {
        tokio::time::sleep(600 * SECOND).await;
        assert_eq!(to.len(), 4);
        from.client().delete(cids[2]).await.unwrap();
        from.insert(record(9)).unwrap();
        tokio::time::sleep(600 * SECOND).await;
        assert_eq!(to.cids(), from.cids());
    })
    .await;
}

/// How many calls of this method a store sees in a day, where one record of two fails at each with this status.
async fn calls_in_a_day(at_target: bool, method: Method, status: Status) -> usize {
    let (from, to) = (Store::new(), Store::new());
    let fails = from.insert(record(0)).unwrap();
    from.insert(record(1)).unwrap();
    let store = if at_target { &to } else { &from };
    store.inject(Fault::status(status).on(method).of(fails).times(u64::MAX));
    mirrored(&from, &to, async {
        tokio::time::sleep(24 * 3600 * SECOND).await;
        assert_eq!(to.len(), 1);
    })
    .await;
    calls_of(store, method).len()
}

/// A record that is listed, and cannot be found: the database of a server knows it, and its store does not.
#[tokio::test(start_paused = true)]
async fn what_is_listed_and_cannot_be_found_is_not_asked_for_without_rest() {
    let not_found = Status::not_found("it is not there");
    let pulls = calls_in_a_day(false, Method::Pull, not_found).await;
    assert!(
        pulls < 1_000,
        "{pulls} calls that pull in a day, for two records"
    );
}

/// A record at which a server fails for good, as at one of a version that it cannot check.
#[tokio::test(start_paused = true)]
async fn what_a_server_always_fails_at_is_not_pushed_without_rest() {
    let fails = Status::internal("failed to validate record: HTTP 404");
    let pushes = calls_in_a_day(true, Method::Push, fails).await;
    assert!(
        pushes < 1_000,
        "{pushes} calls that push in a day, for two records"
    );
}
