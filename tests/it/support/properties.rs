//! How many cases a property is tried with.

use proptest::test_runner::{Config, RngSeed};

/// Each run has the same cases, so that a failure comes from what was changed. With `PROPTEST_CASES` there
/// are as many cases as that says, and they differ from run to run.
pub(crate) fn cases(usual: u32) -> Config {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    let (cases, rng_seed) = match wanted {
        Some(cases) => {
            let cases = cases.parse().expect("PROPTEST_CASES is a number");
            (cases, Config::default().rng_seed)
        }
        None => (usual, RngSeed::Fixed(0)),
    };
    Config {
        cases,
        rng_seed,
        ..Config::default()
    }
}
