//! A store that is followed: the view becomes the store, whatever events are lost.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{
    Change, CircuitBreaker, Code, ErrorKind, FollowResult, Retry, Source, Status,
};
use bytes::Bytes;
use futures::stream::{self, FusedStream};
use futures::{FutureExt, StreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tokio::time::Instant;
use tonic::body::Body;

use crate::support::clock::{SECOND, in_a_week, paused_runtime};
use crate::support::listening::{DELETED, Event, Heard, PUSHED};
use crate::support::messages::{framed, grpc_response, trailers};
use crate::support::peer::{Peer, PeerCall, next_call, next_call_of, scripted};
use crate::support::polling::{self, ready};
use crate::support::records::{cid, record};
use crate::support::searching::{Count, FoundCid};
use crate::support::stores::{calls_of, store_with};

const LISTEN: &str = "/agntcy.dir.events.v1.EventService/Listen";
const COUNT: &str = "/agntcy.dir.search.v1.SearchService/CountRecords";
const SEARCH: &str = "/agntcy.dir.search.v1.SearchService/SearchCIDs";

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
        let change = in_a_week(changes.next()).await.unwrap().unwrap();
        assert_eq!(change, Change::Confirmed);
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

/// Answers a count and a list, which ends OK.
async fn answer_list(changes: &mut Changes, peer: &Peer, cids: &[Cid]) {
    let mut call = begin_list(changes, peer, cids.len()).await;
    list(&mut call, cids);
    call.end(Code::Ok, "");
}

/// Answers a count. Returns the call that wants the list.
async fn begin_list(changes: &mut Changes, peer: &Peer, count: usize) -> PeerCall {
    let mut call = next_call_of(changes, peer, COUNT).await;
    call.chunks();
    call.answer(&Count {
        total: count.try_into().unwrap(),
    });
    call.end(Code::Ok, "");
    let mut call = next_call_of(changes, peer, SEARCH).await;
    call.chunks();
    call
}

fn list(call: &mut PeerCall, cids: &[Cid]) {
    for cid in cids {
        let cid = cid.to_string();
        call.answer(&FoundCid { cid });
    }
}

fn tell(listens: &mut PeerCall, r#type: i32, cid: Cid) {
    let event = Event {
        r#type,
        resource_id: cid.to_string(),
        ..Event::default()
    };
    listens.answer(&Heard { event: Some(event) });
}

fn changes_of(results: Vec<FollowResult>) -> Vec<Change> {
    let changes = results.into_iter().map(Result::unwrap);
    changes
        .filter(|change| *change != Change::Confirmed)
        .collect()
}

/// A follower of a scripted server that has these: behind its first list, and the one that comes soon after that.
async fn following(cids: &[Cid]) -> (Changes, Peer, PeerCall) {
    let (client, peer) = scripted();
    let mut changes = client.follow(Query::new());
    assert_eq!(polling::next(&mut changes).unwrap(), Change::Init);
    let mut listens = next_call_of(&mut changes, &peer, LISTEN).await;
    listens.chunks();
    answer_list(&mut changes, &peer, cids).await;
    let there = read(&mut changes);
    assert_eq!(there.len(), cids.len() + 1);
    answer_list(&mut changes, &peer, cids).await;
    assert_eq!(read(&mut changes), []);
    (changes, peer, listens)
}

/// What is there to be read, with as many polls as that takes.
fn read(changes: &mut Changes) -> Vec<Change> {
    let mut all = Vec::new();
    for _ in 0..1_000 {
        all.extend(changes_of(ready(changes)));
    }
    all
}

fn some(count: usize) -> Vec<Cid> {
    (0..count).map(|number| cid(&record(number))).collect()
}

/// Where the list breaks off at an answer that cannot be read, nobody knows what is behind it.
#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_read_deletes_nothing() {
    let cids = some(5);
    for garbage in [
        // No message of its kind.
        framed(&[0xff; 8]),
        // Compressed, and nobody has said how.
        Bytes::from_static(&[1, 0, 0, 0, 1, 0]),
        // Longer than any CID.
        framed(&[0; 100 << 10]),
    ] {
        let (mut changes, peer, _listens) = following(&cids).await;
        let mut call = begin_list(&mut changes, &peer, cids.len()).await;
        list(&mut call, &cids[..2]);
        call.answer_bytes(garbage);
        let seen = ready(&mut changes);
        let deleted = seen.iter().filter(|change| change.is_ok());
        assert_eq!(deleted.count(), 0, "{seen:?}");
    }
}

/// That a server does not say how many records it has, does not say that it has none.
#[tokio::test(start_paused = true)]
async fn a_server_that_fails_to_count_deletes_nothing() {
    let (store, cids) = store_with(5);
    let options = Options::new().relist_every(60 * SECOND);
    let mut changes = store.client().follow_with(Query::new(), &options);
    assert_eq!(init(&mut changes).await, cids.iter().copied().collect());
    store.inject(Fault::end().on(Method::CountRecords).times(50));
    assert_eq!(until_quiet(&mut changes, 3600 * SECOND).await, []);
}

/// Nor does it before the first list.
#[tokio::test(start_paused = true)]
async fn a_server_that_fails_to_count_at_first_is_not_empty() {
    let (store, cids) = store_with(5);
    store.inject(Fault::end().on(Method::CountRecords).times(50));
    let mut changes = store.client().follow(Query::new());
    assert_eq!(init(&mut changes).await, cids.iter().copied().collect());
}

/// Nor does a count that cannot be read.
#[tokio::test(start_paused = true)]
async fn a_count_that_cannot_be_read_deletes_nothing() {
    let (mut changes, peer, _listens) = following(&some(5)).await;
    for _ in 0..20 {
        let mut call = next_call(&mut changes, &peer).await;
        call.chunks();
        call.answer_bytes(framed(&[0xff; 8]));
        let seen = ready(&mut changes);
        assert!(seen.is_empty(), "{seen:?}");
    }
}

/// The same text that is no CID, again and again, makes up for no record.
#[tokio::test(start_paused = true)]
async fn what_is_no_cid_counts_once() {
    let cids = some(2);
    let (mut changes, peer, _listens) = following(&cids).await;
    // It has the two, and one with a CID that nobody can read.
    let mut call = begin_list(&mut changes, &peer, 3).await;
    list(&mut call, &cids[..1]);
    for _ in 0..2 {
        let cid = "no CID".to_owned();
        call.answer(&FoundCid { cid });
    }
    call.end(Code::Ok, "");
    assert_eq!(read(&mut changes), []);
}

/// A server whose events are out of order is asked for all its records now and then, and not as fast as it answers.
#[tokio::test(start_paused = true)]
async fn a_server_that_fails_to_tell_events_is_not_listed_without_rest() {
    let mut told = Vec::new();
    for (code, after) in [
        (Code::Internal, Duration::from_millis(10)),
        (Code::Unavailable, Duration::from_millis(10)),
        (Code::Unavailable, 2 * SECOND),
        (Code::Ok, Duration::from_millis(10)),
    ] {
        let calls: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&calls);
        let client =
            Client::from_service(tower::service_fn(move |request: http::Request<Body>| {
                let path = request.uri().path().to_owned();
                let answer = match &*path {
                    LISTEN => None,
                    COUNT => Some(framed(&Count { total: 1 }.encode_to_vec())),
                    _ => {
                        let cid = cid(&record(0)).to_string();
                        Some(framed(&FoundCid { cid }.encode_to_vec()))
                    }
                };
                seen.lock().unwrap().push(path);
                async move {
                    // It takes the request, as over a network.
                    let mut body = request.into_body();
                    let _ = body.frame().await;
                    let code = match answer {
                        None => {
                            tokio::time::sleep(after).await;
                            code
                        }
                        Some(_) => Code::Ok,
                    };
                    let answer = answer.map(Frame::data);
                    let end = Frame::trailers(trailers(code, "no events"));
                    let frames = answer.into_iter().chain([end]).map(Ok::<_, std::io::Error>);
                    let body = Body::new(StreamBody::new(stream::iter(frames)));
                    Ok::<_, std::io::Error>(grpc_response().body(body).unwrap())
                }
            }));
        let mut changes = client.follow(Query::new());
        until_end(&mut changes, 600 * SECOND).await;
        let calls = calls.lock().unwrap();
        let count = |path| calls.iter().filter(|call| *call == path).count();
        let (lists, listens) = (count(SEARCH), count(LISTEN));
        told.push((code, after, lists, listens));
    }
    let is_rested =
        |(_, _, lists, listens): &(_, _, usize, usize)| (1..100).contains(lists) && *listens < 100;
    assert!(
        told.iter().all(is_rested),
        "lists, and calls that listen, in ten minutes: {told:?}"
    );
}

async fn until_end(changes: &mut Changes, time: Duration) {
    let all = async { while changes.next().await.is_some() {} };
    let _ = tokio::time::timeout(time, all).await;
}

/// A list that takes long has its rest, whatever happens to the call that listens.
#[tokio::test(start_paused = true)]
async fn a_gap_does_not_take_the_rest_of_a_list() {
    let (store, _) = store_with(5);
    let mut changes = store.client().follow(Query::new());
    init(&mut changes).await;
    assert_eq!(until_quiet(&mut changes, 60 * SECOND).await, []);
    store.inject(
        Fault::delay(20 * SECOND)
            .on(Method::SearchCids)
            .at(0)
            .times(1000),
    );
    for _ in 0..600 {
        // The call breaks as soon as it listens.
        if store.listeners() == 1 {
            store.inject(Fault::cut().on(Method::Listen));
        }
        assert_eq!(until_quiet(&mut changes, SECOND).await, []);
    }
    let lists = calls_of(&store, Method::SearchCids);
    // 20 s of work, and 40 of rest.
    assert!(lists.len() < 20, "{} lists in ten minutes", lists.len());
}

/// How long a list waits for a server that is away does not count as its work, when it is whole in the end, either.
#[tokio::test(start_paused = true)]
async fn a_list_that_waited_for_its_server_does_not_put_off_the_next() {
    let (store, _) = store_with(5);
    let breaker = CircuitBreaker::off();
    let mut changes = store.client().with_breaker(breaker).follow(Query::new());
    init(&mut changes).await;
    assert_eq!(until_quiet(&mut changes, 60 * SECOND).await, []);
    // Beyond the list that is due after five minutes.
    store.inject(Fault::no_connection().times(30));
    store.inject(Fault::cut().on(Method::Listen));
    store.insert(record(100)).unwrap();
    let began = Instant::now();
    while !store.pending_faults().is_empty() {
        assert_eq!(until_quiet(&mut changes, SECOND).await, []);
    }
    let away = began.elapsed();
    assert!(away > 360 * SECOND, "{away:?}");
    let lists = || calls_of(&store, Method::SearchCids).len();
    let before = lists();
    until_quiet(&mut changes, 60 * SECOND).await;
    // The one that waited, and one behind the call that broke.
    let lists = lists() - before;
    assert!(lists >= 2, "{lists} lists");
}

/// A list whose records are known already gives the task's other work its turn.
#[tokio::test(start_paused = true)]
async fn a_long_list_of_what_is_known_is_read_in_pieces() {
    let cids = some(20_000);
    let (mut changes, peer, _listens) = following(&cids).await;
    let mut call = begin_list(&mut changes, &peer, cids.len()).await;
    list(&mut call, &cids);
    polling::assert_pending(&mut changes);
    let unread = call.unread();
    assert!(unread > 10_000, "{unread} of 20,000 are left by one poll");
}

/// So do events that change nothing.
#[tokio::test(start_paused = true)]
async fn events_that_change_nothing_are_read_in_pieces() {
    let cids = some(5);
    let (mut changes, _peer, mut listens) = following(&cids).await;
    for _ in 0..20_000 {
        tell(&mut listens, PUSHED, cids[0]);
    }
    polling::assert_pending(&mut changes);
    let unread = listens.unread();
    assert!(unread > 10_000, "{unread} of 20,000 are left by one poll");
}

/// Each event of a sequence counts, in its order, also while a list is made.
#[tokio::test(start_paused = true)]
async fn a_record_that_comes_and_goes_during_a_list_is_as_its_last_event_says() {
    let cids = some(3);
    let (mut changes, peer, mut listens) = following(&cids).await;
    let mut call = begin_list(&mut changes, &peer, 3).await;
    list(&mut call, &cids[..1]);
    let new = cid(&record(100));
    for kind in [PUSHED, DELETED, PUSHED] {
        tell(&mut listens, kind, new);
        tell(&mut listens, kind, cids[1]);
    }
    let expected = [
        Change::Apply(new),
        Change::Delete(new),
        Change::Delete(cids[1]),
        Change::Apply(new),
        Change::Apply(cids[1]),
    ];
    assert_eq!(read(&mut changes), expected);
    list(&mut call, &cids[2..]);
    call.answer(&FoundCid {
        cid: cids[1].to_string(),
    });
    call.end(Code::Ok, "");
    assert_eq!(read(&mut changes), []);
}

/// A query, of which events do not say that a record matches: deleted and pushed again at once, it comes back soon.
#[tokio::test(start_paused = true)]
async fn what_matches_and_is_deleted_and_pushed_again_comes_back() {
    let (store, cids) = store_with(20);
    let client = store.client();
    let mut changes = client.follow(Query::new().name("agent-1?"));
    init(&mut changes).await;
    assert_eq!(until_quiet(&mut changes, 60 * SECOND).await, []);
    client.delete(cids[13]).await.unwrap();
    client.push(record(13)).await.unwrap();
    let start = Instant::now();
    assert_eq!(next(&mut changes).await, Change::Delete(cids[13]));
    assert_eq!(next(&mut changes).await, Change::Apply(cids[13]));
    assert!(start.elapsed() < 10 * SECOND, "{:?}", start.elapsed());
}

/// Timers belong to a runtime.
#[test]
fn it_goes_on_in_another_runtime() {
    for first_is_gone in [true, false] {
        let (store, cids) = store_with(5);
        let options = Options::new().relist_every(60 * SECOND);
        let mut changes = store.client().follow_with(Query::new(), &options);
        let (first, second) = (paused_runtime(), paused_runtime());
        first.block_on(async {
            assert_eq!(init(&mut changes).await.len(), 5);
            assert_eq!(until_quiet(&mut changes, 20 * SECOND).await, []);
        });
        let rests = (!first_is_gone).then_some(first);
        second.block_on(async {
            let new = store.insert(record(100)).unwrap();
            assert_eq!(next(&mut changes).await, Change::Apply(new));
            store.client().delete(cids[0]).await.unwrap();
            assert_eq!(next(&mut changes).await, Change::Delete(cids[0]));
        });
        drop(rests);
    }
}

/// The call that listens takes one of those that a server allows on a connection.
#[tokio::test(start_paused = true)]
async fn a_server_that_allows_one_call_is_followed() {
    let store = Store::builder().max_calls(1).build();
    let there = store.insert(record(0)).unwrap();
    let mut changes = store.client().follow(Query::new());
    let there_are = tokio::time::timeout(600 * SECOND, init(&mut changes)).await;
    assert_eq!(there_are.ok(), Some([there].into()));
}

#[tokio::test(start_paused = true)]
async fn odd_options_do_no_harm() {
    for options in [
        Options::new().relist_every(Duration::MAX),
        Options::new().stall_after(None),
        Options::new().retry(Retry::new().max_attempts(1)),
        Options::new().retry(Retry::new().backoff(Duration::ZERO, Duration::ZERO)),
        Options::new().retry(Retry::new().timeout(Duration::MAX)),
        Options::new().rate(1),
        Options::new().window(1),
    ] {
        let (store, cids) = store_with(5);
        let mut changes = store.client().follow_with(Query::new(), &options);
        assert_eq!(init(&mut changes).await, cids.iter().copied().collect());
        store.inject(Fault::cut().on(Method::Listen));
        let new = store.insert(record(100)).unwrap();
        assert_eq!(next(&mut changes).await, Change::Apply(new));
        let handle = changes.handle();
        handle.stop();
        assert!(in_a_week(changes.next()).await.is_none());
        assert!(handle.has_ended());
    }
}

/// Stopped, drained or dropped in any phase, it hangs up.
#[tokio::test(start_paused = true)]
async fn it_is_stopped_in_any_phase() {
    for polls in 0..30 {
        for how in 0..3 {
            let (store, _) = store_with(3);
            let mut changes = store.client().follow(Query::new());
            for _ in 0..polls {
                let _ = changes.next().now_or_never();
                tokio::task::yield_now().await;
            }
            let handle = changes.handle();
            match how {
                0 => handle.stop(),
                1 => handle.drain(SECOND),
                _ => {}
            }
            if how < 2 {
                assert!(in_a_week(changes.next()).await.is_none());
                assert!(changes.is_terminated());
                assert!(in_a_week(changes.next()).await.is_none());
            } else {
                drop(changes);
            }
            assert!(handle.has_ended());
            in_a_week(store.wait_for(|calls| calls.iter().all(|call| call.end.is_some()))).await;
        }
    }
}

/// Two events of one record that overtake each other, just before a list, which has it right.
#[tokio::test(start_paused = true)]
async fn what_is_confirmed_is_what_the_list_had() {
    let cids = some(2);
    let (mut changes, peer, mut listens) = following(&cids).await;
    tokio::time::advance(297 * SECOND).await;
    let gone = cid(&record(9_000));
    // It was pushed, and then deleted.
    tell(&mut listens, DELETED, gone);
    tell(&mut listens, PUSHED, gone);
    assert_eq!(read(&mut changes), [Change::Apply(gone)]);
    answer_list(&mut changes, &peer, &cids).await;
    let mut told = Vec::new();
    for _ in 0..1_000 {
        told.extend(ready(&mut changes).into_iter().map(Result::unwrap));
    }
    assert!(
        told.contains(&Change::Delete(gone)) || !told.contains(&Change::Confirmed),
        "{told:?}: the list did not have what was told, and yet it is confirmed; the next comes in five minutes"
    );
}

/// A list that fails is tried again after waits that grow, whatever is pushed meanwhile.
#[tokio::test(start_paused = true)]
async fn a_list_that_fails_has_its_waits_where_much_is_pushed() {
    let mut lists = Vec::new();
    for is_pushed in [false, true] {
        let (store, _) = store_with(5);
        let mut changes = store.client().follow(Query::new().name("agent-1*"));
        init(&mut changes).await;
        until_quiet(&mut changes, 60 * SECOND).await;
        let before = calls_of(&store, Method::CountRecords).len();
        let fails = Fault::status(Status::internal("no lists"));
        store.inject(fails.on(Method::SearchCids).times(u64::MAX));
        store.insert(record(500)).unwrap();
        for number in 0..1_200 {
            if is_pushed {
                store.insert(record(number + 1_000)).unwrap();
            }
            until_end(&mut changes, SECOND / 2).await;
        }
        lists.push(calls_of(&store, Method::CountRecords).len() - before);
    }
    assert!(
        lists[1] < 2 * lists[0],
        "lists in ten minutes, in which nothing is pushed and in which two a second are: {lists:?}"
    );
}
