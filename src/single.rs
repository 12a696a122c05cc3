//! An operation on a single item is an adapter over a stream of one.

use std::future::poll_fn;
use std::pin::pin;

use futures_core::Stream;

/// It knows how long it is.
pub(crate) fn once<I>(item: I) -> impl Stream<Item = I> {
    futures_util::stream::iter([item])
}

/// The result of a stream of one, which is read to its end so that the call ends by itself.
pub(crate) async fn only<S: Stream>(results: S) -> S::Item {
    let mut results = pin!(results);
    let mut only = None;
    while let Some(result) = poll_fn(|cx| results.as_mut().poll_next(cx)).await {
        only = Some(result);
    }
    only.expect("one input has one result")
}
