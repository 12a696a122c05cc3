//! Records that break each call that carries them.

use agntcy_dir_stream::ErrorKind;
use agntcy_dir_stream::prelude::*;
use futures::stream;

use super::{At, serve_push};
use crate::support::peer::scripted;
use crate::support::records::{record, records};

#[tokio::test(start_paused = true)]
async fn a_record_that_breaks_every_call_is_sent_alone_then_gets_its_error() {
    for options in [
        Options::new().window(1),
        Options::new().window(7),
        Options::new(),
    ] {
        let (client, peer) = scripted();
        let records = (0..50).map(record);
        let mut results = stream::iter(records).push_to_with(&client, &options);
        let poison = record(20);
        let at = |record: &Record| match *record == poison {
            true => At::BreakOff,
            false => At::Store,
        };
        let (results, calls) = serve_push(&mut results, &peer, at).await;
        assert_eq!(results.len(), 50);
        for (number, result) in results.into_iter().enumerate() {
            match result {
                Ok(pushed) => assert_eq!(pushed.index, number as u64),
                Err(failed) => {
                    assert_eq!((failed.index, number), (20, 20), "{failed}");
                    // It was looked up and is not there, but the server may still be at it.
                    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown, "{failed}");
                    assert!((2..=5).contains(&failed.attempts), "{}", failed.attempts);
                }
            }
        }
        let last = calls.iter().rfind(|call| call.contains(&poison)).unwrap();
        assert_eq!(last.len(), 1, "the last try is made alone");
    }
}

#[tokio::test(start_paused = true)]
async fn many_records_that_break_their_calls_hold_up_no_other() {
    let (client, peer) = scripted();
    let mut results = records(200).push_to(&client);
    let poison: Vec<_> = (0..200).step_by(10).map(record).collect();
    let at = |record: &Record| match poison.contains(record) {
        true => At::BreakOff,
        false => At::Store,
    };
    let (results, _) = serve_push(&mut results, &peer, at).await;
    assert_eq!(results.len(), 200);
    for (number, result) in results.into_iter().enumerate() {
        assert_eq!(result.is_err(), number % 10 == 0, "{number}");
    }
}
