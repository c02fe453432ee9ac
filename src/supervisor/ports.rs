//! Ports for workers that are told where to listen: from a range outside the kernel's ephemeral one,
//! tested, and not given again before the worker that had it is gone.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

/// The range and what of it is in use. Clones share it.
#[derive(Debug, Clone)]
pub struct Ports {
    first: u16,
    last: u16,
    used: Arc<Mutex<Used>>,
}

#[derive(Debug)]
struct Used {
    ports: BTreeSet<u16>,
    next: u16,
}

impl Ports {
    /// All ports from the first to the last, both included.
    #[must_use]
    pub fn new((first, last): (u16, u16)) -> Self {
        // Instances side by side begin at different places, so that they do not race for each port.
        let count = u32::from(last.saturating_sub(first)) + 1;
        let offset = std::process::id().wrapping_mul(101) % count;
        let used = Used {
            ports: BTreeSet::new(),
            next: u16::try_from(u32::from(first) + offset).unwrap_or(first),
        };
        Self {
            first,
            last,
            used: Arc::new(Mutex::new(used)),
        }
    }

    /// A port that nobody holds now. It goes back when the lease is dropped, and then to the end of the
    /// queue, so that a port is not reused at once.
    ///
    /// # Errors
    /// A sentence: the range is used up, or we cannot look, which says nothing about the ports (F37).
    pub fn lease(&self) -> Result<Lease, String> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in self.first..=self.last {
            let port = used.next;
            used.next = if port >= self.last {
                self.first
            } else {
                port + 1
            };
            if used.ports.contains(&port) {
                continue;
            }
            match claim_free(port) {
                Ok(claim) => {
                    used.ports.insert(port);
                    return Ok(Lease {
                        port,
                        used: Arc::clone(&self.used),
                        _claim: claim,
                    });
                }
                Err(error) if is_ours(&error) => {
                    return Err(format!(
                        "remuda itself cannot look for a free port, which is no fault of the release: {error}"
                    ));
                }
                Err(_in_use) => {}
            }
        }
        Err(format!(
            "no port from {} to {} is free; widen `ports` or use `connect = \"socket\"`",
            self.first, self.last
        ))
    }
}

/// A port in use by one worker.
#[derive(Debug)]
pub struct Lease {
    port: u16,
    used: Arc<Mutex<Used>>,
    _claim: UnixDatagram,
}

impl Lease {
    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// After the worker ended: a stranger holds the port, so a failed start may not be its fault (F18).
    #[must_use]
    pub fn is_held_by_stranger(&self) -> bool {
        bind(self.port).is_err_and(|error| !is_ours(&error))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.ports.remove(&self.port);
    }
}

fn claim_free(port: u16) -> io::Result<UnixDatagram> {
    let claim = claim(port)?;
    bind(port)?;
    Ok(claim)
}

/// Keeps the port from other instances of remuda while its worker has not bound it yet: two that start
/// together would find the same one free, and the loser's probe would be answered by the winner's
/// worker. An abstract name lives in the network namespace as the port does, and ends with its holder.
fn claim(port: u16) -> io::Result<UnixDatagram> {
    let name = format!("remuda-port-{port}");
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    UnixDatagram::bind_addr(&address)
}

/// Bound on all addresses, because some servers do so; never listening, so nothing is exposed.
/// SO_REUSEADDR as servers set it: what lingers in TIME_WAIT does not count, a listener does.
fn bind(port: u16) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())
}

/// Nothing about the port: we have no descriptors or memory left, and no other port would do better.
fn is_ours(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS)
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use std::io;

    use nix::errno::Errno;

    use super::{Ports, is_ours};

    #[test]
    fn f18_a_port_that_a_stranger_holds_is_not_given() {
        let stranger = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = stranger.local_addr().expect("bound").port();
        let ports = Ports::new((port, port));
        let error = ports.lease().expect_err("held");
        assert!(error.contains("is free"), "{error}");
        drop(stranger);
        let lease = ports.lease().expect("free now");
        assert!(!lease.is_held_by_stranger());
        let _stranger = TcpListener::bind(("127.0.0.1", port)).expect("bind");
        assert!(lease.is_held_by_stranger());
    }

    #[test]
    fn f37_a_lack_of_ours_is_not_taken_for_a_port_in_use() {
        assert!(is_ours(&io::Error::from(Errno::EMFILE)));
        assert!(!is_ours(&io::Error::from(Errno::EADDRINUSE)));
        assert!(!is_ours(&io::Error::from(Errno::EACCES)));
    }

    #[test]
    fn f18_a_port_that_another_instance_has_given_to_a_worker_is_not_given() {
        let probe = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = probe.local_addr().expect("bound").port();
        drop(probe);
        let (one, other) = (Ports::new((port, port)), Ports::new((port, port)));
        let lease = one.lease().expect("free");
        assert!(other.lease().is_err(), "though nobody has bound it yet");
        drop(lease);
        assert!(other.lease().is_ok());
    }

    #[test]
    fn a_port_comes_back_only_when_its_lease_ends() {
        let probe = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = probe.local_addr().expect("bound").port();
        drop(probe);
        let ports = Ports::new((port, port));
        let lease = ports.lease().expect("free");
        assert_eq!(lease.port(), port);
        assert!(ports.lease().is_err());
        drop(lease);
        assert!(ports.lease().is_ok());
    }
}
