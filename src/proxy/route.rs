//! Which service a request is for: by its host, then by its path.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::link::message::{HostPattern, ServiceRules};

/// All routes of a table.
///
/// The most specific host wins (the name itself, then the longest `*.suffix`, then no host at all), and
/// among the routes of one host the longest path prefix. A host whose prefixes do not fit is looked for
/// among the less specific ones.
#[derive(Debug, Default)]
pub(super) struct Routes {
    exact: Hosts,
    below: Hosts,
    any: Prefixes,
}

type Hosts = HashMap<String, Prefixes, foldhash::fast::RandomState>;

/// Path prefixes, longest first, each with its service's place in the table.
type Prefixes = Vec<(String, usize)>;

impl Routes {
    /// The routes of these services, in the order of the table.
    pub(super) fn new<'a>(services: impl Iterator<Item = &'a ServiceRules>) -> Self {
        let mut routes = Self::default();
        for (index, rules) in services.enumerate() {
            let prefix = rules.path_prefix.trim_end_matches('/');
            let add = |to: &mut Prefixes| to.push((prefix.to_owned(), index));
            if rules.hosts.is_empty() {
                add(&mut routes.any);
            }
            for host in &rules.hosts {
                add(match host {
                    HostPattern::Exact(name) => routes.exact.entry(name.clone()).or_default(),
                    HostPattern::Below(suffix) => routes.below.entry(suffix.clone()).or_default(),
                });
            }
        }
        let hosts = routes.exact.values_mut().chain(routes.below.values_mut());
        for prefixes in hosts.chain([&mut routes.any]) {
            prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        }
        routes
    }

    /// The place of the service that a request is for. `host` may have a port, `path` a query.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<usize> {
        if self.exact.is_empty() && self.below.is_empty() {
            return longest(&self.any, path);
        }
        let name = name(host);
        let mut rest = &*name;
        let exact = self.exact.get(rest).and_then(|found| longest(found, path));
        exact
            .or_else(|| {
                loop {
                    rest = rest.split_once('.')?.1;
                    let below = self.below.get(rest);
                    if let Some(found) = below.and_then(|found| longest(found, path)) {
                        return Some(found);
                    }
                }
            })
            .or_else(|| longest(&self.any, path))
    }
}

/// A prefix ends where a segment does: `/api` is for `/api` and `/api/x`, not for `/apix`.
fn longest(prefixes: &Prefixes, path: &str) -> Option<usize> {
    if let [(prefix, only)] = &prefixes[..]
        && prefix.is_empty()
    {
        return Some(*only);
    }
    let path = path.split('?').next().unwrap_or_default();
    let fits = |(prefix, _): &&(String, usize)| {
        let rest = path.strip_prefix(prefix.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.is_empty())
    };
    prefixes.iter().find(fits).map(|(_, index)| *index)
}

/// The host's name without port and final dot, in lower case.
pub(super) fn name(host: &str) -> Cow<'_, str> {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let name = &host[..end];
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    Cow::Borrowed(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Services by their hosts (`*.` for all below) and prefix.
    fn routes(services: &[(&[&str], &str)]) -> Routes {
        let rules: Vec<_> = services
            .iter()
            .map(|(hosts, prefix)| ServiceRules {
                hosts: hosts
                    .iter()
                    .map(|host| match host.strip_prefix("*.") {
                        Some(suffix) => HostPattern::Below(suffix.to_owned()),
                        None => HostPattern::Exact((*host).to_owned()),
                    })
                    .collect(),
                path_prefix: (*prefix).to_owned(),
                ..ServiceRules::default()
            })
            .collect();
        Routes::new(rules.iter())
    }

    #[test]
    fn the_most_specific_host_wins() {
        let routes = routes(&[
            (&["shop.example"], ""),
            (&["*.shop.example", "*.b.example"], ""),
            (&["*.example"], ""),
            (&[], ""),
        ]);
        for (host, service) in [
            ("shop.example", 0),
            ("SHOP.Example.:8443", 0),
            ("a.shop.example", 1),
            ("a.b.shop.example:80", 1),
            ("b.example", 2),
            ("xshop.example", 2),
            ("example", 3),
            ("[::1]:80", 3),
            ("127.0.0.1", 3),
            ("", 3),
        ] {
            assert_eq!(routes.find(host, "/"), Some(service), "{host}");
        }
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let routes = routes(&[(&[], "/api"), (&[], "/api/v2/"), (&["a"], "/only")]);
        for (host, path, service) in [
            ("x", "/api", Some(0)),
            ("x", "/api?q", Some(0)),
            ("x", "/api/v1", Some(0)),
            ("x", "/api/v2", Some(1)),
            ("x", "/api/v2/y", Some(1)),
            ("x", "/api/v20", Some(0)),
            ("x", "/apis", None),
            ("x", "/", None),
            ("x", "*", None),
            ("a", "/only/x", Some(2)),
            // No prefix of the host fits: those of every host are looked at.
            ("a", "/api", Some(0)),
            ("a", "/other", None),
        ] {
            assert_eq!(routes.find(host, path), service, "{host} {path}");
        }
    }

    #[test]
    fn a_host_that_nobody_names_is_for_nobody() {
        let routes = routes(&[(&["[::1]"], ""), (&["a.example"], "")]);
        assert_eq!(routes.find("[::1]:8080", "/"), Some(0));
        for host in ["b.example", "a.example.org", ".a.example", "", "[::2]"] {
            assert_eq!(routes.find(host, "/"), None, "{host}");
        }
    }
}
