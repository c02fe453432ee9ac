//! Certificates and keys from PEM files, checked before anybody gets to see them (T23).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{TlsFiles, regular};
use crate::link::message::{ClientAuthorities, Identity, Secret, TlsOffer};
use crate::proxy::tls;

/// Files that cannot be used.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// Which of them is to blame.
    pub(crate) part: Part,
    /// What is wrong, with the file's name.
    pub(crate) why: String,
}

/// A part of what a listener shows by TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Cert,
    Key,
    Roots,
}

impl Part {
    fn wrong(self, why: String) -> Unfit {
        Unfit { part: self, why }
    }
}

/// Reads what the listener at `place` shows by TLS.
///
/// # Errors
/// What is wrong, with the file's name.
pub(crate) fn offer(place: u32, files: &TlsFiles, http2: bool) -> Result<TlsOffer, Unfit> {
    let identities = files
        .pairs
        .iter()
        .map(|(cert, key)| identity(cert, key))
        .collect::<Result<_, _>>()?;
    let clients = match &files.client_ca {
        Some(file) => Some(ClientAuthorities {
            roots: certificates(file).map_err(|why| Part::Roots.wrong(why))?,
            required: files.client_required,
        }),
        None => None,
    };
    let offer = TlsOffer {
        place,
        identities,
        clients,
        http2,
    };
    match tls::config(&offer) {
        Ok(_) => Ok(offer),
        Err(why) => Err(match &files.client_ca {
            Some(file) => Part::Roots.wrong(format!("{}: {why}", file.display())),
            None => Part::Cert.wrong(why),
        }),
    }
}

fn identity(cert: &Path, key: &Path) -> Result<Identity, Unfit> {
    let chain = certificates(cert).map_err(|why| Part::Cert.wrong(why))?;
    let text = read(key).map_err(|why| Part::Key.wrong(why))?;
    // Who may write it can put another in its place (T21).
    if let Some(mode) = mode(key).filter(|mode| mode & 0o022 != 0) {
        let shown = key.display();
        return Err(Part::Key.wrong(format!(
            "{shown}: the key can be changed by other users (mode {mode:03o}); run `chmod go-w {shown}`"
        )));
    }
    let secret = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let what = "there is no private key in it, or one with a passphrase";
        tracing::debug!(%error, "no private key");
        Part::Key.wrong(format!("{}: {what}", key.display()))
    })?;
    let identity = Identity {
        chain,
        key: Secret(secret.secret_der().to_vec()),
    };
    match tls::certified(&identity) {
        Ok(_) => Ok(identity),
        Err(why) if cert == key => Err(Part::Cert.wrong(format!("{}: {why}", cert.display()))),
        Err(why) => {
            Err(Part::Key.wrong(format!("{} with {}: {why}", cert.display(), key.display())))
        }
    }
}

/// The certificate in a file, without those that link it to a root.
pub(crate) fn leaf(file: &Path) -> Option<Vec<u8>> {
    let found = certificates(file).ok()?;
    found.into_iter().next()
}

fn certificates(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text)
        .map(|one| one.map(|der| der.to_vec()))
        .collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(format!("{}: there is no certificate in it", file.display()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{}: it is no PEM file: {error}", file.display())),
    }
}

/// Who may do what with a regular file.
pub(crate) fn mode(file: &Path) -> Option<u32> {
    let meta = std::fs::metadata(file).ok()?;
    meta.is_file().then(|| meta.mode() & 0o777)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    regular::read(path).map_err(|why| format!("{}: {why}", path.display()))
}
