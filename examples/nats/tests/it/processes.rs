//! Programs that are started, heard and ended.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::directory::Directory;
use crate::nats::Nats;
use crate::waits::{soon, within};

pub(crate) fn worker(nats: &Nats, directory: &Directory, more: &[&str]) -> Child {
    nats.command(&["work", "--server", &directory.url()])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Ctrl-C.
pub(crate) async fn interrupt(process: &Child) {
    let id = process.id().expect("it runs").to_string();
    let kill = Command::new("kill").args(["-INT", &id]).status();
    assert!(soon(kill).await.unwrap().success());
}

/// Tells it to end well, and gives what it prints, and what it logs.
pub(crate) async fn ended(process: Child) -> (String, String) {
    interrupt(&process).await;
    let output = within(30, process.wait_with_output()).await.unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    (String::from_utf8(output.stdout).unwrap(), log)
}

/// Waits until a program says these words. What it says later goes nowhere.
pub(crate) async fn says(output: impl AsyncRead + Unpin + Send + 'static, words: &str) {
    let mut lines = BufReader::new(output).lines();
    let says = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(words) {
                return;
            }
        }
        panic!("it ended before it said: {words}");
    };
    soon(says).await;
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
}
