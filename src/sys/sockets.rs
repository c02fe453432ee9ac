//! What a socket can be asked or told that no crate does.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{setsockopt, sockopt::TcpCongestion};

/// Bytes that were written and not taken: by the other side's kernel if it is TCP, and by who reads it if it is
/// a unix socket, in which case they count with the room that they need.
///
/// # Errors
/// The system's.
pub fn untaken(socket: impl AsFd) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as it is borrowed, and TIOCOUTQ writes one int, for which
    // `bytes` is the place.
    let asked = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match asked {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(bytes.try_into().unwrap_or(0)),
    }
}

/// Spares a socket of TCP that talks on this host alone a congestion control that measures the line and paces
/// by it, as BBR does: there is none to share, and it takes some hundredths of a small request's time. To be
/// told before it connects or listens, for what was paced once stays so; what a listener accepts takes after it.
/// Reno is always there; without it all is as the system has it.
pub fn unpace(socket: impl AsFd) {
    let _ = setsockopt(&socket.as_fd(), TcpCongestion, &OsString::from("reno"));
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_nobody_has_read_is_untaken() {
        let (mut near, mut far) = UnixStream::pair().expect("a pair");
        assert_eq!(untaken(&near).expect("an answer"), 0);
        near.write_all(b"hello").expect("room");
        assert!(untaken(&near).expect("an answer") >= 5);
        far.read_exact(&mut [0; 5]).expect("what was sent");
        assert_eq!(untaken(&near).expect("an answer"), 0);
    }
}
