//! The stream that a client's sources return.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use super::adapter::RESULTS_IN_A_ROW;
use super::control::Control;
use crate::client::Client;
use crate::handle::Handle;
use crate::meter::Meter;
use crate::stats::{Counters, Stats};

/// A stream of what a server has to tell: [`Client::search`], [`Client::listen`], [`Client::follow`].
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
    /// `None`: it has ended.
    items: Option<Pin<Box<dyn Stream<Item = T> + Send>>>,
    in_a_row: u32,
}

impl<T> Source<T> {
    pub(crate) fn new<S>(
        name: &'static str,
        client: &Client,
        items: impl FnOnce(Arc<Control>, Meter) -> S,
    ) -> Self
    where
        S: Stream<Item = T> + Send + 'static,
    {
        let breakers = client.nodes().iter().map(|node| Arc::clone(&node.breaker));
        let control = Control::new(Counters::new(breakers.collect()));
        Self {
            name,
            items: Some({
                let meter = Meter::new(&control, name);
                Box::pin(items(Arc::clone(&control), meter))
            }),
            control,
            in_a_row: 0,
        }
    }

    /// What it has done so far: `succeeded` counts its items, and `calls`, `faults` and the bytes are those of its calls. What
    /// is about an input stays 0.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.control.counters.stats()
    }

    /// A hold on it from elsewhere. [`Handle::stop`] ends the stream, and so does [`Handle::drain`]: there is nothing to
    /// bring to an end.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::of(&self.control)
    }

    fn end(&mut self) {
        self.items = None;
        self.control.end();
    }
}

impl<T> Stream for Source<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.control.order().is_some() {
            self.end();
        }
        if self.in_a_row == RESULTS_IN_A_ROW {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(items) = &mut self.items else {
            return Poll::Ready(None);
        };
        match items.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => {
                self.in_a_row += 1;
                Poll::Ready(Some(item))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => {
                self.in_a_row = 0;
                if self.control.waits(cx) {
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
        self.items.is_none()
    }
}

impl<T> Drop for Source<T> {
    fn drop(&mut self) {
        self.end();
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
