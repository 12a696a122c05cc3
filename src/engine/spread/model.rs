//! The batches and the jobs that take them, in every order in which they can run, by loom.
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;

use loom::future::block_on;
use loom::thread;

use super::*;
use crate::engine::model::in_every_order;

/// A pool whose jobs the test runs.
fn spread(jobs: usize) -> (Spread<usize>, Arc<std::sync::Mutex<Vec<Job>>>) {
    let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
    let pool = Arc::clone(&kept);
    let options = Options::new().verify_on(jobs, move |job| pool.lock().unwrap().push(job));
    (Spread::new(&options).unwrap(), kept)
}

/// Hands over a whole batch, of tickets without records.
fn hand_over(spread: &mut Spread<usize>, number: usize) {
    for ticket in 0..BATCH {
        spread.push(number * BATCH + ticket, None);
    }
}

/// Waits for a batch, and returns its first ticket.
fn wait(spread: &mut Spread<usize>) -> usize {
    let batch = block_on(poll_fn(|cx| {
        spread.poll(cx).map(Iterator::collect::<Vec<_>>)
    }));
    assert_eq!(batch.len(), BATCH);
    batch[0].0
}

/// Three batches over one job, which comes to this end in another thread while the last batch is handed over.
fn nobody_waits_for_ever(end: fn(Job)) {
    in_every_order(move || {
        let (mut spread, jobs) = spread(1);
        // The first is short, and done at once.
        hand_over(&mut spread, 0);
        hand_over(&mut spread, 1);
        let job = jobs.lock().unwrap().pop().unwrap();
        let first = thread::spawn(move || end(job));
        hand_over(&mut spread, 2);
        // Where the first job had ended, there is another.
        let second = jobs.lock().unwrap().pop().map(thread::spawn);
        for number in 0..3 {
            assert_eq!(wait(&mut spread), number * BATCH);
        }
        first.join().unwrap();
        second.map(|thread| thread.join().unwrap());
        assert_eq!(spread.queue.lock().jobs, 0);
    });
}

#[test]
fn each_batch_is_done_though_its_job_is_just_ending() {
    nobody_waits_for_ever(|job| job());
}

#[test]
fn a_pool_that_loses_its_job_keeps_nobody_waiting() {
    nobody_waits_for_ever(drop);
}

#[test]
fn a_job_ends_when_the_adapter_is_dropped() {
    in_every_order(|| {
        let (mut spread, jobs) = spread(2);
        for number in 0..3 {
            hand_over(&mut spread, number);
        }
        let queue = Arc::clone(&spread.queue);
        let jobs = std::mem::take(&mut *jobs.lock().unwrap());
        assert_eq!(jobs.len(), 2);
        let threads: Vec<_> = jobs.into_iter().map(thread::spawn).collect();
        drop(spread);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(queue.lock().work.is_empty());
        assert_eq!(queue.lock().jobs, 0);
    });
}
