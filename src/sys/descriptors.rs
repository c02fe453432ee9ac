//! Descriptors: sent and received over a unix stream socket (SCM_RIGHTS), and put in order before an exec.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

/// Most descriptors the kernel takes in one message (SCM_MAX_FD; 254 is EINVAL, measured in E10).
pub const MAX_FDS_PER_MESSAGE: usize = 253;

/// Room for one control message with [`MAX_FDS_PER_MESSAGE`] descriptors and to spare, so that truncation
/// can only mean that we have no descriptor numbers left.
const CONTROL_WORDS: usize = 160;

/// A control buffer, aligned as `cmsghdr` must be.
type Control = [u64; CONTROL_WORDS];

/// Sends `bytes` and, with the first of them, `fds`. Returns how many bytes were taken; if it is at
/// least one, all descriptors went along. Never raises SIGPIPE.
///
/// # Errors
/// The system's. `WouldBlock` on a non-blocking socket that is full; nothing was sent then.
pub fn send_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if fds.len() > MAX_FDS_PER_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors for one message",
        ));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [nix::sys::socket::ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
    let sent = nix::sys::socket::sendmsg::<()>(
        socket.as_raw_fd(),
        &[io::IoSlice::new(bytes)],
        rights,
        nix::sys::socket::MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(sent)
}

/// Receives bytes, and the descriptors that came with them, close-on-exec set. 0 bytes is the end.
///
/// # Errors
/// The system's; `InvalidData` if descriptors were lost (MSG_CTRUNC), which the peer cannot repair, so
/// the link is to be given up. Those that did arrive are closed.
pub fn recv_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control: Control = [0; CONTROL_WORDS];
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain data for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = ptr::from_mut(&mut part);
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();

    // SAFETY: every pointer in `message` refers to a local or to `bytes`, which outlive the call, with
    // the lengths given beside them.
    let received = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            ptr::from_mut(&mut message),
            libc::MSG_CMSG_CLOEXEC,
        )
    };
    let received = usize::try_from(received).map_err(|_negative| io::Error::last_os_error())?;
    let fds = take_fds(&message);
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "descriptors were lost on the way; is the limit of open files reached?",
        ));
    }
    Ok((received, fds))
}

/// Owns every descriptor that `message`, just filled by `recvmsg`, carries.
fn take_fds(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: `message` was filled by the kernel, its control buffer is alive and has the length it says.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole header inside the buffer.
        let head = unsafe { header.read_unaligned() };
        if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: `header` is a valid header inside the buffer, its data follows it.
            let data = unsafe { libc::CMSG_DATA(header) };
            let bytes = head
                .cmsg_len
                .saturating_sub(data as usize - header as usize);
            for index in 0..bytes / size_of::<RawFd>() {
                // SAFETY: `index` is below the count of descriptors that the header's length covers.
                let place = unsafe { data.cast::<RawFd>().add(index) };
                // SAFETY: `place` is inside the data of the message; alignment is not assumed.
                let raw = unsafe { place.read_unaligned() };
                // SAFETY: the kernel has just opened this descriptor for us; nobody else knows it.
                fds.push(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
        // SAFETY: `message` and `header` are as they were returned.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    fds
}

/// Gives `fds` the numbers 0, 1, 2, …, open across an exec, and returns `kept` under a number above them,
/// close-on-exec. Whatever had these numbers is gone, so this is for a process that is about to exec and
/// uses no other descriptor of its own any more.
///
/// # Errors
/// The system's, with `kept` as it is then.
pub fn number_descriptors(
    fds: Vec<OwnedFd>,
    kept: OwnedFd,
) -> Result<OwnedFd, (OwnedFd, io::Error)> {
    let Ok(count) = RawFd::try_from(fds.len()) else {
        return Err((kept, io::ErrorKind::InvalidInput.into()));
    };
    // First out of the way of all numbers to be given, or one could overwrite the next (E7).
    let kept = match copy_above(&kept, fds.len()) {
        Ok(copy) => {
            leave_open(kept);
            copy
        }
        Err(error) => return Err((kept, error)),
    };
    match number_all(fds, count) {
        Ok(()) => Ok(kept),
        Err(error) => Err((kept, error)),
    }
}

fn number_all(fds: Vec<OwnedFd>, count: RawFd) -> io::Result<()> {
    let first = fds.len();
    let mut copies = Vec::with_capacity(first);
    for fd in fds {
        copies.push(copy_above(&fd, first)?);
        leave_open(fd);
    }
    for (number, copy) in (0..count).zip(copies) {
        // SAFETY: `copy` is ours and at least `count`, so the two differ and dup2 clears close-on-exec.
        // Nobody owns `number` any more: it was given up above or is none of this process's business.
        if unsafe { libc::dup2(copy.as_raw_fd(), number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The same under a number that is `lowest` or more, close-on-exec.
///
/// # Errors
/// The system's.
pub fn copy_above(fd: &OwnedFd, lowest: usize) -> io::Result<OwnedFd> {
    let lowest = RawFd::try_from(lowest).map_err(|_too_many| io::ErrorKind::InvalidInput)?;
    // SAFETY: fcntl on a descriptor that is open, which copies it.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The descriptors that whoever started us left open for us, from 3 on, close-on-exec from now on; each that is not
/// open is an error. To be called once, before this process opens anything.
pub fn given_descriptors(count: usize) -> impl Iterator<Item = io::Result<OwnedFd>> {
    let numbers = (3..RawFd::MAX).take(count);
    numbers.map(|number| {
        // SAFETY: F_SETFD touches a flag only; a number that is not open gives EBADF.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is open, and since nothing was opened by this process yet nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    })
}

/// Gives up a number without closing it: it may be one that is about to be given to another descriptor.
fn leave_open(fd: OwnedFd) {
    let _number = fd.into_raw_fd();
}

/// Makes every descriptor from `first` on close-on-exec, also those that we know nothing of (F15).
///
/// # Errors
/// The system's.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC touches flags only; no memory is involved.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return Ok(());
    }
    // A kernel before 5.11: one by one.
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|number| i64::from(*number) >= i64::from(first)) {
            // SAFETY: F_SETFD touches a flag only; a number that was closed meanwhile gives EBADF.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;

/// Whether descriptors (F16), ports (F17) or memory are gone, ours or the host's: nobody whom we wanted to reach is to
/// blame.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    let ours = [
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::EADDRNOTAVAIL,
        Errno::ENOBUFS,
        Errno::ENOMEM,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| ours.contains(&Errno::from_raw(code)))
}
