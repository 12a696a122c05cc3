//! Agent records from a NATS JetStream work queue into a directory, by any number of workers. README.md is the manual.

mod dead;
mod held;
mod intake;
mod publish;
mod queue;
mod work;

use std::io::IsTerminal as _;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use agntcy_dir_stream::{CircuitBreaker, ClientBuilder, Options, Retry};
use anyhow::Context as _;
use async_nats::ConnectOptions;
use async_nats::jetstream;
use clap::{Parser, Subcommand};
use futures::TryStreamExt as _;
use tokio_util::sync::CancellationToken;

use queue::{Queue, Size};
use work::{Counts, Settings};

/// Agent records from a NATS JetStream work queue into a directory.
#[derive(Parser)]
struct Arguments {
    /// Where NATS is.
    #[arg(
        long,
        env = "NATS_URL",
        default_value = "nats://127.0.0.1:4222",
        global = true
    )]
    nats: String,

    /// A file with the credentials for NATS.
    #[arg(long, env = "NATS_CREDS", value_name = "FILE", global = true)]
    credentials: Option<PathBuf>,

    /// The name of the queue.
    #[arg(long, default_value = "agents", global = true)]
    queue: String,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the queue, or changes it to this.
    Create {
        /// How many workers there may be.
        #[arg(long, default_value = "4")]
        workers: NonZero<u32>,

        /// How many messages a worker may have in hand.
        #[arg(long, value_name = "MESSAGES", default_value = "1024")]
        window: NonZero<u32>,

        /// How long a message may be in hand without a sign of life, until another worker has it.
        #[arg(long, value_name = "SECONDS", default_value = "30")]
        ack_wait: NonZero<u32>,
    },
    /// Puts each line of these files, or of standard input, into the queue.
    Publish { files: Vec<PathBuf> },
    /// Streams what is in the queue into the directory, until Ctrl-C.
    Work(Work),
    /// Says how many messages are where.
    Status,
    /// Prints the dead letters, a line of JSON for each.
    Dead {
        /// Put them into the queue again.
        #[arg(long)]
        requeue: bool,
    },
}

#[derive(clap::Args)]
struct Work {
    /// Where the directory is. Without it, the variables of DIR's own clients say it, such as
    /// DIRECTORY_CLIENT_SERVER_ADDRESS, or it is http://127.0.0.1:8888.
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// How many calls run side by side.
    #[arg(long, value_name = "N", default_value = "1")]
    calls: NonZero<usize>,

    /// How long a record may take until its message is given back.
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    retry_for: NonZero<u32>,

    /// How often a record is delivered at most that the directory fails at while it takes others.
    #[arg(long, value_name = "N", default_value = "20")]
    deliveries: NonZero<u32>,

    /// How long what is in flight may take after Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    grace: u32,
}

fn seconds(seconds: NonZero<u32>) -> Duration {
    Duration::from_secs(seconds.get().into())
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "info,async_nats=warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let options = match &arguments.credentials {
        Some(file) => ConnectOptions::with_credentials_file(file)
            .await
            .with_context(|| file.display().to_string())?,
        None => ConnectOptions::new(),
    };
    let nats = options
        .name("dir-nats")
        .connect(&arguments.nats)
        .await
        .with_context(|| format!("cannot connect to {}", arguments.nats))?;
    let queue = Queue::new(jetstream::new(nats), arguments.queue)?;
    match arguments.command {
        Command::Create {
            workers,
            window,
            ack_wait,
        } => {
            let size = Size {
                workers: workers.get(),
                window: window.get(),
                ack_wait: seconds(ack_wait),
            };
            queue.create(&size).await?;
            println!("{workers} workers may have {window} messages each");
        }
        Command::Publish { files } => {
            let counts = publish::publish(&queue, &files).await?;
            println!(
                "{} queued, {} were there, {} are too long",
                counts.queued, counts.were_there, counts.too_long
            );
            if counts.too_long > 0 {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Work(settings) => work(queue, &settings).await?,
        Command::Status => {
            let counts = queue.counts().await?;
            println!(
                "{} waiting, {} held ({} of them not for the first time), {} dead",
                counts.waiting, counts.held, counts.again, counts.dead
            );
        }
        Command::Dead { requeue: true } => {
            println!("{} are in the queue again", dead::requeue(&queue).await?);
        }
        Command::Dead { requeue: false } => {
            let mut letters = std::pin::pin!(dead::list(&queue).await?);
            while let Some(letter) = letters.try_next().await? {
                println!("{letter}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn work(queue: Queue, settings: &Work) -> anyhow::Result<()> {
    let patience = seconds(settings.retry_for);
    let builder = match &settings.server {
        Some(url) => ClientBuilder::from_env_at(url),
        None => ClientBuilder::from_env(),
    };
    // The directory may come later than its workers.
    let directory = builder?
        .breaker(CircuitBreaker::new().give_up_after(Some(patience)))
        .connect_lazy()?;
    let settings = Settings {
        options: Options::new()
            .calls(settings.calls.get())
            .keep_trying(true)
            .retry(Retry::new().timeout(patience)),
        deliveries: settings.deliveries.get(),
        grace: Duration::from_secs(settings.grace.into()),
    };
    let counts = Counts::default();
    let stop = CancellationToken::new();
    let working = work::work(
        Arc::new(queue),
        &directory,
        &settings,
        &counts,
        stop.clone(),
    );
    let mut working = std::pin::pin!(working);
    let ended = tokio::select! {
        ended = &mut working => ended,
        told = told_to_end() => {
            told?;
            stop.cancel();
            tokio::select! {
                ended = working => ended,
                told = told_to_end() => {
                    told?;
                    Err(anyhow::anyhow!("ended at once: what was in hand comes again"))
                }
            }
        }
    };
    println!(
        "{} stored ({} were already), {} dead, {} given back, {} unconfirmed",
        counts.stored.load(Relaxed),
        counts.already_stored.load(Relaxed),
        counts.dead.load(Relaxed),
        counts.given_back.load(Relaxed),
        counts.unconfirmed.load(Relaxed),
    );
    ended
}

/// Ctrl-C, or what service managers send.
async fn told_to_end() -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            told = tokio::signal::ctrl_c() => Ok(told?),
        }
    }
    #[cfg(not(unix))]
    Ok(tokio::signal::ctrl_c().await?)
}
