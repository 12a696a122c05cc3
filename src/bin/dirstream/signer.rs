//! A program that signs.

use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use agntcy_dir_stream::{Cid, Client, ErrorKind, Pushed, Record, Referrer, ReferrersOf};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::input::{Format, referrer, values};
use crate::outcome::words;

/// How many bytes a program may give. A referrer takes 4 MiB at most.
const MAX_GIVEN: u64 = 64 << 20;

/// How many bytes of what it says on standard error are shown.
const SAID: u64 = 500;

pub(crate) struct Signer {
    command: Arc<str>,
    time: Duration,
    client: Client,
}

/// Why a record is not signed.
#[derive(Debug)]
pub(crate) struct NotSigned {
    pub(crate) kind: ErrorKind,
    message: String,
}

impl fmt::Display for NotSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NotSigned {}

impl From<String> for NotSigned {
    fn from(message: String) -> Self {
        let kind = ErrorKind::Input;
        Self { kind, message }
    }
}

impl Signer {
    pub(crate) fn new(command: &str, seconds: u64, client: &Client) -> Self {
        Self {
            command: command.into(),
            time: Duration::from_secs(seconds),
            client: client.clone(),
        }
    }

    /// What the program makes for this record; nothing, if it has been signed before.
    pub(crate) fn sign<T>(
        &self,
        pushed: &Pushed<T>,
        record: Option<Record>,
    ) -> impl Future<Output = Result<Vec<Referrer>, NotSigned>> + Send + use<T> {
        let (command, time, client) = (Arc::clone(&self.command), self.time, self.client.clone());
        let (cid, was_stored) = (pushed.cid, pushed.already_stored);
        let is_signed_already = pushed.duplicate_of.is_some();
        async move {
            if is_signed_already || was_stored && is_signed(&client, cid).await? {
                return Ok(Vec::new());
            }
            let record = record.map(|record| record.to_json()).transpose();
            let record = record.map_err(|error| words(&error))?.unwrap_or_default();
            let ran = tokio::time::timeout(time, run(&command, cid, record)).await;
            ran.unwrap_or_else(|_| Err(format!("it took longer than {} s", time.as_secs()).into()))
        }
    }
}

async fn is_signed(client: &Client, cid: Cid) -> Result<bool, NotSigned> {
    let signatures = ReferrersOf::new(cid).of_type(Referrer::SIGNATURE);
    match client.pull_referrers(signatures).await {
        Ok(pulled) => Ok(!pulled.referrers.is_empty()),
        Err(failed) if failed.kind() == ErrorKind::NotFound => Ok(false),
        Err(failed) => Err(NotSigned {
            kind: failed.kind(),
            message: format!("whether it is signed: {}", words(&failed.error)),
        }),
    }
}

/// A program with all that it has started: a group of processes, which ends with this.
struct Group(Child);

impl Group {
    fn start(command: &str, cid: Cid) -> std::io::Result<Self> {
        let mut process = Command::new("sh");
        process
            .args(["-c", command])
            .env("DIR_CID", cid.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Ctrl-C is for this program: what is being signed may end.
        #[cfg(unix)]
        process.process_group(0);
        process.spawn().map(Self)
    }

    fn end(&self, #[cfg_attr(not(unix), expect(unused))] group: Option<u32>) {
        #[cfg(unix)]
        if let Some(group) = group.and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Of one that has ended, the id may be somebody else's by now.
        self.end(self.0.id());
    }
}

async fn run(command: &str, cid: Cid, record: String) -> Result<Vec<Referrer>, NotSigned> {
    let mut group = Group::start(command, cid).map_err(|error| format!("sh: {error}"))?;
    let id = group.0.id();
    let (stdin, stdout) = (group.0.stdin.take(), group.0.stdout.take());
    let stderr = group.0.stderr.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // One that does not read its input has closed it.
            let _ = stdin.write_all(record.as_bytes()).await;
        }
    };
    let wait = async {
        let ended = group.0.wait().await;
        // What it has left running may hold its output open. The group is there as long as one of it is.
        group.end(id);
        ended
    };
    let (ended, given, said, ()) = tokio::join!(
        wait,
        first_of(stdout, MAX_GIVEN),
        first_of(stderr, SAID),
        write
    );
    let ended = ended.map_err(|error| error.to_string())?;
    if !ended.success() {
        let said = String::from_utf8_lossy(&said);
        return Err(match said.trim() {
            "" => ended.to_string(),
            said => format!("{ended}: {said}"),
        }
        .into());
    }
    if given.len() as u64 == MAX_GIVEN {
        return Err(format!("it gave more than {} MiB", MAX_GIVEN >> 20).into());
    }
    let mut referrers = Vec::new();
    let mut wrong = None;
    let read = values(&given[..], Format::Auto, &mut |_, value| {
        match value.and_then(|text| referrer(text, Some(cid))) {
            Ok(referrer) => referrers.push(referrer),
            Err(error) => wrong = Some(error),
        }
        std::ops::ControlFlow::Continue(())
    });
    let _ = read.map_err(|error| error.to_string())?;
    match wrong {
        Some(wrong) => Err(format!("it gave no referrer: {wrong}").into()),
        None if referrers.is_empty() => Err("it gave no referrer".to_owned().into()),
        None => Ok(referrers),
    }
}

/// So much of what comes. The rest is read, and dropped: who writes it must not be held up.
async fn first_of(reader: Option<impl AsyncRead + Unpin>, bytes: u64) -> Vec<u8> {
    let mut first = Vec::new();
    if let Some(mut reader) = reader {
        // What came before an error counts.
        let _ = (&mut reader).take(bytes).read_to_end(&mut first).await;
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    }
    first
}
