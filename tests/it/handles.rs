//! Handles: what they show of an adapter that is elsewhere, and how they end it.

use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Store};
use agntcy_dir_stream::{ErrorKind, Handle};
use futures::{FutureExt as _, StreamExt as _, stream};
use proptest::prelude::*;
use tokio::time::{Instant, advance, sleep};

use crate::support::clock::{SECOND, in_a_week, on_paused_clock};
use crate::support::jobs::{ITEMS, Job, Operation, job};
use crate::support::polling::{assert_pending, context};
use crate::support::properties::cases;
use crate::support::records::{cid, record, records};
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

/// Gives an order at the tenth item, from within the input, which works in place for ten milliseconds at each. Returns
/// how many items were taken, how many results there were, and how long it took from the order to the end.
fn ordered_from_within(order: fn(&Handle)) -> (usize, usize, Duration) {
    on_paused_clock(async {
        let handle = Arc::new(OnceLock::<Handle>::new());
        let ordered = Arc::new(OnceLock::new());
        let taken = Arc::new(AtomicUsize::new(0));
        let (inner, noted, counted) = (handle.clone(), ordered.clone(), taken.clone());
        let input = stream::iter((0..).map(move |number| {
            // The clock moves when this is polled first.
            let _ = advance(Duration::from_millis(10)).now_or_never();
            if counted.fetch_add(1, Ordering::Relaxed) == 9 {
                noted.set(Instant::now()).unwrap();
                order(inner.get().unwrap());
            }
            record(number)
        }));
        let results = input.push_to(&slow_store(SECOND).client());
        handle.set(results.handle()).unwrap();
        let seen = in_a_week(results.count()).await;
        let took = ordered.get().unwrap().elapsed();
        (taken.load(Ordering::Relaxed), seen, took)
    })
}

#[test]
fn a_drain_from_within_the_input_takes_no_more_of_it_and_ends_by_its_deadline() {
    let (taken, seen, took) = ordered_from_within(|handle| handle.drain(SECOND / 2));
    assert_eq!((taken, seen, took), (10, 10, SECOND / 2));
}

#[test]
fn a_stop_from_within_the_input_takes_no_more_of_it_and_ends_at_once() {
    let (taken, seen, took) = ordered_from_within(Handle::stop);
    assert_eq!((taken, seen, took), (10, 0, Duration::ZERO));
}

#[test]
fn what_was_taken_is_counted_within_the_input_and_after_its_panic() {
    on_paused_clock(async {
        let handle = Arc::new(OnceLock::<Handle>::new());
        let inner = Arc::clone(&handle);
        let input = stream::iter((0..).map(move |number| {
            assert_eq!(inner.get().unwrap().stats().taken, number);
            assert!(number < 10, "the input panics");
            record(number as usize)
        }));
        let results = input.push_to(&Store::new().client());
        handle.set(results.handle()).unwrap();
        let panicked = AssertUnwindSafe(results.finish()).catch_unwind().await;
        let panic = panicked.unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"the input panics"));
        let handle = handle.get().unwrap();
        assert!(handle.has_ended());
        let stats = handle.stats();
        assert_eq!((stats.taken, stats.in_window), (10, 10));
    });
}

/// A waker that gives orders and looks, as often as it is woken.
struct Reenters(Handle, AtomicUsize);

impl Wake for Reenters {
    fn wake(self: Arc<Self>) {
        // Orders wake it again.
        if self.1.fetch_add(1, Ordering::Relaxed) < 100 {
            self.0.drain(SECOND);
            self.0.stop();
            let _ = (self.0.stats(), self.0.last_fault(), self.0.has_ended());
        }
    }
}

#[test]
fn a_waker_may_give_orders_itself() {
    let (done, is_done) = mpsc::channel();
    // A lock that is taken twice hangs its thread.
    std::thread::spawn(move || {
        on_paused_clock(async {
            let input = records(3).chain(stream::pending());
            let mut results = input.push_to(&slow_store(SECOND).client());
            let handle = results.handle();
            let waker = Waker::from(Arc::new(Reenters(handle.clone(), AtomicUsize::new(0))));
            let first = results.poll_next_unpin(&mut Context::from_waker(&waker));
            assert!(first.is_pending());
            handle.drain(SECOND);
            assert!(in_a_week(results.next()).await.is_none());
        });
        done.send(()).unwrap();
    });
    assert_eq!(is_done.recv_timeout(60 * SECOND), Ok(()));
}

/// The times are milliseconds. An order without one is a stop.
async fn obeys(job: &Job, rate: Option<u32>, orders: Vec<(u64, Option<u64>)>) {
    let store = job.store();
    let options = match rate {
        Some(rate) => job.options().rate(rate),
        None => job.options(),
    };
    let numbers = stream::iter(0..ITEMS).then(async |number| {
        if number % 9 == 8 {
            sleep(Duration::from_millis(40)).await;
        }
        number
    });
    let mut results = job.begin(&store, &options, numbers.boxed());
    let handle = results.handle();
    let stops = orders.iter().any(|(_, within)| within.is_none());
    // When it has to end, and how many items were taken when it was told first.
    let (mut due, mut taken) = (None::<Instant>, None);
    let ordering = handle.clone();
    let orders = tokio::spawn(async move {
        for (wait, within) in orders {
            sleep(Duration::from_millis(wait)).await;
            if ordering.has_ended() {
                break;
            }
            taken = taken.or(Some(ordering.stats().taken));
            let now = Instant::now();
            let is_stopped = due.is_some_and(|due| due <= now);
            if let Some(within) = within.map(Duration::from_millis) {
                ordering.drain(within);
                due = due.filter(|_| is_stopped).or(Some(now + within));
            } else {
                ordering.stop();
                due = Some(now);
            }
        }
        (due, taken)
    });
    let mut seen = Vec::new();
    while let Some(result) = results.next().await {
        seen.push(result);
    }
    let end = Instant::now();
    let (due, taken) = orders.await.unwrap();
    if let Some(due) = due {
        assert!(end <= due + Duration::from_millis(3), "{:?}", end - due);
    }
    let left = results.take_apart();
    assert_eq!(left.next_index, taken.unwrap_or(ITEMS as u64));
    assert_eq!(handle.stats().taken, left.next_index);
    assert!(stops || left.unsent.is_empty() && left.others == 0);
    let given_back = left.unsent.len() + left.others;
    assert_eq!((seen.len() + given_back) as u64, left.next_index);
    let indexes = seen.iter().map(|(index, _)| *index);
    assert!(indexes.eq(0..seen.len() as u64), "{seen:?}");
    let unsent = left.unsent.into_iter();
    let unsent = unsent.map(|index| (index, Some(ErrorKind::NotSent)));
    for (index, kind) in seen.into_iter().chain(unsent) {
        let number = index as usize;
        if Job::is_bad(number) {
            continue;
        }
        let is_there = store.contains(&cid(&record(number)));
        let was_there = job.operation != Operation::Push;
        let may_be = match (job.operation, kind) {
            (Operation::Push, None) => is_there,
            (Operation::Delete, None) => !is_there,
            (_, Some(ErrorKind::NotSent | ErrorKind::CircuitOpen)) => is_there == was_there,
            (Operation::Pull | Operation::Lookup, kind) => {
                is_there && kind != Some(ErrorKind::OutcomeUnknown)
            }
            _ => true,
        };
        assert!(may_be, "{index}: {kind:?}, and it is there: {is_there}");
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn orders_at_any_time_among_faults_leave_true_results(
        job in job(),
        rate in prop::option::weighted(0.3, 20u32..2_000),
        orders in prop::collection::vec((0u64..150, prop::option::weighted(0.8, 0u64..400)), 1..4),
    ) {
        on_paused_clock(in_a_week(obeys(&job, rate, orders)));
    }
}
