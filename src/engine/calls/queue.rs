//! The outgoing side of a call: a queue owned by both ends.
//!
//! The driver puts requests in, the transport takes them out from its own task. The queue has no
//! bound of its own, the window is the only one.
//!
//! It also keeps a drop visible on the wire. A transport that holds a chunk of requests and waits
//! for flow control does not poll the request body, so it would not see a cancellation. So the
//! next chunk is given only when the one before has left: while the transport waits for that, it
//! waits on this queue, and a cancellation reaches it at once. One case is left: hyper takes a
//! chunk and then waits for a first byte of capacity. If the window of the stream or of the whole
//! connection is used up to the last byte at that moment, the reset goes out with the server's
//! next window update.
//!
//! A long chunk leaves in pieces for the same reason, and to show that it moves: a record of 4 MiB
//! takes a slow line longer than a call may stand still.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
#[cfg(not(all(test, model)))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
#[cfg(all(test, model))]
use loom::sync::{Mutex, MutexGuard};
use pin_project::pin_project;
use prost::Message;

use super::progress::Moved;
use crate::stats::Traffic;

/// How many bytes of a long chunk leave together. A chunk of less than twice as many leaves as a
/// whole: those of short requests are a little longer than tonic's threshold, and no rest of a few
/// hundred bytes should cost a turn. (Miri takes a minute to copy so many.)
pub(super) const PIECE: usize = if cfg!(miri) { 64 } else { 128 << 10 };

/// What gRPC puts before a message: whether it is compressed, and its length in four bytes.
pub(super) const HEAD: usize = 5;

/// The driver's end of the queue.
#[derive(Debug)]
pub(super) struct Outgoing<R> {
    queue: Arc<Mutex<Queue<R>>>,
    moved: Moved,
}

/// What leaves as one message.
#[derive(Debug)]
pub(super) struct Sent<R> {
    pub(super) message: Joined<R>,
    /// Where a chunk begins: how much room to make for it, in bytes. 0 elsewhere.
    pub(super) chunk: usize,
}

#[derive(Debug)]
pub(super) enum Joined<R> {
    /// A request.
    One(R),
    /// The requests of a call, as protobuf merges messages: put one after the other.
    All(VecDeque<R>),
}

#[derive(Debug)]
struct Queue<R> {
    requests: VecDeque<R>,
    /// Whether all requests leave as one, at the end.
    joins: bool,
    finished: bool,
    closed: bool,
    transmitted: usize,
    /// Whether the next request is the first of a chunk.
    begins: bool,
    /// Whether a chunk, or a piece of one, is with the transport.
    piece_is_out: bool,
    /// Whether more of the same chunk is to follow.
    has_rest: bool,
    /// Whether the transport has let all requests go, and was told that there is no other.
    ended: bool,
    /// Whether the transport has asked for requests: the call is open on the wire, or about to be.
    started: bool,
    transport: Option<Waker>,
    /// Who wants to know when the transport asks.
    driver: Option<Waker>,
}

impl<R> Outgoing<R> {
    pub(super) fn new(traffic: Traffic, joins: bool) -> Self {
        Self {
            queue: Arc::new(Mutex::new(Queue {
                requests: VecDeque::new(),
                joins,
                finished: false,
                closed: false,
                transmitted: 0,
                begins: true,
                piece_is_out: false,
                has_rest: false,
                ended: false,
                started: false,
                transport: None,
                driver: None,
            })),
            moved: Moved::with(traffic),
        }
    }

    /// Queues all of `batch`, emptying it, and wakes the transport once.
    pub(super) fn append(&self, batch: &mut VecDeque<R>) {
        let mut queue = lock(&self.queue);
        queue.requests.append(batch);
        wake(queue);
    }

    /// Whether the transport has asked for requests. If not, the task is woken when it does.
    ///
    /// A call beyond what a server allows at once waits in the transport, and asks for nothing until
    /// another has ended.
    pub(super) fn is_started(&self, cx: &Context<'_>) -> bool {
        let mut queue = lock(&self.queue);
        if !queue.started {
            queue.driver = Some(cx.waker().clone());
        }
        queue.started
    }

    /// No further request: the call half-closes when the queue has left.
    pub(super) fn finish(&self) {
        let mut queue = lock(&self.queue);
        queue.finished = true;
        wake(queue);
    }

    /// Takes back the requests that the transport has not taken. Returns how many it has.
    pub(super) fn retract(&self) -> usize {
        let mut queue = lock(&self.queue);
        queue.requests.clear();
        let transmitted = queue.transmitted;
        // There may be an end to see.
        wake(queue);
        transmitted
    }

    /// The call is over: what has not left stays here. Returns how many requests the transport
    /// took, and whether it has all and will see their end.
    pub(super) fn close(&self) -> (usize, bool) {
        let mut queue = lock(&self.queue);
        let is_drained = queue.finished && queue.requests.is_empty() && !queue.has_rest;
        queue.closed = !is_drained;
        (queue.transmitted, is_drained)
    }

    /// Whether the transport has all requests, and knows that there is no other. One that is for all leaves when there
    /// is no other.
    pub(super) fn has_ended(&self) -> bool {
        let queue = lock(&self.queue);
        queue.ended || queue.joins && queue.transmitted > 0 && !queue.has_rest
    }

    /// The transport's end, as a stream of requests.
    pub(super) fn requests(&self) -> Requests<R> {
        Requests(Arc::clone(&self.queue))
    }

    /// Wraps the body made of [`requests`](Self::requests), to give one chunk at a time.
    pub(super) fn gate<B>(&self, body: B) -> OneChunk<B, R> {
        OneChunk {
            body,
            rest: Bytes::new(),
            outgoing: self.clone(),
        }
    }

    /// Counts the bytes that have left.
    pub(super) fn moved(&self) -> &Moved {
        &self.moved
    }

    /// Whether the next piece may leave. If not, the transport is woken when it may.
    fn poll_next_piece(&self, cx: &Context<'_>) -> Poll<()> {
        let mut queue = lock(&self.queue);
        if !queue.piece_is_out && !queue.closed {
            return Poll::Ready(());
        }
        queue.waits(cx);
        Poll::Pending
    }
}

impl<R: Send + 'static> Outgoing<R> {
    /// The next piece of a chunk. It counts as out until the transport lets go of it.
    fn let_out(&self, rest: &mut Bytes) -> Bytes {
        let bytes = if rest.len() < 2 * PIECE {
            std::mem::take(rest)
        } else {
            rest.split_to(PIECE)
        };
        let mut queue = lock(&self.queue);
        queue.piece_is_out = true;
        queue.begins = true;
        queue.has_rest = !rest.is_empty();
        drop(queue);
        Bytes::from_owner(Piece {
            _out: Out {
                len: bytes.len(),
                outgoing: self.clone(),
            },
            bytes,
        })
    }
}

impl<R> Clone for Outgoing<R> {
    fn clone(&self) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
            moved: self.moved.clone(),
        }
    }
}

impl<R: Message> Queue<R> {
    /// The next request that may leave.
    fn next(&mut self) -> Option<Sent<R>> {
        if self.requests.is_empty() || self.joins && !self.finished {
            return None;
        }
        let chunk = match std::mem::take(&mut self.begins) {
            true => self.room_for_chunk(),
            false => 0,
        };
        let message = if self.joins {
            self.transmitted += self.requests.len();
            Joined::All(std::mem::take(&mut self.requests))
        } else {
            self.transmitted += 1;
            Joined::One(self.requests.pop_front()?)
        };
        Some(Sent { message, chunk })
    }

    /// The bytes of what leaves together. The first time twice as many, up to those of a full chunk: the next ones may
    /// be longer, and a buffer that grows is copied.
    fn room_for_chunk(&self) -> usize {
        let mut len = 0;
        for request in &self.requests {
            if len >= PIECE && !self.joins {
                break;
            }
            len += HEAD + request.encoded_len();
        }
        match self.transmitted {
            0 => len.max(PIECE.min(2 * len)),
            _ => len,
        }
    }
}

impl<R> Queue<R> {
    /// The transport waits for what comes next.
    fn waits(&mut self, cx: &Context<'_>) {
        match &mut self.transport {
            Some(transport) => transport.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

fn lock<R>(queue: &Mutex<Queue<R>>) -> MutexGuard<'_, Queue<R>> {
    // Nothing that runs under the lock leaves the queue half changed.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes outside of the lock, so that the woken task does not run into it.
fn wake<R>(mut queue: MutexGuard<'_, Queue<R>>) {
    let transport = queue.transport.take();
    drop(queue);
    if let Some(transport) = transport {
        transport.wake();
    }
}

/// The transport's end of the queue. It ends only when the driver has finished it, never because
/// the driver is gone: an end is END_STREAM on the wire, and a server reads that as "all sent".
#[derive(Debug)]
pub(super) struct Requests<R>(Arc<Mutex<Queue<R>>>);

impl<R: Message> Stream for Requests<R> {
    type Item = Sent<R>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Sent<R>>> {
        let mut queue = lock(&self.0);
        if !queue.started {
            queue.started = true;
            if let Some(driver) = queue.driver.take() {
                drop(queue);
                driver.wake();
                queue = lock(&self.0);
            }
        }
        if !queue.piece_is_out && !queue.has_rest && !queue.closed {
            if let Some(request) = queue.next() {
                return Poll::Ready(Some(request));
            }
            if queue.finished {
                return Poll::Ready(None);
            }
        }
        queue.waits(cx);
        Poll::Pending
    }
}

/// A request body that holds the next chunk back until the transport has let go of the last, and a
/// long one's next piece.
#[pin_project]
#[derive(Debug)]
pub(super) struct OneChunk<B, R> {
    #[pin]
    body: B,
    /// What has not left of a long chunk.
    rest: Bytes,
    outgoing: Outgoing<R>,
}

impl<B, R> Body for OneChunk<B, R>
where
    B: Body<Data = Bytes>,
    R: Send + 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        if !this.rest.is_empty() {
            // The transport asks again, since the call may be cancelled.
            match frame {
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(_))) => {
                    unreachable!("the queue gives nothing while a rest waits")
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
            ready!(this.outgoing.poll_next_piece(cx));
            let piece = this.outgoing.let_out(this.rest);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let frame = ready!(frame);
        if frame.is_none() {
            lock(&this.outgoing.queue).ended = true;
        }
        Poll::Ready(frame.map(|frame| {
            Ok(frame?.map_data(|chunk| {
                *this.rest = chunk;
                this.outgoing.let_out(this.rest)
            }))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Encoded requests on their way out. The fields drop in order: the buffer is free again by the
/// time the transport is woken to fill it.
struct Piece<R> {
    bytes: Bytes,
    _out: Out<R>,
}

impl<R> AsRef<[u8]> for Piece<R> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Out<R> {
    len: usize,
    outgoing: Outgoing<R>,
}

impl<R> Drop for Out<R> {
    fn drop(&mut self) {
        self.outgoing.moved.sent(self.len);
        let mut queue = lock(&self.outgoing.queue);
        queue.piece_is_out = false;
        wake(queue);
    }
}

#[cfg(all(test, model))]
mod model;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::StreamExt as _;
    use futures_test::task::{new_count_waker, noop_context};
    use http_body_util::StreamBody;

    use super::*;

    type Never = std::convert::Infallible;

    fn body(outgoing: &Outgoing<Bytes>) -> Pin<Box<impl Body<Data = Bytes, Error = Never>>> {
        let requests = outgoing.requests();
        let frames = requests.map(|sent| {
            Ok(Frame::data(match sent.message {
                Joined::One(bytes) => bytes,
                Joined::All(all) => all.into_iter().flatten().collect(),
            }))
        });
        Box::pin(outgoing.gate(StreamBody::new(frames)))
    }

    fn send(outgoing: &Outgoing<Bytes>, len: usize) {
        let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
        outgoing.append(&mut VecDeque::from([bytes.into()]));
    }

    fn take<B>(body: &mut Pin<Box<B>>, cx: &mut Context<'_>) -> Option<Bytes>
    where
        B: Body<Data = Bytes, Error = Never>,
    {
        match body.as_mut().poll_frame(cx) {
            Poll::Pending => None,
            Poll::Ready(frame) => Some(frame.unwrap().unwrap().into_data().unwrap()),
        }
    }

    #[test]
    fn a_long_chunk_leaves_in_pieces_each_when_the_last_has_left() {
        let outgoing = Outgoing::new(Traffic::default(), false);
        let mut body = body(&outgoing);
        send(&outgoing, 3 * PIECE + 1);
        send(&outgoing, 1);
        let (waker, woken) = new_count_waker();
        let mut cx = Context::from_waker(&waker);
        let (mut moved, mut came) = (0, Vec::new());
        for len in [PIECE, PIECE, PIECE + 1, 1] {
            let piece = take(&mut body, &mut cx).unwrap();
            assert_eq!(piece.len(), len);
            assert!(take(&mut body, &mut cx).is_none(), "a piece is out");
            assert_eq!(outgoing.moved().get(), moved);
            moved += len as u64;
            came.extend_from_slice(&piece);
            let wakes = woken.get();
            drop(piece);
            assert_eq!(woken.get(), wakes + 1);
            assert_eq!(outgoing.moved().get(), moved);
        }
        assert!(
            came[..3 * PIECE + 1]
                .iter()
                .enumerate()
                .all(|(at, byte)| *byte == at as u8)
        );
        assert!(take(&mut body, &mut cx).is_none());
        outgoing.finish();
        assert!(matches!(
            body.as_mut().poll_frame(&mut cx),
            Poll::Ready(None)
        ));
    }

    #[test]
    fn requests_that_are_joined_leave_as_one_when_there_is_no_other() {
        let outgoing = Outgoing::new(Traffic::default(), true);
        let mut body = body(&outgoing);
        let mut cx = noop_context();
        send(&outgoing, 2);
        assert!(take(&mut body, &mut cx).is_none(), "more may come");
        assert_eq!(outgoing.retract(), 0);
        send(&outgoing, 3);
        send(&outgoing, 1);
        outgoing.finish();
        assert_eq!(&take(&mut body, &mut cx).unwrap()[..], [0, 1, 2, 0]);
        assert_eq!(outgoing.retract(), 2, "both are in it");
        let end = body.as_mut().poll_frame(&mut cx);
        assert!(matches!(end, Poll::Ready(None)));
    }

    #[test]
    fn a_chunk_of_less_than_two_pieces_leaves_as_a_whole() {
        let outgoing = Outgoing::new(Traffic::default(), false);
        let mut body = body(&outgoing);
        send(&outgoing, 2 * PIECE - 1);
        let chunk = take(&mut body, &mut noop_context()).unwrap();
        assert_eq!(chunk.len(), 2 * PIECE - 1);
    }

    #[test]
    fn a_call_that_is_over_lets_no_further_piece_out() {
        let outgoing = Outgoing::new(Traffic::default(), false);
        let mut body = body(&outgoing);
        send(&outgoing, 2 * PIECE);
        let mut cx = noop_context();
        let piece = take(&mut body, &mut cx).unwrap();
        assert_eq!(outgoing.close(), (1, false));
        drop(piece);
        assert!(take(&mut body, &mut cx).is_none());
        assert!(!body.is_end_stream());
    }

    #[test]
    fn a_call_is_cancelled_between_two_pieces() {
        let outgoing = Outgoing::<Bytes>::new(Traffic::default(), false);
        let chunk = Bytes::from(vec![0; 2 * PIECE]);
        let frames = [Ok(Frame::data(chunk)), Err("cancelled")];
        let body = StreamBody::new(futures::stream::iter(frames));
        let mut body = Box::pin(outgoing.gate(body));
        let mut cx = noop_context();
        let piece = body.as_mut().poll_frame(&mut cx);
        assert!(matches!(piece, Poll::Ready(Some(Ok(_)))));
        // Though the piece has not left.
        let next = body.as_mut().poll_frame(&mut cx);
        assert!(matches!(next, Poll::Ready(Some(Err("cancelled")))));
        drop(piece);
    }
}
