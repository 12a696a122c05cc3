//! Reading files, which may hang: one reads at a time, for all who ask.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::connection::OUTSIDE;

/// What a thread reads that may block. Whoever asks while it does so waits for the same, also if all who asked before have
/// given up: files of a server that is away hold one thread, and not one more with each call that is tried.
#[derive(Debug)]
pub(super) struct Reading<T>(Arc<Mutex<Option<UnderWay<T>>>>);

type UnderWay<T> = watch::Receiver<Option<T>>;

impl<T> Clone for Reading<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Reading<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Reading<T> {
    /// What `read` gives, or what is being read already.
    ///
    /// # Errors
    ///
    /// This is outside of a runtime, or the runtime whose thread has read it has ended.
    pub(super) async fn share(&self, read: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let mut under_way = self.under_way(read)?;
        let read = under_way.wait_for(Option::is_some).await;
        read.ok()
            .and_then(|read| read.clone())
            .ok_or_else(|| io::Error::other("the thread that read it has ended"))
    }

    fn under_way(&self, read: impl FnOnce() -> T + Send + 'static) -> io::Result<UnderWay<T>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_under_way =
            |last: &&UnderWay<T>| last.borrow().is_none() && last.has_changed().is_ok();
        if let Some(under_way) = last.as_ref().filter(is_under_way) {
            return Ok(under_way.clone());
        }
        let runtime = Handle::try_current().map_err(|_| io::Error::other(OUTSIDE))?;
        let (tell, told) = watch::channel(None);
        runtime.spawn_blocking(move || tell.send_replace(Some(read())));
        Ok(last.insert(told).clone())
    }
}
