//! The messages about events.

use std::collections::BTreeMap;

use agntcy_dir_stream::Status;
use agntcy_dir_stream::server::Method;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::clock::soon;
use super::foreign::ForeignClient;

// The types of events.
pub(crate) const PUSHED: i32 = 1;
pub(crate) const PULLED: i32 = 2;
pub(crate) const DELETED: i32 = 3;
pub(crate) const PUBLISHED: i32 = 4;
pub(crate) const UNPUBLISHED: i32 = 5;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Listen {
    #[prost(int32, repeated, tag = "1")]
    pub(crate) types: Vec<i32>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) labels: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) cids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Heard {
    #[prost(message, optional, tag = "1")]
    pub(crate) event: Option<Event>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Event {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(int32, tag = "2")]
    pub(crate) r#type: i32,
    #[prost(message, optional, tag = "3")]
    pub(crate) time: Option<prost_types::Timestamp>,
    #[prost(string, tag = "4")]
    pub(crate) resource_id: String,
    #[prost(string, repeated, tag = "5")]
    pub(crate) labels: Vec<String>,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A call that listens. A server says nothing before the first event, so a task opens it.
pub(crate) struct Ear {
    heard: mpsc::UnboundedReceiver<Result<Event, Status>>,
    task: JoinHandle<()>,
}

impl Ear {
    pub(crate) fn open(foreign: &ForeignClient, asked: Listen) -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        let channel = foreign.channel.clone();
        let task = tokio::spawn(async move {
            let foreign = ForeignClient { channel };
            let listening = foreign.open_listing::<_, Heard>(Method::Listen, asked);
            let mut listening = match listening.await {
                Ok(listening) => listening,
                Err(status) => return drop(sender.send(Err(status))),
            };
            loop {
                let event = match listening.message().await {
                    Ok(Some(heard)) => Ok(heard.event.expect("an answer has an event")),
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                let is_over = event.is_err();
                if sender.send(event).is_err() || is_over {
                    return;
                }
            }
        });
        Self { heard, task }
    }

    /// The next event. `None`: the call has ended OK.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Status> {
        soon(self.heard.recv()).await.transpose()
    }

    /// The next event of a call that is not over.
    pub(crate) async fn hear(&mut self) -> Event {
        let event = self.next().await.expect("the call goes on");
        event.expect("the call goes on")
    }

    /// An event that is there already.
    pub(crate) fn heard(&mut self) -> Option<Event> {
        let heard = self.heard.try_recv().ok()?;
        Some(heard.expect("the call goes on"))
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}
