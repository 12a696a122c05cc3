//! The embedded store as a client without this crate sees it: what it answers, row by row.

use std::time::Duration;

use agntcy_dir_stream::server::{AlreadyStored, Call, End, Fault, Method, Store};
use agntcy_dir_stream::{Client, Code, Record, Status};
use bytes::Bytes;
use futures::future::{Either, select};
use futures::{FutureExt, stream};
use prost::Message;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use crate::support::clock::soon;
use crate::support::foreign::{ForeignClient, assert_status};
use crate::support::http2::{raw_connection, raw_request};
use crate::support::messages::{RecordMeta, RecordRef, framed, take_message};
use crate::support::records::{cid, record};
use crate::support::stores::{ended_calls, listen};

#[tokio::test]
async fn a_lookup_tells_what_the_record_says_of_itself() {
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let described: Record = r#"{
        "name": "a",
        "schema_version": "0.8.0",
        "created_at": "2025-01-01",
        "annotations": {"k": "v"}
    }"#
    .parse()
    .unwrap();
    let cid = store.insert(described).unwrap().to_string();
    let (answers, end) = foreign.refs::<RecordMeta>(Method::Lookup, &[&cid]).await;
    end.unwrap();
    let meta = RecordMeta {
        cid,
        annotations: [("k".to_owned(), "v".to_owned())].into(),
        schema_version: "0.8.0".into(),
        created_at: "2025-01-01".into(),
    };
    assert_eq!(answers, [meta]);
}

#[tokio::test]
async fn a_stored_record_can_be_answered_with_its_cid() {
    let store = Store::builder().already_stored(AlreadyStored::Ref).build();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let (answers, end) = foreign.push(vec![record(1), record(1), record(2)]).await;
    end.unwrap();
    assert_eq!((answers, store.len()), (3, 2));
}

#[tokio::test]
async fn headers_come_with_the_first_answer() {
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let (send, requests) = futures::channel::mpsc::unbounded();
    let mut open = Box::pin(foreign.open::<Record, RecordRef>(Method::Push, requests));
    let seen = Box::pin(store.wait_for(|calls| calls.len() == 1));
    let Either::Left((_, opened)) = soon(select(seen, &mut open)).await else {
        panic!("the headers came before the call was seen");
    };
    assert!(opened.now_or_never().is_none(), "no request, no headers");
    send.unbounded_send(record(1)).unwrap();
    let mut streaming = soon(open).await.unwrap();
    assert_eq!(
        soon(streaming.message()).await.unwrap().unwrap().cid,
        cid(&record(1)).to_string()
    );
}

/// Go sends each message in frames of its own, and an eager client reads nothing before all are
/// sent.
#[tokio::test]
async fn many_small_requests_may_wait_unread() {
    const REQUESTS: usize = 100_000;
    let store = Store::new();
    let serving = listen(&store).await;
    let kept = store.insert(record(1)).unwrap();
    let message = framed(&RecordRef::new(kept).encode_to_vec());
    let mut connection = raw_connection(&serving).await;
    let (response, mut requests) = connection
        .send_request(raw_request(&serving, Method::Lookup), false)
        .unwrap();
    for _ in 0..REQUESTS {
        requests.send_data(message.clone(), false).unwrap();
    }
    requests.send_data(Bytes::new(), true).unwrap();
    // The store stops reading when nobody takes its answers: what is sent then waits unread.
    let mut body = soon(response).await.unwrap().into_body();
    let mut answers = 0;
    let mut pending = bytes::BytesMut::new();
    while let Some(data) = soon(body.data()).await {
        let data = data.expect("the store keeps the connection");
        body.flow_control().release_capacity(data.len()).unwrap();
        pending.extend_from_slice(&data);
        while take_message(&mut pending).is_some() {
            answers += 1;
        }
    }
    assert_eq!(answers, REQUESTS);
    let trailers = soon(body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn many_resets_do_not_close_the_connection() {
    let store = Store::new();
    let serving = listen(&store).await;
    let mut connection = raw_connection(&serving).await;
    for _ in 0..25 {
        for _ in 0..100 {
            connection = soon(connection.ready()).await.unwrap();
            let (_, mut requests) = connection
                .send_request(raw_request(&serving, Method::Lookup), false)
                .unwrap();
            requests.send_reset(h2::Reason::CANCEL);
        }
        // When this is answered, the store has read all before it: only so many calls may be
        // open at once.
        connection = soon(connection.ready()).await.unwrap();
        let (response, _) = connection
            .send_request(raw_request(&serving, Method::Lookup), true)
            .unwrap();
        assert_eq!(soon(response).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    for path in [
        "/agntcy.dir.store.v1.StoreService/Nothing",
        "/agntcy.dir.store.v1.StoreService/Publish",
        "/agntcy.dir.routing.v1.RoutingService/List",
        "/agntcy.dir.routing.v1.RoutingService/Push",
    ] {
        let mut grpc = Grpc::new(foreign.channel.clone());
        grpc.ready().await.unwrap();
        let status = grpc
            .streaming(
                tonic::Request::new(stream::iter([RecordRef::default()])),
                path.parse().unwrap(),
                ProstCodec::<RecordRef, RecordRef>::default(),
            )
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        assert!(store.calls().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_shutdown_lets_calls_end_and_takes_no_other() {
    let store = Store::new();
    let (foreign, serving) = ForeignClient::of(&store).await;
    let (send, requests) = futures::channel::mpsc::unbounded();
    send.unbounded_send(record(1)).unwrap();
    let mut streaming = soon(foreign.open::<Record, RecordRef>(Method::Push, requests))
        .await
        .unwrap();
    soon(streaming.message()).await.unwrap().unwrap();
    let url = serving.url();
    let mut shutdown = Box::pin(serving.shutdown());
    assert!(futures::poll!(&mut shutdown).is_pending());
    // The call that runs is served on.
    send.unbounded_send(record(2)).unwrap();
    let answer = futures::join!(soon(streaming.message()), async {
        assert!(
            tokio::time::timeout(Duration::from_millis(1), &mut shutdown)
                .await
                .is_err(),
            "a call still runs"
        );
    });
    answer.0.unwrap().unwrap();
    drop(send);
    let (end, ()) = soon(futures::future::join(streaming.message(), shutdown)).await;
    assert!(end.unwrap().is_none());
    assert_eq!(store.len(), 2);
    let error = Client::connect(&url).await.unwrap_err();
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn the_log_tells_how_calls_ended() {
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    foreign.push(vec![record(1), record(2)]).await.1.unwrap();
    foreign.push(vec![Record::default()]).await.1.unwrap_err();
    let (send, requests) = futures::channel::mpsc::unbounded::<Record>();
    let opened = foreign.open::<_, RecordRef>(Method::Push, requests);
    let seen = store.wait_for(|calls| calls.len() == 3);
    // The call is dropped when the log has it.
    soon(select(Box::pin(opened), Box::pin(seen))).await;
    let calls = soon(ended_calls(&store)).await;
    let told = |call: &Call| (call.number, call.requests, call.answers, call.end);
    assert_eq!(
        calls.iter().map(told).collect::<Vec<_>>(),
        [
            (0, 2, 2, Some(End::Ok)),
            (1, 1, 0, Some(End::Status(Code::InvalidArgument))),
            (2, 0, 0, Some(End::Cancelled)),
        ]
    );
    assert!(calls[0].half_closed);
    assert!(!calls[2].half_closed);
    drop(send);
}

/// No handler has seen it.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_before_it_arrives_was_cancelled() {
    let store = Store::new();
    let client = store.client();
    store.inject(Fault::late_call(Duration::from_secs(3_600)));
    let seen = store.wait_for(|calls| calls.len() == 1);
    soon(select(Box::pin(client.push(record(1))), Box::pin(seen))).await;
    let calls = soon(ended_calls(&store)).await;
    assert_eq!((calls[0].requests, calls[0].end), (0, Some(End::Cancelled)));
}

#[tokio::test]
async fn faults_happen_where_they_were_asked_for() {
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let records = |count| (0..count).map(record).collect::<Vec<_>>();
    let refs: Vec<String> = (0..4)
        .map(|number| store.insert(record(number)).unwrap().to_string())
        .collect();
    let refs: Vec<&str> = refs.iter().map(String::as_str).collect();

    store.inject(
        Fault::status(Status::unavailable("first"))
            .on(Method::Lookup)
            .at(2),
    );
    store.inject(Fault::status(Status::aborted("second")).in_call(1).at(1));
    let (answers, end) = foreign.refs::<RecordRef>(Method::Lookup, &refs).await;
    assert_status("the fault", end, Code::Unavailable, "first");
    assert_eq!(answers.len(), 2);
    let (answers, end) = foreign.refs::<RecordRef>(Method::Lookup, &refs).await;
    assert_status("the fault", end, Code::Aborted, "second");
    assert_eq!(answers.len(), 1);
    foreign
        .refs::<RecordRef>(Method::Lookup, &refs)
        .await
        .1
        .unwrap();

    store.inject(Fault::end().at(3));
    let (answers, end) = foreign.refs::<RecordRef>(Method::Lookup, &refs).await;
    end.unwrap();
    assert_eq!(answers.len(), 3);

    store.inject(Fault::wrong_answer().at(1).times(2));
    store.inject(Fault::stall().on(Method::Delete).times(0));
    let (answers, end) = foreign.refs::<Record>(Method::Pull, &refs).await;
    end.unwrap();
    let pending = format!("{:?}", store.pending_faults());
    assert!(
        pending.contains("Wrong") && pending.contains("times: 1"),
        "{pending}"
    );
    assert_eq!(store.pending_faults().len(), 1, "what is left of the two");
    assert_eq!(answers[0], record(0));
    assert_ne!(answers[1], record(1));
    let (answers, end) = foreign.refs::<RecordRef>(Method::Lookup, &refs).await;
    end.unwrap();
    assert_ne!(answers[1].cid, refs[1]);

    store.inject(Fault::spare_answer());
    let (answers, end) = foreign.refs::<RecordRef>(Method::Lookup, &refs).await;
    end.unwrap();
    assert_eq!(answers.len(), 5);

    store.inject(Fault::delay(Duration::from_millis(1)));
    foreign
        .refs::<RecordRef>(Method::Lookup, &refs)
        .await
        .1
        .unwrap();

    store.inject(Fault::go_away().at(1));
    let (answers, end) = foreign.refs::<RecordRef>(Method::Lookup, &refs).await;
    end.expect("the call that runs goes on");
    assert_eq!(answers.len(), 4);

    store.clear();
    store.inject(Fault::cut().on(Method::Push).at(2));
    let (answers, end) = foreign.push(records(4)).await;
    let status = end.unwrap_err();
    assert!(std::error::Error::source(&status).is_some(), "{status:?}");
    assert!(answers <= 2);
    assert_eq!(store.len(), 2);

    assert_eq!(format!("{:?}", store.pending_faults()), "[]");
}
