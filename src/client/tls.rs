//! TLS: which servers are trusted, and what is shown to them.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tonic::codegen::Service;

use super::pem::Pem;
use super::reading::Reading;
use super::tls_error::TlsError;
use super::transport::BoxError;
use crate::error::Error;

/// The name of HTTP/2, as both sides agree on it.
const ALPN: &[u8] = b"h2";

/// Which servers are trusted, and what is shown to them. Files are read for each connection, so that those that are
/// replaced need no restart.
#[derive(Clone, Default)]
pub(super) struct Tls {
    pub(super) roots: Roots,
    pub(super) identity: Option<Identity>,
    /// In place of the host's name.
    pub(super) server_name: Option<ServerName<'static>>,
}

/// Who may have signed a server's certificate.
#[derive(Clone, Default)]
pub(super) enum Roots {
    /// Those that the system trusts.
    #[default]
    System,
    These(Pem),
    #[cfg(feature = "spiffe")]
    Spiffe(super::spiffe::Spiffe),
}

/// A client certificate and its key.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) certificate: Pem,
    pub(super) key: Pem,
}

/// Files by their names, and no contents.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = match &self.roots {
            Roots::System => "the system's".to_owned(),
            Roots::These(pem) => pem.place(),
            #[cfg(feature = "spiffe")]
            Roots::Spiffe(_) => "the Workload API's".to_owned(),
        };
        let identity = self.identity.as_ref();
        f.debug_struct("Tls")
            .field("roots", &roots)
            .field(
                "client_certificate",
                &identity.map(|identity| identity.certificate.place()),
            )
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads what there is to read: how to speak TLS by now.
    async fn load(&self, reading: &Loading) -> Result<Arc<ClientConfig>, BoxError> {
        #[cfg(feature = "spiffe")]
        if let Roots::Spiffe(spiffe) = &self.roots {
            return spiffe.tls(ALPN).await.map(Arc::new);
        }
        Ok(self.read_by_thread(reading).await?)
    }

    /// Whether what was set can be read, and used.
    pub(super) async fn check(&self) -> Result<(), Error> {
        let read = self.read_by_thread(&Loading::default()).await.map(drop);
        read.map_err(|TlsError { words, cause }| Error::invalid(words).with_cause(cause))
    }

    async fn read_by_thread(&self, reading: &Loading) -> Result<Arc<ClientConfig>, TlsError> {
        let this = self.clone();
        let read = reading.share(move || this.read().map(Arc::new)).await;
        read.map_err(|error| TlsError::because("cannot read files", error))?
    }

    /// How to speak TLS by now, by what the files have.
    fn read(&self) -> Result<ClientConfig, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                // Some may be of no use.
                let (added, _) = roots.add_parsable_certificates(found.certs);
                if added == 0 {
                    let words = "this system trusts no CA: name one (`ClientBuilder::ca_file`)";
                    let cause = found.errors.into_iter().next();
                    return Err(match cause {
                        Some(cause) => TlsError::because(words, cause),
                        None => TlsError::new(words),
                    });
                }
            }
            Roots::These(pem) => {
                for certificate in pem.certificates()? {
                    roots.add(certificate).map_err(|error| {
                        let words = format!("cannot use a certificate in {}", pem.place());
                        TlsError::because(words, error)
                    })?;
                }
            }
            #[cfg(feature = "spiffe")]
            Roots::Spiffe(_) => {}
        }
        // An application may have chosen another for all that it does.
        let provider = CryptoProvider::get_default().cloned();
        let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::because("cannot use the crypto provider", error))?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let certificates = identity.certificate.certificates()?;
                let key = identity.key.key()?;
                let used = config.with_client_auth_cert(certificates, key);
                used.map_err(|error| {
                    let words = format!(
                        "cannot use the client certificate in {} with the key in {}",
                        identity.certificate.place(),
                        identity.key.place()
                    );
                    TlsError::because(words, error)
                })?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    /// What went wrong between the two sides, in words.
    fn explain(&self, error: io::Error, is_handshake: bool) -> io::Error {
        let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref()) else {
            return error;
        };
        let words = match tls {
            rustls::Error::InvalidMessage(_) if is_handshake => {
                "the server does not speak TLS: its URL may begin with http://".to_owned()
            }
            rustls::Error::InvalidMessage(_) => "the server broke TLS".to_owned(),
            rustls::Error::InvalidCertificate(certificate) => self.why_untrusted(certificate),
            rustls::Error::NoApplicationProtocol
            | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                "the server does not speak HTTP/2 over TLS".to_owned()
            }
            rustls::Error::AlertReceived(alert) if is_of_client_certificate(*alert) => {
                match &self.identity {
                    Some(Identity { certificate, .. }) => format!(
                        "the server does not accept the client certificate in {}",
                        certificate.place()
                    ),
                    None => self.wants_certificate(),
                }
            }
            // What a server of TLS 1.2 says where none is shown; but also where the two have no cipher in common.
            rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)
                if self.identity.is_none()
                    && matches!(self.roots, Roots::System | Roots::These(_)) =>
            {
                "the server refuses TLS: it may want a client certificate".to_owned()
            }
            rustls::Error::AlertReceived(_) => "the server refuses TLS".to_owned(),
            #[cfg(feature = "spiffe")]
            rustls::Error::Other(other) => match super::spiffe::why_refused(other) {
                // It says all that stands behind it.
                Some(words) => return io::Error::new(error.kind(), TlsError::new(words)),
                None => "TLS failed".to_owned(),
            },
            _ => "TLS failed".to_owned(),
        };
        let kind = error.kind();
        io::Error::new(kind, TlsError::because(words, tls.clone()))
    }

    fn why_untrusted(&self, error: &CertificateError) -> String {
        use CertificateError as E;
        match error {
            // Behind a CA of the same name there may be another key.
            E::UnknownIssuer | E::BadSignature => match &self.roots {
                Roots::System => {
                    "no CA that this system trusts has signed the server's certificate".to_owned()
                }
                Roots::These(pem) => {
                    format!(
                        "no CA in {} has signed the server's certificate",
                        pem.place()
                    )
                }
                #[cfg(feature = "spiffe")]
                Roots::Spiffe(_) => {
                    "no bundle of the Workload API has the CA of the server's certificate"
                        .to_owned()
                }
            },
            E::NotValidForName | E::NotValidForNameContext { .. } => {
                "the server's certificate is for another name".to_owned()
            }
            E::Expired | E::ExpiredContext { .. } => {
                "the server's certificate has expired".to_owned()
            }
            E::NotValidYet | E::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet".to_owned()
            }
            _ => "the server's certificate cannot be trusted".to_owned(),
        }
    }

    fn wants_certificate(&self) -> String {
        match &self.roots {
            #[cfg(feature = "spiffe")]
            Roots::Spiffe(_) => "the server does not accept the X.509 SVID".to_owned(),
            _ => "the server wants a client certificate, and none was given".to_owned(),
        }
    }
}

fn is_of_client_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::CertificateRequired
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            // The certificate's CA has the name of one that the server knows, and another key.
            | A::DecryptError
    )
}

/// Connects by `inner`, and then speaks TLS over that.
#[derive(Clone)]
pub(super) struct Https<C> {
    inner: C,
    tls: Arc<Tls>,
    reading: Loading,
}

type Loading = Reading<Result<Arc<ClientConfig>, TlsError>>;

impl<C> Https<C> {
    pub(super) fn over(inner: C, tls: Tls) -> Self {
        Self {
            inner,
            tls: Arc::new(tls),
            reading: Reading::default(),
        }
    }
}

impl<C, IO> Service<Uri> for Https<C>
where
    C: Service<Uri, Response = TokioIo<IO>, Error: Into<BoxError>, Future: Send + 'static>,
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Response = TokioIo<Secured<IO>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, origin: Uri) -> Self::Future {
        let tls = Arc::clone(&self.tls);
        let reading = self.reading.clone();
        let connecting = self.inner.call(origin.clone());
        Box::pin(async move {
            // First, so that a file that cannot be read is named whether or not the server is there.
            let config = tls.load(&reading).await?;
            let name = match &tls.server_name {
                Some(name) => name.clone(),
                None => server_name(origin.host().unwrap_or_default())?,
            };
            let io = connecting.await.map_err(Into::into)?.into_inner();
            let connected = TlsConnector::from(config).connect(name, io).await;
            let io = connected.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    TlsError::new("the server closed the connection during the TLS handshake")
                        .into()
                }
                _ => BoxError::from(tls.explain(error, true)),
            })?;
            Ok(TokioIo::new(Secured { io, tls }))
        })
    }
}

/// The name that a certificate has to be for. An IPv6 address may stand in brackets, as in a URL.
pub(super) fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let name = bare.unwrap_or(name).to_owned();
    ServerName::try_from(name).map_err(|error| {
        TlsError::because(
            "the server's name is neither a DNS name nor an IP address",
            error,
        )
    })
}

/// A TLS connection. Where a server looks at the client's certificate only afterwards, as in TLS 1.3, reading fails.
pub(super) struct Secured<IO> {
    io: TlsStream<IO>,
    tls: Arc<Tls>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        Poll::Ready(read.map_err(|error| self.tls.explain(error, false)))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
