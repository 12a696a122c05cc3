//! Operations on a single item, as adapters over a stream of one.

use std::future::poll_fn;
use std::pin::pin;

use futures_core::Stream;

use super::Client;
use crate::delete::{DeleteExt as _, DeleteResult};
use crate::item::ToCid;
use crate::lookup::{LookupExt as _, LookupResult};
use crate::pull::{PullExt as _, PullResult};
use crate::push::{PushExt as _, PushResult};
use crate::record::Record;

/// Each is a call of its own: for more than a few items, use the adapters. They recover as the
/// adapters do by default: see [`Retry`](crate::Retry) and the `# Recovery` of each method. As these, they
/// panic outside of a tokio runtime.
impl Client {
    /// Pushes one record, as [`push_to`](crate::PushExt::push_to) does.
    ///
    /// Where the server fails without saying whose fault it is (`Internal`), what else has been pushed
    /// with this client tells, as under [`Retry`](crate::Retry). If nothing has been, that takes two
    /// minutes. [`Retry::off`](crate::Retry::off), with `push_to_with`, does not wait.
    ///
    /// # Errors
    ///
    /// Those of `push_to`. The record comes back in the error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call; the record may or may not be stored.
    pub async fn push(&self, record: Record) -> PushResult {
        only(once(record).push_to(self)).await
    }

    /// Pulls one record, as [`pull_from`](crate::PullExt::pull_from) does.
    ///
    /// # Errors
    ///
    /// Those of `pull_from`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call; nothing is changed on the server.
    pub async fn pull<R: ToCid>(&self, item: R) -> PullResult<R> {
        only(once(item).pull_from(self)).await
    }

    /// Looks up one record, as [`lookup_in`](crate::LookupExt::lookup_in) does.
    ///
    /// # Errors
    ///
    /// Those of `lookup_in`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call; nothing is changed on the server.
    pub async fn lookup<R: ToCid>(&self, item: R) -> LookupResult<R> {
        only(once(item).lookup_in(self)).await
    }

    /// Deletes one record, as [`delete_from`](crate::DeleteExt::delete_from) does.
    ///
    /// # Errors
    ///
    /// Those of `delete_from`. Deleting what is not there is a success.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call; the record may or may not be deleted.
    pub async fn delete<R: ToCid>(&self, item: R) -> DeleteResult<R> {
        only(once(item).delete_from(self)).await
    }
}

fn once<I>(item: I) -> impl Stream<Item = I> {
    async_stream::stream! { yield item; }
}

/// The result of a stream of one, which is read to its end so that the call ends by itself.
async fn only<S: Stream>(results: S) -> S::Item {
    let mut results = pin!(results);
    let mut only = None;
    while let Some(result) = poll_fn(|cx| results.as_mut().poll_next(cx)).await {
        only = Some(result);
    }
    only.expect("one input has one result")
}
