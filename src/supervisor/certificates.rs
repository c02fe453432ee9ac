//! The certificates of public listeners: read at the start, on SIGHUP and when their files change, and
//! handed to every plane. What cannot be read, or does not fit together, changes nothing (T23).

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tracing::Level;

use super::control::Supervisor;

use crate::config::{Config, TlsFiles, certificate_fault, tls_offer};
use crate::link::message::{ClientAuthorities, Identity, TlsOffer, ToPlane};
use crate::rollout::Moment;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Certificates and keys in one message, with room for what is around them in its frame.
const PART: usize = 512 << 10;

/// What tells one content of a file from another, without reading it.
type Stamp = Option<(u64, u64, i64, i64)>;

/// What the files looked like.
type Stamps = BTreeMap<PathBuf, Stamp>;

/// The files, and what was seen of them.
#[derive(Debug)]
pub(super) struct Certificates {
    of: Vec<(u32, bool, TlsFiles)>,
    /// Of listeners that the config has left out, as they were: they stand until a restart, and their files
    /// may be gone.
    kept: Vec<TlsOffer>,
    /// What was read, or tried to.
    read: Stamps,
    /// What was there at the last look.
    seen: Stamps,
    next: Moment,
}

impl Certificates {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong, with the file's name.
    pub(super) fn read(config: &Config, now: Moment) -> Result<(Self, Vec<TlsOffer>), String> {
        let of: Vec<_> = (0..)
            .zip(&config.tls)
            .filter_map(|(place, files)| {
                let entrance = config.front.entrances.get(place as usize)?;
                Some((place, entrance.http2, files.clone()?))
            })
            .collect();
        let stamps = stamps(&of);
        let offers = offers(&of)?;
        let certificates = Self {
            of,
            kept: Vec::new(),
            read: stamps.clone(),
            seen: stamps,
            next: now + LOOK,
        };
        Ok((certificates, offers))
    }

    /// Those of these places go on with what they show now. Returns all that is to be shown.
    pub(super) fn keeping(
        &mut self,
        places: &[u32],
        shown: &[TlsOffer],
        read: Vec<TlsOffer>,
    ) -> Vec<TlsOffer> {
        let of = shown.iter().filter(|offer| places.contains(&offer.place));
        self.kept = of.cloned().collect();
        self.with_kept(read)
    }

    /// What is to be said of the times of those that were read.
    pub(super) fn faults(&self, offers: &[TlsOffer], now: SystemTime) -> Vec<String> {
        let of = |place| self.of.iter().find(|(of, ..)| *of == place);
        let pairs = offers
            .iter()
            .filter_map(|offer| Some((offer, of(offer.place)?)));
        let each = pairs.flat_map(|(offer, (_, _, files))| {
            let files = files.pairs.iter().map(|(cert, _)| cert);
            offer.identities.iter().zip(files)
        });
        let fault = |(identity, file): (&Identity, &PathBuf)| {
            certificate_fault(file, identity.chain.first()?, now)
        };
        let mut faults: Vec<_> = each.filter_map(fault).collect();
        // Several listeners may show the same one.
        faults.sort();
        faults.dedup();
        faults
    }

    fn with_kept(&self, mut read: Vec<TlsOffer>) -> Vec<TlsOffer> {
        read.extend(self.kept.iter().cloned());
        read.sort_by_key(|offer| offer.place);
        read
    }

    /// Looks whether files have changed, if it is time to. They are read when they have not changed any
    /// more between two looks: a certificate is often written before its key.
    pub(super) fn look(&mut self, now: Moment) -> Option<Result<Vec<TlsOffer>, String>> {
        if self.of.is_empty() || now < self.next {
            return None;
        }
        self.next = now + LOOK;
        let before = std::mem::replace(&mut self.seen, stamps(&self.of));
        if self.seen != before || self.seen == self.read {
            return None;
        }
        self.read = self.seen.clone();
        Some(offers(&self.of).map(|read| self.with_kept(read)))
    }
}

fn offers(of: &[(u32, bool, TlsFiles)]) -> Result<Vec<TlsOffer>, String> {
    of.iter()
        .map(|(place, http2, files)| tls_offer(*place, files, *http2))
        .collect()
}

fn stamps(of: &[(u32, bool, TlsFiles)]) -> Stamps {
    let files = of.iter().flat_map(|(_, _, files)| {
        let pairs = files.pairs.iter().flat_map(|(cert, key)| [cert, key]);
        pairs.chain(&files.client_ca)
    });
    files.map(|file| (file.clone(), stamp(file))).collect()
}

fn stamp(file: &PathBuf) -> Stamp {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

/// What clients see of them, by place.
pub(super) fn shown(
    offers: &[TlsOffer],
) -> impl Iterator<Item = (u32, &[Identity], Option<&ClientAuthorities>)> {
    offers
        .iter()
        .map(|offer| (offer.place, &*offer.identities, offer.clients.as_ref()))
}

/// The messages that hand them over, none longer than a frame may be.
pub(super) fn messages(offers: &[TlsOffer]) -> Vec<ToPlane> {
    let mut parts = vec![Vec::new()];
    let mut size = 0;
    for offer in offers {
        let mut rest = offer.identities.iter();
        let mut part = TlsOffer {
            identities: Vec::new(),
            ..offer.clone()
        };
        for identity in rest.by_ref() {
            let chain: usize = identity.chain.iter().map(Vec::len).sum();
            size += chain + identity.key.0.len();
            if size > PART {
                let next = TlsOffer {
                    identities: Vec::new(),
                    clients: None,
                    ..part.clone()
                };
                if let Some(last) = parts.last_mut() {
                    last.push(std::mem::replace(&mut part, next));
                }
                parts.push(Vec::new());
                size = chain + identity.key.0.len();
            }
            part.identities.push(identity.clone());
        }
        if let Some(last) = parts.last_mut() {
            last.push(part);
        }
    }
    let last = parts.len() - 1;
    parts
        .into_iter()
        .enumerate()
        .map(|(at, offers)| ToPlane::Tls {
            offers,
            last: at == last,
        })
        .collect()
}

impl Supervisor {
    /// Says which of the certificates that were just read clients refuse, or soon will.
    pub(super) fn say_certificate_faults(&mut self, offers: &[TlsOffer]) {
        let now = self.clock.now();
        for fault in self.certificates.faults(offers, SystemTime::now()) {
            let kind = "certificate_expires";
            self.journal.note(now, Level::WARN, kind, &fault, json!({}));
        }
    }

    /// Looks whether files of certificates have changed, if it is time to.
    pub(super) fn tick_certificates(&mut self, now: Moment) {
        match self.certificates.look(now) {
            None => return,
            Some(Ok(offers)) => {
                self.notices.certificates = None;
                self.journal.note(
                    now,
                    Level::INFO,
                    "certificates_changed",
                    "certificates were read anew; new connections get them",
                    json!({}),
                );
                self.say_certificate_faults(&offers);
                self.planes.offer(offers);
                self.look_at_refused(now);
            }
            Some(Err(why)) => {
                let message =
                    format!("{why}; new connections go on to get the certificates of before");
                self.journal.note(
                    now,
                    Level::ERROR,
                    "certificates_refused",
                    &message,
                    json!({ "error": why }),
                );
                self.notices.certificates = Some(message);
            }
        }
        self.metrics.config_is_read(self.notices.all_read());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::message::Secret;

    #[test]
    fn many_certificates_are_handed_over_in_parts_that_fit_a_frame() {
        let identity = |n: u8| Identity {
            chain: vec![vec![n; 4_000]],
            key: Secret(vec![n; 200]),
        };
        let offer = |place, count: u8| TlsOffer {
            place,
            identities: (0..count).map(identity).collect(),
            ..TlsOffer::default()
        };
        let wanted = [offer(0, 255), offer(2, 200), offer(3, 1)];
        let messages = messages(&wanted);
        assert!(messages.len() > 3, "{}", messages.len());
        let mut got: BTreeMap<u32, Vec<Identity>> = BTreeMap::new();
        for (at, message) in messages.iter().enumerate() {
            let bytes = postcard::to_stdvec(message).expect("it serialises");
            assert!(bytes.len() < crate::link::message::MAX_FRAME);
            let ToPlane::Tls { offers, last } = message else {
                panic!("{message:?}");
            };
            assert_eq!(*last, at + 1 == messages.len());
            for offer in offers {
                let known = got.entry(offer.place).or_default();
                known.extend(offer.identities.clone());
            }
        }
        for offer in wanted {
            assert_eq!(got.remove(&offer.place), Some(offer.identities));
        }
    }
}
