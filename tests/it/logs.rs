//! What the log is told: little while all is well, and at once when it is not.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Store};
use agntcy_dir_stream::{Checkpoint, CircuitBreaker, Retry, Status, Token};
use futures::{Stream, StreamExt as _, stream};
use tokio::time::sleep;
use tracing::instrument::WithSubscriber as _;
use tracing::{Dispatch, Level};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::support::clock::{SECOND, in_a_week, on_paused_clock};
use crate::support::folder::Folder;
use crate::support::records::{nameless, record, records};
use crate::support::sockets::free_address;

/// Lines of a log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// With a single subscriber, `tracing` asks that of the thread that meets a line of code first whether the line is of
/// interest. In the thread of another test there is none.
static OTHERS: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| [(); 2].map(|()| Dispatch::new(tracing_subscriber::registry())));

/// What this crate tells the log up to this level, while `what` runs under a paused clock.
fn told<F: Future>(level: Level, what: F) -> Vec<String> {
    LazyLock::force(&OTHERS);
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_max_level(level)
        .with_span_events(FmtSpan::CLOSE)
        .without_time()
        .with_ansi(false)
        .finish();
    on_paused_clock(async { in_a_week(what).with_subscriber(subscriber).await });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let ours = text
        .lines()
        .filter(|line| line.contains("agntcy_dir_stream"));
    ours.map(|line| line.trim().to_owned()).collect()
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
    assert!(
        lines
            .iter()
            .any(|line| line.contains(r"a\nb\u{1b}[31mred\u{202e}")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .flat_map(|line| line.chars())
            .all(|char| !char.is_control()),
        "{lines:#?}"
    );
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
            .any(|line| line.contains("the token was refused")),
        "{lines:#?}"
    );
    assert!(!lines.concat().contains("SECRET"), "{lines:#?}");
}
