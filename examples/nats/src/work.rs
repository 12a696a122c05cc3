//! A worker: messages stream into the directory, and each is answered when its record has its result.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{Error, ErrorKind, TryPushResult};
use anyhow::{Context as _, bail};
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{AckKind, Message};
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::dead;
use crate::held::{Held, confirmed};
use crate::intake::Intake;
use crate::queue::{Key, PATIENCE, PAUSE, Place, Queue, SILENCE, Sizes};

/// The first delay of a message that is given back, and the longest. One that waits counts as held: it takes room of
/// others.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long the queue may take to confirm the last answers of a worker that ends.
const CONFIRMED: Duration = Duration::from_secs(6);

/// How often it is told at most that messages are given back.
const QUIET: Duration = Duration::from_secs(10);

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
    /// When it was last told that messages are given back, and how many were since.
    told: Mutex<(Option<Instant>, u64)>,
}

/// Works until it is told to stop, or the queue is gone. What is in `held` then has no confirmed answer, and comes again.
pub(crate) async fn work(
    queue: Arc<Queue>,
    (consumer, sizes): (PullConsumer, Sizes),
    directory: &Client,
    settings: &Settings,
    held: Arc<Held>,
    counts: &Counts,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let window = usize::try_from(sizes.window)?;
    let (out, messages) = mpsc::unbounded_channel();
    let intake = Intake {
        queue: Arc::clone(&queue),
        consumer,
        held: Arc::clone(&held),
        window,
        stop: stop.clone(),
    };
    let intake = tokio::spawn({
        let stop = stop.clone();
        async move {
            let ended = intake.run(out).await;
            if let Err(error) = &ended {
                tracing::error!("no more messages come: {error:#}");
                // Nobody may be there any more to answer to.
                stop.cancel();
            }
            ended
        }
    });

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
        told: Mutex::default(),
    };
    let done = results.for_each_concurrent(None, |result| worker.settle(result));
    let told_to_stop = async {
        stop.cancelled().await;
        handle.drain(settings.grace);
        // When NATS is away, nothing is confirmed.
        sleep(settings.grace + CONFIRMED).await;
    };
    tokio::select! {
        () = done => {}
        () = held.keep(sizes.ack_wait / 3) => {}
        () = told_to_stop => {}
    }
    stop.cancel();
    // When the intake has ended, no message comes. What is held then is what nobody has begun with.
    let given_back = async {
        let ended = intake.await.context("the intake panicked")?;
        let count = held.len();
        held.give_back().await;
        add(&counts.given_back, (count - held.len()) as u64);
        ended
    };
    let ended = timeout(CONFIRMED, given_back).await;
    match held.len() {
        0 => ended.context(SILENCE)?,
        _ => bail!("NATS does not confirm what has become of the messages"),
    }
}

/// A record with the message that it is from, or what is wrong with it.
fn read((key, message): (Key, Arc<Message>)) -> Result<(Record, Key), (Error, Key)> {
    match Record::from_json(&message.payload) {
        Ok(record) => Ok((record, key)),
        Err(error) => Err((error, key)),
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
    async fn settle(&self, result: TryPushResult<(Error, Key), Key>) {
        let mut already_stored = false;
        let (key, fate) = match result {
            Ok(pushed) => {
                already_stored = pushed.already_stored;
                (pushed.tag, Fate::Stored)
            }
            Err(failed) => match failed.into_failed() {
                Ok(failed) if failed.error.is_of_item() => (failed.tag, Fate::Dead(failed.error)),
                Ok(failed) => (failed.tag, Fate::Again(failed.error)),
                Err((error, key)) => (key, Fate::Dead(error)),
            },
        };
        let Some((message, place)) = self.message(key) else {
            return;
        };
        let (answer, count) = match self.last_word(fate, &place) {
            Fate::Stored => (AckKind::Ack, &self.counts.stored),
            Fate::Dead(error) => match self.bury(&message, &place, &error).await {
                true => {
                    tracing::warn!("{key} is dead: {error}");
                    (AckKind::Term, &self.counts.dead)
                }
                false => (back(&place), &self.counts.given_back),
            },
            // It is given back with all else when no more messages can come: now it might come to this worker.
            Fate::Again(_) if self.stop.is_cancelled() => return,
            Fate::Again(error) => {
                tracing::debug!("{key} is given back: {error}");
                self.tell_of_given_back(&error);
                (back(&place), &self.counts.given_back)
            }
        };
        if self.answer(key, answer).await {
            add(count, 1);
            add(&self.counts.already_stored, already_stored.into());
        } else {
            add(&self.counts.unconfirmed, 1);
        }
    }

    /// A record at which the directory fails again and again does not go round for ever.
    fn last_word(&self, fate: Fate, place: &Place) -> Fate {
        match fate {
            Fate::Again(error)
                if error.kind() == ErrorKind::ServerFailed
                    && place.deliveries >= self.settings.deliveries =>
            {
                Fate::Dead(error)
            }
            fate => fate,
        }
    }

    /// An outage gives back many, and one line is enough.
    fn tell_of_given_back(&self, error: &Error) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, count) = &mut *told;
        *count += 1;
        if last.is_none_or(|last| last.elapsed() >= QUIET) {
            tracing::warn!("messages are given back ({count}), the last one since: {error}");
            (*last, *count) = (Some(Instant::now()), 0);
        }
    }

    /// A message as it came last.
    fn message(&self, key: Key) -> Option<(Arc<Message>, Place)> {
        let message = self.held.get(key)?;
        let place = Place::of(&message).ok()?;
        Some((message, place))
    }

    /// Whether the dead letter is there.
    async fn bury(&self, message: &Message, place: &Place, error: &Error) -> bool {
        match dead::bury(self.queue, message, place, error).await {
            Ok(()) => true,
            Err(problem) => {
                tracing::error!(
                    "{} has no dead letter and comes again: {problem:#}",
                    place.key
                );
                false
            }
        }
    }

    /// Whether the queue has confirmed the answer. Then the message is gone.
    async fn answer(&self, key: Key, answer: AckKind) -> bool {
        self.held.is_answered(key);
        let answered = async {
            while let Some(message) = self.held.get(key) {
                match confirmed(&message, answer).await {
                    Ok(()) if self.held.let_go(key, &message) => return,
                    Ok(()) => {}
                    Err(error) => {
                        tracing::debug!("{key} is not answered yet: {error}");
                        sleep(PAUSE).await;
                    }
                }
            }
        };
        let is_answered = timeout(PATIENCE, answered).await.is_ok();
        if !is_answered {
            tracing::warn!("{key} comes again: NATS does not confirm {answer:?}");
            self.held.give_up(key);
        }
        is_answered
    }
}

/// Given back with a delay, twice as long each time.
fn back(place: &Place) -> AckKind {
    let (first, longest) = DELAYS;
    let doubled = 2_u32.saturating_pow(place.deliveries.saturating_sub(1));
    AckKind::Nak(Some(first.saturating_mul(doubled).min(longest)))
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
