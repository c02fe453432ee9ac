//! Certificates in files, and clients that check them.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The name that certificates are for.
pub(crate) const NAME: &str = "localhost";
/// Lines at the top of a config file: a first listener that speaks TLS.
pub(crate) const LISTEN: &str =
    "[[listen]]\naddress = \"127.0.0.1:0\"\ntls = { cert = \"cert.pem\", key = \"key.pem\" }";

/// Who vouches for certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    root_pem: String,
}

/// A certificate with its key.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        // OpenSSL takes a certificate for its own issuer if both have one name.
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "root of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("a certificate");
        Self {
            issuer: Issuer::new(params, key),
            root: root.der().clone(),
            root_pem: root.pem(),
        }
    }

    pub(crate) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    pub(crate) fn pair(&self) -> Pair {
        self.pair_until(4096)
    }

    /// One that is good until the begin of this year.
    pub(crate) fn pair_until(&self, year: i32) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![NAME.to_owned()]);
        let mut params = params.expect("parameters");
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Pair {
            cert: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }

    /// A client that believes it.
    pub(crate) fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("a root");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let protocols = protocols.iter();
        config.alpn_protocols = protocols.map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Pair {
    /// Whether this is the certificate that was shown.
    pub(crate) fn is(&self, shown: &CertificateDer<'_>) -> bool {
        self.der == *shown
    }

    /// Puts both files into the place of those before, one after the other.
    pub(crate) fn replace(&self, dir: &Path) {
        put(dir, "cert.pem", &self.cert);
        put(dir, "key.pem", &self.key);
    }
}

/// Puts a file into the place of the one before, whole.
pub(crate) fn put(dir: &Path, name: &str, text: &str) {
    let new = dir.join(format!("{name}.new"));
    std::fs::write(&new, text).expect("the test's own directory is writable");
    std::fs::rename(&new, dir.join(name)).expect("same directory");
}
