//! Clients that trust the certificates of the tests.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use liveness::server::Tls;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::authority::{Authority, Folder};
use crate::kit::{SOON, connect};

/// A connection of a test under TLS.
pub(crate) type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Returns the options of a client that trusts the authority.
pub(crate) fn trusting(authority: &Authority) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root().der().clone()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// An authority, a certificate of it in a folder, and the options of clients that trust it.
pub(crate) fn certified() -> (Authority, Folder, Tls, Arc<ClientConfig>) {
    let (authority, folder) = (Authority::new(), Folder::new());
    authority.issue_to(&folder);
    let tls = from(&folder);
    let client = trusting(&authority);
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
