//! Streams that are polled by hand, and inputs that count what is taken from them.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use agntcy_dir_stream::Record;
use futures::future::{Either, select};
use futures::task::noop_waker;
use futures::{Stream, StreamExt, pin_mut, stream};

use super::clock::soon;
use super::records::record;

/// A context whose waker does nothing.
pub(crate) fn context() -> Context<'static> {
    static WAKER: LazyLock<Waker> = LazyLock::new(noop_waker);
    Context::from_waker(&WAKER)
}

pub(crate) fn poll<S: Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    Pin::new(stream).poll_next(&mut context())
}

/// The result that has to be there now.
#[track_caller]
pub(crate) fn next<S: Stream + Unpin>(stream: &mut S) -> S::Item {
    match poll(stream) {
        Poll::Ready(Some(item)) => item,
        Poll::Ready(None) => panic!("the stream has ended"),
        Poll::Pending => panic!("no result is ready"),
    }
}

/// The results that are there now, which may be none.
pub(crate) fn ready<S: Stream + Unpin>(stream: &mut S) -> Vec<S::Item> {
    let mut items = Vec::new();
    while let Poll::Ready(Some(item)) = poll(stream) {
        items.push(item);
    }
    items
}

/// Polls a stream that must have no result yet, and must not have ended.
#[track_caller]
pub(crate) fn assert_pending<S: Stream + Unpin>(stream: &mut S) {
    match poll(stream) {
        Poll::Pending => {}
        Poll::Ready(Some(_)) => panic!("a result came early"),
        Poll::Ready(None) => panic!("the stream has ended"),
    }
}

/// Polls a stream that must end now.
#[track_caller]
pub(crate) fn assert_ended<S: Stream + Unpin>(stream: &mut S) {
    match poll(stream) {
        Poll::Ready(None) => {}
        Poll::Ready(Some(_)) => panic!("there is another result"),
        Poll::Pending => panic!("the stream has not ended"),
    }
}

/// Polls a stream until `future` is ready. No result may come before.
pub(crate) async fn poll_until<S: Stream + Unpin, T>(
    results: &mut S,
    future: impl Future<Output = T>,
) -> T {
    pin_mut!(future);
    match soon(select(results.next(), future)).await {
        Either::Left((result, _)) => panic!("a result came early: {}", result.is_some()),
        Either::Right((output, _)) => output,
    }
}

/// An endless input. `taken` is how many records were taken from it; the first has the number 1.
pub(crate) fn counted(taken: &Cell<usize>) -> impl Stream<Item = Record> + Unpin {
    stream::repeat_with(|| {
        taken.set(taken.get() + 1);
        record(taken.get())
    })
}
