//! What happens in a server, as it happens.

mod burst;
mod event;

use std::future::poll_fn;
use std::sync::Arc;

use self::burst::Burst;
pub use self::event::{Event, EventFilter, EventKind};
use crate::client::Client;
use crate::engine::{Broke, Control, Reader, Said, ServerStream, Source};
use crate::error::Error;
use crate::meter::Meter;
use crate::options::Options;
use crate::proto::events::{ListenRequest, ListenResponse};
use futures_core::Stream;
use tokio::time::Instant;

/// What [`Client::listen`] gives. An error is its last item.
pub type ListenResult = Result<Heard, Error>;

/// What is heard of a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Heard {
    /// Something has happened.
    Event(Event),
    /// Something may have happened that is not told, just before this. To find out what there is,
    /// [`search`](Client::search).
    Gap(Gap),
}

/// Why events may be missing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Gap {
    /// It begins to listen. What was before, no server tells.
    Begin,
    /// The call broke, for this reason. Another listens now.
    Broke(Error),
    /// A hundred events have come within a second, or behind each other before they were read, so the server may have
    /// dropped some: it keeps 100 for each listener. This comes a second after the last of them, and every ten seconds
    /// as long as there is no end of them.
    Burst,
}

impl Client {
    /// The events of a server from now on, without an end.
    ///
    /// When the call breaks, it is made again, after waits as [`Retry::backoff`](crate::Retry::backoff) says, for as
    /// long as the server is away. Each time, and at the start, there is a [`Gap`]: what happened before it may not
    /// have been told. A server repeats nothing.
    ///
    /// It is first heard with the request gone, and a server sends nothing before the first event: what happens in the
    /// same moment, somewhere on the line, may be told or not. Of several nodes ([`Client::with_nodes_of`]) one is
    /// listened to, and each tells only what was done through it.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::{EventFilter, EventKind, Heard};
    /// use futures::StreamExt;
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = agntcy_dir_stream::server::Store::new();
    /// # let client = store.client();
    /// let mut events = client.listen(EventFilter::new().kind(EventKind::Pushed));
    /// while let Some(heard) = events.next().await {
    ///     match heard? {
    ///         Heard::Event(event) => {
    ///             println!("{:?} {}", event.kind, event.resource);
    /// #           break;
    ///         }
    ///         Heard::Gap(gap) => {
    ///             println!("there may be more than was told: {gap:?}");
    /// #           while store.listeners() == 0 { tokio::task::yield_now().await }
    /// #           store.insert(r#"{"name": "a", "version": "1", "schema_version": "1.0.0"}"#.parse()?)?;
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
    /// [`Denied`](crate::ErrorKind::Denied), [`Unsupported`](crate::ErrorKind::Unsupported) and
    /// [`Rejected`](crate::ErrorKind::Rejected), where the server refuses; [`Mismatch`](crate::ErrorKind::Mismatch) for
    /// an event that cannot be read; with [`Retry::off`](crate::Retry::off), whatever ends the first call.
    ///
    /// # What it cannot tell
    ///
    /// A server drops events when it makes more of them at once than it sends, without a word. Where 100 or more come
    /// at once, a [`Gap`] says so. A server that was set to keep fewer, or that fails in another way, may lose some
    /// without that: so now and then [`search`](Self::search) for what is there, or [`follow`](Self::follow), which
    /// does so.
    ///
    /// A server that is gone without a word is found out by a ping of HTTP/2, after two minutes at most; over a
    /// [service of your own](Self::from_service), if that sends pings.
    pub fn listen(&self, filter: EventFilter) -> Source<Heard> {
        self.listen_with(filter, &Options::new())
    }

    /// [`listen`](Self::listen) with [`Options`], of which [`retry`](Options::retry) counts, without its limits of time
    /// and attempts, and [`stall_after`](Options::stall_after), for how long a call may take to begin.
    pub fn listen_with(&self, filter: EventFilter, options: &Options) -> Source<Heard> {
        let (client, options) = (self.clone(), options.clone());
        Source::new(Listen::NAME, self, |control, meter| {
            heard(client, filter, options, control, meter)
        })
    }
}

struct Listen;

impl ServerStream for Listen {
    const NAME: &'static str = "listen";
    const METHOD: &'static str = "/agntcy.dir.events.v1.EventService/Listen";
    // The labels of a record, which may be most of it. Of an honest server's, each is longer than it is in memory.
    const MAX_ANSWER_LEN: usize = 4 << 20;
    const IS_SILENT: bool = true;
    type Request = ListenRequest;
    type Answer = ListenResponse;
}

/// What is heard of a server, until it refuses.
pub(crate) fn heard(
    client: Client,
    filter: EventFilter,
    options: Options,
    control: Arc<Control>,
    meter: Meter,
) -> impl Stream<Item = ListenResult> + Send {
    async_stream::stream! {
        let mut reader = Reader::<Listen>::new(&client, &options, &control, Some(meter));
        let request = filter.to_request();
        let (mut has_begun, mut lost) = (false, None);
        loop {
            let broke = match begin(&mut reader, &request).await {
                Err(broke) => broke,
                Ok(()) => {
                    let gap = match lost.take() {
                        Some(error) if has_begun => Gap::Broke(error),
                        _ => Gap::Begin,
                    };
                    has_begun = true;
                    yield Ok(Heard::Gap(gap));
                    let mut burst = Burst::new();
                    loop {
                        let until = burst.is_told_at();
                        let event = match poll_fn(|cx| reader.poll_next(cx, until)).await {
                            Said::Answer(ListenResponse { event }) => event,
                            Said::Ended => continue,
                            Said::Nothing => {
                                burst.is_told();
                                yield Ok(Heard::Gap(Gap::Burst));
                                continue;
                            }
                            Said::Broke(broke) => break broke,
                        };
                        let now = Instant::now();
                        burst.event(now, reader.had_caught_up());
                        if let Some(event) = event {
                            yield Ok(Heard::Event(Event::of(event)));
                        }
                        if burst.is_long(now) {
                            burst.is_told();
                            yield Ok(Heard::Gap(Gap::Burst));
                        }
                    }
                }
            };
            let may_pass = broke.may_pass(&options.retry);
            let error = broke.into_error(&options.retry);
            if !may_pass {
                yield Err(error);
                return;
            }
            // The first tells why: behind it, a server that is away only cannot be reached.
            lost.get_or_insert(error);
        }
    }
}

/// Makes a call, until its request has left.
async fn begin(reader: &mut Reader<Listen>, request: &ListenRequest) -> Result<(), Broke> {
    poll_fn(|cx| reader.poll_open(cx, request)).await?;
    poll_fn(|cx| reader.poll_started(cx)).await
}
