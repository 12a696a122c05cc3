//! The server that a URL names.

use std::net::SocketAddr;

use http::Uri;
use http::uri::Scheme;

use crate::error::Error;

/// The server that a URL names. What a URL may have beyond that would not be used, so it is refused.
///
/// Any part of it may be a secret, or of one: a password in the place of the port, or one with a `/` in
/// it, which ends the host. So what is refused is not repeated, unless it is an address and a port as
/// a whole.
pub(super) fn origin(url: &str) -> Result<Uri, Error> {
    if let Ok(address) = url.parse::<SocketAddr>() {
        return Err(Error::invalid(format!(
            "`{address}` is not a URL such as http://{address}"
        )));
    }
    if !url.contains("://") {
        return Err(refused("it begins with neither http:// nor https://"));
    }
    let uri: Uri = url
        .parse()
        .map_err(|error| refused("it cannot be read").with_source(error))?;
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(refused("it has no host"));
    };
    let (user, server) = match authority.as_str().rsplit_once('@') {
        Some((user, server)) => (Some(user), server),
        None => (None, authority.as_str()),
    };
    let host = authority.host();
    let port = server
        .strip_prefix(host)
        .and_then(|port| port.strip_prefix(':'))
        .filter(|port| port.bytes().all(|digit| digit.is_ascii_digit()))
        .and(authority.port_u16());
    if *scheme == Scheme::HTTPS && cfg!(not(feature = "tls")) {
        let words = "https takes the feature `tls`, and this program was built without it";
        return Err(Error::invalid(words));
    }
    let what = if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
        "it begins with neither http:// nor https://"
    } else if user.is_some() {
        "a user is not used"
    } else if url.contains('#') {
        "a fragment is not used"
    } else if uri.query().is_some() {
        "a query is not used"
    } else if uri.path() != "/" {
        "a path is not used"
    } else if host.is_empty() {
        "it has no host"
    // What looks like a port and is none would be taken for the scheme's own.
    } else if server != host && port.is_none() {
        "what is behind the host's colon is not a port"
    } else {
        return Ok(uri);
    };
    Err(refused(what))
}

fn refused(what: &'static str) -> Error {
    Error::invalid(format!("not a URL such as http://127.0.0.1:8888: {what}"))
}
