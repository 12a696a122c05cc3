//! How often a server may be asked.

use std::time::Duration;

use agntcy_dir_stream::server::Call;

use super::hosts::{CLIENT, WRITER};
use super::settings::Settings;

/// A connection that a client on this host began to make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dial {
    pub(super) host: &'static str,
    pub(super) node: usize,
    pub(super) at: Duration,
}

/// In each outage of a node, the waits between connections have doubled, up to the longest; and no call was opened again
/// and again.
pub(super) fn assert_no_storm(dials: &[Dial], calls: &[Call], settings: &Settings) {
    let most = settings.most_calls();
    assert!(calls.len() <= most, "{} calls, and not {most}", calls.len());
    for trouble in settings
        .troubles
        .iter()
        .filter(|trouble| trouble.what.is_outage())
    {
        let (begins, ends) = (trouble.begins, trouble.ends);
        let most = settings.most_dials(ends - begins);
        for host in [CLIENT, WRITER] {
            let is_meanwhile = |dial: &&Dial| {
                (dial.host, dial.node) == (host, trouble.node) && (begins..ends).contains(&dial.at)
            };
            let count = dials.iter().filter(is_meanwhile).count();
            assert!(
                count <= most,
                "{count} connections of the {host}, and not {most}, in {:?} of {trouble}",
                ends - begins
            );
        }
    }
}
