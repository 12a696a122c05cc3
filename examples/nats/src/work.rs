//! A worker: messages stream into the directory, and each is answered when its record has its result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{Error, ErrorKind, TryPushResult};
use anyhow::Context as _;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::{AckKind, Message};
use backon::{ConstantBuilder, Retryable as _};
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::dead;
use crate::held::Held;
use crate::intake::Intake;
use crate::queue::{Place, Queue, window_of};

/// The first delay of a message that is given back, and the longest. One that waits counts as held: it takes room of
/// others.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The pause between two tries to answer a message, and how many there are. Each waits for five seconds.
const ANSWERS: (Duration, usize) = (Duration::from_millis(500), 10);

pub(crate) struct Settings {
    pub(crate) options: Options,
    /// How often a record is delivered that the directory fails at while it does its work on others.
    pub(crate) deliveries: u32,
    /// How long what is in flight may take when the worker is told to end.
    pub(crate) grace: Duration,
}

/// What became of the messages that this worker took.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) stored: AtomicU64,
    /// Of those, the records that were stored before.
    pub(crate) already_stored: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) given_back: AtomicU64,
    /// Answers that the queue has not confirmed. Such a message comes again.
    pub(crate) unconfirmed: AtomicU64,
}

struct Worker<'a> {
    queue: &'a Queue,
    held: &'a Held,
    counts: &'a Counts,
    stop: &'a CancellationToken,
    settings: &'a Settings,
}

/// Works until it is told to stop, or the queue is gone.
pub(crate) async fn work(
    queue: Arc<Queue>,
    directory: &Client,
    settings: &Settings,
    counts: &Counts,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let consumer = queue.consumer().await?;
    let window = window_of(&consumer)?;
    let ack_wait = consumer.cached_info().config.ack_wait;
    let held = Arc::new(Held::default());
    let (out, messages) = mpsc::unbounded_channel();
    let intake = Intake {
        queue: Arc::clone(&queue),
        consumer,
        held: Arc::clone(&held),
        window,
        stop: stop.clone(),
    };
    let intake = tokio::spawn(intake.run(out));

    let records = stream::unfold(messages, async |mut messages| {
        Some((messages.recv().await?, messages))
    });
    let options = settings.options.clone().window(window).unordered(true);
    let results = records.map(read).try_push_to_with(directory, &options);
    let handle = results.handle();
    let worker = Worker {
        queue: &queue,
        held: &held,
        counts,
        stop: &stop,
        settings,
    };
    let done = results.for_each_concurrent(None, |result| worker.settle(result));
    let told_to_stop = async {
        stop.cancelled().await;
        handle.drain(settings.grace);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = done => {}
        () = held.keep(ack_wait / 3) => {}
        () = told_to_stop => {}
    }
    // From here on no message comes, and what is held is what nobody has begun with.
    let ended = intake.await.context("the intake panicked")?;
    let (count, unconfirmed) = held.give_back().await;
    add(&counts.given_back, count as u64);
    add(&counts.unconfirmed, unconfirmed as u64);
    ended
}

/// A record with the number of its message, or what is wrong with it.
fn read(message: Arc<Message>) -> Result<(Record, u64), (Error, u64)> {
    let sequence = Place::of(&message).map_or(0, |place| place.sequence);
    match Record::from_json(&message.payload) {
        Ok(record) => Ok((record, sequence)),
        Err(error) => Err((error, sequence)),
    }
}

/// What is to become of a message.
enum Fate {
    Stored,
    /// No later try would store it.
    Dead(Error),
    /// Another try may.
    Again(Error),
}

impl Worker<'_> {
    async fn settle(&self, result: TryPushResult<(Error, u64), u64>) {
        let mut already_stored = false;
        let (sequence, fate) = match result {
            Ok(pushed) => {
                already_stored = pushed.already_stored;
                (pushed.tag, Fate::Stored)
            }
            Err(failed) => match failed.into_failed() {
                Ok(failed) if failed.error.is_of_item() => (failed.tag, Fate::Dead(failed.error)),
                Ok(failed) => (failed.tag, Fate::Again(failed.error)),
                Err((error, sequence)) => (sequence, Fate::Dead(error)),
            },
        };
        let Some((message, place)) = self.message(sequence) else {
            return;
        };
        let fate = match fate {
            Fate::Again(error)
                if error.kind() == ErrorKind::ServerFailed
                    && place.deliveries >= self.settings.deliveries =>
            {
                Fate::Dead(error)
            }
            fate => fate,
        };
        let (answer, count) = match fate {
            Fate::Stored => (AckKind::Ack, &self.counts.stored),
            Fate::Dead(error) => {
                tracing::warn!("message {sequence} is dead: {error}");
                match self.bury(&message, &place, &error).await {
                    true => (AckKind::Term, &self.counts.dead),
                    false => (self.back(&place), &self.counts.given_back),
                }
            }
            Fate::Again(error) => {
                tracing::info!("message {sequence} is given back: {error}");
                (self.back(&place), &self.counts.given_back)
            }
        };
        if self.answer(sequence, answer).await {
            add(count, 1);
            add(&self.counts.already_stored, already_stored.into());
        } else {
            add(&self.counts.unconfirmed, 1);
        }
        self.held.let_go(sequence);
    }

    /// The message of this number, as it came last.
    fn message(&self, sequence: u64) -> Option<(Arc<Message>, Place)> {
        let message = self.held.get(sequence)?;
        let place = Place::of(&message).ok()?;
        Some((message, place))
    }

    /// Given back: to be had by others at once when this worker ends, and else with a delay, twice as long each time.
    fn back(&self, place: &Place) -> AckKind {
        let (first, longest) = DELAYS;
        let doubled = 2_u32.saturating_pow(place.deliveries.saturating_sub(1));
        let delay = first.saturating_mul(doubled).min(longest);
        AckKind::Nak((!self.stop.is_cancelled()).then_some(delay))
    }

    /// Whether the dead letter is there.
    async fn bury(&self, message: &Message, place: &Place, error: &Error) -> bool {
        let buried = (|| dead::bury(self.queue, message, place, error))
            .retry(tries())
            .when(|error| error.kind() != PublishErrorKind::MaxPayloadExceeded);
        match buried.await {
            Ok(()) => true,
            Err(problem) => {
                let sequence = place.sequence;
                tracing::error!("message {sequence} has no dead letter and comes again: {problem}");
                false
            }
        }
    }

    /// Whether the queue has confirmed the answer.
    async fn answer(&self, sequence: u64, answer: AckKind) -> bool {
        let answered = || async {
            match self.message(sequence) {
                Some((message, _)) => message.double_ack_with(answer).await,
                None => Ok(()),
            }
        };
        match answered.retry(tries()).await {
            Ok(()) => true,
            Err(problem) => {
                tracing::warn!(
                    "message {sequence} comes again: no answer to {answer:?}: {problem}"
                );
                false
            }
        }
    }
}

fn tries() -> ConstantBuilder {
    let (pause, times) = ANSWERS;
    ConstantBuilder::new()
        .with_delay(pause)
        .with_max_times(times)
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
