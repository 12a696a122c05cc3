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

mod sealed {
    use super::ToCid;

    pub trait Sealed {}

    impl<I: ToCid> Sealed for I {}
    impl<I: ToCid, T> Sealed for (I, T) {}
}
