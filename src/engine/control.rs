//! What an adapter is told from outside, and what it shows there.

use std::fmt;
use std::sync::{Arc, PoisonError, atomic::Ordering};
#[cfg(not(all(test, model)))]
use std::sync::{Mutex, atomic::AtomicBool};
use std::task::Context;
use std::time::Duration;

#[cfg(not(all(test, model)))]
use futures_util::task::AtomicWaker;
#[cfg(all(test, model))]
use loom::sync::{Mutex, atomic::AtomicBool};
use tokio::sync::watch;
use tokio::time::Instant;

#[cfg(all(test, model))]
use self::model::AtomicWaker;
use crate::later::later;
use crate::stats::Counters;

/// Between an adapter and its handles.
pub(crate) struct Control {
    pub(crate) counters: Counters,
    order: Mutex<Option<Order>>,
    /// Whether an order has been given that the generator has not seen.
    is_ordered: AtomicBool,
    /// Whether any has been given.
    is_cut_short: AtomicBool,
    /// Who polls the adapter.
    task: AtomicWaker,
    ended: watch::Sender<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Take no more input, and be done by then.
    Drain(Instant),
    /// End now.
    Stop,
}

impl Control {
    pub(super) fn new(counters: Counters) -> Arc<Self> {
        Arc::new(Self {
            counters,
            order: Mutex::new(None),
            is_ordered: AtomicBool::new(false),
            is_cut_short: AtomicBool::new(false),
            task: AtomicWaker::new(),
            ended: watch::Sender::new(false),
        })
    }

    /// Has the adapter take no more input, and be done in this time.
    pub(crate) fn drain(&self, within: Duration) {
        self.give(Order::Drain(later(Instant::now(), within)));
    }

    /// Ends the adapter.
    pub(crate) fn stop(&self) {
        self.give(Order::Stop);
    }

    /// Gives an order, which the adapter sees at its next poll. The task that waits for it is woken.
    fn give(&self, order: Order) {
        let mut given = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if *given != Some(Order::Stop) {
            *given = Some(order);
        }
        drop(given);
        self.is_cut_short.store(true, Ordering::Relaxed);
        self.is_ordered.store(true, Ordering::Release);
        self.task.wake();
    }

    /// The order that was given since the last time.
    pub(super) fn order(&self) -> Option<Order> {
        if !self.is_ordered.load(Ordering::Acquire) {
            return None;
        }
        let mut given = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_ordered.store(false, Ordering::Release);
        given.take()
    }

    /// The adapter waits. Returns whether an order has been given meanwhile, so that it does not.
    pub(super) fn waits(&self, cx: &Context<'_>) -> bool {
        self.task.register(cx.waker());
        self.is_ordered.load(Ordering::Acquire)
    }

    /// Whether the adapter may end before its input.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.is_cut_short.load(Ordering::Relaxed)
    }

    /// The adapter has ended, or was dropped.
    pub(super) fn end(&self) {
        // A handle may outlive the task.
        drop(self.task.take());
        self.ended.send_replace(true);
    }

    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until the adapter has ended, or was dropped.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // It cannot fail: the sender is here.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("stats", &self.counters.stats())
            .field("has_ended", &self.has_ended())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, model))]
mod model;
