//! The queue in every order in which its two ends can run, by loom. CONTRIBUTING has the command.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::future::poll_fn;

use futures::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use loom::future::block_on;
use loom::thread::{self, JoinHandle};

use super::*;
use crate::engine::model::in_every_order;

type Chunks = Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>;

/// Requests of one byte, by which they are known.
fn requests(bytes: std::ops::Range<u8>) -> VecDeque<Bytes> {
    bytes.map(|byte| Bytes::from(vec![byte])).collect()
}

fn queue(joins: bool) -> Outgoing<Bytes> {
    Outgoing::new(Traffic::default(), joins)
}

fn body(outgoing: &Outgoing<Bytes>) -> Chunks {
    let frames = outgoing.requests().map(|sent| {
        Ok(Frame::data(match sent.message {
            Joined::One(bytes) => bytes,
            Joined::All(all) => all.into_iter().flatten().collect(),
        }))
    });
    Box::pin(outgoing.gate(StreamBody::new(frames)))
}

async fn next(body: &mut Chunks) -> Option<Bytes> {
    let frame = body.frame().await?;
    Some(frame.unwrap().into_data().unwrap())
}

/// A transport that takes all there is, and lets each piece go before it asks for the next. Returns what it has taken.
fn transport(outgoing: &Outgoing<Bytes>) -> JoinHandle<Vec<u8>> {
    let mut body = body(outgoing);
    thread::spawn(move || {
        block_on(async move {
            let mut taken = Vec::new();
            while let Some(piece) = next(&mut body).await {
                taken.extend_from_slice(&piece);
            }
            taken
        })
    })
}

/// A transport that is never told of an end: it takes `count` chunks, and then asks once more. Returns what it has taken, and
/// whether it was told of an end.
fn cut_off(outgoing: &Outgoing<Bytes>, polls: usize) -> JoinHandle<(Vec<u8>, bool)> {
    let mut body = body(outgoing);
    thread::spawn(move || {
        let (mut taken, mut has_ended) = (Vec::new(), false);
        block_on(poll_fn(|cx| {
            for _ in 0..polls {
                match body.as_mut().poll_frame(cx) {
                    Poll::Ready(Some(frame)) => {
                        taken.extend_from_slice(&frame.unwrap().into_data().unwrap());
                    }
                    Poll::Ready(None) => {
                        has_ended = true;
                        break;
                    }
                    Poll::Pending => {}
                }
                thread::yield_now();
            }
            Poll::Ready(())
        }));
        (taken, has_ended)
    })
}

#[test]
fn all_leave_in_order_and_then_the_call_ends() {
    in_every_order(|| {
        let outgoing = queue(false);
        let transport = transport(&outgoing);
        outgoing.append(&mut requests(0..2));
        outgoing.append(&mut requests(2..3));
        outgoing.finish();
        assert_eq!(transport.join().unwrap(), [0, 1, 2]);
        assert!(outgoing.has_ended());
        assert_eq!(outgoing.close(), (3, true));
    });
}

#[test]
fn those_that_are_joined_leave_as_one() {
    in_every_order(|| {
        let outgoing = queue(true);
        let transport = transport(&outgoing);
        outgoing.append(&mut requests(0..1));
        outgoing.append(&mut requests(1..2));
        outgoing.finish();
        assert_eq!(transport.join().unwrap(), [0, 1]);
        assert_eq!(outgoing.close(), (2, true));
    });
}

/// A connection's own task lets go of a piece, while another asks for the next.
#[test]
fn a_piece_that_another_thread_lets_go_wakes_who_waits_for_the_next() {
    static LONG: [u8; 2 * PIECE] = [0; 2 * PIECE];
    in_every_order(|| {
        let outgoing = queue(false);
        let mut body = body(&outgoing);
        outgoing.append(&mut VecDeque::from([Bytes::from_static(&LONG)]));
        outgoing.finish();
        let first = block_on(next(&mut body)).unwrap();
        assert_eq!(first.len(), PIECE);
        let connection = thread::spawn(move || drop(first));
        let second = block_on(next(&mut body)).unwrap();
        assert_eq!(second.len(), PIECE);
        assert_eq!(outgoing.moved().get(), PIECE as u64);
        connection.join().unwrap();
        drop(second);
        assert!(block_on(next(&mut body)).is_none());
    });
}

#[test]
fn what_is_taken_back_has_not_left() {
    in_every_order(|| {
        let outgoing = queue(false);
        let transport = transport(&outgoing);
        outgoing.append(&mut requests(0..3));
        let left = outgoing.retract();
        outgoing.append(&mut requests(3..4));
        outgoing.finish();
        let mut expected: Vec<_> = (0..left as u8).collect();
        expected.push(3);
        assert_eq!(transport.join().unwrap(), expected);
    });
}

/// What the transport has when a call is over is what the books say, and an end is told only after all.
#[test]
fn nothing_leaves_after_the_call_is_over() {
    in_every_order(|| {
        let outgoing = queue(false);
        let transport = cut_off(&outgoing, 3);
        outgoing.append(&mut requests(0..2));
        let (left, is_drained) = outgoing.close();
        assert!(!is_drained, "it was not finished");
        let (taken, has_ended) = transport.join().unwrap();
        assert_eq!(taken, (0..left as u8).collect::<Vec<_>>());
        assert!(!has_ended);
    });
}

#[test]
fn a_call_that_is_over_when_all_have_left_still_ends() {
    in_every_order(|| {
        let outgoing = queue(false);
        let transport = cut_off(&outgoing, 4);
        outgoing.append(&mut requests(0..2));
        outgoing.finish();
        let (left, is_drained) = outgoing.close();
        assert_eq!(is_drained, left == 2);
        let (taken, has_ended) = transport.join().unwrap();
        match is_drained {
            true => assert_eq!(taken, [0, 1]),
            false => assert_eq!(taken, (0..left as u8).collect::<Vec<_>>()),
        }
        assert!(is_drained || !has_ended);
    });
}

#[test]
fn the_driver_is_woken_when_the_transport_asks() {
    in_every_order(|| {
        let outgoing = queue(false);
        outgoing.finish();
        let transport = transport(&outgoing);
        block_on(poll_fn(|cx| match outgoing.is_started(cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }));
        assert!(transport.join().unwrap().is_empty());
    });
}
