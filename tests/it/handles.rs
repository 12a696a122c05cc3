//! Handles: what they show of an adapter that is elsewhere, and how they end it.

use std::future::ready;
use std::time::Duration;

use agntcy_dir_stream::ErrorKind;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Store};
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, advance};

use crate::support::clock::{SECOND, in_a_week, on_paused_clock};
use crate::support::polling::{assert_pending, context};
use crate::support::records::{record, records};
use crate::support::results::failed_indexes;
use crate::support::stores::{ended_calls, slow_store};

/// An input that never ends.
fn endless() -> impl futures::Stream<Item = Record> + Unpin + Send {
    stream::iter((0..).map(record))
}

#[test]
fn an_adapter_inside_of_combinators_is_drained_from_another_task() {
    on_paused_clock(async {
        let store = slow_store(Duration::from_millis(10));
        let results = endless().push_to_with(&store.client(), &Options::new().window(16));
        let handle = results.handle();
        let task = tokio::spawn(async move {
            results
                .filter(|result| ready(result.is_ok()))
                .chunks(7)
                .map(|chunk| chunk.len())
                .collect::<Vec<_>>()
                .await
        });
        in_a_week(store.wait_for(|calls| calls.iter().any(|call| call.answers > 100))).await;
        assert!(!handle.has_ended());
        handle.drain(5 * SECOND);
        let seen: usize = in_a_week(task).await.unwrap().into_iter().sum();
        let stats = handle.stats();
        assert_eq!(
            (stats.succeeded, stats.failed, stats.in_window),
            (seen as u64, 0, 0)
        );
        assert_eq!((stats.taken, store.len()), (seen as u64, seen));
        assert!(handle.has_ended());
    });
}

#[test]
fn a_drain_wakes_a_task_that_waits_and_ends_by_its_deadline() {
    on_paused_clock(async {
        let store = Store::new();
        store.inject(Fault::stall());
        // The input has no more for now, and never will.
        let input = records(3).chain(stream::pending());
        let results = input.push_to_with(&store.client(), &Options::new().stall_after(None));
        let handle = results.handle();
        let task = tokio::spawn(results.collect::<Vec<_>>());
        in_a_week(store.wait_for(|calls| calls.iter().any(|call| call.requests > 0))).await;
        let start = Instant::now();
        handle.drain(5 * SECOND);
        let results = in_a_week(task).await.unwrap();
        assert_eq!(start.elapsed(), 5 * SECOND);
        assert_eq!(failed_indexes(&results), [0, 1, 2]);
        for result in results {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        }
    });
}

#[test]
fn a_stop_ends_the_stream_at_once_and_resets_its_calls() {
    on_paused_clock(async {
        let store = Store::new();
        store.inject(Fault::stall().at(10));
        let results = endless().push_to_with(
            &store.client(),
            &Options::new().stall_after(None).window(16),
        );
        let handle = results.handle();
        let task = tokio::spawn(
            results
                .map(|result| result.unwrap().index)
                .collect::<Vec<_>>(),
        );
        in_a_week(store.wait_for(|calls| calls.iter().any(|call| call.answers == 10))).await;
        let start = Instant::now();
        handle.stop();
        // Later orders change nothing.
        handle.drain(3600 * SECOND);
        let seen = in_a_week(task).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(seen.len() <= 10, "{seen:?}");
        assert!(handle.has_ended());
        for call in in_a_week(ended_calls(&store)).await {
            assert_eq!(call.end, Some(agntcy_dir_stream::server::End::Cancelled));
        }
    });
}

#[test]
fn what_a_stop_leaves_can_be_had_from_the_adapter() {
    on_paused_clock(async {
        let store = Store::new();
        let mut results = records(100).push_to_with(&store.client(), &Options::new().window(10));
        for _ in 0..20 {
            in_a_week(results.next()).await.unwrap().unwrap();
        }
        results.handle().stop();
        assert_eq!(
            in_a_week(results.next()).await.map(|result| result.is_ok()),
            None
        );
        let left = results.into_remainder();
        let taken = left.unread.len() + left.unsent.len() + left.unanswered.len();
        assert_eq!(20 + taken as u64, left.next_index);
        assert_eq!(left.input.count().await as u64, 100 - left.next_index);
    });
}

#[test]
fn an_order_before_the_first_poll_is_kept() {
    on_paused_clock(async {
        let store = Store::new();
        let drained = records(5).push_to(&store.client());
        assert_eq!(futures::Stream::size_hint(&drained), (5, Some(5)));
        drained.handle().drain(SECOND);
        assert_eq!(futures::Stream::size_hint(&drained), (0, Some(5)));
        assert_eq!(in_a_week(drained.count()).await, 0);
        let stopped = records(5).push_to(&store.client());
        stopped.handle().stop();
        assert_eq!(in_a_week(stopped.count()).await, 0);
        assert!(store.calls().is_empty());
    });
}

#[test]
fn a_handle_outlives_an_adapter_that_was_never_polled() {
    let results = records(5).push_to(&Store::new().client());
    let handle = results.handle();
    assert!(!handle.has_ended());
    drop(results);
    assert!(handle.has_ended());
    handle.drain(SECOND);
    handle.stop();
    assert_eq!((handle.stats().taken, handle.last_fault()), (0, None));
}

#[test]
fn counts_are_shown_at_once_at_each_tick_and_at_the_end() {
    on_paused_clock(async {
        let store = slow_store(SECOND);
        let results = records(10).push_to(&store.client());
        let progress = results.handle().watch(4 * SECOND);
        let (summary, shown) = in_a_week(futures::future::join(
            results.finish(),
            progress.collect::<Vec<_>>(),
        ))
        .await;
        assert_eq!(summary.stats.succeeded, 10);
        let succeeded: Vec<_> = shown.iter().map(|stats| stats.succeeded).collect();
        assert_eq!(succeeded.len(), 4, "{succeeded:?}");
        assert_eq!((succeeded[0], succeeded[3]), (0, 10));
        assert!(succeeded.is_sorted(), "{succeeded:?}");
        assert_eq!(shown[3], summary.stats);
    });
}

#[test]
fn counts_of_an_adapter_that_is_dropped_end_and_a_pause_is_not_made_up_for() {
    on_paused_clock(async {
        let mut results = endless().push_to(&slow_store(SECOND).client());
        let mut progress = results.handle().watch(SECOND);
        assert_pending(&mut results);
        assert!(in_a_week(progress.next()).await.is_some());
        advance(100 * SECOND).await;
        assert!(progress.next().now_or_never().flatten().is_some());
        assert!(progress.poll_next_unpin(&mut context()).is_pending());
        drop(results);
        assert!(progress.next().now_or_never().flatten().is_some());
        assert!(progress.next().now_or_never().unwrap().is_none());
    });
}
