//! Random jobs: any operation, over a store with faults. Their adapters are all of one type.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Store};
use agntcy_dir_stream::{BoxAdapter, ErrorKind, Failed, Handle, Status};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use proptest::prelude::*;

use super::records::{cid, nameless, record};
use super::stores::slow_down;

/// How many items a job has.
pub(crate) const ITEMS: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operation {
    Push,
    Pull,
    Lookup,
    Delete,
}

#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) operation: Operation,
    faults: Vec<Fault>,
    window: usize,
    calls: usize,
}

pub(crate) fn job() -> impl Strategy<Value = Job> {
    use Operation::{Delete, Lookup, Pull, Push};
    let operation = prop::sample::select(vec![Push, Pull, Lookup, Delete]);
    let faults = prop::collection::vec(fault(), 0..4);
    (operation, faults, 1usize..40, 1usize..4).prop_map(|(operation, faults, window, calls)| Job {
        operation,
        faults,
        window,
        calls,
    })
}

fn fault() -> impl Strategy<Value = Fault> {
    let fault = prop::sample::select(vec![
        Fault::cut(),
        Fault::cut_after(),
        Fault::end(),
        Fault::stall(),
        Fault::delay(Duration::from_millis(70)),
        Fault::status(Status::unavailable("fault")),
    ]);
    prop_oneof![
        5 => (fault, 1u64..40, 1u64..3).prop_map(|(fault, at, times)| fault.at(at).times(times)),
        1 => (1u64..8).prop_map(|times| Fault::no_connection().times(times)),
    ]
}

impl Job {
    /// The name of its operation, in logs and metrics.
    #[cfg(feature = "metrics")]
    pub(crate) fn name(&self) -> &'static str {
        match self.operation {
            Operation::Push => "push",
            Operation::Pull => "pull",
            Operation::Lookup => "lookup",
            Operation::Delete => "delete",
        }
    }

    /// Whether the server refuses this item, or does not have it.
    pub(crate) fn is_bad(number: usize) -> bool {
        number % 11 == 5
    }

    /// The store that it is over, with its faults. It takes two milliseconds for each item.
    pub(crate) fn store(&self) -> Store {
        let store = Store::new();
        slow_down(&store, Duration::from_millis(2));
        if self.operation != Operation::Push {
            for number in (0..ITEMS).filter(|number| !Self::is_bad(*number)) {
                store.insert(record(number)).expect("a valid record");
            }
        }
        for fault in &self.faults {
            store.inject(fault.clone());
        }
        store
    }

    pub(crate) fn options(&self) -> Options {
        Options::new()
            .window(self.window)
            .calls(self.calls)
            .stall_after(Some(Duration::from_secs(1)))
    }

    /// The adapter, over an input of the numbers of its items.
    pub(crate) fn begin(
        &self,
        store: &Store,
        options: &Options,
        numbers: impl Stream<Item = usize> + Send + 'static,
    ) -> Box<dyn Running> {
        let client = store.client();
        if self.operation == Operation::Push {
            let records = numbers.map(|number| match Self::is_bad(number) {
                true => nameless(number),
                false => record(number),
            });
            let results = records.boxed().push_to_with(&client, options).erase();
            return Box::new(Typed(results, |pushed| pushed.index));
        }
        let cids = numbers.map(|number| cid(&record(number))).boxed();
        match self.operation {
            Operation::Push => unreachable!("a push is over records"),
            Operation::Pull => {
                let results = cids.pull_from_with(&client, options).erase();
                Box::new(Typed(results, |pulled| pulled.index))
            }
            Operation::Lookup => {
                let results = cids.lookup_in_with(&client, options).erase();
                Box::new(Typed(results, |found| found.index))
            }
            Operation::Delete => {
                let results = cids.delete_from_with(&client, options).erase();
                Box::new(Typed(results, |deleted| deleted.index))
            }
        }
    }
}

/// An adapter of any operation: its results are the index of the item, and the kind of its error.
pub(crate) trait Running: Stream<Item = (u64, Option<ErrorKind>)> + Unpin {
    fn handle(&self) -> Handle;
    fn take_apart(self: Box<Self>) -> Left;
}

/// What is left of an adapter: the indexes of its items.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) next_index: u64,
    pub(crate) unsent: BTreeSet<u64>,
    /// Those that were sent and have no answer, or one that was not handed out.
    pub(crate) others: usize,
}

struct Typed<I, T>(
    BoxAdapter<'static, BoxStream<'static, I>, Result<T, Failed<I>>>,
    fn(&T) -> u64,
);

impl<I, T> Stream for Typed<I, T> {
    type Item = (u64, Option<ErrorKind>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let index = self.1;
        let result = self.0.poll_next_unpin(cx);
        result.map(|result| {
            result.map(|result| match result {
                Ok(success) => (index(&success), None),
                Err(failed) => (failed.index, Some(failed.kind())),
            })
        })
    }
}

impl<I, T> Running for Typed<I, T> {
    fn handle(&self) -> Handle {
        self.0.handle()
    }

    fn take_apart(self: Box<Self>) -> Left {
        let left = self.0.into_remainder();
        Left {
            next_index: left.next_index,
            unsent: left.unsent.iter().map(|item| item.index).collect(),
            others: left.unread.len() + left.unanswered.len(),
        }
    }
}
