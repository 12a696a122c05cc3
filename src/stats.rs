//! What an adapter has done so far.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Serialize, Serializer};
use tonic::Status;

use crate::breaker::Breaker;
use crate::error::{self, Error, ErrorKind};

/// How many of the first failures a [`Summary`] holds.
const FIRST_FAILURES: usize = 10;

/// What an adapter has done so far: [`Adapter::stats`](crate::Adapter::stats), or
/// [`Handle::stats`](crate::Handle::stats) from anywhere.
///
/// Serialized, it is an object of these fields, with `failed_as` as an object of the kinds that there
/// were, each by its [`name`](ErrorKind::as_str).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Items taken from the input, without those that a [`Checkpoint`](crate::Checkpoint) leaves out.
    pub taken: u64,
    /// Results handed out that were a success.
    pub succeeded: u64,
    /// Of these, the records that were found to be stored already, or whose answer was lost: see
    /// [`Pushed::already_stored`](crate::Pushed::already_stored).
    pub already_stored: u64,
    /// Results handed out that were a failure.
    pub failed: u64,
    /// Results handed out that were the outcome of another item, which was the same: see
    /// [`Options::dedup`](crate::Options::dedup).
    pub duplicates: u64,
    /// Items in the window: they were taken, and their results were not handed out. Items of an adapter that
    /// was dropped stay in this count. Items that
    /// [`into_remainder`](crate::Adapter::into_remainder) gave back do not.
    pub in_window: u64,
    /// Every item below this index has been answered, and its result handed out: stored, refused, or
    /// settled in another way. A later run may resume here, and [`Checkpoint`](crate::Checkpoint) has it do so. It counts
    /// what that leaves out, too.
    ///
    /// An item that failed without an answer ([`NotSent`](ErrorKind::NotSent),
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown), [`Unavailable`](ErrorKind::Unavailable),
    /// [`CircuitOpen`](ErrorKind::CircuitOpen), [`Denied`](ErrorKind::Denied),
    /// [`Unsupported`](ErrorKind::Unsupported)) keeps this at its index, so that a later run has it
    /// again. A result that was handed out may not be processed yet: if you buffer results, count those that
    /// you have processed.
    pub answered_below: u64,
    /// Requests handed to calls. One that is handed over twice counts twice. A request that its call has not
    /// sent counts until the call gives it back. While a call waits for its connection, it has sent none of
    /// its requests; when there is no connection, they no longer count. A call that breaks later may not have
    /// sent all.
    pub sent: u64,
    /// Of these, requests for an item that had been sent before: after a fault, or behind a
    /// refused record.
    pub resent: u64,
    /// Calls opened, with those that look up.
    pub calls: u64,
    /// Of these, calls that looked up what became of records whose answer was lost.
    pub lookup_calls: u64,
    /// Calls that broke, stalled, could not be opened, or ended with answers missing, and records at
    /// which the server failed without saying whose fault it is. While this grows and `succeeded` does
    /// not, the adapter is recovering.
    pub faults: u64,
    /// Bytes of requests that calls have handed to their connections, with those that were sent again: messages as
    /// they are on the line (compressed, if they are), without headers and HTTP/2's own.
    pub bytes_sent: u64,
    /// Bytes of answers that have come, counted in the same way.
    pub bytes_received: u64,
    /// Whether the client's [`CircuitBreaker`](crate::CircuitBreaker) is open: of several nodes, all.
    pub circuit_open: bool,
    failed_as: ByKind,
}

impl Stats {
    /// How many of the failures were of this kind.
    #[must_use]
    pub fn failed_as(&self, kind: ErrorKind) -> u64 {
        self.failed_as.0[kind as usize]
    }
}

/// A count for each kind of failure.
#[derive(Clone, Default, PartialEq, Eq)]
struct ByKind([u64; ErrorKind::ALL.len()]);

impl ByKind {
    /// The kinds that there were.
    fn counts(&self) -> impl Iterator<Item = (ErrorKind, u64)> {
        let counts = ErrorKind::ALL
            .iter()
            .map(|kind| (*kind, self.0[*kind as usize]));
        counts.filter(|(_, count)| *count > 0)
    }
}

impl fmt::Debug for ByKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.counts()).finish()
    }
}

impl Serialize for ByKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.counts())
    }
}

/// One line, for a log.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ok", self.succeeded)?;
        if self.already_stored > 0 {
            write!(f, " ({} already stored)", self.already_stored)?;
        }
        write!(f, ", {} failed", self.failed)?;
        for (kind, count) in self.failed_as.counts() {
            write!(f, ", {count} {kind}")?;
        }
        write!(
            f,
            "; all answered below {}, {} in the window, {} sent, {} of them again, {} calls, {} faults",
            self.answered_below, self.in_window, self.sent, self.resent, self.calls, self.faults
        )?;
        if self.circuit_open {
            f.write_str("; the circuit is open")?;
        }
        Ok(())
    }
}

/// What a stream came to: [`Adapter::finish`](crate::Adapter::finish).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[must_use = "whether anything failed is only said in here"]
#[non_exhaustive]
pub struct Summary {
    /// The counts, of the whole stream.
    pub stats: Stats,
    /// The first failures, at most 10, in the order in which they were handed out. What an error of a fallible input said is
    /// not in it: the results have that.
    pub first_failures: Vec<FirstFailure>,
}

/// The counts, and a line for each of the first failures.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats.fmt(f)?;
        for FirstFailure { index, message, .. } in &self.first_failures {
            write!(f, "\nitem {index}: {message}")?;
        }
        Ok(())
    }
}

/// A failure in a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FirstFailure {
    /// The item's place in the input, counted from 0.
    pub index: u64,
    /// What went wrong, as a class.
    pub kind: ErrorKind,
    /// The error in words. A status's are cut behind 4 KiB.
    pub message: String,
}

/// How many bytes the calls of an adapter have sent and received. The tasks of their connections count, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic(Arc<Bytes>);

#[derive(Debug, Default)]
struct Bytes {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    pub(crate) fn sent(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The counts of an adapter. One task writes, any may read.
#[derive(Debug)]
pub(crate) struct Counters {
    breakers: Vec<Arc<Breaker>>,
    last_fault: Mutex<Option<String>>,
    pub(crate) taken: Count,
    pub(crate) succeeded: Count,
    pub(crate) already_stored: Count,
    pub(crate) failed: Count,
    pub(crate) duplicates: Count,
    pub(crate) given_back: Count,
    pub(crate) answered_below: Count,
    pub(crate) sent: Count,
    pub(crate) resent: Count,
    pub(crate) calls: Count,
    pub(crate) lookup_calls: Count,
    faults: Count,
    pub(crate) traffic: Traffic,
    failed_as: [Count; ErrorKind::ALL.len()],
    first_failures: Mutex<Vec<FirstFailure>>,
}

/// What was counted of another by now: [`Counters::adopt`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Adopted {
    calls: u64,
    faults: u64,
    sent: u64,
    received: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        // There is one writer, so this need not be one step.
        self.set(self.get() + more);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counters {
    pub(crate) fn new(breakers: Vec<Arc<Breaker>>) -> Self {
        Self {
            breakers,
            last_fault: Mutex::default(),
            taken: Count::default(),
            succeeded: Count::default(),
            already_stored: Count::default(),
            failed: Count::default(),
            duplicates: Count::default(),
            given_back: Count::default(),
            answered_below: Count::default(),
            sent: Count::default(),
            resent: Count::default(),
            calls: Count::default(),
            lookup_calls: Count::default(),
            faults: Count::default(),
            traffic: Traffic::default(),
            failed_as: std::array::from_fn(|_| Count::default()),
            first_failures: Mutex::default(),
        }
    }

    pub(crate) fn fault(&self, status: &Status) {
        self.faults.add(1);
        *lock(&self.last_fault) = Some(error::in_words(status));
    }

    /// Counts the calls, faults and bytes of `other`, too, but for those of `before`. Returns those that it has now.
    pub(crate) fn adopt(&self, other: &Self, before: Adopted) -> Adopted {
        let now = Adopted {
            calls: other.calls.get(),
            faults: other.faults.get(),
            sent: other.traffic.0.sent.load(Ordering::Relaxed),
            received: other.traffic.0.received.load(Ordering::Relaxed),
        };
        self.calls.add(now.calls - before.calls);
        let Bytes { sent, received } = &*self.traffic.0;
        sent.fetch_add(now.sent - before.sent, Ordering::Relaxed);
        received.fetch_add(now.received - before.received, Ordering::Relaxed);
        if now.faults > before.faults {
            self.faults.add(now.faults - before.faults);
            *lock(&self.last_fault) = other.last_fault();
        }
        now
    }

    pub(crate) fn last_fault(&self) -> Option<String> {
        lock(&self.last_fault).clone()
    }

    /// A failure is handed out.
    pub(crate) fn failure(&self, index: u64, error: &Error) {
        self.failed.add(1);
        self.failed_as[error.kind() as usize].add(1);
        let mut first = lock(&self.first_failures);
        if first.len() < FIRST_FAILURES {
            first.push(FirstFailure {
                index,
                kind: error.kind(),
                message: error.to_string(),
            });
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let (succeeded, failed) = (self.succeeded.get(), self.failed.get());
        let taken = self.taken.get();
        Stats {
            taken,
            succeeded,
            already_stored: self.already_stored.get(),
            failed,
            duplicates: self.duplicates.get(),
            in_window: taken.saturating_sub(succeeded + failed + self.given_back.get()),
            answered_below: self.answered_below.get(),
            sent: self.sent.get(),
            resent: self.resent.get(),
            calls: self.calls.get(),
            lookup_calls: self.lookup_calls.get(),
            faults: self.faults.get(),
            bytes_sent: self.traffic.0.sent.load(Ordering::Relaxed),
            bytes_received: self.traffic.0.received.load(Ordering::Relaxed),
            circuit_open: self.breakers.iter().all(|breaker| breaker.is_open()),
            failed_as: ByKind(std::array::from_fn(|kind| self.failed_as[kind].get())),
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            stats: self.stats(),
            first_failures: lock(&self.first_failures).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_summary_in_json_names_the_kinds_that_there_were() {
        let counters = Counters::new(Vec::new());
        counters.failure(3, &Error::invalid("no"));
        counters.failure(4, &Error::new(ErrorKind::ServerFailed, "HTTP 500"));
        let summary = serde_json::to_value(counters.summary()).unwrap();
        assert_eq!(
            summary["stats"]["failed_as"],
            serde_json::json!({"invalid": 1, "server_failed": 1})
        );
        assert_eq!(summary["stats"]["failed"], 2);
        assert_eq!(
            summary["first_failures"][1],
            serde_json::json!({
                "index": 4, "kind": "server_failed", "message": "the server failed: HTTP 500",
            })
        );
        let debugged = format!("{:?}", counters.stats());
        assert!(
            debugged.contains("failed_as: {Invalid: 1, ServerFailed: 1}"),
            "{debugged}"
        );
    }
}
