//! What the tests share, one idea a file.

#[cfg(all(feature = "server", unix))]
pub(crate) mod blocking;
pub(crate) mod call_count;
pub(crate) mod clock;
#[cfg(feature = "server")]
pub(crate) mod ends;
#[cfg(feature = "server")]
pub(crate) mod folder;
#[cfg(feature = "server")]
pub(crate) mod foreign;
pub(crate) mod frames;
pub(crate) mod http2;
#[cfg(feature = "server")]
pub(crate) mod jobs;
#[cfg(feature = "server")]
pub(crate) mod listening;
#[cfg(feature = "server")]
pub(crate) mod log_lines;
pub(crate) mod messages;
pub(crate) mod no_spin;
pub(crate) mod peer;
pub(crate) mod polling;
pub(crate) mod properties;
#[cfg(feature = "server")]
pub(crate) mod publishing;
pub(crate) mod records;
#[cfg(feature = "server")]
pub(crate) mod referrers;
pub(crate) mod reply;
pub(crate) mod results;
#[cfg(feature = "server")]
pub(crate) mod searching;
pub(crate) mod sockets;
#[cfg(feature = "server")]
pub(crate) mod stores;
#[cfg(all(feature = "server", feature = "tls"))]
pub(crate) mod tls;
pub(crate) mod words;
#[cfg(all(feature = "server", feature = "spiffe", unix))]
pub(crate) mod workload_api;
