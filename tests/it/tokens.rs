//! Bearer tokens: that each call shows one, and what becomes of records when it is refused or is not to be had.

use std::collections::HashSet;
use std::future::{pending, ready};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{End, Fault, Method, Store};
use agntcy_dir_stream::{Code, ErrorKind, Retry, Summary, Token};
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::sync::Notify;
#[cfg(unix)]
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

#[cfg(unix)]
use crate::support::blocking::{make_pipe, with_blocking_threads};
use crate::support::clock::{SECOND, in_a_week, on_paused_clock, runtime, soon};
use crate::support::folder::Folder;
use crate::support::polling::assert_pending;
use crate::support::records::{record, records};
use crate::support::results::causes;
use crate::support::stores::{calls_of, ended_calls};

/// An issuer of tokens that live so long, and a store that accepts them until then.
#[derive(Clone)]
struct Issuer {
    life: Duration,
    asked: Arc<AtomicUsize>,
    issued: Arc<Mutex<Vec<Instant>>>,
}

impl Issuer {
    fn new(life: Duration) -> Self {
        Self {
            life,
            asked: Arc::default(),
            issued: Arc::default(),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn issue(&self) -> String {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut issued = self.issued.lock().unwrap();
        issued.push(Instant::now());
        format!("token-{}", issued.len() - 1)
    }

    fn accepts(&self, token: &str) -> bool {
        let number = token.strip_prefix("token-").and_then(|n| n.parse().ok());
        let issued = self.issued.lock().unwrap();
        let at = number.and_then(|number: usize| issued.get(number));
        at.is_some_and(|at| at.elapsed() < self.life)
    }

    /// No token that it has issued is accepted any more.
    fn revoke(&self) {
        let long_ago = Instant::now() - self.life;
        self.issued.lock().unwrap().fill(long_ago);
    }

    fn store(&self) -> Store {
        let issuer = self.clone();
        Store::builder()
            .authorize(move |token| issuer.accepts(token))
            .build()
    }

    fn token(&self) -> Token {
        let issuer = self.clone();
        Token::from_fn(move || {
            let token = issuer.issue();
            async move { Ok::<_, std::io::Error>(token) }
        })
    }
}

fn client(store: &Store, token: Token) -> Client {
    store.client().with_token(token).unwrap()
}

/// A record each second.
fn slow(count: usize) -> impl Stream<Item = Record> + Unpin + Send {
    records(count)
        .then(|record| sleep(SECOND).map(|()| record))
        .boxed()
}

fn refused(store: &Store) -> usize {
    let is_refused = |end| end == Some(End::Status(Code::Unauthenticated));
    store
        .calls()
        .iter()
        .filter(|call| is_refused(call.end))
        .count()
}

#[track_caller]
fn assert_all_succeeded(summary: &Summary, count: u64) {
    assert_eq!(summary.stats.succeeded, count, "{summary}");
    assert_eq!(summary.stats.failed, 0, "{summary}");
    assert_eq!(summary.stats.faults, 0, "{summary}");
}

const FIVE_MINUTES: Duration = Duration::from_secs(300);

#[test]
fn an_import_of_ten_minutes_over_tokens_of_five_loses_nothing() {
    on_paused_clock(async {
        let issuer = Issuer::new(FIVE_MINUTES);
        let store = issuer.store();
        let client = client(&store, issuer.token());
        let options = Options::new().max_call_age(Some(Duration::from_secs(20)));
        let summary = in_a_week(slow(600).push_to_with(&client, &options).finish()).await;
        assert_all_succeeded(&summary, 600);
        assert_eq!(store.len(), 600);
        // One for the beginning, and one each time that one was refused.
        assert_eq!((issuer.asked(), refused(&store)), (2, 1));
        assert!(calls_of(&store, Method::Push).len() > 25);
    });
}

#[test]
fn with_refresh_after_no_call_is_refused() {
    on_paused_clock(async {
        let issuer = Issuer::new(FIVE_MINUTES);
        let store = issuer.store();
        let client = client(
            &store,
            issuer.token().refresh_after(Duration::from_secs(240)),
        );
        let options = Options::new().max_call_age(Some(Duration::from_secs(20)));
        let summary = in_a_week(slow(600).push_to_with(&client, &options).finish()).await;
        assert_all_succeeded(&summary, 600);
        assert_eq!((issuer.asked(), refused(&store)), (3, 0));
    });
}

#[test]
fn four_calls_whose_token_is_refused_ask_for_one() {
    on_paused_clock(async {
        let issuer = Issuer::new(FIVE_MINUTES);
        let store = issuer.store();
        store.inject(Fault::delay(Duration::from_millis(20)).times(u64::MAX));
        let client = client(&store, issuer.token());
        let age = Some(Duration::from_millis(200));
        let options = Options::new().calls(4).window(64).max_call_age(age);
        let mut results = records(2_000).push_to_with(&client, &options);
        for tokens in 1..=4 {
            assert_eq!(issuer.asked(), tokens - 1);
            for _ in 0..400 {
                in_a_week(results.next()).await.unwrap().unwrap();
            }
            // The calls that run go on. Those that take their place are refused.
            assert_eq!(issuer.asked(), tokens);
            issuer.revoke();
        }
        assert_all_succeeded(&in_a_week(results.finish()).await, 2_000);
        assert_eq!((store.len(), issuer.asked()), (2_000, 5));
        // Now all of them are opened with a token that is refused.
        issuer.revoke();
        let before = refused(&store);
        let again = (0..400).map(|number| record(number + 2_000));
        let summary = in_a_week(stream::iter(again).push_to_with(&client, &options).finish()).await;
        assert_all_succeeded(&summary, 400);
        assert_eq!(issuer.asked(), 6);
        assert!((1..=4).contains(&(refused(&store) - before)));
    });
}

/// What a refused call carried counts as no attempt, and waits for nothing.
#[test]
fn a_refused_token_costs_neither_attempts_nor_time() {
    on_paused_clock(async {
        let issuer = Issuer::new(FIVE_MINUTES);
        let store = issuer.store();
        let client = client(&store, issuer.token());
        for retry in [Retry::new().max_attempts(1), Retry::off()] {
            in_a_week(client.lookup(record(0).cid().unwrap()))
                .await
                .unwrap_err();
            sleep(2 * SECOND).await;
            issuer.revoke();
            let start = Instant::now();
            let options = Options::new().retry(retry);
            let summary = in_a_week(records(100).push_to_with(&client, &options).finish()).await;
            assert_all_succeeded(&summary, 100);
            assert_eq!(start.elapsed(), Duration::ZERO);
            store.clear();
        }
        assert_eq!(refused(&store), 2);
    });
}

#[test]
fn a_delete_whose_token_is_refused_is_made_with_the_next() {
    on_paused_clock(async {
        let issuer = Issuer::new(FIVE_MINUTES);
        let store = issuer.store();
        let client = client(&store, issuer.token());
        let cids: Vec<_> = (0..100)
            .map(|number| store.insert(record(number)).unwrap())
            .collect();
        in_a_week(client.lookup(cids[0])).await.unwrap();
        issuer.revoke();
        let summary = in_a_week(stream::iter(cids).delete_from(&client).finish()).await;
        assert_all_succeeded(&summary, 100);
        assert_eq!((store.len(), issuer.asked(), refused(&store)), (0, 2, 1));
    });
}

/// The lookup of a lost push is a call as others are.
#[test]
fn lost_pushes_are_looked_up_with_a_fresh_token() {
    on_paused_clock(async {
        let issuer = Issuer::new(FIVE_MINUTES);
        let store = issuer.store();
        let client = client(&store, issuer.token());
        let mut results = slow(20).push_to(&client);
        for _ in 0..5 {
            in_a_week(results.next()).await.unwrap().unwrap();
        }
        issuer.revoke();
        store.inject(Fault::cut_after());
        let results: Vec<_> = in_a_week(results.collect()).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        let found = results
            .iter()
            .flatten()
            .filter(|pushed| pushed.already_stored)
            .count();
        assert_eq!(found, 1);
        let lookups = calls_of(&store, Method::Lookup);
        let ends: Vec<_> = lookups.iter().map(|call| call.end.unwrap()).collect();
        assert_eq!(ends, [End::Status(Code::Unauthenticated), End::Ok]);
        assert_eq!(issuer.asked(), 2);
    });
}

#[test]
fn a_second_token_that_is_refused_ends_the_adapter_and_the_next_adapter_asks_anew() {
    on_paused_clock(async {
        let issuer = Issuer::new(Duration::ZERO);
        let store = issuer.store();
        let client = client(&store, issuer.token());
        for round in 1..=3 {
            let options = Options::new().calls(4);
            let results = records(1_000).push_to_with(&client, &options);
            let results: Vec<_> = in_a_week(results.collect()).await;
            assert_eq!(results.len(), 1_000);
            for result in results {
                let failed = result.unwrap_err();
                assert_eq!(failed.kind(), ErrorKind::Denied);
                assert_eq!(
                    failed.error.to_string(),
                    "access denied: invalid or expired token"
                );
            }
            // The first asks once more. What comes then was asked for because another was refused.
            assert_eq!(issuer.asked(), 1 + round);
        }
        assert!(store.is_empty());
    });
}

/// As where the issuer was out of order for a while: a client that lives on must not keep the bad token.
#[test]
fn a_client_that_was_denied_works_again_with_the_next_good_token() {
    on_paused_clock(async {
        let issuer = Issuer::new(FIVE_MINUTES);
        let good = Arc::new(AtomicBool::new(false));
        let token = {
            let (issuer, good) = (issuer.clone(), Arc::clone(&good));
            Token::from_fn(move || {
                let token = match good.load(Ordering::Relaxed) {
                    true => issuer.issue(),
                    false => "garbage".to_owned(),
                };
                ready(Ok::<_, std::io::Error>(token))
            })
        };
        let client = client(&issuer.store(), token);
        let failed = in_a_week(client.push(record(0))).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Denied);
        good.store(true, Ordering::Relaxed);
        in_a_week(client.push(record(0))).await.unwrap();
    });
}

#[test]
fn a_value_that_is_refused_is_not_asked_for_again() {
    on_paused_clock(async {
        let store = Store::builder().authorize(|token| token == "right").build();
        let wrong = client(&store, Token::new("wrong"));
        let summary = in_a_week(records(100).push_to(&wrong).finish()).await;
        assert_eq!(summary.stats.failed_as(ErrorKind::Denied), 100);
        assert_eq!(store.calls().len(), 1);
        let right = client(&store, Token::new(" right\n"));
        assert_all_succeeded(&in_a_week(records(100).push_to(&right).finish()).await, 100);
        let none = store.client();
        let failed = in_a_week(none.push(record(0))).await.unwrap_err();
        let words = "access denied: failed to extract token: missing authorization header";
        assert_eq!(failed.error.to_string(), words);
    });
}

#[test]
fn a_file_is_read_for_each_call_and_may_be_replaced_at_any_time() {
    on_paused_clock(async {
        let folder = Folder::new("token-file");
        let file = folder.path("token");
        let accepted = Arc::new(Mutex::new(HashSet::from(["one".to_owned()])));
        let store = {
            let accepted = Arc::clone(&accepted);
            let accepts = move |token: &str| accepted.lock().unwrap().contains(token);
            Store::builder().authorize(accepts).build()
        };
        std::fs::write(&file, "one\n").unwrap();
        let client = client(&store, Token::file(&file));
        in_a_week(client.push(record(0))).await.unwrap();
        // Both are good for a while.
        accepted.lock().unwrap().insert("two".to_owned());
        std::fs::write(&file, "two\n").unwrap();
        in_a_week(client.push(record(1))).await.unwrap();
        accepted.lock().unwrap().remove("one");
        in_a_week(client.push(record(2))).await.unwrap();
        assert_eq!(refused(&store), 0, "the file was read for each call");
        // The file has one that is refused, and is not replaced: it is tried once more.
        accepted.lock().unwrap().clear();
        let failed = in_a_week(client.push(record(3))).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Denied);
        assert_eq!(refused(&store), 2);
        accepted.lock().unwrap().insert("two".to_owned());
        in_a_week(client.push(record(3))).await.unwrap();
    });
}

/// As on a file server that is away. A pipe hangs until somebody writes to it.
#[cfg(unix)]
#[test]
fn a_file_that_hangs_holds_one_thread_and_what_it_has_then_is_for_those_who_wait_by_then() {
    let folder = Folder::new("token-file-hangs");
    let pipe = folder.path("token");
    make_pipe(&pipe);
    let client = client(&Store::new(), Token::file(&pipe));
    let summary = with_blocking_threads(2, async {
        for _ in 0..5 {
            let mut given_up = records(1).push_to(&client);
            assert_pending(&mut given_up);
        }
        let mut results = records(1).push_to(&client);
        assert_pending(&mut results);
        // There is a thread for this as long as one alone hangs.
        let writing = spawn_blocking(move || std::fs::write(pipe, "token"));
        soon(writing).await.unwrap().unwrap();
        soon(results.finish()).await
    });
    assert_all_succeeded(&summary, 1);
}

/// The server has the next token already, and who writes the file has not.
#[test]
fn a_file_that_is_written_a_little_late_is_waited_for() {
    on_paused_clock(async {
        let folder = Folder::new("token-late");
        let file = folder.write("token", "one");
        let accepted = Arc::new(Mutex::new("one"));
        let store = {
            let accepted = Arc::clone(&accepted);
            Store::builder()
                .authorize(move |token| token == *accepted.lock().unwrap())
                .build()
        };
        let client = client(&store, Token::file(&file));
        let options = Options::new().calls(2).max_call_age(Some(3 * SECOND));
        let mut results = slow(60).push_to_with(&client, &options);
        for _ in 0..20 {
            in_a_week(results.next()).await.unwrap().unwrap();
        }
        *accepted.lock().unwrap() = "two";
        let late = tokio::spawn(async move {
            sleep(5 * SECOND).await;
            std::fs::write(file, "two").unwrap();
        });
        assert_all_succeeded(&in_a_week(results.finish()).await, 60);
        late.await.unwrap();
        assert!((1..=2).contains(&refused(&store)));
    });
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_reason_and_never_shown() {
    on_paused_clock(async {
        let folder = Folder::new("token-bad-file");
        let store = Store::new();
        let cases: [(&str, Option<&[u8]>, &str); 6] = [
            ("missing", None, "No such file"),
            ("empty", Some(b" \n"), "it is empty"),
            ("two-lines", Some(b"SECRET\nmore"), "it has white space"),
            (
                "control",
                Some(b"SECRET\x01"),
                "characters that no token can have",
            ),
            ("binary", Some(b"SECRET\xff"), "valid UTF-8"),
            ("long", Some(&[b'S'; 100_000]), "longer than 65536 bytes"),
        ];
        for (name, content, why) in cases {
            let path = folder.path(name);
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let client = client(&store, Token::file(&path));
            let options = Options::new().retry(Retry::new().timeout(SECOND));
            let mut results = records(1).push_to_with(&client, &options);
            let failed = in_a_week(results.next()).await.unwrap().unwrap_err();
            assert_eq!((failed.kind(), failed.attempts), (ErrorKind::NotSent, 0));
            let words = failed.error.to_string();
            let place = format!("no token from the file `{}`", path.display());
            assert!(words.contains(&place) && words.contains(why), "{words}");
            let fault = results.handle().last_fault().unwrap();
            assert!(fault.starts_with(&place) && fault.contains(why), "{fault}");
            let all = format!("{words}{:?}{fault}", failed.error);
            assert!(!all.contains("SECRET") && !all.contains("SSS"), "{all}");
        }
    });
}

#[derive(Debug)]
struct Down;

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the issuer is down")
    }
}

impl std::error::Error for Down {}

#[test]
fn a_source_that_fails_for_a_while_is_waited_for() {
    on_paused_clock(async {
        let issuer = Issuer::new(FIVE_MINUTES);
        let store = issuer.store();
        let tries = Arc::new(AtomicUsize::new(0));
        let token = {
            let (issuer, tries) = (issuer.clone(), Arc::clone(&tries));
            Token::from_fn(move || {
                let is_down = tries.fetch_add(1, Ordering::Relaxed) < 5;
                ready(if is_down {
                    Err(Down)
                } else {
                    Ok(issuer.issue())
                })
            })
        };
        let client = client(&store, token);
        let mut results = records(100).push_to(&client);
        let first = in_a_week(results.next()).await.unwrap();
        assert!(first.is_ok());
        let fault = results.handle().last_fault().unwrap();
        assert_eq!(
            fault,
            "no token from the function that was given: the issuer is down"
        );
        let summary = in_a_week(results.finish()).await;
        assert_eq!(summary.stats.succeeded, 100, "{summary}");
        assert_eq!(tries.load(Ordering::Relaxed), 6);
        assert_eq!(refused(&store), 0);
    });
}

#[test]
fn a_source_that_fails_for_good_is_the_cause_of_each_items_error() {
    on_paused_clock(async {
        let client = client(&Store::new(), Token::from_fn(|| ready(Err(Down))));
        let results: Vec<_> = in_a_week(records(10).push_to(&client).collect()).await;
        for result in results {
            let failed = result.unwrap_err();
            assert_eq!(
                (failed.kind(), failed.attempts),
                (ErrorKind::CircuitOpen, 0)
            );
            let words = failed.error.to_string();
            let why = "no token from the function that was given: the issuer is down";
            assert!(words.ends_with(why), "{words}");
            assert!(causes(&failed.error).any(|cause| cause.is::<Down>()));
        }
    });
}

#[test]
fn a_source_that_fails_to_refresh_changes_nothing_while_the_last_token_is_accepted() {
    on_paused_clock(async {
        let issuer = Issuer::new(FIVE_MINUTES);
        let store = issuer.store();
        let down = Arc::new(AtomicBool::new(false));
        let token = {
            let (issuer, down) = (issuer.clone(), Arc::clone(&down));
            Token::from_fn(move || {
                let is_down = down.load(Ordering::Relaxed);
                ready(if is_down {
                    Err(Down)
                } else {
                    Ok(issuer.issue())
                })
            })
        };
        let client = client(&store, token.refresh_after(60 * SECOND));
        in_a_week(client.push(record(0))).await.unwrap();
        down.store(true, Ordering::Relaxed);
        // Until the server refuses it.
        for minute in 1..5 {
            sleep(60 * SECOND).await;
            in_a_week(client.push(record(minute))).await.unwrap();
        }
        assert_eq!((issuer.asked(), refused(&store)), (1, 0));
        sleep(60 * SECOND).await;
        let pushing = tokio::spawn({
            let client = client.clone();
            async move { client.push(record(5)).await }
        });
        sleep(10 * SECOND).await;
        down.store(false, Ordering::Relaxed);
        in_a_week(pushing).await.unwrap().unwrap();
        assert_eq!((issuer.asked(), refused(&store)), (2, 1));
    });
}

#[test]
fn a_slow_source_holds_up_no_call_that_runs_and_says_what_is_waited_for() {
    on_paused_clock(async {
        let asked = Arc::new(AtomicUsize::new(0));
        let token = {
            let asked = Arc::clone(&asked);
            let token = Token::from_fn(move || {
                let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
                async move {
                    if !is_first {
                        pending::<()>().await;
                    }
                    Ok::<_, Down>("token".to_owned())
                }
            });
            token.refresh_after(10 * SECOND)
        };
        let store = Store::builder().authorize(|token| token == "token").build();
        let client = client(&store, token);
        // The first call grows old, and there is no token for the next. So the first goes on.
        let options = Options::new()
            .calls(2)
            .stall_after(None)
            .retry(Retry::new().timeout(FIVE_MINUTES));
        let mut results = slow(60).push_to_with(&client, &options);
        for _ in 0..60 {
            in_a_week(results.next()).await.unwrap().unwrap();
        }
        let failed = in_a_week(client.push(record(0)));
        let failed = tokio::time::timeout(4 * FIVE_MINUTES, failed)
            .await
            .unwrap()
            .unwrap_err();
        let words = failed.error.to_string();
        assert!(
            words.contains("no token from the function that was given within"),
            "{words}"
        );
        assert!(asked.load(Ordering::Relaxed) >= 2);
    });
}

/// Sets a flag when it is dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn adapters_that_wait_share_one_question_which_ends_with_the_last_of_them() {
    on_paused_clock(async {
        let asked = Arc::new(AtomicUsize::new(0));
        let dropped = Arc::new(AtomicBool::new(false));
        let token = {
            let (asked, dropped) = (Arc::clone(&asked), Arc::clone(&dropped));
            Token::from_fn(move || {
                asked.fetch_add(1, Ordering::Relaxed);
                let flag = Flag(Arc::clone(&dropped));
                async move {
                    let _flag = flag;
                    pending::<Result<String, Down>>().await
                }
            })
        };
        let client = client(&Store::new(), token);
        let mut adapters: Vec<_> = (0..3).map(|_| records(5).push_to(&client)).collect();
        adapters.iter_mut().for_each(assert_pending);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        adapters.truncate(1);
        assert!(!dropped.load(Ordering::Relaxed), "one still waits");
        drop(adapters);
        assert!(dropped.load(Ordering::Relaxed));
    });
}

/// The one that asks may be polled no more, as when its consumer has paused.
#[test]
fn a_paused_adapter_keeps_no_other_from_its_token() {
    on_paused_clock(async {
        let go = Arc::new(Notify::new());
        let token = {
            let go = Arc::clone(&go);
            Token::from_fn(move || {
                let go = Arc::clone(&go);
                async move {
                    go.notified().await;
                    Ok::<_, Down>("token".to_owned())
                }
            })
        };
        let client = client(&Store::new(), token);
        let mut paused = records(5).push_to(&client);
        assert_pending(&mut paused);
        let mut other = records(5).push_to(&client);
        assert_pending(&mut other);
        go.notify_one();
        assert_all_succeeded(&in_a_week(other.finish()).await, 5);
        drop(paused);
    });
}

/// An adapter that is not polled waits for the same answer, and keeps hold of it.
#[test]
fn a_source_that_has_panicked_is_asked_again() {
    on_paused_clock(async {
        let asked = Arc::new(AtomicUsize::new(0));
        let token = {
            let asked = Arc::clone(&asked);
            Token::from_fn(move || {
                let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
                async move {
                    sleep(SECOND).await;
                    assert!(!is_first, "this is meant to panic");
                    Ok::<_, Down>("token".to_owned())
                }
            })
        };
        let client = client(&Store::new(), token);
        let push = || {
            let client = client.clone();
            tokio::spawn(async move { in_a_week(records(5).push_to(&client).finish()).await })
        };
        let mut paused = records(5).push_to(&client);
        assert_pending(&mut paused);
        assert!(push().await.unwrap_err().is_panic(), "it has waited");
        assert_all_succeeded(&push().await.unwrap(), 5);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        drop(paused);
    });
}

/// A runtime on one thread works only while something is awaited in it.
#[test]
fn a_question_in_a_runtime_that_rests_or_has_ended_keeps_no_other_waiting() {
    let asked = Arc::new(AtomicUsize::new(0));
    let token = {
        let asked = Arc::clone(&asked);
        Token::from_fn(move || {
            let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if is_first {
                    sleep(Duration::from_millis(1)).await;
                    pending::<()>().await;
                }
                Ok::<_, Down>("token".to_owned())
            }
        })
    };
    let client = client(&Store::new(), token);
    let [one, other] = [runtime(), runtime()];
    let mut waits = records(5).push_to(&client);
    one.block_on(async { assert_pending(&mut waits) });
    let works = || async { soon(records(5).push_to(&client).finish()).await };
    assert_all_succeeded(&other.block_on(works()), 5);
    drop(one);
    assert_eq!(other.block_on(works()).stats.failed, 0);
}

#[tokio::test]
async fn a_token_goes_out_without_tls_only_if_that_is_allowed_by_name() {
    let store = Store::builder()
        .authorize(|token| token == "SECRET")
        .build();
    let serving = store.listen("127.0.0.1:0").await.unwrap();
    let url = serving.url();
    let words = "a token is not sent without TLS";
    for error in [
        soon(Client::builder(&url).token(Token::new("SECRET")).connect())
            .await
            .unwrap_err(),
        Client::builder(&url)
            .token(Token::new("SECRET"))
            .connect_lazy()
            .unwrap_err(),
        Client::connect_lazy(&url)
            .unwrap()
            .with_token(Token::new("SECRET"))
            .unwrap_err(),
        store
            .client()
            .with_nodes_of(Client::connect_lazy(&url).unwrap())
            .with_token(Token::new("SECRET"))
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.to_string().contains("SECRET"), "{error}");
    }
    let allowed = Client::builder(&url)
        .token_without_tls(Token::new("SECRET"))
        .connections(2);
    let client = soon(allowed.connect()).await.unwrap();
    let options = Options::new().calls(4);
    assert_all_succeeded(
        &soon(records(100).push_to_with(&client, &options).finish()).await,
        100,
    );
    for call in soon(ended_calls(&store)).await {
        assert_eq!(call.end, Some(End::Ok));
    }
}

#[tokio::test]
async fn connecting_asks_for_a_token_and_says_at_once_that_there_is_none() {
    let serving = Store::new().listen("127.0.0.1:0").await.unwrap();
    let token = Token::from_fn(|| ready(Err::<String, _>(Down)));
    let connecting = Client::builder(serving.url())
        .token_without_tls(token)
        .connect();
    let error = soon(connecting).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(
        format!("{:#}", anyhow::Error::from(error)),
        "access denied: no token from the function that was given: the issuer is down"
    );
}

#[test]
fn a_token_shows_in_no_debug() {
    let folder = "/var/run/token";
    let with = Client::builder("https://user:SECRET@host")
        .header("x-key", "SECRET")
        .token(Token::new("SECRET"));
    let shown = format!(
        "{:?} {:#?} {:?} {with:?} {with:#?} {:?}",
        Token::new("SECRET"),
        Token::new("SECRET"),
        Token::file(folder),
        Store::new()
            .client()
            .with_token(Token::new("SECRET"))
            .unwrap(),
    );
    assert!(!shown.contains("SECRET"), "{shown}");
    assert!(shown.contains(folder) && shown.contains("x-key"), "{shown}");
}

/// A network that holds a call back may hold it for longer than its token lives, even one that has just come because
/// another was refused.
#[tokio::test(start_paused = true)]
async fn a_token_that_expires_on_its_way_is_renewed() {
    let issuer = Issuer::new(2 * SECOND);
    let store = issuer.store();
    let client = client(&store, issuer.token());
    in_a_week(client.push(record(0))).await.unwrap();
    sleep(10 * SECOND).await;
    // The call behind the one that is refused for an old token.
    store.inject(Fault::late_call(3 * SECOND).on(Method::Push).in_call(2));
    let began = Instant::now();
    in_a_week(client.push(record(1))).await.unwrap();
    assert!(began.elapsed() >= 3 * SECOND, "{:?}", began.elapsed());
    assert_eq!(issuer.asked(), 3);
    assert_eq!(store.pending_faults().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_known_is_denied_however_late_the_server_says_so() {
    for late in [Duration::ZERO, 3 * SECOND, 50 * SECOND] {
        let issuer = Issuer::new(Duration::ZERO);
        let store = issuer.store();
        let client = client(&store, issuer.token());
        store.inject(Fault::late_call(late).times(u64::MAX));
        let error = in_a_week(client.push(record(0))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let calls = store.calls().len();
        assert!(calls <= 7, "{calls} calls, each {late:?} late");
    }
}
