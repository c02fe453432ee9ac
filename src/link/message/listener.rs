//! A public listener, and what it shows to clients by TLS.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A public socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublicListener {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket path.
    Unix(PathBuf),
}

/// What one public listener shows to clients by TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsOffer {
    /// Its place among the public listeners.
    pub place: u32,
    /// Its certificates; the first is for clients that name no host, or one that no other has.
    pub identities: Vec<Identity>,
    /// Whose certificates clients may show, or must.
    pub clients: Option<ClientAuthorities>,
    /// HTTP/2 is offered, too.
    pub http2: bool,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The certificate and those between it and a root, DER.
    pub chain: Vec<Vec<u8>>,
    /// Its private key.
    pub key: Secret,
}

/// A private key, DER: PKCS #8, SEC 1 or PKCS #1. Never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Who vouches for clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAuthorities {
    /// Root certificates, DER.
    pub roots: Vec<Vec<u8>>,
    /// A client without a certificate is refused.
    pub required: bool,
}
