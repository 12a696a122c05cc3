//! The real server's clock is set an hour ahead and an hour back while it serves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use agntcy_dir_stream::{Change, EventFilter, EventKind, Heard};
use rustix::process::Signal;

use super::*;

/// The clock jumps at SIGUSR1 and SIGUSR2, as `tests/interop/server/build` has made it.
const AHEAD: Signal = Signal::USR1;
const BACK: Signal = Signal::USR2;

/// How far the clock of the server is from ours, in hours.
fn hours_off(event: &agntcy_dir_stream::Event) -> i64 {
    let at = event.time.expect("the server tells when");
    let off = match at.duration_since(SystemTime::now()) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(back) => -back.duration().as_secs_f64(),
    };
    (off / 3600.0).round() as i64
}

#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_clock_that_jumps_an_hour_there_and_back_is_nobodys_fault() {
    let server = Server::start("stepped-clock", &[]).await;
    let client = server.client().await;
    let mut heard = client.listen(EventFilter::new().kind(EventKind::Pushed));
    let mut changes = client.follow(Query::new());
    while !matches!(soon(changes.next()).await, Some(Ok(Change::InitDone))) {}

    let first = soon(records(10).push_to(&client).finish()).await;
    assert_eq!(first.stats.succeeded, 10, "{first}");
    let is_over = AtomicBool::new(false);
    let mut results = records(COUNT).push_to(&client);
    let handle = results.handle();
    let push = async {
        let mut seen = Vec::new();
        while let Some(result) = soon(results.next()).await {
            seen.push(result);
            match seen.len() {
                40 => server.signal(AHEAD),
                80 | 120 => server.signal(BACK),
                160 => server.signal(AHEAD),
                _ => {}
            }
        }
        all_pushed(seen, COUNT);
    };
    let follow = async {
        let mut told = BTreeSet::new();
        while told.len() < COUNT {
            match soon(changes.next()).await.unwrap().unwrap() {
                Change::Apply(cid) => assert!(told.insert(cid), "{cid} is told of twice"),
                Change::Confirmed => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, soon(cids(COUNT).collect()).await);
    };
    let listen = async {
        let mut offsets = BTreeSet::new();
        // A server whose clock is not set is never an hour off.
        while offsets != BTreeSet::from([-1, 0, 1]) {
            if let Heard::Event(event) = soon(heard.next()).await.unwrap().unwrap() {
                offsets.insert(hours_off(&event));
            }
        }
    };
    let pull = async {
        // What was pushed before, until all is told of.
        for number in (0..10).cycle() {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let pulled = soon(client.pull(cid(&record(number)))).await;
            pulled.unwrap_or_else(|failed| panic!("{failed}"));
        }
    };
    let all = async {
        futures::join!(push, follow, listen);
        is_over.store(true, Ordering::Relaxed);
    };
    futures::join!(all, pull);
    print("the clock was set, push", &handle.stats());
    assert_eq!(handle.stats().faults, 0);
    all_there(&client, COUNT).await;
}
