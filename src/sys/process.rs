//! What a process says about itself before it becomes something else, and how its children ended.

use std::io;
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
