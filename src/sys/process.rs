//! What a process says about itself before it becomes something else, and how its children ended.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd;

/// Makes a session (and process group) of our own; no error if we lead one already.
///
/// # Errors
/// The system's.
pub fn begin_session() -> io::Result<()> {
    match unistd::setsid() {
        Ok(_session) => Ok(()),
        // EPERM: we lead a group already. If it is a session of ours as well, all is as wanted.
        Err(Errno::EPERM) if unistd::getsid(None) == Ok(unistd::getpid()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Asks for SIGTERM when our parent dies, and checks that it has not died already. A change of user
/// forgets it, so it is to be asked for afterwards (again).
///
/// # Errors
/// The system's; `NotFound` if the parent is another process than `parent` by now.
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    if std::os::unix::process::parent_id() == parent {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the process that asked for this one is gone",
        ))
    }
}

/// Unblocks every signal and gives each its default disposition: what an exec'd program may expect.
///
/// # Errors
/// The system's.
pub fn reset_signals() -> io::Result<()> {
    // The kernel's own struct, all zeroes: SIG_DFL without flags. Past the C library, because it refuses
    // its own two signals and yet leaves them ignored in what it spawns.
    let default = [0_u64; 8];
    for signal in 1..=64 {
        // SAFETY: `default` outlives the call and is larger than the struct; SIG_DFL runs no code of
        // ours. KILL and STOP give EINVAL, which changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<libc::c_void>(),
                8_usize,
            )
        };
    }
    // SAFETY: an all-zero sigset_t is the empty set on Linux.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `none` is valid for the call, and no old set is asked for.
    if unsafe { libc::sigprocmask(libc::SIG_SETMASK, ptr::from_ref(&none), ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStatus {
    /// `exit(code)`.
    Exited(i32),
    /// Killed by this signal, real-time ones included; with a core dump or without.
    Signaled(i32, bool),
}

/// Reaps one child that has ended, whichever; `None` if there is none now. Never waits.
#[must_use]
pub fn reap_one() -> Option<(u32, WaitStatus)> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid =
            unsafe { libc::waitpid(-1, ptr::from_mut(&mut status), libc::WNOHANG | libc::__WALL) };
        if pid < 0 && Errno::last() == Errno::EINTR {
            continue;
        }
        // 0: all of them live. Negative: ECHILD, there is none.
        let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0)?;
        if libc::WIFEXITED(status) {
            return Some((pid, WaitStatus::Exited(libc::WEXITSTATUS(status))));
        }
        if libc::WIFSIGNALED(status) {
            let core = libc::WCOREDUMP(status);
            return Some((pid, WaitStatus::Signaled(libc::WTERMSIG(status), core)));
        }
        // Stops and continuations are not asked for.
    }
}

/// Bytes in a page of memory.
#[must_use]
pub fn page_size() -> u64 {
    // SAFETY: sysconf reads a constant.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// A handle on one process, which never means another one, even if the pid is reused (F29).
#[derive(Debug)]
pub struct Pidfd {
    fd: OwnedFd,
}

impl Pidfd {
    /// The process that has this pid now. What is known of it must be checked after this.
    ///
    /// # Errors
    /// The system's; ESRCH if there is none.
    pub fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: no memory is involved; the result is a new descriptor (close-on-exec) or negative.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0);
        let fd = fd.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: just made, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Signals it.
    ///
    /// # Errors
    /// The system's; ESRCH if it has ended and was reaped.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        // SAFETY: a null siginfo means "as kill does"; the descriptor is ours.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal as i32,
                ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
