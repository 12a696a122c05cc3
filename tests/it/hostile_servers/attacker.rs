//! A server that speaks HTTP/2 in bytes of the test's own, and what it costs the client that calls it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use agntcy_dir_stream::Retry;
use agntcy_dir_stream::prelude::*;
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

use crate::support::clock::{runtime, soon};
use crate::support::frames::{
    ACK, END_HEADERS, HEAD, HEADERS, PREFACE, SETTINGS, frame, response_headers, settings,
};
use crate::support::records::cids;
use crate::support::results::whole_words;
use crate::support::sockets::listener;

/// How long an item of an attacked client may take.
pub(super) const PATIENCE: Duration = Duration::from_millis(400);

/// Options with which each item has its result within [`PATIENCE`].
pub(super) fn hasty() -> Options {
    Options::new().retry(Retry::new().timeout(PATIENCE))
}

/// What has come from the client, over all connections.
#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    calls: AtomicUsize,
    frames: AtomicUsize,
}

/// What an attack has cost.
#[derive(Debug)]
pub(super) struct Cost {
    /// The connections that the client has made.
    pub(super) connections: usize,
    /// The calls that it has opened.
    pub(super) calls: usize,
    /// The frames that it has sent.
    pub(super) frames: usize,
    /// The most that it had allocated at once, in bytes.
    pub(super) bytes: u64,
}

/// Runs a job of a client whose server does this on each connection. The server has a thread of its own, so what
/// is allocated in this one is the client's.
pub(super) fn attacked<T>(
    attack: impl AsyncFn(Wire) -> io::Result<()> + Send + 'static,
    job: impl AsyncFnOnce(Client) -> T,
) -> (Cost, T) {
    let counts = Arc::<Counts>::default();
    let (tell, url) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let seen = Arc::clone(&counts);
    let server = thread::spawn(move || {
        let attack = Rc::new(attack);
        let serving = async {
            let (listener, url) = listener().await;
            tell.send(url).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                seen.connections.fetch_add(1, Ordering::Relaxed);
                let wire = Wire::new(socket, &seen);
                let attack = Rc::clone(&attack);
                // An error is a client that has had enough.
                spawn_local(async move { attack(wire).await });
            }
        };
        runtime().block_on(LocalSet::new().run_until(async {
            tokio::select! {
                () = serving => {}
                _ = stopped => {}
            }
        }));
    });
    let url = url.blocking_recv().unwrap();
    let mut output = None;
    let used = allocation_counter::measure(|| {
        output = Some(runtime().block_on(async {
            let client = Client::connect_lazy(&url).unwrap();
            soon(job(client)).await
        }));
    });
    drop(stop);
    server.join().unwrap();
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let cost = Cost {
        connections: count(&counts.connections),
        calls: count(&counts.calls),
        frames: count(&counts.frames),
        bytes: used.bytes_max,
    };
    (cost, output.unwrap())
}

/// The order of what an attack may make a client hold, in bytes.
const MEMORY: u64 = 46 << 20;

/// How often a client may try within [`PATIENCE`], whose first wait is 100 ms, and then each is longer. An attempt
/// may make two connections: where the first has closed just when it was to be used.
const TRIES: usize = 8;

/// A pull of five records from a server that does this on each connection: its cost, and the words of the failures.
/// Each of the five fails, within bounds.
#[track_caller]
pub(super) fn fails(
    what: &str,
    attack: impl AsyncFn(Wire) -> io::Result<()> + Send + 'static,
) -> (Cost, Vec<String>) {
    let (cost, failures) = attacked(attack, async |client| {
        let results = cids(5).pull_from_with(&client, &hasty());
        // What is left of the calls is dropped: they may be open still.
        let results = results.take(5);
        let words = |result: PullResult<Cid>| whole_words(result.expect_err("nothing was sent"));
        results.map(words).collect::<Vec<_>>().await
    });
    assert_eq!(failures.len(), 5, "{what}: {failures:?}");
    assert!(cost.connections <= 2 * TRIES, "{what}: {cost:?}");
    assert!(cost.calls <= TRIES, "{what}: {cost:?}");
    assert!(cost.bytes <= MEMORY, "{what}: {cost:?}");
    (cost, failures)
}

/// The same, where all fail with these words among theirs.
#[track_caller]
pub(super) fn fails_with(
    words: &str,
    what: &str,
    attack: impl AsyncFn(Wire) -> io::Result<()> + Send + 'static,
) -> Cost {
    let (cost, failures) = fails(what, attack);
    for failure in failures {
        assert!(failure.contains(words), "{what}: {failure}");
    }
    cost
}

/// Runs cases that mostly wait, each in a thread of its own.
pub(super) fn side_by_side<C: Send>(
    cases: impl IntoIterator<Item = C>,
    run: impl Fn(C) + Copy + Send + Sync,
) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || run(case));
        }
    });
}

/// A connection, as the server has it. What the client sends is read and counted.
pub(super) struct Wire {
    socket: OwnedWriteHalf,
    calls: mpsc::UnboundedReceiver<u32>,
    reader: tokio::task::JoinHandle<io::Result<()>>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Wire {
    fn new(socket: TcpStream, counts: &Arc<Counts>) -> Self {
        let (reads, writes) = socket.into_split();
        let (tell, calls) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(reads, Arc::clone(counts), tell));
        Self {
            socket: writes,
            calls,
            reader,
        }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.write_all(bytes.as_ref()).await
    }

    /// Says that it has no settings, and accepts the client's.
    pub(super) async fn greet(&mut self) -> io::Result<()> {
        self.greet_with(&[]).await
    }

    /// Says what settings it has, and accepts the client's: without that, the client's windows are small.
    pub(super) async fn greet_with(&mut self, these: &[(u16, u32)]) -> io::Result<()> {
        self.send([settings(these), frame(SETTINGS, ACK, 0, &[])].concat())
            .await
    }

    /// Waits for the next call, and returns its stream.
    pub(super) async fn call(&mut self) -> io::Result<u32> {
        self.calls
            .recv()
            .await
            .ok_or(io::ErrorKind::BrokenPipe.into())
    }

    /// Waits for the first call of a client that it has greeted.
    pub(super) async fn greeted_call(&mut self) -> io::Result<u32> {
        self.greet().await?;
        self.call().await
    }

    /// Begins the response to a call.
    pub(super) async fn respond(&mut self, stream: u32) -> io::Result<()> {
        self.send(frame(HEADERS, END_HEADERS, stream, &response_headers()))
            .await
    }

    /// Waits for the first call and begins the response to it.
    pub(super) async fn answered_call(&mut self) -> io::Result<u32> {
        let stream = self.greeted_call().await?;
        self.respond(stream).await?;
        Ok(stream)
    }

    /// Sends this over and over, until the client has had enough.
    pub(super) async fn flood(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let bytes = bytes.as_ref();
        let block = bytes.repeat((64 << 10) / bytes.len() + 1);
        loop {
            self.send(&block).await?;
        }
    }

    /// Reads no more of what the client sends.
    pub(super) fn stop_reading(&self) {
        self.reader.abort();
    }

    /// Breaks the connection.
    pub(super) fn reset(&self) -> io::Result<()> {
        let socket: &TcpStream = self.socket.as_ref();
        socket.set_zero_linger()
    }

    /// Says nothing more, but keeps the connection.
    pub(super) async fn hold(&mut self) -> io::Result<()> {
        while self.call().await.is_ok() {}
        Ok(())
    }
}

/// Reads to the end, counts the frames, and tells of the calls.
async fn read(
    socket: OwnedReadHalf,
    counts: Arc<Counts>,
    tell: mpsc::UnboundedSender<u32>,
) -> io::Result<()> {
    let mut socket = tokio::io::BufReader::new(socket);
    let mut skipped = Vec::new();
    let mut skip = PREFACE.len();
    loop {
        skipped.resize(skip, 0);
        socket.read_exact(&mut skipped).await?;
        let mut head = [0; HEAD];
        socket.read_exact(&mut head).await?;
        counts.frames.fetch_add(1, Ordering::Relaxed);
        let [_, _, _, kind, _, stream @ ..] = head;
        if kind == HEADERS {
            counts.calls.fetch_add(1, Ordering::Relaxed);
            let _ = tell.send(u32::from_be_bytes(stream));
        }
        let [long, middle, short, ..] = head;
        skip = u32::from_be_bytes([0, long, middle, short]) as usize;
    }
}
