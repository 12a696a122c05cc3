//! Who reads a run's results, and how it ends.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::{BoxAdapter, Cid, Failed, Leftover};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::time::{Instant, sleep};

use super::oracle::{self, Seen};
use super::server::Server;
use crate::MOST_POLLS;
use crate::support::clock::in_a_week;
use crate::support::no_spin::NoSpin;

type Input<I> = BoxStream<'static, (I, usize)>;
type Outcome<S, I> = Result<S, Failed<I, usize>>;
type Adapter<S, I> = BoxAdapter<'static, Input<I>, Outcome<S, I>>;

/// How long the end of the calls may take once all results are there.
const END: Duration = Duration::from_secs(5);

/// Timers go off up to a millisecond late, and a call has a few.
const TICKS: Duration = Duration::from_millis(5);

struct Consumer<'a, S, I: 'static> {
    server: &'a Server,
    success: fn(&S) -> (u64, usize, Option<Cid>),
    seen: Vec<Seen>,
    results: std::marker::PhantomData<fn(I)>,
}

/// Reads the results as it is chosen, to an end that is chosen.
pub(super) async fn consume<S, I: 'static>(
    server: &Server,
    mut results: Adapter<S, I>,
    success: fn(&S) -> (u64, usize, Option<Cid>),
) {
    let mut consumer = Consumer {
        server,
        success,
        seen: Vec::new(),
        results: std::marker::PhantomData,
    };
    let began = Instant::now();
    let mut slept = Duration::ZERO;
    let mut is_drained = false;
    loop {
        let choice = server.state().choose();
        match choice {
            // To look at it in vain is all that some of these do.
            192..=207 => {
                let polled = futures::poll!(results.next());
                match polled {
                    Poll::Ready(Some(result)) => consumer.see(result),
                    Poll::Ready(None) => break,
                    Poll::Pending => {}
                }
            }
            208..=223 => {
                let time = Duration::from_millis(u64::from(server.state().choose()).pow(2));
                slept += time;
                sleep(time).await;
            }
            224..=227 => {
                let within = Duration::from_millis(u64::from(server.state().choose()).pow(2));
                match choice % 2 {
                    0 => results.drain(within),
                    _ => results.handle().drain(within),
                }
                is_drained = true;
            }
            228..=235 => return consumer.take_apart(results).await,
            236..=239 => {
                results.handle().stop();
                let rest = in_a_week(results.next()).await;
                assert!(rest.is_none(), "it was stopped");
                return consumer.take_apart(results).await;
            }
            240..=243 => {
                drop(results);
                return consumer.is_over().await;
            }
            244..=247 => {
                let summary = in_a_week(results.finish()).await;
                let stats = &summary.stats;
                assert_eq!(
                    stats.taken,
                    stats.succeeded + stats.failed,
                    "each has a result"
                );
                if !is_drained {
                    assert_eq!(stats.taken, server.case.numbers.len() as u64);
                }
                return consumer.is_over().await;
            }
            _ => {
                let next = in_a_week(NoSpin::new(&mut results, MOST_POLLS).next()).await;
                match next {
                    Some(result) => consumer.see(result),
                    None => break,
                }
            }
        }
        let stats = results.stats();
        assert_eq!(
            stats.succeeded + stats.failed,
            consumer.seen.len() as u64,
            "each result counts"
        );
        assert!(
            stats.in_window <= server.case.window as u64,
            "the window is full"
        );
    }
    let took = began.elapsed();
    let ticks = TICKS * (1 + consumer.seen.len() as u32 + server.state().calls.get());
    let most = server.case.longest() + END + ticks + slept;
    assert!(took <= most, "it took {took:?}, {most:?} is the limit");
    assert!(
        matches!(futures::poll!(results.next()), Poll::Ready(None)),
        "it is fused"
    );
    if !is_drained {
        assert_eq!(
            consumer.seen.len(),
            server.case.numbers.len(),
            "one result for each item"
        );
    }
    let stats = results.stats();
    assert_eq!(
        stats.taken,
        consumer.seen.len() as u64,
        "one result for each that was taken"
    );
    consumer.take_apart(results).await;
}

impl<S, I> Consumer<'_, S, I> {
    fn see(&mut self, result: Outcome<S, I>) {
        self.server.state().calls.progress();
        let seen = self.read(result);
        oracle::check(self.server, &seen);
        let last = self.seen.last();
        assert!(
            self.server.case.unordered || last.is_none_or(|last| last.0 + 1 == seen.0),
            "input order"
        );
        self.seen.push(seen);
    }

    fn read(&self, result: Outcome<S, I>) -> Seen {
        match result {
            Ok(success) => {
                let (index, tag, cid) = (self.success)(&success);
                (index, tag, Ok(cid))
            }
            Err(failed) => (
                failed.index,
                failed.tag,
                Err((failed.kind(), failed.attempts)),
            ),
        }
    }

    /// The parts add up to the input.
    async fn take_apart(self, results: Adapter<S, I>) {
        let left = results.into_remainder();
        let mut indexes: Vec<u64> = self.seen.iter().map(|seen| seen.0).collect();
        for result in left.unread {
            let seen = self.read(result);
            oracle::check(self.server, &seen);
            indexes.push(seen.0);
        }
        let mut note = |leftovers: &[Leftover<I, usize>]| {
            assert!(
                leftovers.is_sorted_by_key(|leftover| leftover.index),
                "input order"
            );
            for leftover in leftovers {
                assert_eq!(
                    leftover.index, leftover.tag as u64,
                    "the tag of another item"
                );
                indexes.push(leftover.index);
            }
        };
        note(&left.unsent);
        note(&left.unanswered);
        for leftover in &left.unsent {
            oracle::was_not_sent(self.server, leftover.tag);
        }
        let unique: BTreeSet<u64> = indexes.iter().copied().collect();
        assert_eq!(unique.len(), indexes.len(), "an item is there twice");
        assert!(
            unique.into_iter().eq(0..left.next_index),
            "all that was taken is there"
        );
        let rest = match left.input_ended {
            true => Vec::new(),
            false => rest_of(left.input).await,
        };
        let expected = left.next_index as usize..self.server.case.numbers.len();
        assert!(
            rest.into_iter().eq(expected),
            "the input has what was not taken"
        );
        self.is_over().await;
    }

    /// Nothing is sent any more.
    async fn is_over(self) {
        self.server.state().is_over = true;
        sleep(Duration::from_secs(600)).await;
    }
}

async fn rest_of<I>(input: Pin<Box<Input<I>>>) -> Vec<usize> {
    in_a_week(input.map(|(_, tag)| tag).collect()).await
}
