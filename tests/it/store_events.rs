//! The embedded store tells what happens: to whom, how much of it, and how that ends.

use std::time::Duration;

use agntcy_dir_stream::server::{AlreadyStored, End, Fault, Method, Serving, Store};
use agntcy_dir_stream::{Cid, Code, Status};
use futures::FutureExt as _;

use crate::support::clock::soon;
use crate::support::foreign::{ForeignClient, assert_status};
use crate::support::listening::{
    DELETED, Ear, Heard, Listen, PUBLISHED, PULLED, PUSHED, UNPUBLISHED,
};
use crate::support::messages::RecordRef;
use crate::support::publishing::Publish;
use crate::support::records::{cid, from_json, record};
use crate::support::stores::{calls_of, ended_calls};

/// A call that listens already.
async fn listening(foreign: &ForeignClient, store: &Store, asked: Listen) -> Ear {
    let before = store.listeners();
    let ear = Ear::open(foreign, asked);
    soon(store.wait_for(|_| store.listeners() > before)).await;
    ear
}

async fn served(store: &Store) -> (ForeignClient, Serving, Ear) {
    let (foreign, serving) = ForeignClient::of(store).await;
    let ear = listening(&foreign, store, Listen::default()).await;
    (foreign, serving, ear)
}

fn id(number: usize) -> String {
    cid(&record(number)).to_string()
}

async fn hear(ear: &mut Ear, expected: impl IntoIterator<Item = (i32, usize)>) {
    for (kind, number) in expected {
        let event = ear.hear().await;
        assert_eq!((event.r#type, event.resource_id), (kind, id(number)));
    }
}

#[tokio::test]
async fn who_listens_hears_what_happens_from_then_on() {
    let store = Store::new();
    store.insert(record(0)).unwrap();
    let (_foreign, _serving, mut ear) = served(&store).await;
    store.insert(record(1)).unwrap();
    store.insert(record(1)).unwrap();
    store.remove(&cid(&record(0)));
    store.remove(&cid(&record(0)));
    store.insert(record(0)).unwrap();
    store.get(&cid(&record(0))).unwrap();
    store.clear();
    let told = [
        (PUSHED, 1),
        (DELETED, 0),
        (PUSHED, 0),
        (DELETED, 1),
        (DELETED, 0),
    ];
    hear(&mut ear, told).await;
    drop(ear);
    soon(store.wait_for(|_| store.listeners() == 0)).await;
    assert_eq!(
        calls_of(&store, Method::Listen)[0].end,
        Some(End::Cancelled)
    );
}

#[tokio::test]
async fn all_who_listen_hear_it_in_the_order_in_which_it_happens() {
    let store = Store::new();
    let (foreign, _serving, mut first) = served(&store).await;
    let mut second = listening(&foreign, &store, Listen::default()).await;
    for number in 0..50 {
        store.insert(record(number)).unwrap();
        store.remove(&cid(&record(number)));
    }
    for number in 0..50 {
        let told = [(PUSHED, number), (DELETED, number)];
        hear(&mut first, told).await;
        hear(&mut second, told).await;
    }
}

#[tokio::test]
async fn a_push_that_is_answered_as_if_it_were_new_is_told_as_such() {
    let store = Store::builder().already_stored(AlreadyStored::Ref).build();
    let (foreign, _serving, mut ear) = served(&store).await;
    let (_, end) = foreign.push(vec![record(0), record(0)]).await;
    end.unwrap();
    hear(&mut ear, [(PUSHED, 0), (PUSHED, 0)]).await;
}

#[tokio::test]
async fn what_is_published_is_told_when_the_worker_runs() {
    let store = Store::new();
    store.insert(record(0)).unwrap();
    let (foreign, _serving, mut ear) = served(&store).await;
    let publish = async |method| -> () {
        foreign
            .ask::<_, ()>(method, Publish::refs([id(1), id(0)]))
            .await
            .unwrap();
    };
    publish(Method::Publish).await;
    store.insert(record(1)).unwrap();
    store.run_publications();
    publish(Method::Unpublish).await;
    let told = [
        (PUSHED, 1),
        (PULLED, 1),
        (PUBLISHED, 1),
        (PULLED, 0),
        (PUBLISHED, 0),
    ];
    hear(&mut ear, told).await;
    let told = [(PULLED, 1), (UNPUBLISHED, 1), (PULLED, 0), (UNPUBLISHED, 0)];
    hear(&mut ear, told).await;
}

#[tokio::test]
async fn a_filter_that_fits_nothing_hears_nothing() {
    let store = Store::new();
    let (foreign, _serving, mut all) = served(&store).await;
    let types = |kind| Listen {
        types: vec![kind],
        ..Listen::default()
    };
    let mut none = listening(&foreign, &store, types(0)).await;
    let mut some = listening(&foreign, &store, types(DELETED)).await;
    store.insert(record(0)).unwrap();
    store.remove(&cid(&record(0)));
    hear(&mut all, [(PUSHED, 0), (DELETED, 0)]).await;
    hear(&mut some, [(DELETED, 0)]).await;
    assert_eq!(none.heard(), None);
    assert_eq!(calls_of(&store, Method::Listen)[1].answers, 0);
}

/// As a Go server does.
#[tokio::test]
async fn headers_come_with_the_first_event() {
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let mut open = Box::pin(foreign.open_listing::<_, Heard>(Method::Listen, Listen::default()));
    let listens = store.wait_for(|_| store.listeners() == 1);
    let open = tokio::select! {
        _ = soon(listens) => {
            assert!((&mut open).now_or_never().is_none(), "no event, no headers");
            open
        }
        _ = &mut open => panic!("the headers came before the call was seen"),
    };
    store.insert(record(0)).unwrap();
    let mut streaming = soon(open).await.unwrap();
    assert!(soon(streaming.message()).await.unwrap().is_some());
}

#[tokio::test]
async fn what_there_is_no_room_for_is_lost_without_a_word() {
    const BUFFER: usize = 10;
    let store = Store::builder().event_buffer(BUFFER).build();
    let (_foreign, _serving, mut ear) = served(&store).await;
    // Nothing else runs in between, so nothing is taken.
    for number in 0..2 * BUFFER {
        store.insert(record(number)).unwrap();
    }
    hear(&mut ear, (0..BUFFER).map(|number| (PUSHED, number))).await;
    store.insert(record(100)).unwrap();
    hear(&mut ear, [(PUSHED, 100)]).await;
}

#[tokio::test]
#[should_panic(expected = "at least")]
async fn a_buffer_has_room_for_one() {
    let _ = Store::builder().event_buffer(0);
}

/// A client that does not read keeps what its window holds, and the store its buffer.
#[tokio::test]
async fn who_does_not_read_takes_no_more_than_the_buffer() {
    const EVENTS: usize = 20_000;
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let open = foreign.open_listing::<_, Heard>(Method::Listen, Listen::default());
    let begin = async {
        store.wait_for(|_| store.listeners() == 1).await;
        store.insert(record(0)).unwrap();
    };
    let (open, ()) = soon(async { tokio::join!(open, begin) }).await;
    let mut unread = open.unwrap();
    for number in 1..EVENTS {
        store.remove(&cid(&record(0)));
        store.insert(record(0)).unwrap();
        if number % 50 == 0 {
            // The store sends what it can.
            let (_, end) = foreign.refs::<RecordRef>(Method::Lookup, &[&id(0)]).await;
            end.unwrap();
        }
    }
    let answers = calls_of(&store, Method::Listen)[0].answers;
    // tonic's client has a window of a megabyte or two.
    assert!(answers < 30_000, "{answers}");
    let mut heard = 0;
    let last = record(1);
    store.remove(&cid(&record(0)));
    while let Some(next) = unread.message().now_or_never() {
        next.unwrap().unwrap();
        heard += 1;
    }
    assert!(heard > 0);
    // And goes on when it is read.
    let more = async {
        loop {
            store.insert(last.clone()).unwrap();
            store.remove(&cid(&last));
            let event = unread.message().await.unwrap().unwrap().event.unwrap();
            if event.resource_id == id(1) {
                return;
            }
        }
    };
    soon(more).await;
}

/// Each of them would be compared with each event.
#[tokio::test]
async fn a_call_with_thousands_of_filters_is_refused() {
    const MOST: usize = 4096;
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let text = |number: usize| number.to_string();
    for asked in [
        Listen {
            labels: (0..=MOST).map(text).collect(),
            ..Listen::default()
        },
        Listen {
            cids: (0..=MOST).map(text).collect(),
            ..Listen::default()
        },
        Listen {
            types: vec![PULLED; MOST],
            cids: vec![text(0)],
            ..Listen::default()
        },
    ] {
        let end = Ear::open(&foreign, asked).next().await.map(drop);
        assert_status(
            "filters",
            end,
            Code::InvalidArgument,
            "there are 4097 filters",
        );
    }
    let mut asked = Listen {
        cids: (1..MOST).map(text).collect(),
        ..Listen::default()
    };
    asked.cids.push(id(0));
    let mut ear = listening(&foreign, &store, asked).await;
    store.insert(record(0)).unwrap();
    hear(&mut ear, [(PUSHED, 0)]).await;
}

#[tokio::test]
async fn an_event_that_would_take_too_long_is_lost_to_those_whose_filters_have_it_so() {
    let store = Store::new();
    let (foreign, _serving, mut quick) = served(&store).await;
    // The last one fits.
    let mut labels: Vec<_> = (0..4_000).map(|number| format!("{number}!")).collect();
    labels.push("/skills/".to_owned());
    let long = Listen {
        labels,
        ..Listen::default()
    };
    let mut slow = listening(&foreign, &store, long).await;
    let short = Listen {
        labels: vec!["/skills/".to_owned()],
        ..Listen::default()
    };
    let mut last = listening(&foreign, &store, short).await;
    let with_skills = |name: &str, skills: usize| {
        let skills = vec![serde_json::json!({"name": "skill"}); skills];
        let of = from_json(serde_json::json!({
            "name": name, "schema_version": "1.0.0", "skills": skills,
        }));
        store.insert(of).unwrap().to_string()
    };
    let (wide, usual) = (with_skills("wide", 2_000), with_skills("usual", 20));
    for ear in [&mut quick, &mut last] {
        assert_eq!(ear.hear().await.resource_id, wide);
        assert_eq!(ear.hear().await.resource_id, usual);
    }
    assert_eq!(slow.hear().await.resource_id, usual);
}

#[tokio::test]
async fn faults_happen_before_an_event_or_at_it() {
    let unavailable = || Fault::status(Status::unavailable("not now"));
    let odd: Cid = cid(&record(2));
    for (fault, heard, code) in [
        (unavailable(), 0, Some(Code::Unavailable)),
        (unavailable().at(2), 2, Some(Code::Unavailable)),
        (unavailable().of(odd), 2, Some(Code::Unavailable)),
        (Fault::end(), 0, None),
        (Fault::end().at(1), 1, None),
        (Fault::cut(), 0, Some(Code::Unknown)),
        (Fault::cut_after().of(odd), 2, Some(Code::Unknown)),
    ] {
        let what = format!("{fault:?}");
        let store = Store::new();
        let (foreign, _serving) = ForeignClient::of(&store).await;
        store.inject(fault.on(Method::Listen));
        let mut ear = Ear::open(&foreign, Listen::default());
        let is_open = |calls: &[_]| calls.len() == 1;
        soon(store.wait_for(is_open)).await;
        if heard > 0 {
            soon(store.wait_for(|_| store.listeners() == 1)).await;
        }
        for number in 0..heard {
            store.insert(record(number)).unwrap();
            hear(&mut ear, [(PUSHED, number)]).await;
        }
        // One that happens before an event does not wait for it.
        if what.contains("record: Some") {
            store.insert(record(2)).unwrap();
        }
        match (ear.next().await, code) {
            (Ok(None), None) => {}
            (Err(_), Some(Code::Unknown)) => {}
            (Err(status), Some(code)) => assert_eq!(status.code(), code, "{what}"),
            (end, _) => panic!("{what}: {end:?}"),
        }
        soon(store.wait_for(|_| store.listeners() == 0)).await;
        assert!(store.pending_faults().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn answers_can_be_wrong_or_double_or_late() {
    let store = Store::new();
    store.insert(record(7)).unwrap();
    let (foreign, _serving, mut ear) = served(&store).await;
    store.inject(Fault::wrong_answer().on(Method::Listen));
    store.inject(Fault::spare_answer().on(Method::Listen).at(1));
    store.inject(
        Fault::delay(Duration::from_millis(1))
            .on(Method::Listen)
            .at(2),
    );
    store.insert(record(0)).unwrap();
    hear(&mut ear, [(PUSHED, 7)]).await;
    store.insert(record(1)).unwrap();
    hear(&mut ear, [(PUSHED, 1), (PUSHED, 1)]).await;
    store.insert(record(2)).unwrap();
    hear(&mut ear, [(PUSHED, 2)]).await;
    assert!(store.pending_faults().is_empty());

    store.inject(Fault::wrong_answer().on(Method::Listen));
    let (_, end) = foreign.refs::<()>(Method::Delete, &["oops"]).await;
    end.unwrap();
    assert_ne!(ear.hear().await.resource_id, "oops");
}

#[tokio::test]
async fn a_listener_that_is_stalled_is_none_yet() {
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    store.inject(Fault::stall().on(Method::Listen));
    let ear = Ear::open(&foreign, Listen::default());
    soon(store.wait_for(|calls| calls.iter().any(|call| call.requests == 1))).await;
    assert_eq!(store.listeners(), 0);
    drop(ear);
    let calls = soon(ended_calls(&store)).await;
    assert_eq!(calls[0].end, Some(End::Cancelled));
}

#[tokio::test]
async fn a_shutdown_ends_listening_behind_what_has_happened() {
    let store = Store::new();
    let (_foreign, serving, mut ear) = served(&store).await;
    for number in 0..5 {
        store.insert(record(number)).unwrap();
    }
    soon(serving.shutdown()).await;
    hear(&mut ear, (0..5).map(|number| (PUSHED, number))).await;
    let end = ear.next().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    assert_eq!(store.listeners(), 0);
    let calls = soon(ended_calls(&store)).await;
    assert_eq!(calls[0].end, Some(End::Status(Code::Unavailable)));
}

#[tokio::test]
async fn a_serving_that_is_dropped_breaks_off() {
    let store = Store::new();
    let (_foreign, serving, mut ear) = served(&store).await;
    drop(serving);
    ear.next().await.unwrap_err();
    soon(store.wait_for(|_| store.listeners() == 0)).await;
}
