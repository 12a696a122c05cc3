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

use super::call::End;
use super::live::Live;
use super::messages::Messages;

/// How long the rest of a message may keep the store waiting without a byte of it.
const REST_OF_MESSAGE: Duration = Duration::from_secs(60);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The requests of a call as they come in. It notes how they end, which the layers above do not
/// tell apart: a reset reaches a tonic handler as a mere end.
#[pin_project]
pub(super) struct RequestBody {
    #[pin]
    body: Incoming,
    live: Arc<Live>,
    messages: Messages,
    rest: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, live: &Arc<Live>) -> Self {
        Self {
            body,
            live: Arc::clone(live),
            messages: Messages::new(live),
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
        loop {
            if let Some(whole) = this.messages.next() {
                return Poll::Ready(Some(Ok(Frame::data(whole))));
            }
            let Poll::Ready(frame) = this.body.as_mut().poll_frame(cx) else {
                if !this.messages.is_half() {
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
                this.live.refused(&status);
                return Poll::Ready(Some(Err(status.into())));
            };
            *this.is_waiting = false;
            if let Some(call) = this.live.logged() {
                match &frame {
                    Some(Err(_)) => call.reset(),
                    None => call.half_close(),
                    Some(Ok(_)) if this.body.is_end_stream() => call.half_close(),
                    Some(Ok(_)) => {}
                }
            }
            let Some(frame) = frame else {
                // In tonic's words, which does not see that something is missing.
                let cut_off = || Status::internal("Unexpected EOF decoding stream.").into();
                return Poll::Ready(this.messages.is_half().then(|| Err(cut_off())));
            };
            match frame?.into_data() {
                Ok(data) => {
                    let added = this.messages.add(data);
                    added.inspect_err(|status| this.live.refused(status))?;
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_empty() && self.body.is_end_stream()
    }
}

/// The answers of a call as they leave. A chunk is held until the client has taken all of it, and
/// the one behind it waits: a client that takes nothing holds two.
#[pin_project]
pub(super) struct AnswerBody {
    #[pin]
    body: tonic::body::Body,
    live: Arc<Live>,
    is_over: bool,
}

impl AnswerBody {
    pub(super) fn new(body: tonic::body::Body, live: Arc<Live>) -> Self {
        Self {
            body,
            live,
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
        let data = match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => data,
            Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
            Some(Err(status)) => return Poll::Ready(Some(Err(status))),
            None => return Poll::Ready(None),
        };
        Poll::Ready(Some(match this.live.answer(data) {
            Ok(data) => Ok(Frame::data(data)),
            Err(status) => {
                *this.is_over = true;
                this.live.refused(&status);
                if let Some(call) = this.live.logged() {
                    call.end(End::Status(status.code()));
                }
                let mut trailers = HeaderMap::new();
                let added = status.add_header(&mut trailers);
                added.map(|()| Frame::trailers(trailers))
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
