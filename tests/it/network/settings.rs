//! How a run is set up, as its seed says.

use std::time::Duration;

use agntcy_dir_stream::Retry;
use agntcy_dir_stream::prelude::*;

use super::trouble::{self, TROUBLE, Trouble, millis};

/// The first and the longest wait before a server that is away is asked again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

pub(super) struct Settings {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    pub(super) connections: usize,
    pub(super) connect_timeout: Duration,
    /// Of each message, the least and the most.
    pub(super) latency: (Duration, Duration),
    pub(super) troubles: Vec<Trouble>,
    /// Whether a server that is killed has lost what it held.
    pub(super) forgets: bool,
    /// Whether no number of faults is too many.
    pub(super) is_patient: bool,
    /// Whether results come as they are there.
    pub(super) unordered: bool,
    pub(super) items: usize,
    /// How long the input takes for an item.
    pub(super) pause: Duration,
    pub(super) options: Options,
}

impl Settings {
    pub(super) fn draw(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let random = &mut random;
        let nodes = random.usize(1..4);
        let items = random.usize(1..80);
        let is_patient = random.bool();
        let unordered = random.bool();
        let attempts = match is_patient {
            true => u32::MAX,
            false => random.u32(1..6),
        };
        let retry = Retry::new()
            .max_attempts(attempts)
            .backoff(BACKOFF.0, BACKOFF.1);
        let options = Options::new()
            .window(random.usize(1..40))
            .calls(random.usize(1..5))
            .stall_after(Some(millis(random, 500..4_000)))
            .unordered(unordered)
            .retry(retry);
        let least = millis(random, 0..30);
        Self {
            seed,
            nodes,
            connections: random.usize(1..3),
            connect_timeout: millis(random, 500..4_000),
            latency: (least, least + millis(random, 0..200)),
            troubles: trouble::draw(random, nodes),
            forgets: random.u8(..4) == 0,
            is_patient,
            unordered,
            items,
            pause: TROUBLE * 3 / 4 / u32::try_from(items).expect("below 80"),
            options,
        }
    }

    /// When nothing goes wrong any more.
    pub(super) fn well_at(&self) -> Duration {
        TROUBLE
    }

    /// How many connections may be begun in an outage that is so long. Waits are no shorter than they should be, and each
    /// connection may be told of the outage by itself, up to as many times as open the breaker.
    pub(super) fn most_dials(&self, outage: Duration) -> usize {
        let doublings = (outage.as_secs_f64() / BACKOFF.0.as_secs_f64() + 1.0)
            .log2()
            .ceil();
        let longest = outage.as_secs_f64() / BACKOFF.1.as_secs_f64();
        (doublings + longest) as usize + 3 * self.connections + 1
    }

    /// How many calls the store may see: a refused item ends its call, trouble ends some, and behind that things are looked
    /// up and listed again.
    pub(super) fn most_calls(&self) -> usize {
        20 + self.items + 6 * (self.troubles.len() + 1)
    }
}
