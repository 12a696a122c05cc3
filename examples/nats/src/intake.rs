//! Takes messages from the queue, as many as there is room for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::connection::State;
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::{StatusCode, Subject, Subscriber};
use futures::StreamExt as _;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::held::Held;
use crate::queue::{Key, Place, Queue};

/// How long the queue keeps a request for messages. It is also how long a worker that is told to end waits at most until
/// no more messages can come.
const REQUEST: Duration = Duration::from_secs(2);

/// How long after that a request is taken for lost: with the NATS server, or with the connection to it.
const LATE: Duration = Duration::from_secs(1);

/// How many bytes of messages a request has at most, or else one message. NATS cuts off who has 64 MiB to read.
const BYTES: usize = 16 << 20;

/// What a message takes beside its payload, in bytes.
const HEAD: usize = 64 << 10;

/// The pause behind a request that failed.
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) struct Intake {
    pub(crate) queue: Arc<Queue>,
    pub(crate) consumer: PullConsumer,
    pub(crate) held: Arc<Held>,
    /// How many messages this worker may have in hand.
    pub(crate) window: usize,
    /// Ends it.
    pub(crate) stop: CancellationToken,
}

/// How a request for messages has ended.
enum End {
    /// All came that were asked for.
    Full,
    /// No more came in its time.
    Well,
    /// The NATS server was not there, or went away.
    Badly,
}

impl Intake {
    /// Runs until it is told to stop. A message that it takes is in `held` before it is sent on, also if nobody
    /// listens, and when it has ended no more come.
    pub(crate) async fn run(self, out: UnboundedSender<(Key, Arc<Message>)>) -> anyhow::Result<()> {
        let room = Arc::new(Semaphore::new(self.window));
        let client = self.queue.context.client();
        let inbox = client.new_inbox();
        // A subject for each request, so that the end of one that was taken for lost is not taken for that of the next.
        let inbound = client.subscribe(format!("{inbox}.*")).await;
        let mut inbound = inbound.context("cannot subscribe")?;
        // A part of the window at a time: else there would be a request for each message.
        let least = (self.window / 4).max(1);
        let mut most = self.window;
        for number in 0_u64.. {
            let Some(mut free) = self.room(&room, least).await else {
                return Ok(());
            };
            if let Some(spare) = free.num_permits().checked_sub(most) {
                drop(free.split(spare));
            }
            let subject = Subject::from(format!("{inbox}.{number}"));
            let request = BatchConfig {
                batch: free.num_permits(),
                expires: Some(REQUEST),
                max_bytes: BYTES.max(client.max_payload() + HEAD),
                ..BatchConfig::default()
            };
            let cuts = self.queue.cuts();
            let sent = self.consumer.request_batch(request, subject.clone()).await;
            sent.context("cannot ask for messages")?;
            let end = self.receive(&mut inbound, &subject, free, &out).await?;
            if self.queue.cuts() > cuts {
                // It may have been a message that this client cannot read, which cuts off all that come with it. Those
                // come again, and one by one they pass.
                most = 1;
            }
            match end {
                End::Full => most = most.saturating_mul(2).min(self.window),
                End::Well => {}
                End::Badly => {
                    tokio::time::sleep(PAUSE).await;
                    self.is_still_there().await?;
                }
            }
        }
        Ok(())
    }

    /// All the room there is, once it is so much. `None`: it is to stop.
    async fn room(&self, room: &Arc<Semaphore>, least: usize) -> Option<OwnedSemaphorePermit> {
        let least = u32::try_from(least).ok()?;
        let enough = Arc::clone(room).acquire_many_owned(least);
        let mut free = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            enough = enough => enough.ok()?,
        };
        let more = u32::try_from(room.available_permits()).ok()?;
        if let Ok(more) = Arc::clone(room).try_acquire_many_owned(more) {
            free.merge(more);
        }
        Some(free)
    }

    async fn receive(
        &self,
        inbound: &mut Subscriber,
        request: &Subject,
        mut free: OwnedSemaphorePermit,
        out: &UnboundedSender<(Key, Arc<Message>)>,
    ) -> anyhow::Result<End> {
        let deadline = Instant::now() + REQUEST + LATE;
        while free.num_permits() > 0 {
            let Ok(next) = timeout_at(deadline, inbound.next()).await else {
                return Ok(End::Badly);
            };
            let message = next.context("the connection to NATS is closed")?;
            // A message of the queue has somewhere to answer to, whatever it pretends to be.
            if message.reply.is_none() {
                let words = message.description.as_deref().unwrap_or_default();
                match message.status {
                    _ if message.subject != *request => {}
                    Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => return Ok(End::Well),
                    Some(StatusCode::REQUEST_TERMINATED) if words.ends_with("MaxBytes") => {
                        return Ok(End::Well);
                    }
                    Some(StatusCode::REQUEST_TERMINATED) if words == "Consumer Deleted" => {
                        bail!("the consumer was deleted");
                    }
                    status => {
                        tracing::debug!("NATS ends a request with {status:?} {words}");
                        return Ok(End::Badly);
                    }
                }
                continue;
            }
            let message = Arc::new(Message {
                message,
                context: self.queue.context.clone(),
            });
            // Anybody may send to anybody.
            let Ok(place) = Place::of(&message) else {
                tracing::debug!("this is no message of a queue: {message:?}");
                continue;
            };
            let room = free.split(1);
            if self.held.take(place.key, Arc::clone(&message), room) {
                // When nobody listens any more, it is given back with what else is held.
                let _ = out.send((place.key, message));
            }
        }
        Ok(End::Full)
    }

    /// A consumer that was deleted does not answer. It looks like a NATS server that is away, for ever.
    async fn is_still_there(&self) -> anyhow::Result<()> {
        let client = self.queue.context.client();
        if client.connection_state() != State::Connected {
            return Ok(());
        }
        match self.consumer.get_info().await {
            Err(error) => match error.kind() {
                ConsumerInfoErrorKind::NotFound | ConsumerInfoErrorKind::StreamNotFound => {
                    Err(error).context("the queue or its consumer was deleted")
                }
                _ => Ok(()),
            },
            Ok(_) => Ok(()),
        }
    }
}
