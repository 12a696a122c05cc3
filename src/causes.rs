//! An error's causes, one behind the other.

use std::error::Error as StdError;
use std::iter::successors;

pub(crate) type Link<'a> = &'a (dyn StdError + 'static);

/// A cause, and those behind it.
pub(crate) fn chain(first: Option<Link<'_>>) -> impl Iterator<Item = Link<'_>> {
    successors(first, |link: &Link<'_>| (*link).source())
}
