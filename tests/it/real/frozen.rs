//! The real server stands still for a while, as a virtual machine that is paused does: its port is open and its
//! connections live, but nothing is answered.

use std::sync::atomic::{AtomicBool, Ordering};

use agntcy_dir_stream::{Change, Cid, Source};
use rustix::process::Signal;
use tokio::sync::{Barrier, Semaphore};

use super::*;

const FROZEN: Duration = Duration::from_secs(20);

/// How many records are there before, for those who pull.
const THERE: usize = 50;

/// What the streams of a test wait for.
struct Meanwhile {
    /// A permit for each that has had some results.
    begun: Semaphore,
    is_over: AtomicBool,
}

/// The records of these numbers, each pushed with its result.
async fn push(
    client: &Client,
    options: &Options,
    numbers: std::ops::Range<usize>,
    meanwhile: &Meanwhile,
) -> Stats {
    let mut results = stream::iter(numbers.clone().map(record)).push_to_with(client, options);
    let handle = results.handle();
    for (place, number) in numbers.enumerate() {
        let result = soon(results.next()).await.expect("a result for each");
        let pushed = result.unwrap_or_else(|failed| panic!("{failed}"));
        assert_eq!(
            (pushed.index, pushed.cid),
            (place as u64, cid(&record(number)))
        );
        if place == 40 {
            meanwhile.begun.add_permits(1);
        }
    }
    assert!(soon(results.next()).await.is_none());
    handle.stats()
}

/// Pulls what is there, over and over, until the fault is over.
async fn pull(client: &Client, options: &Options, meanwhile: &Meanwhile) -> Stats {
    let refs = stream::iter(0..)
        .take_while(|_| std::future::ready(!meanwhile.is_over.load(Ordering::Relaxed)))
        .map(|number: usize| cid(&record(number % THERE)));
    let mut results = refs.pull_from_with(client, options);
    let handle = results.handle();
    let mut count = 0;
    while let Some(result) = soon(results.next()).await {
        let pulled = result.unwrap_or_else(|failed| panic!("{failed}"));
        assert_eq!(pulled.index, count as u64);
        assert_eq!(pulled.record.cid().unwrap(), cid(&record(count % THERE)));
        count += 1;
        if count == 40 {
            meanwhile.begun.add_permits(1);
        }
    }
    let stats = handle.stats();
    assert_eq!(stats.taken, count as u64, "each has its result");
    stats
}

/// Follows the server until what it was told of is all there is. It begins with a `view` of what was there.
async fn follow(mut changes: Source<Change>, mut view: BTreeSet<Cid>, all: usize) {
    while view.len() < all {
        match soon(changes.next()).await.expect("it has no end").unwrap() {
            Change::Apply(cid) => assert!(view.insert(cid), "{cid} is told of twice"),
            Change::Confirmed => {}
            other => panic!("{other:?} is not what happened"),
        }
    }
    let there: BTreeSet<_> = (0..all).map(|number| cid(&record(number))).collect();
    assert_eq!(view, there);
}

/// Twice at once: with streams that call it a stall after 5 seconds, and with streams that do not.
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_server_that_stands_still_for_twenty_seconds_loses_nothing() {
    const EACH: usize = 150;
    const ALL: usize = THERE + 2 * EACH;
    let server = Server::start("frozen", &[]).await;
    let meanwhile = Meanwhile {
        begun: Semaphore::new(0),
        is_over: AtomicBool::new(false),
    };
    let first = records(THERE).push_to(&server.client().await).finish();
    assert_eq!(soon(first).await.stats.failed, 0);

    // While records come, no list is the same as the one before.
    let follows = Barrier::new(2);
    let run = |first: usize, stall_after: u64| {
        let (server, meanwhile, follows) = (&server, &meanwhile, &follows);
        async move {
            let client = server.client().await;
            let options = Options::new().stall_after(Some(Duration::from_secs(stall_after)));
            let mut changes = client.follow_with(Query::new(), &options);
            let mut view = BTreeSet::new();
            loop {
                match soon(changes.next()).await.unwrap().unwrap() {
                    Change::InitApply(cid) => assert!(view.insert(cid)),
                    Change::InitDone => break,
                    _ => {}
                }
            }
            follows.wait().await;
            let (pushed, pulled, ()) = futures::join!(
                push(&client, &options, first..first + EACH, meanwhile),
                pull(&client, &options, meanwhile),
                follow(changes, view, ALL),
            );
            print(
                &format!("frozen, push, a stall is {stall_after} s"),
                &pushed,
            );
            print(
                &format!("frozen, pull, a stall is {stall_after} s"),
                &pulled,
            );
            [pushed, pulled]
        }
    };
    let freeze = async {
        let _ = soon(meanwhile.begun.acquire_many(4)).await.unwrap();
        server.signal(Signal::STOP);
        tokio::time::sleep(FROZEN).await;
        server.signal(Signal::CONT);
        tokio::time::sleep(Duration::from_secs(1)).await;
        meanwhile.is_over.store(true, Ordering::Relaxed);
    };
    let (impatient, patient, ()) = futures::join!(run(THERE, 5), run(THERE + EACH, 60), freeze);
    for stats in &impatient {
        assert!(stats.faults > 0, "the freeze was felt: {stats}");
    }
    for stats in &patient {
        assert_eq!(
            (stats.faults, stats.resent),
            (0, 0),
            "it has waited: {stats}"
        );
    }
    all_there(&server.client().await, ALL).await;
}
