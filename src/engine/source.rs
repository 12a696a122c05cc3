//! The stream that a client's sources return.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use super::adapter::RESULTS_IN_A_ROW;
use super::control::Control;
use super::log::Log;
use crate::breaker::Breaker;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::handle::Handle;
use crate::meter::Meter;
use crate::stats::{Counters, Stats};

/// A stream of what a server has to tell: [`Client::search`], [`Client::listen`], [`Client::follow`]. An error is its
/// last item.
///
/// - It does nothing until it is polled, and spawns no task. It is `Send`, `Unpin`, and borrows nothing.
/// - It is polled in a tokio runtime.
/// - Dropped, it resets its calls on the wire at once.
/// - After 128 items in a row without a wait, one poll yields to the task's scheduler.
/// - `next()` is cancel-safe: nothing is lost in a `select!`.
///
/// # Panics
///
/// When it is polled outside of a tokio runtime with its timers enabled.
#[must_use = "streams do nothing unless polled"]
pub struct Source<T> {
    name: &'static str,
    control: Arc<Control>,
    running: Option<Running<T>>,
    nodes: Vec<Arc<Breaker>>,
    has_begun: bool,
    in_a_row: u32,
    /// What it says when it is told to end, if its items are a whole that its end stands for.
    cut_short: Option<&'static str>,
}

/// What there is as long as it has not ended.
struct Running<T> {
    items: Items<T>,
    log: Log,
}

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>;

impl<T> Source<T> {
    pub(crate) fn new<S>(
        name: &'static str,
        client: &Client,
        items: impl FnOnce(Arc<Control>, Meter) -> S,
    ) -> Self
    where
        S: Stream<Item = Result<T, Error>> + Send + 'static,
    {
        let nodes = client.nodes().iter().map(|node| Arc::clone(&node.breaker));
        let nodes: Vec<_> = nodes.collect();
        let control = Control::new(Counters::new(nodes.clone()));
        let meter = Meter::new(&control, name);
        Self {
            name,
            running: Some(Running {
                items: Box::pin(items(Arc::clone(&control), meter)),
                log: Log::new(&control, name, false),
            }),
            control,
            nodes,
            has_begun: false,
            in_a_row: 0,
            cut_short: None,
        }
    }

    /// Has it end with an error of these words when it is told to end: who read it to its end would take what there was for
    /// all.
    pub(crate) fn whole_or(mut self, words: &'static str) -> Self {
        self.cut_short = Some(words);
        self
    }

    /// What it has done so far: `succeeded` counts its items, and `calls`, `faults` and the bytes are those of its
    /// calls. What is about an input stays 0.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.control.counters.stats()
    }

    /// A hold on it from elsewhere. [`Handle::stop`] ends the stream, and so does [`Handle::drain`]: there is nothing
    /// to bring to an end. The last item of a search is an error then, of kind
    /// [`Incomplete`](crate::ErrorKind::Incomplete): what it had was not all.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::of(&self.control)
    }

    fn end(&mut self, is_stopped: bool) {
        if let Some(mut running) = self.running.take() {
            // What it had, before the log is told what it has done.
            drop(running.items);
            running.log.end(is_stopped);
        }
    }
}

impl<T> Stream for Source<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.running.is_some() && this.control.order().is_some() {
            this.end(true);
            if let Some(words) = this.cut_short {
                let error = Error::new(ErrorKind::Incomplete, words);
                let counters = &this.control.counters;
                counters.failure(counters.succeeded.get(), &error);
                return Poll::Ready(Some(Err(error)));
            }
        }
        let Some(Running { items, log }) = &mut this.running else {
            return Poll::Ready(None);
        };
        if this.in_a_row == RESULTS_IN_A_ROW {
            this.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !std::mem::replace(&mut this.has_begun, true) {
            log.begin(this.nodes.iter().map(|node| &**node.node()));
        }
        match items.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => {
                this.in_a_row += 1;
                let counters = &this.control.counters;
                match &item {
                    Ok(_) => counters.succeeded.add(1),
                    Err(error) => counters.failure(counters.succeeded.get(), error),
                }
                Poll::Ready(Some(item))
            }
            Poll::Ready(None) => {
                this.end(false);
                Poll::Ready(None)
            }
            Poll::Pending => {
                this.in_a_row = 0;
                if this.control.waits(cx) {
                    // An order has come just now.
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

impl<T> FusedStream for Source<T> {
    fn is_terminated(&self) -> bool {
        self.running.is_none()
    }
}

impl<T> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
