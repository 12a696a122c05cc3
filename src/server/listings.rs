//! The methods that have a single request and any number of answers: searches, and listening.
//!
//! Faults happen at their answers, each of which has a place in the call; the end has the place behind them.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use prost::Message as _;
use tonic::Status;

use super::budget::{Share, places_of};
use super::events::Heard;
use super::inner::Inner;
use super::service::{Answer, Answers, For, Requests, another_cid, not_too_long};
use crate::cid::Cid;
use crate::proto::events::{Event, ListenRequest, ListenResponse};
use crate::proto::search::{SearchCidsResponse, SearchRecordsResponse, SearchRequest};

/// What is answered to a request.
pub(super) type Listing<Q, A> = fn(&Requests<Q>, Q) -> Result<Answers<A>, Status>;

/// Answers the request of a call.
pub(super) fn list<Q, A>(mut requests: Requests<Q>, listing: Listing<Q, A>) -> Answers<A>
where
    Q: prost::Message + 'static,
    A: Answer + For,
{
    Box::pin(async_stream::stream! {
        let mut place = 0;
        let mut answers = None;
        let mut asked = requests.read().await;
        let status = loop {
            let request = match std::mem::replace(&mut asked, Ok(None)) {
                Ok(request) => request.map(|(request, _)| request),
                Err(status) => break Some(status),
            };
            let fault = requests.fault_before(place);
            match requests.meet(fault).await {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
            if let Some(request) = request {
                match listing(&requests, request) {
                    Ok(listed) => answers = Some(listed),
                    Err(status) => break Some(status),
                }
            }
            let Some(listed) = &mut answers else {
                break Some(Status::internal(
                    "cardinality violation: received no request message from non-client-streaming RPC",
                ));
            };
            let answer = match poll_fn(|cx| listed.as_mut().poll_next(cx)).await {
                Some(Ok(answer)) => answer,
                Some(Err(status)) => break Some(status),
                None => break None,
            };
            let fault = requests.fault_at(place, &answer);
            let changes = match requests.meet(fault).await {
                Ok(Some(changes)) => changes,
                Ok(None) => break None,
                Err(status) => break Some(status),
            };
            if changes.cut_after {
                requests.cut().await;
            }
            let answer = match changes.wrong {
                true => answer.wrong(&requests.service.store),
                false => answer,
            };
            if changes.spare {
                requests.call.answer();
                yield Ok(answer.clone());
            }
            requests.call.answer();
            yield Ok(answer);
            place += 1;
        };
        // Who does not listen any more is not to be counted when the call is over.
        drop(answers);
        requests.end(status.as_ref());
        if let Some(status) = status {
            yield Err(status);
        }
    })
}

/// What a search has found, with the memory that it takes.
fn found(
    requests: &Requests<SearchRequest>,
    asked: &SearchRequest,
) -> Result<impl Iterator<Item = Cid> + Send + use<>, Status> {
    let found = requests.service.store.search(asked)?;
    let room = requests.live.room();
    room.set(size_of_val(found.as_slice()))?;
    Ok(found.into_iter().inspect(move |_| {
        let _ = &room;
    }))
}

pub(super) fn search_cids(
    requests: &Requests<SearchRequest>,
    asked: SearchRequest,
) -> Result<Answers<SearchCidsResponse>, Status> {
    let found = found(requests, &asked)?;
    let answers = found.map(|cid| {
        Ok(SearchCidsResponse {
            record_cid: cid.to_string(),
        })
    });
    Ok(Box::pin(futures_util::stream::iter(answers)))
}

/// A record that is gone when it is its turn is passed over.
pub(super) fn search_records(
    requests: &Requests<SearchRequest>,
    asked: SearchRequest,
) -> Result<Answers<SearchRecordsResponse>, Status> {
    let found = found(requests, &asked)?;
    let store = Arc::clone(&requests.service.store);
    let answers = found.filter_map(move |cid| {
        let record = store.pull_for_itself(&cid)?;
        Some(not_too_long(SearchRecordsResponse {
            record: Some(record),
        }))
    });
    Ok(Box::pin(futures_util::stream::iter(answers)))
}

/// Counts as a listener until it is dropped.
struct Listening {
    heard: Heard,
    store: Arc<Inner>,
    /// For what it has asked for.
    _room: Share,
}

impl Listening {
    fn new(store: &Arc<Inner>, asked: ListenRequest, room: Share) -> Result<Self, Status> {
        room.set(unpacked_len(&asked))?;
        let heard = store.events.listen(asked)?;
        store.log.change();
        let store = Arc::clone(store);
        Ok(Self {
            heard,
            store,
            _room: room,
        })
    }
}

/// What a request takes in memory, in bytes.
fn unpacked_len(asked: &ListenRequest) -> usize {
    places_of(&asked.label_filters)
        + places_of(&asked.cid_filters)
        + places_of(&asked.event_types)
        + asked.encoded_len()
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.heard.close();
        self.store.events.left();
        self.store.log.change();
    }
}

/// It has no end but that of the serving.
pub(super) fn listen(
    requests: &Requests<ListenRequest>,
    asked: ListenRequest,
) -> Result<Answers<ListenResponse>, Status> {
    let room = requests.live.room();
    let mut listening = Listening::new(&requests.service.store, asked, room)?;
    let connection = Arc::clone(&requests.service.connection);
    Ok(Box::pin(async_stream::stream! {
        let mut stopped = pin!(connection.stopped());
        let mut is_stopped = false;
        loop {
            let told = tokio::select! {
                biased;
                told = listening.heard.next() => told,
                () = stopped.as_mut(), if !is_stopped => {
                    is_stopped = true;
                    // What has happened before is told still.
                    listening.heard.close();
                    continue;
                }
            };
            match told {
                Some(told) => yield Ok(ListenResponse { event: Some(told.event.clone()) }),
                None => break,
            }
        }
        yield Err(Status::unavailable("the server is shutting down"));
    }))
}

impl Answer for SearchCidsResponse {
    fn wrong(self, store: &Inner) -> Self {
        Self {
            record_cid: another_cid(store, &self.record_cid),
        }
    }
}

impl Answer for SearchRecordsResponse {
    fn wrong(self, store: &Inner) -> Self {
        Self {
            record: self.record.map(|record| record.wrong(store)),
        }
    }
}

impl Answer for ListenResponse {
    fn wrong(self, store: &Inner) -> Self {
        let event = self.event.map(|event| Event {
            resource_id: another_cid(store, &event.resource_id),
            ..event
        });
        Self { event }
    }
}

fn is_of(text: &str, cid: &Cid) -> bool {
    text.parse().is_ok_and(|own: Cid| own == *cid)
}

impl For for SearchCidsResponse {
    fn is_for(&self, cid: &Cid) -> bool {
        is_of(&self.record_cid, cid)
    }
}

impl For for SearchRecordsResponse {
    fn is_for(&self, cid: &Cid) -> bool {
        self.record
            .as_ref()
            .is_some_and(|record| record.is_for(cid))
    }
}

impl For for ListenResponse {
    fn is_for(&self, cid: &Cid) -> bool {
        let event = self.event.as_ref();
        event.is_some_and(|event| is_of(&event.resource_id, cid))
    }
}
