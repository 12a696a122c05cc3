//! The canary: an item that has succeeded, asked for once more where nothing else tells an outage
//! from records that are at fault themselves.
//!
//! If it succeeds again the server does its work, so what it failed at is at fault. Asking costs one
//! request, and changes nothing: it is a read, or a push of a record that is stored. If that was last
//! seen to be there more than a second ago it is looked up, since somebody may have deleted it
//! meanwhile, and it must not come back. There is none for a delete.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::cid::Cid;

/// How long a record that was seen to be there is taken to be there still.
const SEEN: Duration = Duration::from_secs(1);

/// What has succeeded last of one method, for all adapters of a client.
#[derive(Debug)]
pub(crate) struct Kept<R> {
    latest: Mutex<Option<Seen<R>>>,
    /// Tells most other keys from that of the latest without a lock; 0 if it has none.
    mark: AtomicU64,
}

impl<R> Default for Kept<R> {
    fn default() -> Self {
        Self {
            latest: Mutex::new(None),
            mark: AtomicU64::new(0),
        }
    }
}

#[derive(Debug)]
struct Seen<R> {
    success: Arc<Success<R>>,
    /// When it was last seen to be there.
    at: Instant,
}

#[derive(Debug)]
struct Success<R> {
    request: R,
    /// Of a write: where it is looked up.
    key: Option<Cid>,
}

impl<R> Kept<R> {
    fn latest(&self) -> MutexGuard<'_, Option<Seen<R>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, request: R, key: Option<Cid>) {
        let success = Arc::new(Success { request, key });
        let at = Instant::now();
        let mut latest = self.latest();
        *latest = Some(Seen { success, at });
        self.mark
            .store(key.as_ref().map_or(0, mark), Ordering::Release);
    }

    /// This is about to be deleted, so that it must not be written again.
    pub(crate) fn forget(&self, key: &Cid) {
        if self.mark.load(Ordering::Acquire) == mark(key) {
            self.latest()
                .take_if(|seen| seen.success.key.as_ref() == Some(key));
        }
    }

    /// It is not there, or is refused.
    fn drop_it(&self, success: &Arc<Success<R>>) {
        self.latest()
            .take_if(|seen| Arc::ptr_eq(&seen.success, success));
    }

    /// It is there.
    fn seen(&self, success: &Arc<Success<R>>) {
        if let Some(seen) = &mut *self.latest()
            && Arc::ptr_eq(&seen.success, success)
        {
            seen.at = Instant::now();
        }
    }
}

fn mark(key: &Cid) -> u64 {
    key.beginning() | 1
}

/// The canary as one adapter uses it.
#[derive(Debug)]
pub(super) struct Canary<R> {
    kept: Arc<Kept<R>>,
    /// Whether the server has failed at an item since it was last sent.
    is_wanted: bool,
    /// What was sent last, until its answer.
    sent: Option<Arc<Success<R>>>,
    /// What is looked up now.
    looked_up: Option<Arc<Success<R>>>,
    /// What a lookup has found: it may be sent once.
    found: Option<Arc<Success<R>>>,
}

impl<R: Clone> Canary<R> {
    pub(super) fn new(kept: Arc<Kept<R>>) -> Self {
        Self {
            kept,
            is_wanted: false,
            sent: None,
            looked_up: None,
            found: None,
        }
    }

    /// This has succeeded.
    pub(super) fn keep(&mut self, request: R, key: Option<Cid>) {
        self.kept.put(request, key);
        self.is_wanted = false;
    }

    /// Whether there is one.
    pub(super) fn is_known(&self) -> bool {
        self.kept.latest().is_some()
    }

    /// The server has failed at an item.
    pub(super) fn item_failed(&mut self) {
        self.is_wanted = true;
    }

    /// What is to be sent, and whether it is known to be there.
    fn wanted(&self) -> Option<(Arc<Success<R>>, bool)> {
        if !self.is_wanted {
            return None;
        }
        let latest = self.kept.latest();
        let Seen { success, at } = latest.as_ref()?;
        let was_found = self.found.as_ref();
        let is_there = success.key.is_none()
            || at.elapsed() <= SEEN
            || was_found.is_some_and(|found| Arc::ptr_eq(found, success));
        Some((Arc::clone(success), is_there))
    }

    /// Whether it has to be looked up before it is sent.
    pub(super) fn is_to_be_looked_up(&self) -> bool {
        self.wanted().is_some_and(|(_, is_there)| !is_there)
    }

    /// Where to look it up, if it has to be. It is looked up then.
    pub(super) fn look_up(&mut self) -> Option<Cid> {
        let (success, is_there) = self.wanted()?;
        let key = success.key.filter(|_| !is_there)?;
        self.looked_up = Some(success);
        Some(key)
    }

    /// The lookup has answered: the record of this key is there.
    pub(super) fn looked_up(&mut self, key: Option<Cid>) {
        if let Some(success) = self.looked_up.take() {
            if success.key == key {
                self.kept.seen(&success);
                self.found = Some(success);
            } else {
                self.kept.drop_it(&success);
            }
        }
    }

    /// The lookup says that it is not there.
    pub(super) fn not_found(&mut self) {
        self.looked_up(None);
    }

    /// The call that looks up is over. What it did not find out is not found out this time.
    pub(super) fn look_up_ended(&mut self) {
        if self.looked_up.take().is_some() {
            self.is_wanted = false;
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.wanted().is_some_and(|(_, is_there)| is_there)
    }

    /// The request to be sent, once for each time that an item has failed.
    pub(super) fn take(&mut self) -> Option<R> {
        let (success, _) = self.wanted().filter(|(_, is_there)| *is_there)?;
        self.is_wanted = false;
        self.found = None;
        let request = success.request.clone();
        self.sent = Some(success);
        Some(request)
    }

    /// It has succeeded again.
    pub(super) fn succeeded(&mut self) {
        if let Some(success) = self.sent.take() {
            self.kept.seen(&success);
        }
    }

    /// It is refused: it tells nothing any more.
    pub(super) fn refused(&mut self) {
        if let Some(success) = self.sent.take() {
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

    fn canary() -> (Canary<&'static str>, Cid) {
        let mut canary = Canary::new(Arc::default());
        let key = cid("a");
        canary.keep("a", Some(key));
        (canary, key)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_sent_once_for_each_failure() {
        let (mut canary, _) = canary();
        assert_eq!(canary.take(), None, "nothing has failed");
        canary.item_failed();
        canary.item_failed();
        assert_eq!(canary.take(), Some("a"));
        assert_eq!(canary.take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_seen_for_a_while_is_looked_up_first() {
        let (mut canary, key) = canary();
        canary.item_failed();
        advance(2 * SEEN).await;
        assert_eq!(canary.take(), None);
        assert_eq!(canary.look_up(), Some(key));
        canary.looked_up(Some(key));
        canary.look_up_ended();
        // Its call may have to wait.
        advance(2 * SEEN).await;
        assert_eq!(canary.take(), Some("a"));
        canary.succeeded();
        canary.item_failed();
        assert!(canary.is_ready(), "its success has shown that it is there");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_not_written_again() {
        let (mut canary, _) = canary();
        canary.item_failed();
        advance(2 * SEEN).await;
        canary.look_up().unwrap();
        canary.not_found();
        assert!(!canary.is_known());
        assert_eq!(canary.take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_fails_leaves_it_at_rest() {
        let (mut canary, _) = canary();
        canary.item_failed();
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
        canary.item_failed();
        advance(2 * SEEN).await;
        canary.look_up().unwrap();
        canary.kept.put("b", Some(cid("bb")));
        canary.not_found();
        assert!(canary.is_known());
        assert_eq!(canary.take(), Some("b"), "it was seen just now");
        canary.item_failed();
        advance(2 * SEEN).await;
        canary.looked_up(Some(key));
        assert_eq!(canary.take(), None, "nobody has looked that up");
    }

    #[tokio::test(start_paused = true)]
    async fn all_adapters_of_a_client_have_the_same_and_a_delete_takes_it() {
        let (canary, key) = canary();
        let mut other = Canary::new(Arc::clone(&canary.kept));
        other.item_failed();
        assert!(other.is_ready());
        canary.kept.forget(&cid("another"));
        assert!(other.is_ready());
        canary.kept.forget(&key);
        assert!(!other.is_ready() && !other.is_known());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_is_repeated_without_a_lookup() {
        let mut canary = Canary::new(Arc::default());
        canary.keep("a ref", None);
        advance(100 * SEEN).await;
        canary.item_failed();
        assert_eq!(canary.take(), Some("a ref"));
        canary.refused();
        canary.item_failed();
        assert_eq!(canary.take(), None);
    }
}
