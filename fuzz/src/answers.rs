//! One operation against a server whose answers are any bytes, cut anywhere, with any head and trailers.

mod play;
mod script;

use std::sync::Arc;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{CircuitBreaker, ErrorKind, Failed, Retry};
use arbitrary::{Arbitrary, Result, Unstructured};
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, timeout};

use self::play::Server;
use self::script::Script;
use crate::MOST_POLLS;
use crate::known::KNOWN;
use crate::memory::bounded;
use crate::service::Service;
use crate::support::clock::{in_a_week, on_paused_clock};
use crate::support::no_spin::NoSpin;

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Operation {
    Push,
    Pull,
    Lookup,
    Exists,
    Delete,
    PushReferrers,
    PullReferrers,
    DeleteReferrers,
    Publish,
    Unpublish,
    Search,
    Listen,
}

#[derive(Debug)]
struct Case {
    operation: Operation,
    items: usize,
    window: usize,
    lanes: usize,
    unordered: bool,
    skip_stored: bool,
    script: Script,
}

impl Case {
    fn of(choices: &mut Unstructured<'_>) -> Result<Self> {
        Ok(Self {
            operation: choices.arbitrary()?,
            items: choices.int_in_range(1..=8)?,
            window: choices.int_in_range(1..=8)?,
            lanes: choices.int_in_range(1..=2)?,
            unordered: choices.ratio(1, 4)?,
            skip_stored: choices.ratio(1, 4)?,
            script: Script::of(choices)?,
        })
    }

    fn options(&self) -> Options {
        Options::new()
            .window(self.window)
            .calls(self.lanes)
            .unordered(self.unordered)
            .skip_stored(self.skip_stored)
            .retry(Retry::new().max_attempts(3).timeout(TIME))
    }
}

/// How long an item is tried.
const TIME: Duration = Duration::from_secs(12);

/// How long events are listened to.
const LISTENS: Duration = Duration::from_secs(60);

/// What becomes of an item: its index, and its error.
type Seen = (u64, Option<ErrorKind>);

/// Runs a case that these bytes choose.
pub fn run(data: &[u8]) -> Result<()> {
    let case = Case::of(&mut Unstructured::new(data))?;
    // So that they do not count.
    assert!(!KNOWN.is_empty());
    // Each call may make room for the longest answer, as soon as one is announced; and what a byte stands for is larger
    // than itself.
    let most = (case.lanes + 2) * (5 << 20) + (4 << 20) + 256 * data.len();
    bounded("the case", most, || on_paused_clock(play(&case)));
    Ok(())
}

async fn play(case: &Case) {
    fastrand::seed(7);
    let server = Server::new(&case.script);
    let breaker = CircuitBreaker::new().give_up_after(Some(TIME));
    let client = Client::from_service(Service::over(&server)).with_breaker(breaker);
    let options = case.options();
    let began = Instant::now();
    match case.operation {
        Operation::Search => return search(&client, &server, &options).await,
        Operation::Listen => return listen(&client, &server, &options).await,
        _ => {}
    }
    let mut results = NoSpin::new(results(case, &client, &options), MOST_POLLS);
    let mut seen = Vec::new();
    while let Some(result) = in_a_week(results.next()).await {
        seen.push(result);
        assert!(seen.len() <= case.items, "more results than items");
    }
    // While the breaker is open items are tried one after the other.
    let most = (TIME + TIME) * (case.items as u32 + 1);
    assert!(began.elapsed() <= most, "it took {:?}", began.elapsed());
    server.assert_few_calls(began, case.items);
    if !case.unordered {
        assert!(seen.is_sorted_by_key(|(index, _)| *index), "input order");
    }
    seen.sort_by_key(|(index, _)| *index);
    let indexes = seen.iter().map(|(index, _)| *index);
    assert!(indexes.eq(0..case.items as u64), "one result for each item");
}

/// A search finds each record once, and ends with an error if not in peace.
async fn search(client: &Client, server: &Arc<Server>, options: &Options) {
    let began = Instant::now();
    let mut found = NoSpin::new(
        client.search_with(Query::new().name("agent*"), options),
        MOST_POLLS,
    );
    let mut cids = std::collections::HashSet::new();
    let mut failed = None;
    while let Some(result) = in_a_week(found.next()).await {
        assert!(failed.is_none(), "an error is the last item");
        match result {
            Ok(cid) => assert!(cids.insert(cid), "{cid} is found twice"),
            Err(error) => failed = Some(error),
        }
    }
    let most = (TIME + TIME) * (2 + cids.len() as u32);
    assert!(began.elapsed() <= most, "it took {:?}", began.elapsed());
    server.assert_few_calls(began, 1 + cids.len());
}

/// It has no end but a refusal.
async fn listen(client: &Client, server: &Arc<Server>, options: &Options) {
    let began = Instant::now();
    let mut heard = NoSpin::new(client.listen_with(EventFilter::new(), options), MOST_POLLS);
    let mut count = 0;
    let _ = timeout(LISTENS, async {
        let mut has_failed = false;
        while let Some(result) = heard.next().await {
            assert!(!has_failed, "an error is the last item");
            has_failed = result.is_err();
            count += 1;
        }
        assert!(has_failed, "it ended without a reason");
    })
    .await;
    server.assert_few_calls(began, count);
}

/// Asserts that the success is of what was asked for.
fn results(case: &Case, client: &Client, options: &Options) -> BoxStream<'static, Seen> {
    fn seen<S, I>(
        result: std::result::Result<S, Failed<I>>,
        success: impl FnOnce(S) -> (u64, Cid),
    ) -> Seen {
        match result {
            Ok(value) => {
                let (index, cid) = success(value);
                assert_eq!(cid, KNOWN[index as usize].cid, "the outcome of another");
                (index, None)
            }
            Err(failed) => {
                let words = failed.to_string();
                assert!(words.len() < 64 << 10, "{} bytes of words", words.len());
                (failed.index, Some(failed.kind()))
            }
        }
    }
    let records = stream::iter((0..case.items).map(|number| KNOWN[number].record.clone()));
    let cids = stream::iter((0..case.items).map(|number| KNOWN[number].cid));
    match case.operation {
        Operation::Push => {
            let results = records.push_to_with(client, options);
            results
                .map(|result| seen(result, |success| (success.index, success.cid)))
                .boxed()
        }
        Operation::Pull => {
            let own = |record: &Record| record.cid().expect("it was verified");
            let results = cids.pull_from_with(client, options);
            results
                .map(move |result| seen(result, |success| (success.index, own(&success.record))))
                .boxed()
        }
        Operation::Lookup => {
            let results = cids.lookup_in_with(client, options);
            results
                .map(|result| seen(result, |success| (success.index, success.cid)))
                .boxed()
        }
        Operation::Exists => {
            let results = cids.exists_in_with(client, options);
            results
                .map(|result| seen(result, |success| (success.index, success.cid)))
                .boxed()
        }
        Operation::Delete => {
            let results = cids.delete_from_with(client, options);
            results
                .map(|result| seen(result, |success| (success.index, success.cid)))
                .boxed()
        }
        Operation::PushReferrers => {
            let referrers = cids.map(play::referrer);
            let results = referrers.push_referrers_to_with(client, options);
            results
                .map(|result| seen(result, |success| (success.index, success.record)))
                .boxed()
        }
        Operation::PullReferrers => {
            let results = cids.pull_referrers_from_with(client, options);
            results
                .map(|result| seen(result, |success| (success.index, success.record)))
                .boxed()
        }
        Operation::DeleteReferrers => {
            let results = cids.delete_referrers_from_with(client, options);
            results
                .map(|result| seen(result, |success| (success.index, success.record)))
                .boxed()
        }
        Operation::Publish => {
            let results = cids.publish_to_with(client, options);
            results
                .map(|result| seen(result, |success| (success.index, success.cid)))
                .boxed()
        }
        Operation::Unpublish => {
            let results = cids.unpublish_from_with(client, options);
            results
                .map(|result| seen(result, |success| (success.index, success.cid)))
                .boxed()
        }
        Operation::Search | Operation::Listen => unreachable!("they have no items"),
    }
}
