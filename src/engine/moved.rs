//! How many bytes a call has moved, either way: a long message makes progress long before it is
//! answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Written by the two ends of a call, read by whoever wants to know whether it goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved(Arc<AtomicU64>);

impl Moved {
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
