//! The ends of an adapter beside the natural one, what they leave, and what an adapter tells of
//! itself while it runs.

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Leftover, Remainder, Retry};
use futures::channel::mpsc;
use futures::stream::FusedStream;
use futures::{Stream, StreamExt, stream};
use futures_test::stream::StreamTestExt;
use proptest::prelude::*;
use tokio::time::advance;
use tonic::Code;

use crate::support::clock::{SECOND, on_paused_clock};
use crate::support::peer::{PeerCall, scripted};
use crate::support::polling::{assert_ended, assert_pending, next, poll};
use crate::support::properties::cases;
use crate::support::records::{cid, number_with_cid, record, records};

fn indexes<I, T>(leftovers: &[Leftover<I, T>]) -> Vec<u64> {
    leftovers.iter().map(|leftover| leftover.index).collect()
}

// ---- finish ------------------------------------------------------------------------------------

#[cfg(feature = "server")]
#[tokio::test]
async fn finish_runs_to_the_end_and_says_what_it_came_to() {
    use agntcy_dir_stream::server::Store;

    use crate::support::clock::soon;
    use crate::support::records::nameless;

    let store = Store::new();
    let client = store.client();
    store.insert(record(5)).unwrap();
    let records = (0..100).map(|number| match number % 5 {
        3 => nameless(number),
        4 => Record::default(),
        _ => record(number),
    });
    let mut results = stream::iter(records).push_to(&client);
    // What was read before is in the counts.
    soon(results.next()).await.unwrap().unwrap();
    let summary = soon(results.finish()).await;
    let stats = &summary.stats;
    assert_eq!((stats.taken, stats.succeeded, stats.failed), (100, 60, 40));
    assert_eq!(stats.already_stored, 1);
    assert_eq!(stats.failed_as(ErrorKind::Rejected), 20);
    assert_eq!(stats.failed_as(ErrorKind::Invalid), 20);
    assert_eq!(stats.failed_as(ErrorKind::OutcomeUnknown), 0);
    assert_eq!((stats.answered_below, stats.in_window), (100, 0));
    assert_eq!(stats.sent - stats.resent, 80, "each that is fit to be sent");
    let calls = store.calls().len() as u64;
    assert_eq!((stats.calls, stats.lookup_calls), (calls, 1));
    assert_eq!(stats.faults, 0);
    let first: Vec<_> = summary
        .first_failures
        .iter()
        .map(|failure| (failure.index, failure.kind))
        .collect();
    let (refused, invalid) = (ErrorKind::Rejected, ErrorKind::Invalid);
    assert_eq!(first.len(), 10);
    assert_eq!(first[..3], [(3, refused), (4, invalid), (8, refused)]);
    let text = summary.to_string();
    assert!(
        text.starts_with("60 ok (1 already stored), 40 failed"),
        "{text}"
    );
    assert!(
        text.contains("\nitem 4: invalid: the record has no data"),
        "{text}"
    );
}

// ---- stats -------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn stats_are_live_and_can_be_watched_from_elsewhere() {
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to(&client);
    let handle = results.handle();
    let elsewhere = handle.clone();
    assert_eq!(handle.stats(), agntcy_dir_stream::Stats::default());
    for number in 0..3 {
        records.unbounded_send(record(number)).unwrap();
    }
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.records().len(), 3);
    let stats = results.stats();
    assert_eq!((stats.taken, stats.in_window, stats.sent), (3, 3, 3));
    assert_eq!((stats.calls, stats.answered_below), (1, 0));
    call.answer_cid(cid(&record(0)));
    next(&mut results).unwrap();
    let stats = std::thread::spawn(move || elsewhere.stats())
        .join()
        .unwrap();
    assert_eq!((stats.succeeded, stats.in_window), (1, 2));
    assert_eq!(stats.answered_below, 1);
    drop(results);
    assert_eq!(handle.stats().succeeded, 1, "they outlive the adapter");
}

#[tokio::test(start_paused = true)]
async fn out_of_order_the_resume_point_is_below_the_first_that_waits() {
    let (client, peer) = scripted();
    let options = Options::new().unordered(true);
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to_with(&client, &options);
    for number in 0..4 {
        records.unbounded_send(record(number)).unwrap();
    }
    assert_pending(&mut results);
    let mut call = peer.call();
    call.records();
    call.answer_cid(cid(&record(0)));
    assert_eq!(next(&mut results).unwrap().index, 0);
    call.end(Code::Internal, "no");
    assert_pending(&mut results);
    let (mut look_up, mut call) = (peer.call(), peer.call());
    look_up.refs();
    look_up.end(Code::NotFound, "");
    call.store_all();
    // They do not wait for the one that rests.
    assert_eq!(next(&mut results).unwrap().index, 2);
    assert_eq!(next(&mut results).unwrap().index, 3);
    assert_pending(&mut results);
    assert_eq!(results.stats().answered_below, 1);
    advance(SECOND).await;
    assert_pending(&mut results);
    call.store_all();
    assert_eq!(next(&mut results).unwrap().index, 1);
    assert_eq!(results.stats().answered_below, 4);
}

#[tokio::test(start_paused = true)]
async fn out_of_order_is_bounded_too() {
    let (client, peer) = scripted();
    let options = Options::new().window(2).unordered(true);
    let refs = stream::iter((0..).map(|number| cid(&record(number))));
    let mut results = refs.pull_from_with(&client, &options);
    assert_pending(&mut results);
    let call = peer.call();
    call.end(Code::Internal, "no");
    let mut call: Option<PeerCall> = None;
    let mut answered = 0;
    for _ in 0..1_000 {
        while let Poll::Ready(Some(result)) = poll(&mut results) {
            result.unwrap();
        }
        call = call.or_else(|| peer.try_call());
        if let Some(call) = &mut call {
            for text in call.refs() {
                let number = number_with_cid(&text);
                // The first is never answered.
                if number > 0 {
                    call.answer(&record(number));
                    answered += 1;
                }
            }
        }
    }
    assert!(answered < 8 * 2, "{answered} are ahead of the first");
}

// ---- drain -------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn drain_takes_no_more_and_answers_what_is_in_flight() {
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to(&client);
    for number in 0..3 {
        records.unbounded_send(record(number)).unwrap();
    }
    assert_pending(&mut results);
    let mut call = peer.call();
    call.records();
    results.drain(10 * SECOND);
    records.unbounded_send(record(3)).unwrap();
    assert_pending(&mut results);
    assert!(call.records().is_empty(), "no more is taken");
    assert!(call.is_half_closed());
    for number in 0..3 {
        call.answer_cid(cid(&record(number)));
    }
    for index in 0..3 {
        assert_eq!(next(&mut results).unwrap().index, index);
    }
    assert_pending(&mut results);
    call.end(Code::Ok, "");
    assert_ended(&mut results);
    assert!(results.is_terminated());
    let mut remainder = results.into_remainder();
    assert_eq!(remainder.next_index, 3);
    assert_eq!(
        remainder.input.next().await,
        Some(record(3)),
        "it is still there"
    );
}

#[tokio::test(start_paused = true)]
async fn what_has_no_answer_by_the_deadline_says_what_is_known_of_it() {
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to(&client);
    records.unbounded_send(record(0)).unwrap();
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.records().len(), 1);
    call.break_off();
    records.unbounded_send(record(1)).unwrap();
    assert_pending(&mut results);
    results.drain(Duration::from_millis(50));
    assert_pending(&mut results);
    // Before the wait after the fault is over.
    advance(Duration::from_millis(60)).await;
    let failed = next(&mut results).unwrap_err();
    assert_eq!(
        (failed.index, failed.kind()),
        (0, ErrorKind::OutcomeUnknown)
    );
    assert!(failed.to_string().contains("drained"), "{failed}");
    let failed = next(&mut results).unwrap_err();
    assert_eq!((failed.index, failed.kind()), (1, ErrorKind::NotSent));
    assert_eq!(failed.input, record(1));
    assert_ended(&mut results);
    assert!(peer.try_call().is_none());
}

/// Its call was opened, but the transport has yet to make a connection: it holds all requests back.
#[tokio::test(start_paused = true)]
async fn what_was_queued_and_not_taken_has_not_left_and_will_not() {
    let record = || stream::iter([record(0)]);
    let (client, peer) = scripted();

    let mut results = record().push_to(&client);
    assert_pending(&mut results);
    let mut call = peer.call();
    results.drain(SECOND);
    assert_pending(&mut results);
    advance(2 * SECOND).await;
    let failed = next(&mut results).unwrap_err();
    assert_eq!(
        (failed.kind(), failed.attempts),
        (ErrorKind::NotSent, 0),
        "drained"
    );
    assert!(call.records().is_empty());

    let options = Options::new().retry(Retry::new().timeout(10 * SECOND));
    let mut results = record().push_to_with(&client, &options);
    assert_pending(&mut results);
    let mut call = peer.call();
    advance(11 * SECOND).await;
    let failed = next(&mut results).unwrap_err();
    assert_eq!(
        (failed.kind(), failed.attempts),
        (ErrorKind::NotSent, 0),
        "its time was up"
    );
    assert!(call.records().is_empty(), "it must not land later");

    let mut results = record().push_to(&client);
    assert_pending(&mut results);
    let mut call = peer.call();
    let remainder = results.into_remainder();
    assert_eq!(
        (indexes(&remainder.unsent), remainder.unsent[0].attempts),
        (vec![0], 0)
    );
    assert!(call.records().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_before_the_first_poll_takes_nothing() {
    let (client, peer) = scripted();
    let mut results = records(3).push_to(&client);
    results.drain(Duration::MAX);
    assert_eq!(results.size_hint().0, 0);
    assert_ended(&mut results);
    assert!(peer.try_call().is_none());
    assert_eq!(results.into_remainder().input.count().await, 3);
}

// ---- the remainder -----------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn the_remainder_says_what_was_never_sent_and_what_may_have_landed() {
    let (client, peer) = scripted();
    let mut results = stream::iter((0..9).map(|n| (record(n), n)))
        .push_to_with(&client, &Options::new().window(5));
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.records().len(), 5);
    call.answer_cid(cid(&record(0)));
    call.answer_cid(cid(&record(1)));
    assert_eq!(next(&mut results).unwrap().index, 0);
    assert_eq!(results.stats().in_window, 4);
    let remainder: Remainder<_, _> = results.into_remainder();
    assert!(call.is_reset());
    // The second answer had come, but nobody had polled for it.
    assert!(remainder.unread.is_empty());
    assert_eq!(indexes(&remainder.unanswered), [1, 2, 3, 4]);
    assert_eq!(remainder.unanswered[0].input, record(1));
    assert_eq!(remainder.unanswered[0].tag, 1);
    assert_eq!(remainder.unanswered[0].attempts, 1);
    assert!(remainder.unsent.is_empty());
    assert_eq!(remainder.next_index, 5);
    let rest: Vec<_> = remainder.input.map(|(_, number)| number).collect().await;
    assert_eq!(rest, [5, 6, 7, 8]);
}

#[tokio::test(start_paused = true)]
async fn results_that_were_not_read_are_in_the_remainder() {
    let (client, peer) = scripted();
    let input = stream::iter([record(0), Record::default(), record(2)]);
    let mut results = input.push_to(&client);
    assert_pending(&mut results);
    assert_eq!(peer.call().records().len(), 2);
    let handle = results.handle();
    assert_eq!(handle.stats().in_window, 3);
    let remainder = results.into_remainder();
    assert_eq!(handle.stats().in_window, 0);
    // The second has had its result since it was taken.
    assert_eq!(remainder.unread.len(), 1);
    let failed = remainder.unread[0].as_ref().unwrap_err();
    assert_eq!((failed.index, failed.kind()), (1, ErrorKind::Invalid));
    assert_eq!(indexes(&remainder.unanswered), [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_never_ran_gives_back_its_input() {
    let (client, _peer) = scripted();
    let mut remainder = records(3).push_to(&client).into_remainder();
    assert_eq!(remainder.next_index, 0);
    assert_eq!(remainder.input.next().await, Some(record(0)));
    assert!(format!("{remainder:?}").contains("unanswered: 0"));
}

#[tokio::test(start_paused = true)]
async fn what_broke_and_waits_may_have_landed_and_what_was_only_queued_has_not() {
    let (client, peer) = scripted();
    let (records, input) = mpsc::unbounded();
    let mut results = input.push_to(&client);
    records.unbounded_send(record(0)).unwrap();
    assert_pending(&mut results);
    let mut call = peer.call();
    call.records();
    call.break_off();
    records.unbounded_send(record(1)).unwrap();
    assert_pending(&mut results);
    let remainder = results.into_remainder();
    assert_eq!(indexes(&remainder.unanswered), [0]);
    assert_eq!(indexes(&remainder.unsent), [1]);
}

// ---- stop on error -----------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn the_first_failure_ends_the_stream_after_its_result() {
    let (client, peer) = scripted();
    let options = Options::new().stop_on_error(true);
    let mut results = records(5).push_to_with(&client, &options);
    assert_eq!(results.size_hint(), (1, Some(5)));
    assert_pending(&mut results);
    let mut call = peer.call();
    call.records();
    call.answer_cid(cid(&record(0)));
    call.end(Code::InvalidArgument, "no");
    assert_eq!(next(&mut results).unwrap().index, 0);
    assert_eq!(next(&mut results).unwrap_err().index, 1);
    assert_ended(&mut results);
    assert!(results.is_terminated());
    let remainder = results.into_remainder();
    // The server stopped at the one that it refused.
    assert_eq!(indexes(&remainder.unsent), [2, 3, 4]);
    assert!(remainder.unanswered.is_empty());
    assert!(peer.try_call().is_none(), "nothing more is sent");
}

// ---- the parts add up --------------------------------------------------------------------------

proptest! {
    #![proptest_config(cases(512))]

    /// Stopped or drained at any poll, with a peer that does anything: what was handed out and what
    /// is left add up to the input.
    #[test]
    fn the_parts_add_up_to_the_input(
        count in 0usize..20,
        size in 1usize..8,
        events in prop::collection::vec(0u8..8, 0..40),
        drain in any::<bool>(),
        unordered in any::<bool>(),
    ) {
        on_paused_clock(async {
            let (client, peer) = scripted();
            let input = stream::iter((0..count).map(|number| match number % 7 {
                6 => (Record::default(), number),
                _ => (record(number), number),
            }));
            let options = Options::new().window(size).unordered(unordered);
            let mut results = Box::pin(input.interleave_pending()).push_to_with(&client, &options);
            let mut seen = BTreeSet::new();
            let see = |seen: &mut BTreeSet<u64>, result: PushResult<usize>| {
                let (index, tag) = match &result {
                    Ok(pushed) => (pushed.index, pushed.tag),
                    Err(failed) => (failed.index, failed.tag),
                };
                assert_eq!(index, tag as u64);
                assert!(seen.insert(index), "{index} twice");
            };
            let mut calls: Vec<PeerCall> = Vec::new();
            for event in events {
                if let Poll::Ready(Some(result)) = poll(&mut results) {
                    see(&mut seen, result);
                }
                calls.extend(peer.try_call());
                match event {
                    0 | 1 => calls.iter_mut().for_each(|call| {
                        call.store_all();
                    }),
                    2 => advance(SECOND).await,
                    3 => calls.clear(),
                    4 => calls.drain(..).for_each(|call| call.end(Code::Internal, "no")),
                    5 => calls.drain(..).for_each(|call| call.end(Code::NotFound, "no")),
                    6 => calls.drain(..).for_each(|call| call.end(Code::Ok, "")),
                    _ => {}
                }
            }
            if drain {
                results.drain(Duration::ZERO);
                while let Some(result) = results.next().await {
                    see(&mut seen, result);
                }
            }
            let remainder = results.into_remainder();
            for result in remainder.unread {
                see(&mut seen, result);
            }
            for leftover in remainder.unsent.iter().chain(&remainder.unanswered) {
                assert_eq!(leftover.index, leftover.tag as u64);
                assert!(seen.insert(leftover.index), "{} twice", leftover.index);
            }
            assert_eq!(seen.len() as u64, remainder.next_index);
            for (_, number) in remainder.input.collect::<Vec<_>>().await {
                assert!(seen.insert(number as u64));
            }
            assert_eq!(seen.into_iter().collect::<Vec<_>>(), (0..count as u64).collect::<Vec<_>>());
        });
    }
}
