//! The adapters against the embedded store: what a pipeline gets, whatever happens.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Call, End, Fault, Method, Store};
use agntcy_dir_stream::{Client, Code, ErrorKind, Record, Retry, Status};
use futures::{Stream, StreamExt, stream};
use prost::Message as _;

use crate::support::clock::soon;
use crate::support::polling::poll_until;
use crate::support::records::{cid, nameless, record, records};
use crate::support::results::kinds;
use crate::support::sockets::free_address;
use crate::support::stores::{serve, store_with};

#[tokio::test]
async fn three_in_ten_are_refused_and_all_others_stored() {
    let store = Store::new();
    let client = store.client();
    let is_bad = |number: usize| number % 10 < 3;
    let input = (0..1_000).map(|number| match is_bad(number) {
        true => (nameless(number), number),
        false => (record(number), number),
    });
    let results: Vec<_> = soon(stream::iter(input).push_to(&client).collect()).await;
    assert_eq!(results.len(), 1_000);
    for (number, result) in results.iter().enumerate() {
        match result {
            Ok(pushed) => {
                assert!(!is_bad(number), "{number}");
                assert_eq!((pushed.index, pushed.tag), (number as u64, number));
                assert_eq!(pushed.cid, cid(&record(number)));
            }
            Err(failed) => {
                assert!(is_bad(number), "{failed}");
                assert_eq!((failed.index, failed.tag), (number as u64, number));
                assert_eq!(failed.input, nameless(number));
                assert_eq!(failed.kind(), ErrorKind::Rejected);
                let status = failed.error.status().unwrap();
                assert_eq!(status.code(), Code::InvalidArgument);
            }
        }
    }
    assert_eq!(store.len(), 700);
    // Nothing that was answered was sent again.
    let calls = store.calls();
    assert_eq!(calls.iter().map(|call| call.answers).sum::<u64>(), 700);
    assert_eq!(calls.len(), 301);
}

#[tokio::test]
async fn half_are_missing_and_the_other_half_found() {
    let store = Store::new();
    let client = store.client();
    let records: Vec<Record> = (0..1_000).map(record).collect();
    for record in records.iter().step_by(2) {
        store.insert(record.clone()).unwrap();
    }
    let refs = || stream::iter(&records).map(|record| (cid(record), record));

    let results: Vec<_> = soon(refs().lookup_in(&client).collect()).await;
    for (number, result) in results.iter().enumerate() {
        match result {
            Ok(found) => assert_eq!((found.cid, number % 2), (cid(found.tag), 0)),
            Err(failed) => {
                assert_eq!((failed.kind(), number % 2), (ErrorKind::NotFound, 1));
                assert_eq!(failed.input, cid(failed.tag));
            }
        }
    }
    assert_eq!(results.len(), 1_000);

    let results: Vec<_> = soon(refs().pull_from(&client).collect()).await;
    for (number, result) in results.iter().enumerate() {
        match result {
            Ok(pulled) => assert_eq!((&pulled.record, number % 2), (pulled.tag, 0)),
            Err(failed) => assert_eq!((failed.kind(), number % 2), (ErrorKind::NotFound, 1)),
        }
    }
    assert_eq!(results.len(), 1_000);

    let results: Vec<_> = soon(refs().delete_from(&client).collect()).await;
    assert_eq!(
        results.iter().filter(|result| result.is_ok()).count(),
        1_000
    );
    assert!(store.is_empty());
}

/// Each bad record costs a call that the server ends and resets. Neither side may take that for an attack.
#[tokio::test]
async fn thousands_of_bad_records_are_fine_on_one_connection() {
    let store = Store::new();
    let (_serving, client) = serve(&store).await;
    let input = stream::iter((0..4_000).map(nameless)).chain(stream::iter([record(1)]));
    // A small window: what is sent behind a bad record is sent in vain.
    let options = Options::new().window(4);
    let results: Vec<_> = soon(input.push_to_with(&client, &options).collect()).await;
    let refused =
        |result: &PushResult| matches!(result, Err(failed) if failed.kind() == ErrorKind::Rejected);
    assert_eq!(
        results.iter().filter(|result| refused(result)).count(),
        4_000
    );
    assert!(results[4_000].is_ok());
}

#[tokio::test]
async fn single_operations_do_what_the_adapters_do() {
    let store = Store::new();
    let client = store.client();
    let pushed = soon(client.push(record(1))).await.unwrap();
    assert_eq!(pushed.cid, cid(&record(1)));
    assert_eq!(
        soon(client.lookup(pushed.cid))
            .await
            .unwrap()
            .schema_version,
        "1.0.0"
    );
    assert_eq!(
        soon(client.pull(&record(1))).await.unwrap().record,
        record(1)
    );
    let failed = soon(client.pull("oops")).await.unwrap_err();
    assert_eq!((failed.input, failed.kind()), ("oops", ErrorKind::Invalid));
    soon(client.delete(pushed.cid)).await.unwrap();
    let failed = soon(client.pull(pushed.cid)).await.unwrap_err();
    assert_eq!((failed.kind(), failed.attempts), (ErrorKind::NotFound, 1));
    let ends: Vec<_> = store.calls().iter().map(|call| call.end).collect();
    let not_found = Some(End::Status(Code::NotFound));
    assert_eq!(
        ends,
        [
            Some(End::Ok),
            Some(End::Ok),
            Some(End::Ok),
            Some(End::Ok),
            not_found
        ]
    );
}

#[tokio::test]
async fn a_malformed_record_is_found_before_it_is_sent() {
    let store = Store::new();
    let client = store.client();
    // As it may come from a server: decoding does not look into the data.
    let malformed = Record::decode(&b"\x0a\x02\x0a\x09"[..]).unwrap();
    let input = [record(1), malformed, record(2)];
    let results: Vec<_> = soon(stream::iter(input).push_to(&client).collect()).await;
    assert!(results[0].is_ok() && results[2].is_ok());
    let failed = results[1].as_ref().unwrap_err();
    assert_eq!((failed.kind(), failed.attempts), (ErrorKind::Invalid, 0));
    assert_eq!((store.len(), store.calls().len()), (2, 1));
}

#[tokio::test]
async fn a_wrong_answer_is_that_records_mismatch() {
    let store = Store::new();
    let client = store.client();
    let numbers = 0..5;
    let refs = || stream::iter(numbers.clone().map(|number| cid(&record(number))));
    let options = |verify| Options::new().verify(verify);
    for verify in [true, false] {
        let expected = |number: u64| {
            (
                number,
                (verify && number == 2).then_some(ErrorKind::Mismatch),
            )
        };
        let expected: Vec<_> = (0..5).map(expected).collect();
        let wrong = |method| store.inject(Fault::wrong_answer().on(method).at(2));

        store.clear();
        wrong(Method::Push);
        let results = stream::iter(numbers.clone().map(record))
            .push_to_with(&client, &options(verify))
            .map(|result| result.map_or_else(|f| (f.index, Some(f.kind())), |p| (p.index, None)));
        assert_eq!(soon(results.collect::<Vec<_>>()).await, expected);

        wrong(Method::Pull);
        let results = refs()
            .pull_from_with(&client, &options(verify))
            .map(|result| result.map_or_else(|f| (f.index, Some(f.kind())), |p| (p.index, None)));
        assert_eq!(soon(results.collect::<Vec<_>>()).await, expected);

        wrong(Method::Lookup);
        let results = refs()
            .lookup_in_with(&client, &options(verify))
            .map(|result| result.map_or_else(|f| (f.index, Some(f.kind())), |p| (p.index, None)));
        assert_eq!(soon(results.collect::<Vec<_>>()).await, expected);
    }
}

/// Pushes ten records in windows of four, without retries, with a fault at the fifth.
async fn push_ten(fault: Fault) -> (Store, Vec<Option<ErrorKind>>) {
    let store = Store::new();
    store.inject(fault.at(4));
    let client = store.client();
    let options = Options::new().window(4).retry(Retry::off());
    let results = records(10).push_to_with(&client, &options);
    let results: Vec<_> = soon(results.collect()).await;
    (store.clone(), kinds(&results))
}

#[tokio::test]
async fn without_retries_a_broken_call_fails_what_it_carried_and_no_more() {
    for fault in [
        Fault::cut(),
        Fault::end(),
        Fault::status(Status::unavailable("later")),
        Fault::status(Status::cancelled("away")),
    ] {
        let name = format!("{fault:?}");
        let (store, kinds) = push_ten(fault).await;
        assert_eq!(kinds.len(), 10, "{name}");
        let first = kinds.iter().position(Option::is_some).expect(&name);
        assert!(first <= 4, "{name}");
        let lost = kinds.iter().flatten().count();
        assert!((1..=4).contains(&lost), "{name}: at most a window: {lost}");
        assert!(kinds[..first].iter().all(Option::is_none), "{name}");
        assert!(kinds[first + lost..].iter().all(Option::is_none), "{name}");
        assert_eq!(kinds[first], Some(ErrorKind::OutcomeUnknown), "{name}");
        for (number, kind) in kinds.iter().enumerate() {
            let stored = store.contains(&cid(&record(number)));
            match kind {
                None => assert!(stored, "{name}: {number} was acknowledged"),
                Some(ErrorKind::NotSent) => assert!(!stored, "{name}: {number} was not sent"),
                Some(kind) => assert_eq!(*kind, ErrorKind::OutcomeUnknown, "{name}: {number}"),
            }
        }
    }
}

#[tokio::test]
async fn without_retries_a_read_that_broke_says_that_nothing_changed() {
    let (store, refs) = store_with(10);
    let client = store.client();
    store.inject(Fault::cut().at(4));
    let options = Options::new().retry(Retry::off());
    let results = stream::iter(refs).pull_from_with(&client, &options);
    let results: Vec<_> = soon(results.collect()).await;
    let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!((6..=10).contains(&failed.len()));
    for failed in failed {
        assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed}");
        assert_eq!(failed.attempts, 1);
    }
}

#[tokio::test]
async fn a_refused_caller_is_told_so_for_every_item_in_one_call() {
    for (status, kind) in [
        (Status::unauthenticated("who?"), ErrorKind::Denied),
        (Status::permission_denied("no"), ErrorKind::Denied),
        (Status::unimplemented("what?"), ErrorKind::Unsupported),
    ] {
        let store = Store::new();
        let client = store.client();
        store.inject(Fault::status(status).at(5));
        let input = records(3_000);
        let options = Options::new().window(100);
        let results: Vec<_> = soon(input.push_to_with(&client, &options).collect()).await;
        assert_eq!(results.len(), 3_000);
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 5);
        for failed in results.into_iter().filter_map(Result::err) {
            assert_eq!(failed.kind(), kind);
        }
        assert_eq!((store.calls().len(), store.len()), (1, 5));
    }
}

#[tokio::test]
async fn a_spare_answer_spoils_no_later_record() {
    let store = Store::new();
    let client = store.client();
    store.inject(Fault::spare_answer().at(9));
    let input = records(10).chain(stream::iter((10..20).map(record)));
    let options = Options::new().window(10);
    let results: Vec<_> = soon(input.push_to_with(&client, &options).collect()).await;
    for (number, result) in results.iter().enumerate() {
        match result {
            Ok(pushed) => assert_eq!(pushed.cid, cid(&record(number))),
            // The spare answer came while the next record was out: it is not that record's.
            Err(failed) => assert_eq!(failed.kind(), ErrorKind::Mismatch, "{failed}"),
        }
    }
    assert_eq!(results.len(), 20);
}

#[tokio::test]
async fn a_goaway_loses_nothing() {
    let store = Store::new();
    let client = store.client();
    store.inject(Fault::go_away().at(3));
    let results: Vec<_> = soon(records(100).push_to(&client).collect()).await;
    assert!(results.iter().all(Result::is_ok));
    // The next call finds a new connection.
    soon(client.lookup(cid(&record(1)))).await.unwrap();
}

#[tokio::test]
async fn a_failing_delete_is_singled_out() {
    let (store, refs) = store_with(100);
    let client = store.client();
    // The segment fails, then each half that holds the first ref, until it stands alone.
    store.inject(
        Fault::status(Status::failed_precondition("pinned"))
            .at(0)
            .times(7),
    );
    let results: Vec<_> = soon(stream::iter(refs).delete_from(&client).collect()).await;
    let failed: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    assert_eq!((results.len(), failed.len()), (100, 1));
    assert_eq!(
        (failed[0].index, failed[0].kind()),
        (0, ErrorKind::Rejected)
    );
    assert!(failed[0].attempts > 1, "it was sent with others first");
    assert_eq!(store.len(), 1);
}

/// An import that is run again pushes such records. The server ends a call at each of them.
#[tokio::test]
async fn records_that_are_stored_are_pushed_again_at_little_cost() {
    let (store, _) = store_with(10_000);
    let client = store.client();
    let results = records(10_010).push_to(&client);
    let handle = results.handle();
    let results: Vec<_> = soon(results.collect()).await;
    for (number, result) in results.iter().enumerate() {
        let pushed = result.as_ref().unwrap();
        assert_eq!(
            (pushed.index, pushed.already_stored),
            (number as u64, number < 10_000)
        );
    }
    let stats = handle.stats();
    assert!(stats.calls < 60, "{stats}");
    assert!(stats.sent < 3_000, "{stats}");
    assert_eq!(stats.faults, 0, "{stats}");
}

/// The server ends the call at the first of 10,000 requests, most of which have yet to be sent.
#[tokio::test]
async fn a_server_that_ends_a_call_early_is_heard_while_it_is_sent_to() {
    let store = Store::new();
    let (_serving, client) = serve(&store).await;
    let options = Options::new().window(20_000);
    let input = stream::iter([nameless(0)]).chain(stream::iter((1..10_000).map(record)));
    let results: Vec<_> = soon(input.push_to_with(&client, &options).collect()).await;
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Rejected);
    assert!(results[1..].iter().all(Result::is_ok));
    assert_eq!(store.calls().len(), 2);

    let refs: Vec<_> = (1..10_000).map(|n| cid(&record(n))).collect();
    store.inject(
        Fault::status(Status::failed_precondition("pinned"))
            .of(refs[0])
            .times(u64::MAX),
    );
    let results: Vec<_> = soon(
        stream::iter(refs)
            .delete_from_with(&client, &options)
            .collect(),
    )
    .await;
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Rejected);
    assert!(results[1..].iter().all(Result::is_ok));
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn seven_bad_deletes_of_ten_thousand_are_singled_out() {
    let (store, refs) = store_with(10_000);
    let client = store.client();
    let bad = [0, 1, 1_023, 1_024, 5_000, 7_777, 9_999];
    for number in bad {
        let pinned = Fault::status(Status::failed_precondition("pinned"));
        store.inject(pinned.of(refs[number]).times(u64::MAX));
    }
    let results: Vec<_> = soon(stream::iter(&refs).delete_from(&client).collect()).await;
    assert_eq!(results.len(), 10_000);
    for (number, result) in results.iter().enumerate() {
        match result {
            Ok(deleted) => {
                assert_eq!(deleted.cid, refs[number]);
                assert!(!store.contains(&refs[number]) && !bad.contains(&number));
            }
            Err(failed) => {
                assert_eq!((failed.index, failed.input), (number as u64, &refs[number]));
                assert_eq!(failed.kind(), ErrorKind::Rejected);
                assert!(bad.contains(&number), "{failed}");
            }
        }
    }
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert_eq!((failed, store.len()), (7, 7));
    // A segment is up to 1,024 refs. Each bad one halves its own down, ten times, and those after it
    // grow again.
    let calls = store.calls().len();
    assert!(calls <= 10 + 7 * 2 * 11, "{calls} calls");
}

/// Items are taken a few hundred at a time, and a segment is closed when the window is full. The two may fall
/// together in any way.
#[tokio::test]
async fn deletes_of_every_length_end() {
    let store = Store::new();
    let client = store.client();
    let one = cid(&record(1));
    for (refs, items) in [
        (256, 256),
        (1_024, 1_024),
        (1_025, 1_024),
        (5_000, 512),
        (7, 1),
        (600, 300),
    ] {
        let results = stream::repeat(one)
            .take(refs)
            .delete_from_with(&client, &Options::new().window(items));
        let deleted = results.filter(|result| std::future::ready(result.is_ok()));
        assert_eq!(soon(deleted.count()).await, refs, "window {items}");
    }
}

/// Polls `results` until the store has read so many requests of the call at this place in its log.
async fn poll_until_read<S: Stream + Unpin>(
    results: &mut S,
    store: &Store,
    call: usize,
    requests: u64,
) {
    let are_read = |calls: &[Call]| {
        calls
            .get(call)
            .is_some_and(|call| call.requests == requests)
    };
    poll_until(results, store.wait_for(are_read)).await;
}

/// Waits until the last call is over.
async fn last_call(store: &Store) -> Call {
    let calls = store.wait_for(|calls| calls.last().is_some_and(|call| call.end.is_some()));
    soon(calls).await.pop().unwrap()
}

#[tokio::test]
async fn the_server_sees_every_drop_as_a_cancelled_call() {
    // While the call opens: nothing is answered, and the input goes on.
    let store = Store::new();
    let client = store.client();
    store.inject(Fault::stall());
    let input = stream::iter([record(1)]).chain(stream::pending());
    let mut results = Box::pin(input.push_to(&client));
    poll_until_read(&mut results, &store, 0, 1).await;
    drop(results);
    let call = last_call(&store).await;
    assert_eq!((call.end, call.half_closed), (Some(End::Cancelled), false));

    // In the middle, with more on its way than the connection takes.
    store.inject(Fault::stall().at(100));
    let mut results = Box::pin(stream::iter(0..).map(record).push_to(&client));
    for _ in 0..100 {
        soon(results.next()).await.unwrap().unwrap();
    }
    poll_until_read(&mut results, &store, 1, 101).await;
    drop(results);
    let call = last_call(&store).await;
    assert_eq!((call.end, call.half_closed), (Some(End::Cancelled), false));
    assert_eq!(store.len(), 100, "nothing lands after the drop");

    // Half-closed: all is sent, and the answers are awaited.
    store.inject(Fault::stall().at(2));
    let mut results = Box::pin(stream::iter((200..203).map(record)).push_to(&client));
    for _ in 0..2 {
        soon(results.next()).await.unwrap().unwrap();
    }
    poll_until_read(&mut results, &store, 2, 3).await;
    drop(results);
    assert_eq!(last_call(&store).await.end, Some(End::Cancelled));

    // A delete, which the end of its requests would complete.
    store.inject(Fault::stall().at(1));
    let refs = stream::iter([cid(&record(1)), cid(&record(2)), cid(&record(3))]);
    let mut results = Box::pin(refs.delete_from(&client));
    poll_until_read(&mut results, &store, 3, 2).await;
    drop(results);
    assert_eq!(last_call(&store).await.end, Some(End::Cancelled));
    assert!(!store.contains(&cid(&record(1))));
    assert!(store.contains(&cid(&record(2))));

    // And the connection serves on.
    soon(client.lookup(cid(&record(2)))).await.unwrap();
}

#[tokio::test]
async fn a_slow_consumer_stops_the_input() {
    let store = Store::new();
    let client = store.client();
    let mut taken = 0;
    let input = stream::iter(0..100).map(|number| {
        taken += 1;
        record(number)
    });
    let mut results = Box::pin(input.push_to_with(&client, &Options::new().window(8)));
    for handed_out in 1..=20 {
        soon(results.next()).await.unwrap().unwrap();
        // Whatever the server answers meanwhile.
        soon(store.wait_for(|calls| calls[0].answers >= handed_out)).await;
    }
    drop(results);
    assert!((20..=28).contains(&taken), "{taken}");
}

#[tokio::test]
async fn connecting_to_nobody_names_the_address() {
    let url = format!("http://{}", free_address());
    let error = soon(Client::connect(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let reason = format!("{:#}", anyhow::Error::from(error));
    let words = format!("server unavailable: cannot connect to {url}: ");
    assert!(reason.starts_with(&words), "{reason}");
    assert!(reason.contains("refused"), "{reason}");
    for url in [
        "",
        "127.0.0.1:8888",
        "ftp://a",
        "http://",
        "a b",
        "http://[::1",
    ] {
        let error = soon(Client::connect(url)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    assert_eq!(
        Client::connect_lazy("oops").unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let address = free_address();
    let client = Client::connect_lazy(format!("http://{address}")).unwrap();
    let store = Store::new();
    let results = records(100).push_to(&client);
    let handle = results.handle();
    let server = async {
        while handle.stats().faults < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(handle.stats().circuit_open);
        let fault = handle.last_fault().unwrap();
        assert!(fault.contains("connect"), "{fault}");
        store.listen(&address).await.unwrap()
    };
    let (summary, serving) = soon(futures::future::join(results.finish(), server)).await;
    assert_eq!(
        (summary.stats.succeeded, store.len()),
        (100, 100),
        "{summary}"
    );
    assert_eq!(summary.stats.resent, 0, "nothing had left");
    assert!(!summary.stats.circuit_open);
    drop(serving);
}

#[tokio::test]
async fn without_retries_a_server_that_went_away_fails_each_item_and_ends() {
    let store = Store::new();
    let (serving, client) = serve(&store).await;
    soon(client.push(record(1))).await.unwrap();
    drop(serving);
    let input = records(100);
    let options = Options::new().window(10).retry(Retry::off());
    let results: Vec<_> = soon(input.push_to_with(&client, &options).collect()).await;
    assert_eq!(results.len(), 100);
    for failed in results.into_iter().filter_map(Result::err) {
        assert!(
            matches!(
                failed.kind(),
                ErrorKind::NotSent | ErrorKind::OutcomeUnknown
            ),
            "{failed}"
        );
    }
}
