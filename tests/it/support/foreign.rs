//! A gRPC client that is made with tonic alone, and uses nothing of this crate but its record type.

use agntcy_dir_stream::server::{Method, Serving, Store};
use agntcy_dir_stream::{Code, Record, Status};
use futures::{Stream, stream};
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::clock::soon;
use super::messages::RecordRef;
use super::stores::listen;

pub(crate) struct ForeignClient {
    pub(crate) channel: Channel,
}

impl ForeignClient {
    pub(crate) async fn connect(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
        // Validation errors are long.
        let endpoint = endpoint.http2_max_header_list_size(1 << 20);
        Self {
            channel: endpoint.connect().await.unwrap(),
        }
    }

    /// A client of a store that it has served over TCP.
    pub(crate) async fn of(store: &Store) -> (Self, Serving) {
        let serving = listen(store).await;
        (Self::connect(&serving.url()).await, serving)
    }

    pub(crate) async fn open<Q, A>(
        &self,
        method: Method,
        requests: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<tonic::Streaming<A>, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = format!("/agntcy.dir.store.v1.StoreService/{method}");
        grpc.streaming(
            tonic::Request::new(requests),
            path.parse().unwrap(),
            ProstCodec::<Q, A>::default(),
        )
        .await
        .map(tonic::Response::into_inner)
    }

    /// A call of a method that has one request and one answer.
    pub(crate) async fn ask<Q, A>(&self, method: Method, request: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let answer = grpc.unary(
            tonic::Request::new(request),
            path_of(method).parse().unwrap(),
            ProstCodec::<Q, A>::default(),
        );
        soon(answer).await.map(tonic::Response::into_inner)
    }

    /// Opens a call of a method that has one request and any number of answers. It is open with the first of them.
    pub(crate) async fn open_listing<Q, A>(
        &self,
        method: Method,
        request: Q,
    ) -> Result<tonic::Streaming<A>, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = path_of(method).parse().unwrap();
        let codec = ProstCodec::<Q, A>::default();
        let answers = grpc.server_streaming(tonic::Request::new(request), path, codec);
        answers.await.map(tonic::Response::into_inner)
    }

    /// A whole call of such a method: the answers, and how it ended.
    pub(crate) async fn list<Q, A>(
        &self,
        method: Method,
        request: Q,
    ) -> (Vec<A>, Result<(), Status>)
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        soon(whole(self.open_listing(method, request))).await
    }

    /// A whole call: the answers, and how it ended.
    pub(crate) async fn call<Q, A>(
        &self,
        method: Method,
        requests: Vec<Q>,
    ) -> (Vec<A>, Result<(), Status>)
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        soon(whole(self.open(method, stream::iter(requests)))).await
    }

    /// How many answers a push of these records has, and how it ended.
    pub(crate) async fn push(&self, records: Vec<Record>) -> (usize, Result<(), Status>) {
        let (answers, end) = self.call::<_, RecordRef>(Method::Push, records).await;
        (answers.len(), end)
    }

    /// Pull and lookup answer with messages whose field 1 says which record it is; delete with
    /// an empty one.
    pub(crate) async fn refs<A: Message + Default + 'static>(
        &self,
        method: Method,
        cids: &[&str],
    ) -> (Vec<A>, Result<(), Status>) {
        let refs = cids.iter().map(RecordRef::new);
        self.call(method, refs.collect()).await
    }
}

/// The answers of a call, and how it ended.
async fn whole<A>(
    call: impl Future<Output = Result<tonic::Streaming<A>, Status>>,
) -> (Vec<A>, Result<(), Status>) {
    let mut answers = Vec::new();
    let mut streaming = match call.await {
        Ok(streaming) => streaming,
        Err(status) => return (answers, Err(status)),
    };
    loop {
        match streaming.message().await {
            Ok(Some(answer)) => answers.push(answer),
            Ok(None) => return (answers, Ok(())),
            Err(status) => return (answers, Err(status)),
        }
    }
}

/// Of the services that have methods with one request.
fn path_of(method: Method) -> String {
    let service = match method {
        Method::Publish | Method::Unpublish => "routing.v1.RoutingService",
        Method::CreatePublication | Method::GetPublication => "routing.v1.PublicationService",
        Method::SearchCids | Method::SearchRecords | Method::CountRecords => {
            "search.v1.SearchService"
        }
        Method::Listen => "events.v1.EventService",
        _ => unreachable!("{method} has any number of requests"),
    };
    format!("/agntcy.dir.{service}/{method}")
}

/// The call must have ended with this code, and with these words in the message.
#[track_caller]
pub(crate) fn assert_status(what: &str, end: Result<(), Status>, code: Code, words: &str) {
    let status = end.expect_err(what);
    let message = status.message();
    assert_eq!(status.code(), code, "{what}: {message}");
    assert!(message.contains(words), "{what}: {message}");
}
