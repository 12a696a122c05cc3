//! Events, and the gaps between them.

use std::time::{Duration, SystemTime};

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{
    Code, ErrorKind, Event, EventFilter, EventKind, Gap, Heard, Retry, Source, Status,
};
use futures::{FutureExt, StreamExt};
use tonic::transport::Endpoint;

use crate::support::clock::{in_a_week, soon};
use crate::support::records::{cid, record};
use crate::support::stores::{calls_of, listen, store_with};

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
