//! Which records a store has, and what changes in that.

mod view;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use self::view::{LAG, View};
use crate::LOG;
use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Clock, Control, Source};
use crate::error::{Error, ErrorKind};
use crate::later::later;
use crate::listen::{self, EventFilter, EventKind, Heard, ListenResult};
use crate::meter::Meter;
use crate::options::Options;
use crate::search::{self, Listed, Query, Seen, Stop};

/// How soon a list follows an event of a record that may match the query.
const SOON: Duration = Duration::from_secs(1);

/// A list that takes long is not made again before so many times as long.
const REST: u32 = 3;

/// What [`Client::follow`] gives. An error is its last item.
pub type FollowResult = Result<Change, Error>;

/// What is to be done to have what a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// It begins: what follows, up to [`InitDone`](Self::InitDone), is what the store has.
    Init,
    /// The store has this record.
    InitApply(Cid),
    /// That was all. What you have and was not among it, the store has not.
    InitDone,
    /// The store has a record that it had not.
    Apply(Cid),
    /// The store no longer has this record, or it no longer matches.
    Delete(Cid),
    /// A list is over that agrees with the events before it: all that was told is what the store had when that list
    /// began, but for what events have told since. The first list, and one that follows a gap at once, are not told of.
    /// How long ago the last of these, or [`InitDone`](Self::InitDone), has come says how old the view may be: in quiet
    /// times, [`Options::relist_every`].
    Confirmed,
}

impl Client {
    /// The records of a store that match, and then each that comes or goes, without an end.
    ///
    /// Whoever carries out each [`Change`] has what the store has, some time later, whatever events are lost. Where
    /// events may be missing, it lists what there is, and gives the difference: behind a call that broke, and behind
    /// each 100 events that come at once ([`Gap`](crate::Gap)), a second later. Servers can lose events without any
    /// such sign, so it lists every 5 minutes, too ([`Options::relist_every`]): so long the view may be wrong.
    /// [`Confirmed`](Change::Confirmed) tells how old it is. Of a record that comes and goes in between, nothing may be
    /// told.
    ///
    /// There is one [`Init`](Change::Init) at the start, and none later. Each record comes once, until it is deleted.
    /// Events of one record that overtake each other, as they may on server 1.2.0, or that are lost, make the view
    /// wrong until the next list.
    ///
    /// Where the query is for all records, what is pushed comes by its event, at once. Otherwise an event does not say
    /// whether the record matches, so a list follows, a second later, or after three times as long as the last one
    /// took.
    ///
    /// `examples/mirror` keeps one store as another is.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::Change;
    /// use futures::StreamExt;
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = agntcy_dir_stream::server::Store::new();
    /// # store.insert(r#"{"name": "a", "version": "1", "schema_version": "1.0.0"}"#.parse()?)?;
    /// # let client = store.client();
    /// let mut changes = client.follow(Query::new());
    /// while let Some(change) = changes.next().await {
    ///     match change? {
    ///         Change::InitApply(cid) | Change::Apply(cid) => println!("+ {cid}"),
    ///         Change::Delete(cid) => println!("- {cid}"),
    ///         Change::InitDone => {
    ///             println!("that is all for now");
    /// #           break;
    ///         }
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for a query with a limit; and what [`search`](Self::search) and
    /// [`listen`](Self::listen) are refused with. While the server is away, or its list stays incomplete, it waits and
    /// tries again, for as long as that lasts. With [`Retry::off`](crate::Retry::off) any fault is its end.
    ///
    /// # Memory
    ///
    /// It keeps the CIDs of what the store has, some 60 bytes each, and up to 4 MiB of what the server sends ahead.
    pub fn follow(&self, query: Query) -> Source<Change> {
        self.follow_with(query, &Options::new())
    }

    /// [`follow`](Self::follow) with [`Options`], of which these count: [`retry`](Options::retry),
    /// [`stall_after`](Options::stall_after), and [`relist_every`](Options::relist_every).
    pub fn follow_with(&self, query: Query, options: &Options) -> Source<Change> {
        let (client, options) = (self.clone(), options.clone());
        Source::new("follow", self, |control, meter| {
            changes(client, query, options, control, meter)
        })
    }
}

type List = Pin<Box<dyn Stream<Item = Result<Change, Stop>> + Send>>;

/// The view, which each list has, too: what was seen is kept once.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<View>>);

impl Shared {
    /// Nobody else waits for it: who follows is polled in one place.
    fn view(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen for Shared {
    type Told = Change;

    fn begin_list(&mut self) {
        self.view().begin_list(Instant::now());
    }

    fn is_asked_for(&mut self) {
        self.view().is_asked_for(Instant::now());
    }

    fn listed(&mut self, cid: Cid) -> Listed<Change> {
        self.view().listed(cid)
    }
}

/// What there is to be done next.
enum Next {
    Heard(Option<ListenResult>),
    Listed(Option<Result<Change, Stop>>),
    ListIsDue,
}

fn changes(
    client: Client,
    query: Query,
    options: Options,
    control: Arc<Control>,
    meter: Meter,
) -> impl Stream<Item = FollowResult> + Send {
    async_stream::stream! {
        let is_right = match query.limit_of() {
            Some(_) => Err(Error::invalid("what is followed has no limit")),
            None => query.check(),
        };
        if let Err(error) = is_right {
            yield Err(error);
            return;
        }
        yield Ok(Change::Init);
        let filter = EventFilter::new().kind(EventKind::Pushed).kind(EventKind::Deleted);
        let heard = listen::heard(client.clone(), filter, options.clone(), Arc::clone(&control), meter);
        let mut heard = pin!(heard);
        let shared = Shared::default();
        let list = || -> List {
            let (client, query, options) = (client.clone(), query.clone(), options.clone());
            let control = Arc::clone(&control);
            Box::pin(search::found(client, query, options, control, None, shared.clone()))
        };
        let mut listed: Option<List> = None;
        let mut lists = Lists::new(options.relist_every);
        let mut clock = Clock::default();
        let mut is_turn_of_list = false;
        let mut is_confirmed = false;
        loop {
            is_turn_of_list = !is_turn_of_list;
            let next = poll_fn(|cx| {
                // Neither keeps the other from its turn.
                for turn in [is_turn_of_list, !is_turn_of_list] {
                    if !turn {
                        if let Poll::Ready(next) = heard.as_mut().poll_next(cx) {
                            return Poll::Ready(Next::Heard(next));
                        }
                    } else if let Some(listed) = &mut listed {
                        if let Poll::Ready(next) = listed.as_mut().poll_next(cx) {
                            return Poll::Ready(Next::Listed(next));
                        }
                    } else if let Some(due) = lists.due {
                        let now = Instant::now();
                        if due <= now || clock.poll_until(cx, now, Some(due)).is_ready() {
                            return Poll::Ready(Next::ListIsDue);
                        }
                    }
                }
                Poll::Pending
            });
            let next = next.await;
            let now = Instant::now();
            let change = match next {
                Next::Heard(Some(Ok(Heard::Gap(gap)))) => {
                    debug!(target: LOG, ?gap, "events may be missing: a list follows");
                    lists.gap(now);
                    None
                }
                Next::Heard(Some(Ok(Heard::Event(event)))) => match (event.kind, event.cid()) {
                    (EventKind::Deleted, Some(cid)) => shared.view().went(cid, now),
                    (EventKind::Pushed, Some(cid)) if query.is_for_all() => shared.view().came(cid, now),
                    (EventKind::Pushed, Some(_)) => {
                        lists.may_have_more(now);
                        None
                    }
                    _ => None,
                },
                Next::Heard(Some(Err(error))) => {
                    yield Err(error);
                    return;
                }
                Next::Heard(None) => return,
                Next::ListIsDue => {
                    lists.begin(now);
                    listed = Some(list());
                    None
                }
                Next::Listed(Some(Ok(change))) => Some(change),
                // It is the last item of a list that is whole but for that.
                Next::Listed(Some(Err(Stop { error, is_whole: true }))) => {
                    warn!(target: LOG, %error, "some of what the store lists cannot be followed");
                    None
                }
                Next::Listed(Some(Err(Stop { error, .. }))) => {
                    listed = None;
                    shared.view().end_list(false);
                    if !options.retry.is_on() || !may_pass(&error) {
                        yield Err(error);
                        return;
                    }
                    info!(target: LOG, %error, "what is followed could not be listed: it is tried again");
                    lists.failed(now, |times| options.retry.wait_after(times));
                    None
                }
                Next::Listed(None) => {
                    listed = None;
                    let mut view = shared.view();
                    let change = view.end_list(true);
                    is_confirmed = lists.end(now, view.asked(), view.is_overruled());
                    change
                }
            };
            is_confirmed &= change != Some(Change::InitDone);
            if let Some(change) = change {
                yield Ok(change);
            }
            while let Some(gone) = sweep(&shared) {
                for change in gone {
                    yield Ok(change);
                }
                tokio::task::yield_now().await;
            }
            if std::mem::take(&mut is_confirmed) {
                yield Ok(Change::Confirmed);
            }
        }
    }
}

/// The next that are gone. No lock is held while they are told.
fn sweep(shared: &Shared) -> Option<Vec<Change>> {
    shared.view().sweep()
}

/// Whether a list may come to its end at another time.
fn may_pass(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable
            | ErrorKind::CircuitOpen
            | ErrorKind::Incomplete
            | ErrorKind::ServerFailed
            | ErrorKind::NotSent
            | ErrorKind::Mismatch
    )
}

/// When what is there is listed.
#[derive(Debug)]
struct Lists {
    every: Duration,
    /// When the next one is due. `None`: when it is known that somebody listens.
    due: Option<Instant>,
    began: Instant,
    /// How long the last one took that was whole.
    took: Duration,
    /// How many have failed in a row.
    failed: u32,
    /// Whether the next one may be older than what has happened, so that another follows.
    is_early: bool,
    /// Whether that is so of the one that runs, or was the last.
    was_early: bool,
    /// After one that has failed: none before that.
    rests: Option<Instant>,
}

impl Lists {
    fn new(every: Duration) -> Self {
        Self {
            every,
            due: None,
            began: Instant::now(),
            took: Duration::ZERO,
            failed: 0,
            is_early: false,
            was_early: false,
            rests: None,
        }
    }

    /// One is wanted by then, or when it may be.
    fn want(&mut self, at: Instant) {
        let at = at.max(later(self.began, self.took * REST));
        let at = self.rests.map_or(at, |rests| rests.max(at));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Events may be missing. The server may not even listen yet, or be behind with its lists.
    fn gap(&mut self, now: Instant) {
        self.is_early = true;
        self.want(now);
    }

    /// A record has come that may be one of those that are followed.
    fn may_have_more(&mut self, now: Instant) {
        self.is_early = true;
        self.want(now + SOON);
    }

    fn begin(&mut self, now: Instant) {
        self.began = now;
        self.due = Some(later(now, self.every));
        self.was_early = std::mem::take(&mut self.is_early);
        if self.was_early {
            self.want(now + LAG);
        }
    }

    /// It was whole. Returns whether it can be relied on.
    fn end(&mut self, now: Instant, asked: Option<Instant>, is_overruled: bool) -> bool {
        self.failed = 0;
        self.rests = None;
        // It may have waited for a server that was away, which says nothing of a list.
        self.began = asked.unwrap_or(self.began);
        self.took = now.saturating_duration_since(self.began);
        let due = self.due.take();
        if let Some(due) = due {
            self.want(due);
        }
        if is_overruled {
            self.want(now + LAG);
        }
        !is_overruled && !self.was_early
    }

    fn failed(&mut self, now: Instant, wait: impl Fn(u32) -> Duration) {
        self.failed += 1;
        let rests = later(now, wait(self.failed).max(SOON));
        self.rests = Some(rests);
        self.due = None;
        self.want(rests);
        self.is_early = true;
    }
}
