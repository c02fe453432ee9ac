//! How clients are met: limits, peers that are trusted, and what is peculiar to a listener.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits towards clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Front {
    /// First byte of a head to its end.
    pub header_timeout: Duration,
    /// Nothing in flight.
    pub idle_timeout: Duration,
    /// Longest head, in bytes.
    pub max_head: u32,
    /// Most header fields.
    pub max_headers: u32,
    /// Longest request target, in bytes.
    pub max_target: u32,
    /// Most connections of all loops together.
    pub max_connections: u32,
    /// Most open streams of one connection of HTTP/2.
    pub max_streams: u32,
    /// What is peculiar to each public listener, in their order.
    pub entrances: Vec<Entrance>,
    /// Peers whose word about who the client is is believed: forwarding headers, request ids, the PROXY
    /// protocol.
    pub trusted: Vec<Network>,
    /// The same of peers of unix listeners, who have no address.
    pub trusts_unix: bool,
}

impl Front {
    /// Whether the word of this address about who the client is is believed.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// The same of a peer, which has no address on a unix socket.
    #[must_use]
    pub fn trusts_peer(&self, address: Option<IpAddr>) -> bool {
        address.map_or(self.trusts_unix, |address| self.trusts(address))
    }
}

impl Default for Front {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            max_head: 64 << 10,
            max_headers: 100,
            max_target: 16 << 10,
            max_connections: 16_384,
            max_streams: 100,
            entrances: Vec::new(),
            trusted: Vec::new(),
            trusts_unix: false,
        }
    }
}

/// How clients of one listener are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// A trusted peer begins with a header of the PROXY protocol, version 1 or 2, and must. On a unix listener every
    /// peer does.
    pub proxy_protocol: bool,
    /// Clients speak TLS.
    pub tls: bool,
    /// Clients may speak HTTP/2.
    pub http2: bool,
    /// Every request is sent to this port by `https`.
    pub redirect: Option<u16>,
}

impl Default for Entrance {
    fn default() -> Self {
        Self {
            proxy_protocol: false,
            tls: false,
            http2: true,
            redirect: None,
        }
    }
}

/// A network, `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its address.
    pub address: IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl Network {
    /// Whether `peer` is in it. An IPv4-mapped IPv6 peer counts as IPv4.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        match (self.address, peer.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(peer)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                u32::from(net).checked_shr(shift).unwrap_or(0)
                    == u32::from(peer).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(net), IpAddr::V6(peer)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                u128::from(net).checked_shr(shift).unwrap_or(0)
                    == u128::from(peer).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}
