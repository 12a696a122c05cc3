//! Files that hang when they are read, and the threads that hang with them.

use std::path::Path;
use std::process::Command;

use tokio::runtime::{Builder, Runtime};

/// Makes a named pipe: who reads it hangs until somebody writes to it.
pub(crate) fn make_pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success(), "mkfifo {}", path.display());
}

/// Runs a case in a runtime with so many threads for what blocks.
pub(crate) fn with_blocking_threads<F: Future>(count: usize, case: F) -> F::Output {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(count)
        .build()
        .unwrap();
    LeftAlone(Some(runtime)).0.as_ref().unwrap().block_on(case)
}

/// Dropped, a runtime waits for its threads: a case that fails would hang with those that do.
struct LeftAlone(Option<Runtime>);

impl Drop for LeftAlone {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
