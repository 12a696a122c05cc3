//! What has happened in a run, in order.

use std::fmt;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex};

use super::seeds::is_repeated;

/// Of all lines with their times, in whatever order at one time: a host that is taken down drops its calls in no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digest(u64);

#[derive(Clone)]
pub(super) struct Trace(Arc<Mutex<State>>);

struct State {
    sum: u64,
    is_over: bool,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            sum: 0,
            is_over: false,
        })))
    }

    /// Notes what happens now, on whatever host.
    pub(super) fn note(&self, what: impl fmt::Display) {
        let mut state = self.0.lock().unwrap();
        if state.is_over {
            return;
        }
        let line = format!("{:?} {what}", turmoil::sim_elapsed());
        if is_repeated() {
            println!("{line}");
        }
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(line);
        state.sum = state.sum.wrapping_add(hash);
    }

    /// What hosts do while they are taken down is no part of the run.
    pub(super) fn end(&self) -> Digest {
        let mut state = self.0.lock().unwrap();
        state.is_over = true;
        Digest(state.sum)
    }
}
