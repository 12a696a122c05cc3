//! Certificates, and TLS in front of a server that has none.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio::io::{AsyncWriteExt as _, copy, copy_bidirectional, sink};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto, version};

use super::sockets::listener;

/// A CA of a test's own.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::new_named(&format!("CA {number}"))
    }

    /// One of this name, which others may have, too.
    pub(crate) fn new_named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// That of a trust domain of SPIFFE, such as `example.org`.
    #[cfg(feature = "spiffe")]
    pub(crate) fn of_trust_domain(domain: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, domain);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// An X.509 SVID of this SPIFFE ID. Each is another.
    #[cfg(feature = "spiffe")]
    pub(crate) fn svid(&self, id: &str) -> Signed {
        self.svid_for_years(id, 2000, 2100)
    }

    /// One that is valid in these years only, from January to January.
    #[cfg(feature = "spiffe")]
    pub(crate) fn svid_for_years(&self, id: &str, from: i32, to: i32) -> Signed {
        self.sign_with(&[], |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.subject_alt_names = vec![uri(id)];
        })
    }

    /// Its own certificate.
    #[cfg(feature = "spiffe")]
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        self.0.der()
    }

    /// Its own certificate, in PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, for servers and clients.
    pub(crate) fn sign(&self, names: &[&str]) -> Signed {
        self.sign_with(names, |_| {})
    }

    /// One that is valid in these years only, from January to January.
    pub(crate) fn sign_for_years(&self, names: &[&str], from: i32, to: i32) -> Signed {
        self.sign_with(names, |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        })
    }

    fn sign_with(&self, names: &[&str], change: impl Fn(&mut CertificateParams)) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Signed {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

#[cfg(feature = "spiffe")]
impl Signed {
    pub(crate) fn certificate_der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

#[cfg(feature = "spiffe")]
fn uri(text: &str) -> rcgen::SanType {
    rcgen::SanType::URI(text.try_into().unwrap())
}

/// How a server speaks TLS.
pub(crate) struct Speaks<'a> {
    pub(crate) certificate: &'a Signed,
    /// Whose client certificates it wants.
    pub(crate) clients_of: Option<&'a Ca>,
    pub(crate) alpn: &'static [&'static str],
    /// No newer version than 1.2.
    pub(crate) is_old: bool,
}

impl<'a> Speaks<'a> {
    pub(crate) fn with(certificate: &'a Signed) -> Self {
        Self {
            certificate,
            clients_of: None,
            alpn: &["h2"],
            is_old: false,
        }
    }

    pub(crate) fn wants_clients_of(self, ca: &'a Ca) -> Self {
        Self {
            clients_of: Some(ca),
            ..self
        }
    }

    fn config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(crypto::ring::default_provider());
        let versions: &[_] = match self.is_old {
            true => &[&version::TLS12],
            false => &[&version::TLS13, &version::TLS12],
        };
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let config = match self.clients_of {
            None => config.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(ca.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let certificate = self.certificate.certificate.as_bytes();
        let certificates = CertificateDer::pem_slice_iter(certificate).map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_slice(self.certificate.key.as_bytes()).unwrap();
        let config = config.with_single_cert(certificates.collect(), key);
        let mut config = config.unwrap();
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }
}

/// The client certificates of connections, in order, and none where none was shown.
type Shown = Arc<Mutex<Vec<Option<CertificateDer<'static>>>>>;

/// TLS in front of a server. Dropped, it closes its port and cuts its connections.
pub(crate) struct Front {
    /// `https://127.0.0.1:port`.
    pub(crate) url: String,
    port: u16,
    speaks: Arc<Mutex<Arc<ServerConfig>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    #[cfg_attr(not(feature = "spiffe"), allow(dead_code))]
    shown: Shown,
    _acceptor: JoinSet<()>,
}

impl Front {
    pub(crate) async fn of(server: SocketAddr, speaks: &Speaks<'_>) -> Self {
        let (listener, _) = listener().await;
        let port = listener.local_addr().unwrap().port();
        let speaks = Arc::new(Mutex::new(speaks.config()));
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let shown = Shown::default();
        let mut acceptor = JoinSet::new();
        acceptor.spawn({
            let (speaks, connections) = (Arc::clone(&speaks), Arc::clone(&connections));
            let shown = Arc::clone(&shown);
            async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    let tls = TlsAcceptor::from(Arc::clone(&speaks.lock().unwrap()));
                    let shown = Arc::clone(&shown);
                    connections.lock().unwrap().spawn(async move {
                        match tls.accept(tcp).into_fallible().await {
                            Ok(mut tls) => {
                                let chain = tls.get_ref().1.peer_certificates();
                                let leaf = chain.and_then(<[_]>::first).cloned();
                                let leaf = leaf.map(CertificateDer::into_owned);
                                shown.lock().unwrap().push(leaf);
                                let mut server = TcpStream::connect(server).await.unwrap();
                                let _ = copy_bidirectional(&mut tls, &mut server).await;
                            }
                            // The client was told. If it were cut off before it has read that, it might not see it.
                            Err((_, mut tcp)) => {
                                let _ = tcp.shutdown().await;
                                let _ = copy(&mut tcp, &mut sink()).await;
                            }
                        }
                    });
                }
            }
        });
        Self {
            url: format!("https://127.0.0.1:{port}"),
            port,
            speaks,
            connections,
            shown,
            _acceptor: acceptor,
        }
    }

    /// The same by another name of this machine.
    pub(crate) fn url_by(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    /// The client certificates that were shown to it, one a connection.
    #[cfg(feature = "spiffe")]
    pub(crate) fn shown(&self) -> Vec<Option<CertificateDer<'static>>> {
        self.shown.lock().unwrap().clone()
    }

    /// Speaks so from now on, and cuts the connections that there are.
    pub(crate) fn change(&self, speaks: &Speaks<'_>) {
        *self.speaks.lock().unwrap() = speaks.config();
        self.connections.lock().unwrap().abort_all();
    }
}
