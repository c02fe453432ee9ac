//! Whom the certificates of all listeners are for, and which request came by the wrong one.
//!
//! A client may send a request for any host on a connection that it has (RFC 9113 §9.1.1), also for one
//! that another listener asks certificates of its clients for. It is told to come by the right one (421).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::link::message::TlsOffer;
use crate::proxy::{route, tls};

/// A certificate, by the place of its listener and its own place there.
type Certificate = (usize, usize);

/// Certificates, or what stands for them, by the names of hosts that they are for, in lower case.
#[derive(Debug)]
pub(super) struct ByName<T> {
    exact: HashMap<String, Vec<T>>,
    /// By what stands behind `*.`, which is for one label (RFC 6125 §6.4.3).
    below: HashMap<String, Vec<T>>,
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            below: HashMap::new(),
        }
    }
}

impl<T> ByName<T> {
    /// Adds one under a name of its certificate.
    pub(super) fn add(&mut self, name: String, one: T) {
        let (map, name) = match name.strip_prefix("*.") {
            Some(suffix) => (&mut self.below, suffix.to_owned()),
            None => (&mut self.exact, name),
        };
        map.entry(name).or_default().push(one);
    }

    /// Those that bear the name itself.
    fn exact(&self, name: &str) -> &[T] {
        self.exact.get(name).map_or(&[], Vec::as_slice)
    }

    /// Those that are for it by a `*`.
    fn below(&self, name: &str) -> &[T] {
        let suffix = name.split_once('.').map(|(_, suffix)| suffix);
        let found = suffix.and_then(|suffix| self.below.get(suffix));
        found.map_or(&[], Vec::as_slice)
    }

    /// Those to show to who asks for the name: the ones that bear it, or else those for it by a `*`.
    pub(super) fn best(&self, name: &str) -> &[T] {
        match self.exact(name) {
            [] => self.below(name),
            exact => exact,
        }
    }
}

/// The names of all listeners' certificates.
#[derive(Debug, Default)]
pub(super) struct Names {
    certificates: ByName<Certificate>,
    all: BTreeSet<Certificate>,
}

impl Names {
    /// Those of these listeners. A certificate that cannot be read has none.
    pub(super) fn of<'a>(offers: impl Iterator<Item = &'a TlsOffer>) -> Self {
        let mut names = Self::default();
        for offer in offers {
            for (index, identity) in offer.identities.iter().enumerate() {
                let leaf = identity.chain.first().map(Vec::as_slice);
                let found = leaf.and_then(|leaf| tls::names(leaf).ok());
                names.add((offer.place as usize, index), found.unwrap_or_default());
            }
        }
        names
    }

    fn add(&mut self, certificate: Certificate, names: impl IntoIterator<Item = String>) {
        self.all.insert(certificate);
        for name in names {
            self.certificates.add(name, certificate);
        }
    }

    /// Whether a request for `host` came by the wrong certificate: none of those that the listener at
    /// `place` may have shown to who asked it for `named` is for the host, and another one is.
    fn misdirects(&self, place: usize, named: &str, host: &str) -> bool {
        let by_name = &self.certificates;
        let covering = || by_name.exact(host).iter().chain(by_name.below(host));
        if covering().next().is_none() {
            return false;
        }
        let here = |found: &[Certificate]| found.iter().any(|one| one.0 == place);
        let shown = if here(by_name.exact(named)) {
            Some(by_name.exact(named))
        } else if here(by_name.below(named)) {
            Some(by_name.below(named))
        } else {
            // It was shown one that is for others, and did not mind.
            None
        };
        !covering().any(|one| one.0 == place && shown.is_none_or(|shown| shown.contains(one)))
    }
}

/// What a connection was asked for by SNI, where there is more than one certificate.
#[derive(Debug)]
pub(super) struct Asked {
    names: Arc<Names>,
    place: usize,
    named: String,
}

impl Asked {
    /// None if nothing was asked for, or there is nothing to choose from.
    pub(super) fn new(names: &Arc<Names>, place: usize, named: Option<&str>) -> Option<Self> {
        let named = named.filter(|_| names.all.len() > 1)?;
        Some(Self {
            names: Arc::clone(names),
            place,
            named: route::name(named).into_owned(),
        })
    }

    /// Whether a request for this host should have come by another certificate. It may have a port.
    pub(super) fn misdirects(&self, host: &str) -> bool {
        let host = route::name(host);
        // What nearly every request asks.
        *host != self.named && self.names.misdirects(self.place, &self.named, &host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two listeners; the second has the certificates of the partners.
    fn names() -> Arc<Names> {
        let mut names = Names::default();
        for (certificate, all) in [
            ((0, 0), &["shop.test", "www.shop.test"][..]),
            ((0, 1), &["*.wild.test", "wild.test"]),
            ((0, 2), &["exact.wild.test"]),
            ((1, 0), &["partners.test"]),
            ((1, 1), &["both.test", "shop.test"]),
            ((0, 3), &["both.test"]),
        ] {
            names.add(certificate, all.iter().map(|&name| name.to_owned()));
        }
        Arc::new(names)
    }

    #[test]
    fn a_host_of_another_certificate_is_misdirected_and_no_other() {
        let names = names();
        for (place, named, host, wrong) in [
            (0, "shop.test", "shop.test", false),
            (0, "shop.test", "WWW.shop.test.:443", false),
            (0, "SHOP.test", "shop.test:8443", false),
            (0, "shop.test", "wild.test", true),
            (0, "shop.test", "a.wild.test", true),
            (0, "shop.test", "partners.test", true),
            (0, "a.wild.test", "b.wild.test", false),
            (0, "a.wild.test", "wild.test:1", false),
            // For one label, so it is for nobody.
            (0, "a.wild.test", "b.c.wild.test", false),
            // The wild one was not shown, and is for the other one.
            (0, "exact.wild.test", "a.wild.test", true),
            (0, "a.wild.test", "exact.wild.test", false),
            // Nobody has it: what routes say holds.
            (0, "shop.test", "unknown.test", false),
            (0, "shop.test", "127.0.0.1:80", false),
            (0, "shop.test", "[::1]:80", false),
            (0, "shop.test", "", false),
            // A name of nobody was shown what is for others here.
            (0, "unknown.test", "shop.test", false),
            (0, "unknown.test", "partners.test", true),
            (1, "partners.test", "partners.test", false),
            (1, "partners.test", "shop.test", true),
            (1, "partners.test", "www.shop.test", true),
            (1, "both.test", "shop.test", false),
            (0, "both.test", "shop.test", true),
        ] {
            let asked = Asked::new(&names, place, Some(named)).expect("several");
            assert_eq!(asked.misdirects(host), wrong, "{place} {named} {host}");
        }
    }

    #[test]
    fn without_a_choice_nothing_is_misdirected() {
        assert!(Asked::new(&names(), 0, None).is_none());
        let mut one = Names::default();
        one.add((0, 0), ["shop.test".to_owned()]);
        assert!(Asked::new(&Arc::new(one), 0, Some("shop.test")).is_none());
        assert!(Asked::new(&Arc::default(), 0, Some("shop.test")).is_none());
    }
}
