//! A call that runs: one of its connection's, with what it holds of the store's memory. One that is gone before it was
//! said how it ended was cancelled.

use std::sync::Arc;

use bytes::Bytes;
use tonic::Status;

use super::budget::{Budget, Share};
use super::call::{End, Running};
use super::control::Control;

/// What is said when the calls of a store would take more memory than they may.
pub(super) const REFUSAL: &str =
    "the store holds too many messages that are half received or not taken: try again later";

/// What a call takes by itself, in bytes: its task, its stream, and the buffers that tonic gives it.
const CALL: usize = 16 << 10;

pub(super) struct Live {
    connection: Arc<Control>,
    call: Option<Arc<Running>>,
    budget: Arc<Budget>,
    itself: Share,
    /// The most that tonic was given at once, and the most that it has unpacked that to: its buffers
    /// stay as large until the call ends.
    received: Share,
    unpacked: Share,
}

impl Live {
    pub(super) fn new(
        connection: &Arc<Control>,
        budget: &Arc<Budget>,
        call: Option<Arc<Running>>,
    ) -> Self {
        connection.opened();
        Self {
            connection: Arc::clone(connection),
            call,
            budget: Arc::clone(budget),
            itself: Share::of(budget),
            received: Share::of(budget),
            unpacked: Share::of(budget),
        }
    }

    /// The call in the store's log, if it is one of the service's.
    pub(super) fn logged(&self) -> Option<&Arc<Running>> {
        self.call.as_ref()
    }

    /// The call is refused for what its client sent.
    pub(super) fn refused(&self, status: &Status) {
        self.connection.misuse.refused(status);
    }

    /// Whether there is room for the call as such.
    pub(super) fn admit(&self) -> Result<(), Status> {
        self.itself.set(CALL)
    }

    /// Room for what waits to be given to tonic; none yet.
    pub(super) fn room(&self) -> Share {
        Share::of(&self.budget)
    }

    /// tonic is given so many bytes at once.
    pub(super) fn received(&self, len: usize) -> Result<(), Status> {
        raise(&self.received, len)
    }

    /// tonic unpacks a message to so many bytes, beside those that were received.
    pub(super) fn unpacked(&self, len: usize) -> Result<(), Status> {
        raise(&self.unpacked, len)
    }

    /// An answer, which counts until the transport lets go of it.
    pub(super) fn answer(&self, bytes: Bytes) -> Result<Bytes, Status> {
        let room = self.room();
        room.set(bytes.len())?;
        Ok(Bytes::from_owner(Answer { bytes, _room: room }))
    }
}

/// What is short fits into the buffers that a call has anyway.
fn raise(share: &Share, len: usize) -> Result<(), Status> {
    match len > CALL {
        true => share.raise(len),
        false => Ok(()),
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            call.end(End::Cancelled);
        }
        self.connection.ended();
    }
}

struct Answer {
    bytes: Bytes,
    _room: Share,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
