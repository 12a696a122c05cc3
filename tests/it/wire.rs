//! What the wire sees: HTTP/2 frames as a server receives them, over TCP.

use std::cell::Cell;
use std::task::Poll;

use agntcy_dir_stream::prelude::*;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use h2::Reason;
use prost::Message as _;
use tonic::Code;

use crate::support::clock::runtime;
use crate::support::http2::{RequestEnd, WINDOW, raw_server};
use crate::support::messages::{RecordRef, framed, grpc_response, trailers};
use crate::support::polling::{counted, poll_until};
use crate::support::records::{cid, record, records, sized};

fn response() -> http::Response<()> {
    grpc_response().body(()).unwrap()
}

fn ref_to(cid: Cid) -> Bytes {
    framed(&RecordRef::new(cid).encode_to_vec())
}

#[tokio::test]
async fn a_drop_while_the_call_opens_is_a_reset() {
    let (client, mut calls) = raw_server().await;
    let input = stream::iter([record(1)]).chain(stream::pending());
    let mut results = Box::pin(input.push_to(&client));
    let mut call = poll_until(&mut results, calls.recv()).await.unwrap();
    poll_until(&mut results, call.body.data())
        .await
        .unwrap()
        .unwrap();
    drop(results);
    assert_eq!(call.end(false).await, RequestEnd::Reset(Reason::CANCEL));
}

#[tokio::test]
async fn a_drop_while_the_call_is_open_is_a_reset() {
    let (client, mut calls) = raw_server().await;
    let input = stream::iter([record(1)]).chain(stream::pending());
    let mut results = Box::pin(input.push_to(&client));
    let mut call = poll_until(&mut results, calls.recv()).await.unwrap();
    let mut answers = call.respond.send_response(response(), false).unwrap();
    answers.send_data(ref_to(cid(&record(1))), false).unwrap();
    results.next().await.unwrap().unwrap();
    drop(results);
    assert_eq!(call.end(false).await, RequestEnd::Reset(Reason::CANCEL));
}

/// The server reads nothing, so the transport holds requests back.
#[tokio::test]
async fn a_drop_with_a_full_flow_control_window_is_a_reset() {
    for headers in [false, true] {
        let (client, mut calls) = raw_server().await;
        let input = stream::repeat_with(|| record(1));
        let all = usize::MAX;
        let options = Options::new().in_flight(all, all).dedup(false);
        let mut results = Box::pin(input.push_to_with(&client, &options));
        let mut call = poll_until(&mut results, calls.recv()).await.unwrap();
        let mut answers = None;
        if headers {
            let mut open = call.respond.send_response(response(), false).unwrap();
            open.send_data(ref_to(cid(&record(1))), false).unwrap();
            answers = Some(open);
            results.next().await.unwrap().unwrap();
        }
        // All that fits into the window has come.
        let mut received = 0;
        while received < WINDOW {
            received += poll_until(&mut results, call.body.data())
                .await
                .unwrap()
                .unwrap()
                .len();
        }
        drop(results);
        assert_eq!(
            call.end(true).await,
            RequestEnd::Reset(Reason::CANCEL),
            "headers: {headers}"
        );
        drop(answers);
    }
}

/// A record that is longer than the flow-control window leaves in pieces. The transport waits with one of them.
#[tokio::test]
async fn a_drop_in_the_middle_of_a_long_record_is_a_reset() {
    for stuck in [true, false] {
        let (client, mut calls) = raw_server().await;
        let input = stream::iter([sized(3_900_000)]).chain(stream::pending());
        let mut results = Box::pin(input.push_to(&client));
        let mut call = poll_until(&mut results, calls.recv()).await.unwrap();
        let mut received = 0;
        while received < WINDOW {
            let data = poll_until(&mut results, call.body.data())
                .await
                .unwrap()
                .unwrap();
            received += data.len();
        }
        drop(results);
        if !stuck {
            call.body.flow_control().release_capacity(received).unwrap();
        }
        assert_eq!(
            call.end(stuck).await,
            RequestEnd::Reset(Reason::CANCEL),
            "{stuck}"
        );
    }
}

#[tokio::test]
async fn a_drop_of_a_half_closed_call_is_a_reset() {
    for headers in [false, true] {
        let (client, mut calls) = raw_server().await;
        let mut results = Box::pin(stream::iter([record(1), record(2)]).push_to(&client));
        let mut call = poll_until(&mut results, calls.recv()).await.unwrap();
        assert_eq!(
            poll_until(&mut results, call.end(false)).await,
            RequestEnd::EndStream
        );
        let mut answers = None;
        if headers {
            let mut open = call.respond.send_response(response(), false).unwrap();
            open.send_data(ref_to(cid(&record(1))), false).unwrap();
            answers = Some(open);
            results.next().await.unwrap().unwrap();
        }
        drop(results);
        let reset = std::future::poll_fn(|cx| match &mut answers {
            Some(answers) => answers.poll_reset(cx),
            None => call.respond.poll_reset(cx),
        });
        assert_eq!(reset.await.unwrap(), Reason::CANCEL, "headers: {headers}");
    }
}

/// A server carries deletes out when the requests end. If a drop looked like an end, records would be lost.
#[tokio::test]
async fn a_dropped_delete_is_a_reset() {
    let (client, mut calls) = raw_server().await;
    let refs = stream::repeat(cid(&record(1)));
    // More refs than flow control lets through, so that the segment is not sent.
    let options = Options::new().window(2 * WINDOW / 64);
    let mut results = Box::pin(refs.delete_from_with(&client, &options));
    let mut call = poll_until(&mut results, calls.recv()).await.unwrap();
    poll_until(&mut results, call.body.data())
        .await
        .unwrap()
        .unwrap();
    drop(results);
    assert_eq!(call.end(true).await, RequestEnd::Reset(Reason::CANCEL));
}

#[tokio::test]
async fn a_finished_stream_never_resets() {
    let (client, mut calls) = raw_server().await;
    let results = records(100).push_to(&client).collect::<Vec<_>>();
    let server = async {
        let mut call = calls.recv().await.unwrap();
        let mut answers = call.respond.send_response(response(), false).unwrap();
        for number in 0..100 {
            answers
                .send_data(ref_to(cid(&record(number))), false)
                .unwrap();
        }
        let end = call.end(false).await;
        answers.send_trailers(trailers(Code::Ok, "")).unwrap();
        (end, answers)
    };
    let (results, (end, mut answers)) = futures::join!(results, server);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 100);
    assert_eq!(end, RequestEnd::EndStream);
    // A reset would have come before the answer to a ping that is sent now; a second call does.
    let mut second = Box::pin(stream::iter([record(1)]).push_to(&client));
    let call = poll_until(&mut second, calls.recv()).await.unwrap();
    assert!(
        std::future::poll_fn(|cx| Poll::Ready(answers.poll_reset(cx)))
            .await
            .is_pending()
            || std::future::poll_fn(|cx| answers.poll_reset(cx))
                .await
                .is_err(),
        "the stream was closed, not reset"
    );
    drop(call);
}

#[test]
fn a_drop_needs_no_runtime() {
    let runtime = runtime();
    let taken = Cell::new(0);
    let input = counted(&taken);
    let (client, mut results) = runtime.block_on(async {
        let (client, mut calls) = raw_server().await;
        let mut results = Box::pin(input.push_to(&client));
        poll_until(&mut results, calls.recv()).await.unwrap();
        (client, results)
    });
    assert!(results.next().now_or_never().is_none());
    drop(runtime);
    drop(results);
    drop(client);
    assert!(taken.get() > 0);
}
