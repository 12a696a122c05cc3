//! Streams that are polled without end.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt as _};
use tokio::time::Instant;

/// Fails if the stream is polled so often while no time passes.
pub(crate) struct NoSpin<S> {
    stream: S,
    most: u32,
    now: Instant,
    polls: u32,
}

impl<S> NoSpin<S> {
    pub(crate) fn new(stream: S, most: u32) -> Self {
        Self {
            stream,
            most,
            now: Instant::now(),
            polls: 0,
        }
    }
}

impl<S: Stream + Unpin> Stream for NoSpin<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let now = Instant::now();
        if now > self.now {
            (self.now, self.polls) = (now, 0);
        }
        self.polls += 1;
        assert!(self.polls < self.most, "it is polled without end");
        self.stream.poll_next_unpin(cx)
    }
}
