//! Operations that are none of this crate, against a server in the test's own hands: what their answers do.

use std::collections::HashMap;
use std::time::Duration;

use agntcy_dir_stream::operation::{Acknowledged, Done, LostAnswer, NoQuestion, Operation, Place};
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{CircuitBreaker, Code, Error, ErrorKind, Retry};
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, advance, sleep};

use crate::support::clock::{SECOND, in_a_week};
use crate::support::messages::framed;
use crate::support::peer::{Peer, PeerCall, next_call, next_call_of, scripted};
use crate::support::polling::{assert_ended, assert_pending, next};
use crate::support::results::kinds;
use crate::support::words::{
    Batch, FAILED, FIND, Kind, List, Read, SAY, Say, Whole, Words, WriteOnce, WriteOneOnce,
};

fn words<const N: usize>(words: [&str; N]) -> impl Stream<Item = String> + Unpin {
    stream::iter(words.map(str::to_owned))
}

fn said(call: &mut PeerCall) -> Vec<String> {
    let requests = call.requests::<Words>();
    requests.into_iter().flat_map(|one| one.words).collect()
}

/// Runs a server that does this with each message of each call, until the results are all there. A call that it keeps
/// stays open.
async fn served<S: Stream>(
    results: S,
    peer: &Peer,
    mut serve: impl FnMut(PeerCall, Vec<String>) -> Option<PeerCall>,
) -> Vec<S::Item> {
    let server = async {
        let mut calls: Vec<PeerCall> = Vec::new();
        loop {
            calls.extend(std::iter::from_fn(|| peer.try_call()));
            for mut call in std::mem::take(&mut calls) {
                let asked = said(&mut call);
                if call.is_reset() {
                    continue;
                }
                match asked.is_empty() {
                    true if call.is_half_closed() => call.end(Code::Ok, ""),
                    true => calls.push(call),
                    false => calls.extend(serve(call, asked)),
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        results = in_a_week(results.collect()) => results,
        () = server => unreachable!(),
    }
}

/// The server goes on behind an attempt that fails by its answer, so what it says of that item says nothing of those
/// behind it.
#[tokio::test(start_paused = true)]
async fn what_is_behind_an_attempt_that_failed_by_its_answer_is_asked_for_by_itself() {
    let (client, peer) = scripted();
    let mut results = words(["a", "b"]).through(Say::<WriteOnce>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(said(&mut call), ["a", "b"]);
    call.answer(&Words::of(FAILED));
    assert_pending(&mut results);
    // It has written the second, and breaks before it says so.
    call.break_off();
    let mut asked = Vec::new();
    for _ in 0..4 {
        let mut call = next_call(&mut results, &peer).await;
        let of_call = said(&mut call);
        if call.path == SAY {
            let again = of_call.contains(&"b".to_owned());
            assert!(
                !again || asked.contains(&"b".to_owned()),
                "b is written twice"
            );
            continue;
        }
        asked.push(of_call[0].clone());
        match &*of_call[0] {
            "a" => call.end(Code::NotFound, ""),
            _ => {
                call.answer(&Words::of("b"));
                call.end(Code::Ok, "");
                return;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_attempts_that_failed_by_their_answers_are_asked_for_each() {
    let (client, peer) = scripted();
    let mut results = words(["a", "b"]).through(Say::<WriteOnce>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    call.requests::<Words>();
    call.answer(&Words::of(FAILED));
    // The server has written this one, whatever it says.
    call.answer(&Words::of(FAILED));
    let mut found = next_call_of(&mut results, &peer, FIND).await;
    assert_eq!(said(&mut found), ["a", "b"]);
    found.end(Code::NotFound, "");
    let mut asked = Vec::new();
    for _ in 0..1_000 {
        assert_pending(&mut results);
        let again = said(&mut call);
        assert!(!again.contains(&"b".to_owned()), "b is written twice");
        if let Some(mut found) = peer.try_call() {
            assert_eq!(found.path, FIND);
            asked = said(&mut found);
            break;
        }
        advance(Duration::from_millis(1)).await;
    }
    assert_eq!(asked, ["b"]);
}

/// The server has answered, and gone on behind it.
#[tokio::test(start_paused = true)]
async fn what_is_behind_an_answer_that_cannot_be_read_is_asked_for_before_it_is_sent_again() {
    let (client, peer) = scripted();
    let mut results = words(["a", "b", "c"]).through(Say::<WriteOnce>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(said(&mut call), ["a", "b", "c"]);
    // No field has the wire type 7.
    call.answer_bytes(framed(b"\x0f"));
    assert_eq!(next(&mut results).unwrap_err().kind(), ErrorKind::Mismatch);
    let mut found = next_call_of(&mut results, &peer, FIND).await;
    assert_eq!(said(&mut found), ["b", "c"]);
    found.answer(&Words::of("b"));
    assert_eq!(next(&mut results).unwrap().output, ["b"]);
    found.end(Code::NotFound, "");
    let mut call = next_call_of(&mut results, &peer, SAY).await;
    assert_eq!(said(&mut call), ["c"]);
    call.answer(&Words::of("c"));
    assert_eq!(next(&mut results).unwrap().output, ["c"]);
}

/// Any refusal but `NotFound` leaves it open whether it was written.
#[tokio::test(start_paused = true)]
async fn a_question_that_is_refused_settles_nothing() {
    for code in [
        Code::InvalidArgument,
        Code::Unimplemented,
        Code::PermissionDenied,
    ] {
        let (client, peer) = scripted();
        let mut results = words(["a"]).through(Say::<WriteOneOnce>::new(), &client);
        let mut call = next_call(&mut results, &peer).await;
        call.requests::<Words>();
        call.break_off();
        let mut call = next_call_of(&mut results, &peer, FIND).await;
        call.requests::<Words>();
        call.end(code, "");
        let failed = next(&mut results).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown, "{code:?}");
        // Why that is so, and not why the first call broke.
        assert_eq!(failed.error.status().unwrap().code(), code);
    }
}

/// The server's answer says that it failed.
async fn fails<K: Kind>(operation: Say<K>) {
    let (client, peer) = scripted();
    let mut times = 0;
    let results = words(["a", "b"]).through(operation, &client);
    let results = served(results, &peer, |mut call, _| {
        times += 1;
        call.answer(&Words::of(FAILED));
        call.end(Code::Ok, "");
        None
    });
    let results = kinds(&results.await);
    assert_eq!(results, [Some(ErrorKind::ServerFailed); 2]);
    assert_eq!(times, 1);
}

/// It does not say which of the items it is for.
#[tokio::test(start_paused = true)]
async fn an_answer_for_many_items_that_says_that_it_failed_is_final() {
    fails(Say::<Batch>::new()).await;
    fails(Say::<Whole>::new()).await;
}

/// As an item is at which the server fails by a status.
#[tokio::test(start_paused = true)]
async fn an_item_that_always_fails_by_its_answer_does_not_keep_the_server_busy() {
    let (client, peer) = scripted();
    let mut times = 0;
    let results = words(["a"]).through(Say::<Read>::new(), &client);
    let results = served(results, &peer, |mut call, asked| {
        for _ in asked {
            times += 1;
            call.answer(&Words::of(FAILED));
        }
        Some(call)
    });
    assert_eq!(kinds(&results.await), [Some(ErrorKind::ServerFailed)]);
    let by_answer = times;

    let (client, peer) = scripted();
    let mut times = 0;
    let results = words(["a"]).through(Say::<Read>::new(), &client);
    let results = served(results, &peer, |call, _| {
        times += 1;
        call.end(Code::Internal, FAILED);
        None
    });
    assert_eq!(kinds(&results.await), [Some(ErrorKind::ServerFailed)]);
    assert!(
        by_answer <= 2 * times,
        "{by_answer} times, and by a status {times}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_retries_an_attempt_that_failed_by_its_answer_is_the_last() {
    let (client, peer) = scripted();
    let options = Options::new().retry(Retry::off());
    let mut results = words(["a", "b"]).through_with(Say::<WriteOnce>::new(), &client, &options);
    let mut call = next_call(&mut results, &peer).await;
    call.answer(&Words::of(FAILED));
    call.requests::<Words>();
    call.answer(&Words::of("b"));
    assert_eq!(
        next(&mut results).unwrap_err().kind(),
        ErrorKind::ServerFailed
    );
    assert_eq!(next(&mut results).unwrap().output, ["b"]);
}

/// The window counts an operation's inputs as it says; a server counts messages.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_long_fails_alone_whatever_the_window_counts() {
    let (client, peer) = scripted();
    let long = "x".repeat(5_000);
    let input = stream::iter(["a".to_owned(), long, "b".to_owned()]);
    let results = served(
        input.through(Say::<Read>::new(), &client),
        &peer,
        |mut call, asked| {
            for word in asked {
                if word.len() > 4_096 {
                    let words = format!(
                        "grpc: received message larger than max ({} vs. 4096)",
                        prost::Message::encoded_len(&Words::of(&word))
                    );
                    call.end(Code::ResourceExhausted, &words);
                    return None;
                }
                call.answer(&Words::of(&word));
            }
            Some(call)
        },
    );
    let results = results.await;
    assert_eq!(kinds(&results), [None, Some(ErrorKind::Rejected), None]);
    assert_eq!(results[1].as_ref().unwrap_err().attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_long_fails_in_a_call_of_its_own() {
    let (client, peer) = scripted();
    let input = stream::iter(["a".to_owned(), "x".repeat(5_000), "b".to_owned()]);
    let results = served(
        input.through(Say::<List>::new(), &client),
        &peer,
        |mut call, asked| {
            if asked[0].len() > 4_096 {
                let words = "grpc: received message larger than max (5003 vs. 4096)";
                call.end(Code::ResourceExhausted, words);
                return None;
            }
            call.answer(&Words::of(&asked[0]));
            call.end(Code::Ok, "");
            None
        },
    );
    let results = results.await;
    assert_eq!(kinds(&results), [None, Some(ErrorKind::Rejected), None]);
}

/// An empty answer takes memory, too.
#[tokio::test(start_paused = true)]
async fn empty_answers_without_end_are_bounded() {
    let (client, peer) = scripted();
    let mut results = words(["a"]).through(Say::<List>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    call.requests::<Words>();
    for _ in 0..100_000 {
        call.answer(&Words::default());
    }
    for _ in 0..1_000 {
        if let std::task::Poll::Ready(result) = crate::support::polling::poll(&mut results) {
            assert_eq!(result.unwrap().unwrap_err().kind(), ErrorKind::Mismatch);
            return;
        }
    }
    panic!("100,000 answers of an item are kept, where 1,024 bytes are allowed");
}

/// An item whose time is up has its result, so nobody waits for the rest of its call.
#[tokio::test(start_paused = true)]
async fn a_call_that_trickles_on_past_its_items_time_keeps_no_other_item_waiting() {
    let (client, peer) = scripted();
    let options = Options::new()
        .window(2)
        .retry(Retry::new().timeout(30 * SECOND));
    let results =
        words(["trickles", "a", "b", "c"]).through_with(Say::<List>::new(), &client, &options);
    let server = async {
        let mut trickling: Vec<PeerCall> = Vec::new();
        let mut open: Vec<PeerCall> = Vec::new();
        loop {
            open.extend(std::iter::from_fn(|| peer.try_call()));
            for mut call in std::mem::take(&mut open) {
                match said(&mut call).pop() {
                    None => open.push(call),
                    Some(word) if word == "trickles" => trickling.push(call),
                    Some(word) => {
                        call.answer(&Words::of(&word));
                        call.end(Code::Ok, "");
                    }
                }
            }
            for call in &mut trickling {
                call.answer(&Words::of("t"));
            }
            sleep(SECOND).await;
        }
    };
    let results = tokio::select! {
        results = in_a_week(results.collect::<Vec<_>>()) => results,
        () = server => unreachable!(),
    };
    assert_eq!(kinds(&results)[2..], [None, None]);
}

/// A unary method has all that it reads with the message; grpc-go answers then, and does not wait for the end.
#[tokio::test(start_paused = true)]
async fn a_batch_may_be_answered_before_the_end_of_its_requests_was_seen() {
    let (client, peer) = scripted();
    let mut results = words(["a", "b"]).through(Say::<Batch>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    assert!(call.read_chunk() > 0);
    call.answer(&Words::of("done"));
    call.end(Code::Ok, "");
    assert_eq!(next(&mut results).unwrap().output, ["done"]);
    assert_eq!(next(&mut results).unwrap().output, ["done"]);
    assert_eq!(results.stats().faults, 0);
}

#[tokio::test(start_paused = true)]
async fn an_item_alone_may_be_answered_before_the_end_of_its_requests_was_seen() {
    let (client, peer) = scripted();
    let mut results = words(["a"]).through(Say::<List>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    assert!(call.read_chunk() > 0);
    call.answer(&Words::of("done"));
    call.end(Code::Ok, "");
    assert_eq!(next(&mut results).unwrap().output, ["done"]);
}

/// A server that ends the call before it has read anything has not answered.
#[tokio::test(start_paused = true)]
async fn an_ok_end_before_the_request_left_is_no_answer() {
    let (client, peer) = scripted();
    let mut results = words(["a"]).through(Say::<List>::new(), &client);
    next_call(&mut results, &peer).await.end(Code::Ok, "");
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(said(&mut call), ["a"]);
    call.answer(&Words::of("done"));
    call.end(Code::Ok, "");
    assert_eq!(next(&mut results).unwrap().output, ["done"]);
    assert_ended(&mut results);
}

/// What has come of a list that breaks is not a part of the next.
#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_is_asked_for_as_a_whole() {
    let (client, peer) = scripted();
    let mut results = words(["a"]).through(Say::<List>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    call.requests::<Words>();
    call.answer(&Words::of("one"));
    assert_pending(&mut results);
    call.break_off();
    let mut call = next_call(&mut results, &peer).await;
    call.requests::<Words>();
    call.answer(&Words::of("one"));
    call.answer(&Words::of("two"));
    call.end(Code::Ok, "");
    assert_eq!(next(&mut results).unwrap().output, ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn what_nothing_can_ask_for_and_must_not_be_written_twice_is_not_sent_again() {
    let (client, peer) = scripted();
    let mut results = words(["?a"]).through(Say::<WriteOneOnce>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    call.requests::<Words>();
    call.break_off();
    for _ in 0..1_000 {
        if let std::task::Poll::Ready(result) = crate::support::polling::poll(&mut results) {
            assert_eq!(
                result.unwrap().unwrap_err().kind(),
                ErrorKind::OutcomeUnknown
            );
            return;
        }
        assert!(peer.try_call().is_none(), "it is sent again");
        advance(SECOND).await;
    }
    panic!("it has no result");
}

/// The answer to a question is another's: it shows nothing.
#[tokio::test(start_paused = true)]
async fn a_question_that_is_answered_for_another_settles_nothing() {
    let (client, peer) = scripted();
    let mut results = words(["a"]).through(Say::<WriteOneOnce>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    call.requests::<Words>();
    call.break_off();
    let mut call = next_call_of(&mut results, &peer, FIND).await;
    call.requests::<Words>();
    call.answer(&Words::of("b"));
    let failed = next(&mut results).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
}

/// A batch is all that its input has at hand, also where that takes more than a turn.
#[tokio::test(start_paused = true)]
async fn a_batch_is_what_the_input_has_at_hand_up_to_a_window() {
    let (client, peer) = scripted();
    let input = stream::iter((0..1_500).map(|number: u32| number.to_string()));
    let mut sizes = Vec::new();
    let results = served(
        input.through(Say::<Batch>::new(), &client),
        &peer,
        |mut call, asked| {
            sizes.push(asked.len());
            call.answer(&Words::of("done"));
            call.end(Code::Ok, "");
            None
        },
    )
    .await;
    assert_eq!(results.len(), 1_500);
    assert!(sizes[0] == 1_024 && sizes.len() == 2, "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_does_not_wait_for_an_input_that_is_pending() {
    let (client, peer) = scripted();
    let input = words(["a", "b"]).chain(stream::pending());
    let mut results = input.through(Say::<Batch>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(said(&mut call), ["a", "b"]);
    assert!(call.is_half_closed());
    call.answer(&Words::of("done"));
    call.end(Code::Ok, "");
    next(&mut results).unwrap();
    next(&mut results).unwrap();
    assert_pending(&mut results);
}

/// A batch with one that is refused: the others are carried out, each in order, and no result is another's.
#[tokio::test(start_paused = true)]
async fn a_batch_is_halved_to_the_one_that_is_too_long() {
    let (client, peer) = scripted();
    let input = (0..100).map(|number: usize| match number {
        42 => "x".repeat(100),
        number => number.to_string(),
    });
    let results = served(
        stream::iter(input).through(Say::<Batch>::new(), &client),
        &peer,
        |mut call, asked| {
            let len: usize = asked.iter().map(String::len).sum();
            if len > 60 {
                call.end(
                    Code::ResourceExhausted,
                    &format!("grpc: received message larger than max ({len} vs. 60)"),
                );
                return None;
            }
            call.answer(&Words::of(&asked[0]));
            call.end(Code::Ok, "");
            None
        },
    )
    .await;
    let failed: HashMap<_, _> = kinds(&results)
        .into_iter()
        .enumerate()
        .filter_map(|(at, kind)| Some((at, kind?)))
        .collect();
    assert_eq!(failed, HashMap::from([(42, ErrorKind::Rejected)]));
}

#[tokio::test(start_paused = true)]
async fn a_drained_batch_is_given_up_as_unknown_and_one_that_never_left_as_not_sent() {
    let (client, peer) = scripted();
    let input = words(["a", "b"]).chain(stream::pending());
    let mut results = input.through(Say::<Whole>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    call.requests::<Words>();
    results.handle().drain(SECOND);
    assert_pending(&mut results);
    advance(2 * SECOND).await;
    assert_eq!(
        next(&mut results).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
    assert_eq!(
        next(&mut results).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
}

/// A message within messages.
#[derive(Clone, PartialEq, prost::Message)]
struct Nested {
    #[prost(message, optional, boxed, tag = "1")]
    inner: Option<Box<Nested>>,
    #[prost(string, repeated, tag = "2")]
    words: Vec<String>,
}

struct Nest;

impl Operation for Nest {
    const NAME: &'static str = "nest";
    const METHOD: &'static str = SAY;
    const ACKNOWLEDGED: Acknowledged = Acknowledged::WholeBatch;
    const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;

    type Input = usize;
    type Checked = ();
    type Request = Nested;
    type Answer = Words;
    type Output = ();
    type Question = NoQuestion;
    type Success<T> = Done<(), T>;

    fn check(&self, _: &usize) -> Result<(), Error> {
        Ok(())
    }

    fn request(&self, depth: &usize, (): &()) -> Nested {
        (0..*depth).fold(Nested::default(), |inner, _| Nested {
            inner: Some(Box::new(inner)),
            words: Vec::new(),
        })
    }

    fn accept(&self, _: &usize, (): &(), _: Words) -> Result<(), Error> {
        Ok(())
    }

    fn success<T>(place: Place<T>, (): (), (): ()) -> Done<(), T> {
        Done::new(place, ())
    }
}

/// prost reads no message that is nested so deeply, and writes it. A batch need not be read to be joined.
#[tokio::test(start_paused = true)]
async fn a_batch_of_messages_that_are_nested_deeply_is_sent() {
    let (client, peer) = scripted();
    let mut results = stream::iter([200, 1]).through(Nest, &client);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(call.messages().len(), 1);
    call.answer(&Words::default());
    call.end(Code::Ok, "");
    next(&mut results).unwrap();
    next(&mut results).unwrap();
}

/// A Go server that finds a message too long drops the answers before it.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_long_takes_no_neighbour_along() {
    let (client, peer) = scripted();
    let start = Instant::now();
    let input = (0..20).map(|number: usize| match number {
        10 => "x".repeat(5_000),
        number => number.to_string(),
    });
    let results = stream::iter(input).through(Say::<Read>::new(), &client);
    let handle = results.handle();
    let results = served(results, &peer, |mut call, asked| {
        if asked.iter().any(|word| word.len() > 4_096) {
            let words = "grpc: received message larger than max (5003 vs. 4096)";
            call.end(Code::ResourceExhausted, words);
            return None;
        }
        for word in asked {
            call.answer(&Words::of(&word));
        }
        Some(call)
    });
    let results = results.await;
    let mut expected = vec![None; 20];
    expected[10] = Some(ErrorKind::Rejected);
    let (calls, took) = (handle.stats().calls, start.elapsed());
    assert_eq!(kinds(&results), expected, "{calls} calls in {took:?}");
}

/// What the server is known to have is not sent, if the caller wants that.
#[tokio::test(start_paused = true)]
async fn what_is_found_before_it_is_sent_is_not_sent() {
    let (client, peer) = scripted();
    let options = Options::new().skip_stored(true);
    let input = words(["a", "b", "?c"]);
    let mut sent = Vec::new();
    let results = input.through_with(Say::<WriteOneOnce>::new(), &client, &options);
    let results = served(results, &peer, |mut call, asked| {
        if call.path == SAY {
            call.answer(&Words::of("sent"));
            sent.extend(asked);
            call.end(Code::Ok, "");
            return None;
        }
        for word in asked {
            if word != "a" {
                call.end(Code::NotFound, "");
                return None;
            }
            call.answer(&Words::of(&word));
        }
        Some(call)
    })
    .await;
    let outputs: Vec<_> = results
        .into_iter()
        .map(|result| result.unwrap().output)
        .collect();
    // It pays only where many are asked for, so the first may be sent all the same.
    assert!(
        outputs == [["a"], ["sent"], ["sent"]] || outputs == [["sent"]; 3],
        "{outputs:?}"
    );
    assert_eq!(sent.iter().filter(|word| *word != "a").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_item_with_some_of_its_answers_is_left_without_a_result() {
    let (client, peer) = scripted();
    let mut results = words(["a", "b"]).through(Say::<List>::new(), &client);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(said(&mut call), ["a"]);
    call.answer(&Words::of("one"));
    assert_pending(&mut results);
    let remainder = results.into_remainder();
    assert!(call.is_reset() || call.is_half_closed());
    assert!(remainder.unread.is_empty());
    assert_eq!(remainder.unanswered.len(), 1);
    assert_eq!(remainder.unsent.len(), 1);
    assert_eq!(
        (&*remainder.unanswered[0].input, &*remainder.unsent[0].input),
        ("a", "b")
    );
}

/// A probe is over when the server has answered: then all adapters of the client may go on.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_answered_in_part_lets_others_go_on() {
    let (client, peer) = scripted();
    let client = client.with_breaker(CircuitBreaker::new().threshold(1));
    let mut list = words(["a"]).through(Say::<List>::new(), &client);
    next_call(&mut list, &peer)
        .await
        .end(Code::Unavailable, "away");
    let mut probe = next_call(&mut list, &peer).await;
    assert_eq!(said(&mut probe), ["a"]);
    probe.answer(&Words::of("one"));
    assert_pending(&mut list);
    let mut other = words(["b"]).through(Say::<Read>::new(), &client);
    for _ in 0..50 {
        assert_pending(&mut other);
        if peer.try_call().is_some() {
            return;
        }
        probe.answer(&Words::of("more"));
        assert_pending(&mut list);
        advance(SECOND).await;
    }
    panic!("the server answers a call, and no other is opened in 50 s");
}

/// A call waits for its connection when its item's time is up. A server that answers it all the same breaks nothing.
#[tokio::test(start_paused = true)]
async fn answers_without_end_to_a_call_whose_item_was_taken_back_break_nothing() {
    let (client, peer) = scripted();
    let options = Options::new().retry(Retry::new().timeout(SECOND));
    let input = words(["a"]).chain(stream::pending());
    let mut results = input.through_with(Say::<List>::new(), &client, &options);
    assert_pending(&mut results);
    let mut call = peer.call();
    advance(2 * SECOND).await;
    assert_eq!(next(&mut results).unwrap_err().kind(), ErrorKind::NotSent);
    for _ in 0..3 {
        call.answer(&Words::of(&"x".repeat(600)));
    }
    assert_pending(&mut results);
}

/// A call that carries nothing is an error to a method of one request, so none is opened.
#[tokio::test(start_paused = true)]
async fn a_call_whose_item_was_taken_back_does_not_reach_the_server_empty() {
    let (client, peer) = scripted();
    let options = Options::new().retry(Retry::new().timeout(SECOND));
    let input = words(["a"]).chain(stream::pending());
    let mut results = input.through_with(Say::<List>::new(), &client, &options);
    assert_pending(&mut results);
    let mut call = peer.call();
    advance(2 * SECOND).await;
    assert_eq!(next(&mut results).unwrap_err().kind(), ErrorKind::NotSent);
    assert_pending(&mut results);
    assert!(!call.is_half_closed(), "it is an empty call");
    assert!(call.is_reset());
}

/// How many faults are noted in 200 s of a server that takes all and answers nothing.
async fn faults_of_silence<K: Kind>() -> u64 {
    let (client, peer) = scripted();
    let options = Options::new()
        .window(4)
        .stall_after(Some(10 * SECOND))
        .retry(Retry::new().timeout(5 * SECOND));
    let input = stream::repeat("a".to_owned());
    let mut results = input.through_with(Say::<K>::new(), &client, &options);
    let mut open = Vec::new();
    for _ in 0..200 {
        crate::support::polling::ready(&mut results);
        while let Some(mut call) = peer.try_call() {
            call.requests::<Words>();
            open.push(call);
        }
        advance(SECOND).await;
    }
    results.handle().stats().faults
}

/// Items may be given up before a call counts as stalled. That the server is silent is seen all the same.
#[tokio::test(start_paused = true)]
async fn a_silent_server_is_at_fault_though_items_are_given_up_before_a_call_stalls() {
    assert!(faults_of_silence::<Read>().await > 0, "each item");
    assert!(faults_of_silence::<List>().await > 0, "one item");
}

/// In an outage no item is failed for it, also where answers tell of the outage.
#[tokio::test(start_paused = true)]
async fn an_outage_that_answers_tell_costs_no_item() {
    async fn outage<K: Kind>() -> Vec<Option<ErrorKind>> {
        let (client, peer) = scripted();
        let results = words(["a", "b", "c", "d", "e", "f"]).through(Say::<K>::new(), &client);
        let begin = Instant::now();
        let mut answered = 0;
        let results = served(results, &peer, |mut call, asked| {
            for word in asked {
                let is_away = answered > 0 && begin.elapsed() < 10 * SECOND;
                answered += 1;
                call.answer(&Words::of(if is_away { FAILED } else { &word }));
            }
            if K::ACKNOWLEDGED == Acknowledged::OneItem {
                call.end(Code::Ok, "");
                return None;
            }
            Some(call)
        });
        kinds(&results.await)
    }
    assert_eq!(outage::<Read>().await, [None; 6]);
    assert_eq!(outage::<List>().await, [None; 6]);
}

/// Words that are the same share an outcome.
struct Once;

impl Operation for Once {
    const NAME: &'static str = "once";
    const METHOD: &'static str = crate::support::words::SAY;
    const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::LookUp;

    type Input = String;
    type Checked = Cid;
    type Request = Words;
    type Answer = Words;
    type Output = Vec<String>;
    type Question = crate::support::words::Find;
    type Success<T> = Done<Vec<String>, T>;

    fn check(&self, word: &String) -> Result<Cid, Error> {
        Record::from_json(format!(r#"{{"word": "{word}"}}"#))?.cid()
    }

    fn request(&self, word: &String, _: &Cid) -> Words {
        Words::of(word)
    }

    fn accept(&self, _: &String, _: &Cid, answer: Words) -> Result<Vec<String>, Error> {
        Ok(answer.words)
    }

    fn cid(cid: &Cid) -> Option<&Cid> {
        Some(cid)
    }

    fn success<T>(place: Place<T>, _: Cid, words: Vec<String>) -> Done<Vec<String>, T> {
        Done::new(place, words)
    }
}

/// What became of the first is not known, and it must not be written twice. So the second, which is the same, is not
/// written either.
#[tokio::test(start_paused = true)]
async fn what_is_the_same_as_one_that_must_not_be_written_twice_is_not_written_in_its_place() {
    let (client, peer) = scripted();
    let mut results = words(["a", "a"]).through(Once, &client);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(said(&mut call), ["a"]);
    call.break_off();
    let mut failed = 0;
    for _ in 0..1_000 {
        failed += crate::support::polling::ready(&mut results).len();
        if failed == 2 {
            return;
        }
        if let Some(mut call) = peer.try_call() {
            assert_eq!(said(&mut call), Vec::<String>::new(), "it is written again");
        }
        advance(SECOND).await;
    }
    panic!("they have no results");
}

/// `Retry::off` says that what stood behind is carried by the next call.
#[tokio::test(start_paused = true)]
async fn without_retries_what_is_behind_an_answer_that_cannot_be_read_goes_on() {
    struct Write;
    impl Kind for Write {
        const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
        const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;
    }
    let (client, peer) = scripted();
    let options = Options::new().retry(Retry::off());
    let mut results = words(["a", "b"]).through_with(Say::<Write>::new(), &client, &options);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(said(&mut call), ["a", "b"]);
    call.answer_bytes(framed(b"\x0f"));
    assert_eq!(next(&mut results).unwrap_err().kind(), ErrorKind::Mismatch);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(said(&mut call), ["b"]);
}

/// The answer that cannot be read is that of an item whose time was up. The server has gone on behind it.
#[tokio::test(start_paused = true)]
async fn what_is_behind_an_answer_to_one_given_up_that_cannot_be_read_is_asked_for() {
    let (client, peer) = scripted();
    let options = Options::new().retry(Retry::new().timeout(10 * SECOND));
    let (input, items) = futures::channel::mpsc::unbounded();
    let mut results = items.through_with(Say::<WriteOnce>::new(), &client, &options);
    input.unbounded_send("a".to_owned()).unwrap();
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(said(&mut call), ["a"]);
    advance(5 * SECOND).await;
    input.unbounded_send("b".to_owned()).unwrap();
    assert_pending(&mut results);
    assert_eq!(said(&mut call), ["b"]);
    advance(6 * SECOND).await;
    assert_eq!(
        next(&mut results).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
    call.answer_bytes(framed(b"\x0f"));
    next_call_of(&mut results, &peer, FIND).await;
}
