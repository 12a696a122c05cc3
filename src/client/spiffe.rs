//! Identities of SPIFFE: certificates and tokens from the Workload API.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spiffe::{SpiffeId, WorkloadApiClient, WorkloadApiError, X509SourceBuilder};
use spiffe_rustls::{authorizer, mtls_client};
use tokio_rustls::rustls::ClientConfig;

use super::tls::TlsError;
use super::token::{Fetched, Token};
use super::transport::BoxError;
use crate::escape::Escaped;

/// The variable that has the address of the Workload API.
const ENDPOINT: &str = "SPIFFE_ENDPOINT_SOCKET";

/// How long the Workload API may take for what it has just given.
const SYNC: Duration = Duration::from_secs(5);

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
/// The Workload API is asked for an X.509 SVID, and for the bundles, for each connection that is made. A connection that is
/// there outlives its SVID.
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
    endpoint: Option<Arc<str>>,
    audience: Option<Arc<str>>,
    server_ids: Vec<String>,
}

impl Spiffe {
    /// Shows an X.509 SVID.
    pub fn x509() -> Self {
        Self {
            endpoint: None,
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
    pub fn socket(self, endpoint: impl AsRef<str>) -> Self {
        let endpoint = endpoint.as_ref();
        let endpoint = match endpoint.starts_with('/') {
            true => format!("unix://{endpoint}"),
            false => endpoint.to_owned(),
        };
        Self {
            endpoint: Some(endpoint.into()),
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
        let this = self.clone();
        Some(Token::from_source(self.name(), move || {
            let (this, audience) = (this.clone(), Arc::clone(&audience));
            async move {
                let client = this.workload_api().await?;
                let svid = client.fetch_jwt_svid([&*audience], None).await?;
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
        let failed = |cause: BoxError| {
            let words = format!("no X.509 SVID from {}", self.name());
            BoxError::from(TlsError::because(words, cause))
        };
        // A source waits and asks again, whatever is wrong. So the API is asked once before.
        let client = self.workload_api().await.map_err(|e| failed(e.into()))?;
        let given = client.fetch_x509_context().await;
        given.map_err(|e| failed(e.into()))?;
        let mut source = X509SourceBuilder::new().initial_sync_timeout(SYNC);
        if let Some(endpoint) = &self.endpoint {
            source = source.endpoint(endpoint);
        }
        let source = source.build().await.map_err(|e| failed(e.into()))?;
        let config = mtls_client(source).with_alpn_protocols([alpn]);
        let config = match &*self.server_ids {
            [] => config.authorize(authorizer::any()),
            ids => {
                let ids = authorizer::exact(ids.iter().map(String::as_str));
                config.authorize(ids.map_err(|e| failed(e.into()))?)
            }
        };
        config.build().map_err(|e| failed(e.into()))
    }

    async fn workload_api(&self) -> Result<WorkloadApiClient, WorkloadApiError> {
        match &self.endpoint {
            Some(endpoint) => WorkloadApiClient::connect_to(endpoint).await,
            None => WorkloadApiClient::connect_env().await,
        }
    }

    /// What the Workload API is called in words.
    fn name(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => format!("the Workload API at `{}`", Escaped(endpoint)),
            None => format!("the Workload API that {ENDPOINT} names"),
        }
    }
}
