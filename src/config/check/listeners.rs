//! Where clients come in, and what is asked of them there.

use std::net::SocketAddr;

use super::{Check, Value};
use crate::config::identity::{self, Part};
use crate::config::value::Peers;
use crate::config::{Listen, Places, TlsFiles, listener_names};
use crate::link::message::{Front, Network, PublicListener};

impl Check<'_> {
    /// The public listeners.
    pub(super) fn listeners(&mut self) -> Vec<Listen> {
        let Some(Value::Listeners(list)) = self.get("listen.address") else {
            return Vec::new();
        };
        for (number, one) in list.iter().enumerate() {
            let Listen {
                address,
                entrance,
                tls,
                places,
            } = one;
            if let Some(files) = tls {
                self.certificates(files, entrance.http2, places);
            }
            let zero = matches!(address, PublicListener::Tcp(address) if address.port() == 0);
            let shown = |address| listener_names(std::slice::from_ref(address)).join("");
            let mut before = list[..number].iter().map(|one| &one.address);
            if !zero && before.any(|one| one == address) {
                self.problems.error(
                    "duplicate",
                    places.address.clone(),
                    format!("two listeners have the same address `{}`", shown(address)),
                    None,
                );
            } else if let PublicListener::Tcp(of) = address
                && let Some(other) = list[..number].iter().find(|one| match one.address {
                    PublicListener::Tcp(other) => clash(other, *of),
                    PublicListener::Unix(_) => false,
                })
            {
                let message = format!(
                    "`{}` and `{}` cannot both be listened on, as one is the port at every address",
                    shown(&other.address),
                    shown(address)
                );
                let help = "leave out the other, or give one of them another port".to_owned();
                self.problems
                    .error("duplicate", places.address.clone(), message, Some(help));
            }
            match address {
                PublicListener::Unix(path) => self.socket_length(path, places.address.clone()),
                PublicListener::Tcp(_) if entrance.proxy_protocol && self.trusted().is_empty() => {
                    let message = "`proxy_protocol` without `trusted_proxies`: nobody's header would be believed";
                    let help = "name the load balancer's network, such as `trusted_proxies = [\"10.0.0.0/8\"]`";
                    let span = places.proxy_protocol.clone();
                    self.problems
                        .error("conflict", span, message, Some(help.to_owned()));
                }
                PublicListener::Tcp(_) => {}
            }
        }
        list
    }

    /// All that is wrong with them is said; those that could be read are kept for who judges their times.
    fn certificates(&mut self, files: &TlsFiles, http2: bool, places: &Places) {
        let found = identity::read(0, files, http2);
        for unfit in found.offer.err().into_iter().flatten() {
            let span = match unfit.part {
                Part::Cert => &places.cert,
                // It is in the same file if it is not named.
                Part::Key => places.key.as_ref().map_or(&places.cert, |_| &places.key),
                Part::Roots => &places.client_ca,
            };
            self.problems
                .error("certificate", span.clone(), unfit.why, None);
        }
        let place = |leaf| (leaf, places.cert.clone());
        self.leaves.extend(found.leaves.into_iter().map(place));
    }

    /// Limits towards clients.
    pub(super) fn front(&self, listen: &[Listen]) -> Front {
        Front {
            header_timeout: self.time("timeouts.header"),
            idle_timeout: self.time("timeouts.client_idle"),
            max_head: u32::try_from(self.size("limits.head")).unwrap_or(u32::MAX),
            max_headers: self.count("limits.headers"),
            max_target: u32::try_from(self.size("limits.target")).unwrap_or(u32::MAX),
            max_connections: self.count("limits.connections"),
            max_streams: self.count("limits.streams"),
            entrances: listen.iter().map(|one| one.entrance).collect(),
            trusted: self.trusted(),
            trusts_unix: self.trusted_peers().contains(&Peers::Unix),
        }
    }

    fn trusted(&self) -> Vec<Network> {
        let peers = self.trusted_peers().iter();
        let networks = peers.filter_map(|peers| match peers {
            Peers::Network(network) => Some(*network),
            Peers::Unix => None,
        });
        networks.collect()
    }

    fn trusted_peers(&self) -> &[Peers] {
        match self.maybe("trusted_proxies") {
            Some(Value::Peers(peers)) => peers,
            _ => &[],
        }
    }
}

/// Whether two sockets cannot both listen. Port 0 is another one each time.
pub(super) fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let (one, other) = (a.ip(), b.ip());
    let everywhere = one.is_unspecified() || other.is_unspecified();
    let meets = one == other || everywhere && one.is_ipv4() == other.is_ipv4();
    a.port() == b.port() && a.port() != 0 && meets
}
