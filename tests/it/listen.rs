//! Events, and the gaps between them.

use std::future::{pending, ready};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{
    CircuitBreaker, Code, ErrorKind, Event, EventFilter, EventKind, Gap, Heard, Retry, Source,
    Status, Token,
};
use futures::{FutureExt, StreamExt};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::Endpoint;

use crate::support::clock::{SECOND, in_a_week, paused_runtime, soon};
use crate::support::listening;
use crate::support::messages::framed;
use crate::support::peer::{Peer, PeerCall, next_call, scripted};
use crate::support::polling::{self, assert_pending};
use crate::support::records::{cid, record, records};
use crate::support::stores::{calls_of, listen, store_with, store_with_token};

type Events = Source<Heard>;

/// Waits until so many calls listen.
async fn listeners(store: &Store, count: usize) {
    let heard = store.wait_for(|_| store.listeners() == count);
    in_a_week(heard).await;
}

async fn gap(events: &mut Events) -> Gap {
    match in_a_week(events.next()).await {
        Some(Ok(Heard::Gap(gap))) => gap,
        other => panic!("a gap is expected, not {other:?}"),
    }
}

async fn event(events: &mut Events) -> Event {
    match in_a_week(events.next()).await {
        Some(Ok(Heard::Event(event))) => event,
        other => panic!("an event is expected, not {other:?}"),
    }
}

/// It listens, and the store knows that.
async fn begun(store: &Store, events: &mut Events) {
    assert!(matches!(gap(events).await, Gap::Begin));
    assert!(events.next().now_or_never().is_none());
    listeners(store, 1).await;
}

#[tokio::test]
async fn what_happens_is_told_in_order() {
    let store = Store::new();
    let client = store.client();
    let mut events = client.listen(EventFilter::new());
    assert!(
        store.calls().is_empty(),
        "nothing happens before the first poll"
    );
    begun(&store, &mut events).await;
    let record = record(1);
    client.push(record.clone()).await.unwrap();
    client.pull(cid(&record)).await.unwrap();
    client.delete(cid(&record)).await.unwrap();
    for kind in [EventKind::Pushed, EventKind::Pulled, EventKind::Deleted] {
        let event = event(&mut events).await;
        assert_eq!((event.kind, event.cid()), (kind, Some(cid(&record))));
        assert!(!event.id.is_empty());
        let age = SystemTime::now()
            .duration_since(event.time.unwrap())
            .unwrap();
        assert!(age < Duration::from_secs(60));
    }
    drop(events);
    soon(listeners(&store, 0)).await;
}

#[tokio::test]
async fn a_filter_is_the_servers() {
    let store = Store::new();
    let (one, other) = (record(1), record(2));
    let filter = EventFilter::new()
        .kind(EventKind::Pushed)
        .kind(EventKind::Deleted)
        .cid(cid(&other));
    let mut events = store.client().listen(filter);
    begun(&store, &mut events).await;
    store.insert(one).unwrap();
    store.insert(other.clone()).unwrap();
    assert_eq!(event(&mut events).await.cid(), Some(cid(&other)));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_breaks_is_made_again_and_the_gap_is_told() {
    for fault in [
        Fault::cut(),
        Fault::end(),
        Fault::status(Status::unavailable("away")),
        Fault::status(Status::internal("vague")),
    ] {
        let store = Store::new();
        let mut events = store.client().listen(EventFilter::new());
        begun(&store, &mut events).await;
        store.insert(record(0)).unwrap();
        assert_eq!(event(&mut events).await.cid(), Some(cid(&record(0))));
        store.inject(fault.clone().on(Method::Listen).at(1));
        store.inject(Fault::no_connection().times(4));
        store.insert(record(1)).unwrap();
        let Gap::Broke(error) = gap(&mut events).await else {
            panic!("{fault:?}: the call broke");
        };
        assert!(!error.is_of_item(), "{error}");
        assert!(events.next().now_or_never().is_none());
        listeners(&store, 1).await;
        store.insert(record(2)).unwrap();
        assert_eq!(event(&mut events).await.cid(), Some(cid(&record(2))));
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_a_server_that_is_away_for_days() {
    let store = Store::new();
    store.inject(Fault::no_connection().times(3 * 24 * 60));
    let mut events = store.client().listen(EventFilter::new());
    let handle = events.handle();
    assert!(matches!(gap(&mut events).await, Gap::Begin));
    assert!(handle.stats().faults > 1_000);
    assert!(
        handle.last_fault().is_some(),
        "an outage can be seen from outside"
    );
}

/// A server that takes calls and ends them at once is not asked without waits.
#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_up_at_once_is_given_time() {
    let store = Store::new();
    store.inject(Fault::end().on(Method::Listen).times(u64::MAX));
    let mut events = store.client().listen(EventFilter::new());
    let start = tokio::time::Instant::now();
    let minute = tokio::time::timeout(Duration::from_secs(60), async {
        while let Some(heard) = events.next().await {
            assert!(matches!(heard.unwrap(), Heard::Gap(_)));
        }
    });
    assert!(minute.await.is_err(), "it has no end");
    assert!(start.elapsed() >= Duration::from_secs(60));
    let calls = calls_of(&store, Method::Listen).len();
    assert!(calls < 20, "{calls} calls in a minute");
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_hears_it_at_once() {
    for (code, kind) in [
        (Code::PermissionDenied, ErrorKind::Denied),
        (Code::Unimplemented, ErrorKind::Unsupported),
        (Code::InvalidArgument, ErrorKind::Rejected),
    ] {
        let store = Store::new();
        store.inject(Fault::status(Status::new(code, "no")).on(Method::Listen));
        let events = store.client().listen(EventFilter::new());
        let heard: Vec<_> = in_a_week(events.collect()).await;
        assert_eq!(heard.last().unwrap().as_ref().unwrap_err().kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn without_retries_the_first_fault_is_the_end() {
    let store = Store::new();
    let options = Options::new().retry(Retry::off());
    let mut events = store.client().listen_with(EventFilter::new(), &options);
    begun(&store, &mut events).await;
    store.inject(Fault::cut().on(Method::Listen));
    store.insert(record(1)).unwrap();
    let error = in_a_week(events.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(in_a_week(events.next()).await.is_none());
}

/// While it is silent, a circuit that was open is closed, so that others go on.
#[tokio::test(start_paused = true)]
async fn a_listener_that_hears_nothing_keeps_nobody_waiting() {
    let (store, cids) = store_with(1);
    let client = store.client();
    store.inject(Fault::no_connection().times(5));
    let mut events = client.listen(EventFilter::new());
    assert!(matches!(gap(&mut events).await, Gap::Begin));
    let pulled = tokio::spawn({
        let client = client.clone();
        async move { client.pull(cids[0]).await.is_ok() }
    });
    let start = tokio::time::Instant::now();
    let heard = event(&mut events).await;
    assert_eq!(heard.kind, EventKind::Pulled);
    assert!(pulled.await.unwrap());
    assert!(
        start.elapsed() < Duration::from_secs(120),
        "{:?}",
        start.elapsed()
    );
}

/// What is more than the buffers hold is dropped in the server. That it may be is told.
#[tokio::test]
async fn a_burst_is_told_of_when_it_is_over() {
    let store = Store::new();
    let serving = listen(&store).await;
    let channel = Endpoint::from_shared(serving.url()).unwrap();
    let channel = channel.initial_stream_window_size(65_535).connect_lazy();
    let mut events = Client::from_service(channel).listen(EventFilter::new());
    assert!(matches!(gap(&mut events).await, Gap::Begin));
    assert!(events.next().now_or_never().is_none());
    soon(store.wait_for(|_| store.listeners() == 1)).await;
    let pushed = 8_000;
    for number in 0..pushed {
        store.insert(record(number)).unwrap();
    }
    let mut heard = 0;
    loop {
        match soon(events.next()).await.unwrap().unwrap() {
            Heard::Event(_) => heard += 1,
            Heard::Gap(Gap::Burst) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(
        (100..pushed).contains(&heard),
        "nothing was dropped, so this shows nothing"
    );
    // It is over.
    store.insert(record(pushed)).unwrap();
    assert_eq!(event(&mut events).await.cid(), Some(cid(&record(pushed))));
}

/// The store gives those who listen their turn, in the midst of what a single call does.
#[tokio::test]
async fn a_reader_hears_all_of_a_bulk_push() {
    const COUNT: usize = 3_000;
    let store = Store::new();
    let mut events = store.client().listen(EventFilter::new());
    begun(&store, &mut events).await;
    let other = store.client();
    let pushed = tokio::spawn(async move { records(COUNT).push_to(&other).finish().await });
    for number in 0..COUNT {
        assert_eq!(event(&mut events).await.cid(), Some(cid(&record(number))));
    }
    assert_eq!(pushed.await.unwrap().stats.succeeded, COUNT as u64);
}

#[tokio::test(start_paused = true)]
async fn what_comes_a_few_at_a_time_has_no_gap() {
    let store = Store::new();
    let mut events = store.client().listen(EventFilter::new());
    begun(&store, &mut events).await;
    for number in 0..500 {
        store.insert(record(number)).unwrap();
        assert_eq!(event(&mut events).await.cid(), Some(cid(&record(number))));
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert!(
        tokio::time::timeout(Duration::from_secs(60), events.next())
            .await
            .is_err()
    );
}

/// A proxy before a server that is away: it takes each call, and says so after this time. And the paths of the calls.
fn proxy(after: Duration) -> (Client, Arc<Mutex<Vec<String>>>) {
    let calls: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&calls);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let path = request.uri().path().to_owned();
        seen.lock().unwrap().push(path);
        async move {
            let mut body = request.into_body();
            let _ = body.frame().await;
            tokio::time::sleep(after).await;
            let response = http::Response::builder().status(503);
            Ok::<_, std::io::Error>(response.body(Body::empty()).unwrap())
        }
    });
    (Client::from_service(service), calls)
}

/// Silence does not say that a server is there.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_silent_before_it_refuses_is_given_time() {
    for seconds in [0, 2, 5] {
        let (client, calls) = proxy(SECOND * seconds);
        let mut events = client.listen(EventFilter::new());
        let minutes = tokio::time::timeout(600 * SECOND, async {
            while let Some(heard) = events.next().await {
                assert!(matches!(heard.unwrap(), Heard::Gap(_)));
            }
        });
        assert!(minutes.await.is_err(), "it has no end");
        let calls = calls.lock().unwrap().len();
        assert!(
            calls < 50,
            "{calls} calls in ten minutes, each refused after {seconds} s"
        );
    }
}

/// Nor does it keep the circuit of the others from being open.
#[tokio::test(start_paused = true)]
async fn a_listener_before_a_dead_server_does_not_keep_others_from_giving_up() {
    for listens in [false, true] {
        let (client, _) = proxy(5 * SECOND);
        let client = client.with_breaker(CircuitBreaker::new());
        let retry = Retry::new().max_attempts(u32::MAX).timeout(Duration::MAX);
        let options = Options::new().retry(retry);
        let mut events = client.listen(EventFilter::new());
        let listening = async {
            if listens {
                while events.next().await.is_some() {}
            }
            pending().await
        };
        let start = Instant::now();
        let cids = futures::stream::iter([cid(&record(0))]);
        let mut pulled = cids.pull_from_with(&client, &options);
        let pulled = async { pulled.next().await.unwrap().unwrap_err() };
        let failed = tokio::select! {
            never = listening => never,
            failed = tokio::time::timeout(3600 * SECOND, pulled) => failed,
        };
        let took = start.elapsed();
        let kind = failed.ok().map(|failed| failed.kind());
        assert_eq!(
            kind,
            Some(ErrorKind::CircuitOpen),
            "after {took:?}, listens: {listens}"
        );
    }
}

/// A listener of a scripted server, that listens.
async fn listening_to() -> (Events, Peer, PeerCall) {
    let (client, peer) = scripted();
    let mut events = client.listen(EventFilter::new());
    let mut call = next_call(&mut events, &peer).await;
    call.chunks();
    let heard = polling::next(&mut events).unwrap();
    assert!(matches!(heard, Heard::Gap(Gap::Begin)));
    assert_pending(&mut events);
    (events, peer, call)
}

/// Answers that tell nothing give the task's other work its turn.
#[tokio::test(start_paused = true)]
async fn empty_answers_are_read_in_pieces() {
    let (mut events, _peer, mut call) = listening_to().await;
    for _ in 0..20_000 {
        call.answer(&listening::Heard { event: None });
    }
    let _ = polling::poll(&mut events);
    let unread = call.unread();
    assert!(unread > 15_000, "{unread} of 20,000 are left by one poll");
}

/// What is told of something that is no record, or of a kind that nobody knows, is told all the same.
#[tokio::test(start_paused = true)]
async fn odd_events_are_told() {
    let (mut events, _peer, mut call) = listening_to().await;
    for (r#type, resource, is_cid) in [
        (6, "sync-7", false),
        (0, "", false),
        (-1, "not a CID \u{1f980}", false),
        (99, &*cid(&record(1)).to_string(), true),
    ] {
        let event = listening::Event {
            r#type,
            resource_id: resource.to_owned(),
            time: Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: -1,
            }),
            ..listening::Event::default()
        };
        call.answer(&listening::Heard { event: Some(event) });
        let Heard::Event(event) = polling::next(&mut events).unwrap() else {
            panic!("an event");
        };
        assert_eq!((&*event.resource, event.time), (resource, None));
        assert_eq!(event.cid().is_some(), is_cid);
    }
}

/// An event that cannot be read ends it, and says so.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_an_error() {
    let (mut events, _peer, mut call) = listening_to().await;
    call.answer_bytes(framed(&[0xff; 8]));
    let error = polling::next(&mut events).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    polling::assert_ended(&mut events);
}

/// A token that is renewed is no fault.
#[tokio::test(start_paused = true)]
async fn an_old_token_is_renewed_without_retries_too() {
    let (store, client, current) = store_with_token();
    let there = store.insert(record(0)).unwrap();
    let options = Options::new().retry(Retry::off());
    client.pull(there).await.unwrap();
    tokio::time::advance(SECOND).await;
    *current.lock().unwrap() = "two";
    let pulled = futures::stream::iter([there]).pull_from_with(&client, &options);
    assert_eq!(
        in_a_week(pulled.finish()).await.stats.succeeded,
        1,
        "so it is for a pull"
    );
    tokio::time::advance(SECOND).await;
    *current.lock().unwrap() = "three";
    let mut events = client.listen_with(EventFilter::new(), &options);
    assert!(matches!(gap(&mut events).await, Gap::Begin));
    let heard = tokio::time::timeout(60 * SECOND, events.next()).await;
    assert!(heard.is_err(), "it listens: {heard:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_not_known_hears_it_after_two_tokens() {
    let store = Store::builder().authorize(|_| false).build();
    let token = Token::from_fn(|| ready(Ok::<_, std::io::Error>(fastrand::u64(..).to_string())));
    let client = store.client().with_token(token).unwrap();
    let events = client.listen(EventFilter::new());
    let heard: Vec<_> = in_a_week(events.collect()).await;
    assert_eq!(
        heard.last().unwrap().as_ref().unwrap_err().kind(),
        ErrorKind::Denied
    );
    assert_eq!(calls_of(&store, Method::Listen).len(), 2);
    let found: Vec<_> = in_a_week(client.search(Query::new().limit(3)).collect()).await;
    assert_eq!(
        found.last().unwrap().as_ref().unwrap_err().kind(),
        ErrorKind::Denied
    );
    assert!(calls_of(&store, Method::SearchCids).len() <= 2);
}

/// A source of tokens that hangs keeps it waiting, for as long as it likes.
#[tokio::test(start_paused = true)]
async fn a_token_that_does_not_come_is_waited_for() {
    let store = Store::new();
    let token = Token::from_fn(pending::<Result<String, std::io::Error>>);
    let client = store.client().with_token(token).unwrap();
    for stall in [None, Some(SECOND)] {
        let options = Options::new().stall_after(stall);
        let mut events = client.listen_with(EventFilter::new(), &options);
        let handle = events.handle();
        let waited = tokio::time::timeout(600 * SECOND, events.next()).await;
        assert!(waited.is_err());
        assert!(handle.stats().calls < 200, "{}", handle.stats());
        handle.stop();
        assert!(in_a_week(events.next()).await.is_none());
    }
}

/// What belongs to the first runtime is left behind.
#[test]
fn it_goes_on_in_another_runtime() {
    for first_is_gone in [true, false] {
        let store = Store::new();
        let mut events = store.client().listen(EventFilter::new());
        let (first, second) = (paused_runtime(), paused_runtime());
        first.block_on(begun(&store, &mut events));
        let rests = (!first_is_gone).then_some(first);
        second.block_on(async {
            assert!(
                events
                    .next()
                    .now_or_never()
                    .is_none_or(|heard| heard.is_some())
            );
            tokio::time::sleep(SECOND).await;
            store.insert(record(1)).unwrap();
            let heard = tokio::time::timeout(600 * SECOND, events.next()).await;
            assert!(
                matches!(heard, Ok(Some(Ok(_)))),
                "first is gone: {first_is_gone}: {heard:?}"
            );
        });
        drop(rests);
    }
}
/// A server that fails to tell events works otherwise.
#[tokio::test(start_paused = true)]
async fn a_server_that_fails_only_at_events_keeps_nobody_waiting() {
    let (store, cids) = store_with(1);
    let client = store.client();
    let fails = Fault::status(Status::internal("no events"));
    store.inject(fails.on(Method::Listen).times(u64::MAX));
    let mut events = client.listen(EventFilter::new());
    let listening = async {
        while events.next().await.is_some() {}
        pending().await
    };
    let pulling = async {
        let mut took = Vec::new();
        for _ in 0..20 {
            tokio::time::sleep(600 * SECOND).await;
            let start = Instant::now();
            let pulled = client.pull(cids[0]).await;
            took.push((start.elapsed().as_secs(), pulled.is_ok()));
        }
        took
    };
    let took = tokio::select! {
        never = listening => never,
        took = pulling => took,
    };
    assert!(
        took.iter().all(|(seconds, is_ok)| *seconds < 5 && *is_ok),
        "seconds that a pull takes: {took:?}"
    );
}
