//! Puts records into the queue: a message for each line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use backon::{ConstantBuilder, Retryable as _};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

use crate::dead::SOURCE;
use crate::queue::Queue;

/// How many messages are on their way at once.
const IN_FLIGHT: usize = 512;

/// How long a line is tried while NATS is away. NATS remembers the names of messages for two minutes, so that a line whose
/// confirmation was lost is not in the queue twice.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// How many bytes of NATS's largest message are left for what a worker notes on a dead letter.
const NOTES: usize = 4 << 10;

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) queued: u64,
    /// Those that were in the queue by an earlier try, or an earlier run within two minutes.
    pub(crate) were_there: u64,
    /// Lines that NATS does not take.
    pub(crate) too_long: u64,
}

/// A line, and where it is from.
struct Line {
    text: Bytes,
    file: String,
    number: u64,
}

/// Puts all lines of these files into the queue, or of standard input if there are none. An error names the first line that
/// is not in the queue.
pub(crate) async fn publish(queue: &Queue, files: &[PathBuf]) -> anyhow::Result<Counts> {
    // What is not there shows now, and not after a minute.
    queue.records().await?;
    let most = queue.context.client().max_payload().saturating_sub(NOTES);
    let mut counts = Counts::default();
    let lines = stream::iter(files.to_vec()).map(Ok).and_then(open);
    let lines = lines.try_flatten();
    let standard_input = read(BufReader::new(tokio::io::stdin()), "-".to_owned());
    let lines = match files.is_empty() {
        true => standard_input.left_stream(),
        false => lines.right_stream(),
    };
    let sent = lines.map(async |line| {
        let line = line?;
        if line.text.len() > most {
            tracing::error!(
                "{}:{}: {} bytes are too long for NATS, which takes {most} here",
                line.file,
                line.number,
                line.text.len()
            );
            return Ok(None);
        }
        let published = send(queue, &line).await;
        let published =
            published.with_context(|| format!("{}:{} is not in the queue", line.file, line.number));
        published.map(Some)
    });
    let mut sent = std::pin::pin!(sent.buffered(IN_FLIGHT));
    while let Some(published) = sent.try_next().await? {
        match published {
            None => counts.too_long += 1,
            Some(published) if published.duplicate => counts.were_there += 1,
            Some(_) => counts.queued += 1,
        }
    }
    Ok(counts)
}

async fn send(queue: &Queue, line: &Line) -> Result<PublishAck, PublishError> {
    // By content, so that other lines under the same number are other messages.
    let digest = Bytes::from_owner(Sha256::digest(&line.text));
    let id = format!("{}-{digest:x}", line.number);
    let attempt = || async {
        let message = PublishMessage::build()
            .payload(line.text.clone())
            .message_id(&id)
            .header(SOURCE, format!("{}:{}", line.file, line.number));
        queue
            .context
            .send_publish(queue.subject(), message)
            .await?
            .await
    };
    let tries = usize::try_from(PATIENCE.as_millis() / PAUSE.as_millis()).unwrap_or(usize::MAX);
    attempt
        .retry(
            ConstantBuilder::new()
                .with_delay(PAUSE)
                .with_max_times(tries),
        )
        .when(|error| error.kind() != PublishErrorKind::MaxPayloadExceeded)
        .notify(|error, _| tracing::debug!("{error}"))
        .await
}

async fn open(path: PathBuf) -> anyhow::Result<impl Stream<Item = anyhow::Result<Line>>> {
    let file = File::open(&path).await;
    let file = file.with_context(|| path.display().to_string())?;
    Ok(read(BufReader::new(file), name(&path)))
}

/// As headers may have it.
fn name(path: &Path) -> String {
    path.display()
        .to_string()
        .replace(|c: char| c.is_control(), "?")
}

/// All lines but empty ones.
fn read<R: AsyncBufRead + Unpin>(
    reader: R,
    file: String,
) -> impl Stream<Item = anyhow::Result<Line>> {
    let lines = stream::try_unfold((reader, file, 1), async |(mut reader, file, number)| {
        let mut text = Vec::new();
        let read = reader.read_until(b'\n', &mut text).await;
        if read.with_context(|| format!("{file}:{number}"))? == 0 {
            return Ok(None);
        }
        let line = Line {
            text: text.trim_ascii().to_vec().into(),
            file: file.clone(),
            number,
        };
        Ok(Some((line, (reader, file, number + 1))))
    });
    lines.try_filter(|line| std::future::ready(!line.text.is_empty()))
}
