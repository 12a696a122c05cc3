//! What a search asks beside its list: how many there are, and whether there is one at all.

use std::future::{Future, poll_fn};
use std::pin::pin;

use crate::client::Client;
use crate::engine::{Control, drive};
use crate::error::{Error, ErrorKind};
use crate::failed::Failed;
use crate::handle::Handle;
use crate::item::ItemsOf;
use crate::operation::{Acknowledged, Done, LostAnswer, NoQuestion, Operation, Place};
use crate::options::Options;
use crate::proto::search::{
    CountRecordsRequest, CountRecordsResponse, SearchCidsResponse, SearchRequest,
};
use crate::single::{once, only};
use crate::stats::Adopted;

/// Who asks.
pub(super) struct Asking<'a> {
    pub(super) client: &'a Client,
    pub(super) options: &'a Options,
    /// That of the search that it is for. Its faults are those of the search.
    pub(super) control: Option<&'a Control>,
}

impl Asking<'_> {
    /// How many records match.
    pub(super) async fn count(&self, request: CountRecordsRequest) -> Result<u64, Error> {
        let items = ItemsOf::<CountRecordsRequest, ()>::new();
        let counted = drive(items, once(request), Count, self.client, self.options);
        let handle = counted.handle();
        let counted: Result<Done<u64>, Failed<CountRecordsRequest>> =
            self.counting(handle, only(counted)).await;
        counted.map(|done| done.output).map_err(Error::from)
    }

    /// Whether any record matches.
    pub(super) async fn finds_any(&self, request: SearchRequest) -> Result<bool, Error> {
        let items = ItemsOf::<SearchRequest, ()>::new();
        let found = drive(items, once(request), FindsAny, self.client, self.options);
        let handle = found.handle();
        let found: Result<Done<bool>, Failed<SearchRequest>> =
            self.counting(handle, only(found)).await;
        found.map(|done| done.output).map_err(Error::from)
    }

    async fn counting<F: Future>(&self, handle: Handle, asked: F) -> F::Output {
        let mut asked = pin!(asked);
        let mut told = Adopted::default();
        poll_fn(|cx| {
            let polled = asked.as_mut().poll(cx);
            if let Some(control) = self.control {
                told = control.counters.adopt(handle.counters(), told);
            }
            polled
        })
        .await
    }
}

struct Count;

impl Operation for Count {
    const NAME: &'static str = "count";
    const METHOD: &'static str = "/agntcy.dir.search.v1.SearchService/CountRecords";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::OneItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;
    const ANSWERS_MAY_FAIL: bool = true;

    type Input = CountRecordsRequest;
    type Checked = ();
    type Request = CountRecordsRequest;
    type Answer = CountRecordsResponse;
    type Output = u64;
    type Question = NoQuestion;
    type Success<T> = Done<u64, T>;

    fn check(&self, _: &CountRecordsRequest) -> Result<(), Error> {
        Ok(())
    }

    fn request(&self, request: &CountRecordsRequest, (): &()) -> CountRecordsRequest {
        request.clone()
    }

    fn accept(
        &self,
        _: &CountRecordsRequest,
        (): &(),
        answer: CountRecordsResponse,
    ) -> Result<u64, Error> {
        Ok(answer.total_count.into())
    }

    /// A call that ends without a count has lost it.
    fn may_pass(error: &Error) -> bool {
        error.kind() == ErrorKind::Mismatch
    }

    fn success<T>(place: Place<T>, (): (), count: u64) -> Done<u64, T> {
        Done::new(place, count)
    }
}

/// A search for one record.
struct FindsAny;

impl Operation for FindsAny {
    const NAME: &'static str = "search";
    const METHOD: &'static str = super::SEARCH_CIDS;
    const ACKNOWLEDGED: Acknowledged = Acknowledged::OneItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;

    type Input = SearchRequest;
    type Checked = ();
    type Request = SearchRequest;
    type Answer = SearchCidsResponse;
    type Output = bool;
    type Question = NoQuestion;
    type Success<T> = Done<bool, T>;

    fn check(&self, _: &SearchRequest) -> Result<(), Error> {
        Ok(())
    }

    fn request(&self, request: &SearchRequest, (): &()) -> SearchRequest {
        request.clone()
    }

    fn accept(&self, _: &SearchRequest, (): &(), _: SearchCidsResponse) -> Result<bool, Error> {
        Ok(true)
    }

    fn join(&self, found: Vec<bool>) -> Result<bool, Error> {
        Ok(!found.is_empty())
    }

    fn success<T>(place: Place<T>, (): (), found: bool) -> Done<bool, T> {
        Done::new(place, found)
    }
}
