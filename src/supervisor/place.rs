//! Where one worker lives: its directory (notify socket, unix socket), its address, its port or its
//! private listener. Made before the spawn, cleared when nothing of the worker is left.

use std::fs::{self, DirBuilder};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::ports::{Lease, Ports};
use crate::config::Connect;
use crate::link::message::WorkerAddress;
use crate::rollout::{Generation, ServiceName, Slot};
use crate::shim::Identity;
use crate::sys;

/// Queue of a private listener; the plane keeps connections, so it is never long.
const BACKLOG: i32 = 1024;

/// One worker's place. Dropping it gives the port back; the directory goes with [`Place::clear`] or the drop.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    address: WorkerAddress,
    listener: Option<OwnedFd>,
    lease: Option<Lease>,
}

impl Place {
    /// Makes the place below `workers` (`RUNTIME/w`), which exists, or below the directory there of
    /// `service` where several have workers. Paths are numbers and a service's name only (T27); a
    /// directory left by an earlier life is removed first. With an `identity` the way to the directory is
    /// made passable, not readable; the directory itself becomes its own in [`super::notify::Notify::bind`].
    ///
    /// # Errors
    /// A sentence.
    pub fn make(
        workers: &Path,
        service: Option<&ServiceName>,
        (slot, generation): (Slot, Generation),
        connect: Connect,
        ports: &Ports,
        identity: Option<&Identity>,
    ) -> Result<Self, String> {
        let apart = service.map(|service| workers.join(&*service.0));
        let above = apart.as_deref().unwrap_or(workers);
        let directory = above.join(format!("{slot}-{generation}"));
        let wrong = |error: std::io::Error| {
            format!(
                "cannot make the worker's directory {}: {error}",
                directory.display()
            )
        };
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(wrong(error)),
            Ok(()) | Err(_) => {}
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(wrong)?;
        if identity.is_some() {
            let runtime = workers.parent().into_iter();
            for passage in runtime.chain([workers]).chain(apart.as_deref()) {
                let passable = fs::Permissions::from_mode(0o711);
                fs::set_permissions(passage, passable).map_err(wrong)?;
            }
        }
        let mut place = Self {
            address: WorkerAddress::Unix(directory.join("s")),
            directory,
            listener: None,
            lease: None,
        };
        match connect {
            Connect::Socket => {}
            Connect::Port => {
                let lease = ports.lease()?;
                place.address = WorkerAddress::Tcp((Ipv4Addr::LOCALHOST, lease.port()).into());
                place.lease = Some(lease);
            }
            Connect::Fd => {
                let (listener, address) = private_listener()
                    .map_err(|error| format!("cannot bind a listener for the worker: {error}"))?;
                place.address = WorkerAddress::Tcp(address);
                place.listener = Some(listener);
            }
        }
        Ok(place)
    }

    /// Where the worker listens.
    #[must_use]
    pub fn address(&self) -> &WorkerAddress {
        &self.address
    }

    /// Its notify socket's path.
    #[must_use]
    pub fn notify_path(&self) -> PathBuf {
        self.directory.join("notify")
    }

    /// The private listener, once: to be given to the spawn, which closes our copy as soon as the shim
    /// holds it, or a dead worker would seem alive.
    pub fn take_listener(&mut self) -> Option<OwnedFd> {
        self.listener.take()
    }

    /// After the worker ended: a stranger holds its port, so a failed start may be repeated uncharged (F18).
    #[must_use]
    pub fn is_port_held_by_stranger(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_held_by_stranger)
    }

    /// Removes the directory with everything in it and gives the port back: nothing of the worker is left.
    pub fn clear(self) {}
}

impl Drop for Place {
    fn drop(&mut self) {
        // Only what the worker itself did to it can stand against it; the next start says so.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn private_listener() -> std::io::Result<(OwnedFd, std::net::SocketAddr)> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    sys::unpace(&socket);
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener.into(), address))
}
