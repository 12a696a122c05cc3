//! Lines of the log that anybody can cause: a store says one in a while, and how many it has left out since.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::later::later;
use crate::outage::QUIET;

#[derive(Default)]
pub(super) struct Sparing {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    quiet_until: Option<Instant>,
    left_out: u64,
}

impl Sparing {
    /// Whether a line is to be said now, and how many were not since the last one that was. `None`: it is left out.
    pub(super) fn say(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.quiet_until.is_some_and(|until| now < until) {
            state.left_out += 1;
            return None;
        }
        state.quiet_until = Some(later(now, QUIET));
        Some(std::mem::take(&mut state.left_out))
    }
}
