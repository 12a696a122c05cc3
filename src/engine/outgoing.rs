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

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

/// The driver's end of the queue.
#[derive(Debug)]
pub(super) struct Outgoing<R>(Arc<Mutex<Queue<R>>>);

#[derive(Debug)]
struct Queue<R> {
    requests: VecDeque<R>,
    finished: bool,
    closed: bool,
    taken: usize,
    chunk_is_out: bool,
    /// Whether the transport has been told that there is no further request.
    ended: bool,
    /// Whether the transport has asked for requests: the call is open on the wire, or about to be.
    asked: bool,
    transport: Option<Waker>,
    /// Who wants to know when the transport asks.
    driver: Option<Waker>,
}

impl<R> Outgoing<R> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Queue {
            requests: VecDeque::new(),
            finished: false,
            closed: false,
            taken: 0,
            chunk_is_out: false,
            ended: false,
            asked: false,
            transport: None,
            driver: None,
        })))
    }

    /// Queues all of `batch`, emptying it, and wakes the transport once.
    pub(super) fn append(&self, batch: &mut VecDeque<R>) {
        let mut queue = lock(&self.0);
        queue.requests.append(batch);
        wake(queue);
    }

    /// Whether the transport has asked for requests. If not, the task is woken when it does.
    ///
    /// A call beyond what a server allows at once waits in the transport, and asks for nothing until
    /// another has ended.
    pub(super) fn is_asked(&self, cx: &Context<'_>) -> bool {
        let mut queue = lock(&self.0);
        if !queue.asked {
            queue.driver = Some(cx.waker().clone());
        }
        queue.asked
    }

    /// No further request: the call half-closes when the queue has left.
    pub(super) fn finish(&self) {
        let mut queue = lock(&self.0);
        queue.finished = true;
        wake(queue);
    }

    /// Takes back what the transport has not taken. Returns how many requests it has.
    pub(super) fn retract(&self) -> usize {
        let mut queue = lock(&self.0);
        queue.requests.clear();
        let taken = queue.taken;
        // There may be an end to see.
        wake(queue);
        taken
    }

    /// The call is over: what has not left stays here. Returns how many requests the transport
    /// took, and whether it has all and will see their end.
    pub(super) fn close(&self) -> (usize, bool) {
        let mut queue = lock(&self.0);
        let is_drained = queue.finished && queue.requests.is_empty();
        queue.closed = !is_drained;
        (queue.taken, is_drained)
    }

    /// Whether the transport has all requests, and knows that there is no other.
    pub(super) fn has_ended(&self) -> bool {
        lock(&self.0).ended
    }

    /// The transport's end, as a stream of requests.
    pub(super) fn requests(&self) -> Requests<R> {
        Requests(Arc::clone(&self.0))
    }

    /// Wraps the body made of [`requests`](Self::requests), to give one chunk at a time.
    pub(super) fn gate<B>(&self, body: B) -> OneChunk<B, R> {
        OneChunk {
            body,
            queue: Arc::clone(&self.0),
        }
    }
}

impl<R> Clone for Outgoing<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
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

impl<R> Stream for Requests<R> {
    type Item = R;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<R>> {
        let mut queue = lock(&self.0);
        if !queue.asked {
            queue.asked = true;
            if let Some(driver) = queue.driver.take() {
                drop(queue);
                driver.wake();
                queue = lock(&self.0);
            }
        }
        if !queue.chunk_is_out && !queue.closed {
            if let Some(request) = queue.requests.pop_front() {
                queue.taken += 1;
                return Poll::Ready(Some(request));
            }
            if queue.finished {
                queue.ended = true;
                return Poll::Ready(None);
            }
        }
        match &mut queue.transport {
            Some(transport) => transport.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// A request body that holds the next chunk back until the transport has let go of the last.
#[pin_project]
#[derive(Debug)]
pub(super) struct OneChunk<B, R> {
    #[pin]
    body: B,
    queue: Arc<Mutex<Queue<R>>>,
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
        let frame = ready!(this.body.poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            Ok(frame?.map_data(|bytes| {
                lock(this.queue).chunk_is_out = true;
                Bytes::from_owner(Chunk {
                    bytes,
                    _out: Out(Arc::clone(this.queue)),
                })
            }))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Encoded requests on their way out. The fields drop in order: the buffer is free again by the
/// time the transport is woken to fill it.
struct Chunk<R> {
    bytes: Bytes,
    _out: Out<R>,
}

impl<R> AsRef<[u8]> for Chunk<R> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Out<R>(Arc<Mutex<Queue<R>>>);

impl<R> Drop for Out<R> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.chunk_is_out = false;
        wake(queue);
    }
}
