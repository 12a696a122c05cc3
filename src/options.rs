//! What a caller may choose for an adapter.

use std::time::Duration;

use crate::engine::Pool;
use crate::retry::Retry;

/// How an adapter works: the size of its window, over how many calls, what it checks, how hard it
/// tries, and how long its calls live.
///
/// It is given to the `*_with` form of each adapter. It is a plain value: a stream that runs keeps the
/// options that it was made with.
///
/// ```
/// use agntcy_dir_stream::Options;
///
/// let options = Options::new().window(64).verify(false);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    pub(crate) window: usize,
    pub(crate) window_bytes: usize,
    pub(crate) verify: bool,
    pub(crate) verify_threads: usize,
    pub(crate) verify_pool: Pool,
    pub(crate) retry: Retry,
    pub(crate) stall_after: Option<Duration>,
    pub(crate) max_call_age: Option<Duration>,
    pub(crate) idle_close: Option<Duration>,
    pub(crate) stop_on_error: bool,
    pub(crate) keep_trying: bool,
    pub(crate) unordered: bool,
    pub(crate) dedup: bool,
    pub(crate) skip_stored: bool,
    pub(crate) resume_past_input_errors: bool,
    pub(crate) calls: usize,
    pub(crate) rate: Option<u32>,
    pub(crate) relist_every: Duration,
    pub(crate) min_in_flight: usize,
    max_in_flight: usize,
}

impl Options {
    /// The default of [`window`](Self::window): 1024 items. Without a delay, records take as little
    /// CPU from 256 on (lookups in windows of 16, 64, 256, 1024 and 4096 took 1.45, 0.85, 0.75, 0.74 and
    /// 0.74 µs each, setup included); over a round trip of 10 ms, 1024 are 100,000 records a second.
    pub const DEFAULT_WINDOW: usize = 1024;

    /// The default of [`window_bytes`](Self::window_bytes): 16 MiB, four records of the largest
    /// size a server takes.
    pub const DEFAULT_WINDOW_BYTES: usize = 16 * 1024 * 1024;

    /// The default of [`stall_after`](Self::stall_after): 1 minute.
    pub const DEFAULT_STALL_AFTER: Duration = Duration::from_secs(60);

    /// The default of [`max_call_age`](Self::max_call_age): 4 minutes.
    pub const DEFAULT_MAX_CALL_AGE: Duration = Duration::from_secs(240);

    /// The default of [`idle_close`](Self::idle_close): 1 minute.
    pub const DEFAULT_IDLE_CLOSE: Duration = Duration::from_secs(60);

    /// The default of [`relist_every`](Self::relist_every): 5 minutes.
    pub const DEFAULT_RELIST_EVERY: Duration = Duration::from_secs(5 * 60);

    /// The defaults: one call with a window of 1024 items and 16 MiB, with CIDs verified, results in input
    /// order, [`Retry::new`], and calls that are replaced after 4 minutes, after 1 minute without
    /// progress, and after 1 minute without work.
    pub const fn new() -> Self {
        Self {
            window: Self::DEFAULT_WINDOW,
            window_bytes: Self::DEFAULT_WINDOW_BYTES,
            verify: true,
            verify_threads: 0,
            verify_pool: Pool::TOKIO,
            retry: Retry::new(),
            stall_after: Some(Self::DEFAULT_STALL_AFTER),
            max_call_age: Some(Self::DEFAULT_MAX_CALL_AGE),
            idle_close: Some(Self::DEFAULT_IDLE_CLOSE),
            stop_on_error: false,
            keep_trying: false,
            unordered: false,
            dedup: true,
            skip_stored: false,
            resume_past_input_errors: false,
            calls: 1,
            rate: None,
            relist_every: Self::DEFAULT_RELIST_EVERY,
            min_in_flight: 1,
            max_in_flight: usize::MAX,
        }
    }

    pub(crate) fn max_in_flight(&self) -> usize {
        self.max_in_flight.min(self.window)
    }

    /// How many items may be taken from the input and not yet have their result handed out. It is also how many are
    /// repeated at most after `kill -9`, with a [`Checkpoint`](crate::Checkpoint).
    ///
    /// It bounds memory, and how far all calls together run ahead of the answers: a window of 1 waits
    /// for each answer before the next item is taken. As many items as the server answers in a round trip
    /// are enough. With several [`calls`](Self::calls) each has its part of the window. Results that wait
    /// for their turn in the order are in the window, too. For a delete it is also the largest segment, which is
    /// acknowledged as a whole.
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub const fn window(mut self, items: usize) -> Self {
        assert!(items > 0, "a window has room for one item at least");
        self.window = items;
        self
    }

    /// How many bytes the window may hold: the encoded records of a push; of a pull the CIDs and the
    /// records that have come and wait to be handed out; of a lookup the same with its answers.
    ///
    /// An item's size is known only once it is taken, so the window can exceed this by one item;
    /// an item larger than the whole bound is sent alone. No more is asked for than there is room for,
    /// if the next answers are as long as those before; of a pull's first 64 records nothing is known,
    /// so these can exceed it. The first item that waits for its answer is always asked for.
    ///
    /// What a ref type of yours holds is not counted.
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub const fn window_bytes(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a window has room for one byte at least");
        self.window_bytes = bytes;
        self
    }

    /// Whether answers are checked against what was asked. On by default.
    ///
    /// For a push, the record must have a CID before it is sent, and the server must answer with
    /// that one; for a pull, the record must hash to the CID asked for; for a lookup, the metadata
    /// must be of the CID asked for. An answer that does not match is that item's error, of kind
    /// [`Mismatch`](crate::ErrorKind::Mismatch). For push and pull the check costs one pass of
    /// canonical JSON and SHA-256 over the record.
    pub const fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// On how many threads the CIDs of records are computed, beside the task that polls the adapter. Default: 0, in the
    /// task alone.
    ///
    /// It is for pushes and pulls that [verify](Self::verify), and helps where another core is idle: of the CPU that a
    /// record takes, most is for its CID. Beside a server that takes no CPU of this machine, one thread makes records
    /// of 1.7 KB 1.7 times as fast (`cargo bench --bench verify`, two cores), and takes 5 to 15 % more CPU. On two
    /// cores with the server on the same machine, a push is no faster, and may be slower.
    ///
    /// Results, their order, errors and bounds stay what they are: a record that waits for its CID is in the
    /// [`window`](Self::window). A [duplicate](Self::dedup) whose CID is not known yet when the result of the first one
    /// is handed out is sent, too. The other adapters compute no CIDs, and do not look at this option.
    ///
    /// The threads are those that tokio has for what blocks ([`spawn_blocking`](tokio::task::spawn_blocking)).
    /// [`verify_on`](Self::verify_on) takes others. Each is used as long as there is something to verify, and the task
    /// verifies too when it has nothing else to do. Records go there in batches of 16, or fewer once they have 64 KiB.
    /// What comes alone and is shorter than 8 KiB is verified in the task, since that takes less time than to hand it
    /// over. When the adapter is dropped, what is under way ends after the current record, and is thrown away.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record = |n| Record::from_json(format!(r#"{{"name": "{n}", "schema_version": "1.0.0"}}"#)).unwrap();
    /// let options = Options::new().verify_threads(2);
    /// let records = stream::iter((0..100).map(record));
    /// let pushed = records.push_to_with(&client, &options).map(|pushed| pushed.unwrap().cid);
    /// let pulled = pushed.pull_from_with(&client, &options);
    /// assert_eq!(pulled.finish().await.stats.succeeded, 100);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub const fn verify_threads(mut self, threads: usize) -> Self {
        self.verify_threads = threads;
        self
    }

    /// [`verify_threads`](Self::verify_threads) on a pool of yours: `spawn` is given jobs to run, at most `threads` of
    /// them at a time.
    ///
    /// A job runs as long as there is something to verify, and blocks meanwhile; an adapter may start hundreds, one
    /// after the other. It may run at once, in `spawn` itself: then the task does the work. It may begin late, or be
    /// kept or dropped: then another job or the task does its work. With 0 threads, `spawn` is not called.
    ///
    /// ```
    /// use agntcy_dir_stream::Options;
    ///
    /// // `rayon::spawn` in place of `std::thread::spawn`, for example.
    /// let options = Options::new().verify_on(4, |job| drop(std::thread::spawn(job)));
    /// # let _ = options;
    /// ```
    pub fn verify_on(
        mut self,
        threads: usize,
        spawn: impl Fn(Box<dyn FnOnce() + Send>) + Send + Sync + 'static,
    ) -> Self {
        self.verify_threads = threads;
        self.verify_pool = Pool::new(spawn);
        self
    }

    /// How hard the adapter tries. [`Retry::off`] is not at all.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How long a call may make no progress before it is dropped and another goes on in its
    /// place. Default: 1 minute; `None`: for ever.
    ///
    /// A connection that makes no progress may be dead without knowing it, so a client that made it
    /// itself makes another for the calls to come.
    ///
    /// Progress is any answer, and any bytes that go out or come in. What goes out counts in pieces of
    /// 128 KiB, and may be noticed only when this time is up. So a call whose last requests have left, and
    /// that is silent since, may be dropped after twice the time.
    ///
    /// The time counts only while something is in flight and the adapter waits for it. The time in which
    /// the consumer works on a result does not count. It must be longer than the server takes for one
    /// record. A delete is acknowledged by the whole segment that a call carries: a segment that takes
    /// longer is sent again in halves.
    ///
    /// # Panics
    ///
    /// At a time of zero, by which no call would ever do anything.
    #[track_caller]
    pub const fn stall_after(mut self, time: Option<Duration>) -> Self {
        if let Some(Duration::ZERO) = time {
            panic!("a call that may make no progress for 0 s can never make any");
        }
        self.stall_after = time;
        self
    }

    /// How long a call may live, once it has carried an item, before another takes over. It is closed, its
    /// answers are read to the end, and the next items get a new call. Nothing is lost or sent again, and no
    /// try is spent. Default: 4 minutes; `None`: for ever. Each call's age is shortened at random by up to a
    /// tenth, so that adapters do not all turn at once.
    ///
    /// A DIR server tells a connection to go away after 30 minutes, and cuts what still runs on it 5
    /// minutes later. With the default no call is cut, if a window of answers comes in the minute that
    /// is left and the adapter is polled. At zero, each call is replaced as soon as it has
    /// carried an item.
    pub const fn max_call_age(mut self, age: Option<Duration>) -> Self {
        self.max_call_age = age;
        self
    }

    /// How long a call may have nothing to do before it is closed; the next item opens another.
    /// Default: 1 minute; `None`: for ever. A call that has carried nothing yet has a second at least.
    ///
    /// Proxies cut calls that are silent for long, 5 minutes in Envoy. At zero, a call is closed as soon as it has
    /// nothing to do.
    pub const fn idle_close(mut self, time: Option<Duration>) -> Self {
        self.idle_close = time;
        self
    }

    /// Whether the first failed item ends the stream, after its result. Off by default.
    ///
    /// What is left, and what is known of it, is had by
    /// [`Adapter::into_remainder`](crate::Adapter::into_remainder). In input order nothing behind
    /// the failed item has been handed out then, though some of it may have landed.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let good: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let bad: Record = r#"{"name": "b"}"#.parse()?;
    /// let records = stream::iter([bad, good]);
    /// let options = Options::new().stop_on_error(true);
    ///
    /// let mut results = records.push_to_with(&client, &options);
    /// assert!(results.next().await.unwrap().is_err());
    /// assert!(results.next().await.is_none());
    /// let remainder = results.into_remainder();
    /// assert_eq!(remainder.unsent[0].index, 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub const fn stop_on_error(mut self, stop: bool) -> Self {
        self.stop_on_error = stop;
        self
    }

    /// Whether an adapter that has given up goes on with what comes later. Off by default: then all that the input
    /// still has fails at once, which is right where the input ends, and can be read again.
    ///
    /// It is for inputs without an end, such as the messages of a queue. An adapter gives up when the server
    /// [denies](crate::ErrorKind::Denied) it or does not have its [method](crate::ErrorKind::Unsupported), and when it
    /// was away for [too long](crate::CircuitBreaker::give_up_after). What is in the window fails then, and what comes
    /// within the next wait of [`Retry::backoff`](crate::Retry::backoff), which grows as long as nothing is answered.
    /// Then the next item is sent again. [`Client::pusher`](crate::Client::pusher) has it always on.
    ///
    /// In that wait the input is read as fast as it gives, whatever the [`rate`](Self::rate), and each item fails. So
    /// what is given back to a queue should be given back with a delay. A [`Checkpoint`](crate::Checkpoint) stays
    /// before the first item that failed so.
    pub const fn keep_trying(mut self, keep: bool) -> Self {
        self.keep_trying = keep;
        self
    }

    /// Yield results as they come, in place of input order. Off by default; each result still has
    /// its index.
    ///
    /// Then an item that waits for its next try, or is in a slower one of several [`calls`](Self::calls), holds up
    /// nobody, until the adapter is eight windows ahead of it; with a [`Checkpoint`](crate::Checkpoint), one window.
    /// The results of a delete, and of one call that runs without faults, come in order all the same.
    pub const fn unordered(mut self, unordered: bool) -> Self {
        self.unordered = unordered;
        self
    }

    /// Whether [`Stats::answered_below`](crate::Stats::answered_below), where a later run resumes, goes past the errors
    /// of a fallible input (`try_push_to` and the like). Off by default: the input may give the item the next time, and
    /// a later run that begins behind it would leave it out. Turn it on where the error stays the same, as with a line
    /// that is no record.
    ///
    /// It is for all errors of the input, or none. Of a mirror, whose input fails for good where a record is missing
    /// and for now where its server is away, no setting is right: have the first stage's missing records left out
    /// before the second (`filter`), and leave this off.
    pub const fn resume_past_input_errors(mut self, past: bool) -> Self {
        self.resume_past_input_errors = past;
        self
    }

    /// Whether an item that is the same as another in the window has that one's outcome, and is not sent itself. On by
    /// default.
    ///
    /// Two items of a push, pull or lookup are the same if their CIDs are. A push knows them where it verifies
    /// ([`verify`](Self::verify)). The result says which item it is the same as: `duplicate_of`, in
    /// [`Pushed`](crate::Pushed), [`Pulled`](crate::Pulled), [`Found`](crate::Found) and [`Failed`](crate::Failed). If
    /// that one was given up without an answer, the next is tried in its place. What is further apart than the window
    /// is sent again, and so is what is deleted.
    ///
    /// Without it, a record that comes twice in a row ends a call on a server that refuses stored records. With it, an
    /// item costs 250 instructions more (a hash table of the window's CIDs; by callgrind, November 2026), of some 6,300
    /// for a lookup and 29,000 for a push.
    pub const fn dedup(mut self, dedup: bool) -> Self {
        self.dedup = dedup;
        self
    }

    /// Whether a push leaves out what is stored already, as most is when the same sources are imported every night. Off
    /// by default.
    ///
    /// Such a record is not sent. Its result is a success that is marked as
    /// [`already_stored`](crate::Pushed::already_stored).
    ///
    /// To find that out, records are looked up before they are pushed. A lookup ends its call at the first record that
    /// is missing, so it shows a whole run of stored records at once, but only one missing record. So the adapter
    /// measures how many records its lookups find, how long they take, and how long a push takes, and looks up where
    /// that saves time. Elsewhere it pushes, and tries a lookup now and then. So some stored records may be pushed,
    /// which does no harm.
    ///
    /// Over a long line (a round trip of more than some ten pushes) it finds few, and where stored and new records come
    /// in runs as long as that, it can take half as long again. Lookups that fail, or take longer than a second, are
    /// tried less and less.
    ///
    /// It needs the CID of each record, also where [`verify`](Self::verify) is off. It is about pushes alone.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::stream;
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record = |n| Record::from_json(format!(r#"{{"name": "{n}", "schema_version": "1.0.0"}}"#)).unwrap();
    /// let options = Options::new().skip_stored(true);
    /// let first = stream::iter((0..500).map(record)).push_to_with(&client, &options).finish().await;
    /// let second = stream::iter((0..500).map(record)).push_to_with(&client, &options).finish().await;
    /// assert_eq!(second.stats.succeeded, 500);
    /// assert!(second.stats.sent < 50, "{second}");
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub const fn skip_stored(mut self, skip: bool) -> Self {
        self.skip_stored = skip;
        self
    }

    /// How many calls the adapter may have open at once. Default: 1.
    ///
    /// A DIR server works through a call one record after the other, so where a record takes time,
    /// as a push does whose validation is slow, several calls are as many times as fast, as far as
    /// the server has the means. They share the one [`window`](Self::window), each with its part of
    /// it; results still come in input order, for which the results of faster calls wait in the
    /// window, unless [`unordered`](Self::unordered) is on.
    ///
    /// A call is opened when there is an item for it and no other call is idle, on the node and
    /// connection of the client that has the fewest
    /// ([`Client::with_connections`](crate::Client::with_connections),
    /// [`Client::with_nodes_of`](crate::Client::with_nodes_of)). Where the server allows fewer calls
    /// at once, as many are open as it allows. When a call ends at a bad record, breaks or grows old,
    /// the others go on.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record = |n| Record::from_json(format!(r#"{{"name": "{n}", "schema_version": "1.0.0"}}"#)).unwrap();
    /// let records = stream::iter((0..100).map(record));
    /// let results = records.push_to_with(&client, &Options::new().calls(8));
    /// let indexes: Vec<_> = results.map(|result| result.unwrap().index).collect().await;
    /// assert!(indexes.is_sorted());
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub const fn calls(mut self, calls: usize) -> Self {
        assert!(calls > 0, "an adapter has one call at least");
        self.calls = calls;
        self
    }

    /// How long [`Client::follow`](crate::Client::follow) trusts in events alone, until it lists again what is there.
    /// Default: 5 minutes. It counts from the beginning of the last list; a list that takes long makes it longer.
    ///
    /// A server can lose events without anybody's notice, so this is how long the view may be wrong then.
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub const fn relist_every(mut self, time: Duration) -> Self {
        assert!(!time.is_zero(), "a list takes some time");
        self.relist_every = time;
        self
    }

    /// How many items a second are taken from the input at most, as a directory may ask of its guests. Default: no
    /// limit.
    ///
    /// They are spaced out evenly; of a rate above 100, some are taken together, ten milliseconds' worth at most. A
    /// pause is not made up for. The end of the input is seen when the next item might be taken. What is sent again
    /// does not count. It is for this adapter alone; the rate of calls, which a server may limit itself, is that of all
    /// adapters of a client ([`Client::with_call_rate`](crate::Client::with_call_rate)).
    ///
    /// A delete half-closes its call as soon as no more items are ready, so those that are taken together have a call
    /// of their own.
    ///
    /// ```
    /// use agntcy_dir_stream::Options;
    ///
    /// let politely = Options::new().rate(50);
    /// # let _ = politely;
    /// ```
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub const fn rate(mut self, items_per_second: u32) -> Self {
        assert!(
            items_per_second > 0,
            "an adapter takes one item a second at least"
        );
        self.rate = Some(items_per_second);
        self
    }

    /// How many requests one call may have unanswered, at least and at most, where calls keep ending
    /// at bad records. Default: from 1 to the [`window`](Self::window), which bounds it always.
    ///
    /// What is behind a bad record in its call was sent in vain and is sent again. So the number is
    /// kept such that no more than nine requests are sent in vain for each ten that are answered.
    /// Where bad records are rare, it is at `max`, and where they become rare, it grows back by a
    /// tenth in each round trip.
    ///
    /// It begins with what the adapters of this [`Client`](crate::Client) have seen of the same operation, which is
    /// forgotten within minutes. Where nothing is known, it begins with as many as are 512 KiB over all calls, but 64
    /// at least: the whole window of lookups, and 209 records of 2.5 KB. Until a call ends, it has four times as many
    /// after each round trip. If a bad record is among the first, what was sent in vain behind it is made up for: less
    /// is sent in vain later on.
    ///
    /// The same number for both turns this off. If `min` is above `max`, `max` counts. A
    /// delete, which has no answer for each ref, has its own way of halving.
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub const fn in_flight(mut self, min: usize, max: usize) -> Self {
        assert!(
            min > 0 && max > 0,
            "a call has one request in flight at least"
        );
        self.min_in_flight = min;
        self.max_in_flight = max;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_what_the_docs_say() {
        assert_eq!(Options::DEFAULT_WINDOW, 1024);
        assert_eq!(Options::DEFAULT_WINDOW_BYTES, 4 * 4 * 1024 * 1024);
        assert_eq!(Options::DEFAULT_STALL_AFTER.as_secs(), 60);
        assert_eq!(Options::DEFAULT_MAX_CALL_AGE.as_secs(), 4 * 60);
        assert_eq!(Options::DEFAULT_IDLE_CLOSE.as_secs(), 60);
        assert_eq!(Options::DEFAULT_RELIST_EVERY.as_secs(), 5 * 60);
        let defaults = Options::default();
        assert_eq!(defaults.stall_after, Some(Options::DEFAULT_STALL_AFTER));
        assert_eq!(defaults.max_call_age, Some(Options::DEFAULT_MAX_CALL_AGE));
        assert_eq!(defaults.idle_close, Some(Options::DEFAULT_IDLE_CLOSE));
        assert_eq!(defaults.relist_every, Options::DEFAULT_RELIST_EVERY);
        assert!(defaults.dedup);
        assert_eq!(defaults.window, Options::DEFAULT_WINDOW);
        assert_eq!(defaults.window_bytes, Options::DEFAULT_WINDOW_BYTES);
        assert!(defaults.verify && defaults.retry.is_on());
        assert_eq!(defaults.verify_threads, 0);
        assert!(!defaults.stop_on_error && !defaults.unordered);
        assert_eq!(defaults.calls, 1);
        assert_eq!(defaults.min_in_flight, 1);
        assert_eq!(defaults.max_in_flight(), Options::DEFAULT_WINDOW);
    }
}
