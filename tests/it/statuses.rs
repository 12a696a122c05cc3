//! What a status becomes: whose error it is, what is printed of it, and what is read of a damaged
//! one.

use std::error::Error as _;
use std::io;
use std::pin::pin;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{CircuitBreaker, Error, ErrorKind, Failed, Retry};
use futures::{StreamExt, stream};
use tonic::{Code, ConnectError};

use crate::support::clock::{SECOND, in_a_week, soon};
use crate::support::messages::{LOOKUP, RecordMeta, trailers};
use crate::support::peer::{next_call_of, scripted};
use crate::support::polling::{assert_pending, next, poll};
use crate::support::records::{cid, record, records};
use crate::support::results::causes;
use crate::support::sockets::free_address;

#[tokio::test(start_paused = true)]
async fn the_status_of_a_call_is_shared_by_all_that_it_ended() {
    let all = 1_000;
    let long = "x".repeat(900 << 10);
    for code in [Code::PermissionDenied, Code::Unavailable] {
        let (client, peer) = scripted();
        let options = Options::new().retry(Retry::off()).in_flight(all, all);
        let results = records(1_000).push_to_with(&client, &options);
        let mut results = pin!(results);
        assert_pending(&mut results);
        let mut call = peer.call();
        let mut sent = call.records().len();
        while sent < 1_000 {
            // An input that is always ready is taken in parts.
            assert_pending(&mut results);
            sent += call.records().len();
        }
        call.end(code, &long);
        let error = |result: PushResult| result.unwrap_err().error;
        let errors: Vec<Error> = results.as_mut().map(error).collect().await;
        assert_eq!(errors.len(), 1_000);
        let first = errors[0].status().unwrap();
        assert!(first.message().starts_with("xx") && first.message().ends_with("xx"));
        assert!(first.message().len() < 20_000, "they may wait");
        for error in &errors {
            assert!(std::ptr::eq(error.status().unwrap(), first));
            assert!(error.to_string().len() < 5_000);
        }
        let last_fault = results.handle().last_fault();
        assert!(last_fault.is_none_or(|words| words.len() < 5_000));
    }
}

/// What a server says must not act on the terminal or the log that it is printed to.
#[tokio::test(start_paused = true)]
async fn the_words_of_a_server_are_escaped_where_they_are_printed() {
    const NASTY: &str = "\u{1b}[2J\u{9b}31mno\r\n2026 INFO all is well\0\u{202e}\u{2028}";
    let encoded: String = NASTY.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for code in [Code::InvalidArgument, Code::Unavailable, Code::Internal] {
        let (client, peer) = scripted();
        let options = Options::new().retry(Retry::off()).stop_on_error(true);
        let results = stream::iter([record(0)]).push_to_with(&client, &options);
        let mut results = pin!(results);
        assert_pending(&mut results);
        peer.call().end(code, &encoded);
        let failed = next(&mut results).unwrap_err();
        assert_eq!(failed.error.status().unwrap().message(), NASTY);
        assert!(results.next().await.is_none());
        let handle = results.handle();
        let printed = [
            failed.to_string(),
            format!("{failed:?}"),
            failed.error.to_string(),
            format!("{:?}", failed.error),
            handle.last_fault().unwrap_or_default(),
            format!("{:?}", handle.stats()),
            handle.stats().to_string(),
        ];
        for printed in printed {
            let acts = |char: char| char.is_control() || "\u{202e}\u{2028}".contains(char);
            assert!(!printed.contains(acts), "{printed:?}");
        }
        assert!(
            failed.to_string().contains(r"\u{1b}[2J\u{9b}31mno\r\n2026"),
            "{failed}"
        );
    }
}

/// A client whose server cannot be reached: nobody listens there.
fn client_of_nobody() -> Client {
    Client::from_service(tower::service_fn(
        |_: http::Request<tonic::body::Body>| async {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            let connect = ConnectError(Box::new(Connect(refused)));
            Err::<http::Response<tonic::body::Body>, _>(connect)
        },
    ))
}

/// The error of the transport's step that failed.
#[derive(Debug)]
struct Connect(io::Error);

impl std::fmt::Display for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("tcp connect error")
    }
}

impl std::error::Error for Connect {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// The words of an error with its causes behind them, as error reporters print them.
fn report(error: &Error) -> String {
    let mut report = error.to_string();
    for cause in causes(error) {
        report.push_str(&format!(" <- {cause}"));
    }
    report
}

/// The error says that nobody listens, and has the refused connection as its cause.
fn assert_refused<I>(failed: Failed<I>, kind: ErrorKind, reported: &str) {
    let error = failed.error;
    assert_eq!(error.kind(), kind);
    assert_eq!(error.status().unwrap().code(), Code::Unavailable);
    assert_eq!(report(&error), reported);
    let source = error.source().unwrap();
    let refused = source.downcast_ref::<io::Error>().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_time_is_up_says_what_the_server_was_away_with() {
    let client = client_of_nobody();
    let options = Options::new().retry(Retry::new().timeout(5 * SECOND));
    let results = records(10).push_to_with(&client, &options);
    let handle = results.handle();
    let results: Vec<_> = soon(results.collect()).await;
    assert_eq!(results.len(), 10);
    for result in results {
        let reported = "not sent: no answer in 5 s: tcp connect error <- connection refused";
        assert_refused(result.unwrap_err(), ErrorKind::NotSent, reported);
    }
    let last_fault = handle.last_fault().unwrap();
    assert_eq!(last_fault, "tcp connect error: connection refused");
}

#[tokio::test(start_paused = true)]
async fn a_drained_item_says_what_the_server_was_away_with() {
    let client = client_of_nobody();
    let mut results = records(10).push_to(&client);
    assert!(poll(&mut pin!(&mut results)).is_pending());
    results.drain(SECOND);
    let results: Vec<_> = soon(results.collect()).await;
    assert_eq!(results.len(), 10);
    for result in results {
        let reported = "not sent: the adapter was drained: tcp connect error <- connection refused";
        assert_refused(result.unwrap_err(), ErrorKind::NotSent, reported);
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_says_what_opened_it() {
    let breaker = CircuitBreaker::new().give_up_after(Some(5 * SECOND));
    let client = client_of_nobody().with_breaker(breaker);
    let results = records(10).push_to(&client);
    let results: Vec<_> = soon(results.collect()).await;
    assert_eq!(results.len(), 10);
    for result in results {
        let reported = "circuit open: tcp connect error <- connection refused";
        assert_refused(result.unwrap_err(), ErrorKind::CircuitOpen, reported);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_once_says_why_it_was_not() {
    let client = client_of_nobody().with_breaker(CircuitBreaker::off());
    let options = Options::new().retry(Retry::off());
    let results = records(10).push_to_with(&client, &options);
    let results: Vec<_> = soon(results.collect()).await;
    assert_eq!(results.len(), 10);
    for result in results {
        let reported = "not sent: tcp connect error <- connection refused";
        assert_refused(result.unwrap_err(), ErrorKind::NotSent, reported);
    }
}

#[tokio::test(start_paused = true)]
async fn single_operations_say_why_they_failed() {
    let client = client_of_nobody();
    let reported = "circuit open: tcp connect error <- connection refused";
    let cid = cid(&record(0));
    let pushed = in_a_week(client.push(record(0))).await.unwrap_err();
    assert_refused(pushed, ErrorKind::CircuitOpen, reported);
    let pulled = in_a_week(client.pull(cid)).await.unwrap_err();
    assert_refused(pulled, ErrorKind::CircuitOpen, reported);
    let found = in_a_week(client.lookup(cid)).await.unwrap_err();
    assert_refused(found, ErrorKind::CircuitOpen, reported);
    let deleted = in_a_week(client.delete(cid)).await.unwrap_err();
    assert_refused(deleted, ErrorKind::CircuitOpen, reported);
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_calls_stalled_says_so() {
    let (client, peer) = scripted();
    let retry = Retry::new().timeout(5 * SECOND);
    let options = Options::new().stall_after(Some(2 * SECOND)).retry(retry);
    let input = stream::iter([record(0)]).chain(stream::pending());
    let mut results = pin!(input.push_to_with(&client, &options));
    assert_pending(&mut results);
    let mut silent = peer.call();
    assert_eq!(silent.records().len(), 1);
    let result = soon(results.next()).await.unwrap();
    let error = result.unwrap_err().error;
    let reported = "outcome unknown: no answer in 5 s: the call made no progress in 2 s";
    assert_eq!(report(&error), reported);
    assert_eq!(error.status().unwrap().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn the_causes_that_tonic_gives_are_told_once() {
    let url = format!("http://{}", free_address());
    let client = Client::connect_lazy(&url).unwrap();
    let options = Options::new().retry(Retry::off());
    let results = stream::iter([record(0)]).push_to_with(&client, &options);
    let handle = results.handle();
    let results: Vec<_> = soon(results.collect()).await;
    let error = results.into_iter().next().unwrap().unwrap_err().error;
    let source = error.source().unwrap();
    let refused = source.downcast_ref::<io::Error>().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let words = format!("cannot connect to {url}: tcp connect error: {refused}");
    // The root cause stays in the chain, for those who look for its type.
    assert_eq!(report(&error), format!("not sent: {words} <- {refused}"));
    assert_eq!(handle.last_fault().unwrap(), words);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_decoded_leaves_the_code_as_it_is() {
    let messages: [(&[u8], &str); 9] = [
        (b"caf\xe9", "caf\u{fffd}"),
        (b"\x80\xff", "\u{fffd}\u{fffd}"),
        (b"no %FF end", "no \u{fffd} end"),
        // Cut in the middle of a character, or of its code.
        (b"%C3%A9%C3", "\u{e9}\u{fffd}"),
        (b"%C3%A9%C", "\u{e9}%C"),
        (b"100%4 %FF", "100%4 \u{fffd}"),
        (b"100%25 %41 %FF", "100% A \u{fffd}"),
        (b"a%0Ab%1B%00 %FF", "a\nb\u{1b}\0 \u{fffd}"),
        // What can be read is left alone.
        (
            "r\u{e9}sum\u{e9} %C3%A9".as_bytes(),
            "r\u{e9}sum\u{e9} \u{e9}",
        ),
    ];
    for (message, words) in messages {
        for in_headers in [false, true] {
            let (client, peer) = scripted();
            let mut results = pin!(records(2).push_to(&client));
            assert_pending(&mut results);
            let mut call = peer.call();
            assert_eq!(call.records().len(), 2);
            match in_headers {
                true => call.end_in_headers(Code::InvalidArgument, message),
                false => call.end_with(trailers(Code::InvalidArgument, message)),
            }
            let failed = next(&mut results).unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Rejected, "{words}");
            assert_eq!(failed.attempts, 1, "{words}");
            let status = failed.error.status().unwrap();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert_eq!(status.message(), words);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_that_is_too_long_is_a_mismatch_of_its_item() {
    let (client, peer) = scripted();
    let refs: Vec<_> = (0..4).map(|number| cid(&record(number))).collect();
    let mut results = pin!(stream::iter(refs.clone()).lookup_in(&client));
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs().len(), 4);
    call.answer(&RecordMeta::with_annotations(refs[0], (900 << 10) / 10));
    call.answer(&RecordMeta::with_annotations(refs[1], 330_000));
    let found = next(&mut results).unwrap();
    assert_eq!(found.annotations.len(), (900 << 10) / 10);
    let failed = next(&mut results).unwrap_err();
    assert_eq!((failed.index, failed.kind()), (1, ErrorKind::Mismatch));
    assert_eq!(failed.attempts, 1);
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs(), [refs[2].to_string(), refs[3].to_string()]);
    for cid in &refs[2..] {
        call.answer_cid(cid);
        assert_eq!(next(&mut results).unwrap().cid, *cid);
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_that_cannot_be_read_is_a_mismatch_of_its_item() {
    for verify in [true, false] {
        let (client, peer) = scripted();
        let refs: Vec<_> = (0..2).map(|number| cid(&record(number))).collect();
        let options = Options::new().verify(verify);
        let mut results = pin!(stream::iter(refs.clone()).lookup_in_with(&client, &options));
        assert_pending(&mut results);
        let mut call = peer.call();
        assert_eq!(call.refs().len(), 2);
        call.answer(&Damaged {
            cid: refs[0].to_string(),
            // A key that is no text.
            annotations: vec![0x0a, 1, 0xff],
        });
        call.answer_cid(refs[1]);
        let failed = next(&mut results).unwrap_err();
        assert_eq!((failed.index, failed.kind()), (0, ErrorKind::Mismatch));
        assert_eq!(next(&mut results).unwrap().cid, refs[1]);
    }
}

/// A `RecordMeta` whose annotations may be anything.
#[derive(Clone, PartialEq, prost::Message)]
struct Damaged {
    #[prost(string, tag = "1")]
    cid: String,
    #[prost(bytes = "vec", tag = "2")]
    annotations: Vec<u8>,
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_longer_than_any_cid_is_a_mismatch_of_its_item() {
    let (client, peer) = scripted();
    let mut results = pin!(records(2).push_to(&client));
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.records().len(), 2);
    call.answer_cid("b".repeat(5_000));
    let failed = next(&mut results).unwrap_err();
    assert_eq!((failed.index, failed.kind()), (0, ErrorKind::Mismatch));
    assert_pending(&mut results);
    assert_eq!(peer.call().store_all(), 1);
    next(&mut results).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lookup_of_a_lost_push_may_have_long_metadata() {
    let (client, peer) = scripted();
    let mut results = pin!(stream::iter([record(0)]).push_to(&client));
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.records().len(), 1);
    call.break_off();
    let mut looked_up = next_call_of(&mut results, &peer, LOOKUP).await;
    let cid = cid(&record(0));
    assert_eq!(looked_up.refs(), [cid.to_string()]);
    looked_up.answer(&RecordMeta::with_annotations(cid, (900 << 10) / 10));
    assert!(next(&mut results).unwrap().already_stored);
}
