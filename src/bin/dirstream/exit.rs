//! How the process ends.

use std::io;
use std::process::ExitCode;

use agntcy_dir_stream::{Error, ErrorKind};

use crate::say::say;

/// What a command came to. The codes are documented in `--help`, and stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Well = 0,
    SomeFailed = 1,
    NothingDone = 2,
    ServerAway = 3,
    Interrupted = 130,
    /// As for a process that SIGPIPE has ended.
    OutputClosed = 141,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Whether a failure of this kind says that the server was away.
pub(crate) fn is_server_away(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unavailable
            | ErrorKind::CircuitOpen
            | ErrorKind::NotSent
            | ErrorKind::OutcomeUnknown
    )
}

/// Says in one line why it ends.
pub(crate) fn because_of(error: &anyhow::Error) {
    let mut words = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Some errors say in their own words what is behind them.
        if words.contains(&cause) {
            continue;
        }
        if !words.is_empty() {
            words.push_str(": ");
        }
        words.push_str(&cause);
    }
    if cfg!(unix) && words.contains("(os error 24)") {
        words.push_str("; `ulimit -n` says how many files it may open");
    }
    say!("dirstream: {words}");
}

/// Whether it is that the server is away.
pub(crate) fn says_server_away(error: &anyhow::Error) -> bool {
    let kind = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Error>());
    kind.is_some_and(|error| is_server_away(error.kind()))
}

/// Whether it is that a list was not told to its end.
pub(crate) fn says_incomplete(error: &anyhow::Error) -> bool {
    let kind = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Error>());
    kind.is_some_and(|error| error.kind() == ErrorKind::Incomplete)
}

/// Whether it is that nobody reads what is written.
pub(crate) fn says_output_closed(error: &anyhow::Error) -> bool {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
