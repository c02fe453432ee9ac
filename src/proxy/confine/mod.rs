//! What a plane gives up before it reads its first byte from a client (T16): whoever takes it over has the
//! connections, the keys and the link, on which it can only report, and nothing else of this machine.
//!
//! A plane opens no file, starts no process, signals nobody and binds no address: listeners, keys and the access
//! log come over the link, and what it would tidy up is seen to by a process beside it
//! ([`crate::supervisor::Cleanup`]). So everything of this kind is taken away, not listed. What is left is to
//! connect to workers, by TCP or by a path.
//!
//! A kernel that lacks a part is no reason not to serve: the supervisor is told, and says so.

mod calls;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};

use crate::link::message::{Confinement, InForce};
use crate::sys;

/// `CAP_DAC_OVERRIDE`, which root has and we use: a worker may be another user's, and with it the directory and
/// the socket that we connect to. It opens no file that the rest forbids.
const PASS_PERMISSIONS: u64 = 1 << 1;

/// The newest kind of Landlock whose restrictions are asked for, all of them. From the ninth on it can also forbid
/// to connect to a unix socket by its path; those of workers come and go, and only a path leads to them.
const LANDLOCK: ABI = ABI::V8;

/// Gives it all up, for good. To be called before there is a second thread: each part is a thread's own, and is
/// handed down to those that it starts.
#[must_use]
pub fn confine() -> Confinement {
    Confinement {
        privileges: whether(give_up_privileges().is_ok()),
        landlock: landlock().unwrap_or(InForce::Not),
        // The last, for it forbids what the others need.
        seccomp: whether(calls::forbid().is_ok()),
    }
}

fn whether(is_done: bool) -> InForce {
    if is_done {
        InForce::Whole
    } else {
        InForce::Not
    }
}

fn give_up_privileges() -> std::io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    sys::keep_capabilities(PASS_PERMISSIONS)
}

/// No file may be opened, changed or executed, no TCP port bound, no abstract unix socket reached and no process
/// signalled: there is no rule that allows any.
fn landlock() -> Result<InForce, RulesetError> {
    let done = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .restrict_self()?;
    Ok(match done.ruleset {
        RulesetStatus::FullyEnforced => InForce::Whole,
        RulesetStatus::PartiallyEnforced => InForce::Part,
        RulesetStatus::NotEnforced => InForce::Not,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::thread;

    use nix::sys::signal::kill;
    use nix::unistd::getppid;

    use super::*;

    /// In a thread of its own, which alone is confined.
    fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(work).join().expect("no panic"))
    }

    fn refused<T>(done: std::io::Result<T>) -> Option<ErrorKind> {
        done.err().map(|error| error.kind())
    }

    #[test]
    fn t16_landlock_alone_leaves_nothing_but_to_connect() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("s");
        let worker = UnixListener::bind(&path).expect("bind");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = tcp.local_addr().expect("address");
        let hidden = format!("remuda-{}", std::process::id());
        let hidden = SocketAddr::from_abstract_name(hidden).expect("a name");
        let _abstract = UnixListener::bind_addr(&hidden).expect("bind");
        apart(|| {
            match landlock() {
                Ok(InForce::Whole) => {}
                // A kernel before 6.12: there is nothing to be seen here.
                Ok(InForce::Part | InForce::Not) | Err(_) => return,
            }
            let denied = Some(ErrorKind::PermissionDenied);
            assert_eq!(refused(File::open("/etc/passwd")), denied);
            assert_eq!(refused(File::open("/proc/self/environ")), denied);
            assert_eq!(refused(fs::read_dir("/")), denied);
            assert_eq!(refused(fs::write(dir.path().join("new"), "x")), denied);
            assert_eq!(refused(fs::remove_file(&path)), denied);
            assert_eq!(
                refused(std::process::Command::new("/bin/true").spawn()),
                denied
            );
            assert_eq!(refused(TcpListener::bind("127.0.0.1:0")), denied);
            assert_eq!(refused(UnixStream::connect_addr(&hidden)), denied);
            assert_eq!(kill(getppid(), None), Err(nix::errno::Errno::EPERM));
            TcpStream::connect(port).expect("workers are reached by TCP");
            UnixStream::connect(&path).expect("and by a path");
        });
        drop(worker);
    }

    #[test]
    fn t16_of_roots_capabilities_one_is_left() {
        let status = apart(|| {
            give_up_privileges().expect("what one has may be given up");
            fs::read_to_string("/proc/thread-self/status").expect("proc is mounted")
        });
        let field = |name| {
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(":"));
            u64::from_str_radix(line.expect("a field").trim(), 16).expect("a number")
        };
        assert_eq!(field("NoNewPrivs"), 1);
        for set in ["CapPrm", "CapEff"] {
            assert_eq!(field(set) & !PASS_PERMISSIONS, 0, "{set}");
        }
        assert_eq!((field("CapInh"), field("CapAmb")), (0, 0));
        if nix::unistd::geteuid().is_root() {
            assert_eq!(field("CapBnd") & !PASS_PERMISSIONS, 0);
        }
    }
}
