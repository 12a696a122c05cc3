//! The embedded store as a server of its own, for any DIR client.
//!
//! ```text
//! cargo run --release --features server --example store -- --listen 127.0.0.1:8888
//! ```
//!
//! It logs each call at its end, and shuts down on Ctrl-C. What it holds is gone then.

use std::process::ExitCode;
use std::time::Duration;

use agntcy_dir_stream::server::{AlreadyStored, Call, End, Store};
use anyhow::{Context as _, bail};

const HELP: &str = "\
An in-memory AGNTCY Directory store.

Options:
  --listen ADDRESS            where to listen [default: 127.0.0.1:8888]
  --already-stored error|ref  the answer to a push of a record that is there:
                              an error, as over a local folder, or its CID,
                              as over a registry [default: error]
  --help                      this text
";

/// How long running calls have to end after Ctrl-C.
const GRACE: Duration = Duration::from_secs(5);

struct Options {
    listen: String,
    already_stored: AlreadyStored,
}

/// `None`: only help is wanted.
fn options(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Options>> {
    let mut options = Options {
        listen: "127.0.0.1:8888".to_owned(),
        already_stored: AlreadyStored::Error,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} wants a value"))
        };
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--listen" => options.listen = value()?,
            "--already-stored" => {
                options.already_stored = match value()?.as_str() {
                    "error" => AlreadyStored::Error,
                    "ref" => AlreadyStored::Ref,
                    other => bail!("--already-stored is error or ref, not {other}"),
                }
            }
            other => bail!("there is no option {other}"),
        }
    }
    Ok(Some(options))
}

fn log(call: &Call) {
    let end = match call.end {
        Some(End::Ok) => "OK".to_owned(),
        Some(End::Status(code)) => format!("{code:?}"),
        Some(End::Cancelled) => "cancelled by the client".to_owned(),
        other => format!("{other:?}"),
    };
    println!(
        "{} #{}: {} requests, {} answers, {end}",
        call.method, call.number, call.requests, call.answers
    );
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let Some(options) = options(std::env::args().skip(1)).context("see --help")? else {
        print!("{HELP}");
        return Ok(());
    };
    let store = Store::builder()
        .already_stored(options.already_stored)
        .on_call_end(log)
        .build();
    let serving = store
        .listen(&options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    println!("listening on {}; Ctrl-C ends it", serving.url());
    tokio::signal::ctrl_c().await?;
    println!("shutting down");
    if tokio::time::timeout(GRACE, serving.shutdown())
        .await
        .is_err()
    {
        println!("calls that still ran were cut");
    }
    println!("{} records are gone", store.len());
    Ok(())
}
