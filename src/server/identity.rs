//! Who may open calls.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tonic::Status;

/// Whether a bearer token is one to accept.
pub(super) type Authorize = dyn Fn(&str) -> bool + Send + Sync;

/// In the words of a DIR server that takes JWTs, if these headers show no token that is accepted.
pub(super) fn refusal(authorize: Option<&Authorize>, headers: &HeaderMap) -> Option<Status> {
    let authorize = authorize?;
    let value = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    match value.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) if authorize(token) => None,
        Some(_) => Some(Status::unauthenticated("invalid or expired token")),
        None => Some(Status::unauthenticated(
            "failed to extract token: missing authorization header",
        )),
    }
}
