//! Agent records from a NATS JetStream work queue into a directory, by any number of workers. README.md is the manual.

mod dead;
mod held;
mod intake;
mod publish;
mod queue;
mod work;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use agntcy_dir_stream::{CircuitBreaker, ClientBuilder, Options, Retry};
use anyhow::{Context as _, anyhow};
use async_nats::jetstream;
use async_nats::{ConnectOptions, Event, ServerAddr};
use clap::{Parser, Subcommand};
use futures::TryStreamExt as _;
use tokio_util::sync::CancellationToken;

use dead::Which;
use held::Held;
use queue::Queue;
use work::{Counts, Settings};

const EXIT_CODES: &str = "\
Exit codes: 0 all went well; 1 it did not, and why is on standard error; 2 the command line is wrong;
141 nobody reads the output any more.
Variables: RUST_LOG says how much is logged, such as warn or dir_nats=debug [default: info].";

/// Agent records from a NATS JetStream work queue into a directory.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
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
    /// Makes the queue, or changes those sizes that are given. Workers have to be started anew for them.
    Create {
        /// How many workers there may be [default: 4]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        workers: Option<u32>,

        /// How many messages a worker may have in hand [default: 1024]
        #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        window: Option<u32>,

        /// How long a message may be in hand without a sign of life, until another worker has it [default: 30]
        #[arg(long, value_name = "SECONDS")]
        ack_wait: Option<NonZero<u32>>,
    },
    /// Puts each line of files into the queue.
    Publish {
        /// Files with a record in each line; `-` is standard input.
        #[arg(default_value = "-")]
        files: Vec<PathBuf>,
    },
    /// Streams what is in the queue into the directory, until Ctrl-C.
    Work(Work),
    /// Says how many messages are where.
    Status,
    /// Prints the dead letters, a line of JSON for each.
    Dead {
        /// Only these, by the number that a line has as its `letter`.
        letters: Vec<u64>,

        /// Put them into the queue again.
        #[arg(long)]
        requeue: bool,

        /// Delete them. They have to be named.
        #[arg(long, conflicts_with = "requeue", requires = "letters")]
        discard: bool,
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

    /// At which delivery a record is dead that the directory fails at while it takes others. All deliveries count, also
    /// those of an outage before.
    #[arg(long, value_name = "N", default_value = "100")]
    deliveries: NonZero<u32>,

    /// How long what is in flight may take after Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    grace: u32,
}

/// How long NATS may take to answer before it is asked again.
const ANSWER: Duration = Duration::from_secs(5);

/// How long it is looked at the start whether the directory is there.
const PROBE: Duration = Duration::from_secs(5);

/// Signals that come within this time are one.
const TOGETHER: Duration = Duration::from_secs(1);

fn seconds(seconds: NonZero<u32>) -> Duration {
    Duration::from_secs(seconds.get().into())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "info,async_nats=warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let ended = tokio::runtime::Runtime::new().map_err(anyhow::Error::from);
    let ended = ended.and_then(|runtime| {
        let ended = runtime.block_on(run(arguments));
        // Somebody may still hold the other end of standard input, which is being read.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(code) => code,
        Err(error) if is_nobody_there(&error) => ExitCode::from(141),
        Err(error) => {
            eprintln!("{}", in_words(&error));
            ExitCode::FAILURE
        }
    }
}

/// Whether who reads standard output is gone.
fn is_nobody_there(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// An error with its causes, but for those that it says itself.
fn in_words(error: &anyhow::Error) -> String {
    let mut words = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// A line on standard output.
fn say(line: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

async fn connect(
    url: &str,
    credentials: Option<&Path>,
    cuts: Arc<AtomicU64>,
) -> anyhow::Result<async_nats::Client> {
    let mut options = match credentials {
        Some(file) => ConnectOptions::with_credentials_file(file)
            .await
            .with_context(|| file.display().to_string())?,
        None => ConnectOptions::new(),
    };
    // A password has no place in an error.
    let shown = url.rsplit('@').next().unwrap_or(url);
    let address: ServerAddr = url
        .parse()
        .with_context(|| format!("{shown} is no address"))?;
    if let (Some(user), Some(password)) = (address.username(), address.password()) {
        options = options.user_and_password(user.to_owned(), password.to_owned());
    }
    let is_away = AtomicBool::new(false);
    options = options.name("dir-nats").request_timeout(Some(ANSWER));
    let connected = options.event_callback(move |event| {
        match event {
            Event::Disconnected => {
                is_away.store(true, Relaxed);
                cuts.fetch_add(1, Relaxed);
                tracing::warn!("NATS is away");
            }
            Event::Connected if is_away.swap(false, Relaxed) => tracing::info!("NATS is back"),
            Event::ServerError(error) => tracing::warn!("NATS says: {error}"),
            Event::SlowConsumer(_) => tracing::warn!("messages come faster than they are taken"),
            _ => {}
        }
        std::future::ready(())
    });
    let connected = connected.connect(address).await;
    connected.with_context(|| format!("cannot connect to {shown}"))
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let cuts = Arc::default();
    let credentials = arguments.credentials.as_deref();
    let nats = connect(&arguments.nats, credentials, Arc::clone(&cuts)).await?;
    let queue = Queue::new(jetstream::new(nats), arguments.queue, cuts)?;
    match arguments.command {
        Command::Create {
            workers,
            window,
            ack_wait,
        } => {
            let sizes = queue.create(workers, window, ack_wait.map(seconds)).await?;
            say(format_args!(
                "{} workers may have {} messages each, for {} s without a sign of life",
                sizes.workers,
                sizes.window,
                sizes.ack_wait.as_secs()
            ))?;
        }
        Command::Publish { files } => return publish(&queue, &files).await,
        Command::Work(settings) => work(queue, &settings).await?,
        Command::Status => {
            let counts = queue.counts().await?;
            say(format_args!(
                "{} waiting, {} held or given back ({} of them not for the first time), {} dead",
                counts.waiting, counts.held, counts.again, counts.dead
            ))?;
        }
        Command::Dead {
            letters,
            requeue,
            discard,
        } => {
            let which = Which(letters.into_iter().collect());
            if requeue {
                let count = dead::requeue(&queue, which).await?;
                say(format_args!("{count} are in the queue again"))?;
            } else if discard {
                say(format_args!(
                    "{} are gone",
                    dead::discard(&queue, which).await?
                ))?;
            } else {
                let mut letters = std::pin::pin!(dead::list(&queue, which).await?);
                while let Some(letter) = letters.try_next().await? {
                    say(letter)?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn publish(queue: &Queue, files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let counts = publish::Counts::default();
    let published = tokio::select! {
        published = publish::publish(queue, files, &counts) => published,
        told = told_to_end() => {
            told?;
            Err(anyhow!("it was told to end"))
        }
    };
    let too_long = counts.too_long.load(Relaxed);
    say(format_args!(
        "{} queued, {} were there, {too_long} are too long",
        counts.queued.load(Relaxed),
        counts.were_there.load(Relaxed),
    ))?;
    published?;
    Ok(match too_long {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

async fn work(queue: Queue, settings: &Work) -> anyhow::Result<()> {
    let patience = seconds(settings.retry_for);
    let builder = || match &settings.server {
        Some(url) => ClientBuilder::from_env_at(url),
        None => ClientBuilder::from_env(),
    };
    let work_on = queue.to_work_on().await?;
    // The directory may come later than its workers, or be at another address.
    let probe = builder()?.connect_timeout(PROBE).connect().await;
    if let Err(error) = probe {
        tracing::warn!("the directory is not there yet: {error}");
    }
    let directory = builder()?
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
    let held = Arc::new(Held::default());
    let stop = CancellationToken::new();
    let working = work::work(
        Arc::new(queue),
        work_on,
        &directory,
        &settings,
        Arc::clone(&held),
        &counts,
        stop.clone(),
    );
    let mut working = std::pin::pin!(working);
    let ended = tokio::select! {
        ended = &mut working => ended,
        told = told_to_end() => {
            told?;
            stop.cancel();
            let told_again = async {
                // Signals that come together are one.
                tokio::time::sleep(TOGETHER).await;
                told_to_end().await
            };
            tokio::select! {
                ended = working => ended,
                told = told_again => {
                    told?;
                    Err(anyhow!("it was told to end at once"))
                }
            }
        }
    };
    say(format_args!(
        "{} stored ({} were already), {} dead, {} given back, {} unconfirmed",
        counts.stored.load(Relaxed),
        counts.already_stored.load(Relaxed),
        counts.dead.load(Relaxed),
        counts.given_back.load(Relaxed),
        counts.unconfirmed.load(Relaxed) + held.len() as u64,
    ))?;
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
