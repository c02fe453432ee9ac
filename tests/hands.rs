//! The supervisor's hands on real processes: the shim, spawning, reaping, what workers leave behind.
//! Everything that waits for children runs one after the other, because a process waits for all of its own.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remuda::config::{Connect, Recipe};
use remuda::link::message::{Protocol, WorkerAddress};
use remuda::rollout::{Exit, Generation, ServiceName, Slot, WorkerId};
use remuda::shim::{Bytes, Change};
use remuda::supervisor::image::Image;
use remuda::supervisor::notify::{Notice, Notify};
use remuda::supervisor::place::Place;
use remuda::supervisor::ports::Ports;
use remuda::supervisor::reaper::Reaper;
use remuda::supervisor::remains::{Remains, kill_everything_but};
use remuda::supervisor::spawn::{Spawned, spawn};
use remuda::supervisor::spec::{Individual, Spec};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The least of a control loop: starts workers and waits for their end.
struct Hands {
    image: Image,
    reaper: Reaper,
    children: Signal,
    ended: BTreeMap<u32, Exit>,
    runtime: tempfile::TempDir,
    next: u64,
    /// The last worker's notify socket.
    notify: Option<Notify>,
    _alone: MutexGuard<'static, ()>,
}

/// What one worker printed and how it ended.
struct Ran {
    out: String,
    error: String,
    exit: Exit,
    bytes: Option<Bytes>,
}

impl Hands {
    fn new() -> Self {
        let runtime = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(runtime.path().join("w")).expect("mkdir");
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            image: Image::open_path(env!("CARGO_BIN_EXE_remuda")).expect("the binary"),
            reaper: Reaper::new().expect("subreaper"),
            children: signal(SignalKind::child()).expect("SIGCHLD"),
            ended: BTreeMap::new(),
            runtime,
            next: 0,
            notify: None,
            _alone: alone,
        }
    }

    /// Starts a worker; the place must live as long as it.
    fn start(&mut self, recipe: &Recipe) -> (Spawned, Place) {
        self.start_again(&resolved(recipe))
    }

    /// Starts another worker of the same generation.
    fn start_again(&mut self, spec: &Spec) -> (Spawned, Place) {
        self.next += 1;
        let (slot, generation) = (Slot(0), Generation(self.next));
        let ports = Ports::new((21_000, 21_999));
        let mut place = Place::make(
            &self.runtime.path().join("w"),
            None,
            (slot, generation),
            spec.connect(),
            &ports,
            spec.identity(),
        )
        .expect("a place");
        let mut notify = Notify::bind(&place.notify_path(), spec.identity()).expect("binds");
        let job = spec.job(Individual {
            worker: WorkerId(self.next),
            slot,
            generation,
            address: place.address(),
            notify: &place.notify_path(),
        });
        let listeners: Vec<OwnedFd> = place.take_listener().into_iter().collect();
        let spawned = spawn(
            &self.image,
            &mut self.reaper,
            job,
            listeners,
            spec.program(),
        )
        .expect("spawns");
        notify.expect_session(spawned.pid);
        self.notify = Some(notify);
        (spawned, place)
    }

    async fn exit(&mut self, pid: u32) -> Exit {
        loop {
            self.ended.extend(self.reaper.reap_all());
            if let Some(exit) = self.ended.remove(&pid) {
                return exit;
            }
            self.children.recv().await;
        }
    }

    async fn run(&mut self, recipe: &Recipe) -> Result<Ran, String> {
        self.run_again(&resolved(recipe)).await
    }

    async fn run_again(&mut self, spec: &Spec) -> Result<Ran, String> {
        let (mut spawned, _place) = self.start_again(spec);
        let outcome = spawned.outcome.await;
        let (mut out, mut error) = (String::new(), String::new());
        spawned.stdout.read_to_string(&mut out).await.expect("read");
        spawned
            .stderr
            .read_to_string(&mut error)
            .await
            .expect("read");
        let exit = self.exit(spawned.pid).await;
        outcome.map(|bytes| Ran {
            out,
            error,
            exit,
            bytes,
        })
    }
}

fn resolved(recipe: &Recipe) -> Spec {
    Spec::resolve(&ServiceName::new("app"), "r1", recipe).expect("resolves")
}

fn recipe(command: &[&str]) -> Recipe {
    Recipe {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        connect: Connect::Port,
        protocol: Protocol::Http1,
        cwd: None,
        env: Vec::new(),
        env_file: None,
        env_clear: false,
        user: None,
        group: None,
        umask: None,
    }
}

fn sh(script: &str) -> Recipe {
    recipe(&["/bin/sh", "-c", script])
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, what).await.expect("in time")
}

#[tokio::test]
async fn f15_a_worker_has_exactly_its_standard_and_promised_descriptors() {
    // A descriptor that leaks on purpose: inheritable, as a careless library would leave it.
    let mut hands = Hands::new();
    let careless = std::fs::File::open("/dev/null").expect("open");
    let flags = nix::fcntl::FdFlag::empty();
    nix::fcntl::fcntl(&careless, nix::fcntl::FcntlArg::F_SETFD(flags)).expect("fcntl");
    for (connect, expected) in [(Connect::Port, "0 1 2"), (Connect::Fd, "0 1 2 3")] {
        let mut recipe = recipe(&[
            "python3",
            "-c",
            "import os\nfds = []\nfor fd in range(0, 4096):\n    try: os.fstat(fd)\n    except OSError: continue\n    fds.append(fd)\nprint(*fds)",
        ]);
        recipe.connect = connect;
        let ran = within(hands.run(&recipe)).await.expect("runs");
        assert_eq!(ran.out.trim(), expected, "{}", ran.error);
        assert_eq!(ran.exit, Exit::Code(0));
    }
}

#[tokio::test]
async fn e7_an_inherited_listener_is_announced_with_the_workers_own_pid_and_serves() {
    let mut hands = Hands::new();
    let mut recipe = recipe(&[
        "python3",
        "-c",
        "import os,socket\nassert os.environ['LISTEN_PID'] == str(os.getpid())\nprint(os.environ['LISTEN_FDS'], os.environ['LISTEN_FDNAMES'], 'PORT' in os.environ)\ns = socket.socket(fileno=3)\nc, _ = s.accept()\nc.sendall(b'hello')\nc.close()",
    ]);
    recipe.connect = Connect::Fd;
    recipe.env_clear = true;
    recipe.env = vec![("PATH".into(), std::env::var("PATH").expect("PATH"))];
    let (mut spawned, place) = hands.start(&recipe);
    within(spawned.outcome).await.expect("executes");
    let WorkerAddress::Tcp(address) = *place.address() else {
        panic!("an inherited listener is TCP")
    };
    let mut client = tokio::net::TcpStream::connect(address)
        .await
        .expect("queued");
    let (mut heard, mut out) = (String::new(), String::new());
    within(client.read_to_string(&mut heard))
        .await
        .expect("read");
    within(spawned.stdout.read_to_string(&mut out))
        .await
        .expect("read");
    assert_eq!(heard, "hello");
    assert_eq!(out.trim(), "1 http False");
    assert_eq!(within(hands.exit(spawned.pid)).await, Exit::Code(0));
    // Our copy went with the hand-over: nothing listens once the worker is dead.
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn e7_a_worker_leads_its_own_session_with_clean_signals() {
    let mut hands = Hands::new();
    let script = "import os,signal\nprint(os.getsid(0) == os.getpid() == os.getpgid(0))\nprint(signal.pthread_sigmask(signal.SIG_BLOCK, []))\nprint([s for s in open('/proc/self/status') if s.startswith('SigIgn')][0].split()[1])";
    // Python itself ignores SIGPIPE (13) and SIGXFSZ (25) at start, so the shell looks.
    let ran = within(hands.run(&sh("grep -E '^Sig(Blk|Ign)' /proc/self/status")))
        .await
        .expect("runs");
    for line in ran.out.lines() {
        assert!(line.ends_with("0000000000000000"), "{}", ran.out);
    }
    let ran = within(hands.run(&recipe(&["python3", "-c", script])))
        .await
        .expect("runs");
    assert!(
        ran.out.starts_with("True\nset()\n"),
        "{}{}",
        ran.out,
        ran.error
    );
}

#[tokio::test]
async fn f37_each_reason_that_a_program_does_not_run_is_said_exactly() {
    let mut hands = Hands::new();
    let directory = tempfile::tempdir().expect("tempdir");
    let file = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    };
    file("text", "hello", 0o755);
    file("plain", "#!/bin/sh\n", 0o644);
    file("lost", "#!/no/such/interpreter -x\n", 0o755);
    for (program, expected) in [
        (
            "./server",
            "cannot execute \"./server\": No such file or directory (os error 2); looked for in ",
        ),
        (
            "no-such-program",
            "cannot execute \"no-such-program\": No such file or directory (os error 2); it is in none of the directories of the worker's PATH",
        ),
        (
            "./text",
            "cannot execute \"./text\": Exec format error (os error 8); ",
        ),
        (
            "./plain",
            "cannot execute \"./plain\": Permission denied (os error 13); try `chmod +x",
        ),
        (
            "./lost",
            "cannot execute \"./lost\": No such file or directory (os error 2); the file exists, but its first line asks for \"/no/such/interpreter\", which does not",
        ),
        (
            ".//",
            "cannot execute \".//\": Permission denied (os error 13); it is a directory",
        ),
    ] {
        let mut recipe = recipe(&[program]);
        recipe.cwd = Some(directory.path().to_owned());
        let error = within(hands.run(&recipe))
            .await
            .err()
            .expect("must not run");
        assert!(error.starts_with(expected), "{program}: {error}");
    }
}

#[tokio::test]
async fn the_program_is_found_in_the_workers_own_path_and_directory() {
    let mut hands = Hands::new();
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("only-here");
    std::fs::write(&path, "#!/bin/sh\npwd\numask\n").expect("write");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("chmod");
    let mut recipe = recipe(&["only-here"]);
    let directory = directory.path().canonicalize().expect("exists");
    recipe.env = vec![("PATH".into(), directory.display().to_string())];
    recipe.cwd = Some(directory.clone());
    recipe.umask = Some(0o027);
    let ran = within(hands.run(&recipe)).await.expect("runs");
    assert_eq!(
        ran.out,
        format!("{}\n0027\n", directory.display()),
        "{}",
        ran.error
    );
}

/// Puts a script under this name as a deploy does: written beside it and moved over it.
fn put(path: &Path, says: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, format!("#!/bin/sh\necho {says} $0\n")).expect("write");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&beside, mode).expect("chmod");
    std::fs::rename(&beside, path).expect("rename");
}

#[tokio::test]
async fn f62_f15_an_image_that_was_replaced_is_run_by_its_descriptor_which_does_not_leak() {
    let mut hands = Hands::new();
    for (connect, promised) in [(Connect::Port, ""), (Connect::Fd, "3\n")] {
        let directory = tempfile::tempdir().expect("tempdir");
        let directory = directory.path().canonicalize().expect("exists");
        std::fs::create_dir_all(&directory).expect("made");
        let server = directory.join("server");
        std::fs::copy("/bin/sh", &server).expect("copied");
        // Only what the shell itself can do: another program would have descriptors of its own.
        let look = "n=3; while [ $n -lt 40 ]; do [ -e /proc/$$/fd/$n ] && echo $n; n=$((n+1)); done; \
                    read name < /proc/$$/comm; echo $0 $name; readlink /proc/$$/exe";
        let mut recipe = recipe(&["./server", "-c", look, "old"]);
        recipe.cwd = Some(directory.clone());
        recipe.connect = connect;
        let spec = resolved(&recipe);
        let exe = server.display();

        let ran = within(hands.run_again(&spec)).await.expect("runs");
        assert_eq!(ran.out, format!("{promised}old server\n{exe}\n"));
        assert_eq!(ran.bytes, None, "by its name");
        put(&server, "new");
        for _ in 0..2 {
            let ran = within(hands.run_again(&spec)).await.expect("runs");
            assert!(
                ran.out.starts_with(&format!("{promised}old ")),
                "{}",
                ran.out
            );
            assert!(
                ran.out.ends_with(&format!("{exe} (deleted)\n")),
                "{}",
                ran.out
            );
            assert_eq!(ran.bytes, Some(Bytes::Kept));
            let _ = std::fs::remove_file(&server);
        }
        // Another generation finds nothing there.
        let error = within(hands.run(&recipe)).await.err().expect("is gone");
        assert!(error.contains("No such file"), "{error}");
    }
}

#[tokio::test]
async fn f62_a_script_that_was_replaced_or_written_over_is_run_by_its_name_and_told() {
    let mut hands = Hands::new();
    let directory = tempfile::tempdir().expect("tempdir");
    let server = directory.path().join("server");
    let mut recipe = recipe(&["./server"]);
    recipe.cwd = Some(directory.path().to_owned());
    put(&server, "old");
    let spec = resolved(&recipe);
    let ran = within(hands.run_again(&spec)).await.expect("runs");
    assert_eq!((&*ran.out, ran.bytes), ("old ./server\n", None));
    // A deploy that sets rights and owners of everything changes no bytes.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
    std::fs::set_permissions(&server, mode).expect("chmod");
    let ran = within(hands.run_again(&spec)).await.expect("runs");
    assert_eq!((&*ran.out, ran.bytes), ("old ./server\n", None));

    std::fs::write(&server, "#!/bin/sh\necho longer $0\n").expect("write");
    let ran = within(hands.run_again(&spec)).await.expect("runs");
    let bytes = Some(Bytes::Changed(Change::WrittenOver));
    assert_eq!((&*ran.out, ran.bytes), ("longer ./server\n", bytes));
    put(&server, "new");
    let ran = within(hands.run_again(&spec)).await.expect("runs");
    let bytes = Some(Bytes::Changed(Change::Replaced));
    assert_eq!((&*ran.out, ran.bytes), ("new ./server\n", bytes));
    let ran = within(hands.run(&recipe)).await.expect("runs");
    assert_eq!(ran.bytes, None, "another generation begins with it");
}

#[tokio::test]
async fn f62_a_program_is_looked_for_in_the_path_once_for_all_workers() {
    let mut hands = Hands::new();
    let directory = tempfile::tempdir().expect("tempdir");
    let at = |name: &str| directory.path().join(name);
    for place in ["first", "second"] {
        std::fs::create_dir(at(place)).expect("mkdir");
    }
    put(&at("second/server"), "second");
    let mut recipe = recipe(&["server"]);
    let path = std::env::join_paths([at("first"), at("second")]).expect("joins");
    recipe.env = vec![("PATH".into(), path.into_string().expect("UTF-8"))];
    let spec = resolved(&recipe);
    let second = format!("second {}\n", at("second/server").display());
    let ran = within(hands.run_again(&spec)).await.expect("runs");
    assert_eq!((&*ran.out, ran.bytes), (&*second, None));
    put(&at("first/server"), "first");
    let ran = within(hands.run_again(&spec)).await.expect("runs");
    assert_eq!((&*ran.out, ran.bytes), (&*second, None));
    let ran = within(hands.run(&recipe)).await.expect("runs");
    assert!(ran.out.starts_with("first "), "{}", ran.out);
}

#[tokio::test]
async fn t14_what_is_addressed_to_us_is_not_handed_down() {
    let mut hands = Hands::new();
    let ran = within(hands.run(&sh("env"))).await.expect("runs");
    let names: Vec<&str> = ran
        .out
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    assert!(
        names.contains(&"PATH") && names.contains(&"PORT"),
        "{names:?}"
    );
    assert!(!names.contains(&"LISTEN_FDS"), "{names:?}");
    assert!(ran.out.contains("REMUDA_SERVICE=app\n") && ran.out.contains("NOTIFY_SOCKET=/"));
}

#[tokio::test]
async fn t15_another_user_is_for_good() {
    let mut hands = Hands::new();
    if !nix::unistd::geteuid().is_root() {
        // Only root may change the user: then the refusal must be a sentence.
        let mut recipe = sh("true");
        recipe.user = Some("0".into());
        recipe.group = Some("0".into());
        let error = within(hands.run(&recipe)).await.err().expect("refused");
        assert!(error.starts_with("cannot become user 0"), "{error}");
        return;
    }
    let mut recipe = sh(
        "id -u; id -g; id -G; grep NoNewPrivs /proc/self/status; grep -c 'Cap.*0000000000000000$' /proc/self/status; pwd",
    );
    recipe.user = Some("65534".into());
    recipe.group = Some("65534".into());
    recipe.cwd = Some(Path::new("/").to_owned());
    let ran = within(hands.run(&recipe)).await.expect("runs");
    assert_eq!(
        ran.out, "65534\n65534\n65534\nNoNewPrivs:\t1\n5\n/\n",
        "{}",
        ran.error
    );
    let ran = within(hands.run(&sh("grep NoNewPrivs /proc/self/status")))
        .await
        .expect("runs");
    assert_eq!(ran.out, "NoNewPrivs:\t0\n");
}

#[tokio::test]
async fn f19_an_end_is_reported_with_its_signal() {
    let mut hands = Hands::new();
    for (signal, name) in [(9, "SIGKILL"), (11, "SIGSEGV"), (34, "signal 34")] {
        let ran = within(hands.run(&sh(&format!("kill -{signal} $$"))))
            .await
            .expect("runs");
        assert!(ran.exit.to_string().contains(name), "{}", ran.exit);
    }
    let ran = within(hands.run(&sh("exit 7"))).await.expect("runs");
    assert_eq!(ran.exit, Exit::Code(7));
}

#[tokio::test]
async fn f24_a_worker_that_ignores_term_is_killed_and_a_reaped_pid_never_signalled() {
    let mut hands = Hands::new();
    let (mut spawned, _place) =
        hands.start(&sh("trap '' TERM; echo up; while :; do sleep 1; done"));
    within(spawned.outcome).await.expect("executes");
    let mut up = [0; 3];
    within(spawned.stdout.read_exact(&mut up))
        .await
        .expect("up");
    assert!(hands.reaper.terminate(spawned.pid));
    assert!(hands.reaper.is_live(spawned.pid));
    assert!(hands.reaper.kill_group(spawned.pid));
    let exit = within(hands.exit(spawned.pid)).await;
    assert_eq!(exit.to_string(), "killed by SIGKILL");
    assert!(!hands.reaper.terminate(spawned.pid));
    assert!(!hands.reaper.kill_group(spawned.pid));
    // `sleep` was in the group and is ours now: reaped as well (F28).
    within(async {
        while std::fs::read_to_string("/proc/thread-self/children")
            .is_ok_and(|c| !c.trim().is_empty())
        {
            hands.ended.extend(hands.reaper.reap_all());
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A tree of twenty under one worker; every second one in a session of its own, every fifth without the
/// environment, all deaf to SIGTERM.
const TREE: &str = r"
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for n in range(20):
    if os.fork() == 0:
        if n % 2 == 0: os.setsid()
        code = 'import os,signal,time; signal.signal(15, signal.SIG_IGN); os.write(1, bytes([46])); time.sleep(600)'
        os.execve(sys.executable, [sys.executable, '-c', code], {} if n % 5 == 0 and n % 2 == 1 else os.environ)
time.sleep(600)
";

#[tokio::test]
async fn f26_a_tree_that_outlives_its_worker_is_found_and_ended() {
    let mut hands = Hands::new();
    let (mut spawned, _place) = hands.start(&recipe(&["python3", "-c", TREE]));
    let remains = Remains::new(WorkerId(hands.next), spawned.pid);
    within(spawned.outcome).await.expect("executes");
    let mut dots = [0; 20];
    within(spawned.stdout.read_exact(&mut dots))
        .await
        .expect("all up");
    assert_eq!(remains.find().len(), 21);
    // A neighbour must not be touched.
    let (neighbour, _its_place) = hands.start(&sh("exec sleep 600"));
    within(neighbour.outcome).await.expect("executes");

    assert!(hands.reaper.kill(spawned.pid));
    within(hands.exit(spawned.pid)).await;
    assert_eq!(remains.find().len(), 20);
    assert_eq!(remains.terminate(), 20);
    assert_eq!(remains.find().len(), 20, "they are deaf");
    assert!(remains.kill() >= 20);
    within(async {
        while !remains.find().is_empty() {
            hands.ended.extend(hands.reaper.reap_all());
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(hands.reaper.is_live(neighbour.pid));
    assert!(hands.reaper.kill_group(neighbour.pid));
    within(hands.exit(neighbour.pid)).await;
}

#[tokio::test]
async fn f27_a_worker_that_daemonises_leaves_something_that_is_found() {
    let mut hands = Hands::new();
    let (mut spawned, _place) = hands.start(&sh(
        "setsid sh -c 'setsid sleep 600 & echo up' & wait; exit 0",
    ));
    let remains = Remains::new(WorkerId(hands.next), spawned.pid);
    within(spawned.outcome).await.expect("executes");
    let mut up = [0; 2];
    within(spawned.stdout.read_exact(&mut up))
        .await
        .expect("up");
    assert_eq!(within(hands.exit(spawned.pid)).await, Exit::Code(0));
    // In the middle of an exec it shows no environment by which it could be known.
    within(async {
        while remains.find().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(remains.kill() >= 1);
    within(async {
        while !remains.find().is_empty() {
            hands.ended.extend(hands.reaper.reap_all());
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn e3_a_worker_is_terminated_when_the_thread_that_started_it_ends() {
    let mut hands = Hands::new();
    let image = Image::open_path(env!("CARGO_BIN_EXE_remuda")).expect("the binary");
    let spec = Spec::resolve(&ServiceName::new("app"), "", &sh("echo up; exec sleep 600"))
        .expect("resolves");
    let job = spec.job(Individual {
        worker: WorkerId(1),
        slot: Slot(0),
        generation: Generation(1),
        address: &WorkerAddress::Unix("/unused".into()),
        notify: Path::new("/unused"),
    });
    let mut wrong = job.clone();
    wrong.parent = 1;
    // The supervisor stands in as a thread: its end is what the kernel looks at.
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let (started, hear) = tokio::sync::oneshot::channel();
    let life = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("runtime").block_on(async {
            let mut reaper = Reaper::new().expect("subreaper");
            let refused = spawn(&image, &mut reaper, wrong, Vec::new(), None).expect("spawns");
            let why = refused.outcome.await.expect_err("another parent");
            assert!(why.contains("is gone"), "{why}");
            let mut spawned = spawn(&image, &mut reaper, job, Vec::new(), None).expect("spawns");
            spawned.outcome.await.expect("executes");
            let mut up = [0; 2];
            spawned.stdout.read_exact(&mut up).await.expect("up");
            started.send(spawned.pid).expect("heard");
            wait.recv().expect_err("told to end");
        });
    });
    let pid = within(hear).await.expect("started");
    drop(end);
    assert_eq!(
        within(hands.exit(pid)).await.to_string(),
        "killed by SIGTERM"
    );
    life.join().expect("no panic");
}

#[tokio::test]
async fn f28_orphans_come_to_us_and_are_reaped() {
    let mut hands = Hands::new();
    let (mut spawned, _place) = hands.start(&sh("(setsid sh -c 'echo $$; exit 5' &) ; sleep 600"));
    within(spawned.outcome).await.expect("executes");
    let mut pid = [0; 16];
    let length = within(spawned.stdout.read(&mut pid)).await.expect("read");
    let orphan = String::from_utf8_lossy(&pid[..length])
        .trim()
        .parse()
        .expect("a pid");
    assert_eq!(within(hands.exit(orphan)).await, Exit::Code(5));
    assert!(hands.reaper.kill_group(spawned.pid));
    within(hands.exit(spawned.pid)).await;
}

#[tokio::test]
async fn a_child_of_the_worker_may_say_that_it_is_ready() {
    let mut hands = Hands::new();
    let (spawned, place) = hands.start(&recipe(&[
        "python3",
        "-c",
        "import os,socket,subprocess,sys,time\ncode = 'import os,socket,time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(os.environ[\"NOTIFY_SOCKET\"]); s.send(b\"STATUS=up\" + bytes([10]) + b\"READY=1\"); time.sleep(600)'\nsubprocess.run([sys.executable, '-c', code])",
    ]));
    within(spawned.outcome).await.expect("executes");
    let mut notify = hands.notify.take().expect("bound");
    let notices = within(notify.recv()).await.expect("recv");
    assert_eq!(notices, [Notice::Status("up".into()), Notice::Ready]);
    let directory = place.notify_path();
    place.clear();
    assert!(!directory.parent().is_some_and(Path::exists));
    assert!(hands.reaper.kill_group(spawned.pid));
    within(hands.exit(spawned.pid)).await;
}

#[tokio::test]
async fn t18_a_worker_of_another_user_reaches_its_own_directory_and_no_other() {
    let mut hands = Hands::new();
    if !nix::unistd::geteuid().is_root() {
        // Nobody else can change users; the refusal is tested above.
        return;
    }
    let outer = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(hands.runtime.path(), outer).expect("chmod");
    let script = "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.bind('$1'); print('bound')\"; ls $2 $3 2>/dev/null; echo end";
    let socket = hands.runtime.path().join("w/0-1/s");
    let (ours, others) = (
        hands.runtime.path().join("w"),
        hands.runtime.path().to_owned(),
    );
    let text = |path: &Path| path.display().to_string();
    let mut recipe = recipe(&[
        "/bin/sh",
        "-c",
        script,
        "sh",
        "{socket}",
        &text(&ours),
        &text(&others),
    ]);
    recipe.connect = Connect::Socket;
    recipe.user = Some("65534".into());
    recipe.group = Some("65534".into());
    recipe.env = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
    recipe.cwd = Some("/".into());
    let ran = within(hands.run(&recipe)).await.expect("runs");
    assert_eq!(ran.out, "bound\nend\n", "{}", ran.error);
    assert!(!socket.exists(), "cleared with its place");
}

#[tokio::test]
async fn f26_what_has_shed_session_and_environment_is_ended_at_the_very_end() {
    let mut hands = Hands::new();
    let (mut spawned, _place) = hands.start(&sh(
        "(setsid env -i /bin/sh -c 'echo $$; exec sleep 600' &) ; sleep 600",
    ));
    let remains = Remains::new(WorkerId(hands.next), spawned.pid);
    within(spawned.outcome).await.expect("executes");
    let mut pid = [0; 16];
    let length = within(spawned.stdout.read(&mut pid)).await.expect("read");
    let escaped = String::from_utf8_lossy(&pid[..length])
        .trim()
        .parse()
        .expect("a pid");
    assert!(
        !remains.find().contains(&escaped),
        "nothing tells whose it is"
    );
    assert_eq!(kill_everything_but(&[spawned.pid]), 1);
    let exit = within(hands.exit(escaped)).await;
    assert_eq!(exit.to_string(), "killed by SIGKILL");
    assert!(hands.reaper.is_live(spawned.pid));
    assert!(hands.reaper.kill_group(spawned.pid));
    within(hands.exit(spawned.pid)).await;
}
