//! An error's causes, one behind the other.

use std::error::Error as StdError;
use std::iter::successors;

pub(crate) type Link<'a> = &'a (dyn StdError + 'static);

/// A cause, and those behind it.
pub(crate) fn chain(first: Option<Link<'_>>) -> impl Iterator<Item = Link<'_>> {
    successors(first, |link: &Link<'_>| (*link).source())
}

/// An error in words, with the causes behind it.
pub(crate) fn in_a_line(error: Link<'_>) -> String {
    let words: Vec<_> = chain(Some(error)).map(ToString::to_string).collect();
    words.join(": ")
}
