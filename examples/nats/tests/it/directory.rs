//! A directory that goes away and comes back with what it had.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Serving, Store};
use futures::{StreamExt as _, stream};
use tokio::process::{Child, Command};

use crate::nats::free_port;
use crate::processes::says;
use crate::waits::{soon, until};

pub(crate) struct Directory {
    address: String,
    kind: Kind,
}

enum Kind {
    Embedded {
        store: Store,
        serving: Option<Serving>,
    },
    Real {
        folder: PathBuf,
        process: Child,
    },
}

impl Directory {
    /// The embedded store. It closes its port and cuts its connections where another would be killed.
    pub(crate) async fn embedded() -> (Self, Store) {
        let store = Store::new();
        let address = format!("127.0.0.1:{}", free_port());
        let serving = Some(store.listen(&address).await.unwrap());
        let kind = Kind::Embedded {
            store: store.clone(),
            serving,
        };
        (Self { address, kind }, store)
    }

    /// The real one, on a folder.
    pub(crate) async fn real(folder: PathBuf) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let process = spawn(&folder, &address).await;
        let kind = Kind::Real { folder, process };
        Self { address, kind }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it in the middle of what it does.
    pub(crate) async fn kill(&mut self) {
        match &mut self.kind {
            Kind::Embedded { serving, .. } => {
                let serving = serving.take().unwrap();
                let _ = tokio::time::timeout(Duration::ZERO, serving.shutdown()).await;
            }
            Kind::Real { folder, process } => {
                // Killed while it writes, the server tears its own index. So while it validates.
                std::fs::write(folder.join("schema-stall"), "").unwrap();
                let stalled = folder.join("schema-stalled");
                until("the server validates", async || stalled.exists()).await;
                // Another call may have been past that.
                until("nothing is written", async || {
                    let index = folder.join("store").join("index.json");
                    let written = || std::fs::metadata(&index).unwrap().modified().unwrap();
                    let before = written();
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    written() == before
                })
                .await;
                soon(process.kill()).await.unwrap();
                std::fs::remove_file(folder.join("schema-stall")).unwrap();
            }
        }
    }

    pub(crate) async fn restart(&mut self) {
        match &mut self.kind {
            Kind::Embedded { store, serving } => {
                *serving = Some(store.listen(&self.address).await.unwrap());
            }
            Kind::Real { folder, process } => *process = spawn(folder, &self.address).await,
        }
    }

    /// Fails unless it has all of these lines.
    pub(crate) async fn has_all(&self, lines: impl Iterator<Item = String>) {
        let client = soon(Client::connect(self.url())).await.unwrap();
        let cids = lines.map(|line| crate::records::cid(&line));
        let mut found = stream::iter(cids).exists_in(&client);
        while let Some(result) = soon(found.next()).await {
            let existence = result.unwrap_or_else(|failed| panic!("{failed}"));
            assert!(existence.exists, "{} is missing", existence.cid);
        }
    }
}

async fn spawn(folder: &std::path::Path, address: &str) -> Child {
    let binary = std::env::var("DIR_SERVER_BIN").expect("DIR_SERVER_BIN names the server");
    let mut process = Command::new(binary)
        .arg("-scratch")
        .arg(folder)
        .args(["-listen", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    says(process.stdout.take().unwrap(), "listening on ").await;
    process
}
