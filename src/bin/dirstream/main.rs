//! `dirstream`: agent records in bulk, into an AGNTCY Directory and out of it. `dirstream --help` says the rest.

mod account;
mod delete;
mod exit;
mod input;
mod lookup;
mod mirror;
mod outcome;
mod output;
mod pace;
mod progress;
mod publish;
mod pull;
mod push;
mod referrers;
mod report;
mod say;
mod search;
mod serve;
mod server;
mod signals;
mod signer;
mod tally;
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::exit::Exit;

const MORE: &str = "\
Examples:
  dirstream push records.ndjson archive/*.json.gz >results.ndjson
  dirstream search skill='*summarization' | dirstream pull --to copies -
  dirstream mirror --from https://one.example.org --to http://127.0.0.1:8888

For each input there is one line of JSON on standard output, in order: its
index, where it came from, and its CID or what was wrong. Progress and a
summary are on standard error.

Exit codes:
  0    all went well
  1    some records failed, or it broke off: lines or standard error say why
  2    nothing was done: the command line, a file or the token is wrong
  3    the server cannot be reached, or went away: another run may help
  130  stopped by Ctrl-C, SIGTERM or SIGHUP
  141  standard output was closed by who read it";

/// Agent records in bulk, into an AGNTCY Directory and out of it: each has one result, and a bad one fails alone.
#[derive(Parser)]
#[command(name = "dirstream", version, after_help = MORE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Push(push::Arguments),
    Pull(pull::Arguments),
    Lookup(lookup::Arguments),
    Delete(delete::Arguments),
    Search(search::Arguments),
    Mirror(mirror::Arguments),
    #[command(subcommand)]
    Referrers(referrers::Command),
    Publish(publish::Arguments),
    Serve(serve::Arguments),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let done = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::new)
        .and_then(|runtime| {
            let done = runtime.block_on(async {
                tokio::select! {
                    done = run(command) => done,
                    // Such as while it connects.
                    () = signals::unheard() => Ok(Exit::Interrupted),
                }
            });
            // A thread may still wait for standard input.
            runtime.shutdown_background();
            done
        });
    let exit = done.unwrap_or_else(|error| {
        if exit::says_output_closed(&error) {
            return Exit::OutputClosed;
        }
        exit::because_of(&error);
        match exit::says_server_away(&error) {
            true => Exit::ServerAway,
            false => Exit::NothingDone,
        }
    });
    exit.into()
}

async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Push(arguments) => push::run(arguments).await,
        Command::Pull(arguments) => pull::run(arguments).await,
        Command::Lookup(arguments) => lookup::run(arguments).await,
        Command::Delete(arguments) => delete::run(arguments).await,
        Command::Search(arguments) => search::run(arguments).await,
        Command::Mirror(arguments) => mirror::run(arguments).await,
        Command::Referrers(command) => referrers::run(command).await,
        Command::Publish(arguments) => publish::run(arguments).await,
        Command::Serve(arguments) => serve::run(arguments).await,
    }
}
