//! What other threads have verified: inputs before they are sent, and answers.

use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::time::Instant;

use super::{Driver, Entry};
use crate::cid::Cid;
use crate::failed::Failure;
use crate::item::Arrival;
use crate::operation::Operation;

/// An item that waits for the CID of a record.
pub(super) enum Ticket<A> {
    /// It is not sent before that. It may have its CID, and wait for those before it alone.
    Input { index: u64, cid: Option<Cid> },
    /// It has its answer.
    Answer { index: u64, answer: A },
}

impl<S, O, T, F, V> Driver<S, O, T, F, V>
where
    S: Stream,
    S::Item: Arrival<V, Input = O::Input, Tag = T, Error = F::InputError>,
    O: Operation,
    F: Failure<Input = O::Input, Tag = T>,
{
    /// Takes in what has been verified, and sends what is to be sent.
    pub(super) fn poll_spread(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(spread) = &mut self.spread else {
            return Poll::Pending;
        };
        let mut has_inputs = false;
        for (ticket, cid) in ready!(spread.poll(cx)) {
            has_inputs |= matches!(ticket, Ticket::Input { .. });
            self.verified(ticket, cid);
        }
        if has_inputs {
            // The input is asked for more when it would be otherwise.
            self.hand_on(cx, Instant::now(), false);
        }
        Poll::Ready(())
    }

    /// Judges the answers that wait, in the task. Inputs that wait were not sent: they stay unchecked, and are given
    /// back or given up.
    pub(super) fn verify_the_rest(&mut self) {
        let Some(spread) = &mut self.spread else {
            return;
        };
        for (ticket, cid) in spread.end() {
            if let Ticket::Answer { .. } = ticket {
                self.verified(ticket, cid);
            }
        }
    }

    /// Where there is no CID, the operation finds out why, in place.
    fn verified(&mut self, ticket: Ticket<O::Answer>, found: Option<Cid>) {
        let operation = &self.operation;
        match ticket {
            Ticket::Input { index, cid } => self.window.check(index, |entry| {
                let Entry::Item { input, checked, .. } = entry else {
                    unreachable!("an error of the input has its result at once");
                };
                *checked = Some(match found.or(cid) {
                    Some(cid) => operation.check_known(input, cid)?,
                    None => operation.check(input)?,
                });
                Ok(())
            }),
            Ticket::Answer { index, answer } => self.window.judge(index, |entry| {
                let (input, checked) = entry.item();
                match found {
                    Some(cid) => operation.accept_known(input, checked, answer, cid),
                    None => operation.accept(input, checked, answer),
                }
            }),
        }
    }
}
