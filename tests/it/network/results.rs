//! What goes into a run at its pace, and what comes out of it: one result for each item.

use std::pin::Pin;
use std::sync::Mutex;

use futures::{Stream, StreamExt as _, stream};

use super::settings::Settings;

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

/// The results by the number of their item, once it is sure that each has one, in the order that was asked for.
#[track_caller]
pub(super) fn one_for_each<T>(seen: &Mutex<Vec<(u64, T)>>, settings: &Settings) -> Vec<T> {
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    if !settings.unordered {
        assert!(seen.is_sorted_by_key(|(index, _)| *index), "input order");
    }
    seen.sort_by_key(|(index, _)| *index);
    let indexes = seen.iter().map(|(index, _)| *index);
    assert!(indexes.eq(0..settings.items as u64), "one result for each");
    seen.into_iter().map(|(_, result)| result).collect()
}
