//! Who speaks on a connection.

use std::fmt;
use std::net::SocketAddr;

use crate::rollout::Trigger;

/// The peer of a connection, put into every request's extensions by the accept loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// A process of ours or root's on the unix socket.
    Unix {
        /// Its effective user when it connected.
        uid: u32,
        /// Its process id when it connected, for the audit line only.
        pid: Option<i32>,
    },
    /// Somebody on the loopback interface.
    Tcp(SocketAddr),
    /// Somebody on the metrics listener.
    Metrics,
}

impl Caller {
    /// Came by TCP, so that a browser may be behind it.
    pub(super) fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// What a rollout ordered by this caller is labelled with. The command line says so itself; on
    /// TCP everything is the API.
    pub(super) fn trigger(self, headers: &http::HeaderMap) -> Trigger {
        let says_cli = headers
            .get("remuda-client")
            .is_some_and(|client| client.as_bytes() == b"cli");
        match self {
            Self::Unix { .. } if says_cli => Trigger::Cli,
            Self::Unix { .. } | Self::Tcp(_) | Self::Metrics => Trigger::Api,
        }
    }
}

/// The words of the audit line.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Unix {
                uid,
                pid: Some(pid),
            } => write!(f, "uid {uid} pid {pid}"),
            Self::Tcp(peer) => write!(f, "{peer} with the token"),
            Self::Metrics => f.write_str("the metrics listener"),
        }
    }
}
