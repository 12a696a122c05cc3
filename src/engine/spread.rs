//! CIDs that other threads compute, and that come out in the order in which their records went in.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future as _;
use std::iter::repeat;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
#[cfg(not(all(test, model)))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

#[cfg(all(test, model))]
use loom::sync::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::cid::Cid;
use crate::options::Options;
use crate::record::Record;

/// Records are handed over in batches of so many, or so many bytes: to hand one over costs some microseconds.
const BATCH: usize = 16;
const BATCH_BYTES: usize = 64 << 10;

/// What comes alone and is no longer than this takes less time than to hand it over.
const FEW_BYTES: usize = 8 << 10;

/// What a pool runs.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Where jobs run: on a pool of the caller's, or on the threads that tokio has for what blocks.
#[derive(Clone)]
pub(crate) struct Pool(Option<Arc<dyn Fn(Job) + Send + Sync>>);

impl Pool {
    pub(crate) const TOKIO: Self = Self(None);

    pub(crate) fn new(spawn: impl Fn(Job) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(spawn)))
    }

    /// A job that cannot be run is dropped.
    fn spawn(&self, job: Job) {
        if let Some(spawn) = &self.0 {
            spawn(job);
        } else if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn_blocking(job));
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "own" } else { "tokio" })
    }
}

/// One for each record; `None` where it has none.
type Cids = Vec<Option<Cid>>;

/// Tickets `T` with records, on their way to their CIDs.
pub(super) struct Spread<T> {
    /// How many jobs there are at most.
    jobs: usize,
    pool: Pool,
    queue: Arc<Queue>,
    /// The next batch.
    tickets: Vec<T>,
    records: Vec<Option<Record>>,
    bytes: usize,
    /// The batches that have been handed over.
    out: VecDeque<Batch<T>>,
}

struct Batch<T> {
    tickets: Vec<T>,
    /// An error: nobody will compute them.
    cids: oneshot::Receiver<Cids>,
}

impl<T> Spread<T> {
    pub(super) fn new(options: &Options) -> Option<Self> {
        (options.verify_threads > 0).then(|| Self {
            jobs: options.verify_threads,
            pool: options.verify_pool.clone(),
            queue: Arc::default(),
            tickets: Vec::new(),
            records: Vec::new(),
            bytes: 0,
            out: VecDeque::new(),
        })
    }

    /// Takes a ticket with the record whose CID it waits for. Without one it waits for those before it alone.
    pub(super) fn push(&mut self, ticket: T, record: Option<Record>) {
        self.bytes += record.as_ref().map_or(0, Record::encoded_len);
        self.tickets.push(ticket);
        self.records.push(record);
        if self.tickets.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.hand_over();
        }
    }

    /// Nothing more comes for now: hands over what there is, if a thread has nothing to do, or else does the work of a
    /// batch that no thread has begun, rather than wait for it. Returns whether there was anything to do.
    pub(super) fn go_on(&mut self) -> bool {
        if !self.tickets.is_empty() && self.out.len() < self.jobs {
            self.hand_over();
            return true;
        }
        let work = self.queue.lock().work.pop_front();
        work.map(Work::run).is_some()
    }

    fn hand_over(&mut self) {
        let (sender, cids) = oneshot::channel();
        let work = Work {
            records: std::mem::take(&mut self.records),
            cids: sender,
        };
        let is_short = std::mem::take(&mut self.bytes) <= FEW_BYTES && self.out.is_empty();
        let tickets = std::mem::take(&mut self.tickets);
        self.out.push_back(Batch { tickets, cids });
        if is_short {
            work.run();
        } else if let Some(job) = self.queue.put(work, self.jobs) {
            self.pool.spawn(Box::new(move || job.run()));
        }
    }

    /// The next batch: each ticket, and the CID of its record. `None`: it has none, or its job was lost.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<impl Iterator<Item = (T, Option<Cid>)> + use<T>> {
        let Some(front) = self.out.front_mut() else {
            return Poll::Pending;
        };
        let cids = ready!(Pin::new(&mut front.cids).poll(cx));
        let tickets = std::mem::take(&mut front.tickets);
        self.out.pop_front();
        Poll::Ready(each(tickets, cids.ok()))
    }

    /// Gives all back, in order, with those CIDs that are there.
    pub(super) fn end(&mut self) -> impl Iterator<Item = (T, Option<Cid>)> + use<T> {
        self.queue.clear();
        self.records.clear();
        self.bytes = 0;
        let out = std::mem::take(&mut self.out).into_iter();
        let out = out.flat_map(|mut batch| each(batch.tickets, batch.cids.try_recv().ok()));
        out.chain(each(std::mem::take(&mut self.tickets), None))
    }
}

fn each<T>(tickets: Vec<T>, cids: Option<Cids>) -> impl Iterator<Item = (T, Option<Cid>)> + use<T> {
    let cids = cids.unwrap_or_default().into_iter().chain(repeat(None));
    tickets.into_iter().zip(cids)
}

impl<T> Drop for Spread<T> {
    fn drop(&mut self) {
        self.queue.clear();
    }
}

/// A batch as a job has it.
struct Work {
    records: Vec<Option<Record>>,
    cids: oneshot::Sender<Cids>,
}

impl Work {
    fn run(self) {
        let mut cids = Vec::with_capacity(self.records.len());
        for record in self.records {
            if self.cids.is_closed() {
                return;
            }
            cids.push(record.and_then(|record| record.cid().ok()));
        }
        // Nobody may be waiting any more.
        let _ = self.cids.send(cids);
    }
}

/// The batches that no job has begun. A job takes one after the other, so one that begins late, or never, holds up
/// nothing as long as there is another.
#[derive(Default)]
struct Queue(Mutex<State>);

#[derive(Default)]
struct State {
    work: VecDeque<Work>,
    /// How many jobs there are that take from it.
    jobs: usize,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch, and gives the job that is to be run for it, if there are fewer than `most`.
    fn put(self: &Arc<Self>, work: Work, most: usize) -> Option<Worker> {
        let mut state = self.lock();
        state.work.push_back(work);
        let wants = state.jobs < most;
        state.jobs += usize::from(wants);
        wants.then(|| Worker {
            queue: Arc::clone(self),
            is_over: false,
        })
    }

    fn clear(&self) {
        let work = std::mem::take(&mut self.lock().work);
        // Whoever waits for it is woken.
        drop(work);
    }
}

/// A job. If the last one is dropped before its end, what is left in the queue is lost, so that nobody waits for it.
struct Worker {
    queue: Arc<Queue>,
    is_over: bool,
}

impl Worker {
    fn run(mut self) {
        while let Some(work) = self.next() {
            work.run();
        }
    }

    fn next(&mut self) -> Option<Work> {
        let mut state = self.queue.lock();
        let work = state.work.pop_front();
        if work.is_none() {
            // Under the same lock: what comes later has a job of its own.
            state.jobs -= 1;
            self.is_over = true;
        }
        work
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.queue.lock();
        state.jobs -= 1;
        let lost = match state.jobs {
            0 => std::mem::take(&mut state.work),
            _ => VecDeque::new(),
        };
        drop(state);
        // Whoever waits for it is woken.
        drop(lost);
    }
}

#[cfg(all(test, model))]
mod model;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Longer than a batch may be.
    fn long() -> Record {
        let text = "x".repeat(BATCH_BYTES);
        Record::from_json(format!(r#"{{"name":"{text}"}}"#)).unwrap()
    }

    #[test]
    fn what_no_thread_has_begun_is_over_when_the_adapter_is_dropped() {
        let jobs = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&jobs);
        let options = Options::new().verify_on(1, move |job| kept.lock().unwrap().push(job));
        let mut spread = Spread::new(&options).unwrap();
        for number in 0..3 {
            spread.push(number, Some(long()));
        }
        let queue = Arc::clone(&spread.queue);
        assert_eq!(queue.lock().work.len(), 3);
        assert_eq!(jobs.lock().unwrap().len(), 1);
        drop(spread);
        assert!(queue.lock().work.is_empty());
        jobs.lock().unwrap().drain(..).for_each(|job| job());
        assert_eq!(queue.lock().jobs, 0);
    }
}
