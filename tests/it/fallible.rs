//! Inputs that can fail, stages that feed each other, and items that are decided before they are sent.

use std::collections::HashSet;
use std::error::Error as _;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Method, Store};
use agntcy_dir_stream::{Checkpoint, Error, ErrorKind, Failed, TryFailed, TryPushResult};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::support::clock::soon;
use crate::support::folder::Folder;
use crate::support::records::{cid, nameless, number_of, record};
use crate::support::stores::{calls_of, store_with};

/// What a source of ours says.
#[derive(Debug, PartialEq, Eq)]
struct Unread(usize);

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} cannot be read", self.0)
    }
}

impl std::error::Error for Unread {}

/// Each third row cannot be read, and each seventh is refused.
fn rows(count: usize) -> impl Stream<Item = Result<(Record, usize), Unread>> + Unpin {
    stream::iter((0..count).map(|number| match number {
        _ if number % 3 == 2 => Err(Unread(number)),
        _ if number % 7 == 3 => Ok((nameless(number), number)),
        _ => Ok((record(number), number)),
    }))
}

fn check_rows(results: &[TryPushResult<Unread, usize>]) {
    for (number, result) in results.iter().enumerate() {
        match result {
            Err(TryFailed::Input(error)) => {
                assert_eq!(number % 3, 2);
                assert_eq!(
                    (error.index, &error.error),
                    (number as u64, &Unread(number))
                );
            }
            Err(TryFailed::Item(failed)) => {
                assert!(number % 3 != 2 && number % 7 == 3, "{failed}");
                assert_eq!((failed.index, failed.tag), (number as u64, number));
                assert_eq!(
                    (failed.kind(), failed.operation),
                    (ErrorKind::Rejected, "push")
                );
            }
            Ok(pushed) => {
                assert!(number % 3 != 2 && number % 7 != 3);
                assert_eq!((pushed.index, pushed.tag), (number as u64, number));
                assert_eq!(pushed.cid, cid(&record(number)));
            }
        }
    }
}

#[tokio::test]
async fn an_error_of_the_input_comes_out_in_its_place_and_the_rest_goes_on() {
    let store = Store::new();
    let mut results = rows(1_000).try_push_to(&store.client());
    let all: Vec<_> = soon(results.by_ref().collect()).await;
    assert_eq!(all.len(), 1_000);
    check_rows(&all);
    let stats = results.stats();
    assert_eq!((stats.taken, stats.in_window), (1_000, 0));
    assert_eq!(stats.failed_as(ErrorKind::Input), 333);
    assert_eq!(stats.succeeded + stats.failed, 1_000);
    // It is no end of the input for the server: only what it refuses ends a call.
    let refused = stats.failed_as(ErrorKind::Rejected);
    assert_eq!(calls_of(&store, Method::Push).len() as u64, refused + 1);
}

#[tokio::test]
async fn each_operation_takes_a_fallible_input() {
    let (store, cids) = store_with(4);
    let client = store.client();
    let input = || stream::iter([Ok(cids[0]), Err(Unread(1)), Ok(cids[2])]);
    let is_ok = |results: &[bool]| assert_eq!(results, [true, false, true]);

    let pulled: Vec<_> = soon(input().try_pull_from(&client).collect()).await;
    assert_eq!(number_of(&pulled[2].as_ref().unwrap().record), 2);
    is_ok(&pulled.iter().map(Result::is_ok).collect::<Vec<_>>());
    let found: Vec<_> = soon(input().try_lookup_in(&client).collect()).await;
    is_ok(&found.iter().map(Result::is_ok).collect::<Vec<_>>());
    let asked: Vec<_> = soon(input().try_exists_in(&client).collect()).await;
    is_ok(&asked.iter().map(Result::is_ok).collect::<Vec<_>>());
    let deleted: Vec<_> = soon(input().try_delete_from(&client).collect()).await;
    is_ok(&deleted.iter().map(Result::is_ok).collect::<Vec<_>>());
    assert_eq!(store.len(), 2);

    let options = Options::new().calls(2).unordered(true);
    let mut results = input().try_pull_from_with(&client, &options);
    let mut kinds = Vec::new();
    while let Some(result) = soon(results.next()).await {
        kinds.push(result.unwrap_err().kind());
    }
    kinds.sort_unstable_by_key(|kind| kind.as_str());
    assert_eq!(
        kinds,
        [ErrorKind::Input, ErrorKind::NotFound, ErrorKind::NotFound]
    );
    let input = || input().map_ok(|cid| (cid, "tag"));
    let asked: Vec<_> = soon(input().try_exists_in_with(&client, &options).collect()).await;
    let exists = asked.iter().filter_map(|result| result.as_ref().ok());
    assert_eq!(exists.filter(|result| !result.exists).count(), 2);
    let looked_up: Vec<_> = soon(input().try_lookup_in_with(&client, &options).collect()).await;
    assert_eq!(looked_up.len(), 3);
    let deleted: Vec<_> = soon(input().try_delete_from_with(&client, &options).collect()).await;
    assert_eq!(deleted.iter().filter(|result| result.is_ok()).count(), 2);
}

/// It stays on its error for ever, as some streams do that are no iterators.
struct Broken;

impl Stream for Broken {
    type Item = Result<Record, Unread>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Err(Unread(0))))
    }
}

#[tokio::test]
async fn a_question_mark_stops_at_the_error_of_the_input() {
    let store = Store::new();
    let client = store.client();
    async fn import(client: &Client) -> Result<Vec<u64>, Unread> {
        let input = stream::iter([Ok(nameless(0)), Ok(record(1))]).chain(Broken);
        let mut results = input.try_push_to(client);
        let mut failed = Vec::new();
        while let Some(result) = results.next().await {
            if let Err(error) = result {
                failed.push(error.into_failed()?.index);
                assert_eq!(failed, [0]);
            }
        }
        Ok(failed)
    }
    assert_eq!(soon(import(&client)).await, Err(Unread(0)));
    assert_eq!(store.len(), 1);

    let options = Options::new().stop_on_error(true);
    let mut results = rows(10).try_push_to_with(&client, &options);
    assert!(soon(results.next()).await.unwrap().is_ok());
    assert!(soon(results.next()).await.unwrap().is_ok());
    let error = soon(results.next()).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "input for push of item 2: row 2 cannot be read"
    );
    assert!(soon(results.next()).await.is_none());
    let left = results.into_remainder();
    let rest = left.unread.len() + left.unsent.len() + left.unanswered.len();
    assert_eq!(rest as u64, left.next_index - 3);
}

#[tokio::test]
async fn a_later_run_resumes_at_the_first_error_of_the_input_unless_told_to_pass() {
    let store = Store::new();
    let client = store.client();
    let mut results = rows(100).try_push_to(&client);
    while soon(results.next()).await.is_some() {}
    assert_eq!(results.stats().answered_below, 2);
    let options = Options::new().resume_past_input_errors(true);
    let mut results = rows(100).try_push_to_with(&client, &options);
    while soon(results.next()).await.is_some() {}
    assert_eq!(results.stats().answered_below, 100);
}

#[tokio::test]
async fn the_failures_of_each_stage_come_out_at_the_end_and_name_it() {
    let (from, cids) = store_with(10);
    // The other directory refuses some, and a third one has lost some meanwhile.
    let to = Store::builder()
        .validate(|record| match number_of(record) {
            4 => agntcy_dir_stream::server::Validation::Refuse(vec!["not here".to_owned()]),
            _ => agntcy_dir_stream::server::Validation::Pass,
        })
        .build();
    let missing = cid(&record(77));
    let refs = cids.iter().copied().chain([missing]).zip(0..);
    let (first, second) = (from.client(), to.client());

    let pulled = stream::iter(refs).pull_from(&first);
    let pushed = pulled.try_push_to(&second);
    let looked_up = pushed.try_lookup_in(&second);
    let results: Vec<_> = soon(looked_up.collect()).await;

    assert_eq!(results.len(), 11);
    for (number, result) in results.iter().enumerate() {
        match result {
            Ok(found) => assert_eq!((found.tag, found.cid), (number, cids[number])),
            // The type says which stage it was.
            Err(TryFailed::Input(error)) => match &error.error {
                TryFailed::Item(failed) => {
                    let failed: &Failed<Record, usize> = failed;
                    assert_eq!((number, failed.tag, number_of(&failed.input)), (4, 4, 4));
                }
                TryFailed::Input(error) => {
                    let failed: &Failed<Cid, usize> = &error.error;
                    assert_eq!((number, failed.tag, failed.input), (10, 10, missing));
                    assert_eq!(failed.operation, "pull");
                }
            },
            Err(TryFailed::Item(failed)) => panic!("{failed}"),
        }
    }
    let words = results[10].as_ref().unwrap_err().to_string();
    let stages =
        "input for lookup of item 10: input for push of item 10: pull of item 10: not found";
    assert!(words.starts_with(stages), "{words}");
    assert_eq!(to.len(), 9);
}

#[tokio::test]
async fn the_window_of_each_stage_bounds_what_is_taken() {
    let (from, cids) = store_with(200);
    let to = Store::new();
    let options = Options::new().window(4);
    let (first, second) = (from.client(), to.client());
    let taken = std::cell::Cell::new(0);
    let refs = stream::iter(&cids).inspect(|_| taken.set(taken.get() + 1));
    let pulled = refs.pull_from_with(&first, &options);
    let mut results = pulled.try_push_to_with(&second, &options);
    for handed_out in 1..=200 {
        assert!(soon(results.next()).await.unwrap().is_ok());
        assert!(
            taken.get() <= handed_out + 8,
            "{} of {handed_out}",
            taken.get()
        );
    }
}

#[tokio::test]
async fn what_a_check_refuses_fails_alone_in_its_place_and_is_not_sent() {
    let store = Store::new();
    let policy = |record: &Record| match number_of(record) % 4 {
        1 => Err(Unread(number_of(record))),
        _ => Ok(()),
    };
    let records = stream::iter((0..40).map(|number| (record(number), number)));
    let checked = records.map(|item| item.precheck(Record::check_required).precheck(policy));
    let results: Vec<_> = soon(checked.push_to(&store.client()).collect()).await;
    for (number, result) in results.iter().enumerate() {
        match result {
            Ok(pushed) => assert_eq!((pushed.tag, number % 4 != 1), (number, true)),
            Err(failed) => {
                assert_eq!(
                    (failed.index, failed.tag, number % 4),
                    (number as u64, number, 1)
                );
                assert_eq!((failed.kind(), failed.attempts), (ErrorKind::Invalid, 0));
                assert_eq!(number_of(&failed.input), number);
                assert_eq!(
                    failed.error.to_string(),
                    format!("invalid: row {number} cannot be read")
                );
                let cause = failed.error.source().unwrap();
                assert_eq!(cause.downcast_ref::<Unread>(), Some(&Unread(number)));
            }
        }
    }
    assert_eq!(store.len(), 30);
    assert_eq!(calls_of(&store, Method::Push).len(), 1);
}

#[tokio::test]
async fn a_check_that_waits_keeps_the_order() {
    let store = Store::new();
    let checked = stream::iter(0..20).map(async |number| {
        // The first take longest.
        for _ in 0..20 - number {
            tokio::task::yield_now().await;
        }
        record(number).prechecked(match number % 5 {
            0 => Err("policy"),
            _ => Ok(()),
        })
    });
    let results: Vec<_> = soon(checked.buffered(8).push_to(&store.client()).collect()).await;
    for (number, result) in results.iter().enumerate() {
        assert_eq!(result.is_err(), number % 5 == 0);
    }
    assert_eq!(store.len(), 16);
}

#[test]
fn what_dir_does_without_by_no_means_is_checked_by_a_check_that_is_there() {
    let check = |text: &str| {
        text.parse::<Record>()
            .unwrap()
            .check_required()
            .map_err(|error| error.to_string())
    };
    assert_eq!(check(r#"{"name": "a", "schema_version": "1.0.0"}"#), Ok(()));
    let no_version = Err("invalid: the record has no schema_version".to_owned());
    assert_eq!(check(r#"{"name": "a", "schema_version": ""}"#), no_version);
    assert_eq!(check(r#"{"name": "a", "schema_version": 1}"#), no_version);
    let no_name = Err("invalid: the record has no name".to_owned());
    assert_eq!(check(r#"{"schema_version": "1.0.0"}"#), no_name);
}

#[tokio::test]
async fn a_record_that_the_caller_knows_to_be_stored_is_a_success_that_is_not_sent() {
    let store = Store::new();
    let stored: HashSet<Cid> = (0..50).map(|number| cid(&record(number))).collect();
    let records = stream::iter((0..100).map(|number| (record(number), number)));
    let records = records.map(|item| item.skip_if(|cid| stored.contains(cid)));
    let mut results = records.push_to(&store.client());
    for number in 0..100 {
        let pushed = soon(results.next()).await.unwrap().unwrap();
        assert_eq!((pushed.tag, pushed.already_stored), (number, number < 50));
        assert_eq!(pushed.cid, cid(&record(number)));
    }
    assert_eq!(results.stats().sent, 50);
    assert_eq!(store.len(), 50);
    // What has no CID gets its error, and what a check has refused stays refused.
    let bad = stream::iter([
        Record::default().skip_if(|_| true),
        record(0).precheck(|_| Err("no")).skip_if(|_| true),
        record(0).skip_if(|_| true).precheck(|_| Err("not asked")),
    ]);
    let results: Vec<_> = soon(bad.push_to(&store.client()).collect()).await;
    let kinds: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().map_err(Failed::kind).err())
        .collect();
    assert_eq!(
        kinds,
        [Some(ErrorKind::Invalid), Some(ErrorKind::Invalid), None]
    );
}

#[test]
fn an_error_of_several_items_can_be_had_twice() {
    let error = Error::invalid("no").with_source(Unread(1));
    let same = error.clone();
    assert_eq!(
        same.source().unwrap().downcast_ref::<Unread>(),
        Some(&Unread(1))
    );
}

#[tokio::test]
async fn with_a_checkpoint_the_next_run_has_what_could_not_be_read_again() {
    let folder = Folder::new("fallible");
    let path = folder.path("a.checkpoint");
    let store = Store::new();
    let client = store.client();
    let run = async |broken: usize, options: &Options| {
        let checkpoint = Checkpoint::open(&path, "ten rows").unwrap();
        let rows = (0..10).map(|number| match number == broken {
            true => Err(Unread(number)),
            false => Ok(record(number)),
        });
        let results = stream::iter(rows).try_push_to_with(&client, options);
        let results = results.resume_from(&checkpoint);
        let indexes: Vec<_> = soon(
            results
                .map(|result| result.map_or_else(|error| error.index(), |pushed| pushed.index))
                .collect(),
        )
        .await;
        (indexes, checkpoint.done())
    };
    let options = Options::new();
    assert_eq!(run(5, &options).await, ((0..10).collect(), 5));
    // What was read behind it is read again.
    assert_eq!(run(7, &options).await, ((5..10).collect(), 7));
    let past = options.resume_past_input_errors(true);
    assert_eq!(run(8, &past).await, ((7..10).collect(), 10));
    assert_eq!(store.len(), 10);
}
