//! One gRPC call: requests go into its queue, answers and the end come out.

use std::any::TypeId;
use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use http::HeaderValue;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::{CancellationHandle, Request, Status, Streaming};
use tonic_prost::{ProstCodec, ProstDecoder};

use super::long_status::shortened;
use super::queue::{Joined, Outgoing, PIECE, Sent};
use super::request_body::Compressed;
use super::response_body;
use crate::client::{Compression, Link, Way};
use crate::engine::window::flight::{End, EndedBy};
use crate::record::Record;
use crate::stats::Traffic;
use crate::verdict;

type Response<A> = Pin<Box<dyn Future<Output = Result<Streaming<A>, Status>> + Send>>;

/// A call, from before it is open to its end. Dropped before its end, it resets the stream.
pub(crate) struct Call<R, A> {
    outgoing: Outgoing<R>,
    finished: bool,
    answers: usize,
    /// Whether the first answer came after the end of the requests.
    answered_whole: bool,
    stage: Stage<A>,
    cancel: Option<CancellationHandle>,
    way: Way,
}

// A call has one of these, so a large variant costs nothing.
#[allow(clippy::large_enum_variant)]
enum Stage<A> {
    /// Response headers have not come: a Go server sends them with its first answer, so requests
    /// leave in this stage too.
    Opening(Response<A>),
    Open(Streaming<A>),
    Ended,
}

pub(crate) enum Event<A> {
    Answer(A),
    Ended(End),
}

impl<R, A> Call<R, A>
where
    R: Message + 'static,
    A: Message + Default + 'static,
{
    /// Nothing goes out until the call is polled.
    pub(crate) fn open(
        link: Link,
        method: &'static str,
        max_answer_len: usize,
        joins: bool,
        traffic: Traffic,
    ) -> Self {
        let outgoing = Outgoing::new(traffic, joins);
        let mut request = Request::new(outgoing.requests());
        let cancel = request.cancellation_handle();
        let compression = link.compression;
        let way = Way::default();
        let service = OneCall {
            link,
            way: way.clone(),
            outgoing: outgoing.clone(),
            compression: compression.filter(|_| carries_records::<R, A>()),
        };
        let opening = async move {
            let mut grpc = Grpc::new(service).max_decoding_message_size(max_answer_len);
            if let Some(compression) = compression {
                grpc = grpc.accept_compressed(compression.encoding());
            }
            grpc.streaming(
                request,
                PathAndQuery::from_static(method),
                LargeChunks::default(),
            )
            .await
            .map(tonic::Response::into_inner)
        };
        Self {
            outgoing,
            finished: false,
            answers: 0,
            answered_whole: false,
            stage: Stage::Opening(Box::pin(opening)),
            cancel: Some(cancel),
            way,
        }
    }

    /// Queues all of `batch`, emptying it: what is queued together leaves together.
    pub(crate) fn send(&self, batch: &mut VecDeque<R>) {
        self.outgoing.append(batch);
    }

    /// Whether the transport has asked for requests. If not, the task is woken when it does.
    pub(crate) fn is_started(&self, cx: &Context<'_>) -> bool {
        self.outgoing.is_started(cx)
    }

    /// Half-closes once the queue has left.
    pub(crate) fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            self.outgoing.finish();
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes back what the transport has not taken. Returns how many requests it has.
    pub(crate) fn retract(&self) -> usize {
        self.outgoing.retract()
    }

    /// Lets the transport take no more. Returns how many requests it has taken.
    pub(crate) fn close(&self) -> usize {
        let (transmitted, _) = self.outgoing.close();
        transmitted
    }

    /// Which connection it goes by.
    pub(crate) fn way(&self) -> &Way {
        &self.way
    }

    /// How many bytes have gone out and come in.
    pub(crate) fn moved(&self) -> u64 {
        self.outgoing.moved().get()
    }

    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event<A>> {
        loop {
            let status = match &mut self.stage {
                Stage::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(streaming)) => {
                        self.stage = Stage::Open(streaming);
                        continue;
                    }
                    Poll::Ready(Err(status)) => Err(status),
                },
                Stage::Open(streaming) => match Pin::new(streaming).poll_next(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(answer))) => {
                        self.answers += 1;
                        if self.answers == 1 {
                            self.answered_whole = self.outgoing.has_ended();
                        }
                        return Poll::Ready(Event::Answer(answer));
                    }
                    Poll::Ready(Some(Err(status))) => Err(status),
                    Poll::Ready(None) => Ok(()),
                },
                Stage::Ended => return Poll::Pending,
            };
            let (mut transmitted, is_drained) = self.outgoing.close();
            self.stage = Stage::Ended;
            let status = status.err();
            if status.as_ref().is_some_and(verdict::is_refused_unseen) {
                transmitted = 0;
            }
            let status = status.map(|status| self.way.without_token(status));
            if status.is_none() && is_drained {
                // All is said: there is nothing to reset. The request body of any other call is
                // still there, and is cancelled.
                self.cancel = None;
            }
            return Poll::Ready(Event::Ended(End {
                status: status.map(|status| Arc::new(shortened(status))),
                transmitted,
                acknowledged: self.answers == 1 && self.answered_whole,
                by: EndedBy::Peer,
            }));
        }
    }
}

impl<R, A> Drop for Call<R, A> {
    fn drop(&mut self) {
        // Before the stage is dropped: what is left of the request body must not look like an end.
        if let Some(cancel) = self.cancel.take() {
            cancel.cancel();
        }
    }
}

/// How many bytes of requests leave together, at least, if so many are ready. One chunk is out at a
/// time, so each costs a turn of the transport's task, and tonic's own 32 KiB are a dozen records:
/// with four times as much a push takes an eighth less CPU, and with eight times nothing more.
pub(crate) const CHUNK: usize = PIECE;

/// prost's codec, with larger chunks than tonic's.
struct LargeChunks<R, A>(PhantomData<fn(R) -> A>);

impl<R, A> Default for LargeChunks<R, A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R, A> Codec for LargeChunks<R, A>
where
    R: Message + 'static,
    A: Message + Default + 'static,
{
    type Encode = Sent<R>;
    type Decode = A;
    type Encoder = Messages<R>;
    type Decoder = ProstDecoder<A>;

    fn encoder(&mut self) -> Messages<R> {
        Messages(PhantomData)
    }

    fn decoder(&mut self) -> ProstDecoder<A> {
        ProstCodec::<R, A>::default().decoder()
    }
}

/// Writes what leaves as one message.
struct Messages<R>(PhantomData<fn(R)>);

impl<R: Message> Encoder for Messages<R> {
    type Item = Sent<R>;
    type Error = Status;

    fn encode(&mut self, sent: Sent<R>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // A buffer that grows by and by moves all that is in it each time.
        buf.reserve(sent.chunk);
        let mut encode = |request: R| {
            let room = request.encode(buf);
            room.expect("a buffer that grows has room");
        };
        match sent.message {
            Joined::One(request) => encode(request),
            Joined::All(requests) => requests.into_iter().for_each(encode),
        }
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        // It is made for the first chunk.
        BufferSettings::new(0, CHUNK)
    }
}

/// Nothing else is long enough. Where the answers are records, no request is compressed, but a Go
/// server answers in the encoding that its requests are said to be in, and only then.
fn carries_records<R: 'static, A: 'static>() -> bool {
    [TypeId::of::<R>(), TypeId::of::<A>()].contains(&TypeId::of::<Record>())
}

/// The link as `Grpc` wants it, for one call: it puts the gate around the request body, and
/// compresses what is in it.
struct OneCall<R> {
    link: Link,
    way: Way,
    outgoing: Outgoing<R>,
    /// Of the requests.
    compression: Option<Compression>,
}

impl<R: Send + 'static> tonic::codegen::Service<http::Request<Body>> for OneCall<R> {
    type Response = http::Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future =
        Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send + 'static>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut request = request.map(|body| {
            let body = Compressed::new(body, self.compression);
            Body::new(self.outgoing.gate(body))
        });
        if let Some(compression) = self.compression {
            let name = HeaderValue::from_static(compression.name());
            request.headers_mut().insert("grpc-encoding", name);
        }
        let opening = self.link.open(request, &self.way);
        let moved = self.outgoing.moved().clone();
        Box::pin(async move { Ok(response_body::readable(opening.await?, moved)?) })
    }
}
