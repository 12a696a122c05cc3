//! A store that is followed while its records come and go: in the end the view is the store.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agntcy_dir_stream::Change;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::hosts::{CLIENT, Network, WRITER};
use super::seeds::each_seed;
use super::settings::Settings;
use super::trace::Digest;
use crate::support::records::{cid, record};

/// How long a view has to be the store, and no other change to come, for the run to be over.
const QUIET: Duration = Duration::from_secs(3);

const RELIST: Duration = Duration::from_secs(10);

#[test]
fn the_view_of_a_follower_is_the_store_in_the_end() {
    each_seed("follow", &[723], 25, run);
}

pub(super) fn run(seed: u64) -> Digest {
    let network = Network::new(Settings::draw(seed), Store::builder());
    let view = Arc::new(Mutex::new(BTreeSet::new()));
    let job = {
        let (network, view) = (network.clone(), Arc::clone(&view));
        async move {
            let client = network.client(CLIENT, |builder| builder);
            let options = network.settings.options.clone().relist_every(RELIST);
            let mut changes = client.follow_with(Query::new(), &options);
            let well_at = Instant::now() + network.settings.well_at();
            loop {
                let change = timeout(QUIET, changes.next()).await;
                let mut view = view.lock().unwrap();
                let Ok(change) = change else {
                    let is_store = view.iter().copied().eq(network.store.cids());
                    if is_store && Instant::now() > well_at + QUIET {
                        return;
                    }
                    continue;
                };
                let change = change.expect("it has no end").expect("no error");
                network.trace.note(format_args!("{change:?}"));
                match change {
                    Change::InitApply(cid) | Change::Apply(cid) => {
                        assert!(view.insert(cid), "{cid} comes twice");
                    }
                    Change::Delete(cid) => assert!(view.remove(&cid), "{cid} goes twice"),
                    _ => {}
                }
            }
        }
    };
    let writer = write(network.clone());
    let digest = network.run([(CLIENT, Box::pin(job)), (WRITER, Box::pin(writer))]);
    let view: Vec<_> = view.lock().unwrap().iter().copied().collect();
    assert_eq!(view, network.store.cids());
    digest
}

/// Another client, which pushes and deletes as long as things go wrong.
async fn write(network: Network) {
    let settings = &network.settings;
    let mut random = fastrand::Rng::with_seed(settings.seed ^ 1);
    let client = network.client(WRITER, |builder| builder);
    let until = Instant::now() + settings.well_at();
    let writing = async {
        loop {
            sleep(settings.pause).await;
            let record = record(random.usize(..settings.items));
            let cid = cid(&record);
            match random.u8(..5) {
                0 | 1 => {
                    let deletes = stream::iter([cid]).delete_from_with(&client, &settings.options);
                    let summary = deletes.finish().await;
                    network.trace.note(format_args!("deletes {cid}: {summary}"));
                }
                _ => {
                    let pushes = stream::iter([record]).push_to_with(&client, &settings.options);
                    let summary = pushes.finish().await;
                    network.trace.note(format_args!("pushes {cid}: {summary}"));
                }
            }
        }
    };
    let _: Result<(), _> = timeout_at(until, writing).await;
}
