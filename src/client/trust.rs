//! Which servers are trusted under TLS.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use mio::net::TcpStream;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore};

use crate::server::TlsError;
use crate::server::channel::Channel;
use crate::server::tls::{self, Secure};

/// The certificate authorities that a client trusts. It is given to
/// [`trust`](super::ClientBuilder::trust) of a client of `tcps://` or `wss://`.
///
/// A server must present a certificate for the host of the URL, a name or an IP address, which an authority of these
/// has issued and which is valid now. The versions of TLS are 1.2 and 1.3. Clones are the same list, and share the
/// sessions that servers allow to resume: such a connection is made faster, and the certificate is not checked again.
///
/// ```no_run
/// # #[cfg(feature = "json")] {
/// use liveness::client::{Client, Trust};
/// use liveness::server::Json;
///
/// let own = Trust::from_file("ca.pem")?;
/// let client = Client::<Json>::builder("wss://example.com:8443/game")
///     .trust(&own) // without it: the authorities that the system trusts
///     .start()?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Trust {
    /// How connections are made.
    config: Arc<ClientConfig>,
    /// The file; `None` for the system's list.
    path: Option<PathBuf>,
}

impl Trust {
    /// Returns the authorities that the operating system trusts, which is the default. They are read once in a process,
    /// which takes some milliseconds. On Unix, the environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name other
    /// places.
    ///
    /// # Errors
    ///
    /// Returns a [`TlsError`] if the system has none.
    pub fn system() -> Result<Self, TlsError> {
        static SYSTEM: OnceLock<Trust> = OnceLock::new();
        if let Some(trust) = SYSTEM.get() {
            return Ok(trust.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Some systems have certificates that are too old to be read.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let error = found.errors.first().map(ToString::to_string);
            let error = error.unwrap_or_default();
            return Err(TlsError::NoRoots { error });
        }
        let trust = Trust::of(roots, None);
        Ok(SYSTEM.get_or_init(|| trust).clone())
    }

    /// Reads the certificates of authorities from a file in PEM, and trusts these only. A server's own certificate may
    /// be one of them if it has signed itself and is not one of an authority, which OpenSSL writes as `CA:FALSE`.
    ///
    /// # Errors
    ///
    /// Returns a [`TlsError`] if the file cannot be read or has no certificate, or if one of them is invalid.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let path = path.into();
        let mut roots = RootCertStore::empty();
        for certificate in tls::certificates(&path)? {
            let added = roots.add(certificate);
            added.map_err(|error| tls::invalid(&path, error.to_string()))?;
        }
        Ok(Trust::of(roots, Some(path)))
    }

    /// Creates the list of `roots`.
    fn of(roots: RootCertStore, path: Option<PathBuf>) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for all versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        Trust { config, path }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What a server must prove: that an authority has issued it a certificate for this name.
pub(super) struct Identity {
    /// The authorities.
    trust: Trust,
    /// The name or the IP address.
    name: ServerName<'static>,
}

impl Identity {
    /// Returns what the server at `host` must prove, or `None` if no certificate can be for that name.
    pub(super) fn new(trust: Trust, host: &str) -> Option<Self> {
        let name = ServerName::try_from(host.to_owned()).ok()?;
        Some(Identity { trust, name })
    }

    /// Returns the channel of a socket that is connected, whose handshake follows.
    ///
    /// # Errors
    ///
    /// Returns why there can be no TLS.
    pub(super) fn secure(&self, stream: TcpStream) -> Result<Channel, String> {
        let Identity { trust, name } = self;
        let connection = ClientConnection::new(trust.config.clone(), name.clone())
            .map_err(|error| error.to_string())?;
        let secure = Secure::new(Connection::Client(connection));
        Ok(Channel::secure(stream, secure))
    }
}
