//! The gRPC service: reads a call's requests one by one, answers each, ends at the first error.

use std::pin::Pin;
use std::sync::Arc;

use futures_core::Stream;
use tokio::task::yield_now;
use tonic::{Code, Request, Response, Status, Streaming};

use super::call::{End, Running};
use super::control::Control;
use super::encoding;
use super::fault::What;
use super::inner::Inner;
use super::live::Live;
use crate::cid::Cid;
use crate::proto::core::{RecordMeta, RecordRef, ReferrerRef};
use crate::proto::store::store_service_server::{StoreService, StoreServiceServer};
use crate::proto::store::{
    DeleteReferrerRequest, DeleteReferrerResponse, PullReferrerRequest, PullReferrerResponse,
    PushReferrerRequest, PushReferrerResponse,
};
use crate::record::{MAX_RECORD_LEN, Record};

/// The service of one connection.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) store: Arc<Inner>,
    pub(super) connection: Arc<Control>,
}

impl Service {
    pub(super) fn over(store: Arc<Inner>, connection: Arc<Control>) -> StoreServiceServer<Self> {
        let service = StoreServiceServer::new(Self { store, connection })
            .max_decoding_message_size(MAX_RECORD_LEN);
        encoding::accept(service)
    }
}

/// How a request is answered.
pub(super) enum Reply<A> {
    One(A),
    /// With a status, the call ends.
    Many(Box<dyn Iterator<Item = Result<A, Status>> + Send>),
    /// The call ends OK after it.
    Last(A),
}

/// An answer that can be made wrong, for [`Fault::wrong_answer`](super::Fault::wrong_answer).
pub(super) trait Answer: Clone + Send + 'static {
    /// The answer that says nothing, if there is no other: then it tells as much of a request that was passed over.
    const UNTOLD: Option<Self> = None;

    fn wrong(self, _: &Inner) -> Self {
        self
    }
}

pub(super) fn another_cid(store: &Inner, cid: &str) -> String {
    // An event can be about something malformed, which any record is other than.
    let cid = cid.parse().unwrap_or_else(|_| Cid::of(b"no record"));
    let other = store.content.other_than(&cid).cid();
    other.expect("what is stored has a CID").to_string()
}

impl Answer for RecordRef {
    fn wrong(self, store: &Inner) -> Self {
        Self {
            cid: another_cid(store, &self.cid),
        }
    }
}

impl Answer for RecordMeta {
    fn wrong(self, store: &Inner) -> Self {
        Self {
            cid: another_cid(store, &self.cid),
            ..self
        }
    }
}

impl Answer for Record {
    fn wrong(self, store: &Inner) -> Self {
        let cid = self.cid().expect("what is stored has a CID");
        store.content.other_than(&cid)
    }
}

/// Has it name another referrer.
fn another_referrer(store: &Inner, referrer_ref: Option<&mut ReferrerRef>) {
    if let Some(ReferrerRef { cid }) = referrer_ref {
        *cid = store.content.other_referrer_than(cid).to_string();
    }
}

impl Answer for PushReferrerResponse {
    fn wrong(mut self, store: &Inner) -> Self {
        another_referrer(store, self.referrer_ref.as_mut());
        self
    }
}

impl Answer for PullReferrerResponse {
    fn wrong(mut self, store: &Inner) -> Self {
        let referrer = self.referrer.as_mut();
        another_referrer(store, referrer.and_then(|one| one.referrer_ref.as_mut()));
        self
    }
}

impl Answer for DeleteReferrerResponse {
    fn wrong(mut self, store: &Inner) -> Self {
        for referrer_ref in &mut self.referrer_refs {
            another_referrer(store, Some(referrer_ref));
        }
        self
    }
}

/// A request that is for a record, for [`Fault::of`](super::Fault::of).
pub(super) trait For {
    fn is_for(&self, cid: &Cid) -> bool;
}

impl For for Record {
    fn is_for(&self, cid: &Cid) -> bool {
        self.cid().is_ok_and(|own| own == *cid)
    }
}

impl For for RecordRef {
    fn is_for(&self, cid: &Cid) -> bool {
        self.cid.parse().is_ok_and(|own: Cid| own == *cid)
    }
}

impl For for PushReferrerRequest {
    fn is_for(&self, cid: &Cid) -> bool {
        self.record_ref.as_ref().is_some_and(|r| r.is_for(cid))
    }
}

impl For for PullReferrerRequest {
    fn is_for(&self, cid: &Cid) -> bool {
        self.record_ref.as_ref().is_some_and(|r| r.is_for(cid))
    }
}

impl For for DeleteReferrerRequest {
    fn is_for(&self, cid: &Cid) -> bool {
        self.record.as_ref().is_some_and(|r| r.is_for(cid))
    }
}

pub(super) type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// A call's requests, with what the log and the faults have to do with each.
pub(super) struct Requests<Q> {
    requests: Streaming<Q>,
    pub(super) call: Arc<Running>,
    pub(super) live: Arc<Live>,
    is_compressed: bool,
    pub(super) service: Service,
}

/// What to do with a request.
struct Task<Q> {
    request: Q,
    changes: Changes,
}

/// What faults make of an answer.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) wrong: bool,
    pub(super) spare: bool,
    pub(super) cut_after: bool,
}

impl<Q: prost::Message> Requests<Q> {
    pub(super) fn new(service: &Service, request: Request<Streaming<Q>>) -> Self {
        let call = request.extensions().get::<Arc<Running>>();
        let live = request.extensions().get::<Arc<Live>>();
        Self {
            call: Arc::clone(call.expect("the connection logs each call")),
            live: Arc::clone(live.expect("the connection counts each call")),
            is_compressed: encoding::is_compressed(request.metadata()),
            requests: request.into_inner(),
            service: service.clone(),
        }
    }

    /// The next request, and its place. `None`: there is no other.
    pub(super) async fn read(&mut self) -> Result<Option<(Q, u64)>, Status> {
        let request = match self.requests.message().await {
            Ok(Some(request)) => request,
            Ok(None) if self.call.was_reset() => {
                return Err(Status::cancelled("the client has reset the call"));
            }
            Ok(None) => return Ok(None),
            Err(status) => {
                let status = as_go_says_it(status);
                if !self.call.was_reset() {
                    self.live.refused(&status);
                }
                return Err(status);
            }
        };
        if self.is_compressed {
            // It shows its length only now.
            let unpacked = self.live.unpacked(request.encoded_len());
            unpacked.inspect_err(|status| self.live.refused(status))?;
        }
        let place = self.call.request();
        Ok(Some((request, place)))
    }

    /// Lets a fault happen. `None`: the call is to end OK.
    pub(super) async fn meet(&self, fault: Option<What>) -> Result<Option<Changes>, Status> {
        let mut changes = Changes::default();
        match fault {
            None => {}
            Some(What::Delay(by)) => tokio::time::sleep(by).await,
            Some(What::Status(status)) => return Err(status),
            Some(What::Cut) => self.cut().await,
            Some(What::CutAfter) => changes.cut_after = true,
            Some(What::NoConnection | What::LateCall(_)) => {
                unreachable!("that happens before there is a request")
            }
            Some(What::End) => return Ok(None),
            Some(What::Wrong) => changes.wrong = true,
            Some(What::GoAway) => self.service.connection.go_away(),
            Some(What::Stall) => std::future::pending().await,
            Some(What::Spare) => changes.spare = true,
        }
        Ok(Some(changes))
    }

    /// The fault that happens in a listing at this place, whatever its next answer is.
    pub(super) fn fault_before(&self, place: u64) -> Option<What> {
        let call = &self.call;
        let faults = &self.service.store.faults;
        faults.fire_before(call.method, call.number, place)
    }

    /// The fault that happens to this answer of a listing.
    pub(super) fn fault_at(&self, place: u64, answer: &impl For) -> Option<What> {
        let call = &self.call;
        let faults = &self.service.store.faults;
        faults.fire(call.method, call.number, place, |cid| answer.is_for(cid))
    }

    pub(super) async fn cut(&self) {
        // The answers before this one go to the transport while this task waits.
        yield_now().await;
        self.service.connection.cut();
        std::future::pending::<()>().await;
    }

    pub(super) fn end(&self, status: Option<&Status>) {
        self.call.end(match status {
            _ if self.call.was_reset() => End::Cancelled,
            None => End::Ok,
            Some(status) => End::Status(status.code()),
        });
    }
}

impl<Q: For + prost::Message> Requests<Q> {
    /// The next request. `None`: the call is to end OK.
    async fn next(&mut self) -> Result<Option<Task<Q>>, Status> {
        let Some((request, place)) = self.read().await? else {
            return Ok(None);
        };
        let call = &self.call;
        let faults = &self.service.store.faults;
        let fault = faults.fire(call.method, call.number, place, |cid| request.is_for(cid));
        let changes = self.meet(fault).await?;
        Ok(changes.map(|changes| Task { request, changes }))
    }
}

/// The code and words of a Go server where tonic's own differ.
fn as_go_says_it(status: Status) -> Status {
    let of_compression = status.message().starts_with("Error decompressing");
    match status.code() {
        Code::ResourceExhausted if of_compression => Status::resource_exhausted(format!(
            "grpc: received message after decompression larger than max {MAX_RECORD_LEN}"
        )),
        Code::Internal if of_compression => Status::internal(format!(
            "grpc: failed to decompress the message: {}",
            status.message()
        )),
        Code::OutOfRange => {
            let found = status
                .message()
                .split(' ')
                .find_map(|word| word.parse().ok());
            let found: u64 = found.unwrap_or_default();
            Status::resource_exhausted(format!(
                "grpc: received message larger than max ({found} vs. {MAX_RECORD_LEN})"
            ))
        }
        Code::Internal => Status::internal(format!(
            "grpc: error unmarshalling request: {}",
            status.message()
        )),
        _ => status,
    }
}

/// How often a call gives way to those who listen, each time that these are pressed: what happens passes through some tasks.
const TURNS: usize = 4;

/// Answers the requests of a call in their order.
pub(super) fn answers<Q, A>(
    mut requests: Requests<Q>,
    answer: impl Fn(&Arc<Inner>, Q) -> Result<Reply<A>, Status> + Send + 'static,
) -> Answers<A>
where
    Q: For + prost::Message + 'static,
    A: Answer,
{
    Box::pin(async_stream::stream! {
        let status = 'call: loop {
            let task = match requests.next().await {
                Ok(Some(task)) => task,
                Ok(None) => break None,
                Err(status) => break Some(status),
            };
            let store = Arc::clone(&requests.service.store);
            let answered = match A::UNTOLD {
                Some(untold) if task.changes.wrong => Ok(Reply::Last(untold)),
                _ => answer(&store, task.request),
            };
            let (replies, is_last) = match answered {
                Ok(Reply::One(answer)) => (Replies::One(Some(answer)), false),
                Ok(Reply::Last(answer)) => (Replies::One(Some(answer)), true),
                Ok(Reply::Many(answers)) => (Replies::Many(answers), false),
                Err(status) => break Some(status),
            };
            if store.events.are_pressed() {
                // The first of these only has what is answered leave, and what comes behind it is asked for at once.
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
            }
            if task.changes.cut_after {
                requests.cut().await;
            }
            for answer in replies {
                let answer = match answer {
                    Ok(answer) if task.changes.wrong => answer.wrong(&store),
                    Ok(answer) => answer,
                    Err(status) => break 'call Some(status),
                };
                if task.changes.spare {
                    requests.call.answer();
                    yield Ok(answer.clone());
                }
                requests.call.answer();
                yield Ok(answer);
            }
            if is_last {
                break None;
            }
        };
        requests.end(status.as_ref());
        if let Some(status) = status {
            yield Err(status);
        }
    })
}

/// As a Go server does, which sends no message that is longer than what it takes. What was pushed as a shorter one can
/// be that, since what makes an answer of it comes on top.
pub(super) fn not_too_long<A: prost::Message>(answer: A) -> Result<A, Status> {
    let len = answer.encoded_len();
    match len > MAX_RECORD_LEN {
        true => Err(Status::resource_exhausted(format!(
            "trying to send message larger than max ({len} vs. {MAX_RECORD_LEN})"
        ))),
        false => Ok(answer),
    }
}

enum Replies<A> {
    One(Option<A>),
    Many(Box<dyn Iterator<Item = Result<A, Status>> + Send>),
}

impl<A> Iterator for Replies<A> {
    type Item = Result<A, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(answer) => answer.take().map(Ok),
            Self::Many(answers) => answers.next(),
        }
    }
}

/// As a Go server does: response headers go out with the first answer, or with the end.
pub(super) async fn headers_with_first<A>(
    mut answers: Answers<A>,
) -> Result<Response<Answers<A>>, Status>
where
    A: Send + 'static,
{
    let first = std::future::poll_fn(|cx| answers.as_mut().poll_next(cx)).await;
    match first {
        Some(Err(status)) => Err(status),
        None => Ok(Response::new(answers)),
        Some(Ok(first)) => Ok(Response::new(Box::pin(async_stream::stream! {
            yield Ok(first);
            while let Some(next) = std::future::poll_fn(|cx| answers.as_mut().poll_next(cx)).await {
                yield next;
            }
        }))),
    }
}

type Streamed<A> = Result<Response<Answers<A>>, Status>;

#[tonic::async_trait]
impl StoreService for Service {
    type PushStream = Answers<RecordRef>;
    type PullStream = Answers<Record>;
    type LookupStream = Answers<RecordMeta>;
    type PushReferrerStream = Answers<PushReferrerResponse>;
    type PullReferrerStream = Answers<PullReferrerResponse>;
    type DeleteReferrerStream = Answers<DeleteReferrerResponse>;

    async fn push(&self, request: Request<Streaming<Record>>) -> Streamed<RecordRef> {
        headers_with_first(answers(Requests::new(self, request), |store, record| {
            store.push(record).map(Reply::One)
        }))
        .await
    }

    async fn pull(&self, request: Request<Streaming<RecordRef>>) -> Streamed<Record> {
        headers_with_first(answers(Requests::new(self, request), |store, asked| {
            store.pull(&asked).map(Reply::One)
        }))
        .await
    }

    async fn lookup(&self, request: Request<Streaming<RecordRef>>) -> Streamed<RecordMeta> {
        headers_with_first(answers(Requests::new(self, request), |store, asked| {
            store.lookup(&asked).map(Reply::One)
        }))
        .await
    }

    async fn delete(&self, request: Request<Streaming<RecordRef>>) -> Result<Response<()>, Status> {
        let mut requests = Requests::new(self, request);
        let result = loop {
            match requests.next().await {
                Ok(Some(task)) if task.changes.wrong => {}
                Ok(Some(task)) => {
                    if let Err(status) = self.store.delete(&task.request) {
                        break Err(status);
                    }
                    if task.changes.cut_after {
                        requests.cut().await;
                    }
                }
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        if result.is_ok() {
            requests.call.answer();
        }
        requests.end(result.as_ref().err());
        result.map(Response::new)
    }

    async fn push_referrer(
        &self,
        request: Request<Streaming<PushReferrerRequest>>,
    ) -> Streamed<PushReferrerResponse> {
        headers_with_first(answers(Requests::new(self, request), |store, asked| {
            store.push_referrer(asked).map(Reply::One)
        }))
        .await
    }

    async fn pull_referrer(
        &self,
        request: Request<Streaming<PullReferrerRequest>>,
    ) -> Streamed<PullReferrerResponse> {
        headers_with_first(answers(Requests::new(self, request), |store, asked| {
            Ok(match store.pull_referrer(asked)? {
                Some(found) => Reply::Many(Box::new(found.map(|referrer| {
                    not_too_long(PullReferrerResponse {
                        referrer: Some(referrer),
                    })
                }))),
                None => Reply::Last(PullReferrerResponse::default()),
            })
        }))
        .await
    }

    async fn delete_referrer(
        &self,
        request: Request<Streaming<DeleteReferrerRequest>>,
    ) -> Streamed<DeleteReferrerResponse> {
        headers_with_first(answers(Requests::new(self, request), |store, asked| {
            store.delete_referrer(asked).map(Reply::One)
        }))
        .await
    }
}
