//! The queue in NATS: the stream of records, the consumer that all workers share, and the stream of dead letters.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, Stream};
use async_nats::jetstream::{self, Message};

/// What the consumer's metadata call the window of a worker.
const WINDOW: &str = "window";

/// The one consumer: whoever works takes from it.
const CONSUMER: &str = "workers";

/// A queue, which need not exist.
pub(crate) struct Queue {
    pub(crate) context: jetstream::Context,
    name: String,
}

/// How many workers there may be, and what each of them may have in hand.
pub(crate) struct Size {
    pub(crate) workers: u32,
    pub(crate) window: u32,
    pub(crate) ack_wait: Duration,
}

/// What is where.
pub(crate) struct Counts {
    /// Messages that nobody has.
    pub(crate) waiting: u64,
    /// Messages that workers have, or that were given back and wait for their next time.
    pub(crate) held: usize,
    /// Of those, the messages that were delivered before.
    pub(crate) again: usize,
    pub(crate) dead: u64,
}

impl Queue {
    pub(crate) fn new(context: jetstream::Context, name: String) -> anyhow::Result<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_plain) {
            bail!("the name of a queue has letters, digits, - and _: {name:?} is none");
        }
        Ok(Self { context, name })
    }

    /// What a record is published under.
    pub(crate) fn subject(&self) -> String {
        format!("{}.records", self.name)
    }

    /// What the dead letter of a message is published under: a subject of its own, since a queue that is deleted and made
    /// again begins its numbers anew.
    pub(crate) fn subject_of_dead(&self, sequence: u64, published_nanos: i128) -> String {
        format!("{}.dead.{sequence}.{published_nanos}", self.name)
    }

    pub(crate) fn subject_of_all_dead(&self) -> String {
        format!("{}.dead.>", self.name)
    }

    fn name_of_dead(&self) -> String {
        format!("{}-dead", self.name)
    }

    /// Makes both streams and the consumer, or changes them to this.
    pub(crate) async fn create(&self, size: &Size) -> anyhow::Result<()> {
        let records = Config {
            name: self.name.clone(),
            subjects: vec![self.subject()],
            // A message is gone once it is acknowledged.
            retention: RetentionPolicy::WorkQueue,
            ..Config::default()
        };
        let dead = Config {
            name: self.name_of_dead(),
            subjects: vec![self.subject_of_all_dead()],
            ..Config::default()
        };
        for config in [records, dead] {
            let name = config.name.clone();
            let made = self.context.create_or_update_stream(config).await;
            made.with_context(|| format!("cannot make the stream {name}"))?;
        }
        let consumer = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: size.ack_wait,
            max_ack_pending: i64::from(size.workers) * i64::from(size.window),
            // What becomes of a message is a worker's to say.
            max_deliver: -1,
            metadata: HashMap::from([(WINDOW.to_owned(), size.window.to_string())]),
            ..pull::Config::default()
        };
        let made = self
            .context
            .create_consumer_on_stream(consumer, &self.name)
            .await;
        made.context("cannot make the consumer")?;
        Ok(())
    }

    pub(crate) async fn records(&self) -> anyhow::Result<Stream> {
        let stream = self.context.get_stream(&self.name).await;
        stream.with_context(|| format!("there is no queue {}: `create` makes it", self.name))
    }

    pub(crate) async fn dead(&self) -> anyhow::Result<Stream> {
        let stream = self.context.get_stream(self.name_of_dead()).await;
        stream.with_context(|| {
            format!(
                "there is no stream {}: `create` makes it",
                self.name_of_dead()
            )
        })
    }

    pub(crate) async fn consumer(&self) -> anyhow::Result<PullConsumer> {
        let records = self.records().await?;
        let consumer = records.get_consumer(CONSUMER).await;
        consumer
            .map_err(anyhow::Error::from_boxed)
            .with_context(|| format!("the queue {} has no consumer {CONSUMER}", self.name))
    }

    pub(crate) async fn counts(&self) -> anyhow::Result<Counts> {
        let consumer = self.consumer().await?;
        let info = consumer.cached_info();
        Ok(Counts {
            waiting: info.num_pending,
            held: info.num_ack_pending,
            again: info.num_redelivered,
            dead: self.dead().await?.cached_info().state.messages,
        })
    }
}

/// How many messages a worker may have in hand.
pub(crate) fn window_of(consumer: &PullConsumer) -> anyhow::Result<usize> {
    let metadata = &consumer.cached_info().config.metadata;
    let window = metadata
        .get(WINDOW)
        .context("the consumer was not made by `create`: it does not say what the window is")?;
    match window.parse() {
        Ok(window) if window > 0 => Ok(window),
        _ => bail!("the consumer's window is {window:?}, which is no number of messages"),
    }
}

/// Where a message stands in the queue.
pub(crate) struct Place {
    pub(crate) sequence: u64,
    /// How often it was delivered, this time included.
    pub(crate) deliveries: u32,
    pub(crate) published_nanos: i128,
}

impl Place {
    pub(crate) fn of(message: &Message) -> anyhow::Result<Self> {
        let info = message.info().map_err(anyhow::Error::from_boxed)?;
        Ok(Self {
            sequence: info.stream_sequence,
            deliveries: u32::try_from(info.delivered).unwrap_or(u32::MAX),
            published_nanos: info.published.unix_timestamp_nanos(),
        })
    }
}
