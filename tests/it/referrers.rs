//! Referrers: pushed, pulled and deleted, one result for each item; and signing as a stage of a pipeline.

use std::cell::Cell;
use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use agntcy_dir_stream::{Error, ErrorKind, Failed, Referrer, ReferrersOf, SignFailed, Status};
use futures::channel::mpsc;
use futures::{FutureExt as _, Stream, StreamExt, stream};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::clock::in_a_week;
use crate::support::peer::{next_call, scripted};
use crate::support::polling::{next, poll};
use crate::support::records::{cid, from_json, nameless, record, records};
use crate::support::referrers::PushedReferrer;
use crate::support::results::kinds;
use crate::support::stores::{calls_of, store_with};

/// The signature of a record, as these tests make it.
fn signature(of: Cid) -> Referrer {
    let data = from_json(json!({"signature": of.to_string()}));
    Referrer::new(of, Referrer::SIGNATURE, data)
}

fn key(of: Cid, number: usize) -> Referrer {
    Referrer::new(of, Referrer::PUBLIC_KEY, from_json(json!({"key": number})))
}

fn missing() -> Cid {
    cid(&record(99))
}

async fn all<S: Stream>(results: S) -> Vec<S::Item> {
    in_a_week(results.collect()).await
}

#[tokio::test(start_paused = true)]
async fn a_referrer_that_cannot_be_stored_fails_alone_and_the_call_goes_on() {
    let (store, cids) = store_with(2);
    let mut annotated = signature(cids[1]);
    annotated.annotations = [("by".to_owned(), "me".to_owned())].into();
    annotated.created_at = "2026-01-01T00:00:00Z".to_owned();
    let pushed = [signature(cids[0]), signature(missing()), annotated.clone()];
    let results = all(stream::iter(pushed).push_referrers_to(&store.client())).await;
    assert_eq!(kinds(&results), [None, Some(ErrorKind::NotFound), None]);
    let failed = results[1].as_ref().unwrap_err();
    assert_eq!(failed.input, signature(missing()));
    assert!(
        failed
            .to_string()
            .starts_with("push_referrers of item 1: not found: failed to push referrer"),
        "{failed}"
    );
    assert_eq!(calls_of(&store, Method::PushReferrer).len(), 1);

    let kept = store.referrers(&cids[1]);
    assert_eq!(kept.len(), 1);
    annotated.cid = results[2].as_ref().unwrap().cid;
    assert!(annotated.cid.is_some());
    assert_eq!(
        kept[0], annotated,
        "all of it is stored, and its CID is told"
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_referrer_again_is_a_success_that_is_marked() {
    let (store, cids) = store_with(1);
    let client = store.client();
    client.push_referrer(signature(cids[0])).await.unwrap();
    let results = stream::iter([signature(cids[0]), key(cids[0], 1)]).push_referrers_to(&client);
    let handle = results.handle();
    let results: Vec<_> = all(results).await;
    let marks: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().unwrap().already_stored)
        .collect();
    assert_eq!(marks, [true, false]);
    assert_eq!(handle.stats().already_stored, 1);
    assert_eq!(store.referrers(&cids[0]).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_can_be_found_before_is_not_sent() {
    let (store, cids) = store_with(1);
    let long = from_json(json!({"x": "x".repeat(4 << 20)}));
    let pushed = [
        Referrer::new(cids[0], "", record(0)),
        Referrer::new(cids[0], "my.type", record(0)),
        Referrer::new(cids[0], Referrer::SIGNATURE, long),
    ];
    let results = all(stream::iter(pushed).push_referrers_to(&store.client())).await;
    assert_eq!(kinds(&results), [Some(ErrorKind::Invalid); 3]);
    let refs = stream::iter(["", "oops"]);
    let results = all(refs.pull_referrers_from(&store.client())).await;
    assert_eq!(kinds(&results), [Some(ErrorKind::Invalid); 2]);
    assert_eq!(store.calls(), []);
}

/// A later version of the server may know it, so it is for the server to say.
#[tokio::test(start_paused = true)]
async fn a_type_that_the_server_does_not_know_fails_alone() {
    let (store, cids) = store_with(1);
    let unknown = Referrer::new(cids[0], "agntcy.dir.sign.v9.Seal", record(0));
    let pushed = [key(cids[0], 0), unknown, key(cids[0], 1)];
    let results = all(stream::iter(pushed).push_referrers_to(&store.client())).await;
    assert_eq!(kinds(&results), [None, Some(ErrorKind::Rejected), None]);
}

#[tokio::test(start_paused = true)]
async fn a_referrer_whose_answer_was_lost_is_sent_again() {
    let (store, cids) = store_with(1);
    store.inject(Fault::cut_after().on(Method::PushReferrer).at(1));
    let pushed = stream::iter((0..4).map(|number| (key(cids[0], number), number)));
    let results = all(pushed.push_referrers_to(&store.client())).await;
    let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    let marks: Vec<_> = results
        .iter()
        .map(|pushed| (pushed.tag, pushed.already_stored))
        .collect();
    assert_eq!(marks, [(0, false), (1, true), (2, false), (3, false)]);
    assert_eq!(store.referrers(&cids[0]).len(), 4);
}

/// Whatever else the server says of a referrer may pass, as an outage of its registry does.
#[tokio::test(start_paused = true)]
async fn a_store_behind_the_server_that_is_away_loses_no_referrer() {
    let (client, peer) = scripted();
    let pushed = stream::iter((0..3).map(|number| key(missing(), number)));
    let mut results = pushed.chain(stream::pending()).push_referrers_to(&client);
    let mut call = next_call(&mut results, &peer).await;
    let away = PushedReferrer {
        error: Some(
            "failed to push referrer for record x: dial tcp: connection refused".to_owned(),
        ),
        ..PushedReferrer::default()
    };
    let good = PushedReferrer {
        success: true,
        ..PushedReferrer::default()
    };
    assert_eq!(call.messages().len(), 3);
    for _ in 0..3 {
        call.answer(&away);
    }
    let mut stored = 0;
    for _ in 0..10_000 {
        if let Poll::Ready(result) = poll(&mut results) {
            result.unwrap().unwrap();
            stored += 1;
            continue;
        }
        for _ in call.messages() {
            call.answer(&good);
        }
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    assert_eq!(stored, 3);
    assert_eq!(results.stats().calls, 1, "the call went on");
}

/// It still says of what is stored that it is, which shows nothing of what has to be written.
#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_write_fails_no_referrer() {
    let answer = |end: &str| PushedReferrer {
        error: Some(format!(
            "failed to push referrer for record x: write a: {end}"
        )),
        ..PushedReferrer::default()
    };
    let (client, peer) = scripted();
    let (referrers, input) = mpsc::unbounded();
    let mut results = input.push_referrers_to_with(&client, &Options::new().unordered(true));
    referrers.unbounded_send(key(missing(), 0)).unwrap();
    let mut call = next_call(&mut results, &peer).await;
    let new = call.messages().remove(0);
    call.answer(&answer("no space left on device"));
    let mut tries = 1;
    for number in 1..300 {
        referrers.unbounded_send(key(missing(), number)).unwrap();
        loop {
            if let Poll::Ready(result) = poll(&mut results) {
                assert!(result.unwrap().unwrap().already_stored);
                continue;
            }
            let sent = call.messages();
            if sent.is_empty() {
                break;
            }
            for message in sent {
                let is_new = message == new;
                tries += usize::from(is_new);
                call.answer(&answer(match is_new {
                    true => "no space left on device",
                    false => "already exists",
                }));
            }
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!((10..100).contains(&tries), "{tries} tries");
}

#[tokio::test(start_paused = true)]
async fn each_ref_has_the_list_of_its_referrers() {
    let (store, cids) = store_with(2);
    let client = store.client();
    let pushed = [signature(cids[0]), key(cids[0], 0), key(cids[0], 1)];
    let pushed = all(stream::iter(pushed).push_referrers_to(&client)).await;
    let one = pushed[2].as_ref().unwrap().cid.unwrap();

    let all_of = ReferrersOf::new;
    let asked = [
        (all_of(cids[0]), "all"),
        (all_of(cids[0]).of_type(Referrer::PUBLIC_KEY), "keys"),
        (all_of(cids[0]).only(one), "one"),
        (
            all_of(cids[0]).of_type(Referrer::SIGNATURE).only(one),
            "a signature that is a key",
        ),
        (all_of(cids[1]), "of a record without any"),
        (all_of(missing()), "of no record"),
    ];
    let results = all(stream::iter(asked).pull_referrers_from(&client)).await;
    let lens: Vec<_> = results
        .iter()
        .map(|result| {
            result
                .as_ref()
                .map(|pulled| (pulled.tag, pulled.referrers.len()))
        })
        .map(|result| result.map_err(|failed| (failed.tag, failed.kind())))
        .collect();
    assert_eq!(
        lens,
        [
            Ok(("all", 3)),
            Ok(("keys", 2)),
            Ok(("one", 1)),
            Ok(("a signature that is a key", 0)),
            Ok(("of a record without any", 0)),
            Err(("of no record", ErrorKind::NotFound)),
        ]
    );
    let found = &results[2].as_ref().unwrap().referrers[0];
    assert_eq!((found.record, found.cid), (cids[0], Some(one)));
    assert_eq!(found.data, key(cids[0], 1).data);
    assert_eq!(
        client
            .pull_referrers(cids[0])
            .await
            .unwrap()
            .referrers
            .len(),
        3
    );
}

/// Each takes a call and a round trip, so many calls take a part of the time.
#[tokio::test(start_paused = true)]
async fn a_thousand_refs_take_as_many_round_trips_as_calls_allow() {
    let (store, cids) = store_with(1);
    store
        .client()
        .push_referrer(signature(cids[0]))
        .await
        .unwrap();
    let round_trip = Duration::from_millis(10);
    store.inject(
        Fault::delay(round_trip)
            .on(Method::PullReferrer)
            .times(u64::MAX),
    );
    for calls in [1, 8, 32] {
        let start = Instant::now();
        let refs = stream::repeat(cids[0]).take(1_000);
        let options = Options::new().calls(calls);
        let summary = in_a_week(
            refs.pull_referrers_from_with(&store.client(), &options)
                .finish(),
        )
        .await;
        assert_eq!(summary.stats.succeeded, 1_000);
        assert_eq!(summary.stats.calls, 1_000);
        let took = start.elapsed();
        let least = round_trip * (1_000 / calls as u32);
        assert!(took >= least, "{calls} calls: {took:?}");
        assert!(
            took <= least + 2 * round_trip,
            "{calls} calls: {took:?}, not {least:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_is_asked_for_again() {
    let (client, peer) = scripted();
    let mut results = stream::iter([missing(), missing()]).pull_referrers_from(&client);
    let referrer = |number: usize| crate::support::referrers::PulledReferrer {
        referrer: Some(crate::support::referrers::Referrer {
            kind: Referrer::PUBLIC_KEY.to_owned(),
            created_at: number.to_string(),
            ..Default::default()
        }),
    };
    let mut call = next_call(&mut results, &peer).await;
    call.answer(&referrer(0));
    call.break_off();
    // The server has failed behind the first.
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(call.messages().len(), 1);
    assert!(call.is_half_closed());
    call.answer(&referrer(0));
    call.answer(&crate::support::referrers::PulledReferrer::default());
    call.end(tonic::Code::Ok, "");
    for _ in 0..2 {
        let mut call = next_call(&mut results, &peer).await;
        assert_eq!(call.messages().len(), 1);
        call.answer(&referrer(0));
        call.answer(&referrer(1));
        call.end(tonic::Code::Ok, "");
    }
    for _ in 0..2 {
        let pulled = next(&mut results).unwrap();
        let made: Vec<_> = pulled
            .referrers
            .iter()
            .map(|one| &*one.created_at)
            .collect();
        assert_eq!(made, ["0", "1"], "no part of the lists that broke off");
    }
}

#[tokio::test(start_paused = true)]
async fn a_referrer_of_another_record_is_a_mismatch() {
    let (client, peer) = scripted();
    let mut results = stream::iter([missing()]).pull_referrers_from(&client);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(call.messages().len(), 1);
    call.answer(&crate::support::referrers::PulledReferrer {
        referrer: Some(crate::support::referrers::Referrer {
            record: Some(crate::support::messages::RecordRef::new(cid(&record(0)))),
            ..Default::default()
        }),
    });
    call.end(tonic::Code::Ok, "");
    assert_eq!(next(&mut results).unwrap_err().kind(), ErrorKind::Mismatch);
}

#[tokio::test(start_paused = true)]
async fn a_delete_tells_what_was_there() {
    let (store, cids) = store_with(3);
    let client = store.client();
    let pushed = [signature(cids[0]), key(cids[0], 0), key(cids[1], 0)];
    let pushed = all(stream::iter(pushed).push_referrers_to(&client)).await;
    let own = |place: usize| pushed[place].as_ref().unwrap().cid.unwrap();

    let deleted = [
        ReferrersOf::new(cids[0]).of_type(Referrer::SIGNATURE),
        ReferrersOf::new(missing()),
        ReferrersOf::new(cids[1]),
        ReferrersOf::new(cids[1]),
        ReferrersOf::new(cids[2]),
    ];
    let results = all(stream::iter(deleted).delete_referrers_from(&client)).await;
    assert_eq!(
        kinds(&results),
        [None, Some(ErrorKind::NotFound), None, None, None]
    );
    let gone = |place: usize| results[place].as_ref().unwrap().referrers.clone();
    assert_eq!(gone(0), [own(0)]);
    assert_eq!((gone(2), gone(3), gone(4)), (vec![own(2)], vec![], vec![]));
    assert_eq!(store.referrers(&cids[0]).len(), 1, "the key is left");
    assert!(store.contains(&cids[0]));
}

/// What the lost answer told is lost, and that shows.
#[tokio::test(start_paused = true)]
async fn a_delete_whose_answer_was_lost_shows_that() {
    let (store, cids) = store_with(1);
    let client = store.client();
    client.push_referrer(key(cids[0], 0)).await.unwrap();
    store.inject(Fault::cut_after().on(Method::DeleteReferrer));
    let deleted = client.delete_referrers(cids[0]).await.unwrap();
    assert_eq!((deleted.referrers.len(), deleted.attempts), (0, 2));
    assert_eq!(store.referrers(&cids[0]), []);
}

/// Ok: how many referrers it has. Err: how far it came.
fn fates<E: std::fmt::Debug>(
    results: Vec<agntcy_dir_stream::SignResult<(), Failed<Record>, E>>,
) -> Vec<Result<usize, &'static str>> {
    let fate = |result| match result {
        Ok(agntcy_dir_stream::Signed { referrers, .. }) => Ok(referrers.len()),
        Err(SignFailed::NotPushed(_)) => Err("not pushed"),
        Err(SignFailed::NotSigned { .. }) => Err("not signed"),
        Err(SignFailed::NotAttached { .. }) => Err("not attached"),
        Err(_) => unreachable!(),
    };
    results.into_iter().map(fate).collect()
}

#[tokio::test(start_paused = true)]
async fn each_record_has_its_fate_at_each_stage() {
    let store = Store::new();
    let client = store.client();
    let pushed = stream::iter([record(0), nameless(1), record(2), record(3), record(4)]);
    let signer = |pushed: &agntcy_dir_stream::Pushed| {
        let (index, cid) = (pushed.index, pushed.cid);
        async move {
            // Those behind are done earlier.
            sleep(Duration::from_secs(10 - index)).await;
            match index {
                2 => Err("the signer is away"),
                3 => Ok(vec![signature(cid), key(missing(), 0)]),
                4 => Ok(vec![]),
                _ => Ok(vec![signature(cid), key(cid, 0)]),
            }
        }
    };
    let start = Instant::now();
    let results = all(pushed.push_to(&client).sign_with(&client, signer)).await;
    assert!(
        start.elapsed() < Duration::from_secs(11),
        "they sign at once"
    );
    let words: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .map(ToString::to_string)
        .collect();
    assert!(words[0].starts_with("push of item 1: refused"), "{words:?}");
    let at = |number| format!("signing of item {number}, {}: ", cid(&record(number)));
    assert_eq!(words[1], at(2) + "the signer is away");
    assert!(
        words[2].starts_with(&(at(3) + "1 of 2 referrers failed: not found: ")),
        "{words:?}"
    );
    let Err(SignFailed::NotAttached { referrers, .. }) = &results[3] else {
        panic!("{results:?}");
    };
    assert_eq!(referrers[0].as_ref().unwrap().index, 0);
    let failed = referrers[1].as_ref().unwrap_err();
    assert_eq!((failed.index, &failed.input), (1, &key(missing(), 0)));
    assert_eq!(
        fates(results),
        [
            Ok(2),
            Err("not pushed"),
            Err("not signed"),
            Err("not attached"),
            Ok(0)
        ]
    );
    // None of them was deleted.
    for number in [0, 2, 3, 4] {
        assert!(store.contains(&cid(&record(number))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_not_signed_can_be_signed_later() {
    let store = Store::new();
    let client = store.client();
    let is_away = Cell::new(true);
    let signer = |pushed: &agntcy_dir_stream::Pushed| {
        let signed = match is_away.get() {
            true => Err(Error::new(ErrorKind::Unavailable, "away")),
            false => Ok([signature(pushed.cid)]),
        };
        std::future::ready(signed)
    };
    let failed = all(records(3).push_to(&client).sign_with(&client, signer)).await;
    is_away.set(false);
    let again = failed
        .into_iter()
        .map(|result| result.unwrap_err().into_pushed().unwrap());
    let again = stream::iter(again.map(Ok::<_, Failed<Record>>));
    assert_eq!(
        fates(all(again.sign_with(&client, signer)).await),
        [Ok(1), Ok(1), Ok(1)]
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_records_are_signed_than_the_window_has_room_for() {
    let (store, cids) = store_with(1);
    store.inject(Fault::stall().on(Method::PushReferrer));
    let taken = Cell::new(0);
    let pushed = stream::repeat_with(|| {
        taken.set(taken.get() + 1);
        Ok::<_, Failed<Record>>(agntcy_dir_stream::Pushed::new(taken.get(), cids[0]))
    });
    // The first has a referrer that gets no answer, and those behind have none at all.
    let signer = |pushed: &agntcy_dir_stream::Pushed| {
        let signed = (pushed.index == 1).then(|| signature(pushed.cid));
        std::future::ready(Ok::<_, Error>(signed))
    };
    let options = Options::new().window(10);
    let client = store.client();
    let mut results = pin!(pushed.sign_with_options(&client, &options, 4, signer));
    for _ in 0..100 {
        assert!(results.next().now_or_never().is_none());
        sleep(Duration::from_millis(10)).await;
    }
    assert!(taken.get() <= 10 + 4, "{}", taken.get());
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_signers_work_at_once() {
    let store = Store::new();
    let client = store.client();
    let (at_work, most) = (Cell::new(0), Cell::new(0));
    let signer = |_: &agntcy_dir_stream::Pushed| async {
        at_work.set(at_work.get() + 1);
        most.set(most.get().max(at_work.get()));
        sleep(Duration::from_secs(1)).await;
        at_work.set(at_work.get() - 1);
        Ok::<_, Error>([])
    };
    let pushed = records(20).push_to(&client);
    let signed = pushed.sign_with_options(&client, &Options::new(), 3, signer);
    assert_eq!(all(signed).await.len(), 20);
    assert_eq!(most.get(), 3);
}

/// A signer may wait for something that comes with later records: those that are done are not held back by it, but for
/// the order.
#[tokio::test(start_paused = true)]
async fn results_come_as_soon_as_those_before_them_are_there() {
    let store = Store::new();
    let client = store.client();
    let (input, pushed) = mpsc::unbounded();
    let signer = |pushed: &agntcy_dir_stream::Pushed| {
        std::future::ready(Ok::<_, Error>([signature(pushed.cid)]))
    };
    let mut signed = pin!(pushed.push_to(&client).sign_with(&client, signer));
    for number in 0..3 {
        input.unbounded_send(record(number)).unwrap();
        let signed = in_a_week(signed.next()).await.unwrap().unwrap();
        assert_eq!(signed.pushed.index, number as u64);
    }
    drop(input);
    assert!(in_a_week(signed.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_from_records_to_publications_accounts_for_each() {
    let store = Store::new();
    let client = store.client();
    for (method, number) in [
        (Method::Push, 3),
        (Method::PushReferrer, 2),
        (Method::CreatePublication, 0),
    ] {
        store.inject(Fault::cut_after().on(method).at(number));
        store.inject(
            Fault::status(Status::unavailable("a moment"))
                .on(method)
                .in_call(2),
        );
    }
    let signed_at = Arc::new(Mutex::new(HashSet::new()));
    let signer = |pushed: &agntcy_dir_stream::Pushed<usize>| {
        assert!(
            signed_at.lock().unwrap().insert(pushed.index),
            "it is signed once"
        );
        std::future::ready(Ok::<_, Error>([signature(pushed.cid)]))
    };
    let input = stream::iter((0..50).map(|number| match number % 10 {
        7 => (nameless(number), number),
        _ => (record(number), number),
    }));
    let signed = input.push_to(&client).sign_with(&client, signer);
    let results = all(signed.try_publish_to(&client)).await;
    assert_eq!(results.len(), 50);
    store.run_publications();
    for (number, result) in results.iter().enumerate() {
        let of = cid(&record(number));
        assert_eq!(result.is_ok(), number % 10 != 7);
        assert_eq!(store.referrers(&of).len(), usize::from(result.is_ok()));
        assert_eq!(store.is_published(&of), result.is_ok());
    }
}
