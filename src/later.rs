//! Times to come.

use std::time::Duration;

use tokio::time::Instant;

/// As long as never.
const FAR: Duration = Duration::from_secs(1 << 30);

/// So long after `now`. A time that does not fit into a clock never comes.
pub(crate) fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now + FAR)
}
