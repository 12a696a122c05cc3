//! Identities of SPIFFE: certificates and tokens from the Workload API.

use std::env;
use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spiffe::transport::{Endpoint, TransportError};
use spiffe::{SpiffeId, WorkloadApiClient, WorkloadApiError, X509SourceBuilder};
use spiffe_rustls::{authorizer, mtls_client};
use tokio::time::timeout;
use tokio_rustls::rustls::{ClientConfig, OtherError};

use super::tls_error::TlsError;
use super::token::{Fetched, Token};
use super::transport::BoxError;
use crate::causes::chain;
use crate::escape::Escaped;

/// The variable that has the address of the Workload API.
const ENDPOINT: &str = "SPIFFE_ENDPOINT_SOCKET";

/// How long the Workload API may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// An identity of [SPIFFE](https://spiffe.io), from the Workload API of a SPIRE agent, say:
/// [`ClientBuilder::spiffe`](crate::ClientBuilder::spiffe).
///
/// Both sides of a connection trust the bundles of the Workload API, and not the system's CAs. The server has to have
/// a SPIFFE ID in one of their trust domains, and one of [`server_id`](Self::server_id), if there are any; the name in
/// its certificate does not matter.
///
/// | | is shown to the server | and renewed |
/// |---|---|---|
/// | [`x509`](Self::x509) | an X.509 SVID, as client certificate | for each connection that is made |
/// | [`jwt`](Self::jwt) | a JWT SVID, as the token of each call | halfway to its end, and when it is refused |
///
/// The Workload API is asked for an X.509 SVID, and for the bundles, for each connection that is made, in both modes.
/// A connection that is there outlives its SVID.
///
/// What goes wrong is said as in [TLS](crate::ClientBuilder#tls), with these words beside:
///
/// | words | what to do |
/// |---|---|
/// | no X.509 SVID from the Workload API at `socket`, no token from it | what stands behind: the agent is away, has no registration entry for this process, or does not answer within 5 seconds |
/// | the server is `spiffe://…`, which is none of those that it may be | another [`server_id`](Self::server_id), or another server |
/// | the server is of the trust domain `…`, of which the Workload API gives no bundle | a federation of the two trust domains |
/// | the server's certificate has no SPIFFE ID, no bundle of the Workload API has its CA | a look at the server, whose certificate is from elsewhere |
/// | the server does not accept the X.509 SVID | a look at the server's trust domains |
///
/// The first connection sets rustls' provider of cryptography for the whole process to ring, if the application has set
/// none (`CryptoProvider::install_default`). So one that sets its own does that first.
///
/// ```
/// use agntcy_dir_stream::{Client, Spiffe};
///
/// # fn example() -> Result<(), agntcy_dir_stream::Error> {
/// let identity = Spiffe::x509()
///     .socket("unix:///run/spire/agent.sock")
///     .server_id("spiffe://example.org/dir");
/// let client = Client::builder("https://dir.example.org:8888").spiffe(identity).connect_lazy()?;
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(async { example().unwrap() });
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Spiffe {
    socket: Option<Arc<str>>,
    audience: Option<Arc<str>>,
    server_ids: Vec<String>,
}

impl Spiffe {
    /// Shows an X.509 SVID.
    pub fn x509() -> Self {
        Self {
            socket: None,
            audience: None,
            server_ids: Vec::new(),
        }
    }

    /// Shows JWT SVIDs that are made for this audience, such as `dir`. What the server is configured to expect.
    pub fn jwt(audience: impl Into<String>) -> Self {
        Self {
            audience: Some(audience.into().into()),
            ..Self::x509()
        }
    }

    /// Where the Workload API is: `unix:///path`, a path alone, or `tcp://address:port`. Default: what
    /// the variable `SPIFFE_ENDPOINT_SOCKET` says.
    pub fn socket(self, address: impl AsRef<str>) -> Self {
        Self {
            socket: Some(address.as_ref().into()),
            ..self
        }
    }

    /// Talks to servers of this SPIFFE ID only, such as `spiffe://example.org/dir`. It may be called for several.
    pub fn server_id(mut self, id: impl Into<String>) -> Self {
        self.server_ids.push(id.into());
        self
    }

    /// What is wrong with what was set, if anything is.
    pub(super) fn wrong(&self) -> Option<String> {
        if let Err(wrong) = self.workload_api() {
            return Some(wrong);
        }
        let mut ids = self.server_ids.iter();
        let id = ids.find(|id| SpiffeId::new(id.as_str()).is_err())?;
        let id = Escaped(id);
        Some(format!(
            "`{id}` is no SPIFFE ID such as spiffe://example.org/dir"
        ))
    }

    /// The tokens of its calls, if they have any.
    pub(super) fn token(&self) -> Option<Token> {
        let audience = Arc::clone(self.audience.as_ref()?);
        let api = self.workload_api().ok()?;
        Some(Token::from_source(api.name.clone(), move || {
            let (api, audience) = (api.clone(), Arc::clone(&audience));
            async move {
                let fetching = async {
                    let client = api.connect().await?;
                    client.fetch_jwt_svid([&*audience], None).await
                };
                let svid = in_time(fetching).await?;
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                let ends = u64::try_from(svid.expiry().unix_timestamp()).unwrap_or(0);
                let left = Duration::from_secs(ends).saturating_sub(now);
                Ok(Fetched {
                    text: svid.token().to_owned(),
                    good_for: Some(left / 2),
                })
            }
        }))
    }

    /// How to speak TLS, by what the Workload API gives now.
    pub(super) async fn tls(&self, alpn: &[u8]) -> Result<ClientConfig, BoxError> {
        let api = self.workload_api()?;
        let failed = |cause: BoxError| {
            let words = format!("no X.509 SVID from {}", api.name);
            BoxError::from(TlsError::because(words, cause))
        };
        // A source waits and asks again, whatever is wrong. So the API is asked once before.
        let asking = async { api.connect().await?.fetch_x509_context().await };
        in_time(asking).await.map_err(failed)?;
        let source = X509SourceBuilder::new().client_factory({
            let api = api.clone();
            Arc::new(move || {
                let api = api.clone();
                Box::pin(async move { api.connect().await })
            })
        });
        let useless = |_| {
            "what it gives is of no use: it may have expired, or this system's clock be wrong"
                .into()
        };
        let made = timeout(PATIENCE, source.build()).await;
        let source = made.map_err(useless).map_err(failed)?;
        let source = source.map_err(|error| failed(error.to_string().into()))?;
        let config = mtls_client(source).with_alpn_protocols([alpn]);
        let config = match &*self.server_ids {
            [] => config.authorize(authorizer::any()),
            ids => {
                let ids = authorizer::exact(ids.iter().map(String::as_str));
                config.authorize(ids.map_err(|error| failed(error.into()))?)
            }
        };
        let config = config.build();
        config.map_err(|error| failed(error.to_string().into()))
    }

    /// Where the Workload API is, or what is wrong with that.
    fn workload_api(&self) -> Result<WorkloadApi, String> {
        let (address, from) = match &self.socket {
            Some(address) => (address.to_string(), ""),
            None => match env::var(ENDPOINT) {
                Ok(address) if !address.is_empty() => (address, " (SPIFFE_ENDPOINT_SOCKET)"),
                _ => {
                    return Err(format!(
                        "there is no Workload API: neither `Spiffe::socket` nor the variable {ENDPOINT} names one"
                    ));
                }
            },
        };
        let shown = Escaped(&address);
        // A path alone may have characters that a URL cannot.
        let endpoint = match address.starts_with('/') {
            true => Ok(Endpoint::Unix(PathBuf::from(&address))),
            false => Endpoint::parse(&address),
        };
        let endpoint = endpoint.map_err(|cause| {
            format!(
                "`{shown}`{from} is no address of a Workload API such as unix:///run/spire/agent.sock: {cause}"
            )
        })?;
        let name = format!("the Workload API at `{shown}`{from}");
        Ok(WorkloadApi { endpoint, name })
    }
}

/// Where certificates and tokens come from.
#[derive(Clone)]
struct WorkloadApi {
    endpoint: Endpoint,
    /// What it is called in words.
    name: String,
}

impl WorkloadApi {
    async fn connect(&self) -> Result<WorkloadApiClient, WorkloadApiError> {
        WorkloadApiClient::connect(self.endpoint.clone()).await
    }
}

/// What the Workload API answers, or why it does not.
async fn in_time<T>(
    asking: impl Future<Output = Result<T, WorkloadApiError>>,
) -> Result<T, BoxError> {
    let Ok(answer) = timeout(PATIENCE, asking).await else {
        return Err(format!("no answer within {} s", PATIENCE.as_secs()).into());
    };
    answer.map_err(|error| why(&error).into())
}

/// Its errors repeat their causes, so this is all that is kept of them.
fn why(error: &WorkloadApiError) -> String {
    match error {
        WorkloadApiError::NoIdentityIssued => {
            "it issues no identity to this process, which no registration entry describes"
                .to_owned()
        }
        WorkloadApiError::Transport(TransportError::Connect(connect)) => {
            let io = chain(connect.source()).find_map(|cause| cause.downcast_ref::<io::Error>());
            match io {
                Some(io) => format!("cannot connect to it: {io}"),
                None => connect.to_string(),
            }
        }
        _ => error.to_string(),
    }
}

/// Why a server's certificate was refused, if that was by the rules of SPIFFE.
pub(super) fn why_refused(error: &OtherError) -> Option<String> {
    use spiffe_rustls::Error as E;
    match error.0.downcast_ref()? {
        E::UnauthorizedSpiffeId(id) => Some(format!(
            "the server is `{id}`, which is none of those that it may be (`Spiffe::server_id`)"
        )),
        E::NoBundle(domain) => Some(format!(
            "the server is of the trust domain `{domain}`, of which the Workload API gives no bundle"
        )),
        E::MissingSpiffeId => Some("the server's certificate has no SPIFFE ID".to_owned()),
        _ => None,
    }
}
