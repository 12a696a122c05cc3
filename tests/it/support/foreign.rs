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
        let service = match method {
            Method::Publish | Method::Unpublish => "RoutingService",
            _ => "PublicationService",
        };
        let path = format!("/agntcy.dir.routing.v1.{service}/{method}");
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let answer = grpc.unary(
            tonic::Request::new(request),
            path.parse().unwrap(),
            ProstCodec::<Q, A>::default(),
        );
        soon(answer).await.map(tonic::Response::into_inner)
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
        let call = async {
            let mut answers = Vec::new();
            let mut streaming = match self.open(method, stream::iter(requests)).await {
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
        };
        soon(call).await
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

/// The call must have ended with this code, and with these words in the message.
#[track_caller]
pub(crate) fn assert_status(what: &str, end: Result<(), Status>, code: Code, words: &str) {
    let status = end.expect_err(what);
    let message = status.message();
    assert_eq!(status.code(), code, "{what}: {message}");
    assert!(message.contains(words), "{what}: {message}");
}
