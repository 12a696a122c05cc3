//! Two stores, and a minute of trouble.

use std::time::Duration;

use agntcy_dir_stream::Status;
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Method, Store};
use futures::future::join;
use tokio::time::{Instant, sleep, timeout};

use super::mirror::{Settings, mirror};

/// How many records there are that come and go.
const RECORDS: usize = 200;

/// What is asked of the stores.
const METHODS: &[Method] = &[
    Method::Push,
    Method::Pull,
    Method::Delete,
    Method::SearchCids,
    Method::CountRecords,
    Method::Listen,
];

const SECOND: Duration = Duration::from_secs(1);

/// Two stores, of which the second is kept as the first is.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) from: Store,
    pub(crate) to: Store,
    options: Options,
}

impl Trouble {
    pub(crate) fn new() -> Self {
        Self {
            options: Options::new().relist_every(30 * SECOND),
            ..Self::default()
        }
    }

    /// Records that come and go, cut connections, lists that end early, servers that are away, and a mirror that is
    /// killed, at random for this long.
    pub(crate) async fn happens(&self, random: &mut fastrand::Rng, time: Duration) {
        let ends = Instant::now() + time;
        while Instant::now() < ends {
            // The mirror is killed, and begins anew with what is there.
            let life = SECOND * random.u32(1..20);
            let _ = timeout(life, join(self.mirrored(), self.trouble(random))).await;
        }
    }

    /// How long it takes, with no more trouble, until the stores are equal and stay so. `None`: more than a day.
    pub(crate) async fn settles(&self) -> Option<Duration> {
        let began = Instant::now();
        let settled = async {
            loop {
                while !self.is_settled() {
                    sleep(SECOND).await;
                }
                let took = began.elapsed();
                // As long as some lists take.
                sleep(120 * SECOND).await;
                if self.is_settled() {
                    return took;
                }
            }
        };
        tokio::select! {
            settled = timeout(24 * 3600 * SECOND, settled) => settled.ok(),
            never = self.mirrored() => match never {},
        }
    }

    fn is_settled(&self) -> bool {
        self.from.cids() == self.to.cids()
    }

    async fn mirrored(&self) -> std::convert::Infallible {
        let (from, to) = (self.from.client(), self.to.client());
        let settings = Settings {
            options: Options::new(),
            deletes: true,
            tries_again: true,
        };
        loop {
            let changes = from.follow_with(Query::new(), &self.options);
            let mirrored = mirror(&from, &to, changes, &settings, |done| eprintln!("{done}"));
            if let Err(error) = mirrored.await {
                eprintln!("the mirror begins anew: {error}");
                sleep(SECOND).await;
            }
        }
    }

    async fn trouble(&self, random: &mut fastrand::Rng) -> std::convert::Infallible {
        let client = self.from.client();
        loop {
            match random.u8(..10) {
                0..4 => {
                    for _ in 0..random.usize(1..20) {
                        let record = record(random.usize(..RECORDS));
                        self.from
                            .insert(record)
                            .expect("it has all that the store wants");
                    }
                }
                4..7 => {
                    let cids = self.from.cids();
                    let some = random.choose_multiple(cids, 4);
                    let deletes = futures::stream::iter(some).delete_from(&client);
                    // Another client, which is not that patient.
                    let _ = timeout(5 * SECOND, deletes.finish()).await;
                }
                _ => {
                    let store = if random.bool() { &self.from } else { &self.to };
                    inject(store, random);
                }
            }
            sleep(Duration::from_millis(random.u64(..1500))).await;
        }
    }
}

fn record(number: usize) -> Record {
    let json =
        format!(r#"{{"name": "agent-{number}", "version": "1", "schema_version": "1.0.0"}}"#);
    Record::from_json(json).expect("that is a record")
}

fn inject(store: &Store, random: &mut fastrand::Rng) {
    let away = random.u64(1..8);
    let method = METHODS[random.usize(..METHODS.len())];
    let fault = match random.u8(..9) {
        0 => Fault::cut(),
        1 => Fault::cut_after(),
        // A delete that ends OK is acknowledged, so nobody could tell.
        2 if method != Method::Delete => Fault::end(),
        3 => Fault::stall(),
        4 => Fault::go_away(),
        5 => Fault::delay(SECOND * random.u32(..20)),
        6 => Fault::status(Status::unavailable("not now")),
        7 => Fault::status(Status::internal("something went wrong")),
        _ => {
            // The server is killed, and is back after a while.
            store.inject(Fault::no_connection().times(away));
            for method in METHODS {
                store.inject(Fault::cut().on(*method));
            }
            return;
        }
    };
    store.inject(fault.on(method).at(random.u64(..5)));
}
