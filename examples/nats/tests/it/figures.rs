//! How fast 1, 2 and 4 workers are. Nothing is asserted but that all is stored: a clean run is
//! `cargo test --release --test it figures -- --ignored --nocapture`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use agntcy_dir_stream::server::{Fault, Method};

use crate::directory::Directory;
use crate::nats::{Nats, Status};
use crate::processes::interrupt;
use crate::waits::{until, within};

/// A record of 1.5 KB.
fn line(number: usize) -> String {
    let text = "x".repeat(1_400);
    format!(
        r#"{{"name": "agent-{number}", "version": "1", "schema_version": "1.0.0", "description": "{text}"}}"#
    )
}

async fn measure(what: &str, takes: Option<Duration>, records: usize) {
    for workers in [1, 2, 4] {
        let nats = Nats::start(&format!("figures-{what}-{workers}")).await;
        let (directory, store) = Directory::embedded().await;
        if let Some(time) = takes {
            store.inject(Fault::delay(time).on(Method::Push).times(u64::MAX));
        }
        nats.run(&["create", "--workers", "4"]).await;
        let lines: Vec<_> = (0..records).map(line).collect();
        let file = nats.file("records", &lines);
        let start = Instant::now();
        nats.run(&["publish", &file]).await;
        let publishing = start.elapsed();
        let start = Instant::now();
        let work = ["work", "--server", &directory.url()].map(str::to_owned);
        let work = work.each_ref().map(String::as_str);
        let running: Vec<_> = (0..workers)
            .map(|_| {
                let mut command = nats.command(&work);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                command.spawn().unwrap()
            })
            .collect();
        let done = Status {
            waiting: 0,
            held: 0,
            again: 0,
            dead: 0,
        };
        until("all is done", async || nats.status().await == done).await;
        let rate = records as f64 / start.elapsed().as_secs_f64();
        assert_eq!(store.len(), records);
        let published = records as f64 / publishing.as_secs_f64();
        println!("{what}: {workers} workers {rate:.0}/s, published {published:.0}/s");
        for mut worker in running {
            interrupt(&worker).await;
            within(30, worker.wait()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a NATS server, and time"]
async fn figures_of_one_two_and_four_workers() {
    measure("quick", None, 100_000).await;
    measure("slow", Some(Duration::from_millis(1)), 5_000).await;
}
