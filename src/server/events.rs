//! What happens in the store, told to those who listen.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::publications::new_id;
use crate::proto::events::{Event, EventType, ListenRequest};

/// How many events wait for a listener: as in a real server.
const BUFFER: usize = 100;

pub(super) struct Events {
    listeners: Mutex<Vec<Listener>>,
    /// How many there are, so that a store without them takes no lock for each event.
    count: AtomicUsize,
    buffer: usize,
    /// Whether a buffer was half full since somebody looked.
    is_pressed: AtomicBool,
}

struct Listener {
    asked: ListenRequest,
    buffer: mpsc::Sender<Arc<Event>>,
}

impl Events {
    pub(super) fn new(buffer: Option<usize>) -> Self {
        Self {
            listeners: Mutex::default(),
            count: AtomicUsize::new(0),
            buffer: buffer.unwrap_or(BUFFER),
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

    /// The events from now on, until the receiver is dropped and [`left`](Self::left) is called.
    pub(super) fn listen(&self, asked: ListenRequest) -> mpsc::Receiver<Arc<Event>> {
        let (buffer, events) = mpsc::channel(self.buffer);
        let mut listeners = self.listeners();
        listeners.push(Listener { asked, buffer });
        self.count.store(listeners.len(), Ordering::Release);
        events
    }

    /// A receiver was dropped.
    pub(super) fn left(&self) {
        let mut listeners = self.listeners();
        listeners.retain(|listener| !listener.buffer.is_closed());
        self.count.store(listeners.len(), Ordering::Release);
    }

    /// Whether it is time that listeners have their turn: one that reads should not lose what a single call does.
    pub(super) fn are_pressed(&self) -> bool {
        self.is_pressed.load(Ordering::Relaxed) && self.is_pressed.swap(false, Ordering::Relaxed)
    }

    /// What a listener has no room for is lost to it.
    pub(super) fn tell(
        &self,
        kind: EventType,
        resource_id: impl ToString,
        labels: impl FnOnce() -> Vec<String>,
    ) {
        if self.count() == 0 {
            return;
        }
        let event = Arc::new(Event {
            id: new_id(),
            r#type: kind.into(),
            timestamp: Some(SystemTime::now().into()),
            resource_id: resource_id.to_string(),
            labels: labels(),
            ..Event::default()
        });
        for listener in &*self.listeners() {
            if is_asked_for(&listener.asked, &event) {
                let _ = listener.buffer.try_send(Arc::clone(&event));
                if listener.buffer.capacity() <= self.buffer / 2 {
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
