//! Any operation over a stream.

use futures_core::Stream;

use crate::client::Client;
use crate::engine::{Adapter, drive};
use crate::failed::{Failed, TryFailed};
use crate::item::{Item, ItemsOf, TryItemsOf};
use crate::operation::Operation;
use crate::options::Options;

/// What [`through`](ThroughExt::through) yields for each item.
pub type ThroughResult<O, T = ()> =
    Result<<O as Operation>::Success<T>, Failed<<O as Operation>::Input, T>>;

/// What [`try_through`](ThroughExt::try_through) yields for each item, and for each error of its input.
pub type TryThroughResult<E, O, T = ()> =
    Result<<O as Operation>::Success<T>, TryFailed<E, <O as Operation>::Input, T>>;

/// Sends a stream through an operation.
pub trait ThroughExt: Stream + Sized {
    /// Sends each item of this stream through `operation`, to the server behind `client`, over one call at a time, or
    /// as many as [`Options::calls`] says.
    ///
    /// Items are inputs of the operation, or `(input, T)` with a tag of any type that comes back with the result. Yields
    /// one [`ThroughResult`] for each item. [`Operation`] has an example, and says what depends on the operation.
    ///
    /// Order, recovery, cancel safety and panics are told at [`Adapter`].
    ///
    /// # Errors
    ///
    /// Those of the operation, and those that all adapters have: [`ErrorKind`](crate::ErrorKind).
    fn through<O, T>(
        self,
        operation: O,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = ThroughResult<O, T>> + use<Self, O, T>>
    where
        O: Operation,
        Self::Item: Item<O::Input, T>,
    {
        // Not by way of the other method: `drive` says why.
        drive(ItemsOf::new(), self, operation, client, &Options::new())
    }

    /// [`through`](Self::through) with [`Options`].
    fn through_with<O, T>(
        self,
        operation: O,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = ThroughResult<O, T>> + use<Self, O, T>>
    where
        O: Operation,
        Self::Item: Item<O::Input, T>,
    {
        drive(ItemsOf::new(), self, operation, client, options)
    }

    /// [`through`](Self::through) over an input that can fail, as [`try_push_to`](crate::PushExt::try_push_to) is.
    fn try_through<O, I, T, E>(
        self,
        operation: O,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = TryThroughResult<E, O, T>> + use<Self, O, I, T, E>>
    where
        O: Operation,
        Self: Stream<Item = Result<I, E>>,
        I: Item<O::Input, T>,
    {
        drive(TryItemsOf::new(), self, operation, client, &Options::new())
    }

    /// [`try_through`](Self::try_through) with [`Options`].
    fn try_through_with<O, I, T, E>(
        self,
        operation: O,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = TryThroughResult<E, O, T>> + use<Self, O, I, T, E>>
    where
        O: Operation,
        Self: Stream<Item = Result<I, E>>,
        I: Item<O::Input, T>,
    {
        drive(TryItemsOf::new(), self, operation, client, options)
    }
}

impl<S: Stream> ThroughExt for S {}
