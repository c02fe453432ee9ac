//! What a socket can be asked or told that no crate does.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{setsockopt, sockopt::TcpCongestion};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};

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

/// A socket that somebody waits for to become readable: in a runtime, whose driver is told of it.
///
/// # Errors
/// The system's.
pub fn readable(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it is owned, so the descriptor stays open and the same for as long as it is in there.
    let known = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    known.map_err(|error| error.into_parts().1)
}

/// Reads once what has come to a socket into what is left of the buffer; nothing is its end.
///
/// # Errors
/// The system's; `WouldBlock` if nothing has come and the socket does not block.
pub fn receive(socket: impl AsFd, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
    // SAFETY: only `recv` writes there, and it takes nothing away from what was initialised.
    let room = unsafe { buffer.unfilled_mut() };
    let (start, length) = (room.as_mut_ptr().cast(), room.len());
    // SAFETY: the descriptor is open for as long as it is borrowed, and `length` bytes from `start` are ours.
    let read = unsafe { libc::recv(socket.as_fd().as_raw_fd(), start, length, 0) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written so many bytes there.
    unsafe { buffer.assume_init(read) };
    buffer.advance(read);
    Ok(())
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

    #[test]
    fn what_has_come_is_received_behind_what_was_there() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        near.set_nonblocking(true).expect("non-blocking");
        let mut room = [std::mem::MaybeUninit::uninit(); 8];
        let mut buffer = ReadBuf::uninit(&mut room);
        let nothing = receive(&near, &mut buffer).map_err(|error| error.kind());
        assert_eq!(nothing, Err(io::ErrorKind::WouldBlock));
        for part in [&b"hel"[..], b"lo"] {
            far.write_all(part).expect("room");
            receive(&near, &mut buffer).expect("what was sent");
        }
        far.write_all(b"more than fits").expect("room");
        receive(&near, &mut buffer).expect("what was sent");
        assert_eq!(buffer.filled(), b"hellomor");
        drop(far);
    }
}
