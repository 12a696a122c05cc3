//! `dirstream search`: the CIDs of what matches.

use std::io::Write as _;
use std::num::NonZero;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{Error, Sort};
use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;

use crate::account::{Job, account};
use crate::exit::Exit;
use crate::outcome::Outcome;
use crate::output;
use crate::pace;
use crate::server;

/// Find records: a line with the CID of each, which the other commands take.
///
/// It exits with 0 only if these were all.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    query: Terms,

    /// At most so many.
    #[arg(long, value_name = "RECORDS")]
    limit: Option<NonZero<usize>>,

    /// In which order.
    #[arg(long, value_enum)]
    sort: Option<SortBy>,

    /// Only say how many there are. Server 1.2.0 cannot.
    #[arg(long, conflicts_with_all = ["limit", "sort", "results", "report"])]
    count: bool,

    #[command(flatten)]
    pace: pace::Patience,
    #[command(flatten)]
    server: server::Arguments,
    #[command(flatten)]
    output: output::Arguments,
}

/// What is searched for.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Terms {
    /// What they must have, such as name='web*' or skill='*summarization'; of the same kind one of them. Without any: all.
    ///
    /// The kinds are name, version, skill, skill_id, locator, module, module_id, domain, domain_id, created_at, author,
    /// schema_version, verified, trusted, annotation, description, scan_severity, scan_safe, scan_status,
    /// scan_failure_reason, identity, owner, identity_verified and owner_verified.
    #[arg(value_name = "KIND=VALUE")]
    terms: Vec<String>,

    /// What they must not have. Server 1.2.0 cannot.
    #[arg(long = "not", value_name = "KIND=VALUE")]
    without: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum SortBy {
    /// The newest first.
    Recency,
    /// By how well they match.
    Relevance,
}

impl Terms {
    pub(crate) fn query(&self) -> anyhow::Result<Query> {
        let query = by(&self.terms)?;
        Ok(match self.without.is_empty() {
            true => query,
            false => query.without(by(&self.without)?),
        })
    }
}

fn by(terms: &[String]) -> anyhow::Result<Query> {
    let mut query = Query::new();
    for term in terms {
        let parts = term.split_once('=');
        let (kind, value) = parts.with_context(|| format!("`{term}` is not KIND=VALUE"))?;
        ensure!(!value.is_empty(), "`{term}` has no value");
        query = query.by(kind, value)?;
    }
    Ok(query)
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let mut query = arguments.query.query()?;
    let client = arguments.server.connect(arguments.pace.breaker()).await?;
    let options = arguments.pace.options();
    if arguments.count {
        let count = client.count_with(query, &options).await?;
        writeln!(std::io::stdout(), "{count}").context("cannot write the count")?;
        return Ok(Exit::Well);
    }
    let lines = arguments.output.open(false, None)?;
    if let Some(limit) = arguments.limit {
        query = query.limit(limit.get());
    }
    match arguments.sort {
        Some(SortBy::Recency) => query = query.sort(Sort::Recency),
        Some(SortBy::Relevance) => query = query.sort(Sort::Relevance),
        None => {}
    }
    let found = client.search_with(query, &options);
    let handle = found.handle();
    let outcomes = found.zip(futures_util::stream::iter(0..));
    let outcomes = outcomes.map(|(cid, index)| match cid {
        Ok(cid) => Ok(Outcome::new(index, None, cid)),
        Err(error) => Err(not_all(error)),
    });
    let job = Job {
        name: "search",
        outcomes: outcomes.boxed(),
        handles: vec![handle],
        reached: None,
        checkpoint: None,
    };
    account(job, lines, &arguments.output).await
}

fn not_all(error: Error) -> anyhow::Error {
    anyhow::Error::new(error).context("these are not all")
}
