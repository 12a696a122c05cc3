//! Dead letters: messages whose record no later try would store, each with the reason.

use std::collections::BTreeSet;
use std::future::ready;

use agntcy_dir_stream::Error;
use anyhow::{Context as _, bail};
use async_nats::HeaderMap;
use async_nats::jetstream::Message;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use futures::{Stream, TryStreamExt as _, stream};
use serde_json::json;

use crate::queue::{Place, Queue};

/// Where a record is from, such as `agents.ndjson:17`.
pub(crate) const SOURCE: &str = "Dir-Source";

/// What became of a record: `ErrorKind::as_str` of the crate.
const KIND: &str = "Dir-Error-Kind";

/// The same in words.
const ERROR: &str = "Dir-Error";

/// The number of the message in the queue.
const SEQUENCE: &str = "Dir-Queue-Sequence";

/// How often it was delivered.
const DELIVERIES: &str = "Dir-Deliveries";

/// How many bytes of a reason are kept.
const LONGEST_REASON: usize = 2 << 10;

/// What the other headers and the protocol take of NATS's largest message, in bytes.
const HEADERS: usize = 1 << 10;

/// Copies a message to the dead letters, once: whoever copies it again finds that it is there.
pub(crate) async fn bury(
    queue: &Queue,
    message: &Message,
    place: &Place,
    error: &Error,
) -> anyhow::Result<()> {
    let most = queue.context.client().max_payload();
    let free = most.saturating_sub(message.payload.len() + HEADERS);
    let mut letter = PublishMessage::build()
        .payload(message.payload.clone())
        .header(KIND, error.kind().as_str())
        .header(
            ERROR,
            in_a_line(&error.to_string(), free.min(LONGEST_REASON)),
        )
        .header(SEQUENCE, place.key.sequence.to_string())
        .header(DELIVERIES, place.deliveries.to_string())
        .expected_last_subject_sequence(0);
    if let Some(source) = header(message.headers.as_ref(), SOURCE) {
        letter = letter.header(SOURCE, in_a_line(source, 256));
    }
    let subject = queue.subject_of_dead(place.key);
    match queue.send(subject, letter).await {
        Err(error) if is_there(&error) => Ok(()),
        sent => sent.map(drop),
    }
}

fn is_there(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<PublishError>();
    error.is_some_and(|error| error.kind() == PublishErrorKind::WrongLastSequence)
}

/// As much of a text as a header may have.
fn in_a_line(text: &str, most: usize) -> String {
    let mut line = text.replace(|c: char| c.is_control(), " ");
    while line.len() > most {
        line.pop();
    }
    line
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    Some(headers?.get(name)?.as_str())
}

/// Which letters are meant, by their own numbers: all, if none is named.
pub(crate) struct Which(pub(crate) BTreeSet<u64>);

impl Which {
    fn has(&self, letter: &StreamMessage) -> bool {
        self.0.is_empty() || self.0.contains(&letter.sequence)
    }
}

/// A line of JSON for each dead letter, from the oldest on.
pub(crate) async fn list(
    queue: &Queue,
    which: Which,
) -> anyhow::Result<impl Stream<Item = anyhow::Result<String>>> {
    let letters = letters(queue, which).await?;
    Ok(letters.map_ok(|letter| {
        let say = |name| header(Some(&letter.headers), name);
        let number = |name| say(name)?.parse::<u64>().ok();
        let line = json!({
            "letter": letter.sequence,
            "source": say(SOURCE),
            "kind": say(KIND),
            "error": say(ERROR),
            "message": number(SEQUENCE),
            "deliveries": number(DELIVERIES),
            "record": String::from_utf8_lossy(&letter.payload),
        });
        line.to_string()
    }))
}

/// Puts dead letters into the queue again, and says how many.
pub(crate) async fn requeue(queue: &Queue, which: Which) -> anyhow::Result<usize> {
    take_away(queue, which, async |letter| {
        // When this is stopped before the letter is deleted, the next time finds that it is in the queue, for two minutes.
        let id = format!("{}@{}", letter.subject, letter.sequence);
        let mut record = PublishMessage::build()
            .payload(letter.payload.clone())
            .message_id(id);
        if let Some(source) = header(Some(&letter.headers), SOURCE) {
            record = record.header(SOURCE, source);
        }
        let sent = queue.send(queue.subject(), record).await;
        sent.map(drop).context("cannot put a record into the queue")
    })
    .await
}

/// Deletes dead letters, and says how many.
pub(crate) async fn discard(queue: &Queue, which: Which) -> anyhow::Result<usize> {
    take_away(queue, which, async |_| Ok(())).await
}

/// Deletes letters, each when `before` is done with it. An error says how many of the named ones are not there.
async fn take_away(
    queue: &Queue,
    which: Which,
    before: impl AsyncFn(&StreamMessage) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let named = which.0.len();
    let dead = queue.dead().await?;
    let mut letters = std::pin::pin!(letters(queue, which).await?);
    let mut count = 0;
    while let Some(letter) = letters.try_next().await? {
        before(&letter).await?;
        let deleted = dead.delete_message(letter.sequence).await;
        deleted.with_context(|| format!("cannot delete the dead letter {}", letter.sequence))?;
        count += 1;
    }
    if count < named {
        bail!("of the {named} letters that were named, {count} are there: those are done");
    }
    Ok(count)
}

/// Those that are there now: workers may make more meanwhile.
async fn letters(
    queue: &Queue,
    which: Which,
) -> anyhow::Result<impl Stream<Item = anyhow::Result<StreamMessage>>> {
    let dead = queue.dead().await?;
    let last = dead.cached_info().state.last_sequence;
    let subject = queue.subject_of_all_dead();
    let letters = stream::try_unfold((dead, subject, 1), async |(dead, subject, from)| match dead
        .get_first_raw_message_by_subject(&subject, from)
        .await
    {
        Ok(letter) => {
            let next = letter.sequence + 1;
            Ok(Some((letter, (dead, subject, next))))
        }
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(anyhow::Error::from(error).context("cannot read dead letters")),
    });
    let letters = letters.try_take_while(move |letter| ready(Ok(letter.sequence <= last)));
    Ok(letters.try_filter(move |letter| ready(which.has(letter))))
}
