//! What a stream may carry.

use std::borrow::Cow;
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
    note = "`Result` items: take the stream apart first, as in `.filter_map(async |item| item.inspect_err(report).ok())`",
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a ref nor `(ref, tag)`",
    label = "items are refs, or `(ref, tag)`",
    note = "a ref is a `Cid`, its text, a `Record`, or a type of yours that implements `ToCid`",
    note = "`Result` items: take the stream apart first, as in `.filter_map(async |item| item.inspect_err(report).ok())`",
    note = "items with a tag: the ref comes first, as in `.map(|(tag, cid)| (cid, tag))`; several tags are one, `(cid, (a, b))`"
)]
pub trait Tagged: sealed::Sealed {
    /// A [`Record`] for a push, a ref for the others.
    type Input;
    /// What comes back with the result; `()` where the item has no tag.
    type Tag;

    /// Takes the item apart.
    fn untag(self) -> (Self::Input, Self::Tag);
}

impl<I: ToCid> Tagged for I {
    type Input = I;
    type Tag = ();

    fn untag(self) -> (I, ()) {
        (self, ())
    }
}

impl<I: ToCid, T> Tagged for (I, T) {
    type Input = I;
    type Tag = T;

    fn untag(self) -> (I, T) {
        self
    }
}

/// An item of a push: a [`Record`], or a record with a tag, `(Record, T)`.
///
/// It says the same as `Tagged<Input = Record, Tag = T>`, and lets the compiler say what to write in place
/// of other items.
///
/// A source that can fail gives `Result`s. These are taken apart first: errors aside, records in.
///
/// ```
/// use agntcy_dir_stream::prelude::*;
/// use futures::{StreamExt, stream};
///
/// # #[cfg(feature = "server")]
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = agntcy_dir_stream::server::Store::new().client();
/// let texts = stream::iter([r#"{"name": "a", "schema_version": "1.0.0"}"#, "no JSON"]);
/// let parsed = texts.map(|text| text.parse::<Record>());
///
/// let report = |error: &_| eprintln!("{error}");
/// let records = parsed.filter_map(async |item| item.inspect_err(report).ok());
/// let summary = records.push_to(&client).finish().await;
/// assert_eq!((summary.stats.taken, summary.stats.succeeded), (1, 1));
/// # Ok(())
/// # }
/// # #[cfg(feature = "server")]
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be pushed: it is neither a `Record` nor `(Record, tag)`",
    label = "items are `Record`, or `(Record, tag)`",
    note = "`Result` items: take the stream apart first, as in `.filter_map(async |item| item.inspect_err(report).ok())`",
    note = "JSON text: `text.parse::<Record>()`; `serde_json::Value`: `Record::try_from(value)`; a type of yours: `Record::from_serialize(&value)`",
    note = "items with a tag: the record comes first, as in `.map(|(tag, record)| (record, tag))`; several tags are one, `(record, (a, b))`",
    note = "borrowed records: `.map(Record::clone)`, which copies no data"
)]
pub trait PushItem<T>: Tagged<Input = Record, Tag = T> {}

impl PushItem<()> for Record {}

impl<T> PushItem<T> for (Record, T) {}

mod sealed {
    use super::ToCid;

    pub trait Sealed {}

    impl<I: ToCid> Sealed for I {}
    impl<I: ToCid, T> Sealed for (I, T) {}
}
