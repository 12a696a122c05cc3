//! What an adapter yields for what did not succeed.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;

use crate::error::{Error, ErrorKind};

/// An item that did not succeed: what was put in, its tag, and why.
///
/// `I` is the input itself, a [`Record`](crate::Record) or whatever stood for a
/// [`Cid`](crate::Cid); `T` is the tag's type, `()` where there was none. It is a
/// [`std::error::Error`], so `?` turns it into an `anyhow::Error` where input and tag are
/// `Send + Sync + 'static`; into this crate's [`Error`] always. `Display` names the operation, the index, and
/// what was wrong.
#[non_exhaustive]
pub struct Failed<I, T = ()> {
    /// Which adapter it failed in, as logs and metrics name it: `push`, `pull_referrers`, or
    /// [`Operation::NAME`](crate::operation::Operation::NAME). Empty where a test has made it.
    pub operation: &'static str,
    /// The item's place in the input, counted from 0.
    pub index: u64,
    /// What was put in.
    pub input: I,
    /// The tag it came with.
    pub tag: T,
    /// How many calls have carried it. A call that ends at a refused record counts, too: the items behind
    /// that are carried again. 0: it never left. [`Retry::max_attempts`](crate::Retry::max_attempts) limits
    /// another count.
    pub attempts: u32,
    /// The item before it that is the same, and whose outcome this is: see [`Options::dedup`](crate::Options::dedup).
    pub duplicate_of: Option<u64>,
    /// Why.
    pub error: Error,
}

impl<I> Failed<I> {
    /// A result for tests of your own pipeline: an item that never left (no `attempts`), without a tag.
    ///
    /// The other fields can be set afterwards.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::{Error, ErrorKind, Failed};
    /// use futures::{Stream, StreamExt, stream};
    ///
    /// /// What is to be tested: what a later run is to push again.
    /// async fn later(results: impl Stream<Item = PushResult>) -> Vec<Record> {
    ///     let failed = results.filter_map(|result| std::future::ready(result.err()));
    ///     let later = failed.filter(|failed| std::future::ready(!failed.error.is_of_item()));
    ///     later.map(|failed| failed.input).collect().await
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let [bad, good]: [Record; 2] = [r#"{"name": "a"}"#.parse()?, r#"{"name": "b"}"#.parse()?];
    /// let refused = Failed::new(0, bad, Error::new(ErrorKind::Rejected, "no schema version"));
    /// let mut lost = Failed::new(1, good.clone(), Error::new(ErrorKind::OutcomeUnknown, "the call broke"));
    /// lost.attempts = 1;
    ///
    /// assert_eq!(later(stream::iter([Err(refused), Err(lost)])).await, [good]);
    /// # Ok::<_, Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn new(index: u64, input: I, error: Error) -> Self {
        Self {
            operation: "",
            index,
            input,
            tag: (),
            attempts: 0,
            duplicate_of: None,
            error,
        }
    }
}

impl<I, T> Failed<I, T> {
    /// The same with another tag.
    #[must_use]
    pub fn with_tag<U>(self, tag: U) -> Failed<I, U> {
        Failed {
            operation: self.operation,
            index: self.index,
            input: self.input,
            tag,
            attempts: self.attempts,
            duplicate_of: self.duplicate_of,
            error: self.error,
        }
    }

    /// The same without its tag, and that.
    #[must_use]
    pub fn take_tag(self) -> (Failed<I>, T) {
        let failed = Failed {
            operation: self.operation,
            index: self.index,
            input: self.input,
            tag: (),
            attempts: self.attempts,
            duplicate_of: self.duplicate_of,
            error: self.error,
        };
        (failed, self.tag)
    }

    /// What went wrong, as a class: short for `self.error.kind()`.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }
}

impl<I, T> fmt::Display for Failed<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, self.operation, self.index)?;
        write!(f, ": {}", self.error)
    }
}

fn place(f: &mut fmt::Formatter<'_>, operation: &str, index: u64) -> fmt::Result {
    match operation {
        "" => write!(f, "item {index}"),
        operation => write!(f, "{operation} of item {index}"),
    }
}

/// Leaves the input and the tag out: neither needs to be `Debug`, and a record is long.
impl<I, T> fmt::Debug for Failed<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failed")
            .field("operation", &self.operation)
            .field("index", &self.index)
            .field("attempts", &self.attempts)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Keeps the error, and drops the input and its tag.
impl<I, T> From<Failed<I, T>> for Error {
    fn from(failed: Failed<I, T>) -> Self {
        failed.error
    }
}

/// The error behind it, of whichever stage. Which item that was is told by the failure itself.
impl<E: Into<Error>, I, T> From<TryFailed<E, I, T>> for Error {
    fn from(failed: TryFailed<E, I, T>) -> Self {
        match failed {
            TryFailed::Input(input) => input.error.into(),
            TryFailed::Item(failed) => failed.error,
        }
    }
}

impl<I, T> StdError for Failed<I, T> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

/// An error that the input gave in place of an item, in its place in the order.
///
/// `Display` names the operation, the index, and what the input said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InputError<E> {
    /// Which adapter has the input, as in [`Failed::operation`].
    pub operation: &'static str,
    /// Its place in the input, counted from 0: an error has a place as an item has.
    pub index: u64,
    /// What the input gave.
    pub error: E,
}

impl<E> InputError<E> {
    /// A result for tests of your own pipeline. The other fields can be set afterwards.
    #[must_use]
    pub fn new(index: u64, error: E) -> Self {
        Self {
            operation: "",
            index,
            error,
        }
    }
}

impl<E: fmt::Display> fmt::Display for InputError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("input for ")?;
        place(f, self.operation, self.index)?;
        write!(f, ": {}", self.error)
    }
}

/// What the input gave is the source, though `Display` has said it: so it can be found by its type.
impl<E: StdError + 'static> StdError for InputError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// What did not succeed in an adapter over a fallible input ([`try_push_to`](crate::PushExt::try_push_to) and the
/// like): the input failed, or the item did.
///
/// Where the input is the output of another adapter, `E` is what failed there: so the last of several stages yields
/// the failures of all, each in its place, and by its type each says in which stage it came up. `Display` names
/// it, too: `input for push of item 3: pull of item 3: not found: …`.
///
/// ```
/// use agntcy_dir_stream::prelude::*;
/// use agntcy_dir_stream::TryFailed;
/// use futures::{StreamExt, stream};
///
/// # #[cfg(feature = "server")]
/// # async fn example() -> anyhow::Result<()> {
/// # let client = agntcy_dir_stream::server::Store::new().client();
/// let lines = [r#"{"name": "a", "schema_version": "1.0.0"}"#, "no JSON", r#"{"name": "c"}"#];
/// let records = stream::iter(lines).map(|line| line.parse::<Record>());
///
/// let mut results = records.try_push_to(&client);
/// let mut failed = Vec::new();
/// while let Some(result) = results.next().await {
///     match result {
///         Ok(pushed) => println!("{}", pushed.cid),
///         Err(TryFailed::Input(error)) => failed.push(format!("line {} is no record", error.index)),
///         Err(TryFailed::Item(item)) => failed.push(format!("line {} was refused", item.index)),
///     }
/// }
/// assert_eq!(failed, ["line 1 is no record", "line 2 was refused"]);
/// # Ok(())
/// # }
/// # #[cfg(feature = "server")]
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
///
/// It is a [`std::error::Error`] where `E` is one. `anyhow::Error` is none, so over an input of those, take it apart
/// first: `error.into_failed()?` gives the input's error to `?`.
///
/// To stop at the first error of the input, and go on behind items that fail:
///
/// ```
/// # use agntcy_dir_stream::prelude::*;
/// # use futures::{Stream, StreamExt};
/// # fn report(failed: &dyn std::error::Error) {}
/// async fn import(
///     client: &Client,
///     records: impl Stream<Item = std::io::Result<Record>>,
/// ) -> std::io::Result<()> {
///     let mut results = std::pin::pin!(records.try_push_to(client));
///     while let Some(result) = results.next().await {
///         if let Err(error) = result {
///             report(&error.into_failed()?);
///         }
///     }
///     Ok(())
/// }
/// ```
pub enum TryFailed<E, I, T = ()> {
    /// The input gave an error in place of an item.
    Input(InputError<E>),
    /// The item failed.
    Item(Failed<I, T>),
}

impl<E, I, T> TryFailed<E, I, T> {
    /// The place in the input, counted from 0.
    #[must_use]
    pub fn index(&self) -> u64 {
        match self {
            Self::Input(error) => error.index,
            Self::Item(failed) => failed.index,
        }
    }

    /// What went wrong, as a class: [`Input`](ErrorKind::Input), or that of the item's error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Input(_) => ErrorKind::Input,
            Self::Item(failed) => failed.kind(),
        }
    }

    /// The item that failed.
    ///
    /// # Errors
    ///
    /// That of the input, if it was that.
    pub fn into_failed(self) -> Result<Failed<I, T>, E> {
        match self {
            Self::Input(error) => Err(error.error),
            Self::Item(failed) => Ok(failed),
        }
    }
}

impl<E: fmt::Display, I, T> fmt::Display for TryFailed<E, I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) => error.fmt(f),
            Self::Item(failed) => failed.fmt(f),
        }
    }
}

/// Leaves the input and the tag of an item out, as that of [`Failed`] does.
impl<E: fmt::Debug, I, T> fmt::Debug for TryFailed<E, I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) => f.debug_tuple("Input").field(error).finish(),
            Self::Item(failed) => f.debug_tuple("Item").field(failed).finish(),
        }
    }
}

impl<E: StdError + 'static, I, T> StdError for TryFailed<E, I, T> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Input(error) => error.source(),
            Self::Item(failed) => failed.source(),
        }
    }
}

/// What the generator makes of that which did not succeed. It cannot be named outside of this crate.
pub trait Failure {
    /// What was put in.
    type Input;
    /// The tag it came with.
    type Tag;
    /// What the input gives in place of an item.
    type InputError;

    /// An item failed.
    fn of_item(failed: Failed<Self::Input, Self::Tag>) -> Self;

    /// The input failed.
    fn of_input(error: InputError<Self::InputError>) -> Self;
}

impl<I, T> Failure for Failed<I, T> {
    type Input = I;
    type Tag = T;
    type InputError = Infallible;

    fn of_item(failed: Self) -> Self {
        failed
    }

    fn of_input(error: InputError<Infallible>) -> Self {
        match error.error {}
    }
}

impl<E, I, T> Failure for TryFailed<E, I, T> {
    type Input = I;
    type Tag = T;
    type InputError = E;

    fn of_item(failed: Failed<I, T>) -> Self {
        Self::Item(failed)
    }

    fn of_input(error: InputError<E>) -> Self {
        Self::Input(error)
    }
}
