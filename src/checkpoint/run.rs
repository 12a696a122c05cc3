//! A checkpoint and the adapter that follows it: when the file is written.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::disk::{self, Disk};
use super::line::Line;
use crate::LOG;

/// What a checkpoint and its adapter share.
pub(super) struct Followed {
    disk: Arc<Disk>,
    identity: String,
    done: AtomicU64,
    is_followed: AtomicBool,
    written: Mutex<Written>,
}

/// What the file says.
struct Written {
    number: u64,
    done: u64,
    /// Whether the last write has failed, so that the file says something else.
    has_failed: bool,
}

impl Followed {
    pub(super) fn new(disk: Arc<Disk>, last: Line) -> Arc<Self> {
        Arc::new(Self {
            disk,
            identity: last.identity,
            done: AtomicU64::new(last.done),
            is_followed: AtomicBool::new(false),
            written: Mutex::new(Written {
                number: last.number,
                done: last.done,
                has_failed: false,
            }),
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.disk.path()
    }

    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the line that counts.
    #[cfg(test)]
    pub(super) fn written_number(&self) -> u64 {
        self.written().number
    }

    /// Has the file say what is done, and returns that. One that it was not possible to write counts as written, unless
    /// this is to `insist`: the stream goes on, and does not try again for each item.
    fn write(&self, insist: bool) -> u64 {
        let mut written = self.written();
        let done = self.done();
        if done != written.done || insist && written.has_failed {
            written.done = done;
            written.has_failed = !self.disk.write(written.number + 1, done, &self.identity);
            // The line that counts must not be written over after a failure.
            written.number += u64::from(!written.has_failed);
        }
        done
    }

    pub(super) fn save(&self) -> io::Result<()> {
        self.write(true);
        self.disk.sync();
        self.disk.take_error().map_or(Ok(()), Err)
    }

    pub(super) fn restart(self: &Arc<Self>) -> io::Result<()> {
        let _claim = self.claim()?;
        // What went wrong before is no matter any more.
        self.disk.take_error();
        self.done.store(0, Ordering::Relaxed);
        self.save()
    }

    pub(super) fn remove(self: &Arc<Self>) -> io::Result<()> {
        let _claim = self.claim()?;
        let removed = fs::remove_file(self.path());
        removed.map_err(|cause| disk::error(self.path(), cause.kind(), &cause))
    }

    pub(super) fn run(self: &Arc<Self>) -> io::Result<Run> {
        let claim = self.claim()?;
        let begins_at = self.done();
        Ok(Run {
            claim,
            begins_at,
            to_leave_out: begins_at,
            may_take_below: 0,
        })
    }

    fn claim(self: &Arc<Self>) -> io::Result<Claim> {
        if self.is_followed.swap(true, Ordering::Acquire) {
            let kind = io::ErrorKind::ResourceBusy;
            return Err(disk::error(self.path(), kind, &"an adapter follows it"));
        }
        Ok(Claim(Arc::clone(self)))
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.disk.close();
    }
}

/// Keeps others away.
struct Claim(Arc<Followed>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.is_followed.store(false, Ordering::Release);
    }
}

/// The adapter's side. When it is dropped, the file says how far the adapter came.
pub(crate) struct Run {
    claim: Claim,
    begins_at: u64,
    /// How many items of the input are still to be left out.
    to_leave_out: u64,
    /// Below this index, items are no further than a window from what the file says.
    may_take_below: u64,
}

impl Run {
    /// The index of the first item that is not left out.
    pub(crate) fn begins_at(&self) -> u64 {
        self.begins_at
    }

    /// How many items of the input are still to be left out.
    pub(crate) fn to_leave_out(&self) -> u64 {
        self.to_leave_out
    }

    /// An item was left out.
    pub(crate) fn leave_out(&mut self) {
        self.to_leave_out -= 1;
    }

    /// The input has ended, and there were fewer items than are to be left out.
    pub(crate) fn input_is_short(&self) {
        let (checkpoint, done) = (self.claim.0.path().display(), self.begins_at);
        let items = done - self.to_leave_out;
        warn!(target: LOG, %checkpoint, done, items, "the input is shorter than what was done of it before");
    }

    /// Below this index all items have been answered, and their results were taken care of.
    pub(crate) fn answered_below(&self, index: u64) {
        self.claim.0.done.store(index, Ordering::Relaxed);
    }

    /// Whether the item of the index `next` may be taken, while all below `handed_out_below` are out of the window,
    /// which has room for so many items. The file is written if it has to be.
    pub(crate) fn may_take(&mut self, next: u64, handed_out_below: u64, window: usize) -> bool {
        if next < self.may_take_below {
            return true;
        }
        let window = u64::try_from(window).unwrap_or(u64::MAX);
        // Only of results out of order are there more.
        if next - handed_out_below >= window {
            return false;
        }
        // An item without an answer may hold it further behind: no write would help then.
        self.may_take_below = self.claim.0.write(false).saturating_add(window);
        true
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.claim.0.write(true);
    }
}
