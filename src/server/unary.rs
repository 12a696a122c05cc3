//! The methods that have a single request, and most of them a single answer.
//!
//! To tonic they are streams, on the same wire: so the log and the faults see their requests as those of any other
//! call. What tonic itself takes for unary it reads before it says that there is a call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::Service as TowerService;
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::body::RequestBody;
use super::call::Method;
use super::control::Control;
use super::encoding;
use super::inner::Inner;
use super::listings::{self, Listing};
use super::publications::new_id;
use super::service::{Answer, Answers, For, Reply, Requests, Service, answers, headers_with_first};
use crate::cid::Cid;
use crate::proto::routing::{
    CreatePublicationResponse, GetPublicationRequest, GetPublicationResponse, PublishRequest,
    UnpublishRequest, publish_request, unpublish_request,
};
use crate::proto::search::{CountRecordsRequest, CountRecordsResponse};
use crate::proto::store::store_service_server::StoreServiceServer;
use crate::record::MAX_RECORD_LEN;

/// The services of one connection that have such methods.
#[derive(Clone)]
pub(super) struct Unary(Service);

impl Unary {
    pub(super) fn over(store: Arc<Inner>, connection: Arc<Control>) -> Self {
        Self(Service { store, connection })
    }

    /// A call of this method, if it is one of these; `others` has the rest.
    pub(super) async fn call(
        self,
        method: Option<Method>,
        request: http::Request<RequestBody>,
        mut others: StoreServiceServer<Service>,
    ) -> http::Response<Body> {
        match method {
            Some(Method::Publish) => self.run(Inner::publish, request).await,
            Some(Method::Unpublish) => self.run(Inner::unpublish, request).await,
            Some(Method::CreatePublication) => self.run(Inner::create_publication, request).await,
            Some(Method::GetPublication) => self.run(Inner::get_publication, request).await,
            Some(Method::CountRecords) => self.run(Inner::count_records, request).await,
            Some(Method::SearchCids) => self.list(listings::search_cids, request).await,
            Some(Method::SearchRecords) => self.list(listings::search_records, request).await,
            Some(Method::Listen) => self.list(listings::listen, request).await,
            _ => others.call(request).await.expect("infallible"),
        }
    }

    async fn run<Q, A>(
        self,
        answer: fn(&Inner, Q) -> Result<A, Status>,
        request: http::Request<RequestBody>,
    ) -> http::Response<Body>
    where
        Q: For + prost::Message + Default + 'static,
        A: Answer + prost::Message,
    {
        self.serve(Single(answer), request).await
    }

    async fn list<Q, A>(
        self,
        listing: Listing<Q, A>,
        request: http::Request<RequestBody>,
    ) -> http::Response<Body>
    where
        Q: prost::Message + Default + 'static,
        A: Answer + For + prost::Message,
    {
        self.serve(Listed(listing), request).await
    }

    async fn serve<H: How>(
        self,
        how: H,
        request: http::Request<RequestBody>,
    ) -> http::Response<Body> {
        let codec = ProstCodec::<H::Answer, H::Request>::default();
        let grpc = Grpc::new(codec).max_decoding_message_size(MAX_RECORD_LEN);
        let service = self.0;
        let handler = Handler { service, how };
        encoding::accept_in(grpc).streaming(handler, request).await
    }
}

/// How a call is answered.
trait How: Send {
    type Request: prost::Message + Default + 'static;
    type Answer: Answer + prost::Message;

    fn answers(&self, requests: Requests<Self::Request>) -> Answers<Self::Answer>;
}

struct Single<Q, A>(fn(&Inner, Q) -> Result<A, Status>);

impl<Q, A> How for Single<Q, A>
where
    Q: For + prost::Message + Default + 'static,
    A: Answer + prost::Message,
{
    type Request = Q;
    type Answer = A;

    fn answers(&self, requests: Requests<Q>) -> Answers<A> {
        let Self(answer) = *self;
        answers(requests, move |store, asked| {
            answer(store, asked).map(Reply::Last)
        })
    }
}

struct Listed<Q, A>(Listing<Q, A>);

impl<Q, A> How for Listed<Q, A>
where
    Q: prost::Message + Default + 'static,
    A: Answer + For + prost::Message,
{
    type Request = Q;
    type Answer = A;

    fn answers(&self, requests: Requests<Q>) -> Answers<A> {
        listings::list(requests, self.0)
    }
}

struct Handler<H> {
    service: Service,
    how: H,
}

impl<H: How> TowerService<Request<Streaming<H::Request>>> for Handler<H> {
    type Response = Response<Answers<H::Answer>>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<H::Request>>) -> Self::Future {
        let requests = Requests::new(&self.service, request);
        Box::pin(headers_with_first(self.how.answers(requests)))
    }
}

impl Answer for () {
    const UNTOLD: Option<Self> = Some(());
}

impl Answer for CreatePublicationResponse {
    fn wrong(self, _: &Inner) -> Self {
        Self {
            publication_id: new_id(),
        }
    }
}

impl Answer for GetPublicationResponse {
    fn wrong(self, _: &Inner) -> Self {
        Self {
            publication_id: new_id(),
            ..self
        }
    }
}

impl Answer for CountRecordsResponse {
    fn wrong(self, _: &Inner) -> Self {
        Self {
            total_count: self.total_count.wrapping_add(1),
        }
    }
}

impl For for CountRecordsRequest {
    fn is_for(&self, _: &Cid) -> bool {
        false
    }
}

impl For for PublishRequest {
    fn is_for(&self, cid: &Cid) -> bool {
        match &self.request {
            Some(publish_request::Request::RecordRefs(refs)) => {
                refs.refs.iter().any(|record_ref| record_ref.is_for(cid))
            }
            _ => false,
        }
    }
}

impl For for UnpublishRequest {
    fn is_for(&self, cid: &Cid) -> bool {
        match &self.request {
            Some(unpublish_request::Request::RecordRefs(refs)) => {
                refs.refs.iter().any(|record_ref| record_ref.is_for(cid))
            }
            _ => false,
        }
    }
}

impl For for GetPublicationRequest {
    fn is_for(&self, _: &Cid) -> bool {
        false
    }
}
