//! What the log is told: little while all is well, and at once when it is not.

use std::fmt::Debug;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{Checkpoint, CircuitBreaker, Code, Retry, Status, Token};
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use proptest::prelude::*;
use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::MetadataMap;
use tracing::field::{Field, Visit};
use tracing::instrument::WithSubscriber as _;
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::support::clock::{SECOND, in_a_week, on_paused_clock};
use crate::support::ends::{Ended, ended};
use crate::support::folder::Folder;
use crate::support::log_lines::{interest_all_threads, log};
use crate::support::polling::assert_pending;
use crate::support::properties::cases;
use crate::support::records::{cids, nameless, record, records};
use crate::support::sockets::free_address;

/// What this crate tells the log up to this level, while `what` runs under a paused clock.
fn told<F: Future>(level: Level, what: F) -> Vec<String> {
    told_and_output(level, what).0
}

fn told_and_output<F: Future>(level: Level, what: F) -> (Vec<String>, F::Output) {
    let (subscriber, lines) = log(level);
    let output = on_paused_clock(async { in_a_week(what).with_subscriber(subscriber).await });
    (lines.ours(), output)
}

/// The lines with these words.
fn with_words<'a>(lines: &'a [String], words: &str) -> Vec<&'a String> {
    lines.iter().filter(|line| line.contains(words)).collect()
}

/// The part of a line behind its target, without times that differ.
#[track_caller]
fn assert_line(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn a_healthy_import_says_two_lines_at_info() {
    let lines = told(Level::INFO, async {
        let store = Store::new();
        let records = (0..5_000).map(|number| {
            if number % 500 == 7 {
                nameless(number)
            } else {
                record(number)
            }
        });
        let options = Options::new()
            .calls(4)
            .max_call_age(Some(Duration::from_millis(1)));
        stream::iter(records)
            .push_to_with(&store.client(), &options)
            .finish()
            .await
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert_line(
        &lines[0],
        &[
            "INFO",
            "the stream begins",
            r#"operation="push""#,
            "store.in.memory",
        ],
    );
    assert_line(
        &lines[1],
        &[
            "INFO",
            "the stream is over",
            r#"end="ended""#,
            "4990 ok, 10 failed",
            "elapsed=",
        ],
    );
}

#[test]
fn a_run_that_resumes_says_where_and_warns_of_an_input_that_has_become_shorter() {
    let folder = Folder::new("logs-checkpoint");
    let lines = told(Level::INFO, async {
        let client = Store::new().client();
        let checkpoint = Checkpoint::open(folder.path("a.checkpoint"), "numbers").unwrap();
        for count in [5, 5, 3] {
            let results = records(count).push_to(&client).resume_from(&checkpoint);
            let _ = results.finish().await;
        }
    });
    assert_eq!(lines.len(), 9, "{lines:#?}");
    assert_line(&lines[3], &["INFO", "the stream resumes", "done=5"]);
    let short = [
        "WARN",
        "a.checkpoint",
        "the input is shorter",
        "done=5",
        "items=3",
    ];
    assert_line(&lines[7], &short);
}

#[test]
fn single_operations_say_nothing_at_info() {
    let lines = told(Level::INFO, async {
        let client = Store::new().client();
        client.push(nameless(1)).await.unwrap_err();
        client.push(record(1)).await.unwrap();
    });
    assert_eq!(lines, [""; 0]);
}

/// A record each second.
fn slow(count: usize) -> impl Stream<Item = Record> + Unpin + Send {
    Box::pin(records(count).then(|record| async {
        sleep(SECOND).await;
        record
    }))
}

#[test]
fn an_outage_says_that_it_is_on_and_why_and_not_more_than_once_in_ten_seconds() {
    let lines = told(Level::INFO, async {
        let store = Store::new();
        store.inject(Fault::no_connection().times(14));
        let retry = Retry::new().backoff(Duration::from_millis(100), 2 * SECOND);
        slow(40)
            .push_to_with(&store.client(), &Options::new().retry(retry))
            .finish()
            .await
    });
    let levels: Vec<_> = lines
        .iter()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(levels.first(), Some(&"INFO"), "{lines:#?}");
    let warned = lines.iter().filter(|line| line.contains("WARN")).count();
    assert!((2..=4).contains(&warned), "{lines:#?}");
    assert_line(
        &lines[1],
        &[
            "WARN",
            "calls to the node fail",
            "node=http://store.in.memory",
            "faults=1",
            "next_try_in=",
            "error=",
        ],
    );
    let over = &lines[lines.len() - 2];
    assert_line(
        over,
        &["INFO", "the node answers again", "faults=14", "lasted="],
    );
    assert_line(
        lines.last().unwrap(),
        &["the stream is over", "40 ok, 0 failed"],
    );
}

/// The first fault says that a call broke. Why there is no other comes in the seconds in which nothing more is said.
#[test]
fn an_outage_that_is_over_and_a_stream_that_failed_have_the_last_fault() {
    for (calls, timeout, words) in [
        (4, 60 * SECOND, "the node answers again"),
        (100, 5 * SECOND, "the stream is over"),
    ] {
        let lines = told(Level::INFO, async move {
            let store = Store::new();
            for call in 0..calls {
                let why = if call == 0 { "it broke" } else { "no route" };
                let fails = Fault::status(Status::unavailable(why));
                store.inject(fails.in_call(call));
            }
            let options = Options::new().retry(Retry::new().timeout(timeout));
            records(2)
                .push_to_with(&store.client(), &options)
                .finish()
                .await
        });
        let warned = with_words(&lines, "calls to the node fail");
        assert_eq!(warned.len(), 1, "{lines:#?}");
        assert_line(warned[0], &["error=it broke"]);
        let said = with_words(&lines, "no route");
        assert_eq!(said.len(), 1, "{lines:#?}");
        assert_line(said[0], &[words, "last_fault=no route"]);
    }
}

#[test]
fn an_outage_is_told_of_though_nothing_is_tried_again() {
    let lines = told(Level::WARN, async {
        let store = Store::new();
        store.inject(Fault::no_connection().times(u64::MAX));
        let options = Options::new().retry(Retry::off());
        slow(30)
            .push_to_with(&store.client(), &options)
            .finish()
            .await
    });
    let warned = with_words(&lines, "calls to the node fail");
    assert!((2..=4).contains(&warned.len()), "{lines:#?}");
}

#[test]
fn an_outage_with_long_waits_is_one() {
    let lines = told(Level::INFO, async {
        let store = Store::new();
        store.inject(Fault::no_connection().times(12));
        let retry = Retry::new()
            .backoff(300 * SECOND, 300 * SECOND)
            .timeout(Duration::MAX);
        let client = store.client().with_breaker(CircuitBreaker::off());
        records(3)
            .push_to_with(&client, &Options::new().retry(retry))
            .finish()
            .await
    });
    let over = with_words(&lines, "the node answers again");
    assert_eq!(over.len(), 1, "{lines:#?}");
    assert_line(over[0], &["faults=12"]);
}

/// It hangs at its first call or in the midst of an import, and says nothing more.
#[test]
fn a_server_that_hangs_is_told_of_when_the_first_call_stalls() {
    for answers in [0, 10] {
        let lines = told(Level::WARN, async {
            let store = Store::new();
            store.inject(Fault::stall().in_call(0).at(answers));
            for call in 1..10 {
                store.inject(Fault::stall().in_call(call));
            }
            let input = records(100).then(async |record| {
                sleep(SECOND / 1_000).await;
                record
            });
            // With 64 in flight some items wait, so the adapter is polled, and sees that the last request has left.
            let options = Options::new().in_flight(1, 64);
            let results = input
                .boxed()
                .push_to_with(&store.client(), &options)
                .finish();
            let stalled = Options::DEFAULT_STALL_AFTER + SECOND;
            timeout(stalled, results).await.unwrap_err();
        });
        let warned = with_words(&lines, "calls to the node fail");
        assert_eq!(warned.len(), 1, "{answers}: {lines:#?}");
    }
}

#[test]
fn each_line_of_a_node_says_which_operation_it_is_of() {
    let lines = told(Level::INFO, async {
        let store = Store::new();
        store.inject(Fault::cut().on(Method::Push).times(4));
        store.inject(Fault::cut().on(Method::Pull).times(4));
        let client = store.client();
        let pushed = records(2).push_to(&client).finish();
        futures::future::join(pushed, cids(2).pull_from(&client).finish()).await
    });
    for words in ["calls to the node fail", "the node answers again"] {
        for operation in ["push", "pull"] {
            let of_operation = format!("operation={operation:?}");
            let is_of = |line: &&&String| line.contains(&of_operation);
            let found = with_words(&lines, words);
            let found = found.iter().filter(is_of).count();
            assert_eq!(found, 1, "{words} at a {operation}: {lines:#?}");
        }
    }
}

#[test]
fn the_adapters_of_a_client_tell_of_an_outage_once() {
    let lines = told(Level::INFO, async {
        let client = Client::connect_lazy(format!("http://{}", free_address())).unwrap();
        let options = Options::new().retry(Retry::new().timeout(SECOND));
        let pushes = (0..20).map(|_| records(3).push_to_with(&client, &options).finish());
        futures::future::join_all(pushes).await
    });
    let warned: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("calls to the node fail"))
        .collect();
    assert_eq!(warned.len(), 1, "{lines:#?}");
    assert_line(
        warned[0],
        &["cannot connect to http://127.0.0.1:", "Connection refused"],
    );
}

#[test]
fn an_adapter_that_gives_up_or_is_refused_says_so_once() {
    let lines = told(Level::WARN, async {
        let breaker = CircuitBreaker::new().give_up_after(Some(5 * SECOND));
        let store = Store::new();
        store.inject(Fault::no_connection().times(u64::MAX));
        records(100)
            .push_to(&store.client().with_breaker(breaker))
            .finish()
            .await
    });
    let given_up: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("is given up"))
        .collect();
    assert_eq!(given_up.len(), 1, "{lines:#?}");
    assert_line(given_up[0], &["WARN", "items=1"]);

    let lines = told(Level::WARN, async {
        let store = Store::builder().authorize(|_| false).build();
        let client = store.client().with_token(Token::new("SECRET")).unwrap();
        records(100)
            .push_to_with(&client, &Options::new().calls(4))
            .finish()
            .await
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert_line(&lines[1], &["WARN", "the stream is over", "unanswered=100"]);
    assert_line(
        &lines[0],
        &[
            "WARN",
            "the server refuses the caller",
            "invalid or expired token",
        ],
    );
}

#[test]
fn a_call_is_a_span_that_says_how_it_ended() {
    let lines = told(Level::DEBUG, async {
        let store = Store::new();
        store.inject(Fault::cut_after().at(2));
        records(5)
            .chain(stream::iter([nameless(5)]))
            .push_to(&store.client())
            .finish()
            .await
    });
    let closed = |line: &&String| line.contains("close") && line.contains("dir.call");
    let spans: Vec<_> = lines.iter().filter(closed).collect();
    assert!(spans.len() >= 3, "{lines:#?}");
    assert_line(
        spans[0],
        &[
            r#"method="Push""#,
            "node=",
            "number=1",
            "items=6",
            "answers=2",
            "outcome=",
        ],
    );
    assert!(
        spans.iter().any(|line| line.contains(r#"method="Lookup""#)),
        "{spans:#?}"
    );
    assert!(
        spans
            .iter()
            .any(|line| line.contains("outcome=\"INVALID_ARGUMENT\"")),
        "{spans:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("the call broke") && line.contains("unanswered=4")),
        "{lines:#?}"
    );
}

/// What is answered twice may be the last one that is awaited.
#[test]
fn the_span_of_a_call_that_is_out_of_step_says_so() {
    let lines = told(Level::DEBUG, async {
        let store = Store::new();
        store.inject(Fault::spare_answer());
        slow(2).push_to(&store.client()).finish().await
    });
    let closed = with_words(&lines, ": close");
    assert_eq!(closed.len(), 2, "{lines:#?}");
    assert_line(closed[0], &[r#"outcome="out of step""#]);
}

#[test]
fn nothing_is_said_for_each_record_above_trace() {
    let count = |records: usize| {
        let lines = told(Level::DEBUG, async move {
            // Each record fails by itself, before it is sent.
            let bad = (0..records).map(|_| Record::default());
            stream::iter(bad)
                .push_to(&Store::new().client())
                .finish()
                .await
        });
        lines.len()
    };
    assert_eq!(count(10), count(1_000));
}

/// Whatever a server says, no control character reaches a terminal.
#[test]
fn the_words_of_a_server_are_escaped() {
    let words = "a\nb\u{1b}[31mred\u{202e}";
    let lines = told(Level::DEBUG, async move {
        let store = Store::new();
        store.inject(Fault::status(Status::unavailable(words)).times(u64::MAX));
        let options = Options::new().retry(Retry::new().timeout(SECOND));
        records(1)
            .push_to_with(&store.client(), &options)
            .finish()
            .await
    });
    for told in ["calls to the node fail", "the call broke"] {
        let told = with_words(&lines, told);
        assert!(!told.is_empty(), "{lines:#?}");
        for line in told {
            assert_line(line, &[r"a\nb\u{1b}[31mred\u{202e}"]);
            assert!(!line.contains(r"\\"), "escaped twice: {line}");
        }
    }
    assert!(
        lines
            .iter()
            .flat_map(|line| line.chars())
            .all(|char| !char.is_control()),
        "{lines:#?}"
    );
}

/// As those of a server.
#[test]
fn the_words_of_a_source_of_tokens_are_escaped() {
    let (lines, fault) = told_and_output(Level::DEBUG, async {
        let token = Token::from_fn(async || {
            Err::<String, _>(io::Error::other("a\nb\u{1b}[31mred\u{202e}"))
        });
        let client = Store::new().client().with_token(token).unwrap();
        let options = Options::new().retry(Retry::new().timeout(SECOND));
        let results = records(1).push_to_with(&client, &options);
        let handle = results.handle();
        let _ = results.finish().await;
        handle.last_fault()
    });
    let told = with_words(&lines, r"a\nb\u{1b}[31mred\u{202e}");
    assert!(!told.is_empty(), "{lines:#?}");
    let all = lines.concat() + &fault.unwrap();
    let is_odd = |char: char| char.is_control() || char == '\u{202e}';
    assert!(!all.contains(is_odd), "{all:?}");
}

#[test]
fn a_source_of_tokens_that_fails_is_told_of_though_the_last_one_is_still_shown() {
    let lines = told(Level::INFO, async {
        let number = std::sync::atomic::AtomicUsize::new(0);
        let token = Token::from_fn(move || {
            let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let is_down = (1..5).contains(&number);
            std::future::ready(match is_down {
                true => Err(io::Error::other("the issuer is down")),
                false => Ok("token".to_owned()),
            })
        });
        let client = Store::new()
            .client()
            .with_token(token.refresh_after(SECOND))
            .unwrap();
        let options = Options::new().max_call_age(Some(SECOND));
        slow(60).push_to_with(&client, &options).finish().await
    });
    let warned: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("there is no new token"))
        .collect();
    assert!((2..=4).contains(&warned.len()), "{lines:#?}");
    assert_line(
        warned[0],
        &["WARN", "the function that was given", "the issuer is down"],
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("there are new tokens again")),
        "{lines:#?}"
    );
    assert_line(lines.last().unwrap(), &["INFO", "60 ok, 0 failed"]);
}

/// As one that logs what it refuses, and says so to whom it refuses.
#[test]
fn a_token_that_a_server_repeats_is_cut_out() {
    const TOKEN: &str = "ey.the-whole-of-the-token";
    for code in [
        Code::Unauthenticated,
        Code::Unavailable,
        Code::Internal,
        Code::InvalidArgument,
    ] {
        let (lines, (results, fault)) = told_and_output(Level::TRACE, async move {
            let mut metadata = MetadataMap::new();
            metadata.insert("x-trace", "17".parse().unwrap());
            metadata.insert("x-shown", format!("Bearer {TOKEN}").parse().unwrap());
            let words = format!("no such thing as Bearer {TOKEN}, or {TOKEN}!");
            let details = TOKEN.as_bytes().into();
            let status = Status::with_details_and_metadata(code, words, details, metadata);
            let store = Store::new();
            store.inject(Fault::status(status).times(u64::MAX));
            let client = store.client().with_token(Token::new(TOKEN)).unwrap();
            let options = Options::new().retry(Retry::new().timeout(SECOND));
            let results = records(2).push_to_with(&client, &options);
            let handle = results.handle();
            (results.collect::<Vec<_>>().await, handle.last_fault())
        });
        assert_eq!(results.len(), 2);
        for failed in results {
            let failed = failed.unwrap_err();
            let words = failed.to_string();
            assert!(
                words.contains("no such thing as Bearer …, or …!"),
                "{words}"
            );
            let status = failed.error.status().unwrap();
            assert_eq!(status.metadata().get("x-trace").unwrap(), "17");
            let all = format!("{failed:?} {status:?}");
            assert!(!all.contains(TOKEN), "{code:?}: {all}");
        }
        assert!(!fault.unwrap_or_default().contains(TOKEN), "{code:?}");
        assert!(!lines.concat().contains(TOKEN), "{code:?}: {lines:#?}");
    }
}

#[test]
fn a_token_is_told_of_by_its_number_and_never_shown() {
    let lines = told(Level::TRACE, async {
        let store = Store::builder().authorize(|_| false).build();
        let token = Token::from_fn(async || Ok::<_, io::Error>("SECRET".to_owned()));
        records(3)
            .push_to(&store.client().with_token(token).unwrap())
            .finish()
            .await
    });
    let told: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("there is a token"))
        .collect();
    assert_eq!(told.len(), 2, "{lines:#?}");
    assert_line(
        told[1],
        &["DEBUG", "number=2", "the function that was given"],
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("the caller was refused: the call is opened again")),
        "{lines:#?}"
    );
    assert!(!lines.concat().contains("SECRET"), "{lines:#?}");
}

/// Acts at the first line with these words.
struct ActsAt {
    words: &'static str,
    act: Arc<Mutex<Option<Act>>>,
}

type Act = Box<dyn FnOnce() + Send>;

impl<S: Subscriber> Layer<S> for ActsAt {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        if message.0.contains(self.words) {
            // It is not acted under the lock.
            let act = self.act.lock().unwrap().take();
            act.into_iter().for_each(|act| act());
        }
    }
}

/// A subscriber that acts at a line, and what it is to do.
fn subscriber_at(words: &'static str) -> (Dispatch, Arc<Mutex<Option<Act>>>) {
    interest_all_threads();
    let act = Arc::default();
    let layer = ActsAt {
        words,
        act: Arc::clone(&act),
    };
    let subscriber = tracing_subscriber::registry().with(layer);
    (Dispatch::new(subscriber), act)
}

/// What the log is told of a stream that meets an outage.
const LINES_OF_AN_OUTAGE: [&str; 7] = [
    "the stream begins",
    "calls to the node fail",
    "the circuit is open",
    "the node answers again",
    "the circuit is closed",
    "the call broke",
    "the stream is over",
];

#[test]
fn an_adapter_has_ended_though_the_subscriber_panics() {
    for words in LINES_OF_AN_OUTAGE {
        let (subscriber, act) = subscriber_at(words);
        *act.lock().unwrap() = Some(Box::new(|| panic!("the subscriber panics")));
        let case = async {
            let store = Store::new();
            store.inject(Fault::no_connection().times(4));
            let results = records(3).push_to(&store.client());
            let handle = results.handle();
            let panicked = AssertUnwindSafe(results.finish()).catch_unwind().await;
            assert!(panicked.is_err(), "{words}");
            assert!(handle.has_ended(), "{words}");
            // What is shown of it ends.
            handle.watch(SECOND).count().await
        };
        on_paused_clock(in_a_week(case).with_subscriber(subscriber));
    }
}

/// As one that cancels a job when the server is away.
#[test]
fn a_subscriber_may_drop_another_adapter_of_the_client() {
    for words in LINES_OF_AN_OUTAGE {
        let (done, is_done) = mpsc::channel();
        // A lock that is taken twice hangs its thread.
        std::thread::spawn(move || {
            let (subscriber, act) = subscriber_at(words);
            let case = async {
                let store = Store::new();
                store.inject(Fault::no_connection().times(4));
                let client = store.client();
                let mut other = records(3).push_to(&client);
                assert_pending(&mut other);
                let results = records(3).push_to(&client);
                *act.lock().unwrap() = Some(Box::new(|| drop(other)));
                let summary = results.finish().await;
                assert_eq!(summary.stats.succeeded, 3);
                assert!(act.lock().unwrap().is_none(), "{words}");
            };
            on_paused_clock(in_a_week(case).with_subscriber(subscriber));
            done.send(()).unwrap();
        });
        let ended = is_done.recv_timeout(60 * SECOND);
        assert_eq!(ended, Ok(()), "{words}");
    }
}

fn tells_of_its_end(ended: &Ended) {
    let (lines, stats) = told_and_output(Level::DEBUG, ended.run());
    let streams = with_words(&lines, "the stream ");
    if streams.is_empty() {
        assert_eq!(stats.taken, 0, "it was polled");
    } else {
        assert_eq!(streams.len(), 2, "{lines:#?}");
    }
    let closed = lines.iter().filter(|line| line.ends_with(": close"));
    let spans: Vec<_> = closed.filter(|line| line.contains("dir.call")).collect();
    // A call that has found no connection is none of those that were opened.
    assert!(spans.len() as u64 >= stats.calls, "{lines:#?}");
    for span in spans {
        assert_line(span, &["items=", "answers=", "outcome="]);
    }
}

#[test]
fn an_endless_input_that_is_denied_or_away_is_a_line_a_minute_and_that_it_goes_on_is_one() {
    for is_denied in [true, false] {
        let (lines, minutes) = told_and_output(Level::INFO, async {
            let store = Store::new();
            store.inject(match is_denied {
                true => Fault::status(Status::permission_denied("no"))
                    .on(Method::Push)
                    .times(20),
                false => Fault::no_connection().times(40),
            });
            let breaker = CircuitBreaker::new().give_up_after(Some(20 * SECOND));
            let client = store.client().with_breaker(breaker);
            let options = Options::new().keep_trying(true);
            let inputs = stream::iter(0..).then(async |number| {
                sleep(SECOND / 10).await;
                record(number)
            });
            let mut results = std::pin::pin!(inputs.push_to_with(&client, &options));
            let start = Instant::now();
            while results.next().await.unwrap().is_err() {}
            start.elapsed().as_secs() / 60
        });
        let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
        let words = match is_denied {
            true => "the server refuses the caller: what comes fails until it is asked again",
            false => "the circuit was open for too long",
        };
        let told = count(words) as u64;
        assert!(
            (1..=minutes + 1).contains(&told),
            "{minutes} minutes: {lines:#?}"
        );
        assert_eq!(count("all remaining items fail"), 0);
        assert_eq!(count("the stream goes on"), 1, "{lines:#?}");
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn whatever_its_end_a_stream_says_two_lines_and_a_span_for_each_call(ended in ended()) {
        tells_of_its_end(&ended);
    }
}
