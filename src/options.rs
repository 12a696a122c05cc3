//! What a caller may choose for an adapter.

use std::num::NonZeroUsize;

/// How an adapter works: the size of its window, and what it checks.
///
/// Given to the `*_with` form of each adapter; a plain value, so nothing can change once a
/// stream runs.
///
/// ```
/// use agntcy_dir_stream::Options;
/// use std::num::NonZeroUsize;
///
/// let options = Options::new()
///     .window(NonZeroUsize::new(64).expect("not zero"))
///     .verify(false);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Options {
    pub(crate) window: NonZeroUsize,
    pub(crate) window_bytes: NonZeroUsize,
    pub(crate) verify: bool,
}

impl Options {
    /// The default of [`window`](Self::window): 1024 items.
    pub const DEFAULT_WINDOW: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

    /// The default of [`window_bytes`](Self::window_bytes): 16 MiB, four records of the largest
    /// size a server takes.
    pub const DEFAULT_WINDOW_BYTES: NonZeroUsize =
        NonZeroUsize::new(16 * 1024 * 1024).expect("not zero");

    /// The defaults: a window of 1024 items and 16 MiB, with CIDs verified.
    pub const fn new() -> Self {
        Self {
            window: Self::DEFAULT_WINDOW,
            window_bytes: Self::DEFAULT_WINDOW_BYTES,
            verify: true,
        }
    }

    /// How many items may be taken from the input and not yet have their result handed out.
    ///
    /// It bounds memory, and how far the call runs ahead of the answers: a window of 1 waits
    /// for each answer before the next item is taken.
    pub const fn window(mut self, items: NonZeroUsize) -> Self {
        self.window = items;
        self
    }

    /// How many bytes of requests the window may hold: the encoded records of a push, the CIDs
    /// of the other operations.
    ///
    /// An item's size is known only once it is taken, so the window can exceed this by one item;
    /// an item larger than the whole bound is sent alone.
    pub const fn window_bytes(mut self, bytes: NonZeroUsize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Whether answers are checked against what was asked. On by default.
    ///
    /// For a push, the record must have a CID before it is sent, and the server must answer with
    /// that one; for a pull, the record must hash to the CID asked for; for a lookup, the metadata
    /// must be of the CID asked for. An answer that does not match is that item's error, of kind
    /// [`Mismatch`](crate::ErrorKind::Mismatch). For push and pull the check costs one pass of
    /// canonical JSON and SHA-256 over the record.
    pub const fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_what_the_docs_say() {
        assert_eq!(Options::DEFAULT_WINDOW.get(), 1024);
        assert_eq!(Options::DEFAULT_WINDOW_BYTES.get(), 4 * 4 * 1024 * 1024);
        assert!(Options::default().verify);
    }
}
