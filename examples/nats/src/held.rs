//! The messages that a worker has and has not answered.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::{AckKind, Message};
use futures::{StreamExt as _, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;

use crate::queue::Key;

#[derive(Default)]
pub(crate) struct Held(Mutex<HashMap<Key, Holding>>);

struct Holding {
    message: Arc<Message>,
    /// Whether the queue is being told what has become of it.
    is_answered: bool,
    /// Its part of the window. A message that came when nobody counted on it any more has none.
    _room: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Holding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message, and says whether it is new here. One that comes again while it is worked on is the same piece of
    /// work; answers go by its last delivery.
    pub(crate) fn take(
        &self,
        key: Key,
        message: Arc<Message>,
        room: Option<OwnedSemaphorePermit>,
    ) -> bool {
        match self.lock().entry(key) {
            Entry::Occupied(mut held) => {
                held.get_mut().message = message;
                false
            }
            Entry::Vacant(place) => {
                place.insert(Holding {
                    message,
                    is_answered: false,
                    _room: room,
                });
                true
            }
        }
    }

    /// As it came last.
    pub(crate) fn get(&self, key: Key) -> Option<Arc<Message>> {
        Some(Arc::clone(&self.lock().get(&key)?.message))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// From now on nothing is said of it but what has become of it.
    pub(crate) fn is_answered(&self, key: Key) {
        if let Some(held) = self.lock().get_mut(&key) {
            held.is_answered = true;
        }
    }

    /// Lets go of a message that was answered, unless it has come once more: then that has to be answered, too.
    pub(crate) fn let_go(&self, key: Key, answered: &Arc<Message>) -> bool {
        let mut all = self.lock();
        let is_same = all
            .get(&key)
            .is_none_or(|held| Arc::ptr_eq(&held.message, answered));
        if is_same {
            all.remove(&key);
        }
        is_same
    }

    /// Lets go of one whose answer is not confirmed: it comes again.
    pub(crate) fn give_up(&self, key: Key) {
        self.lock().remove(&key);
    }

    /// Those that are worked on.
    fn unanswered(&self) -> Vec<Arc<Message>> {
        let all = self.lock();
        let unanswered = all.values().filter(|held| !held.is_answered);
        unanswered.map(|held| Arc::clone(&held.message)).collect()
    }

    /// Tells the queue again and again, for ever, that these are worked on, so that it delivers none of them to
    /// anybody else.
    pub(crate) async fn keep(&self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for message in self.unanswered() {
                if let Err(error) = message.ack_with(AckKind::Progress).await {
                    tracing::warn!("cannot tell the queue that a message is worked on: {error}");
                    break;
                }
            }
        }
    }

    /// Gives everything back, so that others have it at once. What the queue does not confirm stays here.
    pub(crate) async fn give_back(&self) {
        let all: Vec<_> = self.lock().keys().copied().collect();
        let give_back = async |key| {
            if let Some(message) = self.get(key)
                && confirmed(&message, AckKind::Nak(None)).await.is_ok()
            {
                self.let_go(key, &message);
            }
        };
        stream::iter(all).for_each_concurrent(None, give_back).await;
    }
}

/// Tells the queue what has become of a message, and waits until it has taken that. A queue that is not there is an error,
/// which `double_ack_with` does not see.
pub(crate) async fn confirmed(message: &Message, answer: AckKind) -> anyhow::Result<()> {
    let reply = message.reply.clone().context("nobody is to be told")?;
    let client = message.context.client();
    client.request(reply, answer.into()).await?;
    Ok(())
}
