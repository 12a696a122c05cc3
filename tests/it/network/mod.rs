//! Clients and stores on a simulated network: messages that are late, lost and held, networks that fall apart, servers
//! that are killed. A run is drawn from one seed, and the same seed is the same run.
//!
//! `NETWORK_SEEDS=5000 cargo test --release --all-features --test it network::` tries so many seeds of each job, and
//! `NETWORK_SEED=17` repeats one, and prints what happened.

mod delete;
mod follow;
mod hosts;
mod outages;
mod pull;
mod push;
mod results;
mod seeds;
mod settings;
mod tokens;
mod trace;
mod trouble;

#[test]
fn the_same_seed_is_the_same_run() {
    type Run = fn(u64) -> trace::Digest;
    let jobs: [(&str, Run); 5] = [
        ("push", push::run),
        ("pull", pull::run),
        ("delete", delete::run),
        ("follow", follow::run),
        ("tokens", tokens::run),
    ];
    for (job, run) in jobs {
        let mut digests = std::collections::HashSet::new();
        for seed in 0..2 {
            let one = run(seed);
            // What this thread has left behind makes no difference.
            let other = std::thread::spawn(move || run(seed)).join().unwrap();
            assert_eq!(one, other, "{job}, seed {seed}");
            digests.insert(one);
        }
        assert_eq!(digests.len(), 2, "{job}: each seed is another run");
    }
}
