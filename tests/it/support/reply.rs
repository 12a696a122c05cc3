//! The response of a server that a test makes as a tower service: its head comes when it is sent, and its frames as they
//! are.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures::{FutureExt as _, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::{mpsc, oneshot};
use tonic::body::Body;

use super::messages::grpc_response;

/// What a tower service gives for it.
pub(crate) type Replied =
    Pin<Box<dyn Future<Output = Result<http::Response<Body>, io::Error>> + Send>>;

/// The server's side of a response. Dropped before its head is sent, it breaks the call.
pub(crate) struct Reply {
    pub(crate) head: Option<oneshot::Sender<http::response::Builder>>,
    pub(crate) frames: mpsc::UnboundedSender<Result<Frame<Bytes>, io::Error>>,
}

/// A response, from both sides.
pub(crate) fn reply() -> (Reply, Replied) {
    let (head, opened) = oneshot::channel();
    let (frames, mut body) = mpsc::unbounded_channel();
    let replied = async move {
        let response: http::response::Builder =
            opened.await.map_err(|_| io::Error::other("broken"))?;
        let body = stream::poll_fn(move |cx| body.poll_recv(cx));
        Ok(response.body(Body::new(StreamBody::new(body))).unwrap())
    };
    let head = Some(head);
    (Reply { head, frames }, replied.boxed())
}

impl Reply {
    /// As on a Go server, the head goes out with what comes first.
    pub(crate) fn send(&mut self, frame: Result<Frame<Bytes>, io::Error>) {
        if let Some(head) = self.head.take() {
            // An error is a client that is gone, here as below.
            let _ = head.send(grpc_response());
        }
        let _ = self.frames.send(frame);
    }
}
