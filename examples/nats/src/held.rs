//! The messages that a worker has and has not answered.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};
use futures::{StreamExt as _, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;

/// By their numbers in the queue.
#[derive(Default)]
pub(crate) struct Held(Mutex<HashMap<u64, Holding>>);

struct Holding {
    message: Arc<Message>,
    /// Its part of the window. A message that came when nobody counted on it any more has none.
    _room: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Holding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message, and says whether it is new here. One that comes again while it is worked on is the same piece of
    /// work; answers go by its last delivery.
    pub(crate) fn take(
        &self,
        sequence: u64,
        message: Arc<Message>,
        room: Option<OwnedSemaphorePermit>,
    ) -> bool {
        match self.lock().entry(sequence) {
            Entry::Occupied(mut held) => {
                held.get_mut().message = message;
                false
            }
            Entry::Vacant(place) => {
                place.insert(Holding {
                    message,
                    _room: room,
                });
                true
            }
        }
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<Arc<Message>> {
        Some(Arc::clone(&self.lock().get(&sequence)?.message))
    }

    pub(crate) fn let_go(&self, sequence: u64) {
        self.lock().remove(&sequence);
    }

    fn all(&self) -> Vec<Arc<Message>> {
        let all = self.lock();
        all.values().map(|held| Arc::clone(&held.message)).collect()
    }

    /// Tells the queue again and again, for ever, that these are worked on, so that it delivers none of them to
    /// anybody else.
    pub(crate) async fn keep(&self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for message in self.all() {
                if let Err(error) = message.ack_with(AckKind::Progress).await {
                    tracing::warn!("cannot tell the queue that a message is worked on: {error}");
                    break;
                }
            }
        }
    }

    /// Gives everything back, so that others have it at once, and says how many that were and how many the queue has not
    /// confirmed: those come again when their time is up.
    pub(crate) async fn give_back(&self) -> (usize, usize) {
        let all = self.all();
        let count = all.len();
        let confirmed = stream::iter(all)
            .map(async |message| message.double_ack_with(AckKind::Nak(None)).await.is_ok())
            .buffer_unordered(count.max(1))
            .filter(|is_confirmed| std::future::ready(*is_confirmed))
            .count()
            .await;
        self.lock().clear();
        (count, count - confirmed)
    }
}
