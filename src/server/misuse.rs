//! What the log is told of clients that break the rules: of each connection that a call was refused, once, and how it
//! ended, if that was not in peace. However much a client does, that is no more than two lines for a connection. Of
//! those at `warn` there is one in a while, for the whole store.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;
use tonic::Status;
use tracing::field::display;
use tracing::{debug, warn};

use super::preface::Instead;
use super::sparing::Sparing;
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
    /// Of all connections of the store.
    warnings: Arc<Sparing>,
}

impl Misuse {
    pub(super) fn of(peer: Option<SocketAddr>, warnings: &Arc<Sparing>) -> Self {
        Self {
            peer,
            is_told: AtomicBool::new(false),
            warnings: Arc::clone(warnings),
        }
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
            let peer = self.peer.map(display);
            debug!(target: LOG, peer, %why, "the store refuses a call, and tells no more of this connection's");
        }
    }

    /// The connection is cut.
    pub(super) fn cut(&self, why: &str) {
        self.warn("the store cuts a connection", why);
    }

    /// The connection has ended so: the client broke a rule, as by speaking something else, or says that the store did.
    /// A client that is gone is neither.
    pub(super) fn ended(&self, error: &hyper::Error, instead: Option<Instead>) {
        const WHAT: &str = "a connection of the store ends with an error";
        let first: &(dyn StdError + 'static) = error;
        if let Some(instead) = instead {
            self.warn(WHAT, instead.in_words());
        } else if !chain(Some(first)).any(|cause| cause.is::<std::io::Error>()) {
            let why = in_a_line(first);
            self.warn(WHAT, &why);
        }
    }

    fn warn(&self, what: &str, why: &str) {
        let (why, _) = split_behind(why, WORDS);
        let (peer, why) = (self.peer.map(display), Escaped(why));
        match self.warnings.say(Instant::now()) {
            Some(left_out) => {
                let left_out = (left_out > 0).then_some(left_out);
                warn!(target: LOG, peer, %why, left_out, "{what}");
            }
            None => debug!(target: LOG, peer, %why, "{what}"),
        }
    }
}
