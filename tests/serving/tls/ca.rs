//! Certificates of the tests, and clients that trust them.

use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use liveness::server::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::kit::{SOON, connect};

/// A connection of a test under TLS.
pub(crate) type Secured = StreamOwned<ClientConnection, TcpStream>;

/// A folder that is removed at the end of a test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Creates a folder.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "liveness-tls-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    /// Writes a file, and returns where.
    pub(crate) fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Returns where a file is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An authority whose root signs an intermediate, which signs the certificates of servers.
pub(crate) struct Authority {
    /// The root.
    root: CertifiedIssuer<'static, KeyPair>,
    /// The intermediate.
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Creates an authority.
    pub(crate) fn new() -> Self {
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let key = KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(params("root"), key).unwrap();
        let key = KeyPair::generate().unwrap();
        let intermediate = CertifiedIssuer::signed_by(params("intermediate"), key, &root).unwrap();
        Authority { root, intermediate }
    }

    /// Returns a chain for `localhost`, and its key.
    pub(crate) fn issue(&self) -> (String, String) {
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.intermediate).unwrap();
        let chain = leaf.pem() + &self.intermediate.pem();
        (chain, key.serialize_pem())
    }

    /// Writes a new chain and its key to `folder`.
    pub(crate) fn issue_to(&self, folder: &Folder) {
        let (chain, key) = self.issue();
        folder.put("chain.pem", &chain);
        folder.put("key.pem", &key);
    }

    /// Returns the options of a client that trusts the root.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// An authority, a certificate of it in a folder, and the options of clients that trust it.
pub(crate) fn certified() -> (Authority, Folder, Tls, Arc<ClientConfig>) {
    let (authority, folder) = (Authority::new(), Folder::new());
    authority.issue_to(&folder);
    let tls = from(&folder);
    let client = authority.client();
    (authority, folder, tls, client)
}

/// Reads the certificate in `folder`.
pub(crate) fn from(folder: &Folder) -> Tls {
    let path = folder.path();
    Tls::from_files(path.join("chain.pem"), path.join("key.pem")).unwrap()
}

/// Connects under TLS to a server that is `localhost`, and completes the handshake.
pub(crate) fn secure(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Secured> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(config.clone(), name).unwrap();
    let mut stream = connect(address);
    tls.complete_io(&mut stream)?;
    Ok(StreamOwned::new(tls, stream))
}

/// Returns the certificate that the server presented.
pub(crate) fn presented(stream: &Secured) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0].clone()
}

/// Reads until the end, which must be announced under TLS.
pub(crate) fn read_to_notice(stream: &mut Secured) -> Vec<u8> {
    stream.sock.set_read_timeout(Some(SOON)).unwrap();
    let mut rest = Vec::new();
    // Without the notice this is an error.
    stream.read_to_end(&mut rest).expect("the end is announced");
    rest
}
