//! The stream that the methods return.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use pin_project::pin_project;

/// How many results are handed out in a row before the task's other work gets a turn.
const RESULTS_IN_A_ROW: u32 = 128;

/// Stream for the `push_to`, `pull_from`, `lookup_in` and `delete_from` methods: one result for
/// each item of the input, in input order.
///
/// - It does nothing until it is polled, and spawns no task: the input is polled in place.
/// - Dropping it resets the call on the wire at once and drops the input; it needs no runtime.
/// - It is `Send` whenever the input and its items are, and borrows what the input borrows. It is not `Unpin`:
///   use [`std::pin::pin!`] or `Box::pin`, which also makes it nameable:
///   `Pin<Box<dyn Stream<Item = PushResult> + Send>>`.
/// - [`size_hint`](Stream::size_hint) is what the input promised at the start, less what was
///   handed out.
/// - After each 128 results in a row without a wait, one poll yields to the task's scheduler.
#[pin_project]
#[must_use = "streams do nothing unless polled"]
pub struct Adapter<G> {
    #[pin]
    results: G,
    method: &'static str,
    /// How many results are still to come, as far as the input could tell.
    expected: (usize, Option<usize>),
    handed_out: u64,
    in_a_row: u32,
    ended: bool,
}

impl<G> Adapter<G> {
    pub(crate) fn new(method: &'static str, expected: (usize, Option<usize>), results: G) -> Self {
        Self {
            results,
            method,
            expected,
            handed_out: 0,
            in_a_row: 0,
            ended: false,
        }
    }
}

impl<G: Stream> Stream for Adapter<G> {
    type Item = G::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<G::Item>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        if *this.in_a_row == RESULTS_IN_A_ROW {
            *this.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(next) = this.results.poll_next(cx) else {
            *this.in_a_row = 0;
            return Poll::Pending;
        };
        if next.is_some() {
            *this.in_a_row += 1;
            *this.handed_out += 1;
            let (lower, upper) = this.expected;
            *lower = lower.saturating_sub(1);
            *upper = upper.map(|upper| upper.saturating_sub(1));
        } else {
            *this.ended = true;
        }
        Poll::Ready(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.ended {
            (0, Some(0))
        } else {
            self.expected
        }
    }
}

impl<G: Stream> FusedStream for Adapter<G> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<G> fmt::Debug for Adapter<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("method", &self.method)
            .field("handed_out", &self.handed_out)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
