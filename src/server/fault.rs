//! Faults on demand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tonic::Status;

use super::call::Method;
use crate::cid::Cid;

/// Something that goes wrong in the store, for tests: see [`Store::inject`](super::Store::inject).
///
/// A constructor says what happens, the methods when. A fault happens once, at the first request
/// that fits all that was said; then it is used up. Of several that fit, the first injected
/// happens. [`Store::pending_faults`](super::Store::pending_faults) gives those that wait still.
///
/// A listing (`SearchCIDs`, `SearchRecords`, `Listen`) has one request and many answers. There a fault happens at an
/// answer: [`at`](Self::at) counts those before it, and [`of`](Self::of) looks at the record that it names. The end of a
/// listing has the place behind its last answer. What needs no answer happens before there is one: so a `Listen` can
/// be refused, or be ended after so many events, without another event.
///
/// ```
/// use agntcy_dir_stream::server::{Fault, Method};
///
/// // The second push call breaks after five answers.
/// let fault = Fault::cut().on(Method::Push).in_call(1).at(5);
/// # let _ = fault;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a fault does nothing until it is injected"]
pub struct Fault {
    what: What,
    method: Option<Method>,
    call: Option<u64>,
    at: Option<u64>,
    record: Option<Cid>,
    times: u64,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Delay(Duration),
    Status(Status),
    Cut,
    CutAfter,
    NoConnection,
    LateCall(Duration),
    End,
    Wrong,
    GoAway,
    Stall,
    Spare,
}

impl Fault {
    fn new(what: What) -> Self {
        Self {
            what,
            method: None,
            call: None,
            at: None,
            record: None,
            times: 1,
        }
    }

    /// The answer comes late by this much.
    pub fn delay(by: Duration) -> Self {
        Self::new(What::Delay(by))
    }

    /// The call ends with this status, in place of the request's answer.
    pub fn status(status: Status) -> Self {
        Self::new(What::Status(status))
    }

    /// The connection breaks, with all calls on it, in place of the request's answer. The answers
    /// before it are handed to the transport first.
    pub fn cut() -> Self {
        Self::new(What::Cut)
    }

    /// The request is carried out, and then the connection breaks before its answer has left.
    pub fn cut_after() -> Self {
        Self::new(What::CutAfter)
    }

    /// A connection is closed as soon as it is made. This happens before there is a request, so
    /// nothing but [`times`](Self::times) applies.
    pub fn no_connection() -> Self {
        Self::new(What::NoConnection)
    }

    /// A call reaches the store late by this much, as where a network holds it back: its token is looked at only then, and
    /// may have expired. Of the methods that say when, [`on`](Self::on), [`in_call`](Self::in_call) and
    /// [`times`](Self::times) apply.
    pub fn late_call(by: Duration) -> Self {
        Self::new(What::LateCall(by))
    }

    /// The call ends OK, in place of this request's answer and all after it.
    pub fn end() -> Self {
        Self::new(What::End)
    }

    /// The answer is wrong: the CID of another record, another record, the metadata of another; of a referrer, the
    /// CID of another; of a publication, the ID of another; of an event, the CID of another record; a count is one too
    /// high. What has no answer of its own is passed over: a
    /// ref of a delete, and what is to be published or unpublished.
    pub fn wrong_answer() -> Self {
        Self::new(What::Wrong)
    }

    /// The server says that it takes no further call on this connection (GOAWAY); the calls
    /// that run go on.
    pub fn go_away() -> Self {
        Self::new(What::GoAway)
    }

    /// The call stands still, until the client ends it.
    pub fn stall() -> Self {
        Self::new(What::Stall)
    }

    /// The request is answered twice.
    pub fn spare_answer() -> Self {
        Self::new(What::Spare)
    }

    /// Only in calls of this method. Any, if not said.
    pub fn on(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Only in the call of this number ([`Call::number`](super::Call::number)), counted from 0
    /// for each method. Any, if not said.
    pub fn in_call(mut self, number: u64) -> Self {
        self.call = Some(number);
        self
    }

    /// Only at the request, or the answer of a listing, of this place in its call, counted from 0: so many answers come
    /// before. Any, if not said.
    pub fn at(mut self, request: u64) -> Self {
        self.at = Some(request);
        self
    }

    /// Only at a request for this record, or at an answer of a listing that names it. Any, if not said.
    pub fn of(mut self, record: Cid) -> Self {
        self.record = Some(record);
        self
    }

    /// Happens so many times before it is used up, in place of once.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Whether it is about an answer that is there.
    fn needs_answer(&self) -> bool {
        self.record.is_some() || matches!(self.what, What::CutAfter | What::Wrong | What::Spare)
    }

    fn is_in(&self, method: Method, call: u64) -> bool {
        self.method.is_none_or(|only| only == method) && self.call.is_none_or(|only| only == call)
    }

    fn fits(&self, method: Method, call: u64, request: u64, is_for: impl Fn(&Cid) -> bool) -> bool {
        !matches!(self.what, What::NoConnection | What::LateCall(_))
            && self.is_in(method, call)
            && self.at.is_none_or(|only| only == request)
            && self.record.as_ref().is_none_or(is_for)
    }
}

/// The faults that have yet to happen.
#[derive(Default)]
pub(super) struct Faults {
    waiting: Mutex<Vec<Fault>>,
    /// How many wait, so that a store without faults takes no lock for each request.
    count: AtomicUsize,
}

impl Faults {
    pub(super) fn inject(&self, fault: Fault) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(fault);
        self.count.store(waiting.len(), Ordering::Release);
    }

    /// Those that wait, in the order in which they were injected.
    pub(super) fn pending(&self) -> Vec<Fault> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = waiting.iter().filter(|fault| fault.times > 0);
        pending.cloned().collect()
    }

    /// What happens at this request; `is_for` tells whether it is for a record.
    pub(super) fn fire(
        &self,
        method: Method,
        call: u64,
        request: u64,
        is_for: impl Fn(&Cid) -> bool,
    ) -> Option<What> {
        self.take(|fault| fault.fits(method, call, request, &is_for))
    }

    /// What happens in a listing at this place, whatever its next answer is.
    pub(super) fn fire_before(&self, method: Method, call: u64, answer: u64) -> Option<What> {
        self.take(|fault| !fault.needs_answer() && fault.fits(method, call, answer, |_| false))
    }

    /// Whether a connection that was just made is to be closed.
    pub(super) fn fire_on_connect(&self) -> bool {
        let fits = |fault: &Fault| matches!(fault.what, What::NoConnection);
        self.take(fits).is_some()
    }

    /// How late a call is that was just opened.
    pub(super) fn fire_on_open(&self, method: Method, call: u64) -> Option<Duration> {
        let fits =
            |fault: &Fault| matches!(fault.what, What::LateCall(_)) && fault.is_in(method, call);
        match self.take(fits)? {
            What::LateCall(by) => Some(by),
            _ => None,
        }
    }

    fn take(&self, fits: impl Fn(&Fault) -> bool) -> Option<What> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = waiting
            .iter_mut()
            .find(|fault| fault.times > 0 && fits(fault))?;
        fault.times -= 1;
        let what = fault.what.clone();
        waiting.retain(|fault| fault.times > 0);
        self.count.store(waiting.len(), Ordering::Release);
        Some(what)
    }
}
