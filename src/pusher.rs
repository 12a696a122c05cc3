//! One push for many who have a record now and then.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::{mpsc, oneshot};

use crate::client::Client;
use crate::engine::Leftover;
use crate::error::{Error, ErrorKind};
use crate::failed::Failed;
use crate::handle::Handle;
use crate::options::Options;
use crate::push::{PushExt as _, PushResult};
use crate::record::Record;
use crate::stats::Summary;

/// So many records may wait for the adapter to take them. Whoever has more waits itself.
const WAITING: usize = 16;

/// Pushes records for a service: [`Client::pusher`] makes it, and each request handler has a clone.
///
/// All share one adapter, with its window, its calls, and what it knows of the server. So a hundred handlers take one
/// call, and not one each.
#[derive(Clone)]
pub struct Pusher {
    requests: mpsc::Sender<Request>,
    handle: Handle,
}

/// Where the result goes.
type Answer = oneshot::Sender<PushResult>;

struct Request {
    record: Record,
    answer: Answer,
}

impl Client {
    /// A push that many share, for services whose request handlers have a record each. The future does the work: it has
    /// to be polled, as in a task of its own.
    ///
    /// It ends, with a summary, when all clones of the [`Pusher`] are dropped and each record has its result; or when
    /// the pusher's [`handle`](Pusher::handle) has it drain. Each handler gets its own result as soon as it is there, so
    /// [`Options::unordered`] is always on, and [`Options::stop_on_error`] off. Nor does it end with an outage, or when it is
    /// denied: [`Options::keep_trying`] is always on, too.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use agntcy_dir_stream::prelude::*;
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = agntcy_dir_stream::server::Store::new();
    /// # let client = store.client();
    /// let (pusher, pushing) = client.pusher(&Options::new());
    /// let pushing = tokio::spawn(pushing);
    ///
    /// // A hundred request handlers.
    /// let handlers = (0..100).map(|n| {
    ///     let pusher = pusher.clone();
    ///     tokio::spawn(async move {
    ///         let text = format!(r#"{{"name": "{n}", "schema_version": "1.0.0"}}"#);
    ///         pusher.push(text.parse()?).await.map_err(agntcy_dir_stream::Error::from)
    ///     })
    /// });
    /// for handler in handlers.collect::<Vec<_>>() {
    ///     println!("{}", handler.await??.cid);
    /// }
    ///
    /// // The end of the service.
    /// pusher.handle().drain(Duration::from_secs(5));
    /// let summary = pushing.await?;
    /// assert_eq!((summary.stats.succeeded, summary.stats.calls), (100, 1));
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the calls are reset. Who waits for a result gets an error.
    ///
    /// # Panics
    ///
    /// The future does when it is polled outside of a tokio runtime with its timers enabled.
    #[must_use = "nothing is pushed unless the future is polled"]
    pub fn pusher(
        &self,
        options: &Options,
    ) -> (Pusher, impl Future<Output = Summary> + Send + use<>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let options = options
            .clone()
            .unordered(true)
            .stop_on_error(false)
            .keep_trying(true);
        let results = Requests(receiver).push_to_with(self, &options);
        let pusher = Pusher {
            requests: sender,
            handle: results.handle(),
        };
        (pusher, async move {
            let mut results = results;
            while let Some(result) = poll_fn(|cx| Pin::new(&mut results).poll_next(cx)).await {
                answer(result);
            }
            let summary = results.summary();
            let rest = results.into_remainder();
            rest.unread.into_iter().for_each(answer);
            give_back(rest.unsent, ErrorKind::NotSent);
            give_back(rest.unanswered, ErrorKind::OutcomeUnknown);
            let mut requests = rest.input;
            requests.0.close();
            while let Some(request) = requests.0.recv().await {
                let _ = request
                    .answer
                    .send(Err(ended(request.record, ErrorKind::NotSent)));
            }
            summary
        })
    }
}

impl Pusher {
    /// Pushes one record, as [`push_to`](crate::PushExt::push_to) does, and waits for its result. It waits while the
    /// adapter has no room for more.
    ///
    /// The index in the result is the record's place among those of all; 0 where it was not taken.
    ///
    /// # Errors
    ///
    /// Those of `push_to`. Once the adapter drains or has ended, a record is [`NotSent`](ErrorKind::NotSent). If the
    /// future that does the work is dropped meanwhile, what became of the record is
    /// [unknown](ErrorKind::OutcomeUnknown). The record comes back in the error.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the record is pushed all the same once the adapter has taken it; nobody gets the
    /// result.
    pub async fn push(&self, record: Record) -> PushResult {
        if self.handle.is_cut_short() {
            return Err(ended(record, ErrorKind::NotSent));
        }
        let (answer, answered) = oneshot::channel();
        // It copies no data.
        let request = Request {
            record: record.clone(),
            answer,
        };
        if self.requests.send(request).await.is_err() {
            return Err(ended(record, ErrorKind::NotSent));
        }
        match answered.await {
            Ok(result) => result,
            Err(_) => Err(ended(record, ErrorKind::OutcomeUnknown)),
        }
    }

    /// A handle of the adapter: its counts, and how to end it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

/// The input of the adapter.
struct Requests(mpsc::Receiver<Request>);

impl Stream for Requests {
    type Item = (Record, Answer);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while let Some(Request { record, answer }) = ready!(self.0.poll_recv(cx)) {
            // Who has gone away wants nothing any more.
            if !answer.is_closed() {
                return Poll::Ready(Some((record, answer)));
            }
        }
        Poll::Ready(None)
    }
}

/// Gives a result to who waits for it. One who has gone away wants none.
fn answer(result: PushResult<Answer>) {
    let _ = match result {
        Ok(pushed) => {
            let (pushed, answer) = pushed.take_tag();
            answer.send(Ok(pushed))
        }
        Err(failed) => {
            let (failed, answer) = failed.take_tag();
            answer.send(Err(failed))
        }
    };
}

fn give_back(items: Vec<Leftover<Record, Answer>>, kind: ErrorKind) {
    for Leftover { input, tag, .. } in items {
        let _ = tag.send(Err(ended(input, kind)));
    }
}

fn ended(record: Record, kind: ErrorKind) -> Failed<Record> {
    let mut failed = Failed::new(
        0,
        record,
        Error::new(kind, "the pusher takes no more, or has ended"),
    );
    failed.operation = "push";
    failed
}
