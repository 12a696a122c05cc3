//! A long line between two pipes: bytes arrive later than they were sent.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::later::later;

/// What is read at once, in bytes.
const CHUNK: usize = 16 << 10;

/// The other end of a line to `near`, whose pipes hold so many bytes. It ends with either end.
pub(super) fn lengthen(near: DuplexStream, pipe: usize, round_trip: Duration) -> DuplexStream {
    let (far, ours) = tokio::io::duplex(pipe);
    let (near_read, near_write) = split(near);
    let (far_read, far_write) = split(ours);
    let one_way = round_trip / 2;
    tokio::spawn(carry(near_read, far_write, one_way));
    tokio::spawn(carry(far_read, near_write, one_way));
    far
}

/// Any number of chunks is under way at once, so the line takes nothing of the throughput.
async fn carry(from: ReadHalf<DuplexStream>, to: WriteHalf<DuplexStream>, delay: Duration) {
    let (sender, receiver) = mpsc::unbounded_channel();
    // When one end is gone, the other finds that out by its own half.
    let _ = tokio::join!(read(from, sender, delay), write(receiver, to));
}

async fn read(
    mut from: ReadHalf<DuplexStream>,
    sender: mpsc::UnboundedSender<(Instant, Bytes)>,
    delay: Duration,
) -> io::Result<()> {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let is_over = from.read_buf(&mut chunk).await? == 0;
        let due = later(Instant::now(), delay);
        if sender.send((due, chunk.freeze())).is_err() || is_over {
            return Ok(());
        }
    }
}

async fn write(
    mut receiver: mpsc::UnboundedReceiver<(Instant, Bytes)>,
    mut to: WriteHalf<DuplexStream>,
) -> io::Result<()> {
    while let Some((due, chunk)) = receiver.recv().await {
        sleep_until(due).await;
        if chunk.is_empty() {
            break;
        }
        to.write_all(&chunk).await?;
    }
    to.shutdown().await
}
