//! Results of any operation, and errors with their causes.

use std::error::Error as StdError;

use agntcy_dir_stream::{Error, ErrorKind, Failed};
use futures::{FutureExt, Stream, StreamExt};

use super::clock::in_a_week;

/// The kind of each error, and `None` for each success.
pub(crate) fn kinds<S, I, T>(results: &[Result<S, Failed<I, T>>]) -> Vec<Option<ErrorKind>> {
    let kind = |result: &Result<S, Failed<I, T>>| result.as_ref().err().map(Failed::kind);
    results.iter().map(kind).collect()
}

/// The indexes of the items that failed.
#[cfg(feature = "server")]
pub(crate) fn failed_indexes<S, I, T>(results: &[Result<S, Failed<I, T>>]) -> Vec<u64> {
    let failed = results.iter().filter_map(|result| result.as_ref().err());
    failed.map(|failed| failed.index).collect()
}

/// The words of an error that must be of kind `Invalid`.
pub(crate) fn invalid<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.expect_err("invalid");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error.to_string()
}

/// The causes of an error, the nearest first.
pub(crate) fn causes<'a>(error: &'a Error) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

/// The words of a failure with those of its causes, as error reporters print them.
pub(crate) fn whole_words<I, T>(failed: Failed<I, T>) -> String {
    let mut words = failed.error.to_string();
    for cause in causes(&failed.error) {
        words.push_str(&format!(": {cause}"));
    }
    words
}

/// What became of an item: its index, its tag, and its success or the error with the number of attempts.
pub(crate) type Seen<S> = (u64, usize, Result<S, (ErrorKind, u32)>);

/// Reads a stream of results to its end under a paused clock. `tag` gives the index and the tag of a success;
/// `after_each` is run after each result.
pub(crate) async fn read_all<S, I>(
    mut results: impl Stream<Item = Result<S, Failed<I, usize>>> + Unpin,
    tag: impl Fn(&S) -> (u64, usize),
    mut after_each: impl AsyncFnMut(&Seen<S>),
) -> Vec<Seen<S>> {
    let mut seen = Vec::new();
    while let Some(result) = in_a_week(results.next()).await {
        let result = match result {
            Ok(success) => {
                let (index, number) = tag(&success);
                (index, number, Ok(success))
            }
            Err(failed) => {
                let error = (failed.kind(), failed.attempts);
                (failed.index, failed.tag, Err(error))
            }
        };
        after_each(&result).await;
        seen.push(result);
    }
    assert!(
        results.next().now_or_never().unwrap().is_none(),
        "it is fused"
    );
    seen
}
