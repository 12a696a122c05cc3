//! Searches: each record once, and whole or with an error.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{CircuitBreaker, Code, Error, ErrorKind, Retry, Sort, Status, Token};
use futures::{FutureExt, StreamExt, TryStreamExt};
use proptest::prelude::*;

use crate::support::clock::{SECOND, in_a_week, on_paused_clock, paused_runtime};
use crate::support::messages::framed;
use crate::support::peer::{next_call, scripted};
use crate::support::polling::{self, assert_pending};
use crate::support::properties::cases;
use crate::support::records::{cid, record};
use crate::support::searching::FoundCid;
use crate::support::stores::{calls_of, store_with, store_with_token};

fn fill(store: &Store, count: usize) {
    for number in 0..count {
        store.insert(record(number)).unwrap();
    }
}

/// What a search gives, each once, and its error.
async fn all_of(
    search: impl futures::Stream<Item = SearchResult>,
) -> (BTreeSet<Cid>, Option<Error>) {
    let results: Vec<_> = in_a_week(search.collect()).await;
    let mut found = BTreeSet::new();
    let count = results.len();
    for (place, result) in results.into_iter().enumerate() {
        match result {
            Ok(cid) => assert!(found.insert(cid), "{cid} is found twice"),
            Err(error) => {
                assert_eq!(place, count - 1, "an error is the last item");
                return (found, Some(error));
            }
        }
    }
    (found, None)
}

async fn whole(search: impl futures::Stream<Item = SearchResult>) -> BTreeSet<Cid> {
    let (found, error) = all_of(search).await;
    assert!(error.is_none(), "{error:?}");
    found
}

#[tokio::test]
async fn it_finds_what_is_asked_for() {
    let (store, cids) = store_with(20);
    let client = store.client();
    assert_eq!(
        whole(client.search(Query::new())).await,
        cids.iter().copied().collect()
    );
    let tens = whole(client.search(Query::new().name("agent-1?"))).await;
    assert_eq!(tens, cids[10..].iter().copied().collect());
    let few = whole(client.search(Query::new().name("agent-3").name("AGENT-4"))).await;
    assert_eq!(few, [cids[3], cids[4]].into());
    let others = Query::new().without(Query::new().name("agent-1*"));
    assert_eq!(whole(client.search(others.clone())).await.len(), 9);
    assert_eq!(client.count(others).await.unwrap(), 9);
    assert_eq!(client.count(Query::new()).await.unwrap(), 20);
    assert!(
        whole(client.search(Query::new().name("nobody")))
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_limit_is_the_first_of_an_order() {
    let (store, cids) = store_with(10);
    let query = Query::new().sort(Sort::Recency).limit(3);
    let found: Vec<_> = store.client().search(query).try_collect().await.unwrap();
    let newest: Vec<_> = cids.iter().rev().take(3).copied().collect();
    assert_eq!(found, newest);
    assert!(
        calls_of(&store, Method::CountRecords).is_empty(),
        "a list that is full need not be compared"
    );
    let more = Query::new().limit(100);
    assert_eq!(whole(store.client().search(more)).await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_ends_early_is_made_again() {
    let (store, cids) = store_with(100);
    store.inject(Fault::end().on(Method::SearchCids).at(10));
    store.inject(Fault::cut().on(Method::SearchCids).in_call(1).at(50));
    store.inject(Fault::end().on(Method::SearchCids).in_call(2).at(0));
    let search = store.client().search(Query::new());
    let handle = search.handle();
    assert_eq!(whole(search).await, cids.into_iter().collect());
    let stats = handle.stats();
    assert_eq!(
        (stats.succeeded, stats.calls, stats.faults),
        (100, 10, 3),
        "{stats}"
    );
    assert!(handle.has_ended());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_stays_short_is_an_error_at_its_end() {
    let (store, _) = store_with(100);
    store.inject(Fault::end().on(Method::SearchCids).at(99).times(u64::MAX));
    let (found, error) = all_of(store.client().search(Query::new())).await;
    assert_eq!(found.len(), 99);
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Incomplete);
    assert_eq!(
        error.to_string(),
        "incomplete: the server has listed 99 records, and there are more"
    );
    assert_eq!(
        calls_of(&store, Method::SearchCids).len(),
        6,
        "one that is new, and 5 that are not"
    );
}

/// A limit is no reason to take a short list for a whole one.
#[tokio::test(start_paused = true)]
async fn a_short_list_is_found_out_below_a_limit_too() {
    for older in [false, true] {
        let store = Store::builder().release_1_2(older).build();
        fill(&store, 100);
        store.inject(Fault::end().on(Method::SearchCids).in_call(0).at(20));
        let found = whole(store.client().search(Query::new().limit(60))).await;
        assert_eq!(found.len(), 60);
        store.inject(Fault::end().on(Method::SearchCids).at(20));
        assert_eq!(
            whole(store.client().search(Query::new().limit(600)))
                .await
                .len(),
            100
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_server_that_does_not_count_is_asked_for_one_more() {
    let store = Store::builder().release_1_2(true).build();
    fill(&store, 50);
    let client = store.client();
    store.inject(Fault::end().on(Method::SearchCids).in_call(0).at(20));
    assert_eq!(whole(client.search(Query::new())).await.len(), 50);
    assert_eq!(
        client.count(Query::new()).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

/// Who may list, and not count, can still know.
#[tokio::test(start_paused = true)]
async fn a_count_that_is_denied_is_done_without() {
    let (store, cids) = store_with(50);
    let denied = Status::permission_denied("no counting");
    store.inject(
        Fault::status(denied)
            .on(Method::CountRecords)
            .times(u64::MAX),
    );
    store.inject(Fault::end().on(Method::SearchCids).at(10));
    let search = store.client().search(Query::new());
    assert_eq!(whole(search).await, cids.into_iter().collect());
}

#[tokio::test]
async fn what_a_server_would_ignore_is_refused_and_not_everything_found() {
    let store = Store::builder().release_1_2(true).build();
    fill(&store, 5);
    let client = store.client();
    for (query, words) in [
        (Query::new().annotation("team:*"), "ignores annotation,"),
        (
            Query::new().name("a*").without(Query::new().author("x")),
            "ignores what is left out,",
        ),
        (Query::new().owner_verified(), "ignores owner_verified,"),
    ] {
        let (found, error) = all_of(client.search(query.clone())).await;
        let error = error.unwrap();
        assert!(found.is_empty());
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(
            client.count(query).await.unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }
    let before = store.calls().len();
    let (_, error) = all_of(client.search(Query::new().module(" "))).await;
    assert_eq!(error.unwrap().kind(), ErrorKind::Invalid);
    assert_eq!(store.calls().len(), before, "nothing is sent");
}

#[tokio::test(start_paused = true)]
async fn nothing_happens_before_the_first_poll_and_a_drop_cancels() {
    let (store, _) = store_with(3);
    store.inject(Fault::stall().on(Method::SearchCids).at(1));
    let mut search = store.client().search(Query::new());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(store.calls().is_empty());
    assert!(search.next().await.unwrap().is_ok());
    drop(search);
    let cancelled = |calls: &[agntcy_dir_stream::server::Call]| {
        calls
            .iter()
            .any(|call| call.method == Method::SearchCids && call.end.is_some())
    };
    in_a_week(store.wait_for(cancelled)).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_stalls_is_dropped_and_made_again() {
    let (store, cids) = store_with(10);
    store.inject(Fault::stall().on(Method::SearchCids).at(4));
    let start = tokio::time::Instant::now();
    assert_eq!(
        whole(store.client().search(Query::new())).await,
        cids.into_iter().collect()
    );
    assert!(start.elapsed() >= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_it_when_the_circuit_was_open_for_too_long() {
    let (store, _) = store_with(10);
    store.inject(Fault::no_connection().times(u64::MAX));
    let (found, error) = all_of(store.client().search(Query::new())).await;
    assert!(found.is_empty());
    assert_eq!(error.unwrap().kind(), ErrorKind::CircuitOpen);
    let patient = store.client().with_breaker(CircuitBreaker::off());
    let options = Options::new().retry(Retry::new().timeout(Duration::from_secs(20)));
    let (_, error) = all_of(patient.search_with(Query::new(), &options)).await;
    let error = error.unwrap();
    assert!(!error.is_of_item(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn without_retries_the_first_fault_is_the_end() {
    let (store, _) = store_with(10);
    let options = Options::new().retry(Retry::off());
    store.inject(Fault::cut().on(Method::SearchCids).at(4));
    let (found, error) = all_of(store.client().search_with(Query::new(), &options)).await;
    assert_eq!(
        (found.len(), error.unwrap().kind()),
        (4, ErrorKind::Unavailable)
    );
    store.inject(Fault::end().on(Method::SearchCids).at(4));
    let (found, error) = all_of(store.client().search_with(Query::new(), &options)).await;
    assert_eq!(
        (found.len(), error.unwrap().kind()),
        (4, ErrorKind::Incomplete)
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_hears_it_at_once() {
    for (code, kind) in [
        (Code::PermissionDenied, ErrorKind::Denied),
        (Code::Unimplemented, ErrorKind::Unsupported),
        (Code::InvalidArgument, ErrorKind::Rejected),
    ] {
        let (store, _) = store_with(10);
        store.inject(Fault::status(Status::new(code, "no")).on(Method::SearchCids));
        let (found, error) = all_of(store.client().search(Query::new())).await;
        assert_eq!((found.len(), error.unwrap().kind()), (0, kind));
        assert_eq!(calls_of(&store, Method::SearchCids).len(), 1);
    }
}

/// The same record in a list twice counts once.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_listed_twice_does_not_make_up_for_another() {
    let (store, cids) = store_with(10);
    store.inject(Fault::spare_answer().on(Method::SearchCids).at(2));
    store.inject(Fault::end().on(Method::SearchCids).in_call(0).at(9));
    assert_eq!(
        whole(store.client().search(Query::new())).await,
        cids.into_iter().collect()
    );
}

#[tokio::test(start_paused = true)]
async fn a_handle_ends_it() {
    let (store, _) = store_with(10);
    store.inject(Fault::stall().on(Method::SearchCids).at(4));
    let mut search = store.client().search(Query::new());
    let handle = search.handle();
    for _ in 0..4 {
        assert!(search.next().await.unwrap().is_ok());
    }
    assert!(search.next().now_or_never().is_none());
    handle.stop();
    // Who takes its end for that of the list would think that these were all.
    let error = in_a_week(search.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incomplete);
    assert!(in_a_week(search.next()).await.is_none());
    assert!(handle.has_ended());
    assert_eq!(handle.stats().failed, 1);
}

#[tokio::test]
async fn what_is_found_is_pulled_and_deleted() {
    let (from, cids) = store_with(300);
    let (store, client) = (Store::new(), from.client());
    let copied = client
        .search(Query::new())
        .try_pull_from(&client)
        .try_push_to(&store.client());
    assert_eq!(
        copied
            .filter(|r| std::future::ready(r.is_ok()))
            .count()
            .await,
        300
    );
    assert_eq!(store.cids(), from.cids());
    let some = client.search(Query::new().name("agent-1*"));
    let deleted = some.try_delete_from(&client).finish().await;
    assert_eq!(deleted.stats.succeeded, 111);
    assert_eq!(from.len(), cids.len() - 111);
}

/// A list of what is no CID gives the task's other work its turn.
#[tokio::test(start_paused = true)]
async fn a_long_list_of_what_is_no_cid_is_read_in_pieces() {
    let (client, peer) = scripted();
    let mut search = client.search(Query::new().limit(50_000));
    let mut call = next_call(&mut search, &peer).await;
    call.chunks();
    for number in 0..20_000 {
        let cid = format!("no CID {number}");
        call.answer(&FoundCid { cid });
    }
    assert_pending(&mut search);
    let unread = call.unread();
    assert!(unread > 10_000, "{unread} of 20,000 are left by one poll");
}

/// The timeout is how long nothing new may come.
#[tokio::test(start_paused = true)]
async fn the_same_record_again_and_again_is_nothing_new() {
    let (client, peer) = scripted();
    let mut search = client.search(Query::new().limit(5));
    let mut call = next_call(&mut search, &peer).await;
    call.chunks();
    let there = cid(&record(0));
    let cid = there.to_string();
    call.answer(&FoundCid { cid: cid.clone() });
    assert_eq!(polling::next(&mut search).unwrap(), there);
    for minute in 0..30 {
        call.answer(&FoundCid { cid: cid.clone() });
        if search.next().now_or_never().is_some() {
            assert!(minute >= 9);
            return;
        }
        tokio::time::advance(60 * SECOND).await;
    }
    panic!("it still goes on after half an hour");
}

/// What cannot be read ends it with an error.
#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_is_an_error() {
    for garbage in [framed(&[0xff; 8]), framed(&[0; 100 << 10])] {
        let (client, peer) = scripted();
        let mut search = client.search(Query::new().limit(5));
        let mut call = next_call(&mut search, &peer).await;
        call.chunks();
        let there = cid(&record(0));
        let cid = there.to_string();
        call.answer(&FoundCid { cid });
        call.answer_bytes(garbage);
        assert_eq!(polling::next(&mut search).unwrap(), there);
        let error = polling::next(&mut search).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        polling::assert_ended(&mut search);
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_that_is_too_long_is_refused() {
    let (store, _) = store_with(3);
    let long = "\u{1f980}".repeat(5 << 18);
    for query in [
        Query::new().name(&*long),
        Query::new().description(&*long).limit(3),
    ] {
        let (found, error) = all_of(store.client().search(query)).await;
        assert!(found.is_empty());
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
        assert!(error.to_string().len() < 1000);
    }
    let short = Query::new().name("\u{1f980}*\u{0}%_[a]");
    assert!(whole(store.client().search(short)).await.is_empty());
}

/// A consumer that rests for an hour has the rest of it, though the connection is gone by then.
#[tokio::test(start_paused = true)]
async fn a_consumer_that_rests_loses_nothing() {
    let (store, cids) = store_with(20);
    store.inject(Fault::cut().on(Method::SearchCids).at(10));
    let search = store.client().search(Query::new()).then(|result| async {
        tokio::time::sleep(3600 * SECOND).await;
        result
    });
    assert_eq!(whole(search.boxed()).await, cids.into_iter().collect());
}

#[tokio::test(start_paused = true)]
async fn odd_options_do_no_harm() {
    for options in [
        Options::new().stall_after(None),
        Options::new().stall_after(Some(SECOND)),
        Options::new().retry(Retry::new().max_attempts(1)),
        Options::new().retry(Retry::new().backoff(Duration::ZERO, Duration::ZERO)),
        Options::new().retry(Retry::new().timeout(Duration::MAX)),
        Options::new().rate(1),
        Options::new().window(1),
        Options::new().window_bytes(1),
        Options::new().stop_on_error(true),
    ] {
        let (store, cids) = store_with(30);
        store.inject(Fault::end().on(Method::SearchCids).at(10));
        store.inject(Fault::cut().on(Method::SearchCids).in_call(1).at(20));
        let search = store.client().search_with(Query::new(), &options);
        assert_eq!(
            whole(search).await,
            cids.into_iter().collect(),
            "{options:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn without_any_time_nothing_is_sent() {
    for query in [
        Query::new(),
        Query::new().annotation("a:b"),
        Query::new().limit(5),
    ] {
        let (store, _) = store_with(30);
        let options = Options::new().retry(Retry::new().timeout(Duration::ZERO));
        let (found, error) = all_of(store.client().search_with(query.clone(), &options)).await;
        let calls = store.calls().len();
        assert_eq!((found.len(), calls), (0, 0), "{query:?}: {error:?}");
        assert!(!error.unwrap().is_of_item());
    }
}

/// Timers belong to a runtime.
#[test]
fn it_goes_on_in_another_runtime() {
    for first_is_gone in [true, false] {
        let (store, cids) = store_with(20);
        store.inject(Fault::end().on(Method::SearchCids).at(10).times(2));
        let mut search = store.client().search(Query::new());
        let (first, second) = (paused_runtime(), paused_runtime());
        first.block_on(async {
            for _ in 0..10 {
                search.next().await.unwrap().unwrap();
            }
            // It rests between two lists.
            while search.stats().faults == 0 {
                assert!(search.next().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
        });
        let rests = (!first_is_gone).then_some(first);
        second.block_on(async {
            assert_eq!(whole(search.boxed()).await.len(), cids.len() - 10);
        });
        drop(rests);
    }
}

/// A token that is renewed is no fault.
#[tokio::test(start_paused = true)]
async fn an_old_token_is_renewed_without_retries_too() {
    let (store, client, current) = store_with_token();
    fill(&store, 5);
    assert_eq!(whole(client.search(Query::new().limit(3))).await.len(), 3);
    for (retry, next) in [
        (Retry::new(), "two"),
        (Retry::new().max_attempts(1), "three"),
        (Retry::off(), "four"),
    ] {
        tokio::time::advance(SECOND).await;
        *current.lock().unwrap() = next;
        let options = Options::new().retry(retry);
        let search = client.search_with(Query::new().limit(3), &options);
        assert_eq!(whole(search).await.len(), 3, "{options:?}");
    }
}

/// Lists are numbered, and the numbers begin again.
#[tokio::test(start_paused = true)]
async fn a_search_of_more_than_256_lists_is_whole() {
    let (store, cids) = store_with(600);
    // Each list brings one more.
    for call in 0..599 {
        store.inject(
            Fault::end()
                .on(Method::SearchCids)
                .in_call(call)
                .at(call + 1),
        );
    }
    let retry = Retry::new().backoff(Duration::ZERO, Duration::ZERO);
    let options = Options::new().retry(retry);
    let search = store.client().search_with(Query::new(), &options);
    assert_eq!(whole(search).await, cids.into_iter().collect());
}

/// What goes wrong at a call, and where.
fn fault() -> impl Strategy<Value = Fault> {
    let what = prop_oneof![
        3 => Just(Fault::end as fn() -> Fault),
        2 => Just(Fault::cut as fn() -> Fault),
        1 => Just(Fault::cut_after as fn() -> Fault),
        1 => Just(Fault::stall as fn() -> Fault),
        1 => Just(Fault::go_away as fn() -> Fault),
        1 => Just(Fault::spare_answer as fn() -> Fault),
        1 => Just((|| Fault::delay(Duration::from_secs(7))) as fn() -> Fault),
        1 => Just((|| Fault::status(Status::unavailable("away"))) as fn() -> Fault),
        1 => Just((|| Fault::status(Status::internal("vague"))) as fn() -> Fault),
        1 => Just((|| Fault::status(Status::resource_exhausted("too many"))) as fn() -> Fault),
    ];
    let method = prop_oneof![4 => Just(Method::SearchCids), 1 => Just(Method::CountRecords)];
    (what, method, prop::option::of(0..4_u64), 0..60_u64).prop_map(|(what, method, call, at)| {
        let at = match method {
            Method::CountRecords => 0,
            _ => at,
        };
        let fault = what().on(method).at(at);
        match call {
            Some(call) => fault.in_call(call),
            None => fault,
        }
    })
}

proptest! {
    #![proptest_config(cases(500))]

    /// Records that were there all the time are found each once, whatever breaks, or there is an error.
    #[test]
    fn a_search_is_whole_or_ends_with_an_error(
        count in 0..60_usize,
        faults in prop::collection::vec(fault(), 0..8),
        older: bool,
        pushed in prop::collection::vec((0..30_usize, 0..20_usize), 0..4),
    ) {
        on_paused_clock(async {
            let store = Store::builder().release_1_2(older).build();
            let there: BTreeSet<Cid> = (0..count).map(|n| store.insert(record(n)).unwrap()).collect();
            for fault in &faults {
                store.inject(fault.clone());
            }
            let mut pushed: BTreeMap<_, _> = pushed.into_iter().collect();
            let mut others = BTreeSet::new();
            let mut found = 0;
            let search = store.client().search(Query::new()).inspect(|_| {
                // Others push in the middle of it.
                for n in 0..pushed.remove(&found).unwrap_or(0) {
                    let new = record(1_000 + n);
                    others.insert(cid(&new));
                    store.insert(new).unwrap();
                }
                found += 1;
            });
            let (found, error) = all_of(search).await;
            for cid in &found {
                assert!(there.contains(cid) || others.contains(cid), "{cid} was never there");
            }
            match error {
                None => assert!(found.is_superset(&there), "{} of {count}", found.len()),
                Some(error) => {
                    let may_fail = faults.len() >= 2;
                    assert!(may_fail, "one fault is made up for: {error}");
                }
            }
        });
    }
}

/// A server that takes the token and then refuses it, at the same place of each list, brings nothing new.
#[tokio::test(start_paused = true)]
async fn a_list_that_is_refused_at_the_same_place_for_ever_has_an_end() {
    let store = Store::builder().authorize(|_| true).build();
    fill(&store, 30);
    let refused = Status::unauthenticated("not any more");
    store.inject(
        Fault::status(refused)
            .on(Method::SearchCids)
            .at(20)
            .times(u64::MAX),
    );
    let token = Token::from_fn(|| ready(Ok::<_, std::io::Error>("one".to_owned())));
    let client = store.client().with_token(token).unwrap();
    let search = client.search(Query::new());
    // Nothing new comes behind the first 20, and that may last for ten minutes.
    let lists = store.wait_for(|calls| {
        let lists = calls
            .iter()
            .filter(|call| call.method == Method::SearchCids);
        lists.count() > 1_500
    });
    let start = tokio::time::Instant::now();
    tokio::select! {
        _ = in_a_week(search.count()) => {}
        _ = in_a_week(lists) => panic!("1,500 lists in {:?}, and no end", start.elapsed()),
    }
}

/// Servers take an annotation without a colon for its key, and ignore one without a key.
#[test]
fn an_annotation_is_checked_as_servers_read_it() {
    let key = Query::new().by("annotation", "team");
    let value = Query::new().by("annotation", ":prod");
    assert_eq!((key.is_ok(), value.is_err()), (true, true));
}

#[tokio::test]
async fn an_annotation_without_a_key_does_not_find_everything() {
    let (store, _) = store_with(5);
    let (found, error) = all_of(store.client().search(Query::new().annotation(":prod"))).await;
    assert_eq!(found.len(), 0, "{error:?}");
}

/// A list as long as the limit is whole, whatever is in it.
#[tokio::test(start_paused = true)]
async fn a_full_list_with_what_is_no_cid_is_compared_with_nothing() {
    let (client, peer) = scripted();
    let mut search = client.search(Query::new().limit(2));
    let mut call = next_call(&mut search, &peer).await;
    call.chunks();
    for found in [cid(&record(0)).to_string(), "no CID".to_owned()] {
        call.answer(&FoundCid { cid: found });
    }
    call.end(Code::Ok, "");
    polling::next(&mut search).unwrap();
    let error = polling::next(&mut search).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
}

/// The bytes are those of its calls, of which the counts are some.
#[tokio::test]
async fn the_bytes_of_a_search_are_those_of_all_that_it_counts_as_its_calls() {
    let (store, _) = store_with(3);
    let search = store.client().search(Query::new().name("x".repeat(10_000)));
    let handle = search.handle();
    whole(search).await;
    let stats = handle.stats();
    assert!(
        stats.bytes_sent >= stats.calls * 10_000,
        "{} bytes in {} calls of 10,000 each",
        stats.bytes_sent,
        stats.calls
    );
}
