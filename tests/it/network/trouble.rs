//! What goes wrong in a run, and when: between a node and all clients, one after the other.

use std::fmt;
use std::time::Duration;

/// For how long things go wrong.
pub(super) const TROUBLE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    /// Nothing arrives, and nobody is told.
    Partition,
    /// Requests do not arrive.
    Deaf,
    /// Answers do not arrive.
    Mute,
    /// Messages arrive when it is over.
    Hold,
    /// Each message takes so long.
    Slow(Duration),
    /// This many of a thousand messages are lost, with all that is on its way then. TCP does not mend that here, so what
    /// comes later in the same connection never arrives.
    Loss(u16),
    /// The server is killed: its connections are closed, and new ones refused.
    Killed,
    /// The server's machine is gone: nobody is told, and nobody answers.
    PowerCut,
}

impl What {
    /// Whether no connection can be made to the node.
    pub(super) fn is_outage(self) -> bool {
        !matches!(self, Self::Slow(_) | Self::Loss(_))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub(super) node: usize,
    pub(super) what: What,
    pub(super) begins: Duration,
    pub(super) ends: Duration,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of node {}", self.what, self.node)
    }
}

/// What goes wrong with so many nodes. With one node it is never two things at once.
pub(super) fn draw(random: &mut fastrand::Rng, nodes: usize) -> Vec<Trouble> {
    let mut drawn = Vec::new();
    for node in 0..nodes {
        let mut begins = millis(random, 0..2_000);
        loop {
            let ends = begins + millis(random, 20..6_000);
            if ends > TROUBLE {
                break;
            }
            let what = match random.u8(..8) {
                0 => What::Partition,
                1 => What::Deaf,
                2 => What::Mute,
                3 => What::Hold,
                4 => What::Slow(millis(random, 50..1_500)),
                5 => What::Loss(random.u16(1..100)),
                6 => What::Killed,
                _ => What::PowerCut,
            };
            drawn.push(Trouble {
                node,
                what,
                begins,
                ends,
            });
            begins = ends + millis(random, 20..2_500);
        }
    }
    drawn
}

pub(super) fn millis(random: &mut fastrand::Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.u64(range))
}
