//! The store on a TCP port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::connection;
use super::inner::Inner;

/// How long to wait when no connection can be accepted, as with no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A store that is being served: [`Store::listen`](super::Store::listen). Dropped, it closes the port and breaks all
/// connections.
#[derive(Debug)]
#[must_use = "dropping it ends the serving"]
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    acceptor: JoinHandle<()>,
}

impl Serving {
    /// The address that it listens on, with the port that was found.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for [`Client::connect`](crate::Client::connect).
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes the port, and waits for the calls that run to end. Those that listen to events, which have no end, end
    /// with `Unavailable`, once they have told what has happened.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it breaks what still runs, so it can stand in a timeout.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // An error here is a panic of the acceptor, which has been printed.
        let _ = (&mut self.acceptor).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

pub(super) async fn listen(store: &Arc<Inner>, address: impl ToSocketAddrs) -> io::Result<Serving> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let acceptor = tokio::spawn(accept(Arc::clone(store), listener, stopped));
    Ok(Serving {
        address,
        stop,
        acceptor,
    })
}

async fn accept(store: Arc<Inner>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    // Dropped with this task, it ends those of the connections.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // More of them wait in the system's queue.
            accepted = listener.accept(), if connections.len() < store.max_connections => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok((socket, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Answers are small, and a client may wait for each.
        if socket.set_nodelay(true).is_ok() {
            let store = Arc::clone(&store);
            let idle = Some(store.idle_timeout);
            connections.spawn(connection::serve(
                store,
                socket,
                Some(peer),
                stop.clone(),
                idle,
            ));
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}
