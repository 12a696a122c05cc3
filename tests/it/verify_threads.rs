//! Records that other threads verify: the results, their order and all bounds are those of a task that does it by
//! itself.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{AlreadyStored, Fault, Method, Store};
use agntcy_dir_stream::{Adapter, Checkpoint, Code, ErrorKind, ItemResult, Stats};
use futures::channel::mpsc;
use futures::{Stream, StreamExt, stream};
use proptest::prelude::*;
use prost::Message as _;

use crate::support::clock::{on_paused_clock, soon};
use crate::support::folder::Folder;
use crate::support::peer::{Peer, PeerCall, scripted};
use crate::support::polling::{assert_ended, assert_pending, next, poll, ready};
use crate::support::properties::cases;
use crate::support::records::{cid, record};
use crate::support::results::kinds;

type Job = Box<dyn FnOnce() + Send>;

/// A pool that runs its jobs when the test says so.
#[derive(Clone, Default)]
struct Jobs(Arc<Mutex<VecDeque<Job>>>);

impl Jobs {
    fn options(&self, threads: usize) -> Options {
        let jobs = Arc::clone(&self.0);
        Options::new().verify_on(threads, move |job| jobs.lock().unwrap().push_back(job))
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn take(&self, last: bool) -> Option<Job> {
        let mut jobs = self.0.lock().unwrap();
        if last {
            jobs.pop_back()
        } else {
            jobs.pop_front()
        }
    }

    fn run(&self) {
        while let Some(job) = self.take(false) {
            job();
        }
    }
}

/// The record of this number, so long that its CID is worth a job by itself. Seven make a batch.
fn long(number: usize) -> Record {
    let fill = "x".repeat(9_500);
    let text = format!(
        r#"{{"name": "agent-{number}", "schema_version": "1.0.0", "version": "1", "fill": "{fill}"}}"#
    );
    text.parse().unwrap()
}

/// As it may come from a server, or from an input: it has no CID.
fn malformed() -> Record {
    let mut bytes = vec![0x0a, 0xe0, 0x7d];
    bytes.extend_from_slice(&vec![0x0a; 16_096]);
    Record::decode(&bytes[..]).unwrap()
}

fn without_data() -> Record {
    Record::from_wire(&b""[..]).unwrap()
}

/// Good and bad, long and short, some twice. The tags are their places.
fn mixed() -> impl Stream<Item = (Record, usize)> + Send + Clone {
    let item = |place: usize| match place % 10 {
        3 => record(place),
        4 => format!(r#"{{"schema_version": "1.0.0", "number": {place}}}"#)
            .parse()
            .unwrap(),
        5 => malformed(),
        6 => without_data(),
        7 => long(place - 7),
        8 => record(place - 5),
        _ => long(place),
    };
    stream::iter((0..150).map(move |place| (item(place), place)))
}

/// Index, tag, and what came out: a CID or the words of the error, with the number of attempts.
type Seen = (u64, usize, String);

async fn pushed(options: &Options) -> (Vec<Seen>, Stats) {
    let store = Store::builder().already_stored(AlreadyStored::Ref).build();
    let mut results = mixed().push_to_with(&store.client(), options);
    let mut seen = Vec::new();
    while let Some(result) = soon(results.next()).await {
        seen.push(match result {
            Ok(pushed) => (pushed.index, pushed.tag, pushed.cid.to_string()),
            Err(failed) => (failed.index, failed.tag, failed.to_string()),
        });
    }
    (seen, results.stats())
}

/// Of some records the server sends another one, and some are missing.
async fn pulled(options: &Options) -> (Vec<Seen>, Stats) {
    let store = Store::new();
    let cids: Vec<_> = (0..150).map(long).map(|record| cid(&record)).collect();
    for number in (0..150).filter(|number| number % 10 != 4) {
        store.insert(long(number)).unwrap();
    }
    for place in [1, 2, 3] {
        store.inject(Fault::wrong_answer().on(Method::Pull).at(place));
    }
    let refs = stream::iter(cids.into_iter().zip(0..));
    let mut results = refs.pull_from_with(&store.client(), options);
    let mut seen = Vec::new();
    while let Some(result) = soon(results.next()).await {
        seen.push(match result {
            Ok(pulled) => {
                assert_eq!(cid(&pulled.record), pulled.cid);
                (pulled.index, pulled.tag, pulled.cid.to_string())
            }
            Err(failed) => {
                let words = failed.to_string();
                // The store takes any other record.
                let words = words.split(" hashes to ").next().unwrap();
                (failed.index, failed.tag, words.to_owned())
            }
        });
    }
    (seen, results.stats())
}

/// What is compared of the counts: all but what depends on what was ready when.
fn counts(stats: &Stats) -> [u64; 6] {
    let Stats {
        taken,
        succeeded,
        failed,
        in_window,
        answered_below,
        ..
    } = *stats;
    let mismatches = stats.failed_as(ErrorKind::Mismatch);
    [
        taken,
        succeeded,
        failed,
        in_window,
        answered_below,
        mismatches,
    ]
}

#[track_caller]
fn assert_same(seen: &[Seen], expected: &[Seen], what: &str) {
    assert_eq!(seen.len(), expected.len(), "{what}");
    let mut pairs = seen.iter().zip(expected);
    let other = pairs.find(|(seen, expected)| seen != expected);
    assert_eq!(other, None, "{what}");
}

fn on_threads_of_its_own(options: Options) -> Options {
    options.verify_on(3, |job| drop(std::thread::spawn(job)))
}

fn in_place(options: Options) -> Options {
    options.verify_on(2, |job| job())
}

fn lost(options: Options) -> Options {
    options.verify_on(2, drop)
}

#[tokio::test]
async fn results_are_the_same_with_and_without() {
    for window in [1, 2, 64, 1_024] {
        for unordered in [false, true] {
            let off = Options::new().window(window).unordered(unordered);
            // What is the same as another depends on what is in the window.
            let off = off.dedup(false);
            let ways = [
                off.clone().verify_threads(1),
                off.clone().verify_threads(2).calls(3),
                on_threads_of_its_own(off.clone()),
                in_place(off.clone()),
                lost(off.clone()),
            ];
            let (mut push, push_stats) = pushed(&off).await;
            let (mut pull, pull_stats) = pulled(&off).await;
            push.sort_unstable();
            pull.sort_unstable();
            assert_eq!(pull_stats.failed_as(ErrorKind::Mismatch), 3);
            for (place, options) in ways.into_iter().enumerate() {
                let what = format!("way {place}, window {window}, unordered {unordered}");
                let (mut seen, stats) = pushed(&options).await;
                if unordered {
                    seen.sort_unstable();
                }
                assert_same(&seen, &push, &what);
                assert_eq!(counts(&stats), counts(&push_stats), "{what}");
                if place == 1 {
                    // The faults are at places that depend on the call.
                    continue;
                }
                let (mut seen, stats) = pulled(&options).await;
                if unordered {
                    seen.sort_unstable();
                }
                assert_same(&seen, &pull, &what);
                assert_eq!(counts(&stats), counts(&pull_stats), "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_on_a_runtime_of_several_threads() {
    let (expected, _) = pushed(&Options::new().dedup(false)).await;
    let options = Options::new().dedup(false).verify_threads(4);
    for _ in 0..20 {
        let options = options.clone();
        let seen = tokio::spawn(async move { pushed(&options).await });
        assert_same(&seen.await.unwrap().0, &expected, "4 threads");
    }
}

#[tokio::test(start_paused = true)]
async fn the_task_does_what_no_thread_has_begun() {
    let (client, peer) = scripted();
    let jobs = Jobs::default();
    let input = stream::iter((0..14).map(long)).chain(stream::pending());
    let mut results = pin!(input.push_to_with(&client, &jobs.options(2)));
    assert_pending(&mut results);
    assert_eq!(jobs.len(), 2, "no more than two jobs");
    assert_eq!(peer.call().store_all(), 14);
    assert_eq!(ready(&mut results).len(), 14);
    // They come too late, and change nothing.
    jobs.run();
    assert_pending(&mut results);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_wrong_is_known_by_its_cid() {
    let (client, peer) = scripted();
    let jobs = Jobs::default();
    let cids: Vec<_> = (0..4).map(|number| cid(&long(number))).collect();
    let input = stream::iter(cids).chain(stream::pending());
    let mut results = pin!(input.pull_from_with(&client, &jobs.options(2)));
    assert_pending(&mut results);
    let mut call = peer.call();
    for answer in [long(0), long(7), malformed(), without_data()] {
        call.answer(&answer);
    }
    let results = ready(&mut results);
    let mismatch = Some(ErrorKind::Mismatch);
    assert_eq!(kinds(&results), [None, mismatch, mismatch, mismatch]);
    let words = results[1].as_ref().unwrap_err().error.to_string();
    let (asked, sent) = (cid(&long(1)), cid(&long(7)));
    assert_eq!(
        words,
        format!("mismatch: the content of {asked} hashes to {sent}")
    );
}

#[tokio::test(start_paused = true)]
async fn no_job_is_made_without_the_option_nor_for_what_is_short_or_not_verified() {
    let cases = [(0, true, true), (2, false, true), (2, true, false)];
    for (threads, verify, are_long) in cases {
        let (client, peer) = scripted();
        let jobs = Jobs::default();
        let options = jobs.options(threads).verify(verify);
        let items: Vec<_> = (0..3)
            .map(|n| if are_long { long(n) } else { record(n) })
            .collect();
        let mut pushed = pin!(stream::iter(items.clone()).push_to_with(&client, &options));
        assert_pending(&mut pushed);
        assert_eq!(peer.call().store_all(), 3);
        assert_eq!(ready(&mut pushed).len(), 3);
        let refs = stream::iter(items.iter().map(cid).collect::<Vec<_>>());
        let mut pulled = pin!(refs.clone().pull_from_with(&client, &options));
        assert_pending(&mut pulled);
        let mut call = peer.call();
        items.iter().for_each(|item| call.answer(item));
        assert_eq!(ready(&mut pulled).len(), 3);
        let mut found = pin!(refs.lookup_in_with(&client, &options));
        assert_pending(&mut found);
        assert_eq!(jobs.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_window_is_taken_and_not_handed_out() {
    let taken = Cell::new(0);
    let count = |number: usize| {
        taken.set(number + 1);
        long(number)
    };
    let (client, peer) = scripted();
    let jobs = Jobs::default();
    let options = jobs.options(2).window(20);
    let mut results = pin!(stream::iter((0..).map(count)).push_to_with(&client, &options));
    // A chunk at a time.
    for _ in 0..3 {
        assert_pending(&mut results);
    }
    assert_eq!((taken.get(), jobs.len()), (20, 2), "no more than two jobs");
    let mut call = peer.call();
    assert_eq!(call.store_all(), 20);
    for handed_out in 1..=15 {
        next(&mut results).unwrap();
        assert!(taken.get() <= 20 + handed_out);
    }
    jobs.run();

    taken.set(0);
    let (client, peer) = scripted();
    let count = |number: usize| cid(&count(number));
    let mut results = pin!(stream::iter((0..).map(count)).pull_from_with(&client, &options));
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs().len(), 20);
    (0..20).for_each(|number| call.answer(&long(number)));
    for handed_out in 1..=14 {
        next(&mut results).unwrap();
        assert!(taken.get() <= 20 + handed_out);
    }

    taken.set(0);
    let (client, _peer) = scripted();
    let options = jobs.options(2).window_bytes(5 * long(0).encoded_len() + 1);
    let count = |number: usize| {
        taken.set(number + 1);
        long(number)
    };
    let mut results = pin!(stream::iter((0..).map(count)).push_to_with(&client, &options));
    assert_pending(&mut results);
    assert_eq!(taken.get(), 6, "as many as it holds, and one more");
}

#[tokio::test(start_paused = true)]
async fn what_is_the_same_is_known_in_the_order_of_the_input() {
    let (client, peer) = scripted();
    let jobs = Jobs::default();
    let unknown = || long(0).prechecked(Ok::<_, String>(()));
    // The CID of the second is known before that of the first.
    let items = [unknown(), long(0).skip_if(|_| false), unknown()];
    let mut results = pin!(stream::iter(items).push_to_with(&client, &jobs.options(2)));
    assert_pending(&mut results);
    assert_eq!(peer.call().store_all(), 1);
    let same: Vec<_> = ready(&mut results)
        .into_iter()
        .map(|result| result.unwrap().duplicate_of)
        .collect();
    assert_eq!(same, [None, Some(0), Some(0)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_verified_yet_is_that_of_those_that_are_the_same() {
    let (client, peer) = scripted();
    let jobs = Jobs::default();
    let refs = stream::iter([cid(&long(0)); 3]);
    let mut results = pin!(refs.pull_from_with(&client, &jobs.options(2)));
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs().len(), 1);
    call.answer(&long(1));
    let results = ready(&mut results);
    assert_eq!(kinds(&results), [Some(ErrorKind::Mismatch); 3]);
    assert_eq!(results[2].as_ref().unwrap_err().duplicate_of, Some(0));
}

#[tokio::test]
async fn what_is_stored_is_left_out_all_the_same() {
    let store = Store::new();
    for number in 0..300 {
        store.insert(long(number)).unwrap();
    }
    let options = Options::new().skip_stored(true).verify_threads(2);
    let records = stream::iter((0..300).map(long));
    let summary = soon(records.push_to_with(&store.client(), &options).finish()).await;
    assert_eq!(summary.stats.already_stored, 300, "{summary}");
    assert!(summary.stats.sent < 50, "{summary}");
}

#[test]
fn a_drain_hands_out_what_has_come() {
    on_paused_clock(async {
        let (client, peer) = scripted();
        let jobs = Jobs::default();
        let refs = stream::iter((0..3).map(|number| cid(&long(number))));
        let mut pulled = refs.pull_from_with(&client, &jobs.options(1));
        assert_pending(&mut pulled);
        let mut call = peer.call();
        assert_eq!(call.refs().len(), 3);
        call.answer(&long(0));
        call.answer(&long(7));
        pulled.drain(Duration::from_secs(5));
        let results: Vec<_> = pulled.collect().await;
        let unavailable = Some(ErrorKind::Unavailable);
        assert_eq!(
            kinds(&results),
            [None, Some(ErrorKind::Mismatch), unavailable]
        );
    });
}

#[tokio::test(start_paused = true)]
async fn answers_that_wait_for_their_cid_are_in_the_remainder_with_their_results() {
    let (client, peer) = scripted();
    let jobs = Jobs::default();
    let refs = stream::iter((0..30).map(|number| cid(&long(number))));
    let mut pulled = refs.pull_from_with(&client, &jobs.options(1));
    assert_pending(&mut pulled);
    let mut call = peer.call();
    (0..29).for_each(|number| call.answer(&long(number)));
    // A batch is verified, and the others wait.
    assert_eq!(next(&mut pulled).unwrap().index, 0);
    let left = pulled.into_remainder();
    assert_eq!(kinds(&left.unread), [None; 28]);
    let mut rest = left.unsent.iter().chain(&left.unanswered);
    assert_eq!(rest.next().unwrap().index, 29);
    assert!(rest.next().is_none());
    jobs.run();
}

#[tokio::test]
async fn the_first_error_ends_it_and_nothing_is_lost() {
    for threads in [0, 2] {
        let store = Store::new();
        let options = Options::new().stop_on_error(true).verify_threads(threads);
        let items = mixed().map(|(record, _)| record);
        let mut results = items.push_to_with(&store.client(), &options);
        let mut indexes = Vec::new();
        while let Some(result) = soon(results.next()).await {
            indexes.push(result.map_or_else(|failed| failed.index, |pushed| pushed.index));
        }
        assert_eq!(indexes, [0, 1, 2, 3, 4]);
        let left = results.into_remainder();
        let index = |result: &PushResult| match result {
            Ok(pushed) => pushed.index,
            Err(failed) => failed.index,
        };
        let unread = left.unread.iter().map(index);
        let given = left.unsent.iter().chain(&left.unanswered);
        let indexes: Vec<_> = unread.chain(given.map(|left| left.index)).collect();
        let distinct: BTreeSet<_> = indexes.iter().copied().collect();
        assert_eq!(distinct, (5..left.next_index).collect());
        assert_eq!(distinct.len(), indexes.len());
    }
}

#[tokio::test]
async fn a_checkpoint_is_where_the_results_are() {
    let folder = Folder::new("verify-threads");
    let checkpoint = Checkpoint::open(folder.path("a.checkpoint"), "numbers").unwrap();
    let store = Store::builder().already_stored(AlreadyStored::Ref).build();
    let client = store.client();
    let options = Options::new().verify_threads(2).window(32);
    let mut done = 0;
    while done < 200 {
        let records = stream::iter((0..200).map(long));
        let results = records.push_to_with(&client, &options);
        let mut results = results.resume_from(&checkpoint).take(41);
        let mut last = None;
        while let Some(result) = soon(results.next()).await {
            let index = result.unwrap().index;
            assert_eq!(index, last.map_or(done, |last| last + 1));
            last = Some(index);
        }
        drop(results);
        assert!(checkpoint.done() >= last.unwrap_or(done));
        done = checkpoint.done();
    }
    assert_eq!(store.len(), 200);

    checkpoint.restart().unwrap();
    let refs = stream::iter((0..200).map(|number| cid(&long(number))));
    let results = refs.pull_from_with(&client, &options);
    let mut results = pin!(results.resume_from(&checkpoint).take(41));
    while soon(results.next()).await.is_some() {}
    assert_eq!(checkpoint.done(), 40);
}

#[tokio::test]
async fn jobs_run_at_the_same_time() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let threads = Arc::new(Mutex::new(Vec::new()));
    let started = Arc::clone(&threads);
    let (now, highest) = (Arc::clone(&running), Arc::clone(&most));
    let both = Arc::new(std::sync::Barrier::new(2));
    let met = Arc::new(AtomicUsize::new(0));
    let options = Options::new().verify_on(2, move |job| {
        let (now, highest) = (Arc::clone(&now), Arc::clone(&highest));
        let (both, met) = (Arc::clone(&both), Arc::clone(&met));
        let thread = std::thread::spawn(move || {
            highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // The first two wait for each other.
            if met.fetch_add(1, Ordering::SeqCst) < 2 {
                both.wait();
            }
            job();
            now.fetch_sub(1, Ordering::SeqCst);
        });
        started.lock().unwrap().push(thread);
    });
    let store = Store::new();
    let records = stream::iter((0..500).map(long));
    let results = records.push_to_with(&store.client(), &options);
    assert_eq!(soon(results.finish()).await.stats.succeeded, 500);
    for thread in std::mem::take(&mut *threads.lock().unwrap()) {
        thread.join().unwrap();
    }
    assert!(most.load(Ordering::SeqCst) >= 2);
}

/// How many pushes are tried without a wait, where the server fails at each, and there is always another item.
fn tried_at_once(options: &Options) -> usize {
    let mut tried = 0;
    on_paused_clock(async {
        let (client, peer) = scripted();
        let (items, input) = mpsc::unbounded();
        let mut results = pin!(input.push_to_with(&client, options));
        items.unbounded_send(long(0)).unwrap();
        for number in 1..40 {
            assert_pending(&mut results);
            while let Some(mut call) = peer.try_call() {
                if call.path.ends_with("/Lookup") {
                    call.find_nothing();
                } else if !call.records().is_empty() {
                    tried += 1;
                    call.end(Code::Internal, "cannot");
                    // It comes with the end of the call.
                    items.unbounded_send(long(number)).unwrap();
                }
            }
        }
    });
    tried
}

#[test]
fn an_item_that_is_not_checked_yet_is_another_to_try() {
    let with = tried_at_once(&in_place(Options::new()));
    assert_eq!(with, tried_at_once(&Options::new()));
    assert!(with > 30, "{with}");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Poll,
    /// The pool runs a job, or drops it: the oldest or the newest.
    Run {
        last: bool,
    },
    Lose {
        last: bool,
    },
    /// The server answers so many.
    Answer(usize),
    /// The call breaks, or ends at a refused item.
    End(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Poll),
        4 => any::<bool>().prop_map(|last| Step::Run { last }),
        2 => any::<bool>().prop_map(|last| Step::Lose { last }),
        3 => (1usize..12).prop_map(Step::Answer),
        1 => any::<bool>().prop_map(Step::End),
    ]
}

const ITEMS: usize = 40;

/// The item of this number. Some have no CID, or are the same as another.
fn item(number: usize) -> Record {
    match number % 8 {
        3 => malformed(),
        5 => long(number - 1),
        6 => record(number),
        _ => long(number),
    }
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn each_item_has_one_result_whatever_the_pool_does(
        steps in prop::collection::vec(step(), 0..120),
        threads in 1usize..4,
        window in prop::sample::select(vec![1, 2, 7, 16, 64]),
        unordered in any::<bool>(),
        pulls in any::<bool>(),
        taken_apart in any::<bool>(),
    ) {
        let case = Case { steps, threads, window, unordered, taken_apart };
        on_paused_clock(async {
            if pulls {
                case.pull().await;
            } else {
                case.push().await;
            }
        });
    }
}

struct Case {
    steps: Vec<Step>,
    threads: usize,
    window: usize,
    unordered: bool,
    taken_apart: bool,
}

impl Case {
    fn options(&self, jobs: &Jobs) -> Options {
        let options = jobs.options(self.threads);
        options.window(self.window).unordered(self.unordered)
    }

    async fn push(self) {
        let jobs = Jobs::default();
        let taken = Cell::new(0);
        let input = stream::iter((0..ITEMS).map(|number| {
            taken.set(number + 1);
            item(number)
        }));
        let (client, peer) = scripted();
        let results = input.push_to_with(&client, &self.options(&jobs));
        let served = |call: &mut PeerCall, asked: &mut VecDeque<Record>, count: usize| {
            asked.extend(call.requests::<Record>());
            for record in asked.drain(..count.min(asked.len())) {
                call.answer_cid(cid(&record));
            }
        };
        let index = |result: &PushResult| match result {
            Ok(pushed) => {
                let record = item(pushed.index as usize);
                assert_eq!(pushed.cid, cid(&record));
                pushed.index
            }
            Err(failed) => {
                let is_bad = failed.index % 8 == 3;
                assert_eq!(failed.kind() == ErrorKind::Invalid, is_bad, "{failed}");
                failed.index
            }
        };
        self.run(results, &jobs, &peer, &taken, served, index).await;
    }

    async fn pull(self) {
        let jobs = Jobs::default();
        let taken = Cell::new(0);
        let input = stream::iter((0..ITEMS).map(|number| {
            taken.set(number + 1);
            cid(&long(number - usize::from(number % 8 == 5)))
        }));
        let (client, peer) = scripted();
        let results = input.pull_from_with(&client, &self.options(&jobs));
        // The same for each number, whichever is answered when.
        let answer = |number: usize| match number % 8 {
            2 => long(number + 1),
            3 => malformed(),
            _ => long(number),
        };
        let numbers: Vec<_> = (0..ITEMS)
            .map(|number| cid(&long(number)).to_string())
            .collect();
        let served = move |call: &mut PeerCall, asked: &mut VecDeque<String>, count: usize| {
            asked.extend(call.refs());
            for wanted in asked.drain(..count.min(asked.len())) {
                let number = numbers.iter().position(|cid| *cid == wanted);
                call.answer(&answer(number.unwrap()));
            }
        };
        let index = |result: &PullResult<Cid>| match result {
            Ok(pulled) => {
                assert_eq!(cid(&pulled.record), pulled.cid);
                pulled.index
            }
            Err(failed) => {
                let is_bad = matches!(failed.index % 8, 2 | 3);
                assert!(is_bad || failed.kind() != ErrorKind::Mismatch, "{failed}");
                failed.index
            }
        };
        self.run(results, &jobs, &peer, &taken, served, index).await;
    }

    async fn run<S, G, Q>(
        self,
        mut results: Adapter<S, G>,
        jobs: &Jobs,
        peer: &Peer,
        taken: &Cell<usize>,
        serve: impl Fn(&mut PeerCall, &mut VecDeque<Q>, usize),
        index: impl Fn(&G::Item) -> u64,
    ) where
        S: Stream,
        G: Stream<Item: ItemResult<Input: Sized>>,
    {
        let mut indexes = Vec::new();
        let mut calls: VecDeque<(PeerCall, VecDeque<Q>)> = VecDeque::new();
        let mut ended = false;
        let poll_all = |results: &mut Adapter<S, G>, indexes: &mut Vec<u64>| {
            loop {
                match poll(results) {
                    Poll::Ready(Some(result)) => indexes.push(index(&result)),
                    Poll::Ready(None) => return true,
                    Poll::Pending => return false,
                }
                assert!(taken.get() <= indexes.len() + self.window);
            }
        };
        // What is looked up is not found.
        let see_calls = |calls: &mut VecDeque<(PeerCall, VecDeque<Q>)>| {
            while let Some(call) = peer.try_call() {
                match call.path.ends_with("/Lookup") {
                    true => call.find_nothing(),
                    false => calls.push_back((call, VecDeque::new())),
                }
            }
        };
        for step in &self.steps {
            see_calls(&mut calls);
            match step {
                Step::Poll => ended |= !ended && poll_all(&mut results, &mut indexes),
                Step::Run { last } => {
                    if let Some(job) = jobs.take(*last) {
                        job();
                    }
                }
                Step::Lose { last } => drop(jobs.take(*last)),
                Step::Answer(count) => {
                    if let Some((call, asked)) = calls.front_mut() {
                        serve(call, asked, *count);
                    }
                }
                Step::End(breaks) => {
                    if let Some((mut call, mut asked)) = calls.pop_front() {
                        if *breaks {
                            call.break_off();
                        } else {
                            serve(&mut call, &mut asked, 0);
                            if asked.is_empty() {
                                call.break_off();
                            } else {
                                call.end(Code::InvalidArgument, "not this one");
                            }
                        }
                    }
                }
            }
            assert!(taken.get() <= indexes.len() + self.window);
            assert!(jobs.len() <= self.threads);
        }
        if self.taken_apart {
            let left = results.into_remainder();
            indexes.extend(left.unread.iter().map(&index));
            let given = left.unsent.iter().chain(&left.unanswered);
            indexes.extend(given.map(|left| left.index));
            indexes.sort_unstable();
            assert_eq!(indexes, (0..left.next_index).collect::<Vec<_>>());
            jobs.run();
            return;
        }
        // From now on all goes well.
        for _ in 0..100_000 {
            if ended {
                break;
            }
            see_calls(&mut calls);
            jobs.run();
            let mut open = VecDeque::new();
            while let Some((mut call, mut asked)) = calls.pop_front() {
                serve(&mut call, &mut asked, usize::MAX);
                if call.is_half_closed() {
                    call.end(Code::Ok, "");
                } else {
                    open.push_back((call, asked));
                }
            }
            calls = open;
            ended = poll_all(&mut results, &mut indexes);
            tokio::time::advance(Duration::from_millis(20)).await;
        }
        assert!(ended, "it ends");
        if !self.unordered {
            assert!(indexes.is_sorted());
        }
        indexes.sort_unstable();
        assert_eq!(indexes, (0..ITEMS as u64).collect::<Vec<_>>());
        assert_ended(&mut results);
    }
}
