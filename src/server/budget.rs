//! Memory that something of a store may take, such as its calls, over all its connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;

/// So many bytes, and no more, for all who hold a [`Share`].
pub(super) struct Budget {
    max: usize,
    taken: AtomicUsize,
    /// What is said when more is wanted.
    refusal: &'static str,
}

impl Budget {
    pub(super) fn new(max: usize, refusal: &'static str) -> Self {
        Self {
            max,
            taken: AtomicUsize::new(0),
            refusal,
        }
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    fn take(&self, more: usize) -> Result<(), Status> {
        let room = |taken: usize| taken.checked_add(more).filter(|taken| *taken <= self.max);
        match self
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, room)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(Status::resource_exhausted(self.refusal)),
        }
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// A part of a [`Budget`]. Dropped, it is given back.
pub(super) struct Share {
    budget: Arc<Budget>,
    held: Mutex<usize>,
}

impl Share {
    /// One that holds nothing yet.
    pub(super) fn of(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            held: Mutex::new(0),
        }
    }

    /// Holds so many bytes from now on.
    pub(super) fn set(&self, bytes: usize) -> Result<(), Status> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes > *held {
            self.budget.take(bytes - *held)?;
        } else {
            self.budget.give_back(*held - bytes);
        }
        *held = bytes;
        Ok(())
    }

    /// Holds so many bytes from now on, or what it holds, if that is more.
    pub(super) fn raise(&self, bytes: usize) -> Result<(), Status> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes > *held {
            self.budget.take(bytes - *held)?;
            *held = bytes;
        }
        Ok(())
    }
}

/// What the places of a list take in memory, in bytes, beside what their content holds elsewhere: what is empty takes two
/// bytes on the wire, and a whole place.
pub(super) fn places_of<T>(list: &Vec<T>) -> usize {
    list.capacity() * size_of::<T>()
}

impl Drop for Share {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.give_back(*held);
    }
}
