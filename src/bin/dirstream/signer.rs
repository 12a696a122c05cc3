//! A program that signs.

use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use agntcy_dir_stream::{Cid, Client, ErrorKind, Pushed, Referrer, ReferrersOf};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::input::{Format, referrer, values};
use crate::outcome::words;
use crate::push::Tag;

/// How many bytes of what it says on standard error are shown.
const SAID: usize = 500;

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
    pub(crate) fn sign(
        &self,
        pushed: &Pushed<Tag>,
    ) -> impl Future<Output = Result<Vec<Referrer>, NotSigned>> + Send + use<> {
        let (command, time, client) = (Arc::clone(&self.command), self.time, self.client.clone());
        let (cid, was_stored) = (pushed.cid, pushed.already_stored);
        let record = pushed.tag.record.clone();
        async move {
            if was_stored && is_signed(&client, cid).await? {
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

async fn run(command: &str, cid: Cid, record: String) -> Result<Vec<Referrer>, NotSigned> {
    let mut process = Command::new("sh")
        .args(["-c", command])
        .env("DIR_CID", cid.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("sh: {error}"))?;
    let stdin = process.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // One that does not read its input has closed it.
            let _ = stdin.write_all(record.as_bytes()).await;
        }
    };
    let (ended, ()) = tokio::join!(process.wait_with_output(), write);
    let ended = ended.map_err(|error| error.to_string())?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        let said: String = said.trim().chars().take(SAID).collect();
        return Err(format!("{}: {said}", ended.status).into());
    }
    let mut referrers = Vec::new();
    let mut wrong = None;
    let read = values(&ended.stdout[..], Format::Auto, &mut |_, value| {
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
