//! What a call can do to its connection, the connection's count of its calls, and what is told of it.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::misuse::Misuse;
use super::sparing::Sparing;

/// What a call can do to its connection.
#[derive(Default)]
pub(super) struct Control {
    cut: Notify,
    go_away: Notify,
    stop: Notify,
    is_stopped: AtomicBool,
    calls: AtomicUsize,
    /// A call was opened or has ended.
    changed: Notify,
    pub(super) misuse: Misuse,
}

impl Control {
    /// Of a connection that comes from there, if that is an address, of a store that says this.
    pub(super) fn of(peer: Option<SocketAddr>, warnings: &Arc<Sparing>) -> Self {
        Self {
            misuse: Misuse::of(peer, warnings),
            ..Self::default()
        }
    }

    /// Breaks it, once what was handed to it before has been written.
    pub(super) fn cut(&self) {
        self.cut.notify_one();
    }

    /// Takes no further call.
    pub(super) fn go_away(&self) {
        self.go_away.notify_one();
    }

    /// Its calls are to come to an end.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.stop.notify_waiters();
    }

    /// Waits until it is to come to an end.
    pub(super) async fn stopped(&self) {
        let mut stop = pin!(self.stop.notified());
        stop.as_mut().enable();
        if !self.is_stopped.load(Ordering::Acquire) {
            stop.await;
        }
    }

    /// Waits until a call cuts it.
    pub(super) async fn was_cut(&self) {
        self.cut.notified().await;
    }

    /// Waits until a call has it go away.
    pub(super) async fn was_told_to_go(&self) {
        self.go_away.notified().await;
    }

    pub(super) fn opened(&self) {
        self.calls.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    pub(super) fn ended(&self) {
        self.calls.fetch_sub(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    /// Waits until there was no call for so long, or for ever. Each change wakes its task.
    pub(super) async fn idle(&self, limit: Option<Duration>) {
        loop {
            let changed = self.changed.notified();
            match limit {
                Some(limit) if self.calls() == 0 => {
                    if timeout(limit, changed).await.is_err() {
                        return;
                    }
                }
                _ => changed.await,
            }
        }
    }
}
