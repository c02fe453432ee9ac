//! Certificates and keys from PEM files, checked before anybody gets to see them (T23).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{TlsFiles, regular};
use crate::link::message::{ClientAuthorities, Identity, Secret, TlsOffer};
use crate::proxy::tls;

/// What the files of a listener gave.
#[derive(Debug)]
pub(crate) struct Found {
    /// What the listener shows, or everything that is wrong.
    pub(crate) offer: Result<TlsOffer, Vec<Unfit>>,
    /// The certificates that could be read, though perhaps not shown.
    pub(crate) leaves: Vec<Leaf>,
}

/// A certificate in a file, without those that link it to a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) file: PathBuf,
    /// DER.
    pub(crate) der: Vec<u8>,
}

/// A file that cannot be used.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// What it is to the listener.
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

/// Reads what the listener at `place` shows by TLS, each file once.
pub(crate) fn read(place: u32, files: &TlsFiles, http2: bool) -> Found {
    let (mut identities, mut leaves, mut unfit) = (Vec::new(), Vec::new(), Vec::new());
    for (cert, key) in &files.pairs {
        match identity(cert, key, &mut leaves) {
            Ok(identity) => identities.push(identity),
            Err(one) => unfit.push(one),
        }
    }
    let roots = files
        .client_ca
        .as_deref()
        .map(|file| contents(file).and_then(|text| certificates(file, &text)));
    let clients = match roots {
        Some(Ok(roots)) => Some(ClientAuthorities {
            roots,
            required: files.client_required,
        }),
        Some(Err(why)) => {
            unfit.push(Part::Roots.wrong(why));
            None
        }
        None => None,
    };
    let offer = TlsOffer {
        place,
        identities,
        clients,
        http2,
    };
    if unfit.is_empty()
        && let Err(why) = tls::config(&offer)
    {
        unfit.push(match &files.client_ca {
            Some(file) => Part::Roots.wrong(format!("{}: {why}", file.display())),
            None => Part::Cert.wrong(why),
        });
    }
    Found {
        offer: match unfit.is_empty() {
            true => Ok(offer),
            false => Err(unfit),
        },
        leaves,
    }
}

fn identity(cert: &Path, key: &Path, leaves: &mut Vec<Leaf>) -> Result<Identity, Unfit> {
    let of_cert = contents(cert).map_err(|why| Part::Cert.wrong(why))?;
    let chain = certificates(cert, &of_cert).map_err(|why| Part::Cert.wrong(why))?;
    leaves.extend(chain.first().map(|der| Leaf {
        file: cert.to_owned(),
        der: der.clone(),
    }));
    let of_key = match cert == key {
        true => of_cert,
        false => contents(key).map_err(|why| Part::Key.wrong(why))?,
    };
    // Who may write it can put another in its place (T21).
    if let Some(mode) = mode(key).filter(|mode| mode & 0o022 != 0) {
        let shown = key.display();
        return Err(Part::Key.wrong(format!(
            "{shown}: the key can be changed by other users (mode {mode:03o}); run `chmod go-w {shown}`"
        )));
    }
    let secret = PrivateKeyDer::from_pem_slice(&of_key).map_err(|error| {
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

fn certificates(file: &Path, text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text)
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

fn contents(path: &Path) -> Result<Vec<u8>, String> {
    regular::read(path).map_err(|why| format!("{}: {why}", path.display()))
}
