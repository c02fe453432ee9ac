//! TLS towards clients, by rustls: which certificate who gets to see, and what is agreed on with it.
//!
//! The supervisor reads the files and hands over what is in them; nothing here touches a file. A config is
//! made once for all connections of a listener, and again when its certificates change; connections that
//! stand keep the one they have.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::Poll;

use bytes::Bytes;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc-rs")]
use tokio_rustls::rustls::crypto::aws_lc_rs as library;
#[cfg(not(feature = "aws-lc-rs"))]
use tokio_rustls::rustls::crypto::ring as library;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use webpki::EndEntityCert;

use super::names::{Asked, ByName, Names};
use super::shown;
use super::socket::Socket;
use crate::link::message::{ClientAuthorities, Identity, TlsOffer};

/// What is agreed on by ALPN (RFC 7301).
pub(super) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// One that offers nothing else would be refused (RFC 7301 §3.2).
const OLD: &[u8] = b"http/1.0";

fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(library::default_provider()))
}

/// Seals session tickets. Its keys change by themselves, and are nowhere else.
type Ticketer = dyn ProducesTickets;

/// The ticketer for clients that are asked for certificates like this: one for all listeners that ask the same,
/// for as long as one does, so that a client resumes also after our certificate was renewed. A ticket says that a
/// client's certificate was verified, or that none was asked for, so it is worth nothing where another is wanted: at
/// another listener, or after its authorities have changed (RFC 8446 §4.6.1, CVE-2025-23419).
fn ticketer(clients: Option<&ClientAuthorities>) -> Option<Arc<Ticketer>> {
    type Known = (Option<ClientAuthorities>, Weak<Ticketer>);
    static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());
    // It is whole after each step.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|(_, ticketer)| ticketer.strong_count() > 0);
    let same = known.iter().find(|(of, _)| of.as_ref() == clients);
    if let Some(ticketer) = same.and_then(|(_, ticketer)| ticketer.upgrade()) {
        return Some(ticketer);
    }
    let ticketer = library::Ticketer::new().ok()?;
    known.push((clients.cloned(), Arc::downgrade(&ticketer)));
    Some(ticketer)
}

/// How the clients of a listener are greeted.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) config: Arc<ServerConfig>,
    /// Whom its certificates are for, and those of all others.
    pub(super) names: Arc<Names>,
    pub(super) place: usize,
}

/// What is known of a client by TLS.
#[derive(Debug)]
pub(super) struct Known {
    /// The version agreed on.
    pub(super) version: Option<&'static str>,
    /// Whom it asked for.
    pub(super) asked: Option<Asked>,
    /// The certificate that it showed, as lines of a head.
    pub(super) certificate: Option<Bytes>,
}

impl Known {
    /// Whether a request for this host should have come by another certificate.
    #[cold]
    pub(super) fn misdirects(&self, host: &str) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|asked| asked.misdirects(host))
    }

    pub(super) fn of(stream: &TlsStream<Socket>, greeting: &Greeting) -> Self {
        let connection = &stream.get_ref().1;
        Self {
            version: version(stream),
            asked: Asked::new(&greeting.names, greeting.place, connection.server_name()),
            certificate: connection.peer_certificates().and_then(shown::lines),
        }
    }
}

/// What was agreed on, by the name that is usual.
fn version(stream: &TlsStream<Socket>) -> Option<&'static str> {
    Some(match stream.get_ref().1.protocol_version()? {
        rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
        rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
        _ => return None,
    })
}

/// A certificate that fits its key.
///
/// # Errors
/// Why it does not.
pub(crate) fn certified(identity: &Identity) -> Result<CertifiedKey, String> {
    let chain: Vec<_> = identity
        .chain
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect();
    let key = PrivateKeyDer::try_from(identity.key.0.clone())
        .map_err(|_| "the private key is of no known form")?;
    CertifiedKey::from_der(chain, key, provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the key is not the certificate's".to_owned(),
        error => error.to_string(),
    })
}

/// How a listener speaks TLS.
///
/// # Errors
/// What is wrong with its certificates.
pub(crate) fn config(offer: &TlsOffer) -> Result<Arc<ServerConfig>, String> {
    let said = |error: rustls::Error| error.to_string();
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(said)?;
    let builder = match &offer.clients {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for root in &authorities.roots {
                roots.add(CertificateDer::from(&root[..])).map_err(said)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider()));
            let verifier = match authorities.required {
                true => verifier,
                false => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|error| error.to_string())?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates::new(offer)?));
    if let Some(ticketer) = ticketer(offer.clients.as_ref()) {
        config.ticketer = ticketer;
        // Tickets do what it would do, and other loops and planes need nothing of it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    config.alpn_protocols = match offer.http2 {
        true => [HTTP2, HTTP1, OLD].map(<[u8]>::to_vec).to_vec(),
        false => [HTTP1, OLD].map(<[u8]>::to_vec).to_vec(),
    };
    Ok(Arc::new(config))
}

/// Greets a client, of whose bytes `came` was read already.
///
/// # Errors
/// The client's or the network's.
pub(super) async fn accept(
    config: Arc<ServerConfig>,
    socket: Socket,
    came: Bytes,
) -> io::Result<TlsStream<Socket>> {
    let mut wrong = None;
    let accept = TlsAcceptor::from(config).accept_with(socket, |connection| {
        let mut rest = &came[..];
        while !rest.is_empty() && wrong.is_none() {
            let read = connection.read_tls(&mut rest).map(|_| ());
            let processed = connection.process_new_packets().map(|_| ());
            wrong = read.and(processed.map_err(io::Error::other)).err();
        }
    });
    let mut accept = pin!(accept);
    match wrong {
        None => accept.await,
        Some(wrong) => {
            // The alert goes out; the handshake itself would wait for more.
            poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx).is_ready())).await;
            Err(wrong)
        }
    }
}

/// The names of hosts that a certificate is for, in lower case.
///
/// # Errors
/// Why it is none.
pub(super) fn names(leaf: &[u8]) -> Result<Vec<String>, String> {
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf).map_err(|e| e.to_string())?;
    let names = leaf.valid_dns_names().map(str::to_ascii_lowercase);
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The certificates of a listener.
#[derive(Debug, Default)]
struct Certificates {
    named: ByName<Arc<CertifiedKey>>,
    all: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    fn new(offer: &TlsOffer) -> Result<Self, String> {
        let mut certificates = Self::default();
        for identity in &offer.identities {
            let certified = Arc::new(certified(identity)?);
            let leaf = certified.end_entity_cert().map_err(|e| e.to_string())?;
            for name in names(leaf)? {
                certificates.named.add(name, Arc::clone(&certified));
            }
            certificates.all.push(certified);
        }
        Ok(certificates)
    }

    /// Those that are for this name, or all, best first.
    fn candidates(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        match name.map_or(&[][..], |name| self.named.best(name)) {
            [] => &self.all,
            named => named,
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls hands a name over in lower case.
        let candidates = self.candidates(hello.server_name());
        let schemes = hello.signature_schemes();
        let usable = candidates
            .iter()
            .find(|one| one.key.choose_scheme(schemes).is_some());
        usable.or_else(|| candidates.first()).map(Arc::clone)
    }
}
