//! What the end of a call means that is acknowledged as a whole.

use tokio::time::Instant;
use tonic::Code;

use super::call_ended::Left;
use super::{Ended, EndedBy, Flight, Report, Window};
use crate::error::Error;
use crate::verdict::Verdict;

impl<E, O: Clone> Window<E, O> {
    /// The end of a call that is acknowledged as a whole. If it failed, some of it may be done: the
    /// server stops at the first that it refuses.
    pub(super) fn whole_ended(
        &mut self,
        flight: &Flight,
        left: &Left,
        ended: &Ended,
        wait: impl Fn(u32) -> Option<Instant>,
        done: impl Fn(&E) -> Result<O, Error>,
        len: impl Fn(&E) -> usize,
    ) -> Report {
        let items = &left.items;
        if ended.end.status.is_none() && ended.end.acknowledged {
            if flight.is_unused() {
                // The call carried no item.
                return Report::Quiet;
            }
            let mut suspected = false;
            for item in items {
                suspected |= self.segments.is_candidate(item.index);
                let outcome = done(&self.live(item.index).entry);
                self.settle(item.index, outcome);
            }
            if !suspected {
                self.segments.succeeded();
            }
            return self.succeeded(flight.would_prove(usize::MAX));
        }
        if !flight.is_awaited() {
            return Report::Quiet;
        }
        let is_one_of_many = ended.end.transmitted > 1;
        let missing = "the server ended the call before it had all of it";
        let (verdict, status) = left.judge(ended, missing);
        // A server that lets this caller do some things, and others not, may stop at one of many. One that does not know
        // the caller, or the method, has begun none.
        let may_have_begun = match verdict {
            Verdict::Caller => is_one_of_many && status.code() == Code::PermissionDenied,
            _ => true,
        };
        if may_have_begun {
            self.lost(items, flight.number);
        }
        match (verdict, left.first()) {
            (Verdict::Caller, _) => {
                self.requeue_all(items);
                self.caller_refused(ended, status);
                Report::Quiet
            }
            (Verdict::Record | Verdict::Attempt, _) if is_one_of_many => {
                self.requeue_all(items);
                let items = items.iter().map(|item| item.index);
                self.segments.refused(flight.number, items);
                Report::Quiet
            }
            (Verdict::Record, None) => {
                self.requeue_all(items);
                Report::Alive
            }
            (Verdict::Attempt, None) => {
                self.requeue_all(items);
                Report::FailedAtItem
            }
            (Verdict::Record, Some(_)) => {
                self.segments.found(items.first().map(|item| item.index));
                self.refused_one(items, flight, &status, len);
                Report::Alive
            }
            (Verdict::Attempt, Some(at)) => {
                self.segments.found(items.first().map(|item| item.index));
                let proves = flight.would_prove(flight.answers() + 1);
                self.failed_at(at, flight.number, proves, &status, ended.evidence, wait)
            }
            (Verdict::Transient, at) => {
                let halves = ended.end.by == EndedBy::Stall && is_one_of_many;
                if halves {
                    // A healthy server may have been too slow for so many.
                    self.segments.stalled(items.len());
                }
                let at = at.filter(|_| !ended.is_of_call && !halves);
                self.broke(flight, items, at, &status, wait);
                Report::Broke
            }
        }
    }
}
