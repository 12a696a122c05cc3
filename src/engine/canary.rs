//! The canary: an item that has succeeded, asked for once more where nothing else tells an outage
//! from records that are at fault themselves.
//!
//! If it succeeds again the server does its work, so what it failed at is at fault. Asking costs one
//! request, and changes nothing: it is a read, or a push of a record that is stored. If that was last
//! seen to be there more than a second before the item failed it is looked up, since somebody may have
//! deleted it meanwhile, and it must not come back. There is none for a delete.

use std::time::Duration;

use tokio::time::Instant;

use crate::cid::Cid;

/// How long a record that was seen to be there is taken to be there still.
const SEEN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Canary<R> {
    known: Option<Known<R>>,
    state: State,
}

#[derive(Debug)]
struct Known<R> {
    request: R,
    /// Of a write: where it is looked up.
    key: Option<Cid>,
    /// When it was last seen to be there.
    seen: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The server has failed at no item since it was last sent.
    AtRest,
    ToBeLookedUp,
    Ready,
}

impl<R: Clone> Canary<R> {
    pub(super) fn new() -> Self {
        Self {
            known: None,
            state: State::AtRest,
        }
    }

    /// This has succeeded.
    pub(super) fn keep(&mut self, request: R, key: Option<Cid>) {
        let seen = Instant::now();
        self.known = Some(Known { request, key, seen });
        self.state = State::AtRest;
    }

    /// Whether there is one.
    pub(super) fn is_known(&self) -> bool {
        self.known.is_some()
    }

    /// The server has failed at an item.
    pub(super) fn item_failed(&mut self, now: Instant) {
        if let Some(known) = &self.known
            && self.state == State::AtRest
        {
            let is_there = known.key.is_none() || now.duration_since(known.seen) <= SEEN;
            self.state = match is_there {
                true => State::Ready,
                false => State::ToBeLookedUp,
            };
        }
    }

    /// Where to look it up, if it has to be.
    pub(super) fn to_look_up(&self) -> Option<Cid> {
        let known = self.known.as_ref();
        let key = known.and_then(|known| known.key);
        key.filter(|_| self.state == State::ToBeLookedUp)
    }

    /// It is there: a lookup says so, or an answer of its own.
    pub(super) fn found(&mut self) {
        if let Some(known) = &mut self.known {
            known.seen = Instant::now();
        }
        if self.state == State::ToBeLookedUp {
            self.state = State::Ready;
        }
    }

    /// Whether it is there could not be found out this time.
    pub(super) fn rest(&mut self) {
        self.state = State::AtRest;
    }

    /// It is not there, or is refused: it tells nothing any more.
    pub(super) fn drop_it(&mut self) {
        self.known = None;
        self.state = State::AtRest;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// The request to be sent, once for each time that an item has failed.
    pub(super) fn take(&mut self) -> Option<R> {
        let request = self.known.as_ref().filter(|_| self.is_ready())?;
        self.state = State::AtRest;
        Some(request.request.clone())
    }
}
