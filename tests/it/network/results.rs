//! What goes into a run at its pace, and what comes out of it: one result for each item.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Mutex;

use agntcy_dir_stream::{ErrorKind, Failed};
use futures::{Stream, StreamExt as _, stream};

use super::hosts::Network;
use super::settings::Settings;

/// The results of a run with their indexes, as they have come: of a failure, what it is and its words.
pub(super) type Seen<T> = Mutex<Vec<(u64, Result<T, (ErrorKind, String)>)>>;

/// The items of a run, one behind each pause.
pub(super) fn items<'a, T: 'a>(
    settings: &Settings,
    item: impl Fn(usize) -> T + 'a,
) -> Pin<Box<dyn Stream<Item = T> + 'a>> {
    let pause = settings.pause;
    let numbers = stream::iter(0..settings.items);
    let numbers = numbers.then(move |number| async move {
        tokio::time::sleep(pause).await;
        number
    });
    Box::pin(numbers.map(item))
}

/// Reads the results to their end, and tells the trace of each. `success` gives the index of one, and what is kept of it.
pub(super) async fn note_all<S, I, T: Debug>(
    mut results: impl Stream<Item = Result<S, Failed<I>>> + Unpin,
    network: &Network,
    seen: &Seen<T>,
    success: impl Fn(S) -> (u64, T),
) {
    while let Some(result) = results.next().await {
        let result = match result {
            Ok(done) => {
                let (index, done) = success(done);
                (index, Ok(done))
            }
            Err(failed) => (failed.index, Err((failed.kind(), failed.to_string()))),
        };
        network.trace.note(format_args!("{result:?}"));
        seen.lock().unwrap().push(result);
    }
}

/// The results by the number of their item, once it is sure that each has one, in the order that was asked for.
#[track_caller]
pub(super) fn one_for_each<T>(
    seen: &Seen<T>,
    settings: &Settings,
) -> Vec<Result<T, (ErrorKind, String)>> {
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    if !settings.unordered {
        assert!(seen.is_sorted_by_key(|(index, _)| *index), "input order");
    }
    seen.sort_by_key(|(index, _)| *index);
    let indexes = seen.iter().map(|(index, _)| *index);
    assert!(indexes.eq(0..settings.items as u64), "one result for each");
    seen.into_iter().map(|(_, result)| result).collect()
}
