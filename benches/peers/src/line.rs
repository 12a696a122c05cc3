//! A long line: a proxy that delays each direction, and keeps its throughput.
//!
//! What is read is queued with the time at which it is due, so any number of chunks is under way
//! at once. Plain threads, since they wake to a tenth of a millisecond, and tokio's timers to one.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// What is read at once, in bytes.
const CHUNK: usize = 64 << 10;

pub struct Line {
    pub url: String,
    up: Arc<AtomicU64>,
}

impl Line {
    /// A line to the server at `url`. It lasts as long as this process.
    pub fn to(url: &str, delay: Duration) -> anyhow::Result<Self> {
        let upstream = url.strip_prefix("http://").context("not a URL")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let up = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&up);
        thread::spawn(move || {
            for client in listener.incoming() {
                // A connection that cannot be made is one that breaks: the client sees it.
                let _ = client.and_then(|client| connect(client, &upstream, delay, &counted));
            }
        });
        Ok(Self { url, up })
    }

    /// The bytes that clients have sent so far.
    pub fn sent(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }
}

fn connect(
    client: TcpStream,
    upstream: &str,
    delay: Duration,
    up: &Arc<AtomicU64>,
) -> std::io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let down = Arc::new(AtomicU64::new(0));
    carry(
        client.try_clone()?,
        server.try_clone()?,
        delay,
        Arc::clone(up),
    );
    carry(server, client, delay, down);
    Ok(())
}

/// Carries one direction, until either end is gone.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration, count: Arc<AtomicU64>) {
    // Without a bound: HTTP/2's flow control is one.
    let (queue, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut chunk) {
            count.fetch_add(read as u64, Ordering::Relaxed);
            if queue
                .send((Instant::now() + delay, chunk[..read].to_vec()))
                .is_err()
            {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (at, chunk) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&chunk).is_err() {
                break;
            }
        }
        // The other side learns of the end; it may know already.
        let _ = to.shutdown(Shutdown::Both);
    });
}
