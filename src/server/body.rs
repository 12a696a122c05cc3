//! The requests and answers of a call as HTTP/2 carries them: what they take of the store's memory,
//! and how the requests end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use super::budget::{Budget, Share};
use super::call::{End, Running};
use super::connection::Control;

/// What a call takes by itself, in bytes: its task, its stream, and the buffers that tonic gives it.
const CALL: usize = 16 << 10;

/// How long the rest of a message may keep the store waiting without a byte of it.
const REST_OF_MESSAGE: Duration = Duration::from_secs(60);

/// A call that runs: one of its connection's, with its share of the store's memory.
pub(super) struct Live {
    connection: Arc<Control>,
    /// The most that a message of it took: the buffer stays as large until the call ends.
    requests: Share,
    answers: Share,
}

impl Live {
    pub(super) fn new(connection: &Arc<Control>, budget: &Arc<Budget>) -> Self {
        connection.opened();
        Self {
            connection: Arc::clone(connection),
            requests: Share::of(budget),
            answers: Share::of(budget),
        }
    }

    /// Whether there is room for the call as such.
    pub(super) fn admit(&self) -> Result<(), Status> {
        self.requests.set(CALL)
    }

    /// A message of this length is held, or was unpacked.
    pub(super) fn message(&self, len: usize) -> Result<(), Status> {
        if len > CALL {
            return self.requests.raise(CALL + len);
        }
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.connection.ended();
    }
}

/// Where in its messages a call stands: each is five bytes, the last four its length, and the rest.
#[derive(Default)]
struct Framing {
    /// How much of the five bytes is there.
    head: u8,
    len: u32,
    /// What is there of the message behind them, and what is missing.
    held: usize,
    missing: usize,
}

impl Framing {
    fn read(&mut self, mut data: &[u8]) {
        while let [first, behind @ ..] = data {
            if self.missing > 0 {
                let part = self.missing.min(data.len());
                self.missing -= part;
                self.held += part;
                data = &data[part..];
                continue;
            }
            if self.head > 0 {
                self.len = self.len << 8 | u32::from(*first);
            }
            self.head += 1;
            if self.head == 5 {
                self.missing = self.len as usize;
                self.held = 0;
                self.head = 0;
                self.len = 0;
            }
            data = behind;
        }
    }

    fn is_half(&self) -> bool {
        self.missing > 0 || self.head > 0
    }

    /// The bytes of a message that has yet to come to its end.
    fn held(&self) -> usize {
        if self.missing > 0 { self.held } else { 0 }
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The requests of a call as they come in. It notes how they end, which the layers above do not
/// tell apart: a reset reaches a tonic handler as a mere end.
#[pin_project]
pub(super) struct RequestBody {
    #[pin]
    body: Incoming,
    call: Option<Arc<Running>>,
    live: Arc<Live>,
    framing: Framing,
    rest: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, call: Option<Arc<Running>>, live: Arc<Live>) -> Self {
        Self {
            body,
            call,
            live,
            framing: Framing::default(),
            rest: None,
            is_waiting: false,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut this = self.project();
        let Poll::Ready(frame) = this.body.as_mut().poll_frame(cx) else {
            if !this.framing.is_half() {
                return Poll::Pending;
            }
            let rest = this
                .rest
                .get_or_insert_with(|| Box::pin(sleep(REST_OF_MESSAGE)));
            if !*this.is_waiting {
                *this.is_waiting = true;
                rest.as_mut().reset(Instant::now() + REST_OF_MESSAGE);
            }
            ready!(rest.as_mut().poll(cx));
            let status = Status::deadline_exceeded("the rest of a message did not come");
            return Poll::Ready(Some(Err(status.into())));
        };
        *this.is_waiting = false;
        if let Some(call) = this.call {
            match &frame {
                Some(Err(_)) => call.reset(),
                None => call.half_close(),
                Some(Ok(_)) if this.body.is_end_stream() => call.half_close(),
                Some(Ok(_)) => {}
            }
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.framing.read(data);
            if let Err(status) = this.live.message(this.framing.held()) {
                return Poll::Ready(Some(Err(status.into())));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answers of a call as they leave. A chunk is held until the client has taken most of it, and
/// the one behind it waits: a client that takes nothing holds two.
#[pin_project]
pub(super) struct AnswerBody {
    #[pin]
    body: tonic::body::Body,
    call: Option<Arc<Running>>,
    live: Arc<Live>,
    last: usize,
    is_over: bool,
}

impl AnswerBody {
    pub(super) fn new(
        body: tonic::body::Body,
        call: Option<Arc<Running>>,
        live: Arc<Live>,
    ) -> Self {
        Self {
            body,
            call,
            live,
            last: 0,
            is_over: false,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(this.body.poll_frame(cx));
        let Some(len) = frame
            .as_ref()
            .and_then(|frame| Some(frame.as_ref().ok()?.data_ref()?.len()))
        else {
            return Poll::Ready(frame);
        };
        if let Err(status) = this.live.answers.set(*this.last + len) {
            *this.is_over = true;
            if let Some(call) = this.call {
                call.end(End::Status(status.code()));
            }
            let mut trailers = HeaderMap::new();
            let added = status.add_header(&mut trailers);
            return Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))));
        }
        *this.last = len;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
