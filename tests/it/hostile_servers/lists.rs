//! Lists that say nothing new, and words without end: a search ends in its time, and neither takes memory.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, Referrer, Retry};
use bytes::BytesMut;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use tokio::time::{Instant, sleep};
use tonic::body::Body;

use super::service::{Response, Server, body};
use crate::support::clock::{SECOND, in_a_week, runtime, soon};
use crate::support::messages::{framed, grpc_response, take_message};
use crate::support::records::{cid, cids, from_json, record};
use crate::support::referrers::PushedReferrer;
use crate::support::searching::{Count, FoundCid};

const MEMORY: u64 = 46 << 20;

/// Runs a job in a thread of its own, and says how much it had allocated at most, in bytes.
fn measured<T>(job: impl Future<Output = T>) -> (u64, T) {
    let mut output = None;
    let used = allocation_counter::measure(|| output = Some(runtime().block_on(soon(job))));
    (used.bytes_max, output.unwrap())
}

/// A server that counts five records, and lists these.
fn listing<S>(list: impl Fn() -> S + Clone + Send + Sync + 'static) -> Client
where
    S: futures::Stream<Item = String> + Send + 'static,
{
    Client::from_service(Server::new(
        move |request: http::Request<Body>| -> Response {
            let answers = match request.uri().path().ends_with("/CountRecords") {
                true => body(stream::iter([Count { total: 5 }.encode_to_vec().into()])),
                false => body(list().map(|cid| FoundCid { cid }.encode_to_vec().into())),
            };
            grpc_response().body(answers).unwrap()
        },
    ))
}

/// Options with which a search ends when nothing new has come for so long.
fn patient_for(time: Duration) -> Options {
    let retry = Retry::new().timeout(time);
    Options::new().retry(retry)
}

/// By the clock on the wall: under a paused one no time would pass.
#[test]
fn a_list_that_repeats_itself_as_fast_as_it_goes_has_an_end() {
    let known = cid(&record(0)).to_string();
    for (what, text, found) in [("a record", known, 1), ("no CID", "x".to_owned(), 0)] {
        let client = listing(move || stream::repeat(text.clone()));
        let options = patient_for(Duration::from_millis(200));
        let (bytes, results) = measured(async {
            let search = client.search_with(Query::new().limit(3), &options);
            search.collect::<Vec<_>>().await
        });
        let (last, before) = results.split_last().unwrap();
        assert_eq!(before.len(), found, "{what}: {results:?}");
        assert_eq!(
            last.as_ref().unwrap_err().kind(),
            ErrorKind::Unavailable,
            "{what}"
        );
        assert!(bytes < MEMORY, "{what}: {bytes} bytes");
    }
}

#[test]
fn a_list_of_ever_new_texts_that_are_no_cids_has_an_end() {
    let client = listing(|| stream::iter(0_u64..).map(|number| format!("x{number}")));
    let options = patient_for(Duration::from_millis(500));
    let (bytes, results) = measured(async {
        let search = client.search_with(Query::new(), &options);
        search.collect::<Vec<_>>().await
    });
    assert_eq!(results.len(), 1, "{results:?}");
    assert!(bytes < MEMORY, "{bytes} bytes");
}

#[tokio::test(start_paused = true)]
async fn texts_that_are_no_cids_do_not_make_a_search_wait() {
    let slowly = |number: u64| async move {
        sleep(5 * SECOND).await;
        format!("x{number}")
    };
    for query in [Query::new(), Query::new().limit(1)] {
        let client = listing(move || stream::iter(0..).then(slowly));
        let search = client.search_with(query, &patient_for(12 * SECOND));
        let began = Instant::now();
        let results: Vec<_> = in_a_week(search.collect()).await;
        assert_eq!(results.len(), 1, "{results:?}");
        results[0].as_ref().unwrap_err();
        let took = began.elapsed();
        assert!(took < 60 * SECOND, "{took:?}");
    }
}

/// The first item holds up the results of the others, each of which is refused in a megabyte of words.
#[test]
fn long_words_of_results_that_wait_do_not_pile_up() {
    const ITEMS: usize = 100;
    let first = Arc::new(OnceLock::new());
    let server = Server::new(move |request: http::Request<Body>| -> Response {
        let first = Arc::clone(&first);
        let mut received = BytesMut::new();
        let requests = request.into_body().into_data_stream();
        let answers = requests.map_ok(move |data| {
            received.extend_from_slice(&data);
            let messages: Vec<_> = std::iter::from_fn(|| take_message(&mut received)).collect();
            let first = Arc::clone(&first);
            // Each is made when it is its turn.
            stream::iter(messages).map(move |(_, message)| {
                let is_first = *first.get_or_init(|| message.clone()) == message;
                let words = match is_first {
                    true => "failed".to_owned(),
                    false => format!("code = NotFound {}", "x".repeat(1_000_000)),
                };
                let answer = PushedReferrer {
                    error: Some(words),
                    ..PushedReferrer::default()
                };
                let answer = framed(&answer.encode_to_vec());
                Ok::<_, tonic::Status>(Frame::data(answer))
            })
        });
        let answers = StreamBody::new(answers.try_flatten());
        grpc_response().body(Body::new(answers)).unwrap()
    });
    let client = Client::from_service(server);
    let referrers = cids(ITEMS).map(|record| {
        let data = from_json(serde_json::json!({"signature": "one"}));
        Referrer::new(record, Referrer::SIGNATURE, data)
    });
    let options = patient_for(2 * SECOND);
    let (bytes, results) = measured(async {
        let results = referrers.push_referrers_to_with(&client, &options);
        results.map(Result::unwrap_err).collect::<Vec<_>>().await
    });
    let refused = results
        .iter()
        .filter(|failed| failed.kind() == ErrorKind::NotFound);
    assert_eq!(refused.count(), ITEMS - 1);
    assert!(bytes < MEMORY, "{bytes} bytes");
}
