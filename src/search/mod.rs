//! What a server has: the CIDs of the records that match a query.

mod ask;
mod query;
mod seen;

use std::collections::HashSet;
use std::future::poll_fn;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use futures_core::Stream;
use futures_util::TryStreamExt as _;
use tokio::time::Instant;
use tonic::Status;
use tracing::debug;

use self::ask::Asking;
pub use self::query::{Query, Sort};
use self::seen::HandedOut;
pub(crate) use self::seen::{Listed, Seen};
use crate::LOG;
use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Broke, Control, Reader, Said, ServerStream, Source, Why};
use crate::error::{Error, ErrorKind};
use crate::later::later;
use crate::meter::Meter;
use crate::options::Options;
use crate::proto::search::{CountRecordsRequest, SearchCidsResponse, SearchRequest};

const SEARCH_CIDS: &str = "/agntcy.dir.search.v1.SearchService/SearchCIDs";

/// What [`Client::search`] gives. An error is its last item.
pub type SearchResult = Result<Cid, Error>;

impl Client {
    /// The CIDs of all records that match, each once.
    ///
    /// The stream is whole, or its last item is an error. A call that breaks is made again, and what was handed out
    /// before is left out. When the server says that its list is over, the search compares it with what the server
    /// counts (`CountRecords`), before or after the call; where the server does not count, as server 1.2.0, it asks for
    /// one more. If there is more, it asks again.
    ///
    /// A record that is pushed or deleted during the search may be in it or not. [`follow`](Self::follow) goes on with
    /// those.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, TryStreamExt};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (from, to) = (agntcy_dir_stream::server::Store::new(), agntcy_dir_stream::server::Store::new());
    /// # from.insert(r#"{"name": "web-agent", "version": "1", "schema_version": "1.0.0"}"#.parse()?)?;
    /// # from.insert(r#"{"name": "other", "version": "1", "schema_version": "1.0.0"}"#.parse()?)?;
    /// # let (from, to) = (from.client(), to.client());
    /// let found = from.search(Query::new().name("web*"));
    /// // Pulled and pushed as they are found.
    /// let mut copied = found.try_pull_from(&from).try_push_to(&to);
    /// while let Some(result) = copied.next().await {
    ///     let pushed = result?;
    ///     println!("{}", pushed.cid);
    /// }
    /// # assert_eq!(to.count(Query::new()).await?, 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Invalid`](ErrorKind::Invalid) for a query with a term that servers ignore, before anything is sent;
    ///   [`Unsupported`](ErrorKind::Unsupported) for one with a kind that this server ignores ([`Query`]).
    /// - [`Incomplete`](ErrorKind::Incomplete) if the list stays shorter than what there is, for as many tries as
    ///   [`Retry::max_attempts`](crate::Retry::max_attempts) allows in which nothing new comes; and if it is told to end
    ///   ([`Source::handle`]).
    /// - [`Mismatch`](ErrorKind::Mismatch) behind all the others, if what was listed are not all CIDs; and for an
    ///   answer that cannot be read.
    /// - [`Denied`](ErrorKind::Denied), [`Rejected`](ErrorKind::Rejected), [`ServerFailed`](ErrorKind::ServerFailed),
    ///   [`Unavailable`](ErrorKind::Unavailable), [`CircuitOpen`](ErrorKind::CircuitOpen) as of any adapter.
    ///
    /// # Memory
    ///
    /// It keeps the CIDs that it has handed out, some 60 bytes each, and up to 4 MiB of what the server sends ahead.
    pub fn search(&self, query: Query) -> Source<Cid> {
        self.search_with(query, &Options::new())
    }

    /// [`search`](Self::search) with [`Options`], of which these count: [`retry`](Options::retry), whose
    /// [`timeout`](crate::Retry::timeout) is how long nothing new may come, and [`stall_after`](Options::stall_after).
    pub fn search_with(&self, query: Query, options: &Options) -> Source<Cid> {
        let (client, options) = (self.clone(), options.clone());
        Source::new(SearchCids::NAME, self, |control, meter| {
            let seen = HandedOut::default();
            found(client, query, options, control, Some(meter), seen).map_err(|stop| stop.error)
        })
        .whole_or("the search was told to end before its list did")
    }

    /// How many records match, whatever the query's limit.
    ///
    /// While the server is away, it waits as a search does, for 5 minutes with the client's
    /// [`CircuitBreaker`](crate::CircuitBreaker) as it is by default. [`count_with`](Self::count_with) has other
    /// limits.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) by a server that does not count, as server 1.2.0; and those of
    /// [`search`](Self::search).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn count(&self, query: Query) -> Result<u64, Error> {
        self.count_with(query, &Options::new()).await
    }

    /// [`count`](Self::count) with [`Options`], of which [`retry`](Options::retry) and
    /// [`stall_after`](Options::stall_after) count.
    ///
    /// # Errors
    ///
    /// Those of `count`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn count_with(&self, query: Query, options: &Options) -> Result<u64, Error> {
        let asking = Asking {
            client: self,
            options,
            control: None,
        };
        look_at(&asking, &query).await?;
        let queries = query.queries();
        asking.count(CountRecordsRequest { queries }).await
    }
}

/// How many texts that are no CIDs are told apart in a list.
const MOST_STRANGE: usize = 100_000;

struct SearchCids;

impl ServerStream for SearchCids {
    const NAME: &'static str = "search";
    const METHOD: &'static str = SEARCH_CIDS;
    const MAX_ANSWER_LEN: usize = 64 << 10;
    const IS_SILENT: bool = false;
    type Request = SearchRequest;
    type Answer = SearchCidsResponse;
}

/// Whether each term of the query will be looked at.
async fn look_at(asking: &Asking<'_>, query: &Query) -> Result<(), Error> {
    query.check()?;
    for (request, term) in query.contradictions() {
        match asking.finds_any(request).await {
            Ok(false) => {}
            Ok(true) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("the server ignores {term}, and would find other records"),
                ));
            }
            // It knows the term well enough to refuse its opposite.
            Err(error) if error.kind() == ErrorKind::Rejected => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Why a search ends before its time.
pub(crate) struct Stop {
    pub(crate) error: Error,
    /// Whether all that are CIDs were handed out.
    pub(crate) is_whole: bool,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self {
            error,
            is_whole: false,
        }
    }
}

/// What there is to tell of the records that match `query`, and why it is not all.
pub(crate) fn found<S: Seen + Send>(
    client: Client,
    query: Query,
    options: Options,
    control: Arc<Control>,
    meter: Option<Meter>,
    seen: S,
) -> impl Stream<Item = Result<S::Told, Stop>> + Send {
    async_stream::stream! {
        let mut search = Search::new(client, query, options, control, meter, seen);
        if let Err(error) = search.look_at_query().await {
            yield Err(error.into());
            return;
        }
        loop {
            match search.begin().await {
                Ok(()) => {}
                Err(error) => {
                    yield Err(error.into());
                    return;
                }
            }
            while let Some(told) = search.next().await {
                yield Ok(told);
            }
            match search.end().await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    yield Err(error.into());
                    return;
                }
            }
        }
        if let Some(error) = search.no_cids {
            yield Err(Stop { error, is_whole: true });
        }
    }
}

fn asking<'a>(client: &'a Client, options: &'a Options, control: &'a Control) -> Asking<'a> {
    Asking {
        client,
        options,
        control: Some(control),
    }
}

/// A search: calls that list, one after the other.
struct Search<S> {
    client: Client,
    query: Query,
    options: Options,
    control: Arc<Control>,
    reader: Reader<SearchCids>,
    seen: S,
    /// How many were handed out.
    found: usize,
    /// How many are in this list, each once.
    listed: usize,
    /// The most that any list had.
    furthest: usize,
    /// Whether this list has brought anything new, or got further than those before it.
    is_new: bool,
    /// How many records there were before this list, if that is known.
    before: Option<u64>,
    /// How many lists in a row have brought nothing new.
    in_vain: u32,
    /// How the call of this list broke.
    broke: Option<Broke>,
    /// Hashes of what this list has that are no CIDs.
    strange: HashSet<u64>,
    hasher: RandomState,
    no_cids: Option<Error>,
}

impl<S: Seen> Search<S> {
    fn new(
        client: Client,
        query: Query,
        options: Options,
        control: Arc<Control>,
        meter: Option<Meter>,
        seen: S,
    ) -> Self {
        Self {
            reader: Reader::new(&client, &options, &control, meter),
            client,
            query,
            options,
            control,
            seen,
            found: 0,
            listed: 0,
            furthest: 0,
            is_new: false,
            before: None,
            in_vain: 0,
            broke: None,
            strange: HashSet::new(),
            hasher: RandomState::new(),
            no_cids: None,
        }
    }

    fn limit(&self) -> usize {
        self.query.limit_of().unwrap_or(usize::MAX)
    }

    async fn look_at_query(&mut self) -> Result<(), Error> {
        let asking = asking(&self.client, &self.options, &self.control);
        look_at(&asking, &self.query).await
    }

    /// How many records match. `None`: the server does not count.
    async fn count(&mut self) -> Result<Option<u64>, Error> {
        let queries = self.query.queries();
        let request = CountRecordsRequest { queries };
        let asking = asking(&self.client, &self.options, &self.control);
        match asking.count(request).await {
            Ok(count) => Ok(Some(count)),
            // Where only that is refused, the list itself can be asked.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins a list.
    async fn begin(&mut self) -> Result<(), Error> {
        self.seen.begin_list();
        self.listed = 0;
        self.is_new = false;
        self.strange.clear();
        self.no_cids = None;
        // A list that comes to its limit need not be compared with anything.
        self.before = match self.query.limit_of() {
            None => self.count().await?,
            Some(_) => None,
        };
        let request = self.query.to_request();
        self.broke = poll_fn(|cx| self.reader.poll_open(cx, &request))
            .await
            .err();
        self.seen.is_asked_for();
        Ok(())
    }

    /// The next that was not handed out. `None`: the call is over.
    async fn next(&mut self) -> Option<S::Told> {
        // A list has no more than its limit, of which some may be known from another, or be no CIDs.
        while self.broke.is_none() && self.found.max(self.listed) < self.limit() {
            let answer = match poll_fn(|cx| self.reader.poll_next(cx, None)).await {
                Said::Answer(answer) => answer,
                Said::Ended => return None,
                Said::Nothing => continue,
                Said::Broke(broke) => {
                    self.broke = Some(broke);
                    return None;
                }
            };
            let cid = match answer.record_cid.parse::<Cid>() {
                Ok(cid) => cid,
                Err(error) => {
                    // It is handed out to nobody, so nothing has gone on.
                    if self.strange.len() < MOST_STRANGE
                        && self
                            .strange
                            .insert(self.hasher.hash_one(&answer.record_cid))
                    {
                        self.listed += 1;
                    }
                    let words = "the server lists what is no CID";
                    let error = Error::new(ErrorKind::Mismatch, words).with_source(error);
                    self.no_cids.get_or_insert(error);
                    continue;
                }
            };
            match self.seen.listed(cid) {
                Listed::Twice => {}
                Listed::Known => self.lists_one_more(),
                Listed::New(told) => {
                    self.lists_one_more();
                    self.found += 1;
                    self.is_new = true;
                    self.reader.goes_on();
                    return Some(told);
                }
            }
        }
        None
    }

    /// A list that gets further than those before it makes progress.
    fn lists_one_more(&mut self) {
        self.listed += 1;
        if self.listed > self.furthest {
            self.furthest = self.listed;
            self.is_new = true;
            self.reader.goes_on();
        }
    }

    /// What the list comes to: whether all is found, or another list is to follow.
    async fn end(&mut self) -> Result<bool, Error> {
        self.in_vain = if self.is_new { 0 } else { self.in_vain };
        if let Some(broke) = self.broke.take() {
            self.broken(broke)?;
            return Ok(false);
        }
        self.reader.hang_up();
        if self.is_whole().await? {
            return Ok(true);
        }
        let words = format!(
            "the server has listed {} records, and there are more",
            self.listed
        );
        debug!(target: LOG, listed = self.listed, before = self.before, "a list was cut short");
        let status = Arc::new(Status::data_loss(words.clone()));
        self.reader.note_fault(&status);
        self.in_vain += u32::from(!self.is_new);
        if self.in_vain >= self.options.retry.attempts_allowed() || !self.options.retry.is_on() {
            return Err(Error::new(ErrorKind::Incomplete, words));
        }
        let wait = self.options.retry.wait_after(self.in_vain + 1);
        let until = later(Instant::now(), wait);
        poll_fn(|cx| self.reader.poll_rest(cx, until)).await;
        Ok(false)
    }

    async fn is_whole(&mut self) -> Result<bool, Error> {
        let listed = self.listed as u64;
        if self.found.max(self.listed) >= self.limit()
            || self.before.is_some_and(|before| listed >= before)
        {
            return Ok(true);
        }
        if let Some(after) = self.count().await? {
            return Ok(listed >= after.min(self.limit() as u64));
        }
        let one_more = SearchRequest {
            limit: Some(1),
            offset: Some(listed.try_into().unwrap_or(u32::MAX)),
            ..self.query.to_request()
        };
        let asking = asking(&self.client, &self.options, &self.control);
        let is_more = asking.finds_any(one_more).await?;
        Ok(!is_more)
    }

    /// Whether another call may follow one that broke.
    fn broken(&mut self, broke: Broke) -> Result<(), Error> {
        let retry = &self.options.retry;
        // A call that has listed something had its token accepted.
        let was_at_it = match broke.why {
            Why::Renewed => self.listed > 0,
            Why::Fault { had_request } => had_request || self.listed > 0,
            _ => true,
        };
        self.in_vain += u32::from(was_at_it && !self.is_new);
        let has_tries = self.in_vain < retry.attempts_allowed();
        let is_free = broke.why == Why::Renewed && !was_at_it;
        match broke.may_pass(retry) && (has_tries || is_free) {
            true => Ok(()),
            false => Err(broke.into_error(retry)),
        }
    }
}
