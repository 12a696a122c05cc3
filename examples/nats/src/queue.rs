//! The queue in NATS: the stream of records, the consumer that all workers share, and the stream of dead letters.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{GetStreamErrorKind, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::{Config, RetentionPolicy, Stream};
use async_nats::jetstream::{self, ErrorCode, Message};
use backon::{ConstantBuilder, Retryable as _};
use futures::TryStreamExt as _;
use tokio::time::timeout;

/// What the consumer's metadata call how many workers there may be, and what each of them may have in hand.
const WORKERS: &str = "workers";
const WINDOW: &str = "window";

/// How long NATS is told the same again, until it confirms it, and the pause between two tries. It remembers the IDs of messages
/// for two minutes, so until then one whose confirmation was lost is not put there twice.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// What there is to say when NATS says nothing.
pub(crate) const SILENCE: &str = "NATS does not answer";

/// What a queue's name with this at its end would be: the dead letters of another.
const DEAD: &str = "-dead";

/// The one consumer: whoever works takes from it.
const CONSUMER: &str = "workers";

/// A queue, which need not exist.
pub(crate) struct Queue {
    pub(crate) context: jetstream::Context,
    name: String,
    cuts: Arc<AtomicU64>,
}

/// How many workers there may be, and what each of them may have in hand.
pub(crate) struct Sizes {
    pub(crate) workers: u32,
    pub(crate) window: u32,
    pub(crate) ack_wait: Duration,
}

impl Sizes {
    const DEFAULT: Self = Self {
        workers: 4,
        window: 1024,
        ack_wait: Duration::from_secs(30),
    };

    /// As `create` has left them.
    fn of(consumer: &PullConsumer) -> anyhow::Result<Self> {
        let config = &consumer.cached_info().config;
        let number = |name: &str| match config.metadata.get(name).map(|text| text.parse()) {
            Some(Ok(number)) if number > 0 => Ok(number),
            _ => bail!("the consumer was not made by `create`: it does not say what the {name} is"),
        };
        Ok(Self {
            workers: number(WORKERS)?,
            window: number(WINDOW)?,
            ack_wait: config.ack_wait,
        })
    }
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
    /// `cuts` counts how often the connection was lost.
    pub(crate) fn new(
        context: jetstream::Context,
        name: String,
        cuts: Arc<AtomicU64>,
    ) -> anyhow::Result<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_plain) {
            bail!("the name of a queue has letters, digits, - and _: {name:?} is none");
        }
        if name.ends_with(DEAD) {
            bail!("{name} is the name of dead letters");
        }
        Ok(Self {
            context,
            name,
            cuts,
        })
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    /// What a record is published under.
    pub(crate) fn subject(&self) -> String {
        format!("{}.records", self.name)
    }

    /// What the dead letter of a message is published under: a subject of its own.
    pub(crate) fn subject_of_dead(&self, key: Key) -> String {
        format!(
            "{}.dead.{}.{}",
            self.name, key.sequence, key.published_nanos
        )
    }

    /// Puts a message into a stream, and tries for a minute. The error is the last there was, a `PublishError` where NATS
    /// will not have the message whenever it comes.
    pub(crate) async fn send(
        &self,
        subject: String,
        message: PublishMessage,
    ) -> anyhow::Result<PublishAck> {
        let attempt = || async {
            let (subject, message) = (subject.clone(), message.clone());
            self.context.send_publish(subject, message).await?.await
        };
        let tries = ConstantBuilder::new().with_delay(PAUSE).without_max_times();
        let mut last = None;
        let tried = attempt
            .retry(tries)
            .when(|error: &PublishError| {
                let kind = error.kind();
                kind != PublishErrorKind::MaxPayloadExceeded
                    && kind != PublishErrorKind::WrongLastSequence
            })
            .notify(|error, _| last = Some(error.to_string()));
        match timeout(PATIENCE, tried).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(anyhow!(last.unwrap_or_else(|| SILENCE.to_owned()))),
        }
    }

    pub(crate) fn subject_of_all_dead(&self) -> String {
        format!("{}.dead.>", self.name)
    }

    fn name_of_dead(&self) -> String {
        format!("{}{DEAD}", self.name)
    }

    /// Makes both streams and the consumer. Those that are there get the sizes that are given, and keep the others.
    pub(crate) async fn create(
        &self,
        workers: Option<u32>,
        window: Option<u32>,
        ack_wait: Option<Duration>,
    ) -> anyhow::Result<Sizes> {
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
            // What is there keeps its replicas and limits.
            let (subjects, retention) = (config.subjects.clone(), config.retention);
            let made = self.context.get_or_create_stream(config).await;
            let made = made.with_context(|| format!("cannot make the stream {name}"))?;
            let there = &made.cached_info().config;
            if there.retention != retention || !subjects.iter().all(|s| there.subjects.contains(s))
            {
                bail!("there is a stream {name} already, and it is no queue of this program");
            }
        }
        let before = match self.records().await?.get_consumer(CONSUMER).await {
            Ok(consumer) => Sizes::of(&consumer)?,
            Err(_) if self.has_no_consumer().await? => Sizes::DEFAULT,
            Err(error) => return Err(anyhow::Error::from_boxed(error).context(SILENCE)),
        };
        let sizes = Sizes {
            workers: workers.unwrap_or(before.workers),
            window: window.unwrap_or(before.window),
            ack_wait: ack_wait.unwrap_or(before.ack_wait),
        };
        let consumer = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: sizes.ack_wait,
            max_ack_pending: i64::from(sizes.workers) * i64::from(sizes.window),
            // What becomes of a message is a worker's to say.
            max_deliver: -1,
            metadata: HashMap::from([
                (WORKERS.to_owned(), sizes.workers.to_string()),
                (WINDOW.to_owned(), sizes.window.to_string()),
            ]),
            ..pull::Config::default()
        };
        let made = self
            .context
            .create_consumer_on_stream(consumer, &self.name)
            .await;
        made.context("cannot make the consumer")?;
        Ok(sizes)
    }

    async fn has_no_consumer(&self) -> anyhow::Result<bool> {
        let mut names = self.records().await?.consumer_names();
        while let Some(name) = names.try_next().await? {
            if name == CONSUMER {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) async fn records(&self) -> anyhow::Result<Stream> {
        self.stream(&self.name).await
    }

    pub(crate) async fn dead(&self) -> anyhow::Result<Stream> {
        self.stream(&self.name_of_dead()).await
    }

    async fn stream(&self, name: &str) -> anyhow::Result<Stream> {
        self.context.get_stream(name).await.map_err(|error| {
            let is_missing = matches!(error.kind(), GetStreamErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NOT_FOUND);
            match is_missing {
                true => anyhow!("there is no queue {}: `create` makes it", self.name),
                false => anyhow::Error::from(error).context("NATS does not give the queue"),
            }
        })
    }

    async fn consumer(&self) -> anyhow::Result<PullConsumer> {
        let records = self.records().await?;
        let consumer = records.get_consumer(CONSUMER).await;
        consumer
            .map_err(anyhow::Error::from_boxed)
            .with_context(|| format!("the queue {} has no consumer {CONSUMER}", self.name))
    }

    /// The consumer, and what `create` has said of it.
    pub(crate) async fn to_work_on(&self) -> anyhow::Result<(PullConsumer, Sizes)> {
        let consumer = self.consumer().await?;
        let sizes = Sizes::of(&consumer)?;
        self.dead().await?;
        Ok((consumer, sizes))
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

/// Which message it is. A queue that was deleted and made again begins its numbers anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) sequence: u64,
    pub(crate) published_nanos: i128,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {}", self.sequence)
    }
}

/// Where a message stands in the queue.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) key: Key,
    /// How often it was delivered, this time included.
    pub(crate) deliveries: u32,
}

impl Place {
    pub(crate) fn of(message: &Message) -> anyhow::Result<Self> {
        let info = message.info().map_err(anyhow::Error::from_boxed)?;
        let key = Key {
            sequence: info.stream_sequence,
            published_nanos: info.published.unix_timestamp_nanos(),
        };
        Ok(Self {
            key,
            deliveries: u32::try_from(info.delivered).unwrap_or(u32::MAX),
        })
    }
}
