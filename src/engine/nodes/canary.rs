//! The canary: an item that has succeeded, asked for once more where nothing else tells an outage
//! from records that are at fault themselves.
//!
//! If it succeeds again the server does its work, so what it failed at is at fault. Asking costs one
//! request, and changes nothing: it is a read, or a push of a record that is stored. If that was not
//! seen to be there within the last second it is looked up, since somebody may have deleted it
//! meanwhile, and it must not come back. There is none for a delete.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::apart::{Apart, Canaries};
use crate::cid::Cid;

/// How long a record that was seen to be there is taken to be there still.
const SEEN: Duration = Duration::from_secs(1);

/// How long ago the lookup may have left that has found a record, when it is pushed: its call may have
/// to wait, as for a rate of calls.
const FRESH: Duration = Duration::from_secs(5);

/// What has succeeded last of one method, for all adapters of a client.
#[derive(Debug)]
pub(crate) struct Kept<R, Q> {
    latest: Mutex<Option<Seen<R, Q>>>,
    /// How many records this client has deleted, or is about to.
    deleted: AtomicU64,
    /// Tells most other records from that of the latest without a lock; 0 if it has none.
    mark: AtomicU64,
}

impl<R, Q> Default for Kept<R, Q> {
    fn default() -> Self {
        Self {
            latest: Mutex::new(None),
            deleted: AtomicU64::new(0),
            mark: AtomicU64::new(0),
        }
    }
}

/// Before a request leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    at: Instant,
    deleted: u64,
}

impl Moment {
    /// For a request that is never sent again to tell an outage.
    pub(crate) fn of_no_canary() -> Self {
        Self {
            at: Instant::now(),
            deleted: 0,
        }
    }
}

#[derive(Debug)]
struct Seen<R, Q> {
    success: Arc<Success<R, Q>>,
    /// When the latest request left that has shown that it is there. `None`: it may be one that the
    /// client has deleted since.
    at: Option<Instant>,
}

/// A request that has succeeded.
#[derive(Clone, Debug)]
pub(crate) struct Success<R, Q> {
    pub(crate) request: R,
    /// Of a write: what asks whether it is there.
    pub(crate) question: Option<Q>,
    /// The record that it writes.
    pub(crate) record: Option<Cid>,
}

impl<R, Q> Kept<R, Q> {
    fn latest(&self) -> MutexGuard<'_, Option<Seen<R, Q>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        Moment {
            at: Instant::now(),
            deleted: self.deleted.load(Ordering::SeqCst),
        }
    }

    /// A request has succeeded that left at this moment or later.
    fn put(&self, success: Success<R, Q>, left: Moment) {
        let mut latest = self.latest();
        // A delete counts itself before it looks at the mark.
        let marked = success.record.as_ref().map_or(0, mark);
        self.mark.store(marked, Ordering::SeqCst);
        let is_told = self.deleted.load(Ordering::SeqCst) == left.deleted;
        *latest = Some(Seen {
            success: Arc::new(success),
            at: is_told.then_some(left.at),
        });
    }

    /// This record is about to be deleted, so that it must not be written again.
    pub(crate) fn forget_it(&self, record: &Cid) {
        self.deleted.fetch_add(1, Ordering::SeqCst);
        if self.mark.load(Ordering::SeqCst) == mark(record) {
            self.latest()
                .take_if(|seen| seen.success.record.as_ref() == Some(record));
        }
    }

    /// It is not there, or is refused.
    fn drop_it(&self, success: &Arc<Success<R, Q>>) {
        self.latest()
            .take_if(|seen| Arc::ptr_eq(&seen.success, success));
    }

    /// It is there: a request shows it that left at `at`.
    fn seen(&self, success: &Arc<Success<R, Q>>, at: Instant) {
        if let Some(seen) = &mut *self.latest()
            && Arc::ptr_eq(&seen.success, success)
        {
            seen.at = Some(at);
        }
    }
}

fn mark(record: &Cid) -> u64 {
    record.beginning() | 1
}

/// What was sent, when, and what keeps deletes away meanwhile.
type Sent<R, Q> = (Arc<Success<R, Q>>, Instant, Option<Canaries>);

/// The canary as one adapter uses it.
#[derive(Debug)]
pub(crate) struct Canary<R, Q> {
    kept: Arc<Kept<R, Q>>,
    /// Of writes: what keeps them and deletes apart.
    apart: Option<Arc<Apart>>,
    /// Whether the server has failed at an item since it was last sent.
    is_wanted: bool,
    /// What was sent last and when, until its answer.
    sent: Option<Sent<R, Q>>,
    /// What is looked up now, and since when.
    looked_up: Option<(Arc<Success<R, Q>>, Instant)>,
    /// What a lookup has found that left then: it may be sent once.
    found: Option<(Arc<Success<R, Q>>, Instant)>,
}

impl<R: Clone, Q: Clone> Canary<R, Q> {
    pub(crate) fn new(kept: Arc<Kept<R, Q>>, apart: Option<Arc<Apart>>) -> Self {
        Self {
            kept,
            apart,
            is_wanted: false,
            sent: None,
            looked_up: None,
            found: None,
        }
    }

    /// For a call that is opened now.
    pub(crate) fn now(&self) -> Moment {
        self.kept.now()
    }

    /// This has succeeded, in a call that was opened then.
    pub(crate) fn keep(&mut self, success: Success<R, Q>, left: Moment) {
        self.kept.put(success, left);
    }

    /// Whether there is one.
    pub(crate) fn is_known(&self) -> bool {
        self.kept.latest().is_some()
    }

    /// Whether there is one that deletes do not keep from being sent.
    pub(crate) fn may_tell(&self) -> bool {
        let is_deleting = self.apart.as_ref().is_some_and(|apart| apart.is_deleting());
        self.is_known() && !is_deleting
    }

    /// The server has failed at an item.
    pub(crate) fn item_failed(&mut self) {
        self.is_wanted = true;
    }

    /// What is to be sent, and whether it is known to be there.
    fn wanted(&self) -> Option<(Arc<Success<R, Q>>, bool)> {
        if !self.is_wanted {
            return None;
        }
        let latest = self.kept.latest();
        let Seen { success, at } = latest.as_ref()?;
        let found = self.found.as_ref();
        let is_there = success.question.is_none()
            || at.is_some_and(|at| at.elapsed() <= SEEN)
            || found
                .is_some_and(|(found, at)| Arc::ptr_eq(found, success) && at.elapsed() <= FRESH);
        Some((Arc::clone(success), is_there))
    }

    /// Whether it has to be looked up before it is sent.
    pub(crate) fn is_to_be_looked_up(&self) -> bool {
        self.wanted().is_some_and(|(_, is_there)| !is_there)
    }

    /// What asks for it, if it has to be looked up. It is looked up then.
    pub(crate) fn look_up(&mut self) -> Option<Q> {
        let (success, is_there) = self.wanted()?;
        let question = success.question.clone().filter(|_| !is_there)?;
        self.looked_up = Some((success, Instant::now()));
        Some(question)
    }

    /// The lookup has answered, and that may be to this question or not.
    pub(crate) fn looked_up(&mut self, is_answered: impl FnOnce(&Q) -> bool) {
        if let Some((success, at)) = self.looked_up.take() {
            if success.question.as_ref().is_some_and(is_answered) {
                self.kept.seen(&success, at);
                self.found = Some((success, at));
            } else {
                self.kept.drop_it(&success);
            }
        }
    }

    /// The lookup says that it is not there.
    pub(crate) fn not_found(&mut self) {
        self.looked_up(|_| false);
    }

    /// The call that looks up is over. What it did not find out is not found out this time.
    pub(crate) fn look_up_ended(&mut self) {
        if self.looked_up.take().is_some() {
            self.is_wanted = false;
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.wanted().is_some_and(|(_, is_there)| is_there)
    }

    /// The request to be sent, once for each time that an item has failed.
    pub(crate) fn take(&mut self) -> Option<R> {
        // From here on no delete begins.
        let apart = match &self.apart {
            Some(apart) => Some(apart.canary()?),
            None => None,
        };
        let (success, _) = self.wanted().filter(|(_, is_there)| *is_there)?;
        self.is_wanted = false;
        self.found = None;
        let request = success.request.clone();
        self.sent = Some((success, Instant::now(), apart));
        Some(request)
    }

    /// Whether it was sent, and what became of that is not told yet.
    pub(crate) fn is_under_way(&self) -> bool {
        self.sent.is_some()
    }

    /// Its call is over, whatever became of it.
    pub(crate) fn is_over(&mut self) {
        self.sent = None;
    }

    /// It has succeeded again.
    pub(crate) fn succeeded(&mut self) {
        if let Some((success, at, _)) = self.sent.take() {
            self.kept.seen(&success, at);
        }
    }

    /// It is refused: it tells nothing any more.
    pub(crate) fn refused(&mut self) {
        if let Some((success, ..)) = self.sent.take() {
            self.kept.drop_it(&success);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::time::advance;

    use super::*;

    fn cid(text: &str) -> Cid {
        Cid::from_digest([text.len() as u8; 32])
    }

    fn success(request: &'static str, key: Option<Cid>) -> Success<&'static str, Cid> {
        Success {
            request,
            question: key,
            record: key,
        }
    }

    /// One that is wanted.
    fn canary() -> (Canary<&'static str, Cid>, Cid) {
        let mut canary = Canary::new(Arc::default(), Some(Arc::default()));
        let key = cid("a");
        let left = canary.now();
        canary.keep(success("a", Some(key)), left);
        assert_eq!(canary.take(), None, "nothing has failed");
        canary.item_failed();
        (canary, key)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_sent_once_for_each_failure() {
        let (mut canary, _) = canary();
        canary.item_failed();
        assert_eq!(canary.take(), Some("a"));
        assert_eq!(canary.take(), None);
        canary.succeeded();
        canary.item_failed();
        assert_eq!(canary.take(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_sent_while_the_client_deletes() {
        let (mut canary, _) = canary();
        let apart = canary.apart.clone().unwrap();
        let deletes = apart.delete();
        assert_eq!(canary.take(), None);
        assert!(canary.is_known() && !canary.may_tell());
        drop(deletes);
        assert_eq!(canary.take(), Some("a"));
        let deletes = apart.delete();
        assert!(!deletes.may_begin());
        canary.is_over();
        assert!(deletes.may_begin());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_seen_for_a_while_is_looked_up_first() {
        let (mut canary, key) = canary();
        advance(2 * SEEN).await;
        assert_eq!(canary.take(), None);
        assert_eq!(canary.look_up(), Some(key));
        canary.looked_up(|asked| *asked == key);
        canary.look_up_ended();
        // Its call may have to wait.
        advance(FRESH).await;
        assert_eq!(canary.take(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_late_shows_nothing_of_now() {
        let mut canary = Canary::new(Arc::default(), Some(Arc::default()));
        let (left, key) = (canary.now(), cid("a"));
        advance(2 * FRESH).await;
        canary.keep(success("a", Some(key)), left);
        canary.item_failed();
        assert_eq!(canary.take(), None);
        canary.look_up().unwrap();
        advance(2 * FRESH).await;
        canary.looked_up(|asked| *asked == key);
        assert_eq!(canary.take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_deleted_before_its_answer_was_read_is_looked_up() {
        let mut canary = Canary::new(Arc::default(), Some(Arc::default()));
        let (left, key) = (canary.now(), cid("a"));
        canary.kept.forget_it(&key);
        canary.keep(success("a", Some(key)), left);
        canary.item_failed();
        assert_eq!(canary.take(), None);
        assert_eq!(canary.look_up(), Some(key));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_not_written_again() {
        let (mut canary, _) = canary();
        advance(2 * SEEN).await;
        canary.look_up().unwrap();
        canary.not_found();
        assert!(!canary.is_known());
        assert_eq!(canary.take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_fails_leaves_it_at_rest() {
        let (mut canary, _) = canary();
        advance(2 * SEEN).await;
        canary.look_up().unwrap();
        canary.look_up_ended();
        assert!(!canary.is_to_be_looked_up() && !canary.is_ready());
        canary.item_failed();
        assert!(canary.is_to_be_looked_up(), "the next failure tries again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_of_one_says_nothing_of_the_next() {
        let (mut canary, key) = canary();
        advance(2 * SEEN).await;
        canary.look_up().unwrap();
        let left = canary.now();
        canary.keep(success("bb", Some(cid("bb"))), left);
        canary.not_found();
        assert!(canary.is_known());
        advance(2 * SEEN).await;
        canary.looked_up(|asked| *asked == key);
        assert_eq!(canary.take(), None, "nobody has looked that up");
    }

    #[tokio::test(start_paused = true)]
    async fn all_adapters_of_a_client_have_the_same_and_a_delete_takes_it() {
        let (canary, key) = canary();
        let mut other = Canary::new(Arc::clone(&canary.kept), canary.apart.clone());
        other.item_failed();
        assert!(other.is_ready());
        canary.kept.forget_it(&cid("another"));
        assert!(other.is_ready());
        canary.kept.forget_it(&key);
        assert!(!other.is_ready() && !other.is_known());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_is_repeated_without_a_lookup() {
        let mut canary = Canary::new(Arc::default(), None);
        let left = canary.now();
        canary.keep(success("a ref", None), left);
        advance(100 * FRESH).await;
        canary.item_failed();
        assert_eq!(canary.take(), Some("a ref"));
        canary.refused();
        canary.item_failed();
        assert_eq!(canary.take(), None);
    }
}
