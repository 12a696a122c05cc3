//! Ctrl-C, and what else tells the process to end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Whether somebody acts on signals.
static ARE_HEARD: AtomicBool = AtomicBool::new(false);

/// None is lost between two that are waited for.
#[cfg(unix)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Signals {
    /// Of who acts on them.
    pub(crate) fn new() -> io::Result<Self> {
        let signals = Self::listen()?;
        ARE_HEARD.store(true, Ordering::Relaxed);
        Ok(signals)
    }

    /// Forgets those that have come.
    pub(crate) fn forget(&mut self) {
        while self.next().now_or_never().is_some() {}
    }
}

/// Until one comes on which nobody acts.
pub(crate) async fn unheard() {
    let Ok(mut signals) = Signals::listen() else {
        return std::future::pending().await;
    };
    loop {
        signals.next().await;
        if !ARE_HEARD.load(Ordering::Relaxed) {
            return;
        }
    }
}
