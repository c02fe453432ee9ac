//! The data plane's sandbox: what one who has taken it over can still do.

use std::ffi::{CStr, CString};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use libc::c_long;
use remuda::link::message::InForce;
use remuda::proxy::confine;

use super::support::instance::{Instance, Start};
use super::support::watch::plane;

/// One call and its result, -1 if it was refused.
fn call<const N: usize>(number: c_long, arguments: [c_long; N]) -> c_long {
    let at = |place: usize| arguments.get(place).copied().unwrap_or_default();
    // SAFETY: pointers among the arguments are null or to what outlives the call, and no call is to succeed.
    let done = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    if done == 0 && number == libc::SYS_clone {
        // SAFETY: a copy of us that was not to be.
        unsafe { libc::_exit(0) };
    }
    done
}

fn text(text: &CStr) -> c_long {
    text.as_ptr() as c_long
}

/// What is tried in a thread that has given up what a plane gives up.
fn attempts() -> Vec<(&'static str, c_long)> {
    let supervisor = c_long::from(std::os::unix::process::parent_id());
    let of_supervisor = |file| CString::new(format!("/proc/{supervisor}/{file}")).expect("text");
    let (memory, environment) = (of_supervisor("mem"), of_supervisor("environ"));
    let here = c_long::from(libc::AT_FDCWD);
    let open = |path, flags: i32| call(libc::SYS_openat, [here, text(path), flags.into(), 0o600]);
    let program = text(c"/bin/true");
    let argv = [program, 0];
    let argv = argv.as_ptr() as c_long;
    let socket = |family: i32, kind: i32| call(libc::SYS_socket, [family.into(), kind.into()]);
    let inet = call(
        libc::SYS_socket,
        [libc::AF_INET.into(), libc::SOCK_STREAM.into()],
    );
    // Family 2, port and address 0.
    let anywhere = [2_u16, 0, 0, 0, 0, 0, 0, 0];
    let limit = [1024_u64; 2];
    let memory_of = |rights| call(libc::SYS_mmap, [0, 4096, rights, 0x22, -1]);
    let page = memory_of(3);
    assert!(inet > 0 && page > 0, "a plane has sockets and memory");
    vec![
        ("read a file", open(c"/etc/passwd", libc::O_RDONLY)),
        (
            "make a file",
            open(c"/tmp/remuda-t16", libc::O_CREAT | libc::O_RDWR),
        ),
        (
            "read the supervisor's memory",
            open(&memory, libc::O_RDONLY),
        ),
        ("read its environment", open(&environment, libc::O_RDONLY)),
        (
            "unlink",
            call(libc::SYS_unlinkat, [here, text(c"/tmp/remuda-t16")]),
        ),
        ("execve", call(libc::SYS_execve, [program, argv])),
        ("execveat", call(libc::SYS_execveat, [here, program, argv])),
        ("fork", call(libc::SYS_clone, [libc::SIGCHLD.into()])),
        ("clone3", call(libc::SYS_clone3, [0, 0])),
        ("ptrace", call(libc::SYS_ptrace, [16, supervisor])),
        (
            "process_vm_readv",
            call(libc::SYS_process_vm_readv, [supervisor]),
        ),
        (
            "process_vm_writev",
            call(libc::SYS_process_vm_writev, [supervisor]),
        ),
        ("pidfd_open", call(libc::SYS_pidfd_open, [supervisor])),
        ("pidfd_getfd", call(libc::SYS_pidfd_getfd, [0])),
        ("kill", call(libc::SYS_kill, [supervisor])),
        ("tgkill", call(libc::SYS_tgkill, [supervisor, supervisor])),
        ("setuid", call(libc::SYS_setuid, [0])),
        ("capset", call(libc::SYS_capset, [0])),
        (
            "dumpable again",
            call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1]),
        ),
        ("mount", call(libc::SYS_mount, [0])),
        ("chroot", call(libc::SYS_chroot, [text(c"/")])),
        (
            "unshare",
            call(libc::SYS_unshare, [libc::CLONE_FILES.into()]),
        ),
        ("setns", call(libc::SYS_setns, [0])),
        ("bpf", call(libc::SYS_bpf, [0])),
        ("io_uring_setup", call(libc::SYS_io_uring_setup, [1])),
        ("perf_event_open", call(libc::SYS_perf_event_open, [0])),
        ("userfaultfd", call(libc::SYS_userfaultfd, [0])),
        ("keyctl", call(libc::SYS_keyctl, [0])),
        ("memfd_create", call(libc::SYS_memfd_create, [program])),
        (
            "set a limit",
            call(libc::SYS_prlimit64, [0, 7, limit.as_ptr() as c_long]),
        ),
        (
            "a socket of netlink",
            socket(libc::AF_NETLINK, libc::SOCK_RAW),
        ),
        (
            "a socket of packets",
            socket(libc::AF_PACKET, libc::SOCK_RAW),
        ),
        ("a raw socket", socket(libc::AF_INET, libc::SOCK_RAW)),
        ("a datagram", socket(libc::AF_INET, libc::SOCK_DGRAM)),
        (
            "bind",
            call(libc::SYS_bind, [inet, anywhere.as_ptr() as c_long, 16]),
        ),
        ("memory that runs", memory_of(7)),
        (
            "memory made to run",
            call(libc::SYS_mprotect, [page, 4096, 5]),
        ),
        (
            "type into a terminal",
            call(libc::SYS_ioctl, [2, 0x5412, program]),
        ),
        (
            "signals for others",
            call(libc::SYS_fcntl, [inet, libc::F_SETOWN.into(), supervisor]),
        ),
    ]
}

#[test]
fn t16_one_who_takes_a_plane_over_can_only_talk() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("s");
    let unix = UnixListener::bind(&path).expect("bind");
    let confined = std::thread::spawn({
        let address = tcp.local_addr().expect("address");
        move || {
            let confinement = confine();
            let tried = attempts();
            // What a plane lives by.
            let mut worker = TcpStream::connect(address).expect("workers are reached by TCP");
            UnixStream::connect(&path).expect("and by a path");
            worker.set_nonblocking(true).expect("sockets can be told");
            worker.write_all(b"x").expect("sent");
            let another = std::thread::spawn(|| vec![7_u8; 64 << 20].len());
            assert_eq!(another.join().expect("threads are ours"), 64 << 20);
            (confinement, tried)
        }
    });
    let (confinement, tried) = confined.join().expect("no panic");
    assert_eq!(confinement.privileges, InForce::Whole);
    if confinement.seccomp != InForce::Whole {
        // An architecture whose calls nobody has told us.
        return;
    }
    let done: Vec<_> = tried.iter().filter(|(_, done)| *done != -1).collect();
    assert!(done.is_empty(), "{done:?}");
    let mut got = [0];
    let (mut accepted, _) = tcp.accept().expect("it connected");
    accepted.read_exact(&mut got).expect("it wrote");
    unix.accept().expect("it connected here, too");
    // It was that thread alone.
    std::fs::read("/etc/passwd").expect("others are as they were");
}

/// A field of the status of each thread of the plane that accepts.
fn fields(instance: &mut Instance, name: &str) -> Vec<String> {
    let status = instance.wait("a plane", |status| plane(status).is_some());
    let pid = plane(&status).expect("just seen");
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    let text = |path| std::fs::read_to_string(path).expect("a thread lives as long as the plane");
    threads
        .flatten()
        .map(|thread| {
            let text = text(thread.path().join("status"));
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.expect("a field")
                .trim_matches([':', '\t', ' '])
                .to_owned()
        })
        .collect()
}

#[test]
fn t16_every_thread_of_a_running_plane_is_confined_and_the_log_says_so() {
    let mut instance = Start::default().ready();
    let seccomp = fields(&mut instance, "Seccomp:");
    assert!(
        seccomp.len() > 2 && seccomp.iter().all(|mode| mode == "2"),
        "{seccomp:?}"
    );
    let privileges = fields(&mut instance, "NoNewPrivs");
    assert!(privileges.iter().all(|bit| bit == "1"), "{privileges:?}");
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd"] {
        let root = nix::unistd::geteuid().is_root();
        let masks = fields(&mut instance, set);
        let few = |mask: &String| u64::from_str_radix(mask, 16).is_ok_and(|mask| mask & !2 == 0);
        assert!(
            masks.iter().all(few) || set == "CapBnd" && !root,
            "{set} {masks:?}"
        );
    }
    assert_eq!(instance.get("/").status, 200);
    instance.wait_said("the data plane's sandbox");
    assert_eq!(
        instance.status()["notices"].as_array().map(Vec::len),
        Some(0)
    );
}

#[test]
fn t16_a_config_without_the_sandbox_has_none_and_a_reload_says_that_it_waits() {
    let mut instance = Start::default().top("sandbox = false").ready();
    let seccomp = fields(&mut instance, "Seccomp:");
    assert!(seccomp.iter().all(|mode| mode == "0"), "{seccomp:?}");
    instance.wait_said("the data plane runs without its sandbox");
    let file = instance.dir.path().join("remuda.toml");
    let text = std::fs::read_to_string(&file).expect("the config");
    std::fs::write(&file, text.replace("sandbox = false", "sandbox = true")).expect("written");
    instance.signal(nix::sys::signal::Signal::SIGHUP);
    instance.wait("the note", |status| {
        let notices = status["notices"].to_string();
        notices.contains("`sandbox` changed, which needs a restart of remuda")
    });
}
