//! What a worker does with what it has in hand.

use std::time::Duration;

use agntcy_dir_stream::server::{Fault, Method};
use agntcy_dir_stream::{Code, Status as GrpcStatus};
use async_nats::jetstream::consumer::PullConsumer;

use crate::directory::Directory;
use crate::nats::{Nats, Status};
use crate::processes::{ended, interrupt, worker};
use crate::records::{bad, cid, good};
use crate::waits::{until, within};

fn lines(count: usize) -> Vec<String> {
    (0..count).map(good).collect()
}

async fn consumer(nats: &Nats) -> PullConsumer {
    let stream = nats.context().await.get_stream("agents").await.unwrap();
    stream.get_consumer("workers").await.unwrap()
}

const NOTHING: Status = Status {
    waiting: 0,
    held: 0,
    again: 0,
    dead: 0,
};

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_slow_directory_has_nothing_delivered_twice() {
    let nats = Nats::start("slow").await;
    let (directory, store) = Directory::embedded().await;
    // Three times as long as a message may be in hand without a sign of life.
    store.inject(Fault::delay(Duration::from_secs(6)).on(Method::Push));
    nats.run(&["create", "--window", "64", "--ack-wait", "2"])
        .await;
    nats.run(&["publish", &nats.file("lines", &lines(100))])
        .await;
    let worker = worker(&nats, &directory, &[]);
    until("all is stored", async || store.len() == 100).await;
    until("all is acknowledged", async || {
        nats.status().await == NOTHING
    })
    .await;
    let delivered = consumer(&nats)
        .await
        .cached_info()
        .delivered
        .consumer_sequence;
    assert_eq!(delivered, 100, "each message is delivered once");
    let (counts, _) = ended(worker).await;
    assert_eq!(
        counts,
        "100 stored (0 were already), 0 dead, 0 given back, 0 unconfirmed\n"
    );
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_worker_that_is_told_to_end_gives_back_what_it_has() {
    let nats = Nats::start("gives-back").await;
    let (directory, store) = Directory::embedded().await;
    // Nothing comes again by itself while this runs.
    nats.run(&["create", "--window", "64", "--ack-wait", "3600"])
        .await;
    nats.run(&["publish", &nats.file("lines", &lines(200))])
        .await;
    store.inject(Fault::stall().on(Method::Push).at(10));
    let first = worker(&nats, &directory, &["--grace", "1"]);
    until("it has its window in hand", async || {
        let status = nats.status().await;
        store.len() == 10 && status.held == 54 && status.waiting == 136
    })
    .await;
    let (counts, _) = ended(first).await;
    assert_eq!(
        counts,
        "10 stored (0 were already), 0 dead, 54 given back, 0 unconfirmed\n"
    );
    let status = nats.status().await;
    assert_eq!((status.waiting + status.held, status.dead), (190, 0));
    let second = worker(&nats, &directory, &[]);
    until("another has all of it", async || {
        nats.status().await == NOTHING
    })
    .await;
    assert_eq!(store.len(), 200);
    ended(second).await;
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_record_whose_time_is_up_is_given_back_with_a_delay() {
    let nats = Nats::start("delay").await;
    let (mut directory, store) = Directory::embedded().await;
    directory.kill().await;
    nats.run(&["create", "--window", "8", "--ack-wait", "3600"])
        .await;
    nats.run(&["publish", &nats.file("lines", &lines(20))])
        .await;
    let worker = worker(&nats, &directory, &["--retry-for", "1"]);
    until("some have come again", async || {
        nats.status().await.again > 0
    })
    .await;
    directory.restart().await;
    until("all is stored", async || nats.status().await == NOTHING).await;
    assert_eq!(store.len(), 20);
    let (counts, log) = ended(worker).await;
    assert!(
        counts.starts_with("20 stored (0 were already), 0 dead, "),
        "{counts}"
    );
    assert!(log.contains("messages are given back ("), "{log}");
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_record_at_which_the_directory_fails_again_and_again_is_dead_and_its_neighbours_are_stored()
 {
    let nats = Nats::start("poison").await;
    let (directory, store) = Directory::embedded().await;
    let failed = GrpcStatus::new(Code::Internal, "no\r\nidea");
    let poison = Fault::status(failed).on(Method::Push).of(cid(&good(5)));
    store.inject(poison.times(u64::MAX));
    nats.run(&["create", "--window", "16"]).await;
    nats.run(&["publish", &nats.file("lines", &lines(20))])
        .await;
    let worker = worker(&nats, &directory, &["--deliveries", "2"]);
    let dead = Status { dead: 1, ..NOTHING };
    until("it is dead", async || nats.status().await == dead).await;
    assert_eq!(store.len(), 19);
    let letter = nats.dead().await.remove(0);
    assert_eq!(letter["kind"], "server_failed");
    assert_eq!(letter["deliveries"], 2);
    ended(worker).await;
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_worker_that_is_denied_goes_on_once_it_is_let_in() {
    let nats = Nats::start("denied").await;
    let (directory, store) = Directory::embedded().await;
    let denied = GrpcStatus::new(Code::PermissionDenied, "not today");
    store.inject(Fault::status(denied).on(Method::Push).times(3));
    nats.run(&["create", "--window", "8"]).await;
    nats.run(&["publish", &nats.file("lines", &lines(20))])
        .await;
    let worker = worker(&nats, &directory, &[]);
    until("all is stored", async || nats.status().await == NOTHING).await;
    assert_eq!(store.len(), 20);
    let (counts, log) = ended(worker).await;
    assert!(
        counts.starts_with("20 stored (0 were already), 0 dead, "),
        "{counts}"
    );
    assert!(
        log.contains("the last one since: access denied: not today"),
        "{log}"
    );
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn nats_may_be_away_when_a_result_is_there() {
    let mut nats = Nats::start("away").await;
    let (directory, store) = Directory::embedded().await;
    // A message that was answered shortly before NATS was killed counts as held for as long.
    nats.run(&["create", "--window", "64", "--ack-wait", "10"])
        .await;
    let file = [lines(50), vec![bad(0)]].concat();
    nats.run(&["publish", &nats.file("lines", &file)]).await;
    store.inject(Fault::delay(Duration::from_secs(3)).on(Method::Push));
    let worker = worker(&nats, &directory, &[]);
    until("it has all in hand", async || {
        nats.status().await.held == 50
    })
    .await;
    nats.kill().await;
    until("all is stored", async || store.len() == 50).await;
    nats.restart().await;
    let dead = Status { dead: 1, ..NOTHING };
    until("all is answered", async || nats.status().await == dead).await;
    ended(worker).await;
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_queue_that_is_deleted_ends_its_workers_with_words() {
    let nats = Nats::start("deleted").await;
    let (directory, _store) = Directory::embedded().await;
    let mut none = worker(&nats, &directory, &[]);
    assert_eq!(within(30, none.wait()).await.unwrap().code(), Some(1));
    nats.run(&["create"]).await;
    for stream in [false, true] {
        let line = [good(usize::from(stream))];
        nats.run(&["publish", &nats.file("lines", &line)]).await;
        let worker = worker(&nats, &directory, &[]);
        until("it works", async || nats.status().await == NOTHING).await;
        let context = nats.context().await;
        match stream {
            true => drop(context.delete_stream("agents").await.unwrap()),
            false => {
                let deleted = context
                    .delete_consumer_from_stream("workers", "agents")
                    .await;
                deleted.unwrap();
            }
        }
        let output = within(30, worker.wait_with_output()).await.unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains("deleted"), "{log}");
        nats.run(&["create"]).await;
    }
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_worker_that_is_told_to_end_with_room_left_gives_back_what_it_has() {
    let nats = Nats::start("room-left").await;
    let (directory, store) = Directory::embedded().await;
    nats.run(&["create", "--window", "1024", "--ack-wait", "3600"])
        .await;
    nats.run(&["publish", &nats.file("lines", &lines(400))])
        .await;
    store.inject(Fault::stall().on(Method::Push).at(10));
    let first = worker(&nats, &directory, &["--grace", "0"]);
    until("it has all in hand, and asks for more", async || {
        let status = nats.status().await;
        store.len() == 10 && status.held == 390
    })
    .await;
    let (counts, _) = ended(first).await;
    assert_eq!(
        counts,
        "10 stored (0 were already), 0 dead, 390 given back, 0 unconfirmed\n"
    );
    let second = worker(&nats, &directory, &[]);
    until("another has all of it", async || {
        nats.status().await == NOTHING
    })
    .await;
    ended(second).await;
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_worker_that_is_told_to_end_while_nats_is_away_ends_and_says_what_is_open() {
    let mut nats = Nats::start("end-while-away").await;
    let (directory, store) = Directory::embedded().await;
    nats.run(&["create", "--window", "1024", "--ack-wait", "5"])
        .await;
    nats.run(&["publish", &nats.file("lines", &lines(1_000))])
        .await;
    store.inject(Fault::stall().on(Method::Push).at(500));
    let worker = worker(&nats, &directory, &["--grace", "1"]);
    until("it has half in hand", async || {
        nats.status().await.held == 500
    })
    .await;
    nats.kill().await;
    interrupt(&worker).await;
    let output = within(30, worker.wait_with_output()).await.unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let counts = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        counts,
        "500 stored (0 were already), 0 dead, 0 given back, 500 unconfirmed\n"
    );
    assert!(log.contains("NATS is away"), "{log}");
    let words = "NATS does not confirm what has become of the messages";
    assert!(log.contains(words), "{log}");
    assert_eq!(output.status.code(), Some(1));
    nats.restart().await;
    let again = crate::processes::worker(&nats, &directory, &[]);
    until("all is stored", async || nats.status().await == NOTHING).await;
    assert_eq!(store.len(), 1_000);
    ended(again).await;
}

#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn a_queue_that_is_made_again_while_a_worker_has_messages_of_the_old_one_loses_none() {
    let nats = Nats::start("made-again").await;
    let (directory, store) = Directory::embedded().await;
    nats.run(&["create", "--window", "8", "--ack-wait", "10"])
        .await;
    nats.run(&["publish", &nats.file("old", &lines(8))]).await;
    // The window is full, and no request is out that would end with the queue.
    for number in 0..8 {
        let time = Duration::from_secs(if number < 4 { 3 } else { 8 });
        let slow = Fault::delay(time).on(Method::Push);
        store.inject(slow.of(cid(&good(number))));
    }
    let worker = worker(&nats, &directory, &["--calls", "8"]);
    until("all is in hand", async || nats.status().await.held == 8).await;
    let context = nats.context().await;
    context.delete_stream("agents").await.unwrap();
    nats.run(&["create"]).await;
    let new: Vec<_> = (100..108).map(good).collect();
    nats.run(&["publish", &nats.file("new", &new)]).await;
    until("all is stored", async || {
        new.iter().all(|line| store.contains(&cid(line)))
    })
    .await;
    until("nothing is left", async || nats.status().await == NOTHING).await;
    drop(worker);
}

/// Headers of NATS that its own clients cannot read, or that pretend to be words of the server.
#[tokio::test]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn messages_with_hostile_headers_keep_no_others_away() {
    let nats = Nats::start("hostile").await;
    let (directory, store) = Directory::embedded().await;
    nats.run(&["create", "--window", "64", "--ack-wait", "15"])
        .await;
    for (number, headers) in [
        &b"NATS/1.0\r\nX: \xff\xfe\r\n\r\n"[..],
        b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
        b"NATS/1.0 408 Request Timeout\r\n\r\n",
        b"NATS/1.0\r\nnothing\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let file: Vec<_> = (0..50).map(|line| good(50 * number + line)).collect();
        nats.run(&["publish", &nats.file("lines", &file)]).await;
        nats.publish_raw("agents.records", headers, good(1_000 + number).as_bytes())
            .await;
    }
    let worker = worker(&nats, &directory, &[]);
    until("all that can be read is stored", async || {
        (0..200).all(|number| store.contains(&cid(&good(number))))
    })
    .await;
    // That is what is left of the two that nobody can read.
    until("the others are gone", async || {
        let status = nats.status().await;
        status.waiting + status.held <= 2
    })
    .await;
    ended(worker).await;
}
