//! What a socket can say of itself that no crate asks for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

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
