//! The file of a checkpoint, with its lock, and the thread that has the disk follow.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::warn;

use super::line::{self, LEN, Line};
use crate::LOG;

/// How long what was written may stay in the system's cache alone.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// A file that is open and locked.
pub(super) struct Disk {
    file: File,
    path: PathBuf,
    state: Mutex<State>,
    /// There is something for the thread to do.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether something was written that may not be on the disk.
    is_new: bool,
    is_over: bool,
    /// The first error since the last time that anyone asked.
    error: Option<io::Error>,
    is_told: bool,
}

/// An error that names the checkpoint.
pub(super) fn error(path: &Path, kind: io::ErrorKind, what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(kind, format!("checkpoint {}: {what}", path.display()))
}

impl Disk {
    /// Opens the file and locks it, makes it one of this identity if it is new, and gives the line that counts.
    pub(super) fn open(path: &Path, identity: &str) -> io::Result<(Arc<Self>, Line)> {
        let named = |cause: io::Error| error(path, cause.kind(), &cause);
        let file = lock(path).map_err(named)?;
        let last = read(&file, path)?;
        let last = match last {
            Some(last) if last.identity == identity => last,
            Some(last) => {
                let what = format!("it is of {:?}, and not of {identity:?}", last.identity);
                return Err(error(path, io::ErrorKind::InvalidInput, &what));
            }
            None => begin(&file, path, identity).map_err(named)?,
        };
        let disk = Self::new(file, path);
        disk.spawn().map_err(named)?;
        Ok((disk, last))
    }

    pub(super) fn new(file: File, path: &Path) -> Arc<Self> {
        Arc::new(Self {
            file,
            path: path.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line in its place. An error is kept. Returns whether there was none.
    pub(super) fn write(&self, number: u64, done: u64, identity: &str) -> bool {
        let written = write_at(
            &self.file,
            &line::encode(number, done, identity),
            place(number),
        );
        if let Err(cause) = written {
            self.failed(&cause);
            return false;
        }
        let mut state = self.lock();
        // Each notice is a call of the system, so there is one for each time that the thread is to wake.
        if !std::mem::replace(&mut state.is_new, true) {
            drop(state);
            self.changed.notify_one();
        }
        true
    }

    /// Brings what was written to the disk. An error is kept.
    pub(super) fn sync(&self) {
        self.lock().is_new = false;
        if let Err(cause) = self.file.sync_data() {
            self.failed(&cause);
        }
    }

    fn failed(&self, cause: &io::Error) {
        let cause = error(&self.path, cause.kind(), cause);
        let mut state = self.lock();
        let is_told = std::mem::replace(&mut state.is_told, true);
        let words = (!is_told).then(|| cause.to_string());
        state.error.get_or_insert(cause);
        drop(state);
        if let Some(error) = words {
            warn!(target: LOG, %error, "the checkpoint cannot be written: the stream goes on without it");
        }
    }

    #[cfg(test)]
    pub(super) fn is_new(&self) -> bool {
        self.lock().is_new
    }

    /// The first error since the last time.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.lock().error.take()
    }

    /// Others may open the file.
    pub(super) fn close(&self) {
        self.lock().is_over = true;
        self.changed.notify_one();
        // The thread may have the file for a while.
        let _ = self.file.unlock();
    }

    fn spawn(self: &Arc<Self>) -> io::Result<()> {
        let disk = Arc::clone(self);
        thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || disk.follow())?;
        Ok(())
    }

    /// Syncs what is new, until it is over.
    fn follow(&self) {
        let mut state = self.lock();
        loop {
            let waited = self
                .changed
                .wait_while(state, |state| !state.is_new && !state.is_over);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            if !state.is_new {
                return;
            }
            drop(state);
            self.sync();
            let waited = self
                .changed
                .wait_timeout_while(self.lock(), SYNC_EVERY, |state| !state.is_over);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Where the line of this number stands.
fn place(number: u64) -> u64 {
    number % 2 * LEN as u64
}

/// Opens the file, which is created if it is not there, and has it for itself.
fn lock(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "it is in use already, here or by another process",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever had it may have removed it meanwhile.
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;

    let id = |data: std::fs::Metadata| (data.dev(), data.ino());
    match std::fs::metadata(path) {
        Ok(there) => Ok(id(there) == id(file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

/// The line that counts; `None` if the file is empty.
fn read(file: &File, path: &Path) -> io::Result<Option<Line>> {
    let mut bytes = Vec::with_capacity(2 * LEN + 1);
    let read = file.take(2 * LEN as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|cause| error(path, cause.kind(), &cause))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let lines = bytes.chunks(LEN).filter_map(line::decode);
    match lines.max_by_key(|line| line.number) {
        Some(line) if bytes.len() <= 2 * LEN => Ok(Some(line)),
        _ => {
            let what = "the file is no checkpoint, or it is damaged; it is left as it is";
            Err(error(path, io::ErrorKind::InvalidData, &what))
        }
    }
}

/// Makes an empty file a checkpoint, on the disk. Returns the line that counts.
fn begin(file: &File, path: &Path, identity: &str) -> io::Result<Line> {
    let both = [0, 1].map(|number| line::encode(number, 0, identity));
    write_at(file, both.as_flattened(), 0)?;
    file.sync_all()?;
    sync_folder(path)?;
    Ok(Line {
        number: 1,
        done: 0,
        identity: identity.to_owned(),
    })
}

/// That a file is there is said by its folder.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], place: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, place)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], place: u64) -> io::Result<()> {
    use std::io::{Seek as _, SeekFrom, Write as _};

    file.seek(SeekFrom::Start(place))?;
    file.write_all(bytes)
}
