//! What a stream may carry.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use crate::cid::Cid;
use crate::error::Error;
use crate::record::Record;

/// A ref: anything that names a record by its CID.
///
/// A [`Cid`], its text, a [`Record`] (by its own CID), and whatever of yours has one:
///
/// ```
/// use agntcy_dir_stream::{Cid, Error, ToCid};
///
/// struct Row {
///     id: u64,
///     cid: String,
/// }
///
/// impl ToCid for Row {
///     fn to_cid(&self) -> Result<Cid, Error> {
///         self.cid.parse()
///     }
/// }
///
/// let row = Row { id: 7, cid: "oops".into() };
/// assert_eq!(row.to_cid().unwrap_err().to_string(), "invalid: `oops` is not a CID");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a ref: it gives no CID",
    label = "items are refs, or `(ref, tag)`",
    note = "a ref is a `Cid`, its text, a `Record`, or a type of yours that implements `ToCid`",
    note = "`Result` items: use the method that begins with `try_`, such as `try_pull_from`",
    note = "items with a tag: the ref comes first, as in `.map(|(tag, cid)| (cid, tag))`; several tags are one, `(cid, (a, b))`"
)]
pub trait ToCid {
    /// The CID.
    ///
    /// # Errors
    ///
    /// Of kind [`Invalid`](crate::ErrorKind::Invalid), where there is none. An adapter gives it
    /// to this item alone, and never sends it.
    fn to_cid(&self) -> Result<Cid, Error>;
}

impl ToCid for Cid {
    fn to_cid(&self) -> Result<Cid, Error> {
        Ok(*self)
    }
}

impl ToCid for Record {
    fn to_cid(&self) -> Result<Cid, Error> {
        self.cid()
    }
}

impl ToCid for str {
    fn to_cid(&self) -> Result<Cid, Error> {
        self.parse()
    }
}

impl ToCid for String {
    fn to_cid(&self) -> Result<Cid, Error> {
        self.parse()
    }
}

impl ToCid for Cow<'_, str> {
    fn to_cid(&self) -> Result<Cid, Error> {
        self.parse()
    }
}

impl<R: ToCid + ?Sized> ToCid for &R {
    fn to_cid(&self) -> Result<Cid, Error> {
        (**self).to_cid()
    }
}

impl<R: ToCid + ?Sized> ToCid for Box<R> {
    fn to_cid(&self) -> Result<Cid, Error> {
        (**self).to_cid()
    }
}

impl<R: ToCid + ?Sized> ToCid for Rc<R> {
    fn to_cid(&self) -> Result<Cid, Error> {
        (**self).to_cid()
    }
}

impl<R: ToCid + ?Sized> ToCid for Arc<R> {
    fn to_cid(&self) -> Result<Cid, Error> {
        (**self).to_cid()
    }
}

/// An item of an adapter's input: an input, or an input with a tag, `(input, T)`.
///
/// The tag is whatever should come back with the result: an acknowledgement handle, a file name, a
/// row id. There is no bound on it, and nothing is cloned. For all there is to tag, this trait is
/// implemented already.
///
/// The results of one adapter are items of the next, with their tags: a [`Pulled`](crate::Pulled) is a record, and a
/// [`Pushed`](crate::Pushed), [`Signed`](crate::Signed), [`Published`](crate::Published), [`Found`](crate::Found) or
/// [`Existence`](crate::Existence) is a ref.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a ref nor `(ref, tag)`",
    label = "items are refs, or `(ref, tag)`",
    note = "a ref is a `Cid`, its text, a `Record`, or a type of yours that implements `ToCid`; of referrers, also `ReferrersOf`",
    note = "`Result` items: use the method that begins with `try_`, such as `try_pull_from`",
    note = "items with a tag: the ref comes first, as in `.map(|(tag, cid)| (cid, tag))`; several tags are one, `(cid, (a, b))`"
)]
pub trait Tagged: sealed::Sealed {
    /// A [`Record`] for a push, a ref for the others.
    type Input;
    /// What comes back with the result; `()` where the item has no tag.
    type Tag;

    /// Takes the item apart.
    fn prepare(self) -> Prepared<Self::Input, Self::Tag>;
}

impl<I: ToCid> Tagged for I {
    type Input = I;
    type Tag = ();

    fn prepare(self) -> Prepared<I, ()> {
        Prepared::new(self, ())
    }
}

impl<I: ToCid, T> Tagged for (I, T) {
    type Input = I;
    type Tag = T;

    fn prepare(self) -> Prepared<I, T> {
        Prepared::new(self.0, self.1)
    }
}

impl<I, T> Tagged for Prepared<I, T> {
    type Input = I;
    type Tag = T;

    fn prepare(self) -> Self {
        self
    }
}

/// The result of an adapter, as an item of the next: what of it is the input there, by the name of its field.
macro_rules! result_is_item {
    ($result:ident, $input:ty, $field:ident) => {
        impl<T> $crate::item::Tagged for $result<T> {
            type Input = $input;
            type Tag = T;

            fn prepare(self) -> $crate::item::Prepared<$input, T> {
                $crate::item::Prepared::new(self.$field, self.tag)
            }
        }

        impl<T> $crate::item::Item<$input, T> for $result<T> {
            fn prepare_for(self) -> $crate::item::Prepared<$input, T> {
                $crate::item::Tagged::prepare(self)
            }
        }

        impl<T> $crate::item::sealed::Sealed for $result<T> {}
        impl<T> $crate::item::sealed::SealedItem<$input, T> for $result<T> {}
    };
}

pub(crate) use result_is_item;

/// An item of a push: a [`Record`], a record with a tag `(Record, T)`, or what has been [pulled](crate::Pulled).
///
/// It says the same as `Tagged<Input = Record, Tag = T>`, lets the compiler say what to write in place
/// of other items, and has what can be decided of a record before it is sent.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be pushed: it is neither a `Record` nor `(Record, tag)`",
    label = "items are `Record`, or `(Record, tag)`",
    note = "`Result` items: use `try_push_to`, which gives the errors in their places",
    note = "JSON text: `text.parse::<Record>()`; `serde_json::Value`: `Record::try_from(value)`; a type of yours: `Record::from_serialize(&value)`",
    note = "items with a tag: the record comes first, as in `.map(|(tag, record)| (record, tag))`; several tags are one, `(record, (a, b))`",
    note = "borrowed records: `.map(Record::clone)`, which copies no data"
)]
pub trait PushItem<T>: Tagged<Input = Record, Tag = T> {
    /// Leaves the record out of a push, if `is_stored` says so of its CID: its result is a success that is marked as
    /// [`already_stored`](crate::Pushed::already_stored), in its place in the order, and nothing is sent.
    ///
    /// It is for what you know yourself, such as a list of the CIDs in the directory. To have the directory
    /// asked: [`Options::skip_stored`](crate::Options::skip_stored).
    ///
    /// ```
    /// use std::collections::HashSet;
    ///
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = agntcy_dir_stream::server::Store::new();
    /// # let client = store.client();
    /// let record = |name| format!(r#"{{"name": "{name}", "schema_version": "1.0.0"}}"#).parse::<Record>();
    /// let stored = HashSet::from([record("a")?.cid()?]);
    /// let records = stream::iter([record("a")?, record("b")?]);
    ///
    /// let records = records.map(|record| record.skip_if(|cid| stored.contains(cid)));
    /// let summary = records.push_to(&client).finish().await;
    /// assert_eq!((summary.stats.succeeded, summary.stats.already_stored), (2, 1));
    /// assert_eq!(store.len(), 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    fn skip_if(self, is_stored: impl FnOnce(&Cid) -> bool) -> Prepared<Record, T>
    where
        Self: Sized,
    {
        let mut item = self.prepare();
        if matches!(item.fate, Fate::Sent) {
            // A record that has no CID gets its error by the adapter.
            item.cid = item.cid.or_else(|| item.input.cid().ok());
            if item.cid.as_ref().is_some_and(is_stored) {
                item.fate = Fate::Stored;
            }
        }
        item
    }

    /// Has a check of yours look at the record before it is sent. What it refuses is not sent, and fails as
    /// [`Invalid`](crate::ErrorKind::Invalid) in its place in the order, with what the check says. An [`Error`] of this
    /// crate stays as it is: with one of kind [`Unavailable`](crate::ErrorKind::Unavailable), a later run has the
    /// record again.
    ///
    /// [`Record::check_required`] is such a check. For one that waits: [`prechecked`](Self::prechecked). Over a
    /// fallible input: `.map_ok(|record| record.precheck(..))`.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// /// A rule of ours.
    /// fn is_ours(record: &Record) -> Result<(), String> {
    ///     match record.name() {
    ///         Some(name) if name.starts_with("example.org/") => Ok(()),
    ///         name => Err(format!("{name:?} is no name of ours")),
    ///     }
    /// }
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let records = stream::iter([r#"{"name": "a", "schema_version": "1.0.0"}"#.parse::<Record>()?]);
    /// let records = records.map(|record| record.precheck(Record::check_required).precheck(is_ours));
    /// let failed = records.push_to(&client).next().await.unwrap().unwrap_err();
    /// assert_eq!(failed.to_string(), r#"push of item 0: invalid: Some("a") is no name of ours"#);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    fn precheck<E>(self, check: impl FnOnce(&Record) -> Result<(), E>) -> Prepared<Record, T>
    where
        Self: Sized,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut item = self.prepare();
        if matches!(item.fate, Fate::Sent)
            && let Err(error) = check(&item.input)
        {
            item.fate = Fate::Refused(refused_as(error.into()));
        }
        item
    }

    /// What a check of yours has found, where it had to wait for that. `Err` is as in [`precheck`](Self::precheck).
    ///
    /// Eight records at a time are checked here, and go on in their order:
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{Stream, StreamExt};
    ///
    /// async fn policy(record: &Record) -> Result<(), String> {
    ///     // Such as a question to a service.
    ///     Ok(())
    /// }
    ///
    /// async fn import(client: &Client, records: impl Stream<Item = Record>) -> u64 {
    ///     let checked = records.map(async |record| {
    ///         let verdict = policy(&record).await;
    ///         record.prechecked(verdict)
    ///     });
    ///     checked.buffered(8).push_to(client).finish().await.stats.succeeded
    /// }
    /// ```
    fn prechecked<E>(self, verdict: Result<(), E>) -> Prepared<Record, T>
    where
        Self: Sized,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.precheck(|_| verdict)
    }
}

/// Our own errors stay what they are.
fn refused_as(error: Box<dyn StdError + Send + Sync>) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => Error::invalid(error.to_string()).with_source(error),
    }
}

impl PushItem<()> for Record {}

impl<T> PushItem<T> for (Record, T) {}

impl<T> PushItem<T> for Prepared<Record, T> {}

/// An item with what has been decided of it before it is sent: [`PushItem::skip_if`], [`PushItem::precheck`].
#[derive(Clone, Debug)]
pub struct Prepared<I, T = ()> {
    pub(crate) input: I,
    pub(crate) tag: T,
    /// Its CID, where it is known already.
    pub(crate) cid: Option<Cid>,
    pub(crate) fate: Fate,
}

impl<I, T> Prepared<I, T> {
    pub(crate) fn new(input: I, tag: T) -> Self {
        Self {
            input,
            tag,
            cid: None,
            fate: Fate::Sent,
        }
    }
}

/// What is to become of an item.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It is sent.
    Sent,
    /// It is not sent, since it is stored.
    Stored,
    /// It is not sent, and fails with this.
    Refused(Error),
}

/// An item of the input of [`through`](crate::ThroughExt::through): an input `I` of an operation, or one with a tag,
/// `(I, T)`. Of an operation on CIDs, it is also what has been pushed, found, signed or published; of one on records,
/// what has been pulled.
///
/// For all there is to tag, it is implemented already.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither `{I}`, which is the input here, nor `({I}, tag)`",
    label = "items are `{I}`, or `({I}, tag)`",
    note = "`Result` items: use the method that begins with `try_`, such as `try_through`, which gives the errors in their places",
    note = "items with a tag: the input comes first; several tags are one, `(input, (a, b))`"
)]
pub trait Item<I, T>: sealed::SealedItem<I, T> {
    /// Takes the item apart.
    fn prepare_for(self) -> Prepared<I, T>;
}

impl<I> Item<I, ()> for I {
    fn prepare_for(self) -> Prepared<I, ()> {
        Prepared::new(self, ())
    }
}

impl<I, T> Item<I, T> for (I, T) {
    fn prepare_for(self) -> Prepared<I, T> {
        Prepared::new(self.0, self.1)
    }
}

impl<I, T> Item<I, T> for Prepared<I, T> {
    fn prepare_for(self) -> Self {
        self
    }
}

/// What an input gives: an item, or an error in its place. `V` says how it is read.
pub(crate) trait Arrival<V> {
    type Input;
    type Tag;
    type Error;

    fn arrive(self) -> Result<Prepared<Self::Input, Self::Tag>, Self::Error>;
}

/// Items tell by themselves what is the input and what is the tag.
pub(crate) struct Items;

impl<I: Tagged> Arrival<Items> for I {
    type Input = I::Input;
    type Tag = I::Tag;
    type Error = Infallible;

    fn arrive(self) -> Result<Prepared<I::Input, I::Tag>, Infallible> {
        Ok(self.prepare())
    }
}

impl<I: Tagged, E> Arrival<Items> for Result<I, E> {
    type Input = I::Input;
    type Tag = I::Tag;
    type Error = E;

    fn arrive(self) -> Result<Prepared<I::Input, I::Tag>, E> {
        self.map(Tagged::prepare)
    }
}

/// Items are those of an operation with inputs `I`.
pub(crate) struct ItemsOf<I, T>(PhantomData<fn(I, T)>);

impl<I, T> ItemsOf<I, T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<X: Item<I, T>, I, T> Arrival<ItemsOf<I, T>> for X {
    type Input = I;
    type Tag = T;
    type Error = Infallible;

    fn arrive(self) -> Result<Prepared<I, T>, Infallible> {
        Ok(self.prepare_for())
    }
}

/// The same over a fallible input.
pub(crate) struct TryItemsOf<I, T>(PhantomData<fn(I, T)>);

impl<I, T> TryItemsOf<I, T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<X: Item<I, T>, I, T, E> Arrival<TryItemsOf<I, T>> for Result<X, E> {
    type Input = I;
    type Tag = T;
    type Error = E;

    fn arrive(self) -> Result<Prepared<I, T>, E> {
        self.map(Item::prepare_for)
    }
}

pub(crate) mod sealed {
    use super::{Prepared, ToCid};

    pub trait Sealed {}

    impl<I: ToCid> Sealed for I {}
    impl<I: ToCid, T> Sealed for (I, T) {}
    impl<I, T> Sealed for Prepared<I, T> {}

    pub trait SealedItem<I, T> {}

    impl<I> SealedItem<I, ()> for I {}
    impl<I, T> SealedItem<I, T> for (I, T) {}
    impl<I, T> SealedItem<I, T> for Prepared<I, T> {}
}
