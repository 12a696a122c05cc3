//! Resume points: what a file says, when it is written, and what is left out after it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, ResourceBusy};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use agntcy_dir_stream::checkpoint::fingerprint;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{AlreadyStored, Fault, Method, Store};
use agntcy_dir_stream::{Checkpoint, Code, ErrorKind, Retry, Status};
use futures::channel::mpsc;
use futures::{Stream, StreamExt, stream};
use proptest::prelude::*;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::support::clock::{SECOND, in_a_week, on_paused_clock, runtime, soon};
use crate::support::folder::Folder;
use crate::support::peer::scripted;
use crate::support::polling::{assert_ended, assert_pending, counted, next, ready};
use crate::support::properties::cases;
use crate::support::records::{cid, cids, nameless, record, records};
use crate::support::results::kinds;
use crate::support::stores::{ended_calls, listen, store_with};

/// The number and the index of each line of a checkpoint's file.
fn lines(path: &Path) -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text.len(), 1024);
    let number = |line: &str, name: &str| {
        let (_, rest) = line.split_once(name).unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    };
    let line = |line: &str| (number(line, ", write "), number(line, ", done "));
    text.lines().map(line).collect()
}

/// The number of the last write, and how many items it says are done.
fn said(path: &Path) -> (u64, u64) {
    lines(path).into_iter().max().unwrap()
}

/// Has a file hold these bytes. (One that is emptied first is brought to the disk by some systems, which takes long.)
fn put(path: &Path, bytes: &[u8]) {
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let mut file = options.open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

/// A folder and a checkpoint in it.
fn checkpoint(name: &str) -> (Folder, PathBuf, Checkpoint) {
    let folder = Folder::new(&format!("checkpoint-{name}"));
    let path = folder.path("a.checkpoint");
    let checkpoint = Checkpoint::open(&path, "numbers").unwrap();
    (folder, path, checkpoint)
}

/// A checkpoint that says that so many items are done.
async fn checkpoint_at(name: &str, done: usize) -> (Folder, PathBuf, Checkpoint) {
    let (folder, path, checkpoint) = checkpoint(name);
    let (store, cids) = store_with(1);
    let refs = stream::iter(vec![cids[0]; done]);
    let looked_up = refs.lookup_in(&store.client()).resume_from(&checkpoint);
    assert_eq!(looked_up.finish().await.stats.succeeded, done as u64);
    assert_eq!(checkpoint.done(), done as u64);
    (folder, path, checkpoint)
}

fn panics<T>(what: impl FnOnce() -> T) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(what)) else {
        panic!("it does not panic");
    };
    panic.downcast_ref::<String>().map_or_else(
        || panic.downcast_ref::<&str>().unwrap().to_string(),
        Clone::clone,
    )
}

// ---- the file ----------------------------------------------------------------------------------

#[test]
fn a_checkpoint_is_text_and_is_found_again() {
    let (_folder, path, checkpoint) = checkpoint("text");
    assert_eq!(checkpoint.done(), 0);
    let text = std::fs::read_to_string(&path).unwrap();
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with(
            r#"agntcy-dir-stream checkpoint 1, write 0, done 0, of "numbers", sha256 "#
        )
    );
    assert_eq!((first.len(), text.lines().count()), (511, 2));
    let debugged = format!("{checkpoint:?}");
    assert!(
        debugged.contains(r#"identity: "numbers", done: 0"#),
        "{debugged}"
    );
    drop(checkpoint);
    let again = Checkpoint::open(&path, "numbers").unwrap();
    assert_eq!(again.done(), 0);
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        text,
        "it was not written"
    );
}

#[test]
fn an_empty_file_is_a_new_checkpoint() {
    let folder = Folder::new("checkpoint-empty");
    let path = folder.write("a.checkpoint", "");
    let checkpoint = Checkpoint::open(&path, "numbers").unwrap();
    assert_eq!((checkpoint.done(), said(&path)), (0, (1, 0)));
}

#[test]
fn a_checkpoint_of_another_input_is_refused_with_both_names() {
    let (_folder, path, checkpoint) = checkpoint("identity");
    drop(checkpoint);
    let before = std::fs::read(&path).unwrap();
    let error = Checkpoint::open(&path, "letters").unwrap_err();
    assert_eq!(error.kind(), InvalidInput);
    let words = format!(
        r#"checkpoint {}: it is of "numbers", and not of "letters""#,
        path.display()
    );
    assert_eq!(error.to_string(), words);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn any_line_of_text_can_be_an_identity_if_it_is_not_too_long() {
    let folder = Folder::new("checkpoint-identities");
    let path = folder.path("a.checkpoint");
    let long = "ü".repeat(128);
    for identity in [
        r#"a", sha256 "#,
        r#", of "x", done 7"#,
        " \" ",
        "\u{2003}",
        &long,
    ] {
        drop(Checkpoint::open(&path, identity).unwrap());
        Checkpoint::open(&path, identity).unwrap().remove().unwrap();
    }
    for identity in ["", "two\nlines", &format!("{long}.")] {
        let error = Checkpoint::open(&path, identity).unwrap_err();
        assert_eq!(error.kind(), InvalidInput, "{error}");
    }
    assert!(!path.exists());
}

#[test]
fn what_is_no_checkpoint_is_left_as_it_is() {
    let folder = Folder::new("checkpoint-other");
    let notes = "notes\n".repeat(400);
    for text in ["x", "5000\n", &" ".repeat(1024), &"\0".repeat(1024), &notes] {
        let path = folder.write("other", text);
        let error = Checkpoint::open(&path, "numbers").unwrap_err();
        assert_eq!(error.kind(), InvalidData);
        assert!(error.to_string().contains("is no checkpoint"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    assert!(Checkpoint::open(folder.path("."), "numbers").is_err());
    let error = Checkpoint::open(folder.path("none/a.checkpoint"), "numbers").unwrap_err();
    assert_eq!(error.kind(), NotFound);
    assert!(error.to_string().contains("none/a.checkpoint"), "{error}");
}

/// Whatever a write that was cut short, or a disk, has made of it.
#[tokio::test]
async fn a_damaged_file_says_less_and_never_more() {
    let (folder, path, checkpoint) = checkpoint_at("damaged", 3_000).await;
    checkpoint.save().unwrap();
    drop(checkpoint);
    let mut states = lines(&path);
    states.sort_unstable();
    assert_eq!(states[0].0 + 1, states[1].0, "the last two writes");
    let (older, newer) = (states[0].1, states[1].1);
    assert!(older < newer && newer == 3_000, "{states:?}");
    let whole = std::fs::read(&path).unwrap();
    let damaged = folder.path("damaged");
    let opened = |bytes: &[u8]| {
        put(&damaged, bytes);
        let opened = Checkpoint::open(&damaged, "numbers");
        if opened.is_err() {
            assert_eq!(std::fs::read(&damaged).unwrap(), bytes);
        }
        opened.map(|checkpoint| checkpoint.done())
    };
    for len in 1..whole.len() {
        match opened(&whole[..len]) {
            Ok(done) => assert!(len >= 512 && (done == older || done == newer)),
            Err(error) => assert!(len < 512 && error.kind() == InvalidData, "{error}"),
        }
    }
    let newest = 512 * usize::from(lines(&path)[0] < lines(&path)[1]);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let is_newest = (newest..newest + 512).contains(&at);
        let rest = if is_newest { older } else { newer };
        assert_eq!(opened(&bytes).unwrap(), rest, "byte {at}");
    }
    // Both lines.
    let mut bytes = whole.clone();
    bytes[60] ^= 1;
    bytes[572] ^= 1;
    assert_eq!(opened(&bytes).unwrap_err().kind(), InvalidData);
    assert!(opened(&[&whole[..], b"x"].concat()).is_err());
}

#[test]
fn a_checkpoint_is_open_once_at_a_time() {
    let (_folder, path, checkpoint) = checkpoint("lock");
    let error = Checkpoint::open(&path, "numbers").unwrap_err();
    assert_eq!(error.kind(), ResourceBusy);
    assert!(
        error
            .to_string()
            .ends_with("it is in use already, here or by another process")
    );
    drop(checkpoint);
    assert_eq!(Checkpoint::open(&path, "numbers").unwrap().done(), 0);
}

#[tokio::test]
async fn a_checkpoint_can_be_set_back_and_removed() {
    let (_folder, path, checkpoint) = checkpoint_at("restart", 10).await;
    checkpoint.restart().unwrap();
    assert_eq!((checkpoint.done(), said(&path).1), (0, 0));
    let store = Store::new();
    let results = records(10)
        .push_to(&store.client())
        .resume_from(&checkpoint);
    assert_eq!(results.finish().await.stats.succeeded, 10);
    checkpoint.remove().unwrap();
    assert!(!path.exists());
    assert_eq!(Checkpoint::open(&path, "numbers").unwrap().done(), 0);
}

#[test]
fn a_fingerprint_is_of_all_of_a_file() {
    let folder = Folder::new("checkpoint-fingerprint");
    let of = |content: &[u8]| fingerprint(folder.write("input", content)).unwrap();
    assert_eq!(
        of(b""),
        "0 bytes, sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    let mut long = vec![7; 200_000];
    let before = of(&long);
    assert!(before.starts_with("200000 bytes, "));
    *long.last_mut().unwrap() = 8;
    assert_ne!(of(&long), before);
    assert_eq!(
        fingerprint(folder.path("none")).unwrap_err().kind(),
        NotFound
    );
}

// ---- who follows it ----------------------------------------------------------------------------

#[tokio::test]
async fn one_adapter_at_a_time_follows() {
    let (_folder, path, checkpoint) = checkpoint("follow");
    let client = Store::new().client();
    let results = records(3).push_to(&client).resume_from(&checkpoint);
    let words = panics(|| records(3).push_to(&client).resume_from(&checkpoint));
    assert!(words.ends_with("an adapter follows it"), "{words}");
    assert_eq!(checkpoint.restart().unwrap_err().kind(), ResourceBusy);
    // Dropped before it was polled, with a handle to it.
    let handle = results.handle();
    drop(results);
    checkpoint.restart().unwrap();
    assert_eq!(handle.stats().taken, 0);

    let mut results = records(3).push_to(&client).resume_from(&checkpoint);
    while results.next().await.is_some() {}
    // It has ended, and is still there.
    let second = records(3).push_to(&client).resume_from(&checkpoint);
    assert_eq!(checkpoint.remove().unwrap_err().kind(), ResourceBusy);
    assert!(path.exists());
    assert_eq!(second.finish().await.stats.taken, 0);
}

#[tokio::test]
async fn an_adapter_that_has_begun_cannot_resume() {
    let (_folder, _path, first) = checkpoint("begun");
    let client = Store::new().client();
    let mut results = records(3).push_to(&client);
    soon(results.next()).await.unwrap().unwrap();
    let words = panics(|| results.resume_from(&first));
    assert!(words.contains("has begun"), "{words}");

    let (_folder, _path, second) = checkpoint("begun-2");
    let results = records(3).push_to(&client).resume_from(&first);
    let words = panics(|| results.resume_from(&second));
    assert!(words.contains("follows one checkpoint"), "{words}");
    first.restart().unwrap();
    second.restart().unwrap();
}

#[test]
fn a_checkpoint_that_is_dropped_is_followed_to_the_end_of_the_adapter() {
    let (_folder, path, checkpoint) = checkpoint("dropped");
    runtime().block_on(async {
        let client = Store::new().client();
        let results = records(3).push_to(&client).resume_from(&checkpoint);
        drop(checkpoint);
        assert_eq!(
            Checkpoint::open(&path, "numbers").unwrap_err().kind(),
            ResourceBusy
        );
        assert_eq!(results.finish().await.stats.taken, 3);
        assert_eq!(Checkpoint::open(&path, "numbers").unwrap().done(), 3);
    });
}

// ---- what is left out --------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn what_is_done_is_left_out_and_indexes_are_those_of_the_whole_input() {
    let (_folder, _path, checkpoint) = checkpoint_at("left-out", 1_000).await;
    let store = Store::new();
    let client = store.client();
    let options = Options::new().rate(10);
    let began = Instant::now();
    let input = stream::iter((0..1_003).map(|number| (record(number), number)));
    let mut results = input
        .push_to_with(&client, &options)
        .resume_from(&checkpoint);
    assert_eq!(results.size_hint(), (3, Some(3)));
    for index in 1_000..1_003 {
        let pushed = soon(results.next()).await.unwrap().unwrap();
        assert_eq!((pushed.index, pushed.tag as u64), (index, index));
    }
    assert!(results.next().await.is_none());
    assert!(began.elapsed() < SECOND, "what is left out has no pace");
    let stats = results.stats();
    assert_eq!((stats.taken, stats.succeeded, stats.in_window), (3, 3, 0));
    assert_eq!((stats.answered_below, stats.sent), (1_003, 3));
    assert_eq!((store.len(), checkpoint.done()), (3, 1_003));
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_left_out_in_pieces() {
    let (_folder, _path, checkpoint) = checkpoint_at("pieces", 1_000).await;
    let (client, peer) = scripted();
    let taken = Cell::new(0);
    let mut results = counted(&taken).push_to(&client).resume_from(&checkpoint);
    for poll in 1..=3 {
        assert_pending(&mut results);
        assert_eq!(taken.get(), 256 * poll);
    }
    assert_eq!(results.stats().taken, 0);
    assert!(peer.try_call().is_none());
    assert_pending(&mut results);
    assert_eq!(results.stats().taken, 24);

    // Stopped in the midst of it.
    drop(results);
    let results = || records(1_003).push_to(&client).resume_from(&checkpoint);
    let remainder = results().into_remainder();
    assert_eq!(
        (remainder.next_index, remainder.input.count().await),
        (0, 1_003)
    );
    let mut stopped = results();
    assert_pending(&mut stopped);
    let remainder = stopped.into_remainder();
    assert_eq!(
        (remainder.next_index, remainder.input.count().await),
        (256, 747)
    );
    let mut drained = results();
    assert_pending(&mut drained);
    drained.drain(SECOND);
    assert_ended(&mut drained);
    assert_eq!(drained.into_remainder().next_index, 256);
    assert_eq!(checkpoint.done(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn an_input_that_pauses_in_what_is_left_out_is_waited_for() {
    let (_folder, _path, checkpoint) = checkpoint_at("pauses", 2).await;
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to(&client).resume_from(&checkpoint);
    for number in 0..2 {
        assert_pending(&mut results);
        records.unbounded_send(record(number)).unwrap();
    }
    assert_pending(&mut results);
    assert!(peer.try_call().is_none());
    records.unbounded_send(record(2)).unwrap();
    assert_pending(&mut results);
    peer.call().store_all();
    assert_eq!(next(&mut results).unwrap().index, 2);
}

#[tokio::test]
async fn an_input_that_is_shorter_than_what_is_done_has_no_results() {
    for count in [0, 7, 10] {
        let (_folder, _path, checkpoint) = checkpoint_at("short", 10).await;
        let store = Store::new();
        let results = records(count)
            .push_to(&store.client())
            .resume_from(&checkpoint);
        let summary = results.finish().await;
        assert_eq!((summary.stats.taken, summary.stats.answered_below), (0, 10));
        assert_eq!((checkpoint.done(), store.calls().len()), (10, 0));
    }
}

// ---- what counts as done -----------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_result_counts_when_the_next_one_is_asked_for() {
    let (_folder, path, checkpoint) = checkpoint("counts");
    let (client, peer) = scripted();
    let mut results = records(3).push_to(&client).resume_from(&checkpoint);
    assert_pending(&mut results);
    let mut call = peer.call();
    call.store_all();
    for index in 0..3 {
        assert_eq!(next(&mut results).unwrap().index, index);
        assert_eq!(checkpoint.done(), index);
    }
    assert_eq!(said(&path), (1, 0), "the file need not be written yet");
    checkpoint.save().unwrap();
    assert_eq!(said(&path), (2, 2));
    assert_pending(&mut results);
    assert_eq!(checkpoint.done(), 3);
    drop(results);
    assert_eq!(said(&path), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn an_item_without_an_answer_holds_it() {
    let (_folder, path, checkpoint) = checkpoint("holds");
    let store = Store::new();
    let denied = cid(&record(4));
    store.inject(
        Fault::status(Status::unavailable("no"))
            .of(denied)
            .times(u64::MAX),
    );
    let options = Options::new().window(2).retry(Retry::off());
    let mixed = || stream::iter((0..9).map(|n| if n == 1 { nameless(n) } else { record(n) }));
    let results = mixed()
        .push_to_with(&store.client(), &options)
        .resume_from(&checkpoint);
    let results: Vec<_> = results.collect().await;
    assert_eq!(results.len(), 9, "the stream goes on");
    let kinds = kinds(&results);
    assert_eq!(kinds[1], Some(ErrorKind::Rejected), "refused is answered");
    assert_eq!(kinds[4], Some(ErrorKind::OutcomeUnknown));
    assert_eq!((checkpoint.done(), said(&path).1), (4, 4));
    assert!(said(&path).0 < 9, "what cannot help is not written");

    store.inject(Fault::status(Status::unavailable("no")).of(denied).times(0));
    let store = Store::new();
    let rest = mixed()
        .push_to_with(&store.client(), &options)
        .resume_from(&checkpoint);
    assert_eq!(rest.finish().await.stats.succeeded, 5);
    assert_eq!(checkpoint.done(), 9);
}

#[tokio::test(start_paused = true)]
async fn what_a_drain_cuts_off_is_not_done() {
    let (_folder, path, checkpoint) = checkpoint("drain");
    let (client, peer) = scripted();
    let mut results = records(9).push_to_with(&client, &Options::new().window(4));
    results = results.resume_from(&checkpoint);
    assert_pending(&mut results);
    let mut call = peer.call();
    call.records();
    call.answer_cid(cid(&record(0)));
    assert_eq!(next(&mut results).unwrap().index, 0);
    results.drain(Duration::ZERO);
    let rest: Vec<_> = results.collect().await;
    assert_eq!(rest.len(), 3);
    assert!(rest.iter().all(Result::is_err));
    assert_eq!((checkpoint.done(), said(&path).1), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_end_at_the_first_failure_is_behind_the_item_that_was_refused() {
    let (_folder, path, checkpoint) = checkpoint("stop-on-error");
    let store = Store::new();
    let options = Options::new().stop_on_error(true);
    let mixed = || stream::iter((0..9).map(|n| if n % 4 == 2 { nameless(n) } else { record(n) }));
    let mut lens = Vec::new();
    while checkpoint.done() < 9 {
        let results = mixed()
            .push_to_with(&store.client(), &options)
            .resume_from(&checkpoint);
        lens.push(results.count().await);
        assert_eq!(checkpoint.done(), said(&path).1);
    }
    assert_eq!(lens, [3, 4, 2]);
    assert_eq!(store.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn what_the_remainder_gives_back_is_not_done() {
    let (_folder, path, checkpoint) = checkpoint_at("remainder", 2).await;
    let (client, peer) = scripted();
    let results = records(9).push_to_with(&client, &Options::new().window(4));
    let mut results = results.resume_from(&checkpoint).erase();
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.numbers(), [2, 3, 4, 5]);
    call.answer_cid(cid(&record(2)));
    assert_eq!(next(&mut results).unwrap().index, 2);
    let remainder = results.into_remainder();
    let indexes: Vec<_> = remainder.unanswered.iter().map(|left| left.index).collect();
    assert_eq!((indexes, remainder.next_index), (vec![3, 4, 5], 6));
    assert_eq!(said(&path).1, 3);
    // It is free for the next.
    assert_eq!(
        records(9)
            .push_to(&client)
            .resume_from(&checkpoint)
            .size_hint()
            .0,
        6
    );
}

/// An adapter that is dropped after four results, and another that goes on behind the third.
async fn resumes<S, X, F: std::fmt::Debug>(adapter: impl Fn() -> S, index: impl Fn(&X) -> u64)
where
    S: Stream<Item = Result<X, F>>,
{
    let _ = adapter().take(4).count().await;
    let results: Vec<_> = adapter().collect().await;
    assert_eq!(index(results[0].as_ref().unwrap()), 3);
}

#[tokio::test]
async fn each_operation_resumes() {
    let (store, _) = store_with(10);
    let client = store.client();
    let (_folder, _path, checkpoint) = checkpoint("operations");
    let records = || records(10);
    let cids = || cids(10);
    let push = || records().push_to(&client).resume_from(&checkpoint);
    resumes(push, |pushed| pushed.index).await;
    checkpoint.restart().unwrap();
    let pull = || cids().pull_from(&client).resume_from(&checkpoint);
    resumes(pull, |pulled| pulled.index).await;
    checkpoint.restart().unwrap();
    let look_up = || cids().lookup_in(&client).resume_from(&checkpoint);
    resumes(look_up, |found| found.index).await;
    checkpoint.restart().unwrap();
    let ask = || cids().exists_in(&client).resume_from(&checkpoint);
    resumes(ask, |existence| existence.index).await;
    checkpoint.restart().unwrap();
    let delete = || cids().delete_from(&client).resume_from(&checkpoint);
    resumes(delete, |deleted| deleted.index).await;
    assert!(store.is_empty());
    assert_eq!(checkpoint.done(), 10);
}

// ---- when it is written ------------------------------------------------------------------------

#[tokio::test]
async fn the_file_is_written_twice_a_window_at_most_if_results_come_in_batches() {
    let (_folder, path, checkpoint) = checkpoint("writes");
    let store = Store::new();
    let options = Options::new().window(100);
    let results = records(5_000)
        .push_to_with(&store.client(), &options)
        .resume_from(&checkpoint);
    assert_eq!(results.finish().await.stats.succeeded, 5_000);
    let (writes, done) = said(&path);
    assert_eq!(done, 5_000);
    assert!((50..=110).contains(&writes), "{writes} writes");
}

#[tokio::test(start_paused = true)]
async fn out_of_order_it_takes_a_window_of_items_behind_the_first_that_waits() {
    let (_folder, path, checkpoint) = checkpoint("unordered");
    let (client, peer) = scripted();
    let options = Options::new().window(4).unordered(true);
    let taken = Cell::new(0);
    let input = counted(&taken);
    let mut results = input
        .push_to_with(&client, &options)
        .resume_from(&checkpoint);
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.numbers(), [1, 2, 3, 4]);
    call.end(Code::Internal, "no");
    assert_pending(&mut results);
    let (look_up, mut call) = (peer.call(), peer.call());
    look_up.find_nothing();
    // The first rests.
    let mut others = Vec::new();
    for _ in 0..3 {
        call.store_all();
        others.extend(
            ready(&mut results)
                .into_iter()
                .map(|pushed| pushed.unwrap().index),
        );
    }
    assert_eq!(others, [1, 2, 3]);
    assert_pending(&mut results);
    assert_eq!(
        (taken.get(), said(&path).1),
        (4, 0),
        "one window, and no more"
    );
    tokio::time::advance(SECOND).await;
    assert_pending(&mut results);
    assert_eq!(call.store_all(), 1);
    assert_eq!(next(&mut results).unwrap().index, 0);
    assert_pending(&mut results);
    assert_eq!((taken.get(), said(&path).1), (8, 4));
}

/// What happens to a run of the property below.
#[derive(Clone, Debug)]
struct Case {
    count: usize,
    window: usize,
    calls: usize,
    unordered: bool,
    cuts: Vec<u64>,
    /// After how many results each run is killed, and whether it has dealt with the last of them.
    kills: Vec<(usize, bool)>,
}

fn case() -> impl Strategy<Value = Case> {
    (
        0usize..60,
        1usize..9,
        1usize..4,
        any::<bool>(),
        prop::collection::vec(0u64..20, 0..4),
        prop::collection::vec((0usize..30, any::<bool>()), 0..5),
    )
        .prop_map(|(count, window, calls, unordered, cuts, kills)| Case {
            count,
            window,
            calls,
            unordered,
            cuts,
            kills,
        })
}

proptest! {
    #![proptest_config(cases(256))]

    /// Killed after any result: the file as it is then is all that the next run has.
    #[test]
    fn a_kill_loses_nothing_and_repeats_a_window_at_most(case in case()) {
        on_paused_clock(killed_and_resumed(&case));
    }
}

async fn killed_and_resumed(case: &Case) {
    let folder = Folder::new("checkpoint-kills");
    let path = folder.path("a.checkpoint");
    let store = Store::new();
    for at in &case.cuts {
        store.inject(Fault::cut().on(Method::Push).at(*at));
    }
    let options = Options::new()
        .window(case.window)
        .calls(case.calls)
        .unordered(case.unordered);
    let mut dealt_with = BTreeSet::new();
    let mut taken = 0;
    let runs = case.kills.iter().copied().map(Some).chain([None]);
    for kill in runs {
        let checkpoint = Checkpoint::open(&path, "numbers").unwrap();
        let done = usize::try_from(checkpoint.done()).unwrap();
        assert!(
            (0..done).all(|number| dealt_with.contains(&number)),
            "{done}: {dealt_with:?}"
        );
        let next = RefCell::new(0);
        let input = stream::iter((0..case.count).map(|number| {
            *next.borrow_mut() = number + 1;
            if number >= done {
                let said = usize::try_from(said(&path).1).unwrap();
                assert!(
                    number + 1 - said <= case.window,
                    "{number} is taken, {said} are done"
                );
            }
            (record(number), number)
        }));
        let client = store.client();
        let mut results = input
            .push_to_with(&client, &options)
            .resume_from(&checkpoint);
        let mut left = kill.map_or(usize::MAX, |(results, _)| results);
        while left > 0 {
            let Some(result) = in_a_week(results.next()).await else {
                break;
            };
            let pushed = result.unwrap();
            assert_eq!(pushed.index, pushed.tag as u64);
            left -= 1;
            if left > 0 || kill.is_some_and(|(_, deals_with_last)| deals_with_last) {
                dealt_with.insert(pushed.tag);
            }
        }
        let file = std::fs::read(&path).unwrap();
        drop(results);
        drop(checkpoint);
        put(&path, &file);
        taken += next.into_inner().max(done) - done;
    }
    assert_eq!(dealt_with.len(), case.count);
    assert_eq!(store.len(), case.count);
    let repeated = taken - case.count;
    assert!(
        repeated <= case.window * case.kills.len(),
        "{repeated} were repeated"
    );
}

// ---- a process that is killed ------------------------------------------------------------------

const IMPORTED: usize = 3_000;

/// What tells the process below what to do: where the store is, where the checkpoint is, and how large its window is.
const CHILD: [&str; 3] = ["CHECKPOINT_STORE", "CHECKPOINT_FILE", "CHECKPOINT_WINDOW"];

#[test]
#[ignore = "the process that another test kills"]
fn a_process_that_imports() {
    let [Ok(url), Ok(path), Ok(window)] = CHILD.map(std::env::var) else {
        return;
    };
    runtime().block_on(async {
        let client = Client::connect(&url).await.unwrap();
        let checkpoint = Checkpoint::open(path, "numbers").unwrap();
        let options = Options::new().window(window.parse().unwrap());
        let results = records(IMPORTED).push_to_with(&client, &options);
        let results = results.resume_from(&checkpoint);
        assert!(results.all(async |result| result.is_ok()).await);
        checkpoint.save().unwrap();
    });
}

fn spawn(values: [&str; 3]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "checkpoints::a_process_that_imports",
            "--ignored",
        ])
        .envs(CHILD.into_iter().zip(values))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn a_process_that_is_killed_again_and_again_pushes_all(
        window in prop::sample::select(vec![1usize, 16, 128, 1024]),
        kills in prop::collection::vec(0u64..900, 1..5),
    ) {
        runtime().block_on(async {
            // One that refuses what is stored has its client look up the rest, which would not count.
            let store = Store::builder().already_stored(AlreadyStored::Ref).build();
            let serving = listen(&store).await;
            let folder = Folder::new("checkpoint-processes");
            let path = folder.path("a.checkpoint");
            let values = [&serving.url(), path.to_str().unwrap(), &window.to_string()];
            let mut killed = 0;
            for after in kills {
                let before: u64 = store.calls().iter().map(|call| call.answers).sum();
                let mut child = spawn(values);
                let answered = store.wait_for(|calls| {
                    calls.iter().map(|call| call.answers).sum::<u64>() >= before + after
                });
                tokio::select! {
                    _ = soon(answered) => {
                        child.start_kill().unwrap();
                        killed += 1;
                        soon(child.wait()).await.unwrap();
                    }
                    ended = child.wait() => assert!(ended.unwrap().success()),
                }
                if path.exists() && std::fs::metadata(&path).unwrap().len() > 0 {
                    let done = usize::try_from(said(&path).1).unwrap();
                    assert!((0..done).all(|number| store.contains(&cid(&record(number)))));
                }
            }
            let ended = soon(spawn(values).wait()).await.unwrap();
            assert!(ended.success());
            assert_eq!((store.len(), said(&path).1), (IMPORTED, IMPORTED as u64));
            // The calls of those that were killed have ended, with what they had sent.
            let calls = soon(ended_calls(&store)).await;
            let pushed: u64 = calls.iter().map(|call| call.requests).sum();
            let repeated = usize::try_from(pushed).unwrap() - IMPORTED;
            assert!(repeated <= window * killed, "{repeated} were pushed again");
        });
    }
}

#[tokio::test]
async fn two_processes_do_not_use_it_at_once() {
    let (_folder, path, checkpoint) = checkpoint("two-processes");
    let serving = listen(&Store::new()).await;
    let values = [&serving.url(), path.to_str().unwrap(), "1"];
    assert!(!soon(spawn(values).wait()).await.unwrap().success());
    drop(checkpoint);
    assert!(soon(spawn(values).wait()).await.unwrap().success());
}
