//! The stream that the methods return.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::{FusedStream, Stream};

use super::remainder::{ItemResult, Remainder, Shared};
use crate::checkpoint::Checkpoint;
use crate::handle::Handle;
use crate::stats::{Stats, Summary};

/// How many results are handed out in a row before the task's other work gets a turn.
pub(super) const RESULTS_IN_A_ROW: u32 = 128;

/// The stream that `push_to` and the other methods return: one result for each item of the input.
///
/// - It does nothing until it is polled. It spawns no task: the input is polled in place. (CIDs may be computed on other
///   threads: [`Options::verify_threads`](crate::Options::verify_threads).)
/// - It is `Send` if the input and its items are. It borrows what the input borrows. It is `Unpin`,
///   whatever the input is.
/// - [`size_hint`](Stream::size_hint) is what the input promised at the start, less what was handed out.
/// - After 128 results in a row without a wait, one poll yields to the task's scheduler.
///
/// # Order
///
/// Results come in input order, unless [`Options::unordered`] is on. An item that waits for another try
/// holds back the results behind it. It holds back nothing else: the items behind it are sent and
/// answered meanwhile.
///
/// # Errors
///
/// Errors are items: the stream goes on after each. A combinator such as `try_for_each` stops at the first
/// error, and drops the adapter with it. What each error says of the server is told at [`ErrorKind`](crate::ErrorKind).
///
/// # Cancel safety
///
/// `next()` can be dropped, as in a `select!`: no result is lost.
///
/// Dropping the adapter resets its calls on the wire at once, and drops the input. It needs no runtime
/// for that. Items that were taken and whose results were not yielded may or may not have been carried
/// out. They are at most a window ([`Options::window`]). A pull or lookup changes nothing on the server.
///
/// # Panics
///
/// It panics when it is polled outside of a tokio runtime with its timers enabled.
///
/// If the input panics, the panic passes through, and the adapter must not be polled again.
///
/// # Recovery
///
/// A server ends a call at the first item that it refuses. That item gets the server's status, and a new
/// call goes on with the items behind it. What was answered is not sent again, but for an item that has to
/// tell an outage from items at fault ([`Retry`](crate::Retry)).
///
/// When a call breaks, stalls, or ends with answers missing, what has no answer is tried again after a
/// wait. [`Retry`](crate::Retry) says what is tried again, how often and for how long.
/// [`CircuitBreaker`](crate::CircuitBreaker) says what happens while the server is away. When the server
/// refuses the caller, all remaining items get that error.
///
/// # Ends
///
/// The natural end is that of the input, when its last item has its result. A call that the server does
/// not end within 5 seconds of that is reset. The other ends are [`finish`](Self::finish),
/// [`drain`](Self::drain), [`into_remainder`](Self::into_remainder), [`Handle::stop`], the first error with
/// [`Options::stop_on_error`], and the drop.
///
/// # Between two polls
///
/// Only the transport moves: requests that are queued leave, and answers wait in its buffers. The adapter
/// takes no input, looks at no timer, and opens no call.
///
/// [`Retry::timeout`], [`Options::stall_after`] and [`CircuitBreaker::give_up_after`] do not count that
/// time. The age of a call and the deadline of [`drain`](Self::drain) do. After minutes without a poll a
/// server or proxy may have cut the call. The adapter recovers from that as from any other fault.
///
/// # Its type
///
/// `G` is a generator, which has no name. A function returns an adapter as an `impl` type:
///
/// ```
/// use agntcy_dir_stream::prelude::*;
/// use futures::{Stream, StreamExt, stream};
///
/// fn pulled(client: &Client, cids: Vec<Cid>) -> impl Stream<Item = PullResult<Cid>> + use<> {
///     stream::iter(cids).pull_from(client)
/// }
/// ```
///
/// In a struct's field, [`erase`](Self::erase) gives it a name, [`BoxAdapter`]. The methods of an adapter
/// stay:
///
/// ```
/// use agntcy_dir_stream::prelude::*;
/// use agntcy_dir_stream::{BoxAdapter, Stats};
/// use futures::stream::{self, BoxStream, StreamExt};
///
/// struct Import {
///     results: BoxAdapter<'static, BoxStream<'static, Record>, PushResult>,
/// }
///
/// impl Import {
///     fn new(client: &Client, records: Vec<Record>) -> Self {
///         let records = stream::iter(records).boxed();
///         Self { results: records.push_to(client).erase() }
///     }
///
///     fn stats(&self) -> Stats {
///         self.results.stats()
///     }
/// }
/// ```
///
/// Where a stream is all that is needed, any box of a stream will do. A [`handle`](Self::handle), taken
/// before, still tells the counts:
///
/// ```
/// use agntcy_dir_stream::prelude::*;
/// use agntcy_dir_stream::Handle;
/// use futures::stream::{BoxStream, StreamExt};
///
/// fn deleted<'a>(
///     client: &Client,
///     cids: BoxStream<'a, Cid>,
/// ) -> (Handle, BoxStream<'a, DeleteResult<Cid>>) {
///     let results = cids.delete_from(client);
///     (results.handle(), results.boxed())
/// }
/// ```
///
/// # In spawned tasks
///
/// An adapter may borrow what its input borrows, and a spawned task may keep one while it waits:
///
/// ```
/// use agntcy_dir_stream::prelude::*;
/// use futures::{StreamExt, stream};
///
/// async fn pull(client: &Client, cids: &[Cid]) -> usize {
///     let mut results = stream::iter(cids).pull_from(client);
///     let mut pulled = 0;
///     while let Some(result) = results.next().await {
///         pulled += usize::from(result.is_ok());
///     }
///     pulled
/// }
///
/// # async fn example(client: Client, cids: Vec<Cid>) {
/// tokio::spawn(async move { pull(&client, &cids).await });
/// # }
/// ```
///
/// Some combinators of `futures` keep items of the stream before them: `filter`, `chunks`, `buffered`,
/// `buffer_unordered`. If that stream has a closure over borrowed items, the compiler does not see that the
/// whole is `Send`. It says "implementation of `FnOnce` is not general enough", with or without an
/// adapter. A box between the two helps:
///
/// ```
/// use agntcy_dir_stream::prelude::*;
/// use futures::{StreamExt, stream};
///
/// # async fn read(path: &str) -> Record {
/// #     path.parse().unwrap()
/// # }
/// async fn push(client: &Client, paths: &[String]) -> usize {
///     let records = stream::iter(paths).map(|path| async move { (read(path).await, path) });
///     let mut results = records.boxed().buffered(8).push_to(client);
///     let mut failed = 0;
///     while let Some(result) = results.next().await {
///         failed += usize::from(result.is_err());
///     }
///     failed
/// }
///
/// // The same for what is done with the results.
/// async fn named(client: &Client, cids: &[Cid]) -> Vec<String> {
///     let results = stream::iter(cids).pull_from(client);
///     let names = results.map(|result| async move { result.ok()?.record.name().map(str::to_owned) });
///     names.boxed().buffered(8).filter_map(std::future::ready).collect().await
/// }
///
/// # async fn example(client: Client, paths: Vec<String>, cids: Vec<Cid>) {
/// tokio::spawn(async move {
///     push(&client, &paths).await;
///     named(&client, &cids).await;
/// });
/// # }
/// ```
///
/// Or let the stream own its items: `stream::iter(cids.to_vec())`.
///
/// [`Retry::timeout`]: crate::Retry::timeout
/// [`Options::stop_on_error`]: crate::Options::stop_on_error
/// [`Options::stall_after`]: crate::Options::stall_after
/// [`Options::unordered`]: crate::Options::unordered
/// [`Options::window`]: crate::Options::window
/// [`CircuitBreaker::give_up_after`]: crate::CircuitBreaker::give_up_after
#[must_use = "streams do nothing unless polled"]
pub struct Adapter<S, G>
where
    G: Stream<Item: ItemResult> + ?Sized,
{
    /// The generator, on the heap so that the adapter can be moved and taken apart.
    results: Pin<Box<G>>,
    shared: Arc<Shared<S, G::Item>>,
    method: &'static str,
    /// How many results are still to come, as far as the input could tell.
    expected: (usize, Option<usize>),
    handed_out: u64,
    in_a_row: u32,
    ended: bool,
}

/// An [`Adapter`] whose generator is erased, over an input `S`, with results `R`. [`Adapter::erase`] makes
/// it. Like `BoxStream`, it is `Send`, if `S` and `R` are.
///
/// It has a name where `S` has one: an input with closures is boxed first. `R` is what the method's results are called,
/// such as [`PushResult`](crate::PushResult), [`TryPullResult`](crate::TryPullResult) or
/// [`ThroughResult`](crate::ThroughResult).
pub type BoxAdapter<'a, S, R> = Adapter<S, dyn Stream<Item = R> + Send + 'a>;

impl<S, G> Adapter<S, G>
where
    G: Stream<Item: ItemResult>,
{
    pub(super) fn new(
        method: &'static str,
        expected: (usize, Option<usize>),
        shared: Arc<Shared<S, G::Item>>,
        results: G,
    ) -> Self {
        Self {
            results: Box::pin(results),
            shared,
            method,
            expected,
            handed_out: 0,
            in_a_row: 0,
            ended: false,
        }
    }

    /// The same adapter by a type that can be written: see [`BoxAdapter`]. It costs no allocation.
    ///
    /// It is for adapters that are `Send`. One that is not can be boxed as a plain stream.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::BoxAdapter;
    /// use futures::stream::{self, Empty, StreamExt};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let mut results: BoxAdapter<'_, Empty<Record>, PushResult> =
    ///     stream::empty().push_to(&client).erase();
    /// assert!(results.next().await.is_none());
    /// assert_eq!(results.stats().taken, 0);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn erase<'a>(self) -> BoxAdapter<'a, S, G::Item>
    where
        G: Send + 'a,
    {
        Adapter {
            results: self.results,
            shared: self.shared,
            method: self.method,
            expected: self.expected,
            handed_out: self.handed_out,
            in_a_row: self.in_a_row,
            ended: self.ended,
        }
    }
}

impl<S, G> Adapter<S, G>
where
    G: Stream<Item: ItemResult> + ?Sized,
{
    /// What it has done so far.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let mut results = stream::iter([record]).push_to(&client);
    /// assert_eq!(results.stats().taken, 0);
    /// results.next().await;
    /// assert_eq!(results.stats().succeeded, 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.control.counters.stats()
    }

    /// A handle to look at it, and to end it, from elsewhere, as when it is moved into a combinator.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let results = stream::iter([record]).push_to(&client);
    /// let handle = results.handle();
    /// let pushed = results.filter(|result| std::future::ready(result.is_ok()));
    /// assert_eq!(pushed.count().await, 1);
    /// assert_eq!(handle.stats().succeeded, 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::of(&self.shared.control)
    }

    /// Begins where a checkpoint says, and has the checkpoint follow: see [`checkpoint`](crate::checkpoint).
    ///
    /// The first items of the input, as many as are [`done`](Checkpoint::done), are taken and dropped, some with each
    /// poll. They have no results, do not count in [`Stats`] or for [`Options::rate`](crate::Options::rate), and need
    /// no server. An input that ends before them gives no results, and the log is told. Indexes are still those of the
    /// whole input: the first result has the index `done`. [`Stats::answered_below`] is one of these, too.
    ///
    /// ```
    /// use agntcy_dir_stream::Checkpoint;
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// # let path = std::env::temp_dir().join(format!("resumed-{}", std::process::id()));
    /// let checkpoint = Checkpoint::open(path, "ten agents")?;
    /// let record = |n| Record::from_json(format!(r#"{{"name": "{n}", "schema_version": "1.0.0"}}"#)).unwrap();
    /// let records = || stream::iter(0..10).map(record);
    ///
    /// // A run that ends early.
    /// let some: Vec<_> = records().push_to(&client).resume_from(&checkpoint).take(4).collect().await;
    /// // The last one may not have been taken care of when the adapter was dropped.
    /// assert_eq!((some.len(), checkpoint.done()), (4, 3));
    ///
    /// let rest: Vec<_> = records().push_to(&client).resume_from(&checkpoint).collect().await;
    /// assert_eq!(rest[0].as_ref().unwrap().index, 3);
    /// assert_eq!(checkpoint.done(), 10);
    /// checkpoint.remove()?;
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// After the first poll; if it follows a checkpoint already; and if another adapter follows this one, which
    /// has neither ended nor been dropped.
    #[track_caller]
    pub fn resume_from(mut self, checkpoint: &Checkpoint) -> Self {
        self.shared.resume_from(checkpoint);
        let done = usize::try_from(checkpoint.done()).unwrap_or(usize::MAX);
        let (lower, upper) = &mut self.expected;
        *lower = lower.saturating_sub(done);
        *upper = upper.map(|upper| upper.saturating_sub(done));
        self
    }

    pub(crate) fn summary(&self) -> Summary {
        self.shared.control.counters.summary()
    }

    /// Runs to the end, and says what it came to. Results that were read before are in the counts.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::stream;
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let good: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let bad: Record = r#"{"name": "b"}"#.parse()?;
    /// let summary = stream::iter([good, bad]).push_to(&client).finish().await;
    /// assert_eq!((summary.stats.succeeded, summary.stats.failed), (1, 1));
    /// assert_eq!(summary.first_failures[0].index, 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the adapter. To keep the counts, take a
    /// [`handle`](Self::handle) first.
    pub async fn finish(mut self) -> Summary {
        while poll_fn(|cx| Pin::new(&mut self).poll_next(cx))
            .await
            .is_some()
        {}
        self.summary()
    }

    /// Takes no more input: the stream ends when the items that were taken have their results, at
    /// the latest after `within`. Read it on to the end.
    ///
    /// What has no result by then gets one that says so: [`NotSent`](crate::ErrorKind::NotSent), or
    /// what else is known of it, as under [`Retry::timeout`](crate::Retry::timeout). The rest of the input
    /// can be had by [`into_remainder`](Self::into_remainder) afterwards.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// # let told_to_go = tokio::time::sleep(Duration::from_millis(10));
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let endless = stream::repeat_with(|| record.clone());
    /// let mut results = endless.push_to(&client);
    /// // Such as `tokio::signal::ctrl_c()`.
    /// let mut told_to_go = std::pin::pin!(told_to_go);
    /// let mut is_told = false;
    /// loop {
    ///     let result = tokio::select! {
    ///         _ = &mut told_to_go, if !is_told => {
    ///             is_told = true;
    ///             results.drain(Duration::from_secs(5));
    ///             continue;
    ///         }
    ///         next = results.next() => match next {
    ///             Some(result) => result,
    ///             None => break,
    ///         },
    ///     };
    ///     assert!(result.is_ok());
    /// }
    /// assert_eq!(results.stats().in_window, 0);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn drain(&mut self, within: Duration) {
        self.shared.control.drain(within);
    }

    /// Stops now: gives back the input, and every item that was taken and whose result was not
    /// handed out. Nothing further is sent, and the call is reset.
    ///
    /// It can be called at any time: before the first poll, and after the end.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record = |n| Record::from_json(format!(r#"{{"name": "{n}", "schema_version": "1.0.0"}}"#)).unwrap();
    /// let mut results = stream::iter((0..10).map(record)).push_to(&client);
    /// results.next().await;
    /// let left = results.into_remainder();
    /// let taken = left.unread.len() + left.unsent.len() + left.unanswered.len();
    /// assert_eq!((taken, left.next_index, left.input_ended), (9, 10, true));
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// If a poll has panicked before.
    #[must_use]
    pub fn into_remainder(mut self) -> Remainder<S, G::Item> {
        if !self.ended {
            self.shared.control.stop();
            let mut cx = Context::from_waker(Waker::noop());
            // It stops at the next poll without a wait.
            let _ = self.results.as_mut().poll_next(&mut cx);
        }
        self.shared
            .remainder()
            .expect("a generator that has ended leaves what it had")
    }
}

impl<S, G> Stream for Adapter<S, G>
where
    G: Stream<Item: ItemResult> + ?Sized,
{
    type Item = G::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<G::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.in_a_row == RESULTS_IN_A_ROW {
            this.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(next) = this.results.as_mut().poll_next(cx) else {
            this.in_a_row = 0;
            return Poll::Pending;
        };
        if next.is_some() {
            this.in_a_row += 1;
            this.handed_out += 1;
            let (lower, upper) = &mut this.expected;
            *lower = lower.saturating_sub(1);
            *upper = upper.map(|upper| upper.saturating_sub(1));
        } else {
            this.ended = true;
        }
        Poll::Ready(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.expected {
            _ if self.ended => (0, Some(0)),
            (_, upper) if self.shared.control.is_cut_short() => (0, upper),
            expected => expected,
        }
    }
}

impl<S, G> FusedStream for Adapter<S, G>
where
    G: Stream<Item: ItemResult> + ?Sized,
{
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<S, G> fmt::Debug for Adapter<S, G>
where
    G: Stream<Item: ItemResult> + ?Sized,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("method", &self.method)
            .field("handed_out", &self.handed_out)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
