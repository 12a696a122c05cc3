//! Connections that nobody uses any more: they end, whatever the other side does, and no call is cut for that.

use std::future::ready;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{ClientBuilder, Retry};
use futures::{StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::time::sleep;

use crate::support::clock::{SECOND, in_a_week};
use crate::support::records::{cids, records, sized};

/// How long a connection may last that nobody uses, if it was made.
const GOODBYE: u32 = 30;

/// How long a connection may take to be made.
const MAKING: u32 = 20;

/// More bytes than a client sends before its first record.
const BEGINNING: usize = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hangs {
    Write,
    Flush,
    Shutdown,
}

/// Pipes to a store, in which something hangs.
#[derive(Clone, Default)]
struct Pipes {
    store: Store,
    /// What hangs in a pipe that has carried so many bytes.
    hangs: Option<(Hangs, usize)>,
    made: Arc<Mutex<Vec<Weak<()>>>>,
}

struct Pipe {
    pipe: DuplexStream,
    hangs: Option<(Hangs, usize)>,
    carried: usize,
    _alive: Arc<()>,
}

impl Pipes {
    fn client(&self) -> Client {
        let this = self.clone();
        let connect = move |_| {
            let (near, far) = duplex(1 << 16);
            tokio::spawn(this.store.serve(far));
            let alive = Arc::new(());
            this.made.lock().unwrap().push(Arc::downgrade(&alive));
            ready(Ok(Pipe {
                pipe: near,
                hangs: this.hangs,
                carried: 0,
                _alive: alive,
            }))
        };
        let builder: ClientBuilder = Client::builder("http://dir.example.org:8888");
        builder.connector(connect).connect_lazy().unwrap()
    }

    fn that_hang(what: Hangs, after: usize) -> Self {
        Self {
            hangs: Some((what, after)),
            ..Self::default()
        }
    }

    fn made(&self) -> usize {
        self.made.lock().unwrap().len()
    }

    fn alive(&self) -> usize {
        let made = self.made.lock().unwrap();
        made.iter().filter(|pipe| pipe.strong_count() > 0).count()
    }
}

impl Pipe {
    fn unless_hangs<T>(
        &mut self,
        what: Hangs,
        then: impl FnOnce(Pin<&mut DuplexStream>) -> Poll<T>,
    ) -> Poll<T> {
        match self.hangs {
            Some((hangs, after)) if hangs == what && self.carried >= after => Poll::Pending,
            _ => then(Pin::new(&mut self.pipe)),
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.unless_hangs(Hangs::Write, |pipe| pipe.poll_write(cx, bytes));
        if let Poll::Ready(Ok(written)) = written {
            self.carried += written;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_hangs(Hangs::Flush, |pipe| pipe.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_hangs(Hangs::Shutdown, |pipe| pipe.poll_shutdown(cx))
    }
}

/// A push that ends, whatever becomes of its records, which are longer than what comes before them on a connection.
async fn push_some(client: &Client) {
    let options = Options::new()
        .stall_after(Some(SECOND))
        .retry(Retry::new().timeout(10 * SECOND));
    let long = stream::repeat_with(|| sized(BEGINNING)).take(5);
    let _ = in_a_week(long.push_to_with(client, &options).finish()).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_hangs_ends_when_nobody_uses_it() {
    for what in [Hangs::Write, Hangs::Flush, Hangs::Shutdown] {
        for after in [0, BEGINNING] {
            let pipes = Pipes::that_hang(what, after);
            let client = pipes.client();
            push_some(&client).await;
            assert!(pipes.alive() > 0, "{what:?}: it is in use still");
            drop(client);
            sleep((MAKING + GOODBYE) * SECOND + SECOND).await;
            let (alive, made) = (pipes.alive(), pipes.made());
            assert_eq!(
                alive, 0,
                "of {made} that hang at {what:?} after {after} bytes"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_were_left_do_not_pile_up() {
    for after in [0, BEGINNING] {
        let pipes = Pipes::that_hang(Hangs::Write, after);
        let client = pipes.client();
        for _ in 0..20 {
            push_some(&client).await;
        }
        assert!(pipes.made() > 20, "{}", pipes.made());
        sleep((MAKING + GOODBYE) * SECOND + SECOND).await;
        let (alive, made) = (pipes.alive(), pipes.made());
        // The client may have the last one still.
        assert!(alive <= 1, "{alive} of {made}, after {after} bytes");
    }
}

/// One adapter leaves the connection, since its call hangs, and the call of another goes on by it.
#[tokio::test(start_paused = true)]
async fn a_connection_that_was_left_goes_on_with_the_calls_on_it() {
    let pipes = Pipes::default();
    let client = pipes.client();
    let late = Fault::delay(600 * SECOND);
    pipes.store.inject(late.on(Method::Push));
    let options = Options::new().stall_after(None);
    let options = options.retry(Retry::new().timeout(900 * SECOND));
    let pushing = records(1).push_to_with(&client, &options).finish();
    let leaving = async {
        sleep(90 * SECOND).await;
        let stall = Fault::stall().on(Method::Pull);
        pipes.store.inject(stall.in_call(0));
        let options = Options::new().stall_after(Some(SECOND));
        let _ = cids(1).pull_from_with(&client, &options).finish().await;
        pipes.made()
    };
    let (pushed, made) = in_a_week(futures::future::join(pushing, leaving)).await;
    assert_eq!(made, 2, "the stalled call was made again by another");
    assert_eq!(pushed.stats.succeeded, 1, "{pushed}");
    assert_eq!(pushed.stats.faults, 0, "{pushed}");
}
