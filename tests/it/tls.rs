//! Certificates for tests, and clients that check them.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use remuda::link::message::{ClientAuthorities, Entrance, Identity, Secret, TlsOffer, ToPlane};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::plane::{Client, Plane, Route, connect};

/// Who vouches for certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .clone();
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    /// A certificate for these names.
    pub(crate) fn identity(&self, names: &[&str]) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Identity {
            chain: vec![certificate.der().to_vec()],
            key: Secret(key.serialize_der()),
        }
    }

    /// Clients must, or may, show a certificate of this authority's.
    pub(crate) fn of_clients(&self, required: bool) -> ClientAuthorities {
        ClientAuthorities {
            roots: vec![self.root.to_vec()],
            required,
        }
    }

    /// A client that believes it.
    pub(crate) fn client(&self) -> Trust<'_> {
        Trust {
            authority: self,
            versions: rustls::ALL_VERSIONS,
            protocols: &[],
            shows: None,
        }
    }
}

/// A client that believes an authority.
#[derive(Clone, Copy)]
pub(crate) struct Trust<'a> {
    authority: &'a Authority,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    /// Offered by ALPN.
    pub(crate) protocols: &'a [&'a str],
    /// Its own certificate.
    pub(crate) shows: Option<&'a Identity>,
}

impl Trust<'_> {
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.root.clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = identity.chain.iter();
                let chain = chain.map(|der| CertificateDer::from(der.clone())).collect();
                let key = PrivateKeyDer::try_from(identity.key.0.clone()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("fits")
            }
        };
        let protocols = self.protocols.iter();
        config.alpn_protocols = protocols.map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A connection of HTTP/1.1 by TLS.
pub(crate) type Secure = Client<StreamOwned<ClientConnection, std::net::TcpStream>>;

/// Greets a server of this name; nothing was sent yet.
pub(crate) fn greet(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Secure {
    over(connect(address), config, name)
}

/// The same on a connection that stands already.
pub(crate) fn over(stream: std::net::TcpStream, config: &Arc<ClientConfig>, name: &str) -> Secure {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).expect("a client");
    Client::over(StreamOwned::new(connection, stream))
}

impl Secure {
    /// Goes through the handshake.
    pub(crate) fn shake(&mut self) -> std::io::Result<()> {
        while self.stream.conn.is_handshaking() {
            self.stream.conn.complete_io(&mut self.stream.sock)?;
        }
        Ok(())
    }

    /// The certificate it was shown.
    pub(crate) fn shown(&self) -> Option<&CertificateDer<'static>> {
        self.stream.conn.peer_certificates()?.first()
    }
}

/// A plane whose only listener speaks TLS.
pub(crate) fn serving(workers: &[Route], offer: TlsOffer) -> Plane {
    serving_by(workers, offer, |_| {})
}

pub(crate) fn serving_by(
    workers: &[Route],
    offer: TlsOffer,
    adapt: impl FnOnce(&mut Plane),
) -> Plane {
    Plane::serving_by(workers, |plane| {
        plane.front.entrances = vec![Entrance {
            tls: true,
            ..Entrance::default()
        }];
        plane.send(&ToPlane::Tls {
            offers: vec![offer],
            last: true,
        });
        adapt(plane);
    })
}

/// The first listener shows these.
pub(crate) fn offer(identities: &[&Identity]) -> TlsOffer {
    TlsOffer {
        identities: identities.iter().map(|&one| one.clone()).collect(),
        http2: true,
        ..TlsOffer::default()
    }
}
