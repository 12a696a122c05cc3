//! A server, and what the adapters of a client share about it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Link;
use crate::breaker::{Breaker, CircuitBreaker};
use crate::engine::Methods;

#[derive(Clone)]
pub(crate) struct Node {
    /// One or more.
    pub(crate) connections: Vec<Link>,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) rate: Option<Arc<CallRate>>,
    /// What is known of how it works.
    pub(crate) methods: Arc<Methods>,
}

impl Node {
    pub(super) fn over(link: Link) -> Self {
        Self {
            breaker: Breaker::new(&link.name().into(), CircuitBreaker::new()),
            connections: vec![link],
            rate: None,
            methods: Arc::default(),
        }
    }

    /// As many connections as wanted, where more can be made here.
    pub(super) fn with_connections(mut self, wanted: usize) -> Self {
        self.connections.truncate(wanted);
        while self.connections.len() < wanted
            && let Some(another) = self.connections[0].another()
        {
            self.connections.push(another);
        }
        self
    }
}

/// Spaces the calls of a client out evenly. (The kept crates for this read a clock that tests
/// cannot pause, and it is a single number.)
#[derive(Debug)]
pub(crate) struct CallRate {
    every: Duration,
    next: Mutex<Option<Instant>>,
}

impl CallRate {
    pub(super) fn new(calls_per_second: u32) -> Arc<Self> {
        Arc::new(Self {
            every: Duration::from_secs(1) / calls_per_second,
            next: Mutex::new(None),
        })
    }

    /// When the next call may be opened, if not now.
    pub(crate) fn opens_at(&self, now: Instant) -> Option<Instant> {
        let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.filter(|next| *next > now)
    }

    /// Opens a call, or says when one may be opened.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Instant> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = next.filter(|next| *next > now) {
            return Err(next);
        }
        *next = Some(now + self.every);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn calls_are_spaced_out_and_a_pause_saves_nothing_up() {
        let rate = CallRate::new(10);
        let start = Instant::now();
        let step = Duration::from_millis(100);
        assert_eq!(rate.opens_at(start), None);
        assert_eq!(rate.take(start), Ok(()));
        assert_eq!(rate.opens_at(start), Some(start + step));
        assert_eq!(rate.take(start), Err(start + step), "one call, one place");
        assert_eq!(rate.opens_at(start + step), None);
        let later = start + 50 * step;
        assert_eq!(rate.take(later), Ok(()));
        assert_eq!(rate.opens_at(later), Some(later + step));
    }
}
