//! A certificate authority of the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

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

    /// Returns the root.
    pub(crate) fn root(&self) -> &rcgen::Certificate {
        self.root.as_ref()
    }

    /// Returns a chain whose first certificate has these properties, and its key.
    pub(crate) fn sign(&self, params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.intermediate).unwrap();
        let chain = leaf.pem() + &self.intermediate.pem();
        (chain, key.serialize_pem())
    }

    /// Returns a chain for `localhost` and its addresses, and its key.
    pub(crate) fn issue(&self) -> (String, String) {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        self.sign(&CertificateParams::new(names).unwrap())
    }

    /// Writes a new chain and its key to `folder`.
    pub(crate) fn issue_to(&self, folder: &Folder) {
        let (chain, key) = self.issue();
        folder.put("chain.pem", &chain);
        folder.put("key.pem", &key);
    }
}
