//! The adapters, poll by poll, against a peer that does what the test says.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Retry};
use futures::stream::FusedStream;
use futures::{FutureExt, Stream, StreamExt, stream};
use futures_test::stream::StreamTestExt;
use tonic::Code;

use crate::support::messages::{PUSH, RecordMeta, RecordRef};
use crate::support::peer::{PeerCall, scripted};
use crate::support::polling::{assert_ended, assert_pending, counted, next, poll, ready};
use crate::support::records::{cid, record, records, sized};

#[tokio::test(start_paused = true)]
async fn an_adapter_that_is_never_polled_does_nothing() {
    let (client, peer) = scripted();
    let taken = Cell::new(0);
    drop(counted(&taken).push_to(&client));
    assert_eq!(taken.get(), 0);
    assert!(peer.try_call().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_empty_input_opens_no_call() {
    let (client, peer) = scripted();
    let mut results = pin!(stream::empty::<Record>().push_to(&client));
    assert_ended(&mut results);
    assert!(results.is_terminated());
    assert!(peer.try_call().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_input_that_waits_opens_no_call() {
    let (client, peer) = scripted();
    let mut results = pin!(stream::pending::<Record>().push_to(&client));
    assert_pending(&mut results);
    assert!(peer.try_call().is_none());
}

#[tokio::test(start_paused = true)]
async fn records_leave_before_response_headers_come_and_together() {
    let (client, peer) = scripted();
    let mut results = pin!(records(10).push_to(&client));
    assert_pending(&mut results);

    let mut call = peer.call();
    assert_eq!(call.path, PUSH);
    assert_eq!(call.chunks(), 1, "ready records leave in one chunk");
    assert_eq!(call.store_all(), 10);
    assert!(call.is_half_closed());

    let pushed: Vec<_> = ready(&mut results)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for (number, pushed) in pushed.iter().enumerate() {
        assert_eq!(pushed.index, number as u64);
        assert_eq!(pushed.cid, cid(&record(number)));
    }
    assert_eq!(pushed.len(), 10);
    assert!(!results.is_terminated(), "the call has not ended");
    call.end(Code::Ok, "");
    assert_ended(&mut results);
    assert!(results.is_terminated());
    assert!(matches!(poll(&mut results), Poll::Ready(None)), "fused");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_in_one_poll_wakes_the_transport_once() {
    let (client, peer) = scripted();
    let (records, input) = futures::channel::mpsc::unbounded();
    let all = usize::MAX;
    let options = Options::new().in_flight(all, all);
    let mut results = pin!(input.push_to_with(&client, &options));
    records.unbounded_send(record(0)).unwrap();
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.records().len(), 1);
    let before = call.wakes();
    for number in 1..100 {
        records.unbounded_send(record(number)).unwrap();
    }
    assert_pending(&mut results);
    assert_eq!(call.wakes(), before + 1);
    assert_eq!(call.records().len(), 99);
}

#[tokio::test(start_paused = true)]
async fn an_idle_adapter_is_not_woken_and_an_answer_wakes_it() {
    let (client, peer) = scripted();
    let (records, input) = futures::channel::mpsc::unbounded();
    let mut results = pin!(input.push_to(&client));
    let (waker, wakes) = futures_test::task::new_count_waker();
    let mut cx = std::task::Context::from_waker(&waker);

    assert!(results.as_mut().poll_next(&mut cx).is_pending());
    assert_eq!(wakes, 0);
    records.unbounded_send(record(0)).unwrap();
    assert_eq!(wakes, 1, "by the input");
    assert!(results.as_mut().poll_next(&mut cx).is_pending());
    let mut call = peer.call();
    let before = wakes.get();
    assert_eq!(call.store_all(), 1);
    assert!(wakes.get() > before, "by the answer");
    assert!(matches!(
        results.as_mut().poll_next(&mut cx),
        Poll::Ready(Some(Ok(_)))
    ));
    assert!(results.as_mut().poll_next(&mut cx).is_pending());
    let before = wakes.get();
    assert!(results.as_mut().poll_next(&mut cx).is_pending());
    assert_eq!(wakes, before, "waiting wakes nobody");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_window_is_taken_ahead() {
    for size in [1, 2, 7, 300] {
        let (client, peer) = scripted();
        let taken = Cell::new(0);
        let all = usize::MAX;
        let options = Options::new().window(size).in_flight(all, all);
        let mut results = pin!(counted(&taken).push_to_with(&client, &options));
        // An always-ready input is taken from in several polls.
        for _ in 0..3 {
            assert_pending(&mut results);
        }
        assert_eq!(
            taken.get(),
            size,
            "a server that answers nothing stops the input"
        );
        let mut call = peer.call();
        assert_eq!(call.records().len(), size);
        for handed_out in 1..=20 {
            call.answer_cid(cid(&record(handed_out)));
            assert!(matches!(poll(&mut results), Poll::Ready(Some(Ok(_)))));
            assert!(taken.get() <= handed_out + size, "{} taken", taken.get());
        }
        assert_pending(&mut results);
        assert_eq!(taken.get(), 20 + size, "and room is used again");
    }
}

#[tokio::test(start_paused = true)]
async fn the_window_counts_bytes_too() {
    let (client, peer) = scripted();
    let taken = Cell::new(0);
    let len = record(1).encoded_len();
    let options = Options::new().window_bytes(3 * len);
    let mut results = pin!(counted(&taken).push_to_with(&client, &options));
    assert_pending(&mut results);
    assert_eq!(taken.get(), 3);
    assert_eq!(peer.call().records().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_pauses_stops_the_input() {
    let (client, peer) = scripted();
    let taken = Cell::new(0);
    let mut results = pin!(counted(&taken).push_to_with(&client, &Options::new().window(4)));
    assert_pending(&mut results);
    let mut call = peer.call();
    call.store_all();
    assert_eq!(taken.get(), 4, "answers alone take nothing");
    assert!(call.records().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refused_record_fails_alone() {
    let (client, peer) = scripted();
    let mut results = pin!(records(5).push_to(&client));
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.records().len(), 5);
    call.answer_cid(cid(&record(0)));
    call.answer_cid(cid(&record(1)));
    call.end(Code::InvalidArgument, "record validation failed: [name]");

    assert_eq!(next(&mut results).unwrap().index, 0);
    assert_eq!(next(&mut results).unwrap().index, 1);
    let failed = next(&mut results).unwrap_err();
    assert_eq!(failed.index, 2);
    assert_eq!(failed.attempts, 1);
    assert_eq!(failed.input, record(2));
    assert_eq!(failed.kind(), ErrorKind::Rejected);
    assert_eq!(
        failed.to_string(),
        "push of item 2: refused by the server: record validation failed: [name]"
    );

    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(
        call.records(),
        [record(3), record(4)],
        "what is unanswered, once"
    );
    call.answer_cid(cid(&record(3)));
    call.answer_cid(cid(&record(4)));
    call.end(Code::Ok, "");
    assert_eq!(ready(&mut results).len(), 2);
    assert!(results.is_terminated());
    assert!(peer.try_call().is_none());
}

#[tokio::test(start_paused = true)]
async fn bad_input_never_reaches_the_wire_and_disturbs_nobody() {
    let (client, peer) = scripted();
    let refs = ["", "no CID", &cid(&record(1)).to_string()].map(str::to_owned);
    let mut results = pin!(stream::iter(refs).lookup_in(&client));
    let failed = next(&mut results).unwrap_err();
    assert_eq!((failed.index, failed.attempts), (0, 0));
    assert_eq!(failed.kind(), ErrorKind::Invalid);
    let failed = next(&mut results).unwrap_err();
    assert_eq!(failed.input, "no CID");
    assert!(failed.to_string().contains("no CID"), "{failed}");
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs(), [cid(&record(1)).to_string()]);
    call.answer_cid(cid(&record(1)));
    assert_eq!(next(&mut results).unwrap().index, 2);
}

#[tokio::test(start_paused = true)]
async fn a_record_without_data_or_over_the_limit_is_not_sent() {
    let (client, peer) = scripted();
    let empty = Record::from_wire(&b""[..]).unwrap();
    let (fits, over) = (sized(4 << 20), sized((4 << 20) + 1));

    let mut results = pin!(stream::iter([empty, over, fits.clone()]).push_to(&client));
    let failed = next(&mut results).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "push of item 0: invalid: the record has no data"
    );
    let failed = next(&mut results).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "push of item 1: invalid: the record is 4194305 bytes long, 4194304 is the limit"
    );
    assert_pending(&mut results);
    assert_eq!(peer.call().records(), [fits]);
}

#[tokio::test(start_paused = true)]
async fn a_cid_that_does_not_match_is_an_error_unless_it_is_not_looked_at() {
    for (verify, expected) in [(true, Err(ErrorKind::Mismatch)), (false, Ok(0))] {
        let options = Options::new().verify(verify);
        let (client, peer) = scripted();
        let input = stream::iter([record(0)]);
        let mut pushed = pin!(input.clone().push_to_with(&client, &options));
        assert_pending(&mut pushed);
        peer.call().answer_cid(cid(&record(1)));
        let result = next(&mut pushed);
        assert_eq!(result.map(|p| p.index).map_err(|f| f.kind()), expected);

        let mut pulled = pin!(input.clone().pull_from_with(&client, &options));
        assert_pending(&mut pulled);
        peer.call().answer(&record(1));
        let result = next(&mut pulled);
        assert_eq!(result.map(|p| p.index).map_err(|f| f.kind()), expected);

        let mut found = pin!(input.lookup_in_with(&client, &options));
        assert_pending(&mut found);
        peer.call().answer_cid(cid(&record(1)));
        let result = next(&mut found);
        assert_eq!(result.map(|p| p.index).map_err(|f| f.kind()), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tag_of_any_type_comes_back_with_the_result() {
    /// Neither `Clone` nor `Debug`, nor `Send`.
    struct Handle(Rc<Cell<u32>>);
    let (client, peer) = scripted();
    let acknowledged = Rc::new(Cell::new(0));
    let input = stream::iter([
        (record(0), Handle(acknowledged.clone())),
        (
            Record::from_wire(&b""[..]).unwrap(),
            Handle(acknowledged.clone()),
        ),
    ]);
    let mut results = pin!(input.push_to(&client));
    assert_pending(&mut results);
    peer.call().answer_cid(cid(&record(0)));
    let pushed = next(&mut results).unwrap();
    pushed.tag.0.set(1);
    let failed = next(&mut results).err().unwrap();
    failed.tag.0.set(failed.tag.0.get() + 1);
    assert_eq!(acknowledged.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_delete_is_reported_only_when_its_call_is_acknowledged() {
    let (client, peer) = scripted();
    let refs = [cid(&record(0)), cid(&record(1))];
    let mut results = pin!(stream::iter(refs).delete_from(&client));
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs(), refs.map(|cid| cid.to_string()));
    assert!(call.is_half_closed());
    assert_pending(&mut results);
    call.answer(&());
    assert!(poll(&mut results).is_pending(), "the status is not there");
    call.end(Code::Ok, "");
    let deleted = ready(&mut results);
    assert_eq!(deleted.len(), 2);
    assert_eq!(deleted[1].as_ref().unwrap().cid, refs[1]);
}

#[tokio::test(start_paused = true)]
async fn a_delete_without_acknowledgement_is_not_a_success() {
    let (client, peer) = scripted();
    let refs = stream::iter([cid(&record(0))]);
    let mut results = pin!(refs.delete_from_with(&client, &Options::new().retry(Retry::off())));
    assert_pending(&mut results);
    let mut call = peer.call();
    call.chunks();
    call.end(Code::Ok, "");
    let failed = next(&mut results).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(failed.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_segment_closes_when_the_input_waits() {
    let (client, peer) = scripted();
    let (refs, input) = futures::channel::mpsc::unbounded();
    let mut results = pin!(input.delete_from(&client));
    refs.unbounded_send(cid(&record(0))).unwrap();
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs().len(), 1);
    assert!(call.is_half_closed(), "or its result would never come");
    refs.unbounded_send(cid(&record(1))).unwrap();
    assert_pending(&mut results);
    assert!(peer.try_call().is_none(), "one segment at a time");
    call.answer(&());
    call.end(Code::Ok, "");
    assert_eq!(ready(&mut results).len(), 1);
    assert_eq!(peer.call().refs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_retries_a_broken_transport_fails_the_window_and_the_next_items_get_a_new_call() {
    let (client, peer) = scripted();
    let (records, input) = futures::channel::mpsc::unbounded();
    let mut results = pin!(input.push_to_with(&client, &Options::new().retry(Retry::off())));
    for number in 0..3 {
        records.unbounded_send(record(number)).unwrap();
    }
    assert_pending(&mut results);
    let mut call = peer.call();
    call.chunks();
    call.answer_cid(cid(&record(0)));
    assert_eq!(next(&mut results).unwrap().index, 0);
    call.break_off();
    for index in 1..3 {
        let failed = next(&mut results).unwrap_err();
        assert_eq!(
            (failed.index, failed.kind()),
            (index, ErrorKind::OutcomeUnknown)
        );
        assert!(failed.error.may_have_landed());
    }
    records.unbounded_send(record(3)).unwrap();
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.store_all(), 1);
    assert_eq!(next(&mut results).unwrap().index, 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_to_open_sent_nothing() {
    let (client, peer) = scripted();
    let mut results =
        pin!(stream::iter([record(0)]).push_to_with(&client, &Options::new().retry(Retry::off())));
    assert_pending(&mut results);
    peer.call().break_off();
    let failed = next(&mut results).unwrap_err();
    assert_eq!((failed.kind(), failed.attempts), (ErrorKind::NotSent, 0));
    let source = std::error::Error::source(&failed).expect("the transport's word");
    assert!(source.to_string().contains("the peer is gone"), "{source}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_caller_is_told_for_every_item() {
    let (client, peer) = scripted();
    let mut results = pin!(records(50).push_to_with(&client, &Options::new().window(4)));
    assert_pending(&mut results);
    peer.call().end(Code::Unauthenticated, "no token");
    let results = ready(&mut results);
    assert_eq!(results.len(), 50);
    for (index, result) in results.into_iter().enumerate() {
        let failed = result.unwrap_err();
        assert_eq!(failed.index, index as u64);
        assert_eq!(failed.kind(), ErrorKind::Denied);
        assert_eq!(failed.error.status().unwrap().message(), "no token");
    }
    assert!(peer.try_call().is_none(), "one call was enough to know");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_what_nobody_asked_is_left() {
    let (client, peer) = scripted();
    let (records, input) = futures::channel::mpsc::unbounded();
    let mut results = pin!(input.push_to(&client));
    records.unbounded_send(record(0)).unwrap();
    assert_pending(&mut results);
    let mut call = peer.call();
    call.store_all();
    call.answer_cid(cid(&record(0)));
    assert_eq!(ready(&mut results).len(), 1);
    assert!(call.is_reset());
    records.unbounded_send(record(1)).unwrap();
    assert_pending(&mut results);
    assert_eq!(peer.call().store_all(), 1);
    assert_eq!(next(&mut results).unwrap().index, 1);
}

#[tokio::test(start_paused = true)]
async fn a_drop_is_a_reset_and_never_an_end() {
    type Case = (&'static str, fn(&mut PeerCall));
    let cases: [Case; 3] = [
        ("before anything is read", |_| {}),
        ("while the call opens", |call| {
            call.chunks();
        }),
        ("while the call is open", |call| {
            call.chunks();
            call.answer_cid(cid(&record(1)));
        }),
    ];
    for (case, act) in cases {
        let (client, peer) = scripted();
        let taken = Cell::new(0);
        let mut results =
            Box::pin(counted(&taken).push_to_with(&client, &Options::new().window(3)));
        assert_pending(&mut results);
        let mut call = peer.call();
        act(&mut call);
        let _ = poll(&mut results);
        drop(results);
        assert!(!call.is_half_closed(), "{case}");
        assert!(call.is_reset(), "{case}");
    }
}

/// However many polls a pipeline has seen when it is dropped, the peer sees an end only if the
/// input had ended.
#[tokio::test(start_paused = true)]
async fn a_drop_at_every_await_point_is_seen() {
    for polls in 0..40 {
        let (client, peer) = scripted();
        let ended = Cell::new(false);
        let input = records(6)
            .chain(stream::poll_fn(|_| {
                ended.set(true);
                Poll::Ready(None)
            }))
            .interleave_pending();
        let mut results = Box::pin(input.push_to_with(&client, &Options::new().window(2)));
        let mut calls: Vec<PeerCall> = Vec::new();
        for _ in 0..polls {
            if results.is_terminated() {
                break;
            }
            let _ = poll(&mut results);
            calls.extend(peer.try_call());
            for call in &mut calls {
                call.store_all();
            }
        }
        let finished = ended.get();
        drop(results);
        for call in &mut calls {
            assert_eq!(call.is_half_closed(), finished, "after {polls} polls");
            assert_eq!(call.is_reset(), !finished, "after {polls} polls");
        }
    }
}

/// A `next()` that is dropped before it is ready, as by a `select!`, loses nothing.
#[tokio::test(start_paused = true)]
async fn next_is_cancel_safe() {
    let (client, peer) = scripted();
    let input = records(20).interleave_pending();
    let mut results = pin!(input.push_to_with(&client, &Options::new().window(3)));
    let mut indexes = Vec::new();
    let mut calls = Vec::new();
    while !results.is_terminated() {
        // Each future is polled once and dropped.
        if let Some(Some(result)) = results.next().now_or_never() {
            indexes.push(result.unwrap().index);
        }
        calls.extend(peer.try_call());
        for call in &mut calls {
            call.store_all();
        }
        if indexes.len() == 20 {
            calls.drain(..).for_each(|call| call.end(Code::Ok, ""));
        }
    }
    assert_eq!(indexes, (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn work_in_one_poll_is_bounded() {
    let (client, _peer) = scripted();
    let taken = Cell::new(0);
    let bad = stream::repeat_with(|| {
        taken.set(taken.get() + 1);
        String::new()
    });
    let mut results = pin!(bad.lookup_in(&client));
    let (waker, wakes) = futures_test::task::new_count_waker();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut in_a_row = 0;
    while results.as_mut().poll_next(&mut cx).is_ready() {
        in_a_row += 1;
        assert!(
            in_a_row <= 128,
            "results that are always ready starve the task"
        );
    }
    assert!(wakes.get() >= 1, "and it asks to be polled again");
    assert!(taken.get() <= 2 * 256, "{} taken", taken.get());
}

#[tokio::test(start_paused = true)]
async fn the_size_hint_is_what_the_input_promised_less_what_was_handed_out() {
    let (client, peer) = scripted();
    let mut results = pin!(records(3).push_to(&client));
    assert_eq!(results.size_hint(), (3, Some(3)));
    assert_pending(&mut results);
    assert_eq!(
        results.size_hint(),
        (3, Some(3)),
        "in flight is still to come"
    );
    let mut call = peer.call();
    call.store_all();
    call.end(Code::Ok, "");
    next(&mut results).unwrap();
    assert_eq!(results.size_hint(), (2, Some(2)));
    ready(&mut results);
    assert_eq!(results.size_hint(), (0, Some(0)));

    let endless = stream::pending::<Record>().push_to(&client);
    assert_eq!(
        endless.size_hint(),
        (0, Some(0)).max(stream::pending::<Record>().size_hint())
    );
    assert!(format!("{endless:?}").contains("push"));
}

#[tokio::test(start_paused = true)]
async fn a_borrowed_input_that_is_not_send_runs() {
    let (client, peer) = scripted();
    let texts = RefCell::new(vec![cid(&record(1)).to_string()]);
    let borrowed = texts.borrow();
    let shared = Rc::new(());
    let input = stream::iter(
        borrowed
            .iter()
            .map(|text| (text.as_str(), Rc::clone(&shared))),
    );
    let mut results = pin!(input.pull_from(&client));
    assert_pending(&mut results);
    peer.call().answer(&record(1));
    let pulled = next(&mut results).ok().unwrap();
    assert_eq!(pulled.record, record(1));
    assert!(Rc::ptr_eq(&pulled.tag, &shared));
}

#[tokio::test(start_paused = true)]
async fn a_lookup_gives_the_metadata() {
    let (client, peer) = scripted();
    let cid = cid(&record(1));
    let mut results = pin!(stream::iter([cid]).lookup_in(&client));
    assert_pending(&mut results);
    peer.call().answer(&RecordMeta {
        cid: cid.to_string(),
        annotations: [("team".into(), "search".into())].into(),
        schema_version: "1.0.0".into(),
        created_at: "2026-01-01T00:00:00Z".into(),
    });
    let found = next(&mut results).unwrap();
    assert_eq!(found.cid, cid);
    assert_eq!(found.annotations["team"], "search");
    assert_eq!(found.schema_version, "1.0.0");
    assert_eq!(found.created_at, "2026-01-01T00:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_cid_is_that_items_error() {
    let (client, peer) = scripted();
    let mut results = pin!(stream::iter([record(0), record(1)]).push_to(&client));
    assert_pending(&mut results);
    let mut call = peer.call();
    call.answer(&RecordRef::new("?"));
    call.answer_cid(cid(&record(1)));
    let failed = next(&mut results).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Mismatch);
    assert_eq!(next(&mut results).unwrap().index, 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_goes_into_anyhow_with_its_index() {
    fn import(result: PushResult) -> anyhow::Result<Cid> {
        Ok(result?.cid)
    }
    let (client, _peer) = scripted();
    let empty = Record::from_wire(&b""[..]).unwrap();
    let mut results = pin!(stream::iter([empty]).push_to(&client));
    let error = import(next(&mut results)).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "push of item 0: invalid: the record has no data"
    );
}

/// A server that knows no compression must have nothing to refuse.
#[tokio::test]
async fn unless_asked_to_a_call_says_nothing_of_compression() {
    let (client, peer) = scripted();
    let mut results = pin!(stream::iter([record(1)]).push_to(&client));
    assert_pending(&mut results);
    let call = peer.call();
    for name in ["grpc-encoding", "grpc-accept-encoding"] {
        assert!(!call.sent_headers.contains_key(name), "{name}");
    }
}
