//! Orders from other threads, in every order in which they can come, by loom.
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::task::{Poll, Waker};

use loom::future::{self, block_on};
use loom::thread;

use super::*;
use crate::engine::model::{in_every_order, stopped_at_most};

/// Loom's, with the names of that of futures: it has to know what happens before what.
#[derive(Debug)]
pub(super) struct AtomicWaker(future::AtomicWaker);

impl AtomicWaker {
    pub(super) fn new() -> Self {
        Self(future::AtomicWaker::new())
    }

    pub(super) fn register(&self, waker: &Waker) {
        self.0.register_by_ref(waker);
    }

    pub(super) fn wake(&self) {
        self.0.wake();
    }

    pub(super) fn take(&self) -> Option<Waker> {
        self.0.take_waker()
    }
}

/// Waits for an order as an adapter does.
fn wait(control: &Control) -> Order {
    block_on(poll_fn(|cx| {
        loop {
            if let Some(order) = control.order() {
                return Poll::Ready(order);
            }
            if !control.waits(cx) {
                return Poll::Pending;
            }
        }
    }))
}

#[test]
fn an_order_wakes_the_adapter_that_waits() {
    in_every_order(|| {
        let control = Control::new(Counters::new(Vec::new()));
        let handle = Arc::clone(&control);
        let thread = thread::spawn(move || handle.stop());
        assert_eq!(wait(&control), Order::Stop);
        thread.join().unwrap();
        assert!(control.is_cut_short());
        assert_eq!(control.order(), None);
    });
}

#[test]
fn a_stop_is_seen_though_a_drain_is_ordered_beside_it() {
    stopped_at_most(2, || {
        let control = Control::new(Counters::new(Vec::new()));
        let [one, two] = [(); 2].map(|()| Arc::clone(&control));
        let drains = thread::spawn(move || one.drain(Duration::from_secs(1)));
        let stops = thread::spawn(move || two.stop());
        while wait(&control) != Order::Stop {}
        drains.join().unwrap();
        stops.join().unwrap();
    });
}
