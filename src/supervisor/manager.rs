//! What the service manager that started us hears: ready, reloading, stopping, and one line of status; and what it
//! keeps for our next life: listeners, so that clients wait while we are dead and nobody is refused (F32).
//!
//! The protocol of sd_notify(3), by a socket that never blocks: a manager that does not listen costs its
//! news and not our loop. `NOTIFY_SOCKET` stays in our environment and is handed to nobody.

use std::env;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::inherited::KEPT;
use crate::rollout::Moment;
use crate::sys;

/// Beyond the deadline of a stop: what SIGKILL has not ended is looked at, and the last words are written.
const LAST_STEPS: Duration = Duration::from_secs(15);
/// No watchdog makes us do nothing else.
const OFTEN_ENOUGH: Duration = Duration::from_millis(10);

/// The manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Manager {
    socket: Option<UnixDatagram>,
    was_ready: bool,
    stops: bool,
    status: String,
    watchdog: Option<Watchdog>,
    /// So many descriptors it keeps at most.
    room: usize,
    keeps: bool,
}

/// It wants to hear that we live.
#[derive(Debug, Clone, Copy)]
struct Watchdog {
    every: Duration,
    due: Moment,
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
                watchdog: watchdog(),
                room: room(env::var("FDSTORE").ok().as_deref()),
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

    /// A stop begins, which takes so long at most: more than a manager may allow that does not know our config.
    pub(super) fn stops(&mut self, at_most: Duration) {
        if !self.stops {
            self.stops = true;
            let micros = (at_most + LAST_STEPS).as_micros();
            let longer = format!("EXTEND_TIMEOUT_USEC={micros}");
            self.tell(&["STOPPING=1".to_owned(), longer]);
        }
    }

    /// Has it keep these listeners, in place of what it keeps if that is not right any more.
    pub(super) fn keep<'fd>(
        &mut self,
        listeners: impl Iterator<Item = BorrowedFd<'fd>>,
        anew: bool,
    ) {
        if anew {
            self.tell_to_forget();
        }
        for fd in listeners.take(self.room) {
            self.keeps = true;
            // A listener never hangs up, and need not be watched for it.
            let news = format!("FDSTORE=1\nFDNAME={KEPT}\nFDPOLL=0");
            let Some(socket) = &self.socket else {
                return;
            };
            if let Err(error) = sys::send_with_fds(socket.as_fd(), news.as_bytes(), &[fd]) {
                tracing::warn!(
                    "the service manager does not keep a listener for us, so that clients are refused should we die: {error}"
                );
            }
        }
    }

    /// The listeners are closed for good: whoever connects is to be refused now, and go elsewhere, and not to wait
    /// for a life that may never come.
    pub(super) fn forgets(&mut self) {
        if std::mem::take(&mut self.keeps) {
            self.tell_to_forget();
        }
    }

    fn tell_to_forget(&self) {
        self.tell(&["FDSTOREREMOVE=1".to_owned(), format!("FDNAME={KEPT}")]);
    }

    /// Says that the control loop turns, whenever that is due: one that hangs falls silent.
    pub(super) fn lives(&mut self, now: Moment) {
        if let Some(watchdog) = &mut self.watchdog
            && now >= watchdog.due
        {
            watchdog.due = now + watchdog.every;
            self.tell(&["WATCHDOG=1".to_owned()]);
        }
    }

    /// When [`Self::lives`] has something to say.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.watchdog.map(|watchdog| watchdog.due)
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

/// How many descriptors it keeps for us (`FileDescriptorStoreMax=`).
fn room(told: Option<&str>) -> usize {
    told.and_then(|told| told.parse().ok()).unwrap_or(0)
}

fn watchdog() -> Option<Watchdog> {
    let (limit, pid) = (
        env::var("WATCHDOG_USEC").ok(),
        env::var("WATCHDOG_PID").ok(),
    );
    let every = every(limit.as_deref()?, pid.as_deref(), std::process::id())?;
    Some(Watchdog {
        every,
        due: Moment::default(),
    })
}

/// Half of the limit, as sd_watchdog_enabled(3) advises; `None` if the limit is not meant for us.
fn every(limit: &str, pid: Option<&str>, us: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(us)) {
        return None;
    }
    let limit: u64 = limit.parse().ok().filter(|limit| *limit > 0)?;
    Some(Duration::from_micros(limit / 2).max(OFTEN_ENOUGH))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{every, room};

    #[test]
    fn f32_nothing_is_kept_where_there_is_no_room() {
        assert_eq!(room(Some("16")), 16);
        for odd in [None, Some(""), Some("0"), Some("-1"), Some("many")] {
            assert_eq!(room(odd), 0, "{odd:?}");
        }
    }

    #[test]
    fn the_watchdog_hears_twice_within_its_limit_if_it_is_ours() {
        let half = Some(Duration::from_millis(1500));
        assert_eq!(every("3000000", None, 7), half);
        assert_eq!(every("3000000", Some("7"), 7), half);
        assert_eq!(every("3000000", Some("8"), 7), None);
        for odd in ["", "0", "-1", "3s"] {
            assert_eq!(every(odd, None, 7), None, "{odd}");
        }
        assert_eq!(every("1", None, 7), Some(Duration::from_millis(10)));
        assert_eq!(every("3000000", Some("odd"), 7), None);
    }
}
