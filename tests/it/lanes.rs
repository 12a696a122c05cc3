//! Several calls side by side: over one window, over several connections, over several nodes.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{AlreadyStored, Call, End, Fault, Method, Store};
use agntcy_dir_stream::{Code, Retry, Status};
use futures::{Stream, StreamExt, stream};
use proptest::prelude::*;
use tokio::time::Instant;

use crate::support::{cid, free_address, in_a_week, next, poll, record, scripted, soon};

fn some(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

fn calls(calls: usize) -> Options {
    Options::new().calls(some(calls))
}

fn records(count: usize) -> impl Stream<Item = Record> + Unpin {
    stream::iter((0..count).map(record))
}

/// A store that takes so long for each record.
fn slow(each: Duration) -> Store {
    let store = Store::new();
    store.inject(Fault::delay(each).times(u64::MAX));
    store
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

const MILLI: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn calls_side_by_side_are_as_many_times_as_fast() {
    let mut took = Vec::new();
    for lanes in [1, 8, 64] {
        let store = slow(5 * MILLI);
        let start = Instant::now();
        push_all(&store.client(), &calls(lanes), 1_280).await;
        took.push(start.elapsed().as_secs_f64());
        assert_eq!(store.calls().len(), lanes);
    }
    assert!(took[0] / took[1] > 7.5, "{took:?}");
    assert!(took[0] / took[2] > 55.0, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn sixteen_calls_of_a_server_that_allows_two_are_two() {
    let two = NonZeroU32::new(2).unwrap();
    let store = Store::builder().max_calls(two).build();
    store.inject(Fault::delay(5 * MILLI).times(u64::MAX));
    let start = Instant::now();
    let stats = push_all(&store.client(), &calls(16), 1_000).await;
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
    store.inject(Fault::delay(5 * MILLI).times(u64::MAX));
    let start = Instant::now();
    let stats = push_all(&store.client(), &calls(8), 2_000).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert!(stats.calls < 40, "{stats}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_looks_up_finds_room_where_the_server_allows_no_more() {
    for (allowed, lanes) in [(1, 1), (1, 4), (2, 2)] {
        let allowed = NonZeroU32::new(allowed).unwrap();
        let store = Store::builder().max_calls(allowed).build();
        let once = Fault::status(Status::internal("once"));
        store.inject(once.on(Method::Push).at(5));
        store.inject(Fault::delay(MILLI).times(u64::MAX));
        let stats = push_all(&store.client(), &calls(lanes), 1_000).await;
        assert_eq!((stats.lookup_calls, stats.faults), (1, 1), "{stats}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_lane_that_is_cut_off_touches_only_what_it_carried() {
    for lanes in [2, 8] {
        let store = Store::new();
        store.inject(Fault::cut().on(Method::Push).in_call(1).at(10));
        store.inject(Fault::delay(5 * MILLI).times(u64::MAX));
        let client = store.client().with_connections(some(lanes));
        let options = calls(lanes).window(some(lanes * 20));
        let start = Instant::now();
        let stats = push_all(&client, &options, lanes * 100).await;
        assert!(stats.resent <= 20, "the share of one lane: {stats}");
        assert_eq!(stats.faults, 1);
        let pushes: Vec<Call> = store.calls();
        let pushes = pushes.iter().filter(|call| call.method == Method::Push);
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
    let store = slow(5 * MILLI);
    let bad: Record = r#"{"name": "bad"}"#.parse().unwrap();
    let records = (0..400).map(|number| match number {
        100 => bad.clone(),
        number => record(number),
    });
    let options = calls(8).window(some(80));
    let results = stream::iter(records).push_to_with(&store.client(), &options);
    let monitor = results.monitor();
    let results: Vec<_> = in_a_week(results.collect()).await;
    let failed: Vec<u64> = results
        .iter()
        .filter_map(|result| Some(result.as_ref().err()?.index))
        .collect();
    assert_eq!(failed, [100]);
    let stats = monitor.stats();
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
    let results: Vec<_> = in_a_week(paced.push_to_with(&client, &calls(8)).collect()).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(store.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_finished_stream_resets_none_of_its_calls() {
    let store = slow(MILLI);
    push_all(&store.client(), &calls(8), 200).await;
    let seen = store.calls();
    assert_eq!(seen.len(), 8);
    assert!(seen.iter().all(|call| call.end == Some(End::Ok)));
}

#[tokio::test(start_paused = true)]
async fn dropped_all_calls_are_reset() {
    let store = slow(5 * MILLI);
    let mut results = records(1_000).push_to_with(&store.client(), &calls(8));
    for _ in 0..20 {
        in_a_week(results.next()).await.unwrap().unwrap();
    }
    drop(results);
    let is_over = |calls: &[Call]| calls.iter().all(|call| call.end.is_some());
    let seen = in_a_week(store.wait_for(is_over)).await;
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
    store.inject(Fault::delay(5 * MILLI).times(u64::MAX));
    let results = records(300).push_to_with(&store.client(), &calls(2).window(some(20)));
    let results: Vec<_> = in_a_week(results.collect()).await;
    assert_eq!(results.len(), 300);
    let stored = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(stored, store.len(), "what was under way has its answer");
    let kinds = results.iter().filter_map(|result| result.as_ref().err());
    assert!(
        kinds
            .clone()
            .all(|failed| failed.kind() == agntcy_dir_stream::ErrorKind::Denied),
        "{:?}",
        kinds.map(|failed| failed.kind()).collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn no_lane_takes_the_whole_window() {
    let (client, peer) = scripted();
    let options = calls(4).window(some(40));
    let mut results = records(100).push_to_with(&client, &options);
    let mut open = Vec::new();
    let mut carried = Vec::new();
    for lane in 0..4 {
        assert!(poll(&mut results).is_pending());
        let mut call = peer.call();
        assert!(peer.try_call().is_none(), "one is opened after the other");
        // The first carries an item before it is asked; while others are opened, one is enough.
        carried.push(call.records().len());
        assert_eq!(carried[lane], usize::from(lane == 0));
        open.push(call);
    }
    assert!(poll(&mut results).is_pending());
    assert!(peer.try_call().is_none(), "four are enough");
    for (call, carried) in open.iter_mut().zip(carried) {
        assert_eq!(carried + call.records().len(), 10, "its share");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_opened_no_faster_than_allowed() {
    let store = slow(5 * MILLI);
    let ten = NonZeroU32::new(10).unwrap();
    let client = store.client().with_call_rate(ten);
    let bad: Record = r#"{"name": "bad"}"#.parse().unwrap();
    let start = Instant::now();
    let results = stream::iter(vec![bad; 30]).push_to_with(&client, &calls(4));
    let summary = in_a_week(results.finish()).await;
    assert_eq!(summary.stats.failed, 30);
    let calls = u32::try_from(summary.stats.calls).unwrap();
    let least = 100 * MILLI * (calls - 1);
    assert!(start.elapsed() >= least, "{calls} in {:?}", start.elapsed());
    assert!(start.elapsed() <= least + 200 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn calls_spread_over_the_nodes() {
    let stores = [slow(5 * MILLI), slow(5 * MILLI)];
    let client = stores[0].client().with_nodes_of(stores[1].client());
    push_all(&client, &calls(6), 600).await;
    for store in stores {
        assert_eq!(store.calls().len(), 3);
        assert_eq!(store.len(), 300);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_is_set_aside_and_comes_back() {
    let (good, bad) = (slow(5 * MILLI), Store::new());
    // It breaks, takes no connection for a while, and then it does.
    bad.inject(Fault::cut().at(20));
    bad.inject(Fault::delay(5 * MILLI).times(u64::MAX));
    let client = good.client().with_nodes_of(bad.client());
    let start = Instant::now();
    let results = records(10_000).push_to_with(&client, &calls(4));
    let monitor = results.monitor();
    let mut results = std::pin::pin!(results);
    for _ in 0..10 {
        in_a_week(results.next()).await.unwrap().unwrap();
    }
    bad.inject(Fault::no_connection().times(5));
    while let Some(result) = in_a_week(results.next()).await {
        result.unwrap();
    }
    let stats = monitor.stats();
    assert!(stats.resent <= 1_024, "{stats}");
    assert!(stats.faults <= 8, "{stats}");
    // It took part before and after: 10,000 over 4 calls at 5 ms are 12.5 s.
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    assert!(bad.len() > 3_000, "{} and {}", good.len(), bad.len());
}

/// A node that nobody answers at keeps nobody from using the others, even with one call.
#[tokio::test]
async fn a_node_that_is_not_there_is_gone_around() {
    let store = Store::new();
    for _ in 0..4 {
        let nowhere = Client::connect_lazy(format!("http://{}", free_address())).unwrap();
        let client = nowhere.with_nodes_of(store.client());
        for lanes in [1, 3] {
            let results = records(50).push_to_with(&client, &calls(lanes));
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
    let mut results = records(10).push_to_with(&client, &calls(4));
    let start = Instant::now();
    let first = in_a_week(results.next()).await.unwrap().unwrap_err();
    assert_eq!(first.kind(), agntcy_dir_stream::ErrorKind::CircuitOpen);
    assert!(start.elapsed() >= Duration::from_secs(300));
    assert!(results.stats().circuit_open);
}

#[tokio::test(start_paused = true)]
async fn many_bad_records_do_not_have_the_rest_sent_over_and_over() {
    let (count, every) = (20_000, 10);
    let bad = |number: usize| {
        let text = format!(r#"{{"name": "bad", "number": {number}}}"#);
        text.parse::<Record>().unwrap()
    };
    for lanes in [1, 8] {
        let store = slow(MILLI);
        let records = (0..count).map(|number| match number % every {
            7 => bad(number),
            _ => record(number),
        });
        let results = stream::iter(records).push_to_with(&store.client(), &calls(lanes));
        let summary = in_a_week(results.finish()).await;
        assert_eq!(summary.stats.failed, (count / every) as u64);
        assert!(summary.stats.resent <= count as u64, "{summary}");

        // Not so where the caller wants it otherwise.
        let fixed = calls(lanes).in_flight(some(64), some(64));
        let records = (0..1_000).map(|number| match number % every {
            7 => bad(number),
            _ => record(number + count),
        });
        let results = stream::iter(records).push_to_with(&store.client(), &fixed);
        let summary = in_a_week(results.finish()).await;
        assert!(summary.stats.resent > 2_000, "{summary}");
    }
}

#[tokio::test(start_paused = true)]
async fn deletes_go_side_by_side_and_a_failing_one_stands_alone() {
    let store = Store::builder().already_stored(AlreadyStored::Ref).build();
    let refs: Vec<_> = (0..1_000)
        .map(|number| store.insert(record(number)).unwrap())
        .collect();
    let refusal = Status::failed_precondition("it is pinned");
    store.inject(Fault::status(refusal).of(refs[321]).times(u64::MAX));
    let results = stream::iter(refs).delete_from_with(&store.client(), &calls(4));
    let results: Vec<_> = in_a_week(results.collect()).await;
    let failed: Vec<u64> = results
        .iter()
        .filter_map(|result| Some(result.as_ref().err()?.index))
        .collect();
    assert_eq!(failed, [321]);
    assert_eq!(store.len(), 1);
    let seen = store.calls();
    assert!(seen.len() < 60, "{} calls", seen.len());
    let codes = seen
        .iter()
        .filter(|call| call.end == Some(End::Status(Code::FailedPrecondition)));
    assert!(codes.count() <= 12);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = Store::new();
            for (number, delay) in delays.iter().enumerate() {
                let record = cid(&record(number));
                store.inject(Fault::delay(Duration::from_millis(*delay)).of(record));
            }
            let client = store.client().with_connections(some(connections));
            let options = calls(lanes)
                .window(some(window))
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
    let options = calls(2).window(some(6));
    let mut results = records(100).push_to_with(&client, &options);
    assert!(poll(&mut results).is_pending());
    let mut first = peer.call();
    assert_eq!(first.records(), [record(0)]);
    assert!(poll(&mut results).is_pending());
    let mut second = peer.call();
    assert_eq!(second.records(), [], "the transport has not asked before");
    assert!(poll(&mut results).is_pending());
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
