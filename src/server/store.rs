//! The store itself: what it holds, how it is set, what it has seen.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::ToSocketAddrs;
use tokio::sync::watch;

use super::budget::Budget;
use super::call::{Call, Hook, Log};
use super::connection;
use super::content::Content;
use super::events::Events;
use super::fault::{Fault, Faults};
use super::identity::Authorize;
use super::inner::{AlreadyStored, Inner, Validate, Validation};
use super::listen::{self, Serving};
use super::live;
use super::memory;
use super::publications::Publications;
use crate::cid::Cid;
use crate::client::Client;
use crate::error::Error;
use crate::record::Record;
use crate::referrers::Referrer;

/// How many calls a connection may have: as a Go server allows.
const MAX_CALLS: u32 = 1000;

const MAX_CONNECTIONS: usize = 10_000;

/// Enough for 32 calls that each have an answer of 4 MiB on its way and the next one in hand.
const MAX_BUFFERED: usize = 256 << 20;

/// As long as a Go server's.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// An in-memory DIR store. Cheap to clone; clones are the same store.
///
/// See the [module](super) for what it is and is not.
#[derive(Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

/// Sets a [`Store`] up: [`Store::builder`].
#[derive(Default)]
#[must_use]
pub struct Builder {
    validate: Option<Box<Validate>>,
    authorize: Option<Box<Authorize>>,
    already_stored: AlreadyStored,
    release_1_2: bool,
    event_buffer: Option<usize>,
    max_calls: Option<u32>,
    max_connections: Option<usize>,
    max_buffered: Option<usize>,
    idle_timeout: Option<Duration>,
    compresses: bool,
    round_trip: Duration,
    ended: Option<Box<Hook>>,
}

impl Builder {
    /// A check of each pushed record, after the store's own.
    ///
    /// ```
    /// use agntcy_dir_stream::server::{Store, Validation};
    ///
    /// let store = Store::builder().validate(|record| match record.schema_version() {
    ///     Some("1.0.0" | "1.1.0") => Validation::Pass,
    ///     // What a real server says of a version that its schema service does not serve.
    ///     _ => Validation::Fail("schema URL validation failed: HTTP 404".into()),
    /// });
    /// # let _ = store.build();
    /// ```
    pub fn validate(
        mut self,
        validator: impl Fn(&Record) -> Validation + Send + Sync + 'static,
    ) -> Self {
        self.validate = Some(Box::new(validator));
        self
    }

    /// Accepts calls only with a bearer token for which this is true, as a DIR server does that takes JWTs. Any other
    /// call ends with `Unauthenticated`. A call that runs goes on, whatever becomes of its token.
    ///
    /// ```
    /// use agntcy_dir_stream::server::Store;
    ///
    /// let store = Store::builder().authorize(|token| token == "open sesame").build();
    /// # let _ = store;
    /// ```
    pub fn authorize(mut self, accepts: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.authorize = Some(Box::new(accepts));
        self
    }

    /// What to answer to a push of a record, or of a referrer, that is there already.
    pub fn already_stored(mut self, answer: AlreadyStored) -> Self {
        self.already_stored = answer;
        self
    }

    /// Whether to answer as server 1.2.0 where it differs from later ones: it has no `CountRecords`; in searches it does
    /// not look at negation, the sort mode and the types of queries from 15 on, and lists the records as its database
    /// gives them: by their CIDs, or as they came if queries look at what they say. Default: no.
    ///
    /// Otherwise, the newest come first, or those that clients have pulled and looked up the most, if the sort mode is
    /// `POPULARITY`. All other modes are as `RECENCY`.
    pub fn release_1_2(mut self, is: bool) -> Self {
        self.release_1_2 = is;
        self
    }

    /// How many events the store keeps for a listener that has not taken them; what is beyond is lost to it, without a
    /// word. Default: 100, as on a real server. What the connection holds comes on top of it.
    ///
    /// An event of a record with very many labels takes megabytes. What is beyond 16 MiB for a listener is lost to it,
    /// too, but one event waits in any case. What is beyond [`max_buffered`](Self::max_buffered) is lost to all.
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub fn event_buffer(mut self, events: usize) -> Self {
        assert!(events > 0, "a store keeps one event at least");
        self.event_buffer = Some(events);
        self
    }

    /// How many calls a client may have open at once on one connection; more wait in the client's
    /// transport. Default: 1000, as on a real server.
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub fn max_calls(mut self, calls: u32) -> Self {
        assert!(calls > 0, "a store answers one call at least");
        self.max_calls = Some(calls);
        self
    }

    /// How many connections a [`listen`](Store::listen)ing store serves at once; more wait in the
    /// system's queue. Default: 10,000.
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a store serves one connection at least");
        self.max_connections = Some(connections);
        self
    }

    /// How much memory all calls may take together, in bytes: each for itself 16 KiB, for the largest
    /// message it has sent, for what is there of the one that it sends (with room for as much again while
    /// it grows), twice for a compressed one that is longer than 16 KiB, for what it listens to, and for the
    /// answers that its client has not taken; and each event that waits for those who listen, once. What a
    /// message only announces takes nothing. A call that would take more ends with `ResourceExhausted`, and
    /// may be tried again later. Default: 256 MiB.
    ///
    /// It is for clients that are broken, and not a share for each: one that takes no answers, or sends
    /// its messages slowly, can use it up, and the calls of others are refused as long as it does.
    ///
    /// What a client has sent ahead of a call that does not read on, since its answers are not
    /// taken, is not in it. That is at most 4 MiB a call and 256 MiB a connection.
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.max_buffered = Some(bytes);
        self
    }

    /// After how long without a call a connection over a port is closed, with a GOAWAY that lets its
    /// client open another. Default: 15 minutes, as on a real server. Connections over memory are
    /// not closed.
    pub fn idle_timeout(mut self, after: Duration) -> Self {
        self.idle_timeout = Some(after);
        self
    }

    /// Whether to compress the records of a pull for a client that accepts it, as far as the features
    /// `gzip` and `zstd` are on. Default: no. Compressed requests are taken in any case.
    ///
    /// (A Go server, if it knows the encoding, compresses all answers to a call that names it as that
    /// of its requests, and no others.)
    pub fn compress_pulled(mut self, compress: bool) -> Self {
        self.compresses = compress;
        self
    }

    /// Called at the end of each call, for logging.
    pub fn on_call_end(mut self, hook: impl Fn(&Call) + Send + Sync + 'static) -> Self {
        self.ended = Some(Box::new(hook));
        self
    }

    /// How long bytes of a client over memory ([`Store::client`]) take, there and back. Default: no time. The line takes
    /// nothing of the throughput.
    ///
    /// What waiting for a server far away costs a pipeline can be seen so, under a paused clock without waiting:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::server::Store;
    /// use futures::stream;
    /// use tokio::time::Instant;
    ///
    /// // In a test: #[tokio::test(start_paused = true)]
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), agntcy_dir_stream::Error> {
    /// let client = Store::builder().round_trip(Duration::from_millis(50)).build().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let began = Instant::now();
    /// stream::iter([record]).push_to(&client).finish().await;
    /// assert!(began.elapsed() >= Duration::from_millis(50));
    /// # Ok(())
    /// # }
    /// ```
    pub fn round_trip(mut self, time: Duration) -> Self {
        self.round_trip = time;
        self
    }

    /// The store, empty.
    #[must_use]
    pub fn build(self) -> Store {
        let max_buffered = self.max_buffered.unwrap_or(MAX_BUFFERED);
        let budget = Arc::new(Budget::new(max_buffered, live::REFUSAL));
        Store {
            inner: Arc::new(Inner {
                content: Content::default(),
                publications: Publications::default(),
                events: Events::new(self.event_buffer, &budget),
                faults: Faults::default(),
                log: Arc::new(Log::new(self.ended)),
                warnings: Arc::default(),
                validate: self.validate,
                authorize: self.authorize,
                already_stored: self.already_stored,
                release_1_2: self.release_1_2,
                max_calls: self.max_calls.unwrap_or(MAX_CALLS),
                max_connections: self.max_connections.unwrap_or(MAX_CONNECTIONS),
                idle_timeout: self.idle_timeout.unwrap_or(IDLE_TIMEOUT),
                budget,
                compresses: self.compresses,
                round_trip: self.round_trip,
            }),
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("already_stored", &self.already_stored)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// An empty store with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A store with settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A client of this store over memory: HTTP/2 as ever, but no port. Each client has a
    /// connection of its own, which is made with the first call and again when it breaks.
    #[must_use]
    pub fn client(&self) -> Client {
        memory::client(&self.inner)
    }

    /// Serves this store on a TCP address, such as `127.0.0.1:8888`, or `127.0.0.1:0` for any
    /// free port; to be called in a tokio runtime. It serves until the [`Serving`] is shut down
    /// or dropped.
    ///
    /// There is no TLS, and no authentication but [`Builder::authorize`]: it is for tests, and for machines you trust.
    ///
    /// # Errors
    ///
    /// Those of binding the address.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future serves nothing.
    pub async fn listen(&self, address: impl ToSocketAddrs) -> io::Result<Serving> {
        listen::listen(&self.inner, address).await
    }

    /// Serves one connection over what is handed over, to its end: a Unix socket, a simulated network, a pipe. It has to be
    /// polled in a tokio runtime; calls run in tasks of their own. Dropped, it breaks the connection.
    ///
    /// It is as one over a port: a client that says nothing is left after 10 seconds, one that is gone is found out by
    /// pings, and one that is idle is told to go ([`Builder::idle_timeout`]). [`Builder::max_connections`] is not looked
    /// at. [`calls`](Self::calls) says how its calls have ended. If the connection itself does not end in peace, the
    /// [log](crate#seen-from-outside) is told why, in the span that this is polled in: what is handed over has no
    /// address.
    ///
    /// ```
    /// use agntcy_dir_stream::Client;
    /// use agntcy_dir_stream::server::Store;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::new();
    /// let served = store.clone();
    /// let client = Client::builder("http://pipe")
    ///     .connector(move |_| {
    ///         let (near, far) = tokio::io::duplex(1 << 16);
    ///         tokio::spawn(served.serve(far));
    ///         async { Ok(near) }
    ///     })
    ///     .connect()
    ///     .await?;
    /// client.push(r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?).await?;
    /// assert_eq!(store.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn serve<IO>(&self, io: IO) -> impl Future<Output = ()> + Send + use<IO>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let store = Arc::clone(&self.inner);
        let idle = Some(store.idle_timeout);
        // Nobody stops it: it is dropped.
        let (_, never) = watch::channel(false);
        connection::serve(store, io, None, never, idle)
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.content.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the record of this CID is there.
    #[must_use]
    pub fn contains(&self, cid: &Cid) -> bool {
        self.inner.content.contains(cid)
    }

    /// The record of this CID.
    #[must_use]
    pub fn get(&self, cid: &Cid) -> Option<Record> {
        self.inner.content.record(cid)
    }

    /// All CIDs, sorted.
    #[must_use]
    pub fn cids(&self) -> Vec<Cid> {
        self.inner.content.cids()
    }

    /// Puts a record in without a call, and without validation. One that is there already is left
    /// as it is. Those who listen hear of a new one.
    ///
    /// # Errors
    ///
    /// Those of [`Record::cid`].
    pub fn insert(&self, record: Record) -> Result<Cid, Error> {
        let cid = record.cid()?;
        self.inner.insert(cid, record);
        Ok(cid)
    }

    /// Removes the record of this CID without a call, with what refers to it. Those who listen hear of it, if it
    /// was there.
    pub fn remove(&self, cid: &Cid) {
        let inner = &self.inner;
        let show = |was_there| {
            if was_there {
                inner.tell_deleted(cid);
            }
        };
        inner.content.remove(cid, show);
    }

    /// How many calls listen to events now. [`wait_for`](Self::wait_for) looks again when that changes:
    ///
    /// ```
    /// # use agntcy_dir_stream::server::Store;
    /// # async fn example(store: Store) {
    /// store.wait_for(|_| store.listeners() == 1).await;
    /// # }
    /// ```
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.inner.events.count()
    }

    /// Works through the publications that wait, in the order in which they were asked for. It is what the worker of
    /// a real server does once in an hour.
    ///
    /// One is completed if all its records are there, and failed if one is not; those that are there are published
    /// all the same.
    ///
    /// Those that wait take 64 MiB of memory at most: what is asked for beyond that is refused with `ResourceExhausted`. Of
    /// those that are done, the last 10,000 can be asked for.
    pub fn run_publications(&self) {
        self.inner.run_publications();
    }

    /// Whether the record of this CID is published. As on a real server it stays so when the record is deleted.
    #[must_use]
    pub fn is_published(&self, cid: &Cid) -> bool {
        self.inner.publications.is_published(cid)
    }

    /// Puts a referrer into the store, if it is not there, and returns its CID. Its type may be any.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound), where there is no record for it to refer to;
    /// [`Invalid`](crate::ErrorKind::Invalid), where its data are malformed.
    pub fn insert_referrer(&self, referrer: &Referrer) -> Result<Cid, Error> {
        self.inner.insert_referrer(referrer)
    }

    /// What refers to the record of this CID, in the order in which it came.
    #[must_use]
    pub fn referrers(&self, record: &Cid) -> Vec<Referrer> {
        self.inner.referrers(record)
    }

    /// Removes all records, what refers to them, and what is published or waits for it. Those who listen hear of each
    /// record.
    pub fn clear(&self) {
        let inner = &self.inner;
        inner.content.clear(|cid| inner.tell_deleted(cid));
        self.inner.publications.clear();
    }

    /// Has a fault wait for its request.
    pub fn inject(&self, fault: Fault) {
        self.inner.faults.inject(fault);
    }

    /// The injected faults that are not used up, in the order in which they were injected.
    ///
    /// A fault that is set to happen several [`times`](Fault::times) is among them until the last,
    /// with the number of times that are left.
    ///
    /// A test that ends with this shows that what it was to survive has happened:
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::server::{Fault, Method, Store};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::new();
    /// store.inject(Fault::cut().on(Method::Push));
    /// store.inject(Fault::cut().on(Method::Delete));
    ///
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// store.client().push(record).await?;
    ///
    /// let pending = store.pending_faults();
    /// assert_eq!(pending.len(), 1, "nothing was deleted: {pending:?}");
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    #[must_use]
    pub fn pending_faults(&self) -> Vec<Fault> {
        self.inner.faults.pending()
    }

    /// The calls that the store has seen, the oldest first: at most the last 10,000.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.inner.log.calls()
    }

    /// Waits until `holds` is true of [`calls`](Self::calls), and returns them. It looks again
    /// whenever a call changes.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped.
    pub async fn wait_for(&self, holds: impl FnMut(&[Call]) -> bool) -> Vec<Call> {
        self.inner.log.wait_for(holds).await
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("records", &self.len())
            .finish_non_exhaustive()
    }
}
