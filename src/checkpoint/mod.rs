//! Where a later run goes on: a file that follows an adapter, and survives `kill -9`.
//!
//! ```
//! use agntcy_dir_stream::checkpoint::{self, Checkpoint};
//! use agntcy_dir_stream::prelude::*;
//! use futures::{StreamExt, stream};
//!
//! # #[cfg(feature = "server")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = agntcy_dir_stream::server::Store::new().client();
//! # let folder = std::env::temp_dir().join(format!("checkpoint-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let input = folder.join("records.ndjson");
//! # std::fs::write(&input, "{\"name\": \"a\", \"schema_version\": \"1.0.0\"}\n")?;
//! # let file = folder.join("import.checkpoint");
//! let checkpoint = Checkpoint::open(file, &checkpoint::fingerprint(&input)?)?;
//! let text = std::fs::read_to_string(input)?;
//! let records = text.lines().map(Record::from_json).collect::<Result<Vec<_>, _>>()?;
//! let mut results = stream::iter(records).push_to(&client).resume_from(&checkpoint);
//! while let Some(result) = results.next().await {
//!     if let Err(failed) = result {
//!         eprintln!("{failed}");
//!     }
//! }
//! checkpoint.save()?;
//! assert_eq!(checkpoint.done(), 1);
//! # checkpoint.remove()?;
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok(())
//! # }
//! # #[cfg(feature = "server")]
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```
//!
//! # What it counts
//!
//! The [`done`](Checkpoint::done) items are the first ones of the input, all of which have been answered: stored,
//! refused, or settled in another way, as in [`Stats::answered_below`](crate::Stats::answered_below). An item that
//! fails without an answer holds it, so that a later run has that item again, and all behind it.
//!
//! A result counts once the next one is asked for, or when the stream has ended. So a consumer that fails at a result,
//! and drops the adapter for that, has the item again. If you buffer results, or work on several at once, those that
//! were in your hands when the process ended are not repeated. A stage behind the adapter does that: so of several
//! adapters in a row, the last one follows the checkpoint, and no stage between them may leave items out: failures go on by
//! the `try_` methods.
//!
//! # What is kept
//!
//! Whenever the process is killed, nothing is left out that has no answer, and at most a window
//! ([`Options::window`](crate::Options::window)) of items is carried out again: before an item is taken that would be
//! further from what the file says, the file is written. A push of what is stored already does no harm, nor does a
//! delete of what is gone. For that, results out of order ([`Options::unordered`](crate::Options::unordered)) run ahead
//! by one window, too: an item that waits for another try stops the input when a window of items is behind it. Behind
//! an item that failed without an answer the bound is void.
//!
//! The input must be the same in each run, in the same order, from its beginning: the adapter takes what is done from
//! it, and drops it.
//!
//! # On disk
//!
//! A write takes some microseconds: it goes to the system's cache, which outlives the process. It is made in the task
//! of the adapter, once for half a window or more if results come in batches, and for each item at worst. A thread has
//! the disk follow (`fdatasync`), for the case that the machine goes down: at most once a second, so what was answered
//! in the last second may be carried out again then. The thread lives as long as the checkpoint.
//!
//! The file is text of 1024 bytes: two lines of 512, each with a number, written in turn. The valid one with the higher
//! number counts, so a write that is cut short leaves the one before. `cat` shows, but for the spaces:
//!
//! ```text
//! agntcy-dir-stream checkpoint 1, write 16, done 8192, of "records.ndjson", sha256 5c…
//! agntcy-dir-stream checkpoint 1, write 17, done 8704, of "records.ndjson", sha256 e1…
//! ```
//!
//! It is locked as long as it is open, so that two processes do not use it at once. It should be on a local disk: how
//! locks and caches behave on a network's is up to that.

mod disk;
mod fingerprint;
mod line;
mod run;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use self::disk::Disk;
pub use self::fingerprint::fingerprint;
use self::line::MAX_IDENTITY_LEN;
use self::run::Followed;
pub(crate) use self::run::Run;

/// The resume point of a run, in a file: see the [module](self).
/// [`Adapter::resume_from`](crate::Adapter::resume_from) has an adapter begin there, and move it.
///
/// One adapter at a time follows it. When that has ended, or was dropped, another may.
#[must_use = "it is there for an adapter to follow"]
pub struct Checkpoint(Arc<Followed>);

impl Checkpoint {
    /// Opens the checkpoint in this file; creates it if it is not there, with nothing done. An empty file is taken as
    /// new.
    ///
    /// `identity` says what the input is, so that a run does not go on in the middle of another input. For a file,
    /// [`fingerprint`] is one. It is text of 1 to 256 bytes, without control characters.
    ///
    /// It blocks: a file that is created is brought to the disk.
    ///
    /// ```
    /// use agntcy_dir_stream::Checkpoint;
    ///
    /// # let path = std::env::temp_dir().join(format!("opened-{}", std::process::id()));
    /// let checkpoint = Checkpoint::open(&path, "agents of November")?;
    /// assert_eq!(checkpoint.done(), 0);
    /// drop(checkpoint);
    ///
    /// let error = Checkpoint::open(&path, "agents of December").unwrap_err();
    /// assert!(error.to_string().ends_with(r#"it is of "agents of November", and not of "agents of December""#));
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<_, std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): it is of another identity, or `identity` is no such text.
    /// - [`InvalidData`](io::ErrorKind::InvalidData): the file is no checkpoint, or both of its lines are damaged. It
    ///   is left as it is.
    /// - [`ResourceBusy`](io::ErrorKind::ResourceBusy): it is open already, in this process or in another.
    /// - Those of the system: the folder is not there, the file may not be written, it cannot be locked.
    pub fn open(path: impl AsRef<Path>, identity: &str) -> io::Result<Self> {
        let path = path.as_ref();
        if !line::is_identity(identity) {
            let what = format!(
                "an identity is text of 1 to {MAX_IDENTITY_LEN} bytes without control characters: {identity:?}"
            );
            return Err(disk::error(path, io::ErrorKind::InvalidInput, &what));
        }
        let (disk, last) = Disk::open(path, identity)?;
        Ok(Self(Followed::new(disk, last)))
    }

    /// How many items of the input are done, the first ones. It moves while an adapter follows.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.0.done()
    }

    /// Brings it to the disk now. It blocks as long as that takes. While an adapter follows, that is what is done so
    /// far.
    ///
    /// # Errors
    ///
    /// The first error of the disk since the last time, also where a later write has succeeded: an adapter goes on
    /// without its checkpoint. Meanwhile more than a window may be carried out again.
    pub fn save(&self) -> io::Result<()> {
        self.0.save()
    }

    /// Nothing is done: the next run begins with the first item. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) while an adapter follows it, and then nothing has changed; and
    /// those of the disk.
    pub fn restart(&self) -> io::Result<()> {
        self.0.restart()
    }

    /// Removes the file, as when all is done.
    ///
    /// # Errors
    ///
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) while an adapter follows it, and then the file stays; and those of
    /// the disk.
    pub fn remove(self) -> io::Result<()> {
        self.0.remove()
    }

    /// For an adapter that follows it. An error if another does.
    pub(crate) fn follow(&self) -> io::Result<Run> {
        self.0.run()
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("path", &self.0.path())
            .field("identity", &self.0.identity())
            .field("done", &self.done())
            .finish_non_exhaustive()
    }
}
