//! The public sockets: bound once at start, or taken over from who bound them for us, held until the end of the stop,
//! shared with every plane by descriptor. Never `shutdown` (F03), never toggled back to blocking (F05); only who bound
//! a path makes and removes it (F04).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};

use super::belonging::Belonging;
use super::inherited::{Inherited, Taken};
use super::premises::{Found, is_free};
use super::unix_socket;
use crate::link::message::{PublicListener, ToPlane};
use crate::metrics::Restored;
use crate::sys;

/// Connections that may wait while no plane accepts; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// A public socket's mode: whoever reaches its directory may connect, as with a TCP port.
const MODE: u32 = 0o666;

/// All public sockets. Dropping them closes ours and removes the paths that we made.
#[derive(Debug)]
pub struct Listeners {
    bound: Vec<Bound>,
    /// Something is kept for us that is no listener any more.
    forgets: bool,
}

#[derive(Debug)]
struct Bound {
    address: PublicListener,
    fd: OwnedFd,
    path: Option<Belonging>,
    owner: Owner,
}

/// Whose a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Ours, in this life or the one before.
    Us,
    /// The service manager's, which goes on holding it, and whose the path is.
    Manager,
}

impl Listeners {
    /// Binds them all, but for those that are inherited.
    ///
    /// # Errors
    /// One sentence for each that cannot be bound; none is kept then.
    pub fn bind(wanted: &[PublicListener], inherited: Inherited) -> Result<Self, Vec<String>> {
        let (mut bound, mut wrong) = (Vec::new(), Vec::new());
        let (taken, remarks, forgets) = inherited.take(wanted);
        for remark in remarks {
            tracing::warn!("{remark}");
        }
        for (address, taken) in wanted.iter().zip(taken) {
            let one = match (taken, address) {
                (Some(taken), _) => Ok(Bound::from(taken)),
                (None, PublicListener::Tcp(address)) => bind_tcp(*address),
                (None, PublicListener::Unix(path)) => bind_unix(path),
            };
            match one {
                Ok(one) => bound.push(one),
                Err(sentence) => wrong.push(sentence),
            }
        }
        if wrong.is_empty() {
            Ok(Self { bound, forgets })
        } else {
            Err(wrong)
        }
    }

    /// The addresses as bound (port 0 is replaced), in the order of [`Listeners::fds`].
    #[must_use]
    pub fn addresses(&self) -> Vec<PublicListener> {
        self.bound.iter().map(|one| one.address.clone()).collect()
    }

    /// The paths of unix sockets.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Belonging> {
        self.bound.iter().filter_map(|one| one.path.as_ref())
    }

    /// Binds again where somebody removed a path: what waits at the old socket goes with those who still accept
    /// there, and nobody else finds it. Returns the places that are to be handed to planes.
    pub(super) fn look_after(&mut self, found: &mut Found) -> Vec<usize> {
        let mut places = Vec::new();
        for (place, one) in self.bound.iter_mut().enumerate() {
            let PublicListener::Unix(path) = &one.address else {
                continue;
            };
            if one.owner == Owner::Manager || one.path.as_ref().is_some_and(Belonging::is_there) {
                continue;
            }
            if !is_free(path) {
                // It is for its owner to decide who answers there (F04).
                let why = "something else is there by now, and clients there do not reach us";
                let path = path.display();
                found
                    .missing
                    .push(format!("the socket {path} was removed; {why}"));
                continue;
            }
            // Before another is made, which may get the number of the one that is gone.
            one.path = None;
            match bind_unix(path) {
                Ok(again) => {
                    *one = again;
                    places.push(place);
                }
                Err(why) => found.missing.push(why),
            }
        }
        places
    }

    /// The listener at this place, for a plane that has the one before.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(super) fn letter(&self, place: usize) -> io::Result<(ToPlane, Vec<OwnedFd>)> {
        let one = &self.bound[place];
        let message = ToPlane::Listener {
            place: u32::try_from(place).unwrap_or(u32::MAX),
            listener: one.address.clone(),
        };
        Ok((message, vec![one.fd.try_clone()?]))
    }

    /// What was made at this place.
    pub(super) fn made(&self, place: usize) -> Option<(Restored, PathBuf)> {
        match &self.bound[place].address {
            PublicListener::Unix(path) => Some((Restored::Socket, path.clone())),
            PublicListener::Tcp(_) => None,
        }
    }

    /// Removes the path at this place; the next [`Self::look_after`] binds it again.
    pub(super) fn take_away(&mut self, place: usize) {
        self.bound[place].path = None;
    }

    /// Those that a service manager may keep for our next life. A path is bound anew by that, so it has no use for
    /// the old socket.
    pub(super) fn to_be_kept(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let ours =
            |one: &&Bound| one.owner == Owner::Us && matches!(one.address, PublicListener::Tcp(_));
        self.bound.iter().filter(ours).map(|one| one.fd.as_fd())
    }

    /// Whether something is kept for us that is no listener any more.
    pub(super) fn forgets(&self) -> bool {
        self.forgets
    }

    /// The descriptors, for a plane.
    #[must_use]
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.bound.iter().map(|one| one.fd.as_fd()).collect()
    }
}

impl From<Taken> for Bound {
    fn from(taken: Taken) -> Self {
        Self {
            address: taken.address,
            fd: taken.fd,
            path: None,
            owner: match taken.kept {
                true => Owner::Us,
                false => Owner::Manager,
            },
        }
    }
}

fn bind_unix(path: &Path) -> Result<Bound, String> {
    let (listener, kept) = unix_socket::bind(path, MODE, BACKLOG)?;
    Ok(Bound {
        address: PublicListener::Unix(path.to_owned()),
        fd: listener.into(),
        path: Some(kept),
        owner: Owner::Us,
    })
}

fn bind_tcp(address: SocketAddr) -> Result<Bound, String> {
    let bound = || -> io::Result<_> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        if address.ip().is_loopback() {
            sys::unpace(&socket);
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Bound {
            address: PublicListener::Tcp(address),
            fd: socket.into(),
            path: None,
            owner: Owner::Us,
        })
    };
    bound().map_err(|error| explain(address, &error))
}

fn explain(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot listen on {address}: the address is in use; `ss -ltnp 'sport = :{}'` shows by whom",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "cannot listen on {address}: this machine has no such address; `ip address` lists them"
            )
        }
        io::ErrorKind::PermissionDenied => format!(
            "cannot listen on {address}: not allowed; a port below 1024 needs CAP_NET_BIND_SERVICE (systemd: `AmbientCapabilities=CAP_NET_BIND_SERVICE`), or choose one above"
        ),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use nix::sys::socket::{getsockopt, sockopt::TcpCongestion};

    use super::{Found, Inherited, Listeners};
    use crate::link::message::{PublicListener, ToPlane};

    fn nothing() -> Inherited {
        Inherited::default()
    }

    fn any_port() -> PublicListener {
        PublicListener::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    #[test]
    fn connections_queue_and_a_taken_address_is_explained() {
        let listeners = Listeners::bind(&[any_port()], nothing()).expect("binds");
        let [PublicListener::Tcp(address)] = listeners.addresses()[..] else {
            panic!("one TCP address")
        };
        assert_ne!(address.port(), 0);
        TcpStream::connect(address).expect("queued");
        let wrong = Listeners::bind(&[PublicListener::Tcp(address), any_port()], nothing())
            .expect_err("taken");
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].contains("is in use; `ss"), "{}", wrong[0]);
    }

    #[test]
    fn what_goes_to_a_client_on_this_host_is_not_paced() {
        let listeners = Listeners::bind(&[any_port()], nothing()).expect("binds");
        let [PublicListener::Tcp(address)] = listeners.addresses()[..] else {
            panic!("one TCP address")
        };
        let _client = TcpStream::connect(address).expect("queued");
        let listener = listeners.fds()[0].try_clone_to_owned().expect("a copy");
        let (accepted, _) = TcpListener::from(listener).accept().expect("a client");
        let control = getsockopt(&accepted, TcpCongestion).expect("its control");
        assert_eq!(control.to_string_lossy().trim_end_matches('\0'), "reno");
    }

    #[test]
    fn f04_a_live_path_is_refused_a_stale_one_taken_over_and_ours_removed() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("public.sock");
        let wanted = [PublicListener::Unix(path.clone())];
        let alive = UnixListener::bind(&path).expect("bind");
        let wrong = Listeners::bind(&wanted, nothing()).expect_err("alive");
        assert!(wrong[0].contains("another process listens"), "{}", wrong[0]);
        drop(alive);
        let listeners = Listeners::bind(&wanted, nothing()).expect("stale");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o666);
        UnixStream::connect(&path).expect("listens");
        let count = std::fs::read_dir(directory.path()).expect("list").count();
        assert_eq!(count, 1);
        drop(listeners);
        assert!(!path.exists());
    }

    #[test]
    fn f04_a_path_that_another_has_taken_over_is_not_removed() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("public.sock");
        let listeners =
            Listeners::bind(&[PublicListener::Unix(path.clone())], nothing()).expect("binds");
        std::fs::remove_file(&path).expect("remove");
        let _other = UnixListener::bind(&path).expect("bind");
        drop(listeners);
        assert!(path.exists());
    }

    #[test]
    fn f68_a_removed_path_is_bound_again_and_what_another_put_there_stays() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("public.sock");
        let wanted = [any_port(), PublicListener::Unix(path.clone())];
        let mut listeners = Listeners::bind(&wanted, nothing()).expect("binds");
        let look = |listeners: &mut Listeners| {
            let mut found = Found::default();
            let places = listeners.look_after(&mut found);
            (places, found.missing)
        };
        assert_eq!(look(&mut listeners), (vec![], vec![]), "all is there");

        std::fs::remove_file(&path).expect("removed");
        assert_eq!(look(&mut listeners), (vec![1], vec![]));
        UnixStream::connect(&path).expect("listens");
        let (message, fds) = listeners.letter(1).expect("enough descriptors");
        assert!(matches!(message, ToPlane::Listener { place: 1, .. }));
        assert_eq!(fds.len(), 1);
        listeners.take_away(1);
        assert!(!path.exists());
        assert_eq!(look(&mut listeners), (vec![1], vec![]));

        std::fs::remove_file(&path).expect("removed");
        let other = UnixListener::bind(&path).expect("binds");
        let (places, missing) = look(&mut listeners);
        assert!(places.is_empty() && missing[0].contains("something else"));
        drop((listeners, other));
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_socket_is_never_replaced() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("precious");
        std::fs::write(&path, "data").expect("write");
        Listeners::bind(&[PublicListener::Unix(path.clone())], nothing()).expect_err("no socket");
        assert_eq!(std::fs::read(&path).expect("there"), b"data");
    }
}
