//! Both ends of HTTP/2 without gRPC: a server that hands its streams to the test, and connections on which a test
//! sends its own frames.

use agntcy_dir_stream::Client;
#[cfg(feature = "server")]
use agntcy_dir_stream::server::{Method, Serving};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use tokio::sync::mpsc;

use super::clock::soon;
use super::sockets::listener;

/// A call as HTTP/2 delivers it, before any gRPC server would read it.
pub(crate) struct RawCall {
    pub(crate) body: RecvStream,
    pub(crate) respond: SendResponse<Bytes>,
}

/// How the requests of a call end, as a server sees it.
#[derive(Debug, PartialEq)]
pub(crate) enum RequestEnd {
    EndStream,
    Reset(Reason),
}

impl RawCall {
    /// Reads the request side to its end; gives the peer room to send unless `stuck`.
    pub(crate) async fn end(&mut self, stuck: bool) -> RequestEnd {
        loop {
            match soon(self.body.data()).await {
                None => return RequestEnd::EndStream,
                Some(Ok(data)) if stuck => drop(data),
                Some(Ok(data)) => self
                    .body
                    .flow_control()
                    .release_capacity(data.len())
                    .unwrap(),
                Some(Err(error)) => return RequestEnd::Reset(error.reason().expect("a reset")),
            }
        }
    }
}

/// What HTTP/2 lets a client send ahead, in bytes, where nothing else is agreed.
pub(crate) const WINDOW: usize = 65_535;

/// A client, and the calls that it makes. They come from an HTTP/2 server for a single connection.
pub(crate) async fn raw_server() -> (Client, mpsc::UnboundedReceiver<RawCall>) {
    let (listener, url) = listener().await;
    let (calls, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((request, respond))) = connection.accept().await {
            let body = request.into_body();
            let _ = calls.send(RawCall { body, respond });
        }
    });
    let client = Client::connect(url).await.unwrap();
    (client, received)
}

/// An HTTP/2 connection on which a test sends its own frames.
#[cfg(feature = "server")]
pub(crate) async fn raw_connection(serving: &Serving) -> h2::client::SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(serving.address())
        .await
        .unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(async move {
        // It ends with an error when the test drops its end.
        let _ = connection.await;
    });
    send.ready().await.unwrap()
}

/// The head of a call to the store.
#[cfg(feature = "server")]
pub(crate) fn raw_request(serving: &Serving, method: Method) -> http::Request<()> {
    http::Request::post(format!(
        "{}/agntcy.dir.store.v1.StoreService/{method}",
        serving.url()
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .body(())
    .unwrap()
}
