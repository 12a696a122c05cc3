//! How a client is set up.

use std::fmt;
use std::future::Future;
use std::io;
#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tonic::codegen::Service;

use super::connection::{CONNECT_TIMEOUT, Connection, OUTSIDE};
use super::connector::Connector;
use super::link::Link;
use super::node::Node;
use super::origin::origin;
#[cfg(feature = "tls")]
use super::pem::Pem;
#[cfg(feature = "spiffe")]
use super::spiffe::Spiffe;
#[cfg(feature = "tls")]
use super::tls::{Https, Identity, Roots, Tls, server_name};
use super::token::Token;
use super::tokens::Tokens;
use super::transport::BoxError;
use super::{Client, Compression};
use crate::breaker::CircuitBreaker;
use crate::error::{Error, ErrorKind};
use crate::escape::Escaped;
use crate::unreachable::Unreachable;

/// How long a connection may be silent before TCP asks whether the other side is still there: else
/// a host that vanished while an answer is awaited would never be missed.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Sets up a [`Client`] for a server with more than a URL: [`Client::builder`].
///
/// ```no_run
/// use agntcy_dir_stream::{Client, Token};
///
/// # async fn example() -> Result<(), agntcy_dir_stream::Error> {
/// # #[cfg(feature = "tls")]
/// let client = Client::builder("https://dir.example.org:8888")
///     .ca_file("/etc/dir/ca.pem")
///     .token(Token::file("/var/run/secrets/dir/token"))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// # TLS
///
/// The feature `tls`, which is on by default, brings `https`. The server's certificate has to be signed by a CA that
/// this system trusts, or by one of [`ca_file`](Self::ca_file), and has to be for the URL's host, or for
/// [`server_name`](Self::server_name). There is no way to trust any server; a channel of your own can
/// ([`Client::from_service`]).
///
/// Certificates, keys and the system's CAs are read again for each connection that is made, so files that are replaced
/// need no restart. A connection that is there stays.
///
/// What goes wrong is in the error of [`connect`](Self::connect), or in that of each item: the server's URL, and one of
/// these, with the cause behind it.
///
/// | words | what to do |
/// |---|---|
/// | the server does not speak TLS | `http://`, or another port |
/// | the server expects TLS | `https://`, or another port |
/// | no CA … has signed the server's certificate | `ca_file` with the CA that has |
/// | the server's certificate is for another name | the name that the certificate has, as the URL's host or `server_name` |
/// | the server's certificate has expired, is not valid yet | a look at the server, or at this system's clock |
/// | the server wants a client certificate, and none was given | `client_certificate_files` |
/// | the server does not accept the client certificate | one that it accepts, or that has not expired |
/// | the server refuses TLS, broke TLS, does not speak HTTP/2 over TLS, closed the connection during the handshake | a look at the server, or at what stands before it |
/// | this system trusts no CA | `ca_file` |
/// | cannot use the client certificate with the key, the key is encrypted | a key that belongs to it, decrypted |
/// | cannot read `file`, there is no certificate in `file` | another file |
#[derive(Clone)]
#[must_use = "`connect` or `connect_lazy` makes the client"]
pub struct ClientBuilder {
    url: String,
    #[cfg(feature = "tls")]
    tls: Tls,
    /// The first option that takes TLS.
    wants_tls: Option<&'static str>,
    /// What was found to be wrong first.
    wrong: Option<String>,
    token: Option<Token>,
    token_may_be_seen: bool,
    headers: HeaderMap,
    connections: usize,
    call_rate: Option<u32>,
    breaker: Option<CircuitBreaker>,
    compression: Option<Compression>,
    connect_timeout: Duration,
    /// In place of TCP.
    connector: Option<Connector>,
}

impl ClientBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            #[cfg(feature = "tls")]
            tls: Tls::default(),
            wants_tls: None,
            wrong: None,
            token: None,
            token_may_be_seen: false,
            headers: HeaderMap::new(),
            connections: 1,
            call_rate: None,
            breaker: None,
            compression: None,
            connect_timeout: CONNECT_TIMEOUT,
            connector: None,
        }
    }

    #[cfg(test)]
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Trusts servers whose certificates are signed by a CA in this file, in PEM, and no others. Default: those that
    /// this system trusts, with what `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    #[cfg(feature = "tls")]
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        self.trust(Pem::file(path))
    }

    /// The same, of PEM text.
    #[cfg(feature = "tls")]
    pub fn ca_pem(self, text: impl AsRef<[u8]>) -> Self {
        self.trust(Pem::Text(text.as_ref().into()))
    }

    #[cfg(feature = "tls")]
    pub(super) fn trust(mut self, ca: Pem) -> Self {
        if self.has_spiffe() {
            return self.note_wrong(BESIDE_SPIFFE.to_owned());
        }
        self.tls.roots = Roots::These(ca);
        self.takes_tls("a CA")
    }

    /// Shows this certificate to the server, with those that lead to its CA behind it, and proves it by this key. Both
    /// are files in PEM; the key is not encrypted.
    #[cfg(feature = "tls")]
    pub fn client_certificate_files(
        self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.identify(Identity {
            certificate: Pem::file(certificate),
            key: Pem::file(key),
        })
    }

    /// The same, of PEM texts.
    #[cfg(feature = "tls")]
    pub fn client_certificate_pem(
        self,
        certificate: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Self {
        self.identify(Identity {
            certificate: Pem::Text(certificate.as_ref().into()),
            key: Pem::Text(key.as_ref().into()),
        })
    }

    #[cfg(feature = "tls")]
    pub(super) fn identify(mut self, identity: Identity) -> Self {
        if self.has_spiffe() {
            return self.note_wrong(BESIDE_SPIFFE.to_owned());
        }
        self.tls.identity = Some(identity);
        self.takes_tls("a client certificate")
    }

    /// The name that the server's certificate has to be for, and that the server is asked for, in place of the URL's
    /// host: where that is an address, or a port that is forwarded. What is no name is refused when it connects.
    #[cfg(feature = "tls")]
    pub fn server_name(mut self, name: impl AsRef<str>) -> Self {
        if self.has_spiffe() {
            return self.note_wrong(BESIDE_SPIFFE.to_owned());
        }
        match server_name(name.as_ref()) {
            Ok(name) => self.tls.server_name = Some(name),
            Err(error) => {
                let name = Escaped(name.as_ref());
                return self.note_wrong(format!("{error}: `{name}`"));
            }
        }
        self.takes_tls("a server name")
    }

    /// Shows an identity of SPIFFE, and trusts the servers that its Workload API vouches for. CAs, a client certificate and
    /// a server name do not go together with it, and one for JWT takes the place of a token.
    #[cfg(feature = "spiffe")]
    pub fn spiffe(mut self, identity: Spiffe) -> Self {
        if let Some(wrong) = identity.wrong() {
            return self.note_wrong(wrong);
        }
        if self.wants_tls.is_some() {
            return self.note_wrong(BESIDE_SPIFFE.to_owned());
        }
        self.token = identity.token().or(self.token);
        self.tls = Tls {
            roots: Roots::Spiffe(identity),
            ..Tls::default()
        };
        self.takes_tls("an identity of SPIFFE")
    }

    /// Has each call show a bearer token from here.
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// The same, also by connections without TLS, where everybody on the way can read it: to a server on this machine,
    /// or behind a proxy that speaks TLS for it.
    pub fn token_without_tls(mut self, token: Token) -> Self {
        self.token_may_be_seen = true;
        self.token(token)
    }

    /// Sends this header with each call. It may come several times.
    ///
    /// The names that gRPC and HTTP/2 use themselves are refused when it connects, and `authorization`, which is for
    /// [`token`](Self::token). The value of a name that ends in `-bin` has to be in base64, as gRPC wants it.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        let name = name.as_ref();
        let Ok(parsed) = HeaderName::try_from(name) else {
            let name = Escaped(name);
            return self.note_wrong(format!("`{name}` is not the name of a header"));
        };
        if is_reserved(&parsed) {
            return self.note_wrong(format!("the header `{parsed}` is not one to set"));
        }
        match HeaderValue::try_from(value.as_ref()) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.append(parsed, value);
                self
            }
            Err(_) => {
                let words = format!("the header `{parsed}` has characters that no header can have");
                self.note_wrong(words)
            }
        }
    }

    /// How many connections there are: as [`Client::with_connections`]. Default: 1.
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub fn connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a client has one connection at least");
        self.connections = connections;
        self
    }

    /// How many calls a second are opened at most: as [`Client::with_call_rate`]. Default: no limit.
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub fn call_rate(mut self, calls_per_second: u32) -> Self {
        assert!(
            calls_per_second > 0,
            "a client opens one call a second at least"
        );
        self.call_rate = Some(calls_per_second);
        self
    }

    /// When calls are held back: as [`Client::with_breaker`].
    pub fn breaker(mut self, settings: CircuitBreaker) -> Self {
        self.breaker = Some(settings);
        self
    }

    /// How messages are compressed: as [`Client::with_compression`]. Default: they are not.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Makes connections by this function, in place of TCP: over Unix sockets, through a proxy, over vsock or a simulated
    /// network. It is given the URL's host and port, such as `dir.example.org:8888`, with the scheme's port if the URL has
    /// none, and called for each connection, in the runtime that the connection is for.
    ///
    /// With `https`, TLS goes over what it gives. [`connect_timeout`](Self::connect_timeout) is for all of it; when that
    /// is up, the function's future is dropped. Where it uses
    /// TCP, it has to set `TCP_NODELAY` itself: else small messages wait for each other.
    ///
    /// Its error is the [source](std::error::Error::source) of [`Unavailable`](ErrorKind::Unavailable), of
    /// [`connect`](Self::connect), and of [`NotSent`](ErrorKind::NotSent), of items whose time is up while there is no
    /// connection. Both name the URL. If it panics, that attempt has failed, and others follow.
    ///
    /// ```
    /// # #[cfg(all(unix, feature = "server"))]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agntcy_dir_stream::Client;
    /// use agntcy_dir_stream::server::Store;
    /// use tokio::net::{UnixListener, UnixStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("connector-{}.sock", std::process::id()));
    /// # let _ = std::fs::remove_file(&path);
    /// let listener = UnixListener::bind(&path)?;
    /// # let file = path.clone();
    /// tokio::spawn(async move {
    ///     let store = Store::new();
    ///     while let Ok((socket, _)) = listener.accept().await {
    ///         tokio::spawn(store.serve(socket));
    ///     }
    /// });
    ///
    /// let client = Client::builder("http://localhost")
    ///     .connector(move |_| UnixStream::connect(path.clone()))
    ///     .connect()
    ///     .await?;
    /// client.push(r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?).await?;
    /// # std::fs::remove_file(&file)?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(all(unix, feature = "server")))]
    /// # fn main() {}
    /// ```
    pub fn connector<F, Fut, IO>(mut self, connect: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<IO>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.connector = Some(Connector::of(connect));
        self
    }

    /// How long a connection may take to be made: TCP or a [`connector`](Self::connector), TLS, and the server's HTTP/2
    /// settings; and how long [`connect`](Self::connect) waits for a token. Default: 20 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connects: see [`Client::connect`]. A token is asked for, too. No call is made, so what the server says of the
    /// token shows with the first item.
    ///
    /// # Errors
    ///
    /// Those of [`Client::connect`]; and [`Invalid`](ErrorKind::Invalid) where options do not go together, or a file
    /// cannot be read or used, and [`Denied`](ErrorKind::Denied) where there is no token. They name the file
    /// and say what is wrong, and show no secret.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect(self) -> Result<Client, Error> {
        if Handle::try_current().is_err() {
            return Err(Error::invalid(format!(
                "connecting takes a runtime: {OUTSIDE}"
            )));
        }
        let origin = self.checked()?;
        #[cfg(feature = "tls")]
        if origin.scheme() == Some(&Scheme::HTTPS) {
            self.tls.check().await?;
        }
        let connection = self.connection(origin);
        connection
            .ready()
            .await
            .map_err(|error| failed(ErrorKind::Unavailable, error))?;
        let tokens = self.tokens();
        if let Some(tokens) = &tokens {
            let asking = timeout(self.connect_timeout, tokens.get()).await;
            let late = |_| Unreachable::no_token_yet(&tokens.source(), self.connect_timeout);
            let asked = asking.map_err(late).and_then(|asked| asked);
            asked.map_err(|error| failed(ErrorKind::Denied, error))?;
        }
        Ok(self.client(connection, tokens))
    }

    /// A client for a server that need not be there yet: see [`Client::connect_lazy`].
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for the URL, and where options do not go together. Files are read, and tokens
    /// asked for, with the first call.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        let origin = self.checked()?;
        let connection = self.connection(origin);
        let tokens = self.tokens();
        Ok(self.client(connection, tokens))
    }

    fn tokens(&self) -> Option<Arc<Tokens>> {
        let token = self.token.clone()?;
        Some(Arc::new(Tokens::of(token)))
    }

    #[cfg(feature = "tls")]
    fn has_spiffe(&self) -> bool {
        match self.tls.roots {
            #[cfg(feature = "spiffe")]
            Roots::Spiffe(_) => true,
            _ => false,
        }
    }

    #[cfg(feature = "tls")]
    fn takes_tls(mut self, option: &'static str) -> Self {
        self.wants_tls.get_or_insert(option);
        self
    }

    fn note_wrong(mut self, words: String) -> Self {
        self.wrong.get_or_insert(words);
        self
    }

    /// The server, if all that was set goes together.
    fn checked(&self) -> Result<Uri, Error> {
        let origin = origin(&self.url)?;
        if let Some(wrong) = &self.wrong {
            return Err(Error::invalid(wrong.clone()));
        }
        if origin.scheme() != Some(&Scheme::HTTPS) {
            if let Some(option) = self.wants_tls {
                return Err(Error::invalid(format!(
                    "{option} is of use with TLS only: the URL has to begin with https://"
                )));
            }
            if self.token.is_some() && !self.token_may_be_seen {
                return Err(Error::invalid(IN_PLAIN_SIGHT));
            }
        }
        Ok(origin)
    }

    fn connection(&self, origin: Uri) -> Connection {
        if let Some(connector) = &self.connector {
            return self.connection_by(connector.clone(), origin);
        }
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        // For all addresses of a host together, so that one that does not answer leaves time for others.
        tcp.set_connect_timeout(Some(self.connect_timeout));
        // It would not take `https`.
        tcp.enforce_http(false);
        self.connection_by(tcp, origin)
    }

    fn connection_by<C, IO>(&self, connector: C, origin: Uri) -> Connection
    where
        C: Service<Uri, Response = TokioIo<IO>, Error: Into<BoxError>, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let is_plain = origin.scheme() != Some(&Scheme::HTTPS);
        let connection = match is_plain {
            true => Connection::new(origin, connector).plain(),
            #[cfg(feature = "tls")]
            false => Connection::new(origin, Https::over(connector, self.tls.clone())),
            #[cfg(not(feature = "tls"))]
            false => unreachable!("the URL was refused"),
        };
        connection.timeout(self.connect_timeout)
    }

    fn client(self, connection: Connection, tokens: Option<Arc<Tokens>>) -> Client {
        let mut link = Link::over(Arc::new(connection)).with_headers(Arc::new(self.headers));
        if let Some(tokens) = tokens {
            link = link.with_tokens(tokens, Arc::default());
        }
        let mut client = Client::of(Node::over(link)).with_connections(self.connections);
        if let Some(calls_per_second) = self.call_rate {
            client = client.with_call_rate(calls_per_second);
        }
        if let Some(settings) = self.breaker {
            client = client.with_breaker(settings);
        }
        if let Some(compression) = self.compression {
            client = client.with_compression(compression);
        }
        client
    }
}

/// What is said where a token would go out without TLS.
pub(super) const IN_PLAIN_SIGHT: &str = "a token is not sent without TLS, where everybody on the way can read it: \
     the URL has to begin with https://, unless `ClientBuilder::token_without_tls` allows it";

#[cfg(feature = "tls")]
const BESIDE_SPIFFE: &str =
    "an identity of SPIFFE does not go together with a CA, a client certificate or a server name";

/// Whether gRPC, HTTP/2 or a token has this header.
fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    let theirs = [
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    ];
    name.starts_with("grpc-") || theirs.contains(&name)
}

fn failed(kind: ErrorKind, Unreachable { words, cause }: Unreachable) -> Error {
    Error::new(kind, words.to_string()).with_cause(cause)
}

/// The URL may hold a secret, so it is left out as the token and headers are.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ClientBuilder");
        #[cfg(feature = "tls")]
        debug.field("tls", &self.tls);
        debug
            .field("token", &self.token)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("connections", &self.connections)
            .field("call_rate", &self.call_rate)
            .field("breaker", &self.breaker)
            .field("compression", &self.compression)
            .field("connect_timeout", &self.connect_timeout)
            .field("connector", &self.connector)
            .finish_non_exhaustive()
    }
}
