//! Records that are deleted: what is acknowledged is gone, and what was never sent is there.

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
fn each_delete_has_a_true_result() {
    each_seed("delete", &[2185], 40, run);
}

pub(super) fn run(seed: u64) -> Digest {
    // What is lost otherwise would look deleted.
    let settings = Settings {
        forgets: false,
        ..Settings::draw(seed)
    };
    let network = Network::new(settings, Store::builder());
    let settings = Arc::clone(&network.settings);
    for number in 0..settings.items {
        network.store.insert(record(number)).unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let job = {
        let (network, seen) = (network.clone(), Arc::clone(&seen));
        async move {
            let settings = &network.settings;
            let client = network.client(CLIENT, |builder| builder);
            let refs = items(settings, |number| cid(&record(number)));
            let results = refs.delete_from_with(&client, &settings.options);
            note_all(results, &network, &seen, |deleted| {
                // Nobody pushes it again.
                let is_there = network.store.contains(&deleted.cid);
                assert!(!is_there, "{} was acknowledged", deleted.index);
                (deleted.index, deleted.cid)
            })
            .await;
        }
    };
    let digest = network.run([(CLIENT, Box::pin(job))]);

    let results = one_for_each(&seen, &settings);
    for (number, result) in results.iter().enumerate() {
        let cid = cid(&record(number));
        let is_there = network.store.contains(&cid);
        match result {
            Ok(deleted) => {
                assert_eq!(*deleted, cid);
                assert!(!is_there, "{number} was acknowledged");
            }
            Err((kind, words)) => {
                assert!(!settings.is_patient, "{number} was given up: {words}");
                match kind {
                    ErrorKind::NotSent | ErrorKind::Unavailable | ErrorKind::CircuitOpen => {
                        assert!(is_there, "{number} is gone: {words}");
                    }
                    ErrorKind::OutcomeUnknown => {}
                    _ => panic!("{number}: {words}"),
                }
            }
        }
    }
    digest
}
