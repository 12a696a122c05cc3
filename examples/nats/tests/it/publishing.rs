//! Lines become messages, each once.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use crate::nats::{Nats, Status};
use crate::processes::interrupt;
use crate::records::good;
use crate::waits::{soon, until, within};

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn lines_that_are_published_while_nats_restarts_are_in_the_queue_once() {
    let mut nats = Nats::start("publishing").await;
    nats.run(&["create"]).await;
    let mut publish = nats
        .command(&["publish"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = publish.stdin.take().unwrap();
    for half in 0..2 {
        let lines: String = (0..5_000).map(|n| good(half * 5_000 + n) + "\n").collect();
        soon(input.write_all(lines.as_bytes())).await.unwrap();
        if half == 0 {
            until("some are there", async || nats.status().await.waiting > 0).await;
            nats.kill().await;
            nats.restart().await;
        }
    }
    drop(input);
    let output = soon(publish.wait_with_output()).await.unwrap();
    let counts = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{counts}");
    let expected = Status {
        waiting: 10_000,
        held: 0,
        again: 0,
        dead: 0,
    };
    assert_eq!(nats.status().await, expected, "{counts}");
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_file_that_is_published_again_at_once_is_there_already_and_another_of_its_name_is_not() {
    let nats = Nats::start("again").await;
    nats.run(&["create"]).await;
    let file = nats.file("lines", &[good(0), String::new(), good(0), good(1)]);
    assert_eq!(
        nats.run(&["publish", &file]).await,
        "3 queued, 0 were there, 0 are too long\n"
    );
    assert_eq!(
        nats.run(&["publish", &file]).await,
        "0 queued, 3 were there, 0 are too long\n"
    );
    nats.file("lines", &[good(0), good(2)]);
    assert_eq!(
        nats.run(&["publish", &file]).await,
        "1 queued, 1 were there, 0 are too long\n"
    );
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_line_that_is_too_long_is_named_and_the_others_are_queued() {
    let nats = Nats::configured("too-long", "max_payload: 8192").await;
    nats.run(&["create"]).await;
    let long = format!(r#"{{"name": "{}"}}"#, "x".repeat(5_000));
    let file = nats.file("lines", &[good(0), long, good(1)]);
    let output = nats.output(&["publish", &file]).await;
    let (counts, log) = (output.stdout, String::from_utf8(output.stderr).unwrap());
    assert_eq!(
        String::from_utf8(counts).unwrap(),
        "2 queued, 0 were there, 1 are too long\n"
    );
    assert!(
        log.contains("lines:2 is too long for NATS, which takes 4096 bytes here"),
        "{log}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn what_is_not_there_is_said_at_once() {
    let nats = Nats::start("not-there").await;
    for (arguments, words) in [
        (
            &["publish"][..],
            "there is no queue agents: `create` makes it",
        ),
        (&["status"], "there is no queue agents: `create` makes it"),
        (&["dead"], "there is no queue agents: `create` makes it"),
        (
            &["--queue", "a.b", "status"],
            "the name of a queue has letters, digits, - and _",
        ),
    ] {
        let output = nats.output(arguments).await;
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains(words), "{log}");
        assert_eq!(output.status.code(), Some(1));
    }
    nats.run(&["create"]).await;
    let there = nats.file("lines", &[good(0)]);
    let output = nats.output(&["publish", &there, "nowhere.ndjson"]).await;
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("nowhere.ndjson: No such file")
    );
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn sizes_that_are_not_given_stay_as_they_are() {
    let nats = Nats::start("sizes").await;
    let said = nats
        .run(&[
            "create",
            "--workers",
            "8",
            "--window",
            "100",
            "--ack-wait",
            "7",
        ])
        .await;
    let words = "8 workers may have 100 messages each, for 7 s without a sign of life\n";
    assert_eq!(said, words);
    let said = nats.run(&["create", "--window", "512"]).await;
    assert_eq!(said, words.replace("100", "512"));
    let stream = nats.context().await.get_stream("agents").await.unwrap();
    let consumer = stream.consumer_info("workers").await.unwrap();
    // What all workers together may have in hand.
    assert_eq!(consumer.config.max_ack_pending, 8 * 512);
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn nobody_has_to_read_what_is_printed() {
    let nats = Nats::start("closed-pipe").await;
    nats.run(&["create"]).await;
    let mut status = nats
        .command(&["status"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(status.stdout.take());
    let output = soon(status.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn who_publishes_from_a_pipe_can_be_ended_while_it_is_open() {
    let nats = Nats::start("open-pipe").await;
    nats.run(&["create"]).await;
    let mut publish = nats
        .command(&["publish"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = publish.stdin.take().unwrap();
    let line = good(0) + "\n";
    soon(input.write_all(line.as_bytes())).await.unwrap();
    until("it is queued", async || nats.status().await.waiting == 1).await;
    interrupt(&publish).await;
    let output = soon(publish.wait_with_output()).await.unwrap();
    let counts = String::from_utf8(output.stdout).unwrap();
    assert_eq!(counts, "1 queued, 0 were there, 0 are too long\n");
    assert_eq!(output.status.code(), Some(1));
    drop(input);
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn what_nats_says_to_a_line_is_said() {
    let nats = Nats::start("full").await;
    nats.run(&["create"]).await;
    let context = nats.context().await;
    let mut full = context
        .get_stream("agents")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    full.max_messages = 1;
    full.discard = async_nats::jetstream::stream::DiscardPolicy::New;
    context.update_stream(full).await.unwrap();
    let file = nats.file("lines", &[good(0), good(1)]);
    let output = nats.command(&["publish", &file]).output();
    let output = within(100, output).await.unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains("lines:2 is not in the queue: ") && log.contains("maximum messages exceeded"),
        "{log}"
    );
    // What is not of this program is left alone.
    let other = async_nats::jetstream::stream::Config {
        name: "other".to_owned(),
        subjects: vec!["other.records".to_owned()],
        ..Default::default()
    };
    context.create_stream(other).await.unwrap();
    let output = nats.output(&["--queue", "other", "create"]).await;
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains("there is a stream other already, and it is no queue of this program"),
        "{log}"
    );
}
