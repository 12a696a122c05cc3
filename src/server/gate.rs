//! What stands between a socket and HTTP/2: how much is read before what was read is worked off.
//!
//! h2 reads as long as there is something to read, and keeps what it makes of it: a stream for each
//! call, also where its reset is there already, and a reset for each frame of a call that has
//! ended. A client that is faster than the store would fill the memory with them. Its limits on
//! them only cut the connection, which also meets an honest client that has drawn back many calls.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::preface::Instead;

/// What is read before the calls in it are handed out, in bytes. What the reader has room for at
/// the last is read beyond it.
pub(super) const AT_ONCE: usize = 64 << 10;

/// The client's preface, and the settings frame that has to follow it.
const GREETING: usize = 24 + 9;

/// How far the reading may go. Used by one task only: the connection's.
#[derive(Default)]
pub(super) struct Pace {
    room: AtomicUsize,
    crowded: AtomicBool,
    /// The last write found the client not reading.
    blocked: AtomicBool,
    /// A read was put off.
    put_off: AtomicBool,
    greeting: AtomicUsize,
    instead: OnceLock<Instead>,
}

impl Pace {
    /// To be called before each poll of the connection. `crowded`: so many calls have yet to find
    /// out that they were reset, that no other is to be read.
    pub(super) fn begin(&self, crowded: bool) {
        self.crowded.store(crowded, Ordering::Relaxed);
        // What a client does not read piles up as well, so it is not read either.
        if !self.blocked.load(Ordering::Relaxed) {
            let room = if crowded { 0 } else { AT_ONCE };
            self.room.store(room, Ordering::Relaxed);
        }
    }

    /// Whether the client has said anything that HTTP/2 can begin with.
    pub(super) fn is_greeted(&self) -> bool {
        self.greeting.load(Ordering::Relaxed) >= GREETING
    }

    /// What the client speaks, if it has not begun with HTTP/2.
    pub(super) fn instead(&self) -> Option<Instead> {
        self.instead.get().copied()
    }
}

pub(super) struct Gate<T> {
    io: T,
    pace: Arc<Pace>,
}

impl<T> Gate<T> {
    pub(super) fn new(io: T, pace: Arc<Pace>) -> Self {
        Self { io, pace }
    }

    fn wrote<R>(&self, cx: &Context<'_>, written: Poll<R>) -> Poll<R> {
        let pace = &self.pace;
        pace.blocked.store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() && pace.put_off.swap(false, Ordering::Relaxed) {
            cx.waker().wake_by_ref();
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gate<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = self.pace.room.load(Ordering::Relaxed);
        if room == 0 {
            let pace = &self.pace;
            pace.put_off.store(true, Ordering::Relaxed);
            // Else the write that goes on, or the call that ends, wakes the task.
            if !pace.blocked.load(Ordering::Relaxed) && !pace.crowded.load(Ordering::Relaxed) {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        let pace = &self.pace;
        pace.room
            .store(room.saturating_sub(read), Ordering::Relaxed);
        let greeting = pace.greeting.load(Ordering::Relaxed);
        if greeting < GREETING {
            if let Some(instead) = Instead::of(greeting, &buf.filled()[before..]) {
                // The first is what it began with.
                let _ = pace.instead.set(instead);
            }
            pace.greeting
                .store(greeting.saturating_add(read), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gate<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A client that sends for ever, and reads if it is told to.
    struct Endless {
        reads: bool,
    }

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buf.initialize_unfilled().fill(0);
            buf.advance(buf.remaining());
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.reads {
                Poll::Ready(Ok(buf.len()))
            } else {
                Poll::Pending
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    const BUFFER: usize = 1024;

    /// Reads as long as there is something to read.
    fn read_on(gate: &mut Gate<Endless>) -> usize {
        let mut read = 0;
        let mut buffer = [0; BUFFER];
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *gate).poll_read(&mut cx, &mut buffer) {
                Poll::Ready(result) => result.expect("it has no errors"),
                Poll::Pending => return read,
            }
            read += buffer.filled().len();
        }
    }

    fn write(gate: &mut Gate<Endless>) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(gate).poll_write(&mut cx, b"pong").is_ready()
    }

    #[test]
    fn so_much_is_read_at_once_and_no_more() {
        let pace = Arc::new(Pace::default());
        let mut gate = Gate::new(Endless { reads: true }, Arc::clone(&pace));
        for _ in 0..3 {
            pace.begin(false);
            let read = read_on(&mut gate);
            assert!((AT_ONCE..AT_ONCE + BUFFER).contains(&read), "{read}");
        }
        pace.begin(true);
        assert_eq!(read_on(&mut gate), 0);
    }

    #[test]
    fn who_does_not_read_is_not_read() {
        let pace = Arc::new(Pace::default());
        let mut gate = Gate::new(Endless { reads: false }, Arc::clone(&pace));
        pace.begin(false);
        assert!(!write(&mut gate));
        assert!(read_on(&mut gate) >= AT_ONCE, "what is its room already");
        pace.begin(false);
        assert_eq!(read_on(&mut gate), 0);
        gate.io.reads = true;
        assert!(write(&mut gate));
        pace.begin(false);
        assert!(read_on(&mut gate) >= AT_ONCE);
    }
}
