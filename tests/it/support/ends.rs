//! Adapters that end at a random time in a random way, as by a panic of their input.

use std::panic::AssertUnwindSafe;
use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::Stats;
use futures::{FutureExt as _, StreamExt as _, stream};
use proptest::prelude::*;
use tokio::time::sleep;

use super::jobs::{ITEMS, Job, job};

#[derive(Clone, Copy, Debug)]
enum End {
    Natural,
    Drop,
    TakenApart,
    Drain,
    Stop,
    /// Before the adapter knows of the order.
    StopAndDrop,
}

#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) job: Job,
    end: End,
    after_polls: usize,
    /// The item at which the input panics.
    panics_at: Option<usize>,
}

pub(crate) fn ended() -> impl Strategy<Value = Ended> {
    use End::{Drain, Drop, Natural, Stop, StopAndDrop, TakenApart};
    let ends = vec![Natural, Drop, TakenApart, Drain, Stop, StopAndDrop];
    let end = prop::sample::select(ends);
    let panics_at = prop::option::weighted(0.2, 0..ITEMS);
    (job(), end, 0usize..80, panics_at).prop_map(|(job, end, after_polls, panics_at)| Ended {
        job,
        end,
        after_polls,
        panics_at,
    })
}

impl Ended {
    /// Runs an adapter to its end, under a paused clock. Returns what it has counted.
    pub(crate) async fn run(&self) -> Stats {
        let store = self.job.store();
        let panics_at = self.panics_at;
        let input = stream::iter((0..ITEMS).inspect(move |number| {
            assert_ne!(Some(*number), panics_at, "the input panics");
        }));
        let mut results = self.job.begin(&store, &self.job.options(), input);
        let handle = results.handle();
        let ends = AssertUnwindSafe(async {
            for _ in 0..self.after_polls {
                match futures::poll!(results.next()) {
                    Poll::Ready(None) => break,
                    Poll::Ready(Some(_)) => {}
                    Poll::Pending => sleep(Duration::from_millis(3)).await,
                }
            }
            match self.end {
                End::Natural => {}
                End::Drop => return,
                End::TakenApart => return drop(results.take_apart()),
                End::Drain => handle.drain(Duration::from_millis(20)),
                End::Stop => handle.stop(),
                End::StopAndDrop => return handle.stop(),
            }
            while results.next().await.is_some() {}
        });
        let panicked = ends.catch_unwind().await.is_err();
        assert!(!panicked || panics_at.is_some());
        assert!(handle.has_ended());
        handle.stats()
    }
}
