//! The incoming side of a call: what tonic cannot read is made readable before it comes there.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};
use pin_project::pin_project;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::progress::Moved;

/// The response as one that tonic can read, or what it stands for where it is not gRPC. Its bytes are
/// counted as they come.
pub(super) fn readable(
    response: http::Response<Body>,
    moved: Moved,
) -> Result<http::Response<Body>, Status> {
    let response = only_grpc(response)?;
    Ok(response.map(|body| Body::new(Readable { body, moved })))
}

/// Turns what is not gRPC, such as the page of a proxy whose server is away, into a status: the
/// page would be read as if it were an answer. What HTTP's code stands for is gRPC's own mapping,
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>, except that
/// whatever is not about the caller may pass with time.
fn only_grpc(mut response: http::Response<Body>) -> Result<http::Response<Body>, Status> {
    repair(response.headers_mut());
    let headers = response.headers();
    let content_type = headers
        .get(http::header::CONTENT_TYPE)
        .map_or("nothing", |value| value.to_str().unwrap_or("?"));
    let http_status = response.status();
    if headers.contains_key("grpc-status")
        || http_status == http::StatusCode::OK && content_type.starts_with("application/grpc")
    {
        return Ok(response);
    }
    let code = match http_status.as_u16() {
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        _ => Code::Unavailable,
    };
    let message = format!("HTTP {http_status} with {content_type} in place of gRPC");
    let metadata = MetadataMap::from_headers(response.into_parts().0.headers);
    Err(Status::with_metadata(code, message, metadata))
}

const MESSAGE: &str = "grpc-message";
/// What a message must not have as it is. (What is not ASCII is encoded always.)
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');
const DETAILS: &str = "grpc-status-details-bin";

/// What cannot be read of a status must not take the rest with it.
fn repair(headers: &mut HeaderMap) {
    repair_message(headers);
    repair_details(headers);
}

/// tonic takes a message that is no UTF-8 for the whole of the status, and its code for `Unknown`.
/// Some proxies and servers cut a message in the middle of a character, or do not encode it.
fn repair_message(headers: &mut HeaderMap) {
    let Some(message) = headers.get(MESSAGE) else {
        return;
    };
    let message = percent_decode(message.as_bytes());
    if message.clone().decode_utf8().is_ok() {
        return;
    }
    let message = message.decode_utf8_lossy();
    let message = utf8_percent_encode(&message, ENCODED).to_string();
    match HeaderValue::try_from(message) {
        Ok(message) => headers.insert(MESSAGE, message),
        Err(_) => headers.remove(MESSAGE),
    };
}

/// tonic panics at status details that are no base64, so what cannot be read is left out.
fn repair_details(headers: &mut HeaderMap) {
    let Some(details) = headers.get(DETAILS) else {
        return;
    };
    let details = HeaderMap::from_iter([(HeaderName::from_static(DETAILS), details.clone())]);
    let details = MetadataMap::from_headers(details);
    let is_readable = details
        .get_bin(DETAILS)
        .is_some_and(|details| details.to_bytes().is_ok());
    if !is_readable {
        headers.remove(DETAILS);
    }
}

/// A response body whose trailers can be read.
#[pin_project]
struct Readable {
    #[pin]
    body: Body,
    moved: Moved,
}

impl http_body::Body for Readable {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let mut frame = ready!(this.body.poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame {
            if let Some(data) = frame.data_ref() {
                this.moved.received(data.len());
            } else if let Some(trailers) = frame.trailers_mut() {
                repair(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
