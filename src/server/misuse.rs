//! What the log is told of clients that break the rules: of each connection that a call was refused, once, and how it
//! ended, if that was not in peace. However much a client does, it is no more than two lines.

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::Status;
use tracing::{debug, warn};

use crate::LOG;
use crate::causes::{chain, in_a_line};
use crate::escape::{Escaped, split_behind};

/// The most of a client's words that is told, in bytes.
const WORDS: usize = 200;

/// The misuse of one connection.
#[derive(Default)]
pub(super) struct Misuse {
    /// From where it came, if it has an address.
    peer: Option<SocketAddr>,
    is_told: AtomicBool,
}

impl Misuse {
    pub(super) fn of(peer: Option<SocketAddr>) -> Self {
        let is_told = AtomicBool::new(false);
        Self { peer, is_told }
    }

    /// A call is refused for what the client sent, and not for what it asked.
    pub(super) fn refused(&self, status: &Status) {
        self.refused_for(status.message());
    }

    /// The same, in words that may be the client's own.
    pub(super) fn refused_for(&self, why: &str) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            let (why, _) = split_behind(why, WORDS);
            let why = Escaped(why);
            let peer = Peer(self.peer);
            debug!(target: LOG, %peer, %why, "the store refuses a call, and tells no more of this connection's");
        }
    }

    /// The connection is cut.
    pub(super) fn cut(&self, why: &str) {
        self.warn("the store cuts a connection", why);
    }

    /// The connection has ended so: the client broke a rule, or says that the store did. A client that is gone is neither.
    pub(super) fn ended(&self, error: &hyper::Error) {
        let first: &(dyn StdError + 'static) = error;
        if !chain(Some(first)).any(|cause| cause.is::<std::io::Error>()) {
            let why = in_a_line(first);
            self.warn("a connection of the store ends with an error", &why);
        }
    }

    fn warn(&self, what: &str, why: &str) {
        let (why, _) = split_behind(why, WORDS);
        let why = Escaped(why);
        warn!(target: LOG, peer = %Peer(self.peer), %why, "{what}");
    }
}

struct Peer(Option<SocketAddr>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("no address"),
        }
    }
}
