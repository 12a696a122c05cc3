//! Puts records into the queue: a message for each line.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::dead::SOURCE;
use crate::queue::Queue;

/// How many messages are on their way at once.
const IN_FLIGHT: usize = 512;

/// How many bytes of NATS's largest message are left for what a worker notes on a dead letter.
const NOTES: usize = 4 << 10;

/// What became of the lines, from the first on.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) queued: AtomicU64,
    /// Those that were in the queue by an earlier try, or an earlier run within two minutes.
    pub(crate) were_there: AtomicU64,
    /// Lines that NATS does not take.
    pub(crate) too_long: AtomicU64,
}

/// A line, and where it is from.
struct Line {
    text: Bytes,
    file: String,
    number: u64,
}

/// What is read, and what it is called.
struct Input {
    reader: Box<dyn AsyncBufRead + Send + Unpin>,
    name: String,
}

/// Puts all lines of these files into the queue, `-` being standard input. An error names the first line that is not in the
/// queue; those before it are.
pub(crate) async fn publish(
    queue: &Queue,
    files: &[PathBuf],
    counts: &Counts,
) -> anyhow::Result<()> {
    // What is not there shows now: not after a minute, and not after half of the files.
    queue.records().await?;
    for path in files {
        look_at(path).await?;
    }
    let most = queue.context.client().max_payload().saturating_sub(NOTES);
    let inputs = stream::iter(files).then(open);
    let lines = inputs.map_ok(|input| read(input, most)).try_flatten();
    let sent = lines.map(async |line| {
        let line = line?;
        let place = format!("{}:{}", line.file, line.number);
        if line.text.len() > most {
            tracing::error!("{place} is too long for NATS, which takes {most} bytes here");
            return Ok(&counts.too_long);
        }
        let published = queue.send(queue.subject(), message(&line, &place)).await;
        match published.with_context(|| format!("{place} is not in the queue"))? {
            published if published.duplicate => Ok(&counts.were_there),
            _ => Ok(&counts.queued),
        }
    });
    sent.buffered(IN_FLIGHT)
        .try_for_each(async |count: &AtomicU64| {
            count.fetch_add(1, Ordering::Relaxed);
            anyhow::Ok(())
        })
        .await
}

fn message(line: &Line, place: &str) -> PublishMessage {
    // By where it is from and by content, so that other lines under the same number are other messages.
    let digest = Sha256::new().chain_update(place).chain_update([0]);
    let digest = Bytes::from_owner(digest.chain_update(&line.text).finalize());
    PublishMessage::build()
        .payload(line.text.clone())
        .message_id(format!("{digest:x}"))
        .header(SOURCE, place)
}

/// Fails for what is no file.
async fn look_at(path: &PathBuf) -> anyhow::Result<()> {
    let name = path.display().to_string();
    if name != "-" {
        let file = tokio::fs::metadata(path).await;
        if file.with_context(|| name.clone())?.is_dir() {
            bail!("{name} is a folder");
        }
    }
    Ok(())
}

async fn open(path: &PathBuf) -> anyhow::Result<Input> {
    let name = path.display().to_string();
    if name == "-" {
        let reader = Box::new(BufReader::new(tokio::io::stdin()));
        return Ok(Input { reader, name });
    }
    let file = File::open(path).await.with_context(|| name.clone())?;
    Ok(Input {
        reader: Box::new(BufReader::new(file)),
        // As headers may have it.
        name: name.replace(|c: char| c.is_control(), "?"),
    })
}

/// All lines but empty ones. Of one that is too long there is a byte more than it may have.
fn read(input: Input, most: usize) -> impl Stream<Item = anyhow::Result<Line>> {
    let lines = stream::try_unfold((input, 1, most), async |(mut input, number, most)| {
        let text = next_line(&mut input.reader, most).await;
        let text = text.with_context(|| format!("{}:{number}", input.name))?;
        let Some(text) = text else {
            return Ok(None);
        };
        let line = Line {
            text: text.into(),
            file: input.name.clone(),
            number,
        };
        Ok(Some((line, (input, number + 1, most))))
    });
    lines.try_filter(|line| std::future::ready(!line.text.is_empty()))
}

/// Without white space around it.
async fn next_line(
    reader: &mut (dyn AsyncBufRead + Send + Unpin),
    most: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    // The line's end may be two bytes.
    let limit = most as u64 + 3;
    if (&mut *reader)
        .take(limit)
        .read_until(b'\n', &mut text)
        .await?
        == 0
    {
        return Ok(None);
    }
    if text.len() as u64 == limit && !text.ends_with(b"\n") {
        // What there is more of it is not kept.
        loop {
            let more = reader.fill_buf().await?;
            let end = more.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(more.len(), |end| end + 1);
            let is_over = end.is_some() || used == 0;
            reader.consume(used);
            if is_over {
                break;
            }
        }
        text.truncate(most + 1);
        return Ok(Some(text));
    }
    Ok(Some(text.trim_ascii().to_vec()))
}
