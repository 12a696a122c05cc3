//! How hard an adapter tries.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tonic::Status;

use crate::verdict::Verdict;

type Classify = dyn Fn(&Status) -> Verdict + Send + Sync;

/// What an adapter does about faults: how often, how long, and after which waits it tries again.
///
/// What is retried:
///
/// - Items whose call broke before their answer came ([`Verdict::Transient`]), and only those: what was answered is not
///   sent again, but for the item below that shows whether it is an outage. A pull or lookup is asked again, and a
///   delete is sent again. A push is looked up first, by its CID. If it is found, it is a success
///   ([`Pushed::already_stored`](crate::Pushed::already_stored)). If not, it is sent again.
/// - The one item at which the server failed without saying whose fault it is
///   ([`Verdict::Attempt`]), while the others go on. A push is looked up after its first failure and
///   before it is failed, since a server may answer so to a record that it has.
/// - A call that could not be opened, that made no progress
///   ([`Options::stall_after`](crate::Options::stall_after)), or that ended OK with answers missing.
///
/// What is not retried: a record that the server refused, a ref that it does not have, an item that was
/// found bad before it was sent, an answer that does not match, a caller who is refused.
///
/// # Attempts
///
/// - A fault costs an attempt only for the item that the server was at: the first without an answer, and
///   only if its request had left. So a server that cannot be reached costs no attempts.
/// - An item at its last attempt is sent alone, so that an item that breaks each call cannot hold up the
///   others. Then it gets its error.
///
/// # Bad item or outage
///
/// - Where the server fails at an item, it may be the item or an outage. Only other items show which. So such a
///   failure counts against the item only if another one, of the same operation, was sent to that node after
///   the item failed before, and has succeeded. The other one may be of any adapter of the client or of its
///   clones. In an outage none succeeds, and no item is failed for it. While others succeed, the item's
///   tries follow each other after 0.5, 1, 2, … up to 50 ms, then it gets its error.
/// - If only such items are left, or two came in a row, an item that has succeeded is asked for again, to
///   tell: a pull or lookup of the same ref, a push of the same record. It may be of any adapter of the
///   client. The client keeps the last.
/// - Before such a push, the record is looked up (for at most 5 seconds, where its call has to wait), unless
///   a request that left within the last second has shown that it is there. So what somebody else deletes in
///   that time can come back. While this client deletes, nothing is pushed again, and its deletes wait for
///   such a push for at most 5 seconds. A delete asks for nothing again.
/// - Where nothing has succeeded yet, nothing tells. Then an item gets its error when the server has failed
///   at it for two minutes. The last refs of a delete, when all others are deleted, wait as long.
/// - A server that takes what it has and fails at all else cannot be told from bad records: those records get
///   their errors. But where it says that it cannot write ("no space left on device", "read-only file
///   system", and the like), only a record that it stores after that counts against them. Else they are sent again
///   with the waits of an outage, until the timeout, or until the circuit breaker gives up.
///
/// # Waits
///
/// - Waits double from the first of [`backoff`](Self::backoff) up to the longest. Each is lengthened at
///   random by up to its own length. Answers set them back to the first. A connection that can be made does
///   not, and a lookup that finds nothing, behind calls that broke, does not.
/// - A server's own word comes first: `grpc-retry-pushback-ms`, `google.rpc.RetryInfo`, `retry-after` in
///   seconds; up to 10 minutes each. "Never", in the first of these, ends the item's tries. After several faults in a row the
///   server's word makes the wait longer, and not shorter.
/// - After a connection that was told to go away, the first retry is at once.
/// - While the server is there and says that it fails, a wait is no longer than 250 ms, or than the first
///   wait if that is longer.
/// - When faults come in a row, the client's [`CircuitBreaker`](crate::CircuitBreaker) takes over.
///
/// # Time
///
/// How long each thing may take; whichever comes first ends it:
///
/// | what | how long | set by |
/// |---|---|---|
/// | an item, from when it is taken to its result | 10 minutes | [`timeout`](Self::timeout) |
/// | a call without a byte, either way | 60 seconds, then it is made again | [`Options::stall_after`](crate::Options::stall_after) |
/// | all that is left, while the circuit is open and there is no answer | 5 minutes | [`CircuitBreaker::give_up_after`](crate::CircuitBreaker::give_up_after) |
/// | an item at which the server fails, where nothing has succeeded yet | 2 minutes | fixed |
/// | a connection, from TCP to HTTP/2 settings | 20 seconds, then it is made again | [`ClientBuilder::connect_timeout`](crate::ClientBuilder::connect_timeout) |
/// | a token, from its source | until the call stalls | [`Options::stall_after`](crate::Options::stall_after) |
/// | a silent connection with calls on it | 90 seconds to a ping, 20 to its answer | fixed |
/// | the end of a call that has nothing to answer any more | 5 seconds | fixed |
/// | all that was taken, after [`drain`](crate::Adapter::drain) | what it was told | its argument |
/// | a search in which nothing new comes | 10 minutes | [`timeout`](Self::timeout) |
/// | a listener, or who follows, while the server is away | for ever | whoever drops it; [`off`](Self::off) ends it at the first fault |
///
/// ```
/// use std::time::Duration;
///
/// use agntcy_dir_stream::{Options, Retry};
///
/// let patient = Retry::new()
///     .max_attempts(10)
///     .backoff(Duration::from_secs(1), Duration::from_secs(60))
///     .timeout(Duration::from_secs(3600));
/// let options = Options::new().retry(patient);
/// let options = options.retry(Retry::off());
/// # let _ = options;
/// ```
#[derive(Clone)]
#[must_use]
pub struct Retry {
    is_on: bool,
    max_attempts: u32,
    min_backoff: Duration,
    max_backoff: Duration,
    timeout: Duration,
    classify: Option<Arc<Classify>>,
}

impl Retry {
    /// The default of [`max_attempts`](Self::max_attempts): 5.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 5;
    /// The default of the first of the [`backoff`](Self::backoff): 100 ms.
    pub const DEFAULT_MIN_BACKOFF: Duration = Duration::from_millis(100);
    /// The default of the longest of the [`backoff`](Self::backoff): 30 s.
    pub const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(30);
    /// The default of [`timeout`](Self::timeout): 10 minutes.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

    /// The defaults: 5 attempts, waits from 100 ms to 30 s, 10 minutes a record,
    /// [`Verdict::of`].
    pub const fn new() -> Self {
        Self {
            is_on: true,
            max_attempts: Self::DEFAULT_MAX_ATTEMPTS,
            min_backoff: Self::DEFAULT_MIN_BACKOFF,
            max_backoff: Self::DEFAULT_MAX_BACKOFF,
            timeout: Self::DEFAULT_TIMEOUT,
            classify: None,
        }
    }

    /// No retries: nothing waits, nothing is sent again after a fault, nothing is looked up, and
    /// the circuit breaker is not heeded. When a call breaks, the items in it fail, each with
    /// what is known of it, and the ones behind them get a new call at once.
    ///
    /// What stood behind a refused record is still carried by the next call. [`timeout`](Self::timeout) and
    /// [`classify`](Self::classify) still apply. A record that is stored already is
    /// [`ServerFailed`](crate::ErrorKind::ServerFailed), if the server answers so. Setting
    /// [`max_attempts`](Self::max_attempts) or [`backoff`](Self::backoff) afterwards does not turn retries on
    /// again.
    pub const fn off() -> Self {
        let mut off = Self::new();
        off.is_on = false;
        off
    }

    /// How many faults may meet an item before it gets its error. A fault counts only for the item that the
    /// server was at. Default: 5.
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        assert!(attempts > 0, "an item has one attempt at least");
        self.max_attempts = attempts;
        self
    }

    /// The first and the longest wait between attempts. Default: 100 ms and 30 s. If `max` is below `min`,
    /// `min` counts.
    ///
    /// Between calls that break one after the other there is a wait of 1 ms at least, which doubles up to
    /// 128 ms.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.min_backoff = min;
        self.max_backoff = max.max(min);
        self
    }

    /// How long an item may take in all, from the moment it is taken from the input. Default: 10
    /// minutes; [`Duration::MAX`] is no limit, and zero sends nothing.
    ///
    /// The time counts only while the adapter waits for the server. The time in which the consumer works
    /// on a result does not count. When the time of an item is up and it never left, it is
    /// [`NotSent`](crate::ErrorKind::NotSent), and will not be sent. One that left and has no
    /// answer is [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) for a push or delete,
    /// [`Unavailable`](crate::ErrorKind::Unavailable) for a pull or lookup.
    ///
    /// A stream whose last items have run out of time waits up to 5 seconds more for its call to end.
    ///
    /// With a server that is slow and not broken, this must be more than a window's worth of
    /// answers. An open [`CircuitBreaker`](crate::CircuitBreaker) has a limit of its own.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// What the end of a call says, in place of [`Verdict::of`]: see [`Verdict`].
    pub fn classify(
        mut self,
        classify: impl Fn(&Status) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.classify = Some(Arc::new(classify));
        self
    }

    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(crate) fn attempts_allowed(&self) -> u32 {
        if self.is_on { self.max_attempts } else { 1 }
    }

    pub(crate) fn time_allowed(&self) -> Duration {
        self.timeout
    }

    /// What a status says: in the caller's own words, if they have any, else by `usual`.
    pub(crate) fn verdict(&self, status: &Status, usual: fn(&Status) -> Verdict) -> Verdict {
        match &self.classify {
            Some(classify) => classify(status),
            None => usual(status),
        }
    }

    /// The shortest wait that was asked for.
    pub(crate) fn shortest_delay(&self) -> Duration {
        self.min_backoff
    }

    /// The waits after faults in a row, endless.
    pub(crate) fn delays(&self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.min_backoff)
            .with_max_delay(self.max_backoff)
            .without_max_times()
            .with_jitter()
            .build()
    }

    /// The wait before the next try of an item at which the server failed, while it does its work:
    /// from half a millisecond, doubled, up to 50.
    pub(crate) fn wait_at_fault(&self, tries: u32) -> Duration {
        let doubled = 1 << tries.saturating_sub(1).min(10);
        let wait = Duration::from_micros(500) * doubled;
        wait.min(Duration::from_millis(50)).min(self.min_backoff)
    }

    /// The wait before an item's next try.
    pub(crate) fn wait_after(&self, tries: u32) -> Duration {
        let earlier = tries.saturating_sub(1).min(64) as usize;
        self.delays().nth(earlier).unwrap_or(self.max_backoff)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("is_on", &self.is_on)
            .field("max_attempts", &self.max_attempts)
            .field("min_backoff", &self.min_backoff)
            .field("max_backoff", &self.max_backoff)
            .field("timeout", &self.timeout)
            .field("has_own_classifier", &self.classify.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_what_the_docs_say() {
        let retry = Retry::default();
        assert!(retry.is_on());
        assert_eq!(retry.attempts_allowed(), 5);
        assert_eq!(retry.min_backoff.as_millis(), 100);
        assert_eq!(retry.max_backoff.as_secs(), 30);
        assert_eq!(retry.time_allowed().as_secs(), 10 * 60);
        assert!(!Retry::off().is_on());
        assert_eq!(Retry::off().attempts_allowed(), 1);
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_at_most_doubled_again() {
        let second = Duration::from_secs(1);
        let retry = Retry::new().backoff(second, 5 * second);
        for (tries, least) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 5), (5, 5), (1000, 5)] {
            let wait = retry.wait_after(tries);
            assert!(wait >= least * second, "{wait:?} after {tries}");
            assert!(wait <= 2 * least * second, "{wait:?} after {tries}");
        }
        let odd = Retry::new().backoff(2 * second, second);
        assert!(odd.wait_after(9) >= 2 * second);
    }
}
