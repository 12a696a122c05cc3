//! The methods that have a single request and a single answer.
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
use super::publications::new_id;
use super::service::{Answer, Answers, For, Reply, Requests, Service, answers, headers_with_first};
use crate::cid::Cid;
use crate::proto::routing::{
    CreatePublicationResponse, GetPublicationRequest, GetPublicationResponse, PublishRequest,
    UnpublishRequest, publish_request, unpublish_request,
};
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
            _ => others.call(request).await.expect("infallible"),
        }
    }

    async fn run<Q, A>(
        self,
        answer: Answering<Q, A>,
        request: http::Request<RequestBody>,
    ) -> http::Response<Body>
    where
        Q: For + prost::Message + Default + 'static,
        A: Answer + prost::Message,
    {
        let codec = ProstCodec::<A, Q>::default();
        let grpc = Grpc::new(codec).max_decoding_message_size(MAX_RECORD_LEN);
        let service = self.0;
        let handler = Handler { service, answer };
        encoding::accept_in(grpc).streaming(handler, request).await
    }
}

/// What is answered to a request.
type Answering<Q, A> = fn(&Inner, Q) -> Result<A, Status>;

struct Handler<Q, A> {
    service: Service,
    answer: Answering<Q, A>,
}

impl<Q, A> TowerService<Request<Streaming<Q>>> for Handler<Q, A>
where
    Q: For + prost::Message + 'static,
    A: Answer,
{
    type Response = Response<Answers<A>>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Q>>) -> Self::Future {
        let answer = self.answer;
        Box::pin(headers_with_first(answers(
            Requests::new(&self.service, request),
            move |store, asked| answer(store, asked).map(Reply::Last),
        )))
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
