//! Lines of this crate's log, of a test's own.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};

use tracing::{Dispatch, Level};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Lines of a log.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    /// What this crate has told so far.
    pub(crate) fn ours(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let ours = text
            .lines()
            .filter(|line| line.contains("agntcy_dir_stream"));
        ours.map(|line| line.trim().to_owned()).collect()
    }
}

/// With a single subscriber, `tracing` asks that of the thread that meets a line of code first whether the line is of
/// interest. In the thread of another test there is none. With others beside it, it asks them all.
pub(crate) fn interest_all_threads() {
    static OTHERS: LazyLock<[Dispatch; 2]> =
        LazyLock::new(|| [(); 2].map(|()| Dispatch::new(tracing_subscriber::registry())));
    LazyLock::force(&OTHERS);
}

/// A subscriber up to this level, and the lines that it is told.
pub(crate) fn log(level: Level) -> (Dispatch, Lines) {
    interest_all_threads();
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_env_filter(format!("agntcy_dir_stream={level}"))
        .with_span_events(FmtSpan::CLOSE)
        .without_time()
        .with_ansi(false)
        .finish();
    (Dispatch::new(subscriber), lines)
}
