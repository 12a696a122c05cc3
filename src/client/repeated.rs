//! A token that a server repeats is cut out of what it says.

use std::error::Error as _;

use http::{HeaderMap, HeaderValue};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::causes::chain;

/// What is shorter, in bytes, is no secret, and may be a word of the server's own.
const SHORTEST: usize = 16;

/// The same status without this token, which stands behind `Bearer`.
pub(super) fn cut_out(header: &HeaderValue, status: Status) -> Status {
    let token = header.to_str().ok();
    let token = token.and_then(|header| header.strip_prefix("Bearer "));
    let Some(token) = token.filter(|token| token.len() >= SHORTEST) else {
        return status;
    };
    let has_it = |bytes: &[u8]| {
        let mut parts = bytes.windows(token.len());
        parts.any(|part| part == token.as_bytes())
    };
    let is_behind = chain(status.source()).any(|cause| cause.to_string().contains(token));
    let headers = status.metadata().as_ref();
    if !is_behind
        && !status.message().contains(token)
        && !has_it(status.details())
        && !headers.values().any(|value| has_it(value.as_bytes()))
    {
        return status;
    }
    let others = headers
        .iter()
        .filter(|(_, value)| !has_it(value.as_bytes()));
    let others: HeaderMap = others
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let details = match has_it(status.details()) {
        true => Vec::new(),
        false => status.details().to_vec(),
    };
    Status::with_details_and_metadata(
        status.code(),
        status.message().replace(token, "…"),
        details.into(),
        MetadataMap::from_headers(others),
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn after(token: &str, words: &str) -> Status {
        let header = HeaderValue::try_from(format!("Bearer {token}")).expect("a header");
        cut_out(&header, Status::from_error(io::Error::other(words).into()))
    }

    /// As where a server says goodbye to a connection, with words of its own.
    #[test]
    fn a_cause_that_has_it_is_left_out() {
        let token = "0123456789abcdef";
        let status = after(token, &format!("goodbye, {token}"));
        assert_eq!(status.message(), "goodbye, …");
        assert!(status.source().is_none());
        let status = after(token, "goodbye, 0123456789abcdeF");
        assert_eq!(status.message(), "goodbye, 0123456789abcdeF");
        assert!(status.source().is_some());
    }

    #[test]
    fn a_short_one_may_be_a_word_of_the_servers_own() {
        let status = after("token", "invalid token");
        assert_eq!(status.message(), "invalid token");
    }
}
