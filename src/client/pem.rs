//! Certificates and keys in PEM, from files and texts.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::{Error, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::files;
use super::tls_error::TlsError;
use crate::escape::Escaped;

/// A byte order mark, as some editors write it.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// How a certificate begins.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// What stands in keys that are encrypted.
const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];

/// The longest file that is read, in bytes: some thousand certificates.
const LONGEST: u64 = 8 << 20;

/// Text in PEM. It may be a secret.
#[derive(Clone)]
pub(super) enum Pem {
    File {
        path: PathBuf,
        /// The environment variable that has named it.
        variable: Option<&'static str>,
    },
    Text(Arc<[u8]>),
}

impl Pem {
    pub(super) fn file(path: impl Into<PathBuf>) -> Self {
        Self::File {
            path: path.into(),
            variable: None,
        }
    }

    /// The same, named by an environment variable.
    pub(super) fn file_of(variable: &'static str, path: impl Into<PathBuf>) -> Self {
        Self::File {
            path: path.into(),
            variable: Some(variable),
        }
    }

    /// What it has, without a byte order mark.
    fn read(&self) -> Result<Arc<[u8]>, TlsError> {
        match self {
            Self::Text(text) => Ok(text.strip_prefix(MARK).unwrap_or(text).into()),
            Self::File { path, .. } => match files::read(path, LONGEST) {
                Ok(text) => Ok(text.strip_prefix(MARK).unwrap_or(&text).into()),
                Err(error) => {
                    let words = format!("cannot read {}", self.place());
                    Err(TlsError::because(words, error))
                }
            },
        }
    }

    /// Where it stands, for words.
    pub(super) fn place(&self) -> String {
        match self {
            Self::File { path, variable } => {
                let path = path.to_string_lossy();
                let path = Escaped(&path);
                match variable {
                    Some(variable) => format!("`{path}` ({variable})"),
                    None => format!("`{path}`"),
                }
            }
            Self::Text(_) => "the PEM text that was given".to_owned(),
        }
    }

    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let text = self.read()?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match certificates {
            Ok(certificates) if certificates.is_empty() => Err(TlsError::new(format!(
                "there is no certificate (`BEGIN CERTIFICATE`) in {}",
                self.place()
            ))),
            // One whose first line does not stand by itself would be passed over.
            Ok(certificates) if certificates.len() == count(&text, BEGIN) => Ok(certificates),
            // What the reader says of it could repeat a key that stands in its place.
            _ => Err(TlsError::new(format!(
                "cannot read each certificate in {}: `BEGIN` and `END` stand in lines of their own, and base64 between",
                self.place()
            ))),
        }
    }

    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let text = self.read()?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            _ if ENCRYPTED.iter().any(|words| count(&text, words) > 0) => TlsError::new(format!(
                "the private key in {} is encrypted: it has to be decrypted before",
                self.place()
            )),
            Error::NoItemsFound => TlsError::new(format!(
                "there is no private key (`BEGIN PRIVATE KEY`) in {}",
                self.place()
            )),
            // What it says could repeat a part of the key.
            _ => TlsError::new(format!("cannot read a private key in {}", self.place())),
        })
    }
}

/// How often `part` stands in a text.
fn count(text: &[u8], part: &[u8]) -> usize {
    text.windows(part.len())
        .filter(|window| *window == part)
        .count()
}
