//! Pushes the records of a file from a job of GitHub Actions, to a directory that knows the job by its ID token. Such
//! a token lives five minutes; this one is asked for again as long as the push takes.
//!
//! ```yaml
//! permissions:
//!   id-token: write
//! steps:
//!   - run: cargo run --release --example github_actions -- https://dir.example.org records.ndjson
//! ```
//!
//! The file has a record in each line.

use std::error::Error;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{Summary, Token};
use anyhow::{Context as _, ensure};
use futures::stream;

/// For whom the token is, as the directory expects it.
const AUDIENCE: &str = "dir";

/// How old a token may grow. It would be refused after five minutes.
const AGE: Duration = Duration::from_secs(4 * 60);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (url, file) = args
        .next()
        .zip(args.next())
        .context("usage: github_actions URL FILE")?;
    // GitHub gives these to a job that may have ID tokens.
    let job = "is this a job of GitHub Actions, with `permissions: id-token: write`?";
    let issuer = std::env::var("ACTIONS_ID_TOKEN_REQUEST_URL").context(job)?;
    let secret = std::env::var("ACTIONS_ID_TOKEN_REQUEST_TOKEN").context(job)?;

    let client = Client::builder(url)
        .token(id_token(issuer, secret))
        .connect()
        .await?;
    let text = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    let summary = push(&client, &text).await?;
    println!("{summary}");
    ensure!(summary.stats.failed == 0, "some records failed");
    Ok(())
}

/// ID tokens of the job, asked for as they are needed.
pub(crate) fn id_token(issuer: String, secret: String) -> Token {
    let token = Token::from_fn(move || {
        let (issuer, secret) = (issuer.clone(), secret.clone());
        async move {
            // This HTTP client blocks, so it has a thread of its own.
            let asking = tokio::task::spawn_blocking(move || ask(&issuer, &secret));
            asking.await?
        }
    });
    token.refresh_after(AGE)
}

/// Asks the issuer: <https://docs.github.com/en/actions/reference/security/oidc>.
fn ask(issuer: &str, secret: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    #[derive(serde::Deserialize)]
    struct Answer {
        value: String,
    }
    let answer = ureq::get(issuer)
        .query("audience", AUDIENCE)
        .header("authorization", format!("bearer {secret}"))
        .config()
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .call()?;
    Ok(answer.into_body().read_json::<Answer>()?.value)
}

pub(crate) async fn push(client: &Client, text: &str) -> anyhow::Result<Summary> {
    let records: Result<Vec<Record>, _> = text.lines().map(str::parse).collect();
    Ok(stream::iter(records?).push_to(client).finish().await)
}
