//! Records that break each call that carries them.

use super::*;

/// A peer that stores what it gets, but breaks at some records. Returns how many calls it saw.
async fn serve<S: Stream + Unpin>(
    results: &mut S,
    peer: &Peer,
    breaks_at: impl Fn(&Record) -> bool,
) -> (Vec<S::Item>, Vec<Vec<Record>>) {
    let mut seen = Vec::new();
    let mut calls: Vec<PeerCall> = Vec::new();
    let mut stored = std::collections::HashSet::new();
    let mut items = Vec::new();
    loop {
        match poll(results) {
            Poll::Ready(Some(item)) => {
                items.push(item);
                continue;
            }
            Poll::Ready(None) => return (items, seen),
            Poll::Pending => {}
        }
        calls.extend(peer.try_call());
        let mut running = Vec::new();
        'calls: for mut call in calls {
            if call.path == LOOKUP {
                for text in call.refs() {
                    if !stored.contains(&text) {
                        call.end(Code::NotFound, "");
                        continue 'calls;
                    }
                    call.answer_cid(text);
                }
            } else {
                let records = call.records();
                if !records.is_empty() {
                    seen.push(records.clone());
                }
                for record in records {
                    if breaks_at(&record) {
                        call.break_off();
                        continue 'calls;
                    }
                    stored.insert(cid(&record).to_string());
                    call.answer_cid(cid(&record));
                }
            }
            if call.is_half_closed() {
                call.end(Code::Ok, "");
            } else {
                running.push(call);
            }
        }
        calls = running;
        advance(Duration::from_millis(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_breaks_every_call_is_sent_alone_then_gets_its_error() {
    for options in [window(1), window(7), Options::new()] {
        let (client, peer) = scripted();
        let records = (0..50).map(record);
        let mut results = stream::iter(records).push_to_with(&client, &options);
        let poison = record(20);
        let (results, calls) = serve(&mut results, &peer, |record| *record == poison).await;
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
async fn many_poisonous_records_hold_up_nobody() {
    let (client, peer) = scripted();
    let mut results = stream::iter((0..200).map(record)).push_to(&client);
    let poison: Vec<_> = (0..200).step_by(10).map(record).collect();
    let (results, _) = serve(&mut results, &peer, |record| poison.contains(record)).await;
    assert_eq!(results.len(), 200);
    for (number, result) in results.into_iter().enumerate() {
        assert_eq!(result.is_err(), number % 10 == 0, "{number}");
    }
}
