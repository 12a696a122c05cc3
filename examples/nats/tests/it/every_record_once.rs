//! Four workers, of which two are killed, while the directory and NATS are killed and come back: each good record is
//! stored, each bad one is a dead letter once, and nothing is left.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use agntcy_dir_stream::server::{Fault, Method};
use tokio::process::Child;

use crate::directory::Directory;
use crate::nats::{Nats, Status};
use crate::processes::interrupt;
use crate::records::{bad, good};
use crate::waits::{soon, until, within};

/// Each 50th is the same as the one before. One in a hundred is bad, and half of these are such doubles.
fn lines(count: usize) -> Vec<String> {
    let line = |number| match number {
        number if number % 200 == 99 => bad(number),
        number => good(number),
    };
    let of = |number| match number % 50 {
        0 => usize::saturating_sub(number, 1),
        _ => number,
    };
    (0..count).map(|number| line(of(number))).collect()
}

fn is_good(line: &str) -> bool {
    line.contains(r#""name""#) && line.contains("schema_version")
}

fn worker(nats: &Nats, directory: &Directory, number: usize) -> Child {
    let log = std::fs::File::create(nats.folder.join(format!("worker-{number}.log"))).unwrap();
    nats.command(&["work", "--server", &directory.url()])
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// How many messages the queue has.
async fn left(nats: &Nats) -> u64 {
    let status = nats.status().await;
    status.waiting + status.held
}

async fn through_all_that(mut nats: Nats, mut directory: Directory, count: usize) {
    let start = Instant::now();
    let lines = lines(count);
    let window = (count / 40).to_string();
    let create = [
        "create",
        "--workers",
        "4",
        "--window",
        &window,
        "--ack-wait",
        "4",
    ];
    nats.run(&create).await;
    let file = nats.file("records.ndjson", &lines);
    let queued = nats.run(&["publish", &file]).await;
    assert_eq!(
        queued,
        format!("{count} queued, 0 were there, 0 are too long\n")
    );

    let mut workers: Vec<_> = (0..4)
        .map(|number| worker(&nats, &directory, number))
        .collect();
    let of = |part: u64| count as u64 * part / 100;
    for (rest, number) in [(80, 0), (70, 2)] {
        until("a part is done", async || left(&nats).await < of(rest)).await;
        let status = nats.status().await;
        println!("{:?}: a worker is killed, {status:?}", start.elapsed());
        assert!(status.held > 0, "it has something in hand");
        soon(workers[number].kill()).await.unwrap();
    }
    until("half is done", async || left(&nats).await < of(50)).await;
    println!("{:?}: the directory is killed", start.elapsed());
    directory.kill().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    directory.restart().await;
    until("most is done", async || left(&nats).await < of(30)).await;
    println!(
        "{:?}: NATS is killed, {:?}",
        start.elapsed(),
        nats.status().await
    );
    nats.kill().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    nats.restart().await;
    until("all is done", async || left(&nats).await == 0).await;
    println!("{:?}: all is done", start.elapsed());

    let bad: BTreeMap<String, &String> = (1..)
        .zip(&lines)
        .filter(|(_, line)| !is_good(line))
        .map(|(number, line)| (format!("{file}:{number}"), line))
        .collect();
    let letters = nats.dead().await;
    for letter in &letters {
        let source = letter["source"].as_str().unwrap();
        assert_eq!(
            letter["record"].as_str(),
            bad.get(source).map(|line| line.as_str())
        );
    }
    let sources: Vec<_> = letters
        .iter()
        .map(|letter| letter["source"].as_str().unwrap())
        .collect();
    let mut sorted = sources.clone();
    sorted.sort_unstable();
    let expected: Vec<_> = bad.keys().map(String::as_str).collect();
    assert_eq!(sorted, expected, "each bad record is a dead letter once");
    let empty = Status {
        waiting: 0,
        held: 0,
        again: 0,
        dead: bad.len() as u64,
    };
    assert_eq!(nats.status().await, empty);
    directory
        .has_all(lines.iter().filter(|line| is_good(line)).cloned())
        .await;

    for (number, worker) in workers.into_iter().enumerate().filter(|(n, _)| n % 2 == 1) {
        interrupt(&worker).await;
        let output = within(30, worker.wait_with_output()).await.unwrap();
        let counts = String::from_utf8(output.stdout).unwrap();
        print!("worker {number}: {counts}");
        let log = std::fs::read_to_string(nats.folder.join(format!("worker-{number}.log")));
        assert!(output.status.success(), "worker {number}: {}", log.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a NATS server: run `tests/interop/run nats`"]
async fn every_record_has_one_end_whoever_is_killed() {
    let nats = Nats::start("every-record-once").await;
    let (directory, store) = Directory::embedded().await;
    // Without that, all would be done before anybody could be killed.
    let slow = Fault::delay(Duration::from_millis(1)).on(Method::Push);
    store.inject(slow.times(u64::MAX));
    through_all_that(nats, directory, 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs NATS and DIR servers: run `tests/interop/run nats`"]
async fn every_record_has_one_end_in_a_real_directory() {
    let nats = Nats::start("every-record-once-real").await;
    let directory = Directory::real(nats.folder.join("directory")).await;
    through_all_that(nats, directory, 1_000).await;
}
