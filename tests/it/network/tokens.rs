//! Tokens that expire, on their way and at any time: as long as there is another, nobody is denied.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use agntcy_dir_stream::{ErrorKind, Token};
use tokio::time::sleep;

use super::hosts::{CLIENT, Network};
use super::results::{items, note_all, one_for_each};
use super::seeds::each_seed;
use super::settings::Settings;
use super::trace::Digest;
use super::trouble::millis;
use crate::support::records::{cid, record};

#[test]
fn nobody_is_denied_who_can_have_another_token() {
    each_seed("tokens", &[1337], 40, run);
}

/// Gives tokens that are good for some time.
#[derive(Clone, Debug)]
struct Issuer {
    life: Duration,
    asking_takes: Duration,
    /// It fails now and then: for one of so many that ask.
    fails: u8,
    issued: Arc<Mutex<Vec<Duration>>>,
}

fn now() -> Duration {
    turmoil::sim_elapsed().expect("on a host")
}

impl Issuer {
    fn draw(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 2);
        Self {
            life: millis(&mut random, 2_000..6_000),
            asking_takes: millis(&mut random, 0..400),
            fails: random.u8(2..8),
            issued: Arc::default(),
        }
    }

    fn accepts(&self, token: &str) -> bool {
        let number: usize = token.parse().expect("a token of its own");
        now() < self.issued.lock().unwrap()[number] + self.life
    }

    async fn token(self) -> io::Result<String> {
        sleep(self.asking_takes).await;
        let mut issued = self.issued.lock().unwrap();
        issued.push(now());
        let number = issued.len() - 1;
        match number % usize::from(self.fails) {
            1 => Err(io::Error::other("the issuer is busy")),
            _ => Ok(number.to_string()),
        }
    }
}

pub(super) fn run(seed: u64) -> Digest {
    let issuer = Issuer::draw(seed);
    let accepting = issuer.clone();
    let store = Store::builder().authorize(move |token| accepting.accepts(token));
    let network = Network::new(Settings::draw(seed), store);
    network.trace.note(format_args!("{issuer:?}"));
    let settings = Arc::clone(&network.settings);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let job = {
        let (network, seen) = (network.clone(), Arc::clone(&seen));
        async move {
            let settings = &network.settings;
            let asked = issuer.clone();
            let token = Token::from_fn(move || asked.clone().token());
            let client = network.client(CLIENT, |builder| builder.token_without_tls(token.clone()));
            let items = items(settings, record);
            let results = items.push_to_with(&client, &settings.options);
            note_all(results, &network, &seen, |pushed| {
                (pushed.index, pushed.cid)
            })
            .await;
        }
    };
    let digest = network.run([(CLIENT, Box::pin(job))]);

    let results = one_for_each(&seen, &settings);
    for (number, result) in results.iter().enumerate() {
        let cid = cid(&record(number));
        match result {
            Ok(_) => assert!(network.has_arrived(&cid), "{number} was acknowledged"),
            Err((kind, words)) => {
                assert!(!settings.is_patient, "{number} was given up: {words}");
                match kind {
                    ErrorKind::NotSent => {
                        assert!(!network.has_arrived(&cid), "{number} has arrived: {words}");
                    }
                    ErrorKind::Unavailable | ErrorKind::CircuitOpen | ErrorKind::OutcomeUnknown => {
                    }
                    _ => panic!("{number}: {words}"),
                }
            }
        }
    }
    digest
}
