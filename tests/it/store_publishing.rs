//! The embedded store publishes: its worker on demand, its log, and its faults.

use std::collections::HashSet;
use std::error::Error as _;
use std::time::Duration;

use agntcy_dir_stream::server::{Call, End, Fault, Method, Store};
use agntcy_dir_stream::{Cid, Code, Status};
use futures::FutureExt as _;
use prost::Message as _;

use crate::support::clock::soon;
use crate::support::foreign::{ForeignClient, assert_status};
use crate::support::publishing::{COMPLETED, FAILED, PENDING, Publication, PublicationId, Publish};
use crate::support::records::{cid, record};
use crate::support::searching::{NAME, Query, SKILL_ID};
use crate::support::stores::{calls_of, ended_calls, store_with};

async fn create(foreign: &ForeignClient, request: Publish) -> Result<String, Status> {
    let asked = foreign.ask(Method::CreatePublication, request).await;
    asked.map(|created: PublicationId| created.id)
}

async fn status(foreign: &ForeignClient, id: &str) -> i32 {
    let asked = foreign.ask(Method::GetPublication, PublicationId::new(id));
    let publication: Publication = asked.await.unwrap();
    assert_eq!(publication.id, id);
    publication.status
}

async fn publish(foreign: &ForeignClient, request: Publish) -> Result<(), Status> {
    foreign.ask(Method::Publish, request).await
}

/// Which of these records are published, by their places.
fn published(store: &Store, cids: &[Cid]) -> Vec<usize> {
    let is_published = |place: &usize| store.is_published(&cids[*place]);
    (0..cids.len()).filter(is_published).collect()
}

#[tokio::test]
async fn what_is_queued_waits_for_the_worker() {
    let (store, mut cids) = store_with(2);
    cids.push(cid(&record(2)));
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let first = create(&foreign, Publish::refs([cids[0]])).await.unwrap();
    publish(&foreign, Publish::refs([cids[1]])).await.unwrap();
    let late = create(&foreign, Publish::refs([cids[2]])).await.unwrap();
    let never = create(&foreign, Publish::refs([cid(&record(3))]))
        .await
        .unwrap();
    let ids = [&*first, &*late, &*never];
    for id in ids {
        assert_eq!(status(&foreign, id).await, PENDING);
    }
    assert_eq!(published(&store, &cids), [0; 0]);

    // What counts is what is there when the worker runs.
    store.insert(record(2)).unwrap();
    store.run_publications();
    for (id, expected) in ids.into_iter().zip([COMPLETED, COMPLETED, FAILED]) {
        assert_eq!(status(&foreign, id).await, expected);
    }
    assert_eq!(published(&store, &cids), [0, 1, 2]);

    // Each is worked off once.
    store.insert(record(3)).unwrap();
    store.run_publications();
    assert_eq!(status(&foreign, &never).await, FAILED);
    assert!(!store.is_published(&cid(&record(3))));

    publish(&foreign, Publish::refs([cid(&record(3))]))
        .await
        .unwrap();
    store.clear();
    store.insert(record(3)).unwrap();
    store.run_publications();
    assert_eq!(published(&store, &cids), [0; 0]);
    assert!(
        !store.is_published(&cid(&record(3))),
        "what was queued is gone"
    );
    let gone = foreign.ask::<_, Publication>(Method::GetPublication, PublicationId::new(first));
    assert_eq!(gone.await.unwrap_err().code(), Code::Unknown);
}

#[tokio::test]
async fn the_id_of_a_publication_is_a_uuid() {
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let mut ids = HashSet::new();
    for _ in 0..100 {
        let id = create(&foreign, Publish::refs(["oops"])).await.unwrap();
        let parts: Vec<&str> = id.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        assert!(
            parts
                .concat()
                .bytes()
                .all(|digit| digit.is_ascii_hexdigit()),
            "{id}"
        );
        assert!(parts[2].starts_with('4'), "{id}");
        assert!(parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
        assert!(ids.insert(id));
    }
}

#[tokio::test]
async fn what_queries_find_is_published() {
    let (store, cids) = store_with(3);
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let by = |kind, value| Publish::queries(vec![Query::new(kind, value).encode_to_vec()]);
    publish(&foreign, by(NAME, "*-1")).await.unwrap();
    let found = create(&foreign, by(NAME, "agent-2")).await.unwrap();
    let nothing = create(&foreign, by(NAME, "nobody")).await.unwrap();
    let malformed = create(&foreign, by(SKILL_ID, "x")).await.unwrap();
    store.run_publications();
    assert_eq!(published(&store, &cids), [1, 2]);
    let ids = [&*found, &*nothing, &*malformed];
    for (id, expected) in ids.into_iter().zip([COMPLETED, COMPLETED, FAILED]) {
        assert_eq!(status(&foreign, id).await, expected);
    }
    let end = publish(&foreign, Publish::queries(vec![vec![0x08]])).await;
    assert_status("no query", end, Code::Internal, "unmarshalling");
}

#[tokio::test]
async fn the_log_has_the_calls() {
    let (store, cids) = store_with(1);
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let refs = || Publish::refs([cids[0]]);
    publish(&foreign, refs()).await.unwrap();
    publish(&foreign, refs()).await.unwrap();
    foreign
        .ask::<_, ()>(Method::Unpublish, refs())
        .await
        .unwrap();
    let id = create(&foreign, refs()).await.unwrap();
    create(&foreign, Publish::default()).await.unwrap_err();
    status(&foreign, &id).await;
    let calls = soon(ended_calls(&store)).await;
    let told = |call: &Call| {
        (
            call.method,
            call.number,
            call.requests,
            call.answers,
            call.end,
        )
    };
    assert_eq!(
        calls.iter().map(told).collect::<Vec<_>>(),
        [
            (Method::Publish, 0, 1, 1, Some(End::Ok)),
            (Method::Publish, 1, 1, 1, Some(End::Ok)),
            (Method::Unpublish, 0, 1, 1, Some(End::Ok)),
            (Method::CreatePublication, 0, 1, 1, Some(End::Ok)),
            (
                Method::CreatePublication,
                1,
                1,
                0,
                Some(End::Status(Code::InvalidArgument))
            ),
            (Method::GetPublication, 0, 1, 1, Some(End::Ok)),
        ]
    );
}

#[tokio::test]
async fn a_request_over_4_mib_is_refused() {
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let end = publish(&foreign, Publish::refs(vec!["x".repeat(1000); 5000])).await;
    let words = "grpc: received message larger than max (";
    assert_status("a long request", end, Code::ResourceExhausted, words);
    let calls = soon(ended_calls(&store)).await;
    assert_eq!(calls[0].end, Some(End::Status(Code::ResourceExhausted)));
}

#[tokio::test]
async fn a_call_without_a_token_is_refused() {
    let store = Store::builder()
        .authorize(|token| token == "open sesame")
        .build();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let end = create(&foreign, Publish::refs(["oops"])).await.map(drop);
    assert_status(
        "no token",
        end,
        Code::Unauthenticated,
        "missing authorization header",
    );
    let calls = soon(ended_calls(&store)).await;
    assert_eq!(calls[0].end, Some(End::Status(Code::Unauthenticated)));
}

#[tokio::test]
async fn faults_happen_to_these_calls_too() {
    let (store, cids) = store_with(4);
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let refs = |place: usize| Publish::refs([cids[place]]);

    store.inject(Fault::status(Status::unavailable("later")).on(Method::CreatePublication));
    let end = create(&foreign, refs(0)).await.map(drop);
    assert_status("status", end, Code::Unavailable, "later");

    // By the record, among those of the request.
    store.inject(Fault::status(Status::aborted("not this")).of(cids[1]));
    publish(&foreign, refs(0)).await.unwrap();
    let end = publish(&foreign, Publish::refs([cids[2], cids[1]])).await;
    assert_status("of", end, Code::Aborted, "not this");
    store.inject(Fault::status(Status::aborted("not this")).of(cids[1]));
    let end = foreign.ask::<_, ()>(Method::Unpublish, refs(1)).await;
    assert_status("of", end, Code::Aborted, "not this");
    store.run_publications();
    assert_eq!(published(&store, &cids), [0]);

    store.inject(Fault::delay(Duration::from_millis(1)).on(Method::GetPublication));
    let id = create(&foreign, refs(0)).await.unwrap();
    assert_eq!(status(&foreign, &id).await, PENDING);

    store.inject(Fault::wrong_answer().on(Method::CreatePublication));
    let wrong = create(&foreign, refs(1)).await.unwrap();
    let asked = foreign.ask::<_, Publication>(Method::GetPublication, PublicationId::new(wrong));
    assert_eq!(asked.await.unwrap_err().code(), Code::Unknown);
    store.inject(Fault::wrong_answer().on(Method::GetPublication));
    let asked = foreign.ask::<_, Publication>(Method::GetPublication, PublicationId::new(&*id));
    assert_ne!(asked.await.unwrap().id, id);
    store.inject(Fault::wrong_answer().on(Method::Publish));
    publish(&foreign, refs(2)).await.unwrap();
    store.inject(Fault::wrong_answer().on(Method::Unpublish));
    foreign
        .ask::<_, ()>(Method::Unpublish, refs(0))
        .await
        .unwrap();
    store.run_publications();
    assert_eq!(
        published(&store, &cids),
        [0, 1],
        "what has no answer is passed over"
    );

    // The call ends OK, with no answer.
    store.inject(Fault::end().on(Method::Publish));
    publish(&foreign, refs(2)).await.unwrap_err();
    let calls = soon(ended_calls(&store)).await;
    let last = calls.last().unwrap();
    assert_eq!((last.answers, last.end), (0, Some(End::Ok)));
    store.run_publications();
    assert_eq!(published(&store, &cids), [0, 1]);

    for (fault, is_done) in [(Fault::cut(), false), (Fault::cut_after(), true)] {
        store.inject(fault.on(Method::CreatePublication));
        let status = create(&foreign, refs(3)).await.unwrap_err();
        assert!(status.source().is_some(), "{status:?}");
        store.run_publications();
        assert_eq!(store.is_published(&cids[3]), is_done);
    }
    assert_eq!(format!("{:?}", store.pending_faults()), "[]");
}

#[tokio::test]
async fn a_stalled_call_ends_with_its_client() {
    let (store, cids) = store_with(1);
    let (foreign, _serving) = ForeignClient::of(&store).await;
    store.inject(Fault::stall().on(Method::Publish));
    let mut asked = Box::pin(publish(&foreign, Publish::refs(cids)));
    let seen = store.wait_for(|calls| calls.iter().any(|call| call.requests == 1));
    let stalled = futures::future::select(&mut asked, Box::pin(seen));
    drop(soon(stalled).await);
    assert!((&mut asked).now_or_never().is_none());
    drop(asked);
    soon(ended_calls(&store)).await;
    assert_eq!(
        calls_of(&store, Method::Publish)[0].end,
        Some(End::Cancelled)
    );
}
