//! Keeps one directory as another is.
//!
//! ```text
//! cargo run --release --features server --example mirror [SEED]
//! cargo run --release --features server --example mirror FROM TO
//! ```
//!
//! Between two servers (`http://host:port`), until it is stopped. Or between two stores in this process: for a minute
//! records come and go, connections break, servers are away, and the mirror itself is killed, at random; then it shows
//! that the stores are equal. The clock is paused, so that the minute takes no time.

mod mirror;
mod trouble;

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use anyhow::Context as _;

use crate::mirror::{Settings, mirror};
use crate::trouble::Trouble;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all();
    match &arguments[..] {
        [from, to] => runtime.build()?.block_on(between(from, to)),
        [] => runtime.start_paused(true).build()?.block_on(in_trouble(0)),
        [seed] => {
            let seed = seed.parse().context("a seed is a number")?;
            runtime
                .start_paused(true)
                .build()?
                .block_on(in_trouble(seed))
        }
        _ => anyhow::bail!("there are none, a seed, or two servers"),
    }
}

async fn between(from: &str, to: &str) -> anyhow::Result<()> {
    let (from, to) = (Client::connect_lazy(from)?, Client::connect_lazy(to)?);
    let settings = Settings {
        options: Options::new(),
        deletes: true,
        tries_again: true,
    };
    let changes = from.follow(Query::new());
    mirror(&from, &to, changes, &settings, |done| println!("{done}")).await?;
    Ok(())
}

async fn in_trouble(seed: u64) -> anyhow::Result<()> {
    fastrand::seed(seed);
    let trouble = Trouble::new();
    trouble
        .happens(&mut fastrand::Rng::new(), Duration::from_secs(60))
        .await;
    println!(
        "{} and {} records after a minute of trouble",
        trouble.from.len(),
        trouble.to.len()
    );
    let took = trouble
        .settles()
        .await
        .context("the stores stay different")?;
    println!("{} in both, {took:?} later", trouble.to.len());
    Ok(())
}
