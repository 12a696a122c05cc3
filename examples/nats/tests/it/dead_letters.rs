//! Dead letters say why, and can be put into the queue again.

use agntcy_dir_stream::server::{Fault, Method};
use agntcy_dir_stream::{Code, Status as GrpcStatus};

use crate::directory::Directory;
use crate::nats::{Nats, Status};
use crate::processes::{ended, worker};
use crate::records::{bad, cid, good};
use crate::waits::until;

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn letters_say_why_and_come_again_when_they_are_asked_to() {
    // Beside a record of nearly 8 KiB there is no room for a reason. Other publishers may send one.
    let nats = Nats::configured("letters", "max_payload: 8192").await;
    let (directory, store) = Directory::embedded().await;
    nats.run(&["create"]).await;
    let refused = GrpcStatus::new(
        Code::InvalidArgument,
        "not\r\ntoday".to_owned() + &"!".repeat(9_000),
    );
    let refused = Fault::status(refused).on(Method::Push);
    store.inject(refused.of(cid(&good(1))));
    let large = "x".repeat(7_900);
    let context = nats.context().await;
    let sent = context
        .publish("agents.records", large.clone().into())
        .await;
    sent.unwrap().await.unwrap();
    let file = nats.file("lines", &[good(0), bad(0), bad(1), bad(2), good(1)]);
    nats.run(&["publish", &file]).await;
    let worker = worker(&nats, &directory, &[]);
    let mut dead = Status {
        waiting: 0,
        held: 0,
        again: 0,
        dead: 5,
    };
    until("all have an end", async || nats.status().await == dead).await;

    let mut letters = nats.dead().await;
    letters.sort_by_key(|letter| letter["message"].as_u64());
    let say = |key: &str| -> Vec<String> {
        let words = |letter: &serde_json::Value| match &letter[key] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        letters.iter().map(words).collect()
    };
    let at = |line: usize| format!("{file}:{line}");
    assert_eq!(
        say("source"),
        ["null".to_owned(), at(2), at(3), at(4), at(5)]
    );
    assert_eq!(say("message"), ["1", "3", "4", "5", "6"]);
    assert_eq!(say("deliveries"), ["1"; 5]);
    assert_eq!(say("record"), [large, bad(0), bad(1), bad(2), good(1)]);
    assert_eq!(
        say("kind"),
        ["invalid", "invalid", "rejected", "rejected", "rejected"]
    );
    let reasons = say("error");
    assert_eq!(reasons[0], "");
    assert_eq!(reasons[1], "invalid: expected value at line 1 column 1");
    assert!(
        reasons[2].contains("schema_version field is missing"),
        "{}",
        reasons[2]
    );
    assert!(
        reasons[4].starts_with(r"refused by the server: not\r\ntoday!!!"),
        "{}",
        reasons[4]
    );
    assert_eq!(reasons[4].len(), 2_048);

    // It is refused no more.
    assert_eq!(
        nats.run(&["dead", "--requeue"]).await,
        "5 are in the queue again\n"
    );
    dead.dead = 4;
    until("one is stored", async || nats.status().await == dead).await;
    assert!(store.contains(&cid(&good(1))));
    // One by one.
    let letter = nats.dead().await[1]["letter"].to_string();
    assert_eq!(
        nats.run(&["dead", "--discard", &letter]).await,
        "1 are gone\n"
    );
    assert_eq!(nats.status().await.dead, 3);
    let which = nats.output(&["dead", "--discard"]).await;
    assert_eq!(which.status.code(), Some(2), "they have to be named");
    let (counts, _) = ended(worker).await;
    assert_eq!(
        counts,
        "2 stored (0 were already), 9 dead, 0 given back, 0 unconfirmed\n"
    );
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_message_beside_which_no_dead_letter_fits_stays_in_the_queue_and_is_told_of() {
    let nats = Nats::configured("no-letter", "max_payload: 8192").await;
    let (directory, _store) = Directory::embedded().await;
    nats.run(&["create"]).await;
    let context = nats.context().await;
    let sent = context
        .publish("agents.records", "x".repeat(8_192).into())
        .await;
    sent.unwrap().await.unwrap();
    let worker = worker(&nats, &directory, &[]);
    until("it has come again", async || nats.status().await.again == 1).await;
    let (_, log) = ended(worker).await;
    assert!(
        log.contains("message 1 has no dead letter and comes again: max payload size exceeded"),
        "{log}"
    );
    let status = nats.status().await;
    assert_eq!((status.waiting + status.held, status.dead), (1, 0));
}
