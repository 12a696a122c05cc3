//! Records that are pushed: what is acknowledged is there, and what was never sent has never arrived.

use std::sync::{Arc, Mutex};

use agntcy_dir_stream::ErrorKind;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;

use super::hosts::{CLIENT, Network};
use super::results::{items, note_all, one_for_each};
use super::seeds::each_seed;
use super::settings::Settings;
use super::trace::Digest;
use crate::support::records::{cid, nameless, record};

#[test]
fn each_push_has_a_true_result() {
    each_seed("push", &[], 40, run);
}

fn is_bad(number: usize) -> bool {
    number % 11 == 5
}

fn item(number: usize) -> Record {
    match is_bad(number) {
        true => nameless(number),
        false => record(number),
    }
}

pub(super) fn run(seed: u64) -> Digest {
    let network = Network::new(Settings::draw(seed), Store::builder());
    let settings = Arc::clone(&network.settings);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let job = {
        let (network, seen) = (network.clone(), Arc::clone(&seen));
        async move {
            let settings = &network.settings;
            let client = network.client(CLIENT, |builder| builder);
            let items = items(settings, item);
            let options = settings.options.clone().skip_stored(settings.seed % 3 == 0);
            let results = items.push_to_with(&client, &options);
            note_all(results, &network, &seen, |pushed| {
                (pushed.index, pushed.cid)
            })
            .await;
        }
    };
    let digest = network.run([(CLIENT, Box::pin(job))]);

    let results = one_for_each(&seen, &settings);
    for (number, result) in results.iter().enumerate() {
        let cid = cid(&item(number));
        let is_there = network.store.contains(&cid);
        let has_arrived = network.has_arrived(&cid);
        match result {
            Ok(acknowledged) => {
                assert_eq!(*acknowledged, cid);
                assert!(!is_bad(number), "{number} is refused");
                assert!(has_arrived, "{number} was acknowledged");
                assert!(is_there || settings.forgets, "{number} was acknowledged");
            }
            Err((ErrorKind::Rejected, _)) => assert!(is_bad(number), "{number} is good"),
            Err((kind, words)) => {
                assert!(!settings.is_patient, "{number} was given up: {words}");
                match kind {
                    ErrorKind::NotSent => assert!(!has_arrived, "{number} has arrived: {words}"),
                    ErrorKind::Unavailable | ErrorKind::CircuitOpen => {
                        assert!(!is_there, "{number} is there: {words}");
                    }
                    ErrorKind::OutcomeUnknown => {}
                    _ => panic!("{number}: {words}"),
                }
            }
        }
    }
    digest
}
