//! A connection that is being made.

use http::Uri;
use hyper::client::conn::http2;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::body::Body;

use super::goodbye::InUse;
use crate::unreachable::Unreachable;

/// Takes calls for a connection.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) requests: http2::SendRequest<Body>,
    /// A call keeps its sender to its end.
    pub(super) _in_use: InUse,
}

pub(super) type Made = Result<Sender, Unreachable>;

/// How far a connection is.
#[derive(Debug)]
pub(super) enum Stage {
    /// What has not come yet, in words.
    Awaits(&'static str),
    Made(Made),
}

/// Before anybody has answered.
pub(super) const NO_CONNECTION: &str = "no connection";

/// Before the server has said that it speaks HTTP/2.
pub(super) const SILENT: &str = "the server said nothing";

/// A connection that is being made, or was.
#[derive(Clone, Debug)]
pub(super) struct Making {
    origin: Uri,
    since: Instant,
    stage: watch::Receiver<Stage>,
}

impl Making {
    /// What begins now, and how far it is by now.
    pub(super) fn new(origin: Uri) -> (Self, watch::Sender<Stage>) {
        let (tell, stage) = watch::channel(Stage::Awaits(NO_CONNECTION));
        let since = Instant::now();
        (
            Self {
                origin,
                since,
                stage,
            },
            tell,
        )
    }

    /// Whether it takes calls, or may yet.
    pub(super) fn is_alive(&self) -> bool {
        match &*self.stage.borrow() {
            Stage::Made(Ok(sender)) => !sender.requests.is_closed(),
            Stage::Made(Err(_)) => false,
            Stage::Awaits(_) => self.stage.has_changed().is_ok(),
        }
    }

    pub(super) async fn made(mut self) -> Made {
        let is_made = |stage: &Stage| matches!(stage, Stage::Made(_));
        if let Ok(stage) = self.stage.wait_for(is_made).await
            && let Stage::Made(made) = &*stage
        {
            return made.clone();
        }
        let gone = "the task that did it has ended";
        Err(Unreachable::new(&self.origin, gone))
    }

    /// Whether it is not made yet.
    pub(super) fn is_on_its_way(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Awaits(_))
    }

    /// What is waited for, until it is made.
    pub(super) fn waits_for(&self) -> Option<Unreachable> {
        match *self.stage.borrow() {
            Stage::Awaits(what) => {
                Some(Unreachable::late(&self.origin, what, self.since.elapsed()))
            }
            Stage::Made(_) => None,
        }
    }
}
