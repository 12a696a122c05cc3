//! What is different for an adapter that follows a checkpoint.

use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::Driver;
use crate::checkpoint::Run;
use crate::failed::Failure;
use crate::item::Arrival;
use crate::operation::Operation;

impl<S, O, T, F, V> Driver<S, O, T, F, V>
where
    S: Stream,
    S::Item: Arrival<V, Input = O::Input, Tag = T, Error = F::InputError>,
    O: Operation,
    F: Failure<Input = O::Input, Tag = T>,
{
    /// Begins where the checkpoint says, if there is one.
    pub(super) fn resume(&mut self) {
        self.run = self.shared.begin();
        let begins_at = self.begins_at();
        self.window.begin_at(begins_at);
        self.shared.control.counters.answered_below.set(begins_at);
        if begins_at > 0 {
            self.log.resumes_at(begins_at);
        }
    }

    /// The index of the first item that is not left out.
    pub(super) fn begins_at(&self) -> u64 {
        self.run.as_ref().map_or(0, Run::begins_at)
    }

    /// The index of the next item of the input.
    pub(super) fn next_index(&self) -> u64 {
        let to_leave_out = self.run.as_ref().map_or(0, Run::to_leave_out);
        self.window.next_index() - to_leave_out
    }

    /// Whether the next item of the input is one that was done before.
    pub(super) fn is_leaving_out(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.to_leave_out() > 0)
    }

    /// Takes an item from the input, and drops it.
    pub(super) fn leave_out(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let item = ready!(self.input.as_mut().poll_next(cx));
        self.input_ended = item.is_none();
        if let Some(run) = &mut self.run {
            match item {
                Some(_) => run.leave_out(),
                None => run.input_is_short(),
            }
        }
        Poll::Ready(())
    }

    /// A result is taken care of when the next one is asked for: now.
    pub(super) fn note_answered(&self) {
        if let Some(run) = &self.run {
            run.answered_below(self.shared.control.counters.answered_below.get());
        }
    }

    /// Whether the next item may be taken, as far as the checkpoint goes.
    pub(super) fn checkpoint_allows(&mut self) -> bool {
        let window = &self.window;
        self.run.as_mut().is_none_or(|run| {
            run.may_take(
                window.next_index(),
                window.handed_out_below(),
                window.size(),
            )
        })
    }
}
