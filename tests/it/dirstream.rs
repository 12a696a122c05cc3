//! The bulk tool, as a process of its own, against the embedded store.

mod ends;
mod files;
mod mirror;
mod refs;
mod stages;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;

use agntcy_dir_stream::server::{Serving, Store};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::support::clock::soon;
use crate::support::folder::Folder;
use crate::support::records::{nameless, record};
use crate::support::stores::listen;

/// The tool in a folder of its own, with a store to work on.
pub(crate) struct Tool {
    folder: Folder,
    store: Store,
    serving: Serving,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// The lines of results.
    fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}"));
        self.out.lines().map(parse).collect()
    }

    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    fn says(self, words: &str) -> Self {
        assert!(self.err.contains(words), "{words:?} is not in {self:?}");
        self
    }
}

impl Tool {
    async fn over(name: &str, store: Store) -> Self {
        let serving = listen(&store).await;
        Self {
            folder: Folder::new(&format!("dirstream-{name}")),
            store,
            serving,
        }
    }

    async fn new(name: &str) -> Self {
        Self::over(name, Store::new()).await
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirstream"));
        command
            .args(arguments)
            .current_dir(self.folder.path(""))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts a command that takes a server.
    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.args(["--server", &self.serving.url()]);
        command.spawn().unwrap()
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        ended(self.start(arguments)).await
    }

    /// Runs it with this on its standard input.
    async fn fed(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Ran {
        let mut command = self.command(arguments);
        command.args(["--server", &self.serving.url()]);
        let mut process = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        let write = async move {
            let _ = stdin.write_all(input.as_ref()).await;
        };
        let (ran, ()) = tokio::join!(ended(process), write);
        ran
    }

    /// A file with the records of these numbers, a line each.
    fn ndjson(&self, name: &str, numbers: impl IntoIterator<Item = usize>) -> PathBuf {
        let lines = numbers
            .into_iter()
            .map(|number| format!("{}\n", record(number)));
        self.folder.write(name, lines.collect::<String>())
    }
}

async fn ended(process: Child) -> Ran {
    let ended = soon(process.wait_with_output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code: ended.status.code(),
        out: text(ended.stdout),
        err: text(ended.stderr),
    }
}

/// 300 lines: 30 that the server refuses, and 6 without a schema version.
fn three_hundred() -> String {
    let line = |number: usize| match number {
        number if number % 10 == 4 => format!("{}\n", nameless(number)),
        17 | 67 | 117 | 167 | 217 | 267 => format!("{{\"name\": \"agent-{number}\"}}\n"),
        number => format!("{}\n", record(number)),
    };
    (0..300).map(line).collect()
}
