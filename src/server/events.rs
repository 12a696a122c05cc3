//! What happens in the store, told to those who listen.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::mpsc;
use tonic::Status;

use super::budget::{Budget, Share};
use super::publications::new_id;
use crate::proto::events::{Event, EventType, ListenRequest};

/// How many events wait for a listener: as in a real server.
const BUFFER: usize = 100;

/// And how many bytes of them: enough for so many that are long. One event waits, however long it is.
const WAITING: usize = 16 << 20;

/// What an event takes in memory beside its labels, in bytes.
const EVENT: usize = 512;

/// How many filters a listener may have, of all kinds together: each is compared with each event.
const FILTERS: usize = 4096;

/// How much may be compared for one event, in letters of its labels. That happens while others wait.
const COMPARED: usize = 16 << 20;

pub(super) struct Events {
    listeners: Mutex<Vec<Listener>>,
    /// How many there are, so that a store without them takes no lock for each event.
    count: AtomicUsize,
    buffer: usize,
    /// Of what the events take that wait.
    budget: Arc<Budget>,
    /// Whether a buffer was half full since somebody looked.
    is_pressed: AtomicBool,
}

struct Listener {
    asked: ListenRequest,
    buffer: mpsc::Sender<Arc<Told>>,
    /// How many bytes wait in the buffer.
    waiting: Arc<AtomicUsize>,
}

/// An event that waits for some listeners.
pub(super) struct Told {
    pub(super) event: Event,
    len: usize,
    _room: Share,
}

/// What a listener hears.
pub(super) struct Heard {
    events: mpsc::Receiver<Arc<Told>>,
    waiting: Arc<AtomicUsize>,
}

impl Heard {
    pub(super) async fn next(&mut self) -> Option<Arc<Told>> {
        let told = self.events.recv().await?;
        self.waiting.fetch_sub(told.len, Ordering::AcqRel);
        Some(told)
    }

    /// Nothing more is told, but what waits.
    pub(super) fn close(&mut self) {
        self.events.close();
    }
}

impl Listener {
    /// Whether there is room for so many bytes more. Nobody else adds some in the meantime.
    fn has_room(&self, len: usize) -> bool {
        let waiting = self.waiting.load(Ordering::Acquire);
        waiting == 0 || waiting.saturating_add(len) <= WAITING
    }

    fn is_half_full(&self, buffer: usize) -> bool {
        self.buffer.capacity() <= buffer / 2 || self.waiting.load(Ordering::Acquire) > WAITING / 2
    }
}

impl Events {
    pub(super) fn new(buffer: Option<usize>, budget: &Arc<Budget>) -> Self {
        Self {
            listeners: Mutex::default(),
            count: AtomicUsize::new(0),
            buffer: buffer.unwrap_or(BUFFER),
            budget: Arc::clone(budget),
            is_pressed: AtomicBool::new(false),
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The events from now on, until what hears them is dropped and [`left`](Self::left) is called.
    pub(super) fn listen(&self, asked: ListenRequest) -> Result<Heard, Status> {
        let filters = asked.event_types.len() + asked.label_filters.len() + asked.cid_filters.len();
        if filters > FILTERS {
            // It would not be less when it is asked for again.
            return Err(Status::invalid_argument(format!(
                "there are {filters} filters, and a call listens with {FILTERS} at most"
            )));
        }
        let (buffer, events) = mpsc::channel(self.buffer);
        let waiting = Arc::default();
        let heard = Heard {
            events,
            waiting: Arc::clone(&waiting),
        };
        let mut listeners = self.listeners();
        listeners.push(Listener {
            asked,
            buffer,
            waiting,
        });
        self.count.store(listeners.len(), Ordering::Release);
        Ok(heard)
    }

    /// What hears events was dropped.
    pub(super) fn left(&self) {
        let mut listeners = self.listeners();
        listeners.retain(|listener| !listener.buffer.is_closed());
        self.count.store(listeners.len(), Ordering::Release);
    }

    /// Whether it is time that listeners have their turn: one that reads should not lose what a single call does.
    pub(super) fn are_pressed(&self) -> bool {
        self.is_pressed.load(Ordering::Relaxed) && self.is_pressed.swap(false, Ordering::Relaxed)
    }

    /// What a listener has no room for is lost to it, and so is what would take too long to be compared with its
    /// filters.
    pub(super) fn tell(
        &self,
        kind: EventType,
        resource_id: impl ToString,
        labels: impl FnOnce() -> Vec<String>,
    ) {
        if self.count() == 0 {
            return;
        }
        let event = Event {
            id: new_id(),
            r#type: kind.into(),
            timestamp: Some(SystemTime::now().into()),
            resource_id: resource_id.to_string(),
            labels: labels(),
            ..Event::default()
        };
        let letters: usize = event.labels.iter().map(String::len).sum();
        let len = EVENT + letters + event.labels.capacity() * size_of::<String>();
        let room = Share::of(&self.budget);
        if room.set(len).is_err() {
            return;
        }
        let told = Arc::new(Told {
            event,
            len,
            _room: room,
        });
        let mut left = COMPARED;
        for listener in &*self.listeners() {
            let asked = &listener.asked;
            let others = asked.event_types.len() + asked.cid_filters.len();
            let compared = asked.label_filters.len().saturating_mul(letters) + others;
            let Some(rest) = left.checked_sub(compared) else {
                continue;
            };
            left = rest;
            if is_asked_for(asked, &told.event) {
                if listener.has_room(len) {
                    // Before it can be taken out.
                    listener.waiting.fetch_add(len, Ordering::AcqRel);
                    if listener.buffer.try_send(Arc::clone(&told)).is_err() {
                        listener.waiting.fetch_sub(len, Ordering::AcqRel);
                    }
                }
                if listener.is_half_full(self.buffer) {
                    self.is_pressed.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Each filter that is not empty has to have one that fits.
fn is_asked_for(asked: &ListenRequest, event: &Event) -> bool {
    let has_label = |part: &String| event.labels.iter().any(|label| label.contains(part));
    (asked.event_types.is_empty() || asked.event_types.contains(&event.r#type))
        && (asked.cid_filters.is_empty() || asked.cid_filters.contains(&event.resource_id))
        && (asked.label_filters.is_empty() || asked.label_filters.iter().any(has_label))
}
