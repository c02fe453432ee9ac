//! Public sockets that a service manager opened for us, or kept for us while we were dead: the protocol of
//! sd_listen_fds(3). One that a `[[listen]]` names is served in place of one of our own; any other is said and
//! closed, for whoever connects there would wait in vain (F32).

use std::env;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use socket2::{Socket, Type};

use crate::link::message::PublicListener;
use crate::sys;

/// Under this name we have our listeners kept, and know them again.
pub(super) const KEPT: &str = "remuda-listener";
/// More are no list of sockets.
const MOST: usize = 1024;

/// What we were given, until somebody takes it.
#[derive(Debug, Default)]
pub struct Inherited {
    given: Vec<Given>,
    remarks: Vec<String>,
}

/// A listening socket that was given.
#[derive(Debug)]
struct Given {
    socket: Socket,
    place: Place,
    name: String,
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    address: PublicListener,
    /// It is of IPv6, and IPv4 reaches it, too.
    dual: bool,
}

/// A listener that somebody else bound.
#[derive(Debug)]
pub(super) struct Taken {
    /// As it is bound.
    pub(super) address: PublicListener,
    pub(super) fd: OwnedFd,
    /// It is one that we had kept.
    pub(super) kept: bool,
}

impl Inherited {
    /// What our environment says that we were given. To be called once, before anything is opened.
    #[must_use]
    pub fn of_environment() -> Self {
        let [pid, count, names] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(env::var);
        let (Ok(pid), Ok(count)) = (pid, count) else {
            return Self::default();
        };
        let count = given(&pid, &count, std::process::id()).unwrap_or(0);
        let names = names.unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut inherited = Self::default();
        for fd in sys::given_descriptors(count.min(MOST)) {
            let name = names.next().unwrap_or_default();
            match fd.map_err(|error| error.to_string()).and_then(look) {
                Ok((socket, place)) => inherited.given.push(Given {
                    socket,
                    place,
                    name,
                }),
                Err(why) => inherited
                    .remarks
                    .push(format!("a descriptor that was opened for us (LISTEN_FDS, `{name}`) is not served: {why}")),
            }
        }
        inherited
    }

    /// Those that are wanted, each in its place; of what is left, and what was no socket of ours, one sentence each.
    /// The flag says that one of them is kept for us and need not be any longer.
    pub(super) fn take(self, wanted: &[PublicListener]) -> (Vec<Option<Taken>>, Vec<String>, bool) {
        let Self { given, mut remarks } = self;
        let places: Vec<_> = given.iter().map(|given| given.place.clone()).collect();
        let matches = matching(wanted, &places);
        let mut given: Vec<_> = given.into_iter().map(Some).collect();
        let mut taken = Vec::new();
        for index in matches {
            let one = index.and_then(|index| given[index].take());
            let one = one.map(|given| {
                let (shown, name) = (show(&given.place.address), given.name.clone());
                given.serve().map_err(|error| {
                    format!("the socket at {shown} that was opened for us (`{name}`) cannot be used: {error}")
                })
            });
            taken.push(one.transpose().unwrap_or_else(|remark| {
                remarks.push(remark);
                None
            }));
        }
        let left: Vec<_> = given.into_iter().flatten().collect();
        let forgets = left.iter().any(Given::was_kept);
        remarks.extend(left.into_iter().map(Given::nobody_wants));
        (taken, remarks, forgets)
    }
}

impl Given {
    fn was_kept(&self) -> bool {
        self.name == KEPT
    }

    fn serve(self) -> io::Result<Taken> {
        // The flag belongs to all who share the socket, and nobody else accepts on it: once and for all (F05).
        if !self.socket.nonblocking()? {
            self.socket.set_nonblocking(true)?;
        }
        Ok(Taken {
            kept: self.was_kept(),
            address: self.place.address,
            fd: self.socket.into(),
        })
    }

    /// Closed with this sentence.
    fn nobody_wants(self) -> String {
        let (shown, name) = (show(&self.place.address), &self.name);
        match self.was_kept() {
            true => format!(
                "the socket at {shown}, kept since our last life, is no `[[listen]]` any more: it is closed"
            ),
            false => format!(
                "a socket at {shown} was opened for us (LISTEN_FDS, `{name}`), but no `[[listen]]` has that address: clients that connect to it get no answer; name it in the config, or take it out of the `.socket` unit"
            ),
        }
    }
}

/// How many descriptors were given, if it is us that they were given to: children inherit the variables.
fn given(pid: &str, count: &str, ours: u32) -> Option<usize> {
    let for_us = pid.parse() == Ok(ours);
    count.parse().ok().filter(|count| for_us && *count > 0)
}

/// Where it listens, if it does.
fn look(fd: OwnedFd) -> Result<(Socket, Place), String> {
    let socket = Socket::from(fd);
    let listens = socket.r#type().is_ok_and(|kind| kind == Type::STREAM)
        && socket.is_listener().unwrap_or(false);
    if !listens {
        return Err("it is no listening stream socket".to_owned());
    }
    let address = socket.local_addr().map_err(|error| error.to_string())?;
    let dual = address.is_ipv6() && !socket.only_v6().unwrap_or(true);
    let address = match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => PublicListener::Tcp(address),
        (None, Some(path)) => PublicListener::Unix(path.to_owned()),
        (None, None) => return Err("it is neither TCP nor at a path".to_owned()),
    };
    Ok((socket, Place { address, dual }))
}

/// Which of what is there is for each that is wanted: first what fits exactly, then what serves the same clients.
fn matching(wanted: &[PublicListener], there: &[Place]) -> Vec<Option<usize>> {
    let mut matches = vec![None; wanted.len()];
    for fits in [is_same, serves] {
        for (place, wanted) in wanted.iter().enumerate() {
            if matches[place].is_some() {
                continue;
            }
            let free = |index: &usize| !matches.contains(&Some(*index));
            let mut candidates = (0..there.len()).filter(free);
            matches[place] = candidates.find(|index| fits(wanted, &there[*index]));
        }
    }
    matches
}

fn is_same(wanted: &PublicListener, there: &Place) -> bool {
    match (wanted, &there.address) {
        (PublicListener::Tcp(wanted), PublicListener::Tcp(there)) => {
            (wanted.ip(), wanted.port()) == (there.ip(), there.port())
        }
        (PublicListener::Unix(wanted), PublicListener::Unix(there)) => {
            whole(wanted) == whole(there)
        }
        _ => false,
    }
}

/// `ListenStream=443` of systemd is `[::]:443` for both families, and takes `0.0.0.0:443` with it; and where any port
/// will do, one that is there does.
fn serves(wanted: &PublicListener, there: &Place) -> bool {
    let (PublicListener::Tcp(wanted), PublicListener::Tcp(at)) = (wanted, &there.address) else {
        return false;
    };
    let ip = |address: &SocketAddr| address.ip();
    let both = there.dual
        && ip(at).is_unspecified()
        && matches!(ip(wanted), IpAddr::V4(ip) if ip.is_unspecified());
    (ip(wanted) == ip(at) || both) && [0, at.port()].contains(&wanted.port())
}

fn whole(path: &Path) -> Option<std::path::PathBuf> {
    std::path::absolute(path).ok()
}

fn show(address: &PublicListener) -> String {
    match address {
        PublicListener::Tcp(address) => address.to_string(),
        PublicListener::Unix(path) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> PublicListener {
        PublicListener::Tcp(address.parse().expect("an address"))
    }

    fn unix(path: &str) -> PublicListener {
        PublicListener::Unix(path.into())
    }

    fn places(there: &[PublicListener]) -> Vec<Place> {
        let place = |address: &PublicListener| Place {
            address: address.clone(),
            dual: matches!(address, PublicListener::Tcp(address) if address.is_ipv6()),
        };
        there.iter().map(place).collect()
    }

    #[test]
    fn sockets_are_given_to_the_process_that_is_named() {
        assert_eq!(given("7", "2", 7), Some(2));
        for (pid, count) in [("8", "2"), ("7", "0"), ("", "2"), ("7", "two"), ("7", "-1")] {
            assert_eq!(given(pid, count, 7), None, "{pid} {count}");
        }
    }

    #[test]
    fn f32_a_socket_is_taken_for_the_address_that_it_serves_and_each_once() {
        for (wanted, there, expected) in [
            (
                vec![tcp("127.0.0.1:80"), tcp("[::1]:80")],
                vec![tcp("[::1]:80"), tcp("127.0.0.1:80")],
                vec![Some(1), Some(0)],
            ),
            (
                vec![tcp("127.0.0.1:80"), tcp("0.0.0.0:81"), tcp("[::1]:82")],
                vec![tcp("127.0.0.1:81"), tcp("0.0.0.0:80"), tcp("[::]:82")],
                vec![None, None, None],
            ),
            // `ListenStream=443` serves both, but each socket is taken once, by who names it exactly.
            (
                vec![tcp("0.0.0.0:443")],
                vec![tcp("[::]:443")],
                vec![Some(0)],
            ),
            (
                vec![tcp("0.0.0.0:443"), tcp("[::]:443")],
                vec![tcp("[::]:443")],
                vec![None, Some(0)],
            ),
            (
                vec![tcp("127.0.0.1:443")],
                vec![tcp("[::]:443")],
                vec![None],
            ),
            (
                vec![tcp("127.0.0.1:0"), tcp("127.0.0.1:8080"), tcp("[::1]:0")],
                vec![tcp("127.0.0.1:8080"), tcp("127.0.0.1:9090")],
                vec![Some(1), Some(0), None],
            ),
            (
                vec![unix("/run/./a"), unix("/run/b"), tcp("127.0.0.1:80")],
                vec![unix("/run/a"), unix("/run/c")],
                vec![Some(0), None, None],
            ),
            (
                vec![tcp("127.0.0.1:80")],
                vec![tcp("127.0.0.1:80"), tcp("127.0.0.1:80")],
                vec![Some(0)],
            ),
            (vec![], vec![tcp("127.0.0.1:80")], vec![]),
        ] {
            assert_eq!(matching(&wanted, &places(&there)), expected, "{wanted:?}");
        }
        let single = Place {
            address: tcp("[::]:443"),
            dual: false,
        };
        assert_eq!(matching(&[tcp("0.0.0.0:443")], &[single]), [None]);
    }

    #[test]
    fn what_does_not_listen_is_no_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = std::net::TcpStream::connect(address).expect("it listens");
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let file = std::fs::File::open("/dev/null").expect("there");
        for fd in [OwnedFd::from(client), datagrams.into(), file.into()] {
            let why = look(fd).expect_err("it does not listen");
            assert_eq!(why, "it is no listening stream socket");
        }
        let (_, place) = look(listener.into()).expect("it listens");
        assert_eq!(place.address, PublicListener::Tcp(address));
    }

    #[test]
    fn f05_a_blocking_socket_is_made_non_blocking_and_what_nobody_wants_is_said() {
        let given = |name: &str| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let (socket, place) = look(listener.into()).expect("it listens");
            assert!(!socket.nonblocking().expect("a flag"));
            Given {
                socket,
                place,
                name: name.to_owned(),
            }
        };
        let inherited = Inherited {
            given: vec![given("web.socket"), given(KEPT), given("other.socket")],
            remarks: Vec::new(),
        };
        let wanted = inherited.given[0].place.address.clone();
        let (taken, remarks, forgets) = inherited.take(&[unix("/a"), wanted.clone()]);
        let [None, Some(taken)] = &taken[..] else {
            panic!("{taken:?}")
        };
        assert!(taken.address == wanted && !taken.kept && forgets);
        let socket = Socket::from(taken.fd.try_clone().expect("a copy"));
        assert!(socket.nonblocking().expect("a flag"));
        assert_eq!(remarks.len(), 2);
        assert!(
            remarks[0].contains("kept since our last life"),
            "{remarks:?}"
        );
        assert!(remarks[1].contains("`other.socket`"), "{remarks:?}");
    }
}
