//! What the service manager that started us hears: ready, reloading, stopping, and one line of status.
//!
//! The protocol of sd_notify(3), by a socket that never blocks: a manager that does not listen costs its
//! news and not our loop. `NOTIFY_SOCKET` stays in our environment and is handed to nobody.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::time::{ClockId, clock_gettime};

/// The manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Manager {
    socket: Option<UnixDatagram>,
    was_ready: bool,
    stops: bool,
    status: String,
}

impl Manager {
    /// The one that our environment names. What cannot be used is said and left.
    pub(super) fn of_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        match connect(&name) {
            Ok(socket) => Self {
                socket: Some(socket),
                ..Self::default()
            },
            Err(error) => {
                tracing::warn!("cannot reach the service manager at {name:?}: {error}");
                Self::default()
            }
        }
    }

    /// Whether anybody listens, so that a status is worth its making.
    pub(super) fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// How it stands: the first time that it is ready is the end of the start.
    pub(super) fn stands(&mut self, ready: bool, status: String) {
        let mut news = Vec::new();
        if ready && !self.was_ready && !self.stops {
            self.was_ready = true;
            news.push("READY=1".to_owned());
        }
        if status != self.status {
            news.push(format!("STATUS={status}"));
        }
        // What was not taken is told the next time.
        if !news.is_empty() && self.tell(&news) {
            self.status = status;
        } else if news.iter().any(|line| line == "READY=1") {
            self.was_ready = false;
        }
    }

    /// A reload begins.
    pub(super) fn reloads(&self) {
        let mut news = vec!["RELOADING=1".to_owned()];
        if let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) {
            let micros = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000;
            news.push(format!("MONOTONIC_USEC={micros}"));
        }
        self.tell(&news);
    }

    /// The reload is over, well or not. Before the first readiness that would claim too much.
    pub(super) fn reloaded(&self) {
        if self.was_ready {
            self.tell(&["READY=1".to_owned()]);
        }
    }

    /// A stop begins.
    pub(super) fn stops(&mut self) {
        if !self.stops {
            self.stops = true;
            self.tell(&["STOPPING=1".to_owned()]);
        }
    }

    /// Whether it was taken, or there is nobody to take it.
    fn tell(&self, news: &[String]) -> bool {
        let Some(socket) = &self.socket else {
            return true;
        };
        let text = news.join("\n");
        match socket.send(text.as_bytes()) {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!("the service manager did not take {text:?}: {error}");
                false
            }
        }
    }
}

fn connect(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
