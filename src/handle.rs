//! A hold on an adapter from elsewhere.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use futures_util::future::{Either, select};
use tokio::time::{MissedTickBehavior, interval};

use crate::engine::Control;
use crate::stats::{Counters, Stats};

/// Looks at an adapter, and ends it, from elsewhere: from another task, or when the adapter is inside of a combinator.
/// [`Adapter::handle`](crate::Adapter::handle) gives it. Cheap to clone; it keeps nothing alive but the counts and the client's circuit breakers.
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
/// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
/// let endless = stream::repeat_with(move || record.clone());
/// let results = endless.push_to(&client);
/// let handle = results.handle();
/// let import = tokio::spawn(async move {
///     results.filter(|result| std::future::ready(result.is_ok())).count().await
/// });
/// # while handle.stats().succeeded == 0 { tokio::task::yield_now().await }
/// // Such as at `tokio::signal::ctrl_c()`: what was taken is brought to an end.
/// handle.drain(Duration::from_secs(5));
/// let pushed = import.await?;
/// assert_eq!(handle.stats().succeeded, pushed as u64);
/// assert!(handle.has_ended());
/// # Ok(())
/// # }
/// # #[cfg(feature = "server")]
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Handle(Arc<Control>);

impl Handle {
    pub(crate) fn of(control: &Arc<Control>) -> Self {
        Self(Arc::clone(control))
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// What the adapter has done so far. The counts are read one after the other while it may be at
    /// work, so they can be a step apart.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.counters.stats()
    }

    /// The last fault in words, for a log: why a call broke, or where the server failed, with the
    /// causes behind it (`tcp connect error: Connection refused (os error 111)`). The words of a
    /// status or cause are cut behind 4 KiB, and escaped as in [`Error`](crate::Error). A port that is
    /// silent is a fault after [20 seconds](crate::ClientBuilder::connect_timeout).
    #[must_use]
    pub fn last_fault(&self) -> Option<String> {
        self.0.counters.last_fault()
    }

    /// Whether the adapter has ended, or was dropped.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.has_ended()
    }

    /// Whether it was told to end.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.0.is_cut_short() || self.0.has_ended()
    }

    /// Has the adapter take no more input: its stream ends when the items that were taken have their results, at the
    /// latest after `within`. See [`Adapter::drain`](crate::Adapter::drain). A second one replaces the deadline.
    pub fn drain(&self, within: Duration) {
        self.0.drain(within);
    }

    /// Ends the adapter at its next poll, which its task is woken for: its calls are reset, and its stream ends. One that
    /// nobody polls keeps its calls.
    ///
    /// Items that were taken and have no result get none, as if the adapter was dropped. Who still has the adapter can
    /// have them back by [`into_remainder`](crate::Adapter::into_remainder).
    pub fn stop(&self) {
        self.0.stop();
    }

    /// The counts now and after each `every`, for a progress bar; and a last time when the adapter has ended, or was
    /// dropped. Then the stream ends.
    ///
    /// It has to be polled in a tokio runtime. One that is polled late leaves counts out.
    ///
    /// # Panics
    ///
    /// If `every` is zero; and when the stream is polled outside of a tokio runtime with its timers enabled.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, future, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record = |n| Record::from_json(format!(r#"{{"name": "{n}", "schema_version": "1.0.0"}}"#)).unwrap();
    /// let results = stream::iter(0..1_000).map(record).push_to(&client);
    /// let progress = results.handle().watch(Duration::from_secs(1));
    /// let shown = progress.for_each(async |stats| println!("{stats}"));
    /// let (summary, ()) = future::join(results.finish(), shown).await;
    /// assert_eq!(summary.stats.succeeded, 1_000);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    #[track_caller]
    pub fn watch(&self, every: Duration) -> impl Stream<Item = Stats> + Send + Unpin + use<> {
        assert!(!every.is_zero(), "counts are shown after a time");
        let control = Arc::clone(&self.0);
        Box::pin(async_stream::stream! {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                // The end comes first, if both are there.
                let (ended, tick) = (pin!(control.ended()), pin!(ticks.tick()));
                let has_ended = matches!(select(ended, tick).await, Either::Left(_));
                yield control.counters.stats();
                if has_ended {
                    break;
                }
            }
        })
    }
}
