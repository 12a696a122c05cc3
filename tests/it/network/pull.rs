//! Records that are pulled: what comes is what was asked for, and what is there comes.

use std::sync::{Arc, Mutex};

use agntcy_dir_stream::ErrorKind;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;

use super::hosts::{CLIENT, Network};
use super::results::{items, note_all, one_for_each};
use super::seeds::each_seed;
use super::settings::Settings;
use super::trace::Digest;
use crate::support::records::{cid, record};

#[test]
fn each_pull_has_a_true_result() {
    each_seed("pull", &[], 40, run);
}

fn is_missing(number: usize) -> bool {
    number % 11 == 5
}

pub(super) fn run(seed: u64) -> Digest {
    let network = Network::new(Settings::draw(seed), Store::builder());
    let settings = Arc::clone(&network.settings);
    for number in (0..settings.items).filter(|number| !is_missing(*number)) {
        network.store.insert(record(number)).unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let job = {
        let (network, seen) = (network.clone(), Arc::clone(&seen));
        async move {
            let settings = &network.settings;
            let client = network.client(CLIENT, |builder| builder);
            let refs = items(settings, |number| cid(&record(number)));
            let results = refs.pull_from_with(&client, &settings.options);
            note_all(results, &network, &seen, |pulled| {
                (pulled.index, pulled.record)
            })
            .await;
        }
    };
    let digest = network.run([(CLIENT, Box::pin(job))]);

    let results = one_for_each(&seen, &settings);
    for (number, result) in results.iter().enumerate() {
        match result {
            Ok(pulled) => assert_eq!(*pulled, record(number)),
            Err((ErrorKind::NotFound, _)) => {
                assert!(is_missing(number) || settings.forgets, "{number} is there");
            }
            Err((kind, words)) => {
                assert!(!settings.is_patient, "{number} was given up: {words}");
                let is_true = matches!(
                    kind,
                    ErrorKind::NotSent | ErrorKind::Unavailable | ErrorKind::CircuitOpen
                );
                assert!(is_true, "{number}: {words}");
            }
        }
    }
    digest
}
