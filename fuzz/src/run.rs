//! A whole run of an adapter, as a sequence of decisions: what the server does, and what the consumer does.

mod case;
mod consumer;
mod oracle;
mod server;

use std::sync::Arc;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{CircuitBreaker, Record};
use arbitrary::{Result, Unstructured};

use self::case::{Case, Operation};
use self::server::Server;
use crate::known::KNOWN;
use crate::service::Service;
use crate::support::clock::on_paused_clock;

/// Runs a case that these bytes choose.
pub fn run(data: &[u8]) -> Result<()> {
    let mut choices = Unstructured::new(data);
    let case = Arc::new(Case::of(&mut choices)?);
    // The rest is chosen when it comes to it.
    let rest = choices.take_rest().to_vec();
    on_paused_clock(play(&case, rest));
    Ok(())
}

async fn play(case: &Arc<Case>, choices: Vec<u8>) {
    fastrand::seed(case.seed.into());
    let server = Server::new(case, choices);
    let breaker = match case.breaker {
        None => CircuitBreaker::off(),
        Some((faults, give_up)) => CircuitBreaker::new()
            .threshold(faults)
            .give_up_after(give_up),
    };
    let client = Client::from_service(Service::over(&server)).with_breaker(breaker);
    let options = case.options();
    let cids = case.input(|number| KNOWN[number].cid);
    match case.operation {
        Operation::Push => {
            let bad = Arc::clone(case);
            let records = case.input(move |number| match bad.is_invalid(number) {
                true => Record::default(),
                false => KNOWN[number].record.clone(),
            });
            let results = records.push_to_with(&client, &options).erase();
            consumer::consume(&server, results, |pushed| {
                (pushed.index, pushed.tag, Some(pushed.cid))
            })
            .await;
        }
        Operation::Pull => {
            let results = cids.pull_from_with(&client, &options).erase();
            consumer::consume(&server, results, |pulled| {
                (pulled.index, pulled.tag, pulled.record.cid().ok())
            })
            .await;
        }
        Operation::Lookup => {
            let results = cids.lookup_in_with(&client, &options).erase();
            consumer::consume(&server, results, |found| {
                (found.index, found.tag, Some(found.cid))
            })
            .await;
        }
        Operation::Delete => {
            let results = cids.delete_from_with(&client, &options).erase();
            consumer::consume(&server, results, |deleted| {
                (deleted.index, deleted.tag, Some(deleted.cid))
            })
            .await;
        }
    }
}
