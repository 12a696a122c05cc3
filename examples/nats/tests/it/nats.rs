//! A NATS server as a process, and what there is to see in it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use async_nats::jetstream;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::processes::says;
use crate::waits::soon;

pub(crate) struct Nats {
    pub(crate) folder: PathBuf,
    port: u16,
    configuration: &'static str,
    process: Child,
}

/// What `status` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) waiting: u64,
    pub(crate) held: u64,
    pub(crate) again: u64,
    pub(crate) dead: u64,
}

impl Nats {
    pub(crate) async fn start(test: &str) -> Self {
        Self::configured(test, "").await
    }

    pub(crate) async fn configured(test: &str, configuration: &'static str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let port = free_port();
        let process = spawn(&folder, port, configuration).await;
        Self {
            folder,
            port,
            configuration,
            process,
        }
    }

    /// By SIGKILL.
    pub(crate) async fn kill(&mut self) {
        soon(self.process.kill()).await.unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.process = spawn(&self.folder, self.port, self.configuration).await;
    }

    /// The program of this package, for this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dir-nats"));
        command
            .args(arguments)
            .env("NATS_URL", format!("nats://127.0.0.1:{}", self.port))
            .env_remove("RUST_LOG")
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub(crate) async fn output(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).stdin(Stdio::null()).output();
        soon(output).await.unwrap()
    }

    /// Runs it to its end, which has to be a good one, and gives what it prints.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes a file of these lines.
    pub(crate) fn file(&self, name: &str, lines: &[String]) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, lines.join("\n")).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) async fn status(&self) -> Status {
        let text = self.run(&["status"]).await;
        let numbers: Vec<u64> = text
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        let [waiting, held, again, dead] = numbers[..] else {
            panic!("{text}");
        };
        Status {
            waiting,
            held,
            again,
            dead,
        }
    }

    /// What `dead` prints: each line is a letter.
    pub(crate) async fn dead(&self) -> Vec<serde_json::Value> {
        let text = self.run(&["dead"]).await;
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// A message with headers as they are, which no client would send.
    pub(crate) async fn publish_raw(&self, subject: &str, headers: &[u8], body: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let mut bytes = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n".to_vec();
        let (head, all) = (headers.len(), headers.len() + body.len());
        bytes.extend(format!("HPUB {subject} {head} {all}\r\n").as_bytes());
        bytes.extend([headers, body, b"\r\nPING\r\n"].concat());
        stream.write_all(&bytes).await.unwrap();
        says(stream, "PONG").await;
    }

    pub(crate) async fn context(&self) -> jetstream::Context {
        let nats = async_nats::connect(format!("127.0.0.1:{}", self.port));
        jetstream::new(soon(nats).await.unwrap())
    }
}

async fn spawn(folder: &Path, port: u16, configuration: &str) -> Child {
    let binary = std::env::var("NATS_SERVER_BIN").expect("NATS_SERVER_BIN names the server");
    let file = folder.join("nats.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut process = Command::new(binary)
        .arg("--config")
        .arg(file)
        .args([
            "--jetstream",
            "--addr",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ])
        .arg("--store_dir")
        .arg(folder.join("jetstream"))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    says(process.stderr.take().unwrap(), "Server is ready").await;
    process
}

/// A port below those that the system gives to outgoing connections, so that nobody takes it while its server is away.
pub(crate) fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 400 * 30).unwrap();
    std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}
