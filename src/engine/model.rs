//! Runs what several threads do together in every order that there is, by loom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::model::Builder;

/// Runs `what` in every order, and prints how many there were.
#[track_caller]
pub(super) fn in_every_order(what: impl Fn() + Send + Sync + 'static) {
    run(&Builder::new(), what);
}

/// The same, of those orders in which threads are stopped in the middle so often at most: with three threads there are too many
/// others.
#[track_caller]
pub(super) fn stopped_at_most(times: usize, what: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(times);
    run(&builder, what);
}

fn run(builder: &Builder, what: impl Fn() + Send + Sync + 'static) {
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        what();
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}
