//! The server, and the way to it.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agntcy_dir_stream::{
    CircuitBreaker, Client, ClientBuilder, Code, Compression, Error, Record, Token,
};
use anyhow::Context as _;

#[derive(clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Server")]
pub(crate) struct Arguments {
    /// Where it is: https://HOST:PORT, or http:// without TLS.
    ///
    /// Without it, DIRECTORY_CLIENT_SERVER_ADDRESS says it, or it is http://127.0.0.1:8888. The other variables of DIR's
    /// clients are read, too, and the identity that they name goes to this server: DIRECTORY_CLIENT_AUTH_MODE,
    /// DIRECTORY_CLIENT_AUTH_TOKEN, DIRECTORY_CLIENT_TLS_CA_FILE, …
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    #[command(flatten)]
    link: Link,

    /// A file with a token. It is read again when it changes, so the token may expire.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// What the ways to all servers have in common.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Link {
    /// The CAs that the server's certificate is from, in PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// A certificate for this client, in PEM.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,

    /// Its key.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,

    /// The name in the server's certificate, if it is another than in the URL.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,

    /// Send the token of a file over http:// too, where anybody on the way can read it.
    #[arg(long)]
    token_without_tls: bool,

    /// How many connections there are [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: Option<u16>,

    /// Compress what is sent, for slow lines. The server must know how.
    #[arg(long, value_enum)]
    compress: Option<Compress>,

    /// How long connecting may take [default: 20]
    #[arg(long, value_name = "SECONDS")]
    connect_timeout: Option<NonZero<u64>>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Compress {
    Gzip,
    Zstd,
}

impl Arguments {
    /// Where the server is, as it was given.
    pub(crate) fn name(&self) -> String {
        let variable = || std::env::var("DIRECTORY_CLIENT_SERVER_ADDRESS").ok();
        self.server.clone().or_else(variable).unwrap_or_default()
    }

    /// Connects, and asks the server whether it knows who asks: what is wrong with that shows now.
    pub(crate) async fn connect(&self, breaker: CircuitBreaker) -> anyhow::Result<Client> {
        let builder = || match &self.server {
            Some(url) => ClientBuilder::from_env_at(url),
            None => ClientBuilder::from_env(),
        };
        let token_file = self.token_file.as_deref();
        self.link.connect(builder, token_file, breaker).await
    }
}

impl Link {
    pub(crate) async fn connect(
        &self,
        builder: impl Fn() -> Result<ClientBuilder, Error>,
        token_file: Option<&Path>,
        breaker: CircuitBreaker,
    ) -> anyhow::Result<Client> {
        let token = token_file.map(Token::file);
        let client = self.set_up(builder()?, token).breaker(breaker);
        let client = client.connect().await?;
        let asks = match token_file {
            // A token in a file that is refused may be about to change, and is waited for. As text it is refused at once.
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
                let token = Token::new(text.trim());
                &self.set_up(builder()?, Some(token)).connect().await?
            }
            None => &client,
        };
        if let Some(error) = does_not_know_us(asks).await {
            return Err(error).context("the server does not let us in");
        }
        Ok(client)
    }

    fn set_up(&self, mut builder: ClientBuilder, token: Option<Token>) -> ClientBuilder {
        if let Some(path) = &self.ca_file {
            builder = builder.ca_file(path);
        }
        if let (Some(certificate), Some(key)) = (&self.client_certificate, &self.client_key) {
            builder = builder.client_certificate_files(certificate, key);
        }
        if let Some(name) = &self.server_name {
            builder = builder.server_name(name);
        }
        if let Some(token) = token {
            builder = match self.token_without_tls {
                true => builder.token_without_tls(token),
                false => builder.token(token),
            };
        }
        if let Some(connections) = self.connections {
            builder = builder.connections(connections.into());
        }
        if let Some(compress) = self.compress {
            builder = builder.compression(match compress {
                Compress::Gzip => Compression::Gzip,
                Compress::Zstd => Compression::Zstd,
            });
        }
        if let Some(timeout) = self.connect_timeout {
            builder = builder.connect_timeout(Duration::from_secs(timeout.get()));
        }
        builder
    }
}

/// Asks for a record that nobody has. Only that the server does not know who asks ends the program: what is wrong
/// otherwise may be wrong with this call alone, and shows at the records.
async fn does_not_know_us(client: &Client) -> Option<Error> {
    let nobody_has = Record::from_json("{}")
        .and_then(|record| record.cid())
        .ok()?;
    let asked = tokio::time::timeout(Duration::from_secs(5), client.exists(nobody_has)).await;
    let error = asked.ok()?.err()?.error;
    let is_unknown = |status: &agntcy_dir_stream::Status| status.code() == Code::Unauthenticated;
    error.status().is_some_and(is_unknown).then_some(error)
}
