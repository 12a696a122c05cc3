//! The end of a connection that nobody uses any more: it may say goodbye, and then it is dropped.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How long a connection may go on that nobody uses any more: hyper sends what it has, says goodbye and closes. What is
/// written to a peer that reads nothing never leaves, and no ping finds that out, since there are none without calls.
const GOODBYE: Duration = Duration::from_secs(30);

/// Whoever has one of these uses the connection.
pub(super) type InUse = watch::Receiver<()>;

/// Spawns the tasks of hyper's connection. The handshake spawns one, which has the IO; what comes later are calls.
#[derive(Clone, Debug)]
pub(super) struct Spawner(Arc<Mutex<Option<oneshot::Sender<JoinHandle<()>>>>>);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let task = tokio::spawn(future);
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Where nobody waits for its end any more, the connection was given up.
        if let Some(Err(unused)) = first.map(|tell| tell.send(task)) {
            unused.abort();
        }
    }
}

/// The end of a connection, from before it begins.
pub(super) struct Goodbye {
    unused: watch::Sender<()>,
    spawned: oneshot::Receiver<JoinHandle<()>>,
}

impl Goodbye {
    pub(super) fn new() -> (Self, Spawner, InUse) {
        let (unused, in_use) = watch::channel(());
        let (tell, spawned) = oneshot::channel();
        let spawner = Spawner(Arc::new(Mutex::new(Some(tell))));
        (Self { unused, spawned }, spawner, in_use)
    }

    /// Runs what hands calls to the connection, and ends when the connection has ended.
    pub(super) async fn of(self, handing_over: impl Future) {
        let Self { unused, spawned } = self;
        // It may wait for the server to allow a call, and not see that nobody waits for that any more.
        select(pin!(handing_over), pin!(unused.closed())).await;
        let Ok(mut connection) = spawned.await else {
            return;
        };
        let goodbye = pin!(async {
            unused.closed().await;
            sleep(GOODBYE).await;
        });
        if let Either::Right(_) = select(&mut connection, goodbye).await {
            connection.abort();
        }
    }
}
