//! Several calls side by side: over one window, over several connections, over several nodes.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{AlreadyStored, Call, End, Fault, Method, Store, Validation};
use agntcy_dir_stream::{Code, ErrorKind, Retry, Status};
use futures::{StreamExt, stream};
use proptest::prelude::*;
use tokio::time::Instant;

use crate::support::clock::{in_a_week, on_paused_clock, soon};
use crate::support::peer::scripted;
use crate::support::polling::{assert_pending, next, poll};
use crate::support::properties::cases;
use crate::support::records::{cid, from_json, record, records, sized};
use crate::support::results::failed_indexes;
use crate::support::sockets::free_address;
use crate::support::stores::{
    VAGUE_WORDS, calls_of, ended_calls, slow_down, slow_store, store_that_fails_at, store_with,
};

const MILLI: Duration = Duration::from_millis(1);

/// A record that the store refuses: it has no schema version.
fn without_version(number: usize) -> Record {
    from_json(serde_json::json!({"name": "bad", "number": number}))
}

/// Pushes `count` records, which must all succeed, in order.
async fn push_all(client: &Client, options: &Options, count: usize) -> agntcy_dir_stream::Stats {
    let mut results = records(count).push_to_with(client, options);
    let mut seen = 0;
    while let Some(result) = in_a_week(results.next()).await {
        let pushed = result.unwrap_or_else(|failed| panic!("{failed}"));
        assert_eq!(pushed.index, seen, "input order");
        seen += 1;
    }
    assert_eq!(seen, count as u64);
    results.stats()
}

#[tokio::test(start_paused = true)]
async fn calls_side_by_side_are_as_many_times_as_fast() {
    let mut took = Vec::new();
    for lanes in [1, 8, 64] {
        let store = slow_store(5 * MILLI);
        let start = Instant::now();
        push_all(&store.client(), &Options::new().calls(lanes), 1_280).await;
        took.push(start.elapsed().as_secs_f64());
        assert_eq!(store.calls().len(), lanes);
    }
    assert!(took[0] / took[1] > 7.5, "{took:?}");
    assert!(took[0] / took[2] > 55.0, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn sixteen_calls_of_a_server_that_allows_two_are_two() {
    let store = Store::builder().max_calls(2).build();
    slow_down(&store, 5 * MILLI);
    let start = Instant::now();
    let stats = push_all(&store.client(), &Options::new().calls(16), 1_000).await;
    assert!(start.elapsed() < 2_550 * MILLI, "{:?}", start.elapsed());
    let seen = store.calls();
    assert!(seen.iter().all(|call| call.end == Some(End::Ok)));
    let used: Vec<u64> = seen
        .iter()
        .map(|call| call.requests)
        .filter(|r| *r > 0)
        .collect();
    assert_eq!(used, [500, 500]);
    // A third has waited in the transport, and carried nothing.
    assert!(seen.len() <= 3, "{seen:?}");
    assert_eq!((stats.faults, stats.resent), (0, 0));
}

/// A server that refuses calls beyond its limit, and says so with a status.
#[tokio::test(start_paused = true)]
async fn calls_that_the_server_refuses_are_not_asked_for_again_and_again() {
    let store = Store::new();
    let refusal = Status::resource_exhausted("no more than two calls");
    for call in 2..500 {
        store.inject(Fault::status(refusal.clone()).in_call(call).at(0));
    }
    slow_down(&store, 5 * MILLI);
    let start = Instant::now();
    let stats = push_all(&store.client(), &Options::new().calls(8), 2_000).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert!(stats.calls < 40, "{stats}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_looks_up_finds_room_where_the_server_allows_no_more() {
    for (allowed, lanes) in [(1, 1), (1, 4), (2, 2)] {
        let store = Store::builder().max_calls(allowed).build();
        let once = Fault::status(Status::internal("once"));
        store.inject(once.on(Method::Push).at(5));
        slow_down(&store, MILLI);
        let stats = push_all(&store.client(), &Options::new().calls(lanes), 1_000).await;
        assert_eq!((stats.lookup_calls, stats.faults), (1, 1), "{stats}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_lane_that_is_cut_off_touches_only_what_it_carried() {
    for lanes in [2, 8] {
        let store = Store::new();
        store.inject(Fault::cut().on(Method::Push).in_call(1).at(10));
        slow_down(&store, 5 * MILLI);
        let client = store.client().with_connections(lanes);
        let options = Options::new().calls(lanes).window(lanes * 20);
        let start = Instant::now();
        let stats = push_all(&client, &options, lanes * 100).await;
        assert!(stats.resent <= 20, "the share of one lane: {stats}");
        assert_eq!(stats.faults, 1);
        let pushes = calls_of(&store, Method::Push).into_iter();
        let ends: Vec<_> = pushes.map(|call| call.end).collect();
        let undisturbed = ends.iter().filter(|end| **end == Some(End::Ok));
        assert_eq!(ends.len(), lanes + 1, "{ends:?}");
        assert_eq!(undisturbed.count(), lanes, "{ends:?}");
        // The lane that was cut off comes back.
        assert!(start.elapsed() < 1_000 * MILLI, "{:?}", start.elapsed());
    }
}

/// A bad record in one lane ends that call alone.
#[tokio::test(start_paused = true)]
async fn a_bad_record_costs_what_is_behind_it_in_its_lane() {
    let store = slow_store(5 * MILLI);
    let records = (0..400).map(|number| match number {
        100 => without_version(100),
        number => record(number),
    });
    let options = Options::new().calls(8).window(80);
    let results = stream::iter(records).push_to_with(&store.client(), &options);
    let handle = results.handle();
    let results: Vec<_> = in_a_week(results.collect()).await;
    assert_eq!(failed_indexes(&results), [100]);
    let stats = handle.stats();
    assert!(stats.resent < 10, "{stats}");
    assert_eq!(stats.calls, 9, "one more for the one that ended");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_opened_only_when_there_is_work_for_it() {
    let store = Store::new();
    let client = store.client();
    let paced = records(20).then(async |record| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        record
    });
    let paced = Box::pin(paced);
    let results: Vec<_> = in_a_week(
        paced
            .push_to_with(&client, &Options::new().calls(8))
            .collect(),
    )
    .await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(store.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_finished_stream_resets_none_of_its_calls() {
    let store = slow_store(MILLI);
    push_all(&store.client(), &Options::new().calls(8), 200).await;
    let seen = store.calls();
    assert_eq!(seen.len(), 8);
    assert!(seen.iter().all(|call| call.end == Some(End::Ok)));
}

#[tokio::test(start_paused = true)]
async fn a_drop_resets_all_calls() {
    let store = slow_store(5 * MILLI);
    let mut results = records(1_000).push_to_with(&store.client(), &Options::new().calls(8));
    for _ in 0..20 {
        in_a_week(results.next()).await.unwrap().unwrap();
    }
    drop(results);
    let seen = in_a_week(ended_calls(&store)).await;
    assert_eq!(seen.len(), 8);
    assert!(
        seen.iter()
            .all(|call| call.end == Some(End::Cancelled) && !call.half_closed)
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_caller_gets_the_answers_that_are_under_way() {
    let store = Store::new();
    let denied = Fault::status(Status::permission_denied("not you"));
    store.inject(denied.in_call(1).at(3));
    slow_down(&store, 5 * MILLI);
    let results = records(300).push_to_with(&store.client(), &Options::new().calls(2).window(20));
    let results: Vec<_> = in_a_week(results.collect()).await;
    assert_eq!(results.len(), 300);
    let stored = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(stored, store.len(), "what was under way has its answer");
    let kinds = results.iter().filter_map(|result| result.as_ref().err());
    assert!(
        kinds
            .clone()
            .all(|failed| failed.kind() == ErrorKind::Denied),
        "{:?}",
        kinds.map(|failed| failed.kind()).collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn no_lane_takes_the_whole_window() {
    let (client, peer) = scripted();
    let options = Options::new().calls(4).window(40);
    let mut results = records(100).push_to_with(&client, &options);
    let mut open = Vec::new();
    let mut carried = Vec::new();
    for lane in 0..4 {
        assert_pending(&mut results);
        let mut call = peer.call();
        assert!(peer.try_call().is_none(), "one is opened after the other");
        // The first carries an item before it is asked; while others are opened, one is enough.
        carried.push(call.records().len());
        assert_eq!(carried[lane], usize::from(lane == 0));
        open.push(call);
    }
    assert_pending(&mut results);
    assert!(peer.try_call().is_none(), "four are enough");
    for (call, carried) in open.iter_mut().zip(carried) {
        assert_eq!(carried + call.records().len(), 10, "its share");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_opened_no_faster_than_allowed() {
    let store = slow_store(5 * MILLI);
    let client = store.client().with_call_rate(10);
    let start = Instant::now();
    let results =
        stream::iter((0..30).map(without_version)).push_to_with(&client, &Options::new().calls(4));
    let summary = in_a_week(results.finish()).await;
    assert_eq!(summary.stats.failed, 30);
    let calls = u32::try_from(summary.stats.calls).unwrap();
    let least = 100 * MILLI * (calls - 1);
    assert!(start.elapsed() >= least, "{calls} in {:?}", start.elapsed());
    assert!(start.elapsed() <= least + 200 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn calls_spread_over_the_nodes() {
    let stores = [slow_store(5 * MILLI), slow_store(5 * MILLI)];
    let client = stores[0].client().with_nodes_of(stores[1].client());
    push_all(&client, &Options::new().calls(6), 600).await;
    for store in stores {
        assert_eq!(store.calls().len(), 3);
        assert_eq!(store.len(), 300);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_is_set_aside_and_comes_back() {
    let (good, bad) = (slow_store(5 * MILLI), Store::new());
    // It breaks, takes no connection for a while, and then it does.
    bad.inject(Fault::cut().at(20));
    slow_down(&bad, 5 * MILLI);
    let client = good.client().with_nodes_of(bad.client());
    let start = Instant::now();
    let results = records(30_000).push_to_with(&client, &Options::new().calls(4));
    let handle = results.handle();
    let mut results = std::pin::pin!(results);
    for _ in 0..10 {
        in_a_week(results.next()).await.unwrap().unwrap();
    }
    bad.inject(Fault::no_connection().times(2));
    while let Some(result) = in_a_week(results.next()).await {
        result.unwrap();
    }
    let stats = handle.stats();
    assert!(stats.resent <= 1_024, "{stats}");
    assert!(stats.faults <= 8, "{stats}");
    // Four calls at 5 ms: its part was done by the other for a while.
    assert!(
        start.elapsed() < Duration::from_secs(40),
        "{:?}",
        start.elapsed()
    );
    assert!(bad.len() > 5_000, "{} and {}", good.len(), bad.len());
}

/// Its clock may be wrong, or it may be older than the others.
#[tokio::test(start_paused = true)]
async fn a_node_that_refuses_the_caller_is_left_to_others_for_a_while() {
    let codes = [
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::Unimplemented,
    ];
    for code in codes {
        for calls in [1, 2, 4] {
            let (good, bad) = (Store::new(), Store::new());
            let refuses = || Fault::status(Status::new(code, "not here")).times(u64::MAX);
            bad.inject(refuses());
            let client = good.client().with_nodes_of(bad.client());
            let options = Options::new().calls(calls);
            push_all(&client, &options, 200).await;
            let refused = calls_of(&bad, Method::Push).len();
            assert!(refused <= calls, "{code}: {refused} of {calls} calls");
            let found = client.search(Query::new());
            assert_eq!(in_a_week(found.count()).await, 200);
            // Where all refuse, that is the answer.
            good.inject(refuses());
            let failed = in_a_week(client.push(record(1))).await.unwrap_err();
            assert_eq!(failed.error.status().map(Status::code), Some(code));
            let error = in_a_week(client.search(Query::new()).next()).await;
            assert_eq!(error.unwrap().unwrap_err().kind(), failed.kind());
        }
    }
}

/// The other node may be the one that goes away.
#[tokio::test(start_paused = true)]
async fn a_node_that_refused_the_caller_is_asked_again_after_a_minute() {
    let mut were_first = 0;
    for _ in 0..20 {
        let (good, bad) = (Store::new(), Store::new());
        let refusal = Status::unauthenticated("the token is from the future");
        bad.inject(Fault::status(refusal).times(2));
        let client = good.client().with_nodes_of(bad.client());
        let records = stream::iter(0..300).then(|number| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            record(number)
        });
        let options = Options::new().max_call_age(Some(Duration::from_secs(5)));
        let summary = in_a_week(records.push_to_with(&client, &options).finish()).await;
        assert_eq!(summary.stats.succeeded, 300, "{summary}");
        // An adapter begins with any node, and stays there while that serves it.
        if !bad.calls().is_empty() {
            were_first += 1;
            assert!(bad.pending_faults().is_empty());
            assert!(bad.len() > 100, "{} and {}", good.len(), bad.len());
        }
    }
    assert!(were_first > 0);
}

/// A node where nobody answers does not keep a client from using the others, even with a single call.
#[tokio::test]
async fn a_node_that_is_not_there_is_gone_around() {
    let store = Store::new();
    for _ in 0..4 {
        let nowhere = Client::connect_lazy(format!("http://{}", free_address())).unwrap();
        let client = nowhere.with_nodes_of(store.client());
        for lanes in [1, 3] {
            let results = records(50).push_to_with(&client, &Options::new().calls(lanes));
            let summary = soon(results.finish()).await;
            assert_eq!(summary.stats.succeeded, 50, "{summary}");
        }
        store.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn all_nodes_away_are_given_up_together() {
    let stores = [Store::new(), Store::new()];
    for store in &stores {
        store.inject(Fault::no_connection().times(u64::MAX));
    }
    let client = stores[0].client().with_nodes_of(stores[1].client());
    let mut results = records(10).push_to_with(&client, &Options::new().calls(4));
    let start = Instant::now();
    let first = in_a_week(results.next()).await.unwrap().unwrap_err();
    assert_eq!(first.kind(), ErrorKind::CircuitOpen);
    assert!(start.elapsed() >= Duration::from_secs(300));
    assert!(results.stats().circuit_open);
}

#[tokio::test(start_paused = true)]
async fn many_bad_records_do_not_have_the_rest_sent_over_and_over() {
    let (count, every) = (20_000, 10);
    for lanes in [1, 8] {
        let store = slow_store(MILLI);
        let records = (0..count).map(|number| match number % every {
            7 => without_version(number),
            _ => record(number),
        });
        let results =
            stream::iter(records).push_to_with(&store.client(), &Options::new().calls(lanes));
        let summary = in_a_week(results.finish()).await;
        assert_eq!(summary.stats.failed, (count / every) as u64);
        assert!(summary.stats.resent <= count as u64, "{summary}");

        // Not so where the caller wants it otherwise.
        let fixed = Options::new().calls(lanes).in_flight(64, 64);
        let records = (0..1_000).map(|number| match number % every {
            7 => without_version(number),
            _ => record(number + count),
        });
        let results = stream::iter(records).push_to_with(&store.client(), &fixed);
        let summary = in_a_week(results.finish()).await;
        assert!(summary.stats.resent > 2_000, "{summary}");
    }
}

#[tokio::test(start_paused = true)]
async fn deletes_go_side_by_side_and_a_failing_one_stands_alone() {
    let (store, refs) = store_with(1_000);
    let refusal = Status::failed_precondition("it is pinned");
    store.inject(Fault::status(refusal).of(refs[321]).times(u64::MAX));
    let results = stream::iter(refs).delete_from_with(&store.client(), &Options::new().calls(4));
    let results: Vec<_> = in_a_week(results.collect()).await;
    assert_eq!(failed_indexes(&results), [321]);
    assert_eq!(store.len(), 1);
    let seen = store.calls();
    assert!(seen.len() < 60, "{} calls", seen.len());
    let codes = seen
        .iter()
        .filter(|call| call.end == Some(End::Status(Code::FailedPrecondition)));
    assert!(codes.count() <= 12);
}

proptest! {
    #![proptest_config(cases(300))]

    /// Whatever each record takes on the server, results come in input order, or each of them
    /// once; never are there more calls or more items than allowed.
    #[test]
    fn order_holds_over_lanes(
        delays in prop::collection::vec(0u64..50, 1..60),
        lanes in 1usize..9,
        connections in 1usize..4,
        window in 1usize..40,
        unordered in any::<bool>(),
    ) {
        on_paused_clock(async {
            let store = Store::new();
            for (number, delay) in delays.iter().enumerate() {
                let record = cid(&record(number));
                store.inject(Fault::delay(Duration::from_millis(*delay)).of(record));
            }
            let client = store.client().with_connections(connections);
            let options = Options::new().calls(lanes)
                .window(window)
                .unordered(unordered)
                .retry(Retry::off());
            let mut results = records(delays.len()).push_to_with(&client, &options);
            let mut indexes = Vec::new();
            while let Some(result) = in_a_week(results.next()).await {
                indexes.push(result.unwrap().index);
                let stats = results.stats();
                assert!(stats.in_window <= window as u64, "{stats}");
            }
            if unordered {
                indexes.sort_unstable();
            }
            let all: Vec<u64> = (0..delays.len() as u64).collect();
            assert_eq!(indexes, all);
            assert!(store.calls().len() <= lanes);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_goes_to_the_lane_with_the_least_to_do() {
    let (client, peer) = scripted();
    let options = Options::new().calls(2).window(6);
    let mut results = records(100).push_to_with(&client, &options);
    assert_pending(&mut results);
    let mut first = peer.call();
    assert_eq!(first.records(), [record(0)]);
    assert_pending(&mut results);
    let mut second = peer.call();
    assert_eq!(second.records(), [], "the transport has not asked before");
    assert_pending(&mut results);
    assert_eq!(first.records(), [record(2), record(4)]);
    assert_eq!(second.records(), [record(1), record(3), record(5)]);
    for index in [0, 2] {
        first.answer_cid(cid(&record(index)));
    }
    assert_eq!(next(&mut results).unwrap().index, 0);
    assert!(
        poll(&mut results).is_pending(),
        "the results keep their order"
    );
    assert_eq!(first.records(), [record(6)], "the other has three to do");
    assert_eq!(second.records(), []);
}

/// An answer makes room in its call, even if its result has to wait for another and so makes no room in the
/// window.
#[tokio::test(start_paused = true)]
async fn a_lane_goes_on_while_the_head_is_slow() {
    let second = Duration::from_secs(1);
    let store = Store::new();
    store.inject(Fault::delay(10 * second).of(cid(&record(0))));
    slow_down(&store, second);
    let start = Instant::now();
    let options = Options::new().calls(2).in_flight(1, 1);
    push_all(&store.client(), &options, 12).await;
    assert!(start.elapsed() < 12 * second, "{:?}", start.elapsed());
}

/// A record that breaks each of its calls uses up its attempts. No other lane is closed for it.
#[tokio::test(start_paused = true)]
async fn a_record_that_breaks_its_calls_uses_up_its_attempts_and_the_other_lanes_go_on() {
    for status in [Status::unavailable("no"), Status::deadline_exceeded("no")] {
        let store = Store::new();
        let poison = cid(&record(77));
        store.inject(
            Fault::status(status)
                .of(poison)
                .on(Method::Push)
                .times(u64::MAX),
        );
        store.inject(Fault::delay(100 * MILLI).on(Method::Push).times(u64::MAX));
        let start = Instant::now();
        let options = Options::new().calls(16).window(160).unordered(true);
        let results = records(2_000).push_to_with(&store.client(), &options);
        let results: Vec<_> = in_a_week(results.collect()).await;
        let failed: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
        assert_eq!((failed.len(), failed[0].index), (1, 77));
        assert_eq!(failed[0].attempts, 5);
        // 2,000 in 16 calls at 100 ms.
        assert!(start.elapsed() < 13_500 * MILLI, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_waits_in_the_transport_leaves_its_connection_alone() {
    let store = Store::builder().max_calls(1).build();
    slow_down(&store, Duration::from_secs(1));
    let start = Instant::now();
    let options = Options::new().calls(2).window(20).max_call_age(None);
    push_all(&store.client(), &options, 300).await;
    let least = Duration::from_secs(300);
    assert!(
        start.elapsed() >= least,
        "one at a time: {:?}",
        start.elapsed()
    );
    assert!(store.calls().iter().all(|call| call.end == Some(End::Ok)));
}

/// Lookups and items at their last try need calls of their own, where the server allows no more.
#[tokio::test(start_paused = true)]
async fn lookups_and_last_attempts_do_not_wait_long_for_calls_of_their_own() {
    for (allowed, connections, lanes) in [(1, 1, 1), (1, 2, 4), (1, 3, 3), (2, 2, 6)] {
        let store = Store::builder().max_calls(allowed).build();
        for number in (0..400).filter(|number| number % 7 == 3) {
            store.insert(record(number)).unwrap();
        }
        for number in (0..400).step_by(40) {
            let once = Fault::status(Status::internal("no")).on(Method::Push);
            store.inject(once.of(cid(&record(number))));
        }
        slow_down(&store, 5 * MILLI);
        let client = store.client().with_connections(connections);
        let retry = Retry::new().max_attempts(2);
        let options = Options::new().calls(lanes).window(20).retry(retry);
        let mut results = records(400).push_to_with(&client, &options);
        let mut last = Instant::now();
        while let Some(result) = in_a_week(results.next()).await {
            result.unwrap_or_else(|failed| panic!("{failed}"));
            let gap = last.elapsed();
            assert!(gap < Duration::from_secs(1), "{gap:?} with {lanes} lanes");
            last = Instant::now();
        }
        let reset = |call: &&Call| call.end == Some(End::Cancelled);
        assert_eq!(store.calls().iter().filter(reset).count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_there_is_not_tried_over_and_over() {
    for (lanes, connections) in [(1, 1), (2, 1), (4, 1), (8, 4)] {
        let (good, dead) = (slow_store(5 * MILLI), Store::new());
        dead.inject(Fault::no_connection().times(u64::MAX));
        let client = dead.client().with_nodes_of(good.client());
        let client = client.with_connections(connections);
        let start = Instant::now();
        let stats = push_all(&client, &Options::new().calls(lanes), 2_000).await;
        assert!(stats.calls < 60, "{stats}");
        let ideal = 2_000 * 5 * MILLI / u32::try_from(lanes).unwrap();
        assert!(start.elapsed() < ideal * 3 / 2, "{:?}", start.elapsed());
    }
}

/// A node that allows few calls gets few. No calls of other nodes are closed for that.
#[tokio::test(start_paused = true)]
async fn a_node_that_allows_fewer_calls_has_fewer() {
    let few = Store::builder().max_calls(1).build();
    slow_down(&few, 5 * MILLI);
    let client = few.client().with_nodes_of(slow_store(5 * MILLI).client());
    let stats = push_all(&client, &Options::new().calls(6).window(60), 5_000).await;
    assert!(stats.calls < 12, "{stats}");
}

/// The node takes calls, and never reads what they carry.
#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_holds_up_nobody_for_long() {
    let store = slow_store(50 * MILLI);
    let (hangs, _peer) = scripted();
    for lanes in [1, 2, 4] {
        let client = hangs.clone().with_nodes_of(store.client());
        let start = Instant::now();
        push_all(&client, &Options::new().calls(lanes), 10_000).await;
        // It is tried once by a single call, and then set aside.
        let alone = 10_000 * 50 * MILLI / u32::try_from(lanes).unwrap();
        let bound = 2 * alone + Duration::from_secs(120);
        assert!(start.elapsed() < bound, "{:?} for {lanes}", start.elapsed());
        store.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_refuses_all_leaves_the_other_its_lanes() {
    let (good, bad) = (slow_store(100 * MILLI), Store::new());
    bad.inject(Fault::status(Status::unavailable("no backend")).times(u64::MAX));
    let client = good.client().with_nodes_of(bad.client());
    let start = Instant::now();
    push_all(&client, &Options::new().calls(8).window(80), 4_000).await;
    assert!(
        start.elapsed() < Duration::from_secs(55),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn all_lanes_share_one_window_of_bytes() {
    let store = Store::builder().already_stored(AlreadyStored::Ref).build();
    slow_down(&store, 5 * MILLI);
    let records = stream::iter(vec![sized(10_000); 200]);
    let options = Options::new().calls(4).window_bytes(50_000).dedup(false);
    let mut results = records.push_to_with(&store.client(), &options);
    let mut most = 0;
    while let Some(result) = in_a_week(results.next()).await {
        result.unwrap();
        most = most.max(results.stats().in_window);
    }
    assert_eq!(store.calls().len(), 4);
    // The one just handed out is not in it any more.
    assert_eq!(most, 4, "five of 10,000 bytes fill it");
}

/// The validator of one node is down, and its words do not say so.
#[tokio::test(start_paused = true)]
async fn a_node_that_fails_at_every_record_is_set_aside_and_costs_none_its_tries() {
    let failing = |_: &Record| Validation::Fail(VAGUE_WORDS.to_owned());
    let down = Store::builder().validate(failing).build();
    let up = Store::new();
    let client = down.client().with_nodes_of(up.client());
    let options = Options::new().calls(4).window(50);
    let results = records(500).push_to_with(&client, &options);
    let handle = results.handle();
    let results: Vec<_> = in_a_week(results.collect()).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!((up.len(), down.len()), (500, 0));
    let calls = down.calls().len();
    assert!(
        (1..60).contains(&calls),
        "{calls} calls of a node that is down"
    );
    assert!(!handle.stats().circuit_open);
}

#[tokio::test(start_paused = true)]
async fn records_at_fault_set_no_node_aside() {
    let is_bad = |number: usize| number % 40 >= 20;
    let nodes = [0, 1].map(|_| store_that_fails_at((0..200).filter(|number| is_bad(*number))));
    let clients = nodes.iter().map(Store::client);
    let client = clients.reduce(Client::with_nodes_of).unwrap();
    let start = Instant::now();
    let results = records(200).push_to_with(&client, &Options::new().calls(4).window(32));
    let results: Vec<_> = in_a_week(results.collect()).await;
    for (number, result) in results.iter().enumerate() {
        assert_eq!(result.is_err(), is_bad(number), "{number}: {result:?}");
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}
