//! The runtime that polls: what belongs to another one may rest, or be gone.

use tokio::runtime::{Handle, Id};

/// `None`: there is none.
pub(crate) fn current() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}
