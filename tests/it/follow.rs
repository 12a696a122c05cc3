//! A store that is followed: the view becomes the store, whatever events are lost.

use std::collections::BTreeSet;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method};
use agntcy_dir_stream::{Change, Code, ErrorKind, Retry, Source, Status};
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use crate::support::clock::in_a_week;
use crate::support::records::record;
use crate::support::stores::{calls_of, store_with};

type Changes = Source<Change>;

/// The next, but for lists that are over.
async fn next(changes: &mut Changes) -> Change {
    loop {
        let change = in_a_week(changes.next()).await;
        match change.expect("it has no end").expect("no error") {
            Change::Confirmed => {}
            change => return change,
        }
    }
}

/// The first list, up to its end.
async fn init(changes: &mut Changes) -> BTreeSet<Cid> {
    assert_eq!(next(changes).await, Change::Init);
    let mut there = BTreeSet::new();
    loop {
        match next(changes).await {
            Change::InitApply(cid) => assert!(there.insert(cid)),
            Change::InitDone => return there,
            other => panic!("{other:?} in the first list"),
        }
    }
}

/// What comes until the store has been quiet for so long.
async fn until_quiet(changes: &mut Changes, quiet: Duration) -> Vec<Change> {
    let mut seen = Vec::new();
    while let Ok(change) = tokio::time::timeout(quiet, next(changes)).await {
        seen.push(change);
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn what_is_there_comes_first_and_then_what_changes() {
    let (store, cids) = store_with(5);
    let client = store.client();
    let mut changes = client.follow(Query::new());
    assert_eq!(init(&mut changes).await, cids.iter().copied().collect());
    let start = Instant::now();
    let new = store.insert(record(100)).unwrap();
    assert_eq!(next(&mut changes).await, Change::Apply(new));
    client.delete(cids[2]).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Delete(cids[2]));
    assert!(start.elapsed() < Duration::from_secs(1), "by their events");
    // That it is pushed again changes nothing.
    store.insert(record(100)).unwrap();
    assert_eq!(
        until_quiet(&mut changes, Duration::from_secs(3600)).await,
        []
    );
}

#[tokio::test(start_paused = true)]
async fn a_query_is_followed_by_lists() {
    let (store, cids) = store_with(20);
    let client = store.client();
    let mut changes = client.follow(Query::new().name("agent-1?"));
    assert_eq!(
        init(&mut changes).await,
        cids[10..].iter().copied().collect()
    );
    store.insert(record(200)).unwrap();
    let new = store.insert(
        serde_json::json!({"name": "agent-1x", "version": "1", "schema_version": "1.0.0"})
            .try_into()
            .unwrap(),
    );
    assert_eq!(next(&mut changes).await, Change::Apply(new.unwrap()));
    client.delete(cids[3]).await.unwrap();
    client.delete(cids[13]).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Delete(cids[13]));
    assert_eq!(
        until_quiet(&mut changes, Duration::from_secs(3600)).await,
        []
    );
}

#[tokio::test(start_paused = true)]
async fn what_no_event_tells_is_found_by_a_list_within_its_time() {
    let (store, cids) = store_with(5);
    let client = store.client();
    let options = Options::new().relist_every(Duration::from_secs(600));
    let mut changes = client.follow_with(Query::new(), &options);
    init(&mut changes).await;
    assert_eq!(until_quiet(&mut changes, Duration::from_secs(60)).await, []);
    // The call stands still: events are lost, and nobody knows.
    store.inject(Fault::stall().on(Method::Listen));
    let start = Instant::now();
    let new = store.insert(record(100)).unwrap();
    client.delete(cids[0]).await.unwrap();
    let mut seen = [next(&mut changes).await, next(&mut changes).await];
    seen.sort_by_key(|change| matches!(change, Change::Delete(_)));
    assert_eq!(seen, [Change::Apply(new), Change::Delete(cids[0])]);
    let took = start.elapsed();
    assert!(
        (Duration::from_secs(400)..=Duration::from_secs(620)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_the_difference_comes() {
    let (store, cids) = store_with(50);
    let client = store.client();
    let mut changes = client.follow(Query::new());
    init(&mut changes).await;
    assert!(changes.next().now_or_never().is_none());
    // Another client has its connection already.
    let other = store.client();
    other.pull(cids[0]).await.unwrap();
    store.inject(Fault::no_connection().times(20));
    store.inject(Fault::cut().on(Method::Listen));
    let new = store.insert(record(100)).unwrap();
    assert!(changes.next().now_or_never().is_none());
    in_a_week(other.delete(cids[7])).await.unwrap();
    let mut seen = until_quiet(&mut changes, Duration::from_secs(3600)).await;
    seen.sort_by_key(|change| matches!(change, Change::Delete(_)));
    assert_eq!(seen, [Change::Apply(new), Change::Delete(cids[7])]);
    assert_eq!(store.listeners(), 1);
    assert!(store.pending_faults().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_short_list_deletes_nothing() {
    let (store, cids) = store_with(50);
    let options = Options::new().relist_every(Duration::from_secs(60));
    let mut changes = store.client().follow_with(Query::new(), &options);
    assert_eq!(init(&mut changes).await, cids.iter().copied().collect());
    store.inject(Fault::end().on(Method::SearchCids).at(10).times(100));
    assert_eq!(
        until_quiet(&mut changes, Duration::from_secs(3600)).await,
        []
    );
    assert!(
        calls_of(&store, Method::SearchCids).len() > 100,
        "lists were short"
    );
}

#[tokio::test(start_paused = true)]
async fn lists_rest() {
    let (store, _) = store_with(5);
    let mut changes = store.client().follow(Query::new());
    init(&mut changes).await;
    until_quiet(&mut changes, Duration::from_secs(3600)).await;
    let lists = calls_of(&store, Method::SearchCids).len();
    // One at the start, one 5 s later, and one each 5 minutes.
    assert!((12..=15).contains(&lists), "{lists} lists in an hour");
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_hears_it_at_once() {
    for method in [Method::Listen, Method::SearchCids] {
        let (store, _) = store_with(3);
        store.inject(Fault::status(Status::new(Code::PermissionDenied, "no")).on(method));
        let changes: Vec<_> = in_a_week(store.client().follow(Query::new()).collect()).await;
        let error = changes.last().unwrap().as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{method:?}");
    }
    let (store, _) = store_with(3);
    let mut changes = store.client().follow(Query::new().limit(3));
    let error = in_a_week(changes.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(store.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_retries_any_fault_is_the_end() {
    for method in [Method::Listen, Method::SearchCids] {
        let (store, _) = store_with(3);
        let options = Options::new().retry(Retry::off());
        store.inject(Fault::cut().on(method));
        let changes = store.client().follow_with(Query::new(), &options);
        let changes: Vec<_> = in_a_week(changes.collect()).await;
        assert!(changes.last().unwrap().is_err(), "{method:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_it_hangs_up() {
    let (store, _) = store_with(3);
    let mut changes = store.client().follow(Query::new());
    init(&mut changes).await;
    drop(changes);
    in_a_week(store.wait_for(|calls| calls.iter().all(|call| call.end.is_some()))).await;
    assert_eq!(store.listeners(), 0);
}

/// The server keeps 100 events for a listener, and drops the others.
#[tokio::test(start_paused = true)]
async fn a_burst_is_followed_by_a_list() {
    let (store, cids) = store_with(1_000);
    let client = store.client();
    let mut changes = client.follow(Query::new());
    let mut there = init(&mut changes).await;
    until_quiet(&mut changes, Duration::from_secs(60)).await;
    let start = Instant::now();
    // While nobody reads, more than the server keeps.
    for cid in &cids[..600] {
        store.remove(cid);
    }
    for number in 2_000..2_600 {
        store.insert(record(number)).unwrap();
    }
    while there != BTreeSet::from_iter(store.cids()) {
        match next(&mut changes).await {
            Change::Apply(cid) => assert!(there.insert(cid)),
            Change::Delete(cid) => assert!(there.remove(&cid)),
            other => panic!("{other:?}"),
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

/// How old a view is can be told by when it was last confirmed.
#[tokio::test(start_paused = true)]
async fn each_list_but_the_first_confirms_the_view() {
    let (store, _) = store_with(5);
    let mut changes = store.client().follow(Query::new());
    init(&mut changes).await;
    let start = Instant::now();
    for seconds in [5, 305, 605] {
        assert_eq!(
            in_a_week(changes.next()).await.unwrap().unwrap(),
            Change::Confirmed
        );
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}
