//! What one call carries: the items that were given to it and have no answer yet, in the order in
//! which they left.

use std::collections::VecDeque;
use std::sync::Arc;

use tonic::Status;

use crate::engine::tick::Tick;

/// Stands for the [canary](crate::engine::nodes::Canary) among the items of a call: it is no item of the window.
const CANARY: u64 = u64::MAX;

/// Room for so many is made at once, since to grow to it takes several steps.
pub(crate) const FEW: usize = 32;

/// Made by [`Window::launch`](super::Window::launch), filled by the window, and given back
/// to it when the call has ended.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Which call of the window this is.
    pub(crate) number: u64,
    /// How many items it may carry in all. The first that it carries decides.
    pub(crate) limit: usize,
    /// A probe takes the item that has failed least often, and not the first.
    pub(crate) is_probe: bool,
    /// The indexes of those without an answer.
    items: VecDeque<u64>,
    answered: usize,
    /// When the latest request left that has an answer, or earlier.
    proves: Tick,
    /// The first request that left later than that, and when it left.
    left: Option<(usize, Tick)>,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct End {
    /// `None` is OK.
    pub(crate) status: Option<Arc<Status>>,
    /// How many requests of this call the transport took, and so may have sent.
    pub(crate) transmitted: usize,
    /// Whether the server has acknowledged the whole call: by one answer, after the end of the requests.
    pub(crate) acknowledged: bool,
    pub(crate) by: EndedBy,
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// The server, or the line to it.
    Peer,
    /// The adapter, since the call made no progress.
    Stall,
    /// The adapter, since the server does not keep to the protocol.
    Disorder,
}

/// An item that a call leaves without an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unanswered {
    pub(crate) index: u64,
    /// Its place among the requests of the call, from 0.
    pub(crate) place: usize,
    /// Whether the transport took it.
    pub(crate) was_transmitted: bool,
}

impl Unanswered {
    pub(crate) fn is_canary(&self) -> bool {
        self.index == CANARY
    }
}

impl Flight {
    pub(crate) fn new(number: u64, is_probe: bool) -> Self {
        Self {
            number,
            limit: if is_probe { 1 } else { usize::MAX },
            is_probe,
            items: VecDeque::with_capacity(FEW),
            answered: 0,
            proves: Tick::NEVER,
            left: None,
        }
    }

    /// Lets it carry one item in all, or the canary.
    pub(crate) fn limit_to_one(&mut self) {
        self.limit = 1;
    }

    /// When its latest request has left that has an answer, or earlier: what a success shows.
    pub(crate) fn proves(&self) -> Tick {
        self.proves
    }

    /// The same, if so many were answered.
    pub(crate) fn would_prove(&self, answered: usize) -> Tick {
        let left = self.left.filter(|(place, _)| *place < answered);
        left.map_or(self.proves, |(_, tick)| tick)
    }

    pub(crate) fn carry(&mut self, index: u64) {
        let now = Tick::now();
        // One mark at a time is enough. The next is made when this one has its answer.
        if self.left.is_none() && self.proves < now {
            self.left = Some((self.sent(), now));
        }
        self.items.push_back(index);
    }

    /// It carries the canary, too.
    pub(crate) fn carry_canary(&mut self) {
        self.carry(CANARY);
    }

    /// Whether it carries the canary, without an answer yet.
    pub(crate) fn has_canary(&self) -> bool {
        self.items.contains(&CANARY)
    }

    /// Whether the next answer will be the canary's.
    pub(crate) fn is_at_canary(&self) -> bool {
        self.next() == Some(CANARY)
    }

    /// Whether the server was at the canary when the call ended, of whose requests the transport took
    /// the first `transmitted`.
    pub(crate) fn ended_at_canary(&self, transmitted: usize) -> bool {
        self.is_at_canary() && transmitted > self.answered
    }

    /// Lets the call carry no more items.
    pub(crate) fn close_behind(&mut self) {
        self.limit = self.sent();
    }

    /// How many it has carried in all.
    pub(crate) fn sent(&self) -> usize {
        self.answered + self.items.len()
    }

    /// Notes an answer. Returns the item that it belongs to.
    pub(crate) fn land(&mut self) -> Option<u64> {
        let index = self.items.pop_front()?;
        self.answered += 1;
        self.proves = self.would_prove(self.answered);
        self.left = self.left.filter(|(place, _)| *place >= self.answered);
        Some(index)
    }

    /// The item that the next answer will belong to.
    pub(crate) fn next(&self) -> Option<u64> {
        self.items.front().copied()
    }

    /// Leaves behind what the transport has not taken: of this call's requests, it took the first
    /// `transmitted`.
    pub(crate) fn cut(&mut self, transmitted: usize) -> VecDeque<u64> {
        let kept = transmitted
            .saturating_sub(self.answered)
            .min(self.items.len());
        self.items.split_off(kept)
    }

    /// Whether it has carried nothing.
    pub(crate) fn is_unused(&self) -> bool {
        self.sent() == 0
    }

    /// How many items it carries that have no answer.
    pub(crate) fn load(&self) -> usize {
        self.items.len()
    }

    /// How many answers have come.
    pub(crate) fn answers(&self) -> usize {
        self.answered
    }

    /// Whether it can carry no more.
    pub(crate) fn is_full(&self) -> bool {
        self.sent() >= self.limit
    }

    /// Whether an answer is awaited.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.items.is_empty()
    }

    /// Whether it has carried one item in all.
    pub(crate) fn is_single(&self) -> bool {
        self.sent() == 1
    }

    /// What has no answer, in order: of this call's requests, the transport took the first
    /// `transmitted`.
    pub(crate) fn unanswered(&self, transmitted: usize) -> impl Iterator<Item = Unanswered> {
        let items = self.items.iter().copied().enumerate();
        items.map(move |(behind, index)| {
            let place = self.answered + behind;
            Unanswered {
                index,
                place,
                was_transmitted: place < transmitted,
            }
        })
    }
}
