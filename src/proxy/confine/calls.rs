//! The system calls that a plane may make. Every other is answered as by a kernel that has no such call, which is
//! the answer that C libraries know how to live with: a newer one that tries a newer call takes the older one, and
//! `clone3`, whose arguments no filter can read, becomes `clone`.
//!
//! What is made for each request is told by its number alone, which the kernel works out once and remembers.

use std::io;

/// Lets no other calls through from now on, for this thread and those that it starts.
///
/// # Errors
/// The system's, or that nobody has told us the calls of this architecture.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
pub(super) fn forbid() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
pub(super) use filter::forbid;

#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
mod filter {
    use std::collections::BTreeMap;

    use libc::c_long;
    use seccompiler::SeccompCmpArgLen::{Dword, Qword};
    use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
    use seccompiler::{
        BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
        SeccompFilter, SeccompRule, apply_filter,
    };

    use super::io;

    /// Whatever their arguments.
    const FREE: &[c_long] = &[
        // Every request's.
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_epoll_ctl,
        libc::SYS_futex,
        // Every connection's.
        libc::SYS_accept4,
        libc::SYS_connect,
        libc::SYS_close,
        libc::SYS_shutdown,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_getsockopt,
        libc::SYS_setsockopt,
        // Descriptors that are there, and those that only we have an end of.
        libc::SYS_dup,
        libc::SYS_dup3,
        libc::SYS_epoll_create1,
        libc::SYS_eventfd2,
        libc::SYS_flock,
        libc::SYS_fstat,
        libc::SYS_lseek,
        libc::SYS_newfstatat,
        libc::SYS_ppoll,
        libc::SYS_statx,
        // Memory.
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_mremap,
        libc::SYS_munmap,
        // Threads, and the process by whom they are.
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_getegid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getpid,
        libc::SYS_getppid,
        libc::SYS_gettid,
        libc::SYS_getuid,
        libc::SYS_membarrier,
        libc::SYS_rseq,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_yield,
        libc::SYS_set_robust_list,
        libc::SYS_set_tid_address,
        libc::SYS_wait4,
        libc::SYS_waitid,
        // Signals that come.
        libc::SYS_restart_syscall,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        // Time and chance.
        libc::SYS_clock_getres,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_getrandom,
        libc::SYS_gettimeofday,
        libc::SYS_nanosleep,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_accept,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_arch_prctl,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_dup2,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_time,
    ];

    /// What `fcntl` may do: nothing about signals or owners.
    const DESCRIPTORS: [i32; 6] = [
        libc::F_DUPFD,
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
    ];
    /// What `ioctl` may do: nothing to a terminal but to ask whether it is one.
    const CONTROLS: [libc::Ioctl; 4] =
        [libc::FIONBIO, libc::FIONREAD, libc::TIOCOUTQ, libc::TCGETS];
    /// Workers are reached by these.
    const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    /// The lower bits of a socket's type; above are its flags.
    const KIND: u64 = 0xf;
    /// The C library names its memory by it.
    const PR_SET_VMA: i32 = 0x5356_4d41;

    /// See above.
    ///
    /// # Errors
    /// The system's.
    pub(in super::super) fn forbid() -> io::Result<()> {
        let program = program().map_err(io::Error::other)?;
        apply_filter(&program).map_err(io::Error::other)
    }

    fn program() -> Result<BpfProgram, BackendError> {
        let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
            FREE.iter().map(|call| (*call, Vec::new())).collect();
        rules.extend(judged()?);
        SeccompFilter::new(
            rules,
            SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
            SeccompAction::Allow,
            std::env::consts::ARCH.try_into()?,
        )?
        .try_into()
    }

    /// Calls of which some forms are allowed, each by all of its conditions.
    fn judged() -> Result<Vec<(c_long, Vec<SeccompRule>)>, BackendError> {
        let stream = || is(1, Dword, MaskedEq(KIND), libc::SOCK_STREAM);
        let sockets = FAMILIES
            .into_iter()
            .flat_map(|family| [0, libc::IPPROTO_TCP].map(|protocol| (family, protocol)));
        let sockets = sockets
            .map(|(family, protocol)| {
                let conditions = [
                    is(0, Dword, Eq, family),
                    stream(),
                    is(2, Dword, Eq, protocol),
                ];
                rule(conditions)
            })
            .collect::<Result<_, _>>()?;
        // Nobody writes a program into memory, and no memory becomes one.
        let no_program = || {
            let execute = u64::from(libc::PROT_EXEC.unsigned_abs());
            rule([is(2, Dword, MaskedEq(execute), 0)])
        };
        let thread = libc::CLONE_THREAD.unsigned_abs();
        let own = std::process::id();
        Ok(vec![
            (libc::SYS_socket, sockets),
            (
                libc::SYS_socketpair,
                vec![rule([is(0, Dword, Eq, libc::AF_UNIX)])?],
            ),
            (libc::SYS_mmap, vec![no_program()?]),
            (libc::SYS_mprotect, vec![no_program()?]),
            (
                libc::SYS_clone,
                vec![rule([is(0, Qword, MaskedEq(thread.into()), thread)])?],
            ),
            // To end ourselves by, as `abort` does.
            (libc::SYS_tgkill, vec![rule([is(0, Dword, Eq, own)])?]),
            (libc::SYS_fcntl, any(1, &DESCRIPTORS)?),
            (libc::SYS_ioctl, any(1, &CONTROLS)?),
            (libc::SYS_prctl, any(0, &[libc::PR_SET_NAME, PR_SET_VMA])?),
            (
                // To ask for our own limits, not to change any.
                libc::SYS_prlimit64,
                vec![rule([is(0, Dword, Eq, 0), is(2, Qword, Eq, 0)])?],
            ),
        ])
    }

    fn rule<const N: usize>(
        conditions: [Result<SeccompCondition, BackendError>; N],
    ) -> Result<SeccompRule, BackendError> {
        SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
    }

    /// The argument at `place` is one of these.
    fn any<T: Copy + TryInto<u64>>(
        place: u8,
        values: &[T],
    ) -> Result<Vec<SeccompRule>, BackendError> {
        let rules = values
            .iter()
            .map(|value| rule([is(place, Dword, Eq, *value)]));
        rules.collect()
    }

    fn is(
        place: u8,
        length: SeccompCmpArgLen,
        how: SeccompCmpOp,
        value: impl TryInto<u64>,
    ) -> Result<SeccompCondition, BackendError> {
        // No value here is negative.
        let value = value.try_into().unwrap_or(u64::MAX);
        SeccompCondition::new(place, length, how, value)
    }
}
