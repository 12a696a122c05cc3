//! What a call goes by: its token, and its connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;
use tokio::time::Instant;
use tonic::Status;

use super::making::Making;
use super::renewal::ShownToken;
use super::repeated;
use crate::unreachable::Unreachable;

/// What a call goes by. It is not known before the call is under way: others may leave a connection, or have
/// a token renewed, until then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way(Arc<Mutex<Steps>>);

#[derive(Debug, Default)]
struct Steps {
    token: Option<Step>,
    /// Which of the connections that are made one after the other.
    connection: Option<(u64, Making)>,
}

#[derive(Debug)]
enum Step {
    /// It waits for a token from this source, since then.
    Awaits(Arc<str>, Instant),
    Shows(ShownToken, HeaderValue),
}

impl Way {
    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn awaits_token(&self, source: Arc<str>) {
        self.steps().token = Some(Step::Awaits(source, Instant::now()));
    }

    pub(super) fn shows(&self, token: ShownToken, header: HeaderValue) {
        self.steps().token = Some(Step::Shows(token, header));
    }

    pub(super) fn takes(&self, number: u64, connection: Making) {
        self.steps().connection = Some((number, connection));
    }

    /// The number of its connection.
    pub(super) fn connection(&self) -> Option<u64> {
        let steps = self.steps();
        steps.connection.as_ref().map(|(number, _)| *number)
    }

    /// The token that it shows.
    pub(super) fn token(&self) -> Option<ShownToken> {
        match self.steps().token {
            Some(Step::Shows(token, _)) => Some(token),
            _ => None,
        }
    }

    /// What the server has said, without the token that it was shown.
    pub(crate) fn without_token(&self, status: Status) -> Status {
        match &self.steps().token {
            Some(Step::Shows(_, header)) => repeated::cut_out(header, status),
            _ => status,
        }
    }

    /// Whether the call waits for one of them.
    pub(crate) fn is_on_its_way(&self) -> bool {
        let steps = self.steps();
        match &steps.token {
            Some(Step::Awaits(..)) => true,
            _ => steps
                .connection
                .as_ref()
                .is_some_and(|(_, making)| making.is_on_its_way()),
        }
    }

    /// What the call waits for, until it has both.
    pub(crate) fn waits_for(&self) -> Option<Unreachable> {
        let steps = self.steps();
        match &steps.token {
            Some(Step::Awaits(source, since)) => {
                Some(Unreachable::no_token_yet(source, since.elapsed()))
            }
            _ => steps.connection.as_ref()?.1.waits_for(),
        }
    }
}
