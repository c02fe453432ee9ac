//! A worker's own notify socket (`NOTIFY_SOCKET`): it may say that it is ready, that it stops, and how it is.
//!
//! Who sends is checked by user and session as the kernel tells them, never by equality of pids, because a
//! child of the worker may speak for it. What is said is data of a stranger: bounded and escaped (T19).

use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::Path;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::unistd::{Pid, getsid, getuid};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::text::excerpt;
use crate::shim::Identity;

/// Longest datagram; what is longer is not for us.
const DATAGRAM: usize = 4096;
/// Longest status kept.
const STATUS: usize = 200;

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `READY=1`.
    Ready,
    /// `STOPPING=1`.
    Stopping,
    /// `STATUS=…`, escaped and cut.
    Status(String),
}

/// One worker's notify socket. Its path goes with the worker's directory.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    uid: u32,
    session: u32,
}

impl Notify {
    /// Binds it, before the spawn: it exists when the worker begins. If the worker is to be another user,
    /// its directory becomes that user's, as the last step: from then on other processes of the user could
    /// put a link in the way of whatever we did there by name (T18). Must be called within a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(path: &Path, identity: Option<&Identity>) -> io::Result<Self> {
        let socket = StdDatagram::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        socket.set_nonblocking(true)?;
        if let Some(identity) = identity {
            for owned in [Some(path), path.parent()].into_iter().flatten() {
                chown(owned, Some(identity.uid), Some(identity.gid))?;
            }
        }
        Ok(Self {
            socket: UnixDatagram::from_std(socket)?,
            uid: identity.map_or_else(|| getuid().as_raw(), |identity| identity.uid),
            session: 0,
        })
    }

    /// Tells it whose it is, as soon as the pid is known: nobody is believed before.
    pub fn expect_session(&mut self, pid: u32) {
        self.session = pid;
    }

    /// The next notices of the worker, at least one. Datagrams of others, and what is not understood, are
    /// passed over. Cancel-safe.
    ///
    /// # Errors
    /// The system's; the socket is of no more use then.
    pub async fn recv(&mut self) -> io::Result<Vec<Notice>> {
        let mut bytes = [0; DATAGRAM];
        loop {
            let received = self
                .socket
                .async_io(Interest::READABLE, || receive(&self.socket, &mut bytes))
                .await?;
            let Some((length, uid, pid)) = received else {
                continue;
            };
            if !self.is_ours(uid, pid) {
                tracing::debug!(uid, pid, "a notice from outside the worker was ignored");
                continue;
            }
            let notices = parse(&bytes[..length]);
            if !notices.is_empty() {
                return Ok(notices);
            }
        }
    }

    fn is_ours(&self, uid: u32, pid: i32) -> bool {
        let session = getsid(Some(Pid::from_raw(pid))).map(Pid::as_raw);
        uid == self.uid
            && pid > 0
            && session.is_ok_and(|session| u32::try_from(session) == Ok(self.session))
    }
}

/// One datagram: its length, the sender's user and pid. `None` if it is too long or nameless, or brought
/// descriptors, which the kernel has closed then because there is no room for them.
fn receive(socket: &UnixDatagram, bytes: &mut [u8]) -> io::Result<Option<(usize, u32, i32)>> {
    let mut parts = [IoSliceMut::new(bytes)];
    let mut control = nix::cmsg_space!(libc::ucred);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return Ok(None);
    }
    let Ok(control) = message.cmsgs() else {
        return Ok(None);
    };
    let sender = control.into_iter().find_map(|one| match one {
        ControlMessageOwned::ScmCredentials(sender) => Some((sender.uid(), sender.pid())),
        _ => None,
    });
    Ok(sender.map(|(uid, pid)| (message.bytes, uid, pid)))
}

fn parse(bytes: &[u8]) -> Vec<Notice> {
    let line = |line: &[u8]| match line {
        b"READY=1" => Some(Notice::Ready),
        b"STOPPING=1" => Some(Notice::Stopping),
        _ => {
            let status = line.strip_prefix(b"STATUS=")?;
            Some(Notice::Status(excerpt(status, STATUS)))
        }
    };
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(line)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use nix::unistd::getsid;

    use super::{Notice, Notify, parse};
    use crate::fuzz::{self, Tally};

    #[test]
    fn t19_status_is_escaped_and_cut_and_the_rest_ignored() {
        let text = format!(
            "STATUS=\x1b[2Jhi\nREADY=1\nFDSTORE=1\nREADY=0\nSTOPPING=1\nSTATUS={}",
            "x".repeat(999)
        );
        let notices = parse(text.as_bytes());
        assert_eq!(notices[0], Notice::Status("\\u{1b}[2Jhi".into()));
        assert_eq!(notices[1..3], [Notice::Ready, Notice::Stopping]);
        let Notice::Status(long) = &notices[3] else {
            panic!("a status")
        };
        assert!(long.len() < 210);
        assert_eq!(notices.len(), 4);
    }

    #[tokio::test]
    async fn t19_only_the_workers_session_is_believed() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("notify");
        let mut notify = Notify::bind(&path, None).expect("binds");
        let sender = UnixDatagram::unbound().expect("socket");
        let say = |text: &[u8]| sender.send_to(text, &path).expect("sent");
        say(b"READY=1");
        notify.expect_session(1);
        say(b"READY=1");
        let early = tokio::time::timeout(Duration::from_millis(50), notify.recv()).await;
        assert!(early.is_err(), "nobody of that session spoke");

        // Any process of the session, here ourselves, whatever its pid.
        let session = getsid(None).expect("session").as_raw();
        notify.expect_session(session.unsigned_abs());
        say(b"nonsense");
        say(&[b'x'; 3000]);
        say(b"STATUS=warm\nREADY=1");
        let notices = notify.recv().await.expect("recv");
        assert_eq!(notices, [Notice::Status("warm".into()), Notice::Ready]);
    }

    #[test]
    fn t19_any_datagram_is_parsed_or_ignored() {
        const LINES: [&[u8]; 6] = [
            b"READY=1",
            b"STATUS=",
            b"STOPPING=1",
            b"\n",
            b"=",
            b"\x1b[2J",
        ];
        let datagram = fuzz::from(|choices| {
            let part = |choices: &mut fuzz::Choices<'_>| match choices.once_in(3) {
                true => choices.bytes(60),
                false => choices.of(&LINES).to_vec(),
            };
            let parts: Vec<_> = (0..choices.below(12)).map(|_| part(choices)).collect();
            parts.concat()
        });
        let noticed = Tally::default();
        let check = bolero::check!().with_generator(datagram);
        check.with_iterations(500).for_each(|datagram: &Vec<u8>| {
            let notices = parse(datagram);
            noticed.count(!notices.is_empty());
            for notice in notices {
                if let Notice::Status(text) = notice {
                    assert!(!text.contains('\x1b') && !text.contains('\n'));
                }
            }
        });
        noticed.both("datagrams with a notice", 5);
    }
}
