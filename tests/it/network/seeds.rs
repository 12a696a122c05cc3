//! Which seeds are run, and what is said of one that fails.

use super::trace::Digest;

/// Runs this job once for each seed: so many, or as `NETWORK_SEEDS` or `NETWORK_SEED` say; and those with which a fault was
/// found.
pub(super) fn each_seed(job: &'static str, found: &[u64], usual: u64, run: impl Fn(u64) -> Digest) {
    let number = |name| {
        let value = std::env::var(name).ok()?;
        Some(value.parse::<u64>().expect("a number of seeds, or a seed"))
    };
    let seeds: Vec<u64> = match number("NETWORK_SEED") {
        Some(seed) => vec![seed],
        None => {
            let seeds = 0..number("NETWORK_SEEDS").unwrap_or(usual);
            found.iter().copied().chain(seeds).collect()
        }
    };
    if is_repeated() {
        // With `RUST_LOG`, what the crate says of it.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
    }
    for seed in seeds {
        let tells = Tells { job, seed };
        run(seed);
        drop(tells);
    }
}

/// Whether what happens is printed: that of one seed alone.
pub(super) fn is_repeated() -> bool {
    std::env::var_os("NETWORK_SEED").is_some()
}

/// Says which seed it was, if it fails.
struct Tells {
    job: &'static str,
    seed: u64,
}

impl Drop for Tells {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { job, seed } = self;
            eprintln!(
                "seed {seed} fails: NETWORK_SEED={seed} cargo test --all-features --test it network::{job}"
            );
        }
    }
}
