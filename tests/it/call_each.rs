//! Operations with a call for each item, over stores that limit calls, fail, or answer at length.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{CircuitBreaker, Code, ErrorKind, Referrer, ReferrersOf, Status};
use futures::{StreamExt, stream};
use tokio::time::advance;

use crate::support::clock::{SECOND, in_a_week, soon};
use crate::support::messages::RecordRef;
use crate::support::peer::{PeerCall, scripted};
use crate::support::polling::poll;
use crate::support::records::{cid, cids, record};
use crate::support::referrers::{PullReferrer, PulledReferrer, Referrer as Sent, data_of};
use crate::support::results::kinds;
use crate::support::stores::{calls_of, slow_down, store_with};

const ALL: usize = 100;

async fn with_referrers(store: &Store, cids: &[Cid]) {
    let key = |cid: &Cid| {
        let data = serde_json::json!({"key": "of"}).try_into().unwrap();
        Referrer::new(*cid, Referrer::PUBLIC_KEY, data)
    };
    let keys = stream::iter(cids.iter().map(key));
    let pushed = keys.push_referrers_to(&store.client()).finish().await;
    assert_eq!(pushed.stats.succeeded, cids.len() as u64);
}

/// How many calls are opened where the server allows so many and so many are wanted.
async fn limited(max_calls: u32, calls: usize) -> usize {
    let store = Store::builder().max_calls(max_calls).build();
    let cids: Vec<_> = (0..ALL)
        .map(|number| store.insert(record(number)).unwrap())
        .collect();
    with_referrers(&store, &cids).await;
    slow_down(&store, Duration::from_millis(50));
    let client = store.client();
    let options = Options::new().calls(calls).stall_after(Some(SECOND));
    let results = stream::iter(&cids).pull_referrers_from_with(&client, &options);
    let handle = results.handle();
    let results: Vec<_> = in_a_week(results.collect()).await;
    for (number, result) in results.iter().enumerate() {
        let pulled = result.as_ref().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (pulled.index, pulled.record, pulled.referrers.len()),
            (number as u64, cids[number], 1)
        );
    }
    assert_eq!(
        handle.stats().faults,
        0,
        "{max_calls} of {calls}: {:?}",
        handle.last_fault()
    );
    calls_of(&store, Method::PullReferrer).len()
}

/// Calls beyond what the server allows wait in the transport, and that is no fault.
#[tokio::test(start_paused = true)]
async fn calls_beyond_what_the_server_allows_wait_without_a_fault() {
    let mut opened = Vec::new();
    for (max_calls, calls) in [(1, 1), (1, 2), (1, 8), (2, 8), (3, 64), (100, 8)] {
        opened.push(limited(max_calls, calls).await);
    }
    // Each counts where a server limits the rate of calls. One or two that nothing could be given to may be among them.
    assert!(opened.iter().all(|calls| *calls <= ALL + 8), "{opened:?}");
}

/// A long list takes longer than a call may stand still, and others wait for it.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_long_list_to_end_does_not_stall() {
    let store = Store::builder().max_calls(1).build();
    let of = [
        store.insert(record(0)).unwrap(),
        store.insert(record(1)).unwrap(),
    ];
    let data = |number: usize| serde_json::json!({"number": number}).try_into().unwrap();
    let many = (0..40).map(|number| Referrer::new(of[0], Referrer::SIGNATURE, data(number)));
    assert_eq!(
        stream::iter(many)
            .push_referrers_to(&store.client())
            .finish()
            .await
            .stats
            .failed,
        0
    );
    slow_down(&store, SECOND);
    let client = store.client();
    let options = Options::new().calls(2).stall_after(Some(5 * SECOND));
    let results = stream::iter(of).pull_referrers_from_with(&client, &options);
    let handle = results.handle();
    let results: Vec<_> = in_a_week(results.collect()).await;
    let lens: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().unwrap().referrers.len())
        .collect();
    assert_eq!(lens, [40, 0]);
    assert_eq!(handle.stats().faults, 0, "{:?}", handle.last_fault());
}

/// What was pulled waits in the window behind the first, which has no answer.
#[tokio::test(start_paused = true)]
async fn referrers_that_wait_to_be_handed_out_are_bounded_by_the_window() {
    const EACH: usize = 256 << 10;
    let (client, peer) = scripted();
    let options = Options::new().calls(2).window_bytes(4 * EACH);
    let mut results = cids(64).pull_referrers_from_with(&client, &options);
    let mut open: Vec<PeerCall> = Vec::new();
    let (mut first, mut answered) = (None, 0);
    for _ in 0..1_000 {
        assert!(poll(&mut results).is_pending());
        open.extend(std::iter::from_fn(|| peer.try_call()));
        for mut call in std::mem::take(&mut open) {
            let Some(asked) = call.requests::<PullReferrer>().pop() else {
                match call.is_half_closed() {
                    true => call.end(Code::Ok, ""),
                    false => open.push(call),
                }
                continue;
            };
            let of = asked.record.unwrap();
            if of == RecordRef::new(cid(&record(0))) {
                first = Some(call);
                continue;
            }
            let data = serde_json::json!({"data": "x".repeat(EACH)});
            let referrer = Some(Sent {
                record: Some(of),
                data: Some(data_of(data)),
                ..Sent::default()
            });
            call.answer(&PulledReferrer { referrer });
            call.end(Code::Ok, "");
            answered += 1;
        }
        advance(Duration::from_millis(10)).await;
    }
    assert!(first.is_some());
    // One more than there is room for may have been on its way.
    assert!(
        answered <= 6,
        "{answered} lists of {EACH} bytes are held, where 4 have room"
    );
}

/// What a referrer takes in the window is what it takes in memory: most of it may be annotations.
#[tokio::test(start_paused = true)]
async fn annotations_count_in_the_window() {
    let (client, _peer) = scripted();
    let taken = std::cell::Cell::new(0);
    let input = stream::repeat_with(|| {
        taken.set(taken.get() + 1);
        let data = serde_json::json!({}).try_into().unwrap();
        let mut referrer = Referrer::new(cid(&record(0)), Referrer::SIGNATURE, data);
        referrer
            .annotations
            .insert("long".to_owned(), "x".repeat(100 << 10));
        referrer
    });
    let options = Options::new().window_bytes(1 << 20);
    let mut results = input.push_referrers_to_with(&client, &options);
    for _ in 0..100 {
        assert!(poll(&mut results).is_pending());
    }
    assert!(
        taken.get() <= 12,
        "{} of 100 KiB were taken, where 1 MiB has room",
        taken.get()
    );
}

/// A server that fails at one list: the canary shows that it works.
#[tokio::test(start_paused = true)]
async fn a_list_that_always_fails_fails_alone_beside_the_canary() {
    for calls in [1, 4] {
        let (store, cids) = store_with(20);
        let bad = cids[7];
        let client = store.client();
        with_referrers(&store, &cids).await;
        store.inject(
            Fault::status(Status::internal("cannot say"))
                .on(Method::PullReferrer)
                .of(bad)
                .times(u64::MAX),
        );
        let options = Options::new().calls(calls);
        let results = stream::iter(&cids).pull_referrers_from_with(&client, &options);
        let results: Vec<_> = in_a_week(results.collect()).await;
        let mut expected = vec![None; 20];
        expected[7] = Some(ErrorKind::ServerFailed);
        assert_eq!(kinds(&results), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_over_calls_for_each_item_costs_no_item() {
    for calls in [1, 4] {
        let (store, cids) = store_with(20);
        with_referrers(&store, &cids).await;
        let breaker = CircuitBreaker::new().threshold(2);
        let client = store.client().with_breaker(breaker);
        store.inject(Fault::status(Status::unavailable("away")).times(6));
        let options = Options::new().calls(calls);
        let results = stream::iter(&cids).pull_referrers_from_with(&client, &options);
        let results: Vec<_> = in_a_week(results.collect()).await;
        assert_eq!(kinds(&results), [None; 20]);
    }
}

/// A call that carries one item in all cannot become old.
#[tokio::test(start_paused = true)]
async fn calls_for_each_item_do_not_age() {
    let (store, cids) = store_with(20);
    with_referrers(&store, &cids).await;
    slow_down(&store, SECOND);
    let client = store.client();
    let options = Options::new()
        .max_call_age(Some(Duration::from_millis(100)))
        .idle_close(Some(Duration::ZERO));
    let results = stream::iter(&cids).pull_referrers_from_with(&client, &options);
    let handle = results.handle();
    let results: Vec<_> = in_a_week(results.collect()).await;
    assert_eq!(kinds(&results), [None; 20]);
    assert_eq!(handle.stats().calls, 20);
}

/// The compiler finds out what is the item and what its tag.
#[tokio::test]
async fn items_may_be_refs_referrers_and_these_with_tags() {
    let (store, cids) = store_with(1);
    let client = store.client();
    let of = cids[0];
    let data: Record = serde_json::json!({}).try_into().unwrap();
    let referrer = || Referrer::new(of, Referrer::SIGNATURE, data.clone());
    let pushed = stream::iter([referrer()]).push_referrers_to(&client);
    assert!(soon(pushed.collect::<Vec<_>>()).await[0].is_ok());
    let pushed = stream::iter([(referrer(), "tag")]).push_referrers_to(&client);
    assert_eq!(
        soon(pushed.collect::<Vec<_>>()).await[0]
            .as_ref()
            .unwrap()
            .tag,
        "tag"
    );
    let pushed = stream::iter([(referrer(), (1, 2))]).push_referrers_to(&client);
    assert_eq!(
        soon(pushed.collect::<Vec<_>>()).await[0]
            .as_ref()
            .unwrap()
            .tag,
        (1, 2)
    );
    let input = stream::iter([Ok((referrer(), 7)), Err("no")]);
    let pushed = soon(input.try_push_referrers_to(&client).collect::<Vec<_>>()).await;
    assert!(pushed[0].as_ref().unwrap().tag == 7 && pushed[1].is_err());

    let keys = || ReferrersOf::new(of).of_type(Referrer::SIGNATURE);
    let pulled = stream::iter([keys()]).pull_referrers_from(&client);
    assert_eq!(
        soon(pulled.collect::<Vec<_>>()).await[0]
            .as_ref()
            .unwrap()
            .referrers
            .len(),
        1
    );
    let pulled = stream::iter([(keys(), "tag")]).pull_referrers_from(&client);
    assert_eq!(
        soon(pulled.collect::<Vec<_>>()).await[0]
            .as_ref()
            .unwrap()
            .tag,
        "tag"
    );
    let pulled = stream::iter([of.to_string()]).pull_referrers_from(&client);
    assert_eq!(
        soon(pulled.collect::<Vec<_>>()).await[0]
            .as_ref()
            .unwrap()
            .referrers
            .len(),
        1
    );
}

/// Batches beyond what the server allows wait, too. A unary method takes an empty call for an error, so none is opened
/// in vain, but for one that was waiting at the end.
#[tokio::test(start_paused = true)]
async fn batches_beyond_what_the_server_allows_wait_without_a_fault() {
    for (max_calls, calls) in [(1, 1), (1, 2), (1, 8), (2, 8)] {
        let store = Store::builder().max_calls(max_calls).build();
        let cids: Vec<_> = (0..ALL)
            .map(|number| store.insert(record(number)).unwrap())
            .collect();
        slow_down(&store, Duration::from_millis(50));
        let client = store.client();
        let options = Options::new().calls(calls).window(10);
        let results = stream::iter(&cids).publish_to_with(&client, &options);
        let handle = results.handle();
        let results: Vec<_> = in_a_week(results.collect()).await;
        assert_eq!(kinds(&results), vec![None; ALL]);
        let stats = handle.stats();
        assert_eq!(
            stats.faults,
            0,
            "{max_calls} of {calls}: {:?}",
            handle.last_fault()
        );
        let ended = calls_of(&store, Method::CreatePublication);
        let empty = ended.iter().filter(|call| call.requests == 0).count();
        assert!(
            empty <= 1,
            "{max_calls} of {calls}: {empty} of {} calls are empty",
            ended.len()
        );
    }
}
