//! The calls that the store has seen, and how they ended.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tonic::Code;

/// How many calls the log holds; older ones are forgotten.
const LOGGED: usize = 10_000;

/// A method of the store's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Method {
    Push,
    Pull,
    Lookup,
    Delete,
    PushReferrer,
    PullReferrer,
    DeleteReferrer,
    Publish,
    Unpublish,
    CreatePublication,
    GetPublication,
    SearchCids,
    SearchRecords,
    CountRecords,
    Listen,
}

impl Method {
    pub(super) const ALL: [Self; 15] = [
        Self::Push,
        Self::Pull,
        Self::Lookup,
        Self::Delete,
        Self::PushReferrer,
        Self::PullReferrer,
        Self::DeleteReferrer,
        Self::Publish,
        Self::Unpublish,
        Self::CreatePublication,
        Self::GetPublication,
        Self::SearchCids,
        Self::SearchRecords,
        Self::CountRecords,
        Self::Listen,
    ];

    /// The service that it is of.
    fn service(self) -> &'static str {
        match self {
            Self::Publish | Self::Unpublish => "agntcy.dir.routing.v1.RoutingService",
            Self::CreatePublication | Self::GetPublication => {
                "agntcy.dir.routing.v1.PublicationService"
            }
            Self::SearchCids | Self::SearchRecords | Self::CountRecords => {
                "agntcy.dir.search.v1.SearchService"
            }
            Self::Listen => "agntcy.dir.events.v1.EventService",
            _ => "agntcy.dir.store.v1.StoreService",
        }
    }

    /// The method of a request's path.
    pub(super) fn of(path: &str) -> Option<Self> {
        let (service, name) = path.strip_prefix('/')?.rsplit_once('/')?;
        Self::ALL
            .into_iter()
            .find(|method| method.to_string() == name && method.service() == service)
    }
}

/// The name in the service's definition, such as `Push`.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SearchCids => f.write_str("SearchCIDs"),
            _ => fmt::Debug::fmt(self, f),
        }
    }
}

/// How a call ended, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// All requests were answered.
    Ok,
    /// The server ended it with a status.
    Status(Code),
    /// The client reset it, or is gone.
    Cancelled,
}

/// A call that the store has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The method.
    pub method: Method,
    /// How many calls of this method came before.
    pub number: u64,
    /// How many requests the store has read.
    pub requests: u64,
    /// How many answers it has given.
    pub answers: u64,
    /// Whether the client has said that there is no further request (END_STREAM).
    pub half_closed: bool,
    /// How it ended; `None` while it runs.
    pub end: Option<End>,
}

pub(super) type Hook = dyn Fn(&Call) + Send + Sync;

/// All calls, the oldest first.
#[derive(Default)]
pub(super) struct Log {
    state: Mutex<State>,
    changed: Notify,
    ended: Option<Box<Hook>>,
}

#[derive(Default)]
struct State {
    calls: VecDeque<Arc<Running>>,
    counts: [u64; Method::ALL.len()],
}

/// A call in the log, written to by its handler and by its request body.
pub(super) struct Running {
    pub(super) method: Method,
    pub(super) number: u64,
    requests: AtomicU64,
    answers: AtomicU64,
    half_closed: AtomicBool,
    reset: AtomicBool,
    end: Mutex<Option<End>>,
    log: Arc<Log>,
}

impl Log {
    pub(super) fn new(ended: Option<Box<Hook>>) -> Self {
        Self {
            ended,
            ..Self::default()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(self: &Arc<Self>, method: Method) -> Arc<Running> {
        let mut state = self.state();
        let count = &mut state.counts[method as usize];
        let call = Arc::new(Running {
            method,
            number: *count,
            requests: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            half_closed: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            end: Mutex::new(None),
            log: Arc::clone(self),
        });
        *count += 1;
        if state.calls.len() == LOGGED {
            state.calls.pop_front();
        }
        state.calls.push_back(Arc::clone(&call));
        drop(state);
        self.changed.notify_waiters();
        call
    }

    /// Has those look again who wait.
    pub(super) fn change(&self) {
        self.changed.notify_waiters();
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.state().calls.iter().map(|call| call.look()).collect()
    }

    /// Waits until `holds` is true of the calls.
    pub(super) async fn wait_for(&self, mut holds: impl FnMut(&[Call]) -> bool) -> Vec<Call> {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Before the look, so that no change falls between.
            changed.as_mut().enable();
            let calls = self.calls();
            if holds(&calls) {
                return calls;
            }
            changed.await;
        }
    }
}

impl Running {
    fn look(&self) -> Call {
        Call {
            method: self.method,
            number: self.number,
            requests: self.requests.load(Ordering::Acquire),
            answers: self.answers.load(Ordering::Acquire),
            half_closed: self.half_closed.load(Ordering::Acquire),
            end: *self.end.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// A request was read. Returns its place in the call.
    pub(super) fn request(&self) -> u64 {
        let place = self.requests.fetch_add(1, Ordering::AcqRel);
        self.log.changed.notify_waiters();
        place
    }

    pub(super) fn answer(&self) {
        self.answers.fetch_add(1, Ordering::AcqRel);
        self.log.changed.notify_waiters();
    }

    pub(super) fn half_close(&self) {
        self.half_closed.store(true, Ordering::Release);
        self.log.changed.notify_waiters();
    }

    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
    }

    /// Whether the client has reset the call, which a gRPC library may show as a mere end of the
    /// requests.
    pub(super) fn was_reset(&self) -> bool {
        self.reset.load(Ordering::Acquire)
    }

    pub(super) fn end(&self, end: End) {
        let mut ended = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_some() {
            return;
        }
        *ended = Some(end);
        drop(ended);
        if let Some(hook) = &self.log.ended {
            hook(&self.look());
        }
        self.log.changed.notify_waiters();
    }
}
