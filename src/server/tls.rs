//! Certificates and keys of a server, and TLS of connections.
//!
//! `rustls` stays below this module and the client's `trust`, so that its version is no part of the public interface.

mod secure;

use std::error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Connection, Error, ServerConfig, ServerConnection};

pub(crate) use secure::Secure;

/// The certificate chain and the private key of a server, from files in PEM.
///
/// It is given to the listeners of a [`ServerBuilder`](super::ServerBuilder), which share it. Clones are the same
/// certificate, so that a clone that is kept can [`reload`](Tls::reload) it. The versions of TLS are 1.2 and 1.3.
///
/// ```no_run
/// # #[cfg(feature = "json")] {
/// use liveness::server::{Json, Server, Tls};
///
/// let tls = Tls::from_files("fullchain.pem", "privkey.pem")?;
/// let server = Server::<Json, ()>::builder()
///     .tcp("127.0.0.1:7000") // plain, for programs on this machine
///     .tcp_tls("0.0.0.0:7443", &tls)
///     .websocket_tls("0.0.0.0:8443", &tls)
///     .start()?;
/// tls.reload()?; // after the files have changed
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Tls {
    /// What clones share.
    inner: Arc<Inner>,
}

/// What clones share.
struct Inner {
    /// The file of the chain.
    chain: PathBuf,
    /// The file of the key.
    key: PathBuf,
    /// What new connections present.
    current: Arc<Current>,
    /// How connections are made.
    config: Arc<ServerConfig>,
}

/// What new connections present.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl Tls {
    /// Reads a certificate chain, which begins with the certificate of the server, and its private key. Both may be in
    /// one file.
    ///
    /// The key may be of RSA (2048 bits or more), ECDSA (P-256 or P-384) or Ed25519, and must not be encrypted. Names
    /// and times of the certificates are not checked: that is for clients to do.
    ///
    /// # Errors
    ///
    /// Returns a [`TlsError`] if a file cannot be read, if it does not have what is needed, or if the key is not that
    /// of the first certificate.
    pub fn from_files(
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let (chain, key) = (chain.into(), key.into());
        let provider = Arc::new(ring::default_provider());
        let current = Arc::new(Current(RwLock::new(load(&chain, &key, &provider)?)));
        let config = Arc::new(configure(provider, current.clone()));
        Ok(Tls {
            inner: Arc::new(Inner {
                chain,
                key,
                current,
                config,
            }),
        })
    }

    /// Reads the files again. New connections use what is in them; the others keep what they have.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`from_files`](Tls::from_files). The certificate then remains what it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let Inner {
            chain,
            key,
            current,
            config,
        } = &*self.inner;
        let loaded = load(chain, key, config.crypto_provider())?;
        *current.0.write() = loaded;
        Ok(())
    }

    /// Returns TLS of a connection that was accepted.
    pub(crate) fn accept(&self) -> Secure {
        let connection = ServerConnection::new(self.inner.config.clone());
        let connection = connection.expect("the fragment size is the default one");
        Secure::new(Connection::Server(connection))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { chain, key, .. } = &*self.inner;
        f.debug_struct("Tls")
            .field("chain", chain)
            .field("key", key)
            .finish_non_exhaustive()
    }
}

/// Returns how connections that present `current` are made.
fn configure(provider: Arc<CryptoProvider>, current: Arc<Current>) -> ServerConfig {
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for all versions")
        .with_no_client_auth()
        .with_cert_resolver(current)
}

/// Reads a chain and its key.
fn load(
    chain: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let certificates = certificates(chain)?;
    let text = read(key)?;
    let private = PrivateKeyDer::pem_slice_iter(&text)
        .next()
        .ok_or_else(|| {
            let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
            TlsError::NoKey {
                path: key.to_owned(),
                is_encrypted: text.windows(encrypted.len()).any(|part| part == encrypted),
            }
        })?
        .map_err(|error| invalid(key, error.to_string()))?;
    match CertifiedKey::from_der(certificates, private, provider) {
        Ok(pair) => Ok(Arc::new(pair)),
        Err(Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
            chain: chain.to_owned(),
            key: key.to_owned(),
        }),
        Err(Error::InvalidCertificate(error)) => Err(invalid(chain, error.to_string())),
        Err(error) => Err(invalid(key, error.to_string())),
    }
}

/// Reads the certificates of a file, of which there is at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(path, error.to_string()))?;
    if certificates.is_empty() {
        let path = path.to_owned();
        return Err(TlsError::NoCertificate { path });
    }
    Ok(certificates)
}

/// Returns the error of a file that has something else than its sections say.
pub(crate) fn invalid(path: &Path, error: String) -> TlsError {
    let path = path.to_owned();
    TlsError::Invalid { path, error }
}

/// Reads a file.
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read {
        path: path.to_owned(),
        error,
    })
}

/// Why a certificate cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// A file has no certificate.
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file has no private key that can be used.
    NoKey {
        /// The file.
        path: PathBuf,
        /// Whether it has one that is encrypted.
        is_encrypted: bool,
    },
    /// A file has something else than its sections say.
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// The system has no certificate of an authority that it trusts.
    NoRoots {
        /// Why there is none; may be empty.
        error: String,
    },
    /// The key is not that of the first certificate.
    Mismatch {
        /// The file of the chain.
        chain: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Read { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            TlsError::NoCertificate { path } => write!(
                f,
                "{} has no certificate: it needs a section `-----BEGIN CERTIFICATE-----`",
                path.display()
            ),
            TlsError::NoKey {
                path,
                is_encrypted: true,
            } => write!(
                f,
                "the private key in {} is encrypted: `openssl pkey -in FILE -out OTHER` removes its password",
                path.display()
            ),
            TlsError::NoKey { path, .. } => write!(
                f,
                "{} has no private key: it needs a section such as `-----BEGIN PRIVATE KEY-----`",
                path.display()
            ),
            TlsError::Invalid { path, error } => {
                write!(f, "{} cannot be used: {error}", path.display())
            }
            TlsError::NoRoots { error } => {
                f.write_str(
                    "the system has no certificates of authorities: the package `ca-certificates` has them, or name a \
                     file",
                )?;
                let before = if error.is_empty() { "" } else { "; " };
                write!(f, "{before}{error}")
            }
            TlsError::Mismatch { chain, key } => write!(
                f,
                "the private key in {} is not that of the first certificate in {}",
                key.display(),
                chain.display()
            ),
        }
    }
}

impl error::Error for TlsError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            TlsError::Read { error, .. } => Some(error),
            _ => None,
        }
    }
}
