//! The public sockets: what waits in their queue, who unlinks their paths, what happens without
//! descriptors, and readiness by message.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::http::Client;
use super::support::instance::Start;
use super::support::watch::plane;

#[test]
fn f01_connections_that_wait_in_the_queue_are_served_by_the_successor() {
    let mut instance = Start::default().ready();
    let status = instance.wait("a plane", |status| plane(status).is_some());
    let victim = Pid::from_raw(plane(&status).expect("just seen"));
    // Stopped, it accepts nothing more: all of these wait in the socket's queue.
    kill(victim, Signal::SIGSTOP).expect("it lives");
    instance.wait("every thread of it to be stopped", |_| is_stopped(victim));
    let mut waiting: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = Client::tcp(instance.address).expect("never refused");
            client
                .send("GET", "/", &[], b"")
                .expect("the kernel takes it");
            client
        })
        .collect();
    kill(victim, Signal::SIGKILL).expect("it lives");
    for (n, client) in waiting.iter_mut().enumerate() {
        let answer = client
            .answer(false)
            .unwrap_or_else(|error| panic!("connection {n}: {error}"));
        assert_eq!(answer.status, 200);
    }
}

fn is_stopped(pid: Pid) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .expect("it lives")
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .all(|stat| {
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('T'))
        })
}

#[test]
fn f04_f05_a_unix_listener_outlives_planes_stays_non_blocking_and_goes_at_the_end() {
    let dir = tempfile::Builder::new()
        .prefix("rmd")
        .tempdir()
        .expect("a temporary directory");
    let path = dir.path().join("public.sock");
    let listen = format!("unix:{}", path.display());
    let mut instance = Start::default().flags(&["--listen", &listen]).launch();
    instance.wait("all workers to be ready", |status| {
        let app = &status["services"]["app"];
        app["ready"] == app["wanted"] && plane(status).is_some()
    });
    let get = || {
        Client::unix(&path)
            .and_then(|mut client| client.get("/"))
            .map(|answer| answer.status)
    };
    assert_eq!(get().expect("served"), 200);
    let status = instance.status();
    let victim = plane(&status).expect("it serves");
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("it lives");
    instance.wait("the successor", |status| {
        plane(status).is_some_and(|pid| pid != victim)
    });
    assert_eq!(get().expect("the path is still there"), 200);
    assert!(
        is_non_blocking(instance.pid(), &path),
        "O_NONBLOCK belongs to the shared description"
    );
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0));
    assert!(!path.exists(), "its owner removed it");
}

#[test]
fn f68_a_removed_socket_and_pid_file_are_made_again_and_nobody_notices() {
    let start = Start::default();
    let path = start.place().join("public.sock");
    let pid_file = start.place().join("pid");
    let listen = format!("unix:{}", path.display());
    let pid_path = pid_file.display().to_string();
    let mut instance = start
        .flags(&["--listen", "127.0.0.1:0", "--listen", &listen])
        .flags(&["--pid-file", &pid_path])
        .launch();
    let status = instance.wait("all workers to be ready", |status| {
        let app = &status["services"]["app"];
        app["ready"] == app["wanted"] && plane(status).is_some()
    });
    let serving = plane(&status).expect("just seen");
    let mut kept = Client::unix(&path).expect("it is there");
    assert_eq!(kept.get("/").expect("served").status, 200);

    // Stopped, it accepts nothing: these wait in the queue of the socket that is about to lose its path.
    let victim = Pid::from_raw(serving);
    kill(victim, Signal::SIGSTOP).expect("it lives");
    instance.wait("every thread of it to be stopped", |_| is_stopped(victim));
    let mut waiting: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::unix(&path).expect("never refused");
            client.send("GET", "/", &[], b"").expect("taken");
            client
        })
        .collect();
    let written = std::fs::read(&pid_file).expect("there");
    std::fs::remove_file(&path).expect("removed");
    std::fs::remove_file(&pid_file).expect("removed");
    for what in ["what=\"socket\"", "what=\"pid_file\""] {
        instance.wait_metric("remuda_runtime_restored_total", &[what], 1.0);
    }
    kill(victim, Signal::SIGCONT).expect("it lives");
    for client in &mut waiting {
        assert_eq!(client.answer(false).expect("served").status, 200);
    }
    let get = || {
        let mut client = Client::unix(&path)?;
        client.get("/").map(|answer| answer.status)
    };
    assert_eq!(get().expect("the path is there again"), 200);
    assert_eq!(kept.get("/").expect("the connection stands").status, 200);
    assert_eq!(std::fs::read(&pid_file).expect("there again"), written);
    assert_eq!(plane(&instance.status()), Some(serving), "the same plane");
    instance.wait_said("made again");

    kill(victim, Signal::SIGKILL).expect("it lives");
    instance.wait("the successor", |status| {
        plane(status).is_some_and(|pid| pid != serving)
    });
    assert_eq!(get().expect("the successor has it"), 200);
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0));
    assert!(!path.exists() && !pid_file.exists());
}

/// The process's descriptor of the socket bound to the path has O_NONBLOCK (04000) set.
fn is_non_blocking(pid: u32, path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/net/unix").expect("proc is mounted");
    // The kernel shows the name it was bound to, before the rename.
    let dir = path.parent().and_then(Path::to_str).expect("ASCII");
    let bound: Vec<String> = table
        .lines()
        .filter(|line| line.contains(dir))
        .filter_map(|line| line.split_ascii_whitespace().nth(6))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let listener = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it is ours")
        .flatten()
        .find(|entry| {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            bound
                .iter()
                .any(|socket| target.as_os_str() == socket.as_str())
        })
        .expect("it holds the listener");
    let info = format!(
        "/proc/{pid}/fdinfo/{}",
        listener.file_name().to_string_lossy()
    );
    let info = std::fs::read_to_string(info).expect("it is ours");
    let flags = info
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .expect("it has flags");
    u32::from_str_radix(flags.trim(), 8).expect("octal") & 0o4000 != 0
}

#[test]
fn f16_without_descriptors_it_neither_spins_nor_dies_and_recovers() {
    let mut instance = Start::default().open_files(90).ready();
    let status = instance.wait("a plane", |status| plane(status).is_some());
    let serving = plane(&status).expect("just seen");
    let mut held: Vec<Client> = Vec::new();
    for _ in 0..150 {
        held.push(Client::tcp(instance.address).expect("the queue takes it"));
    }
    // The time in which a naive loop would spin is what is looked at here.
    let before = cpu_ticks(serving);
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let busy = cpu_ticks(serving).saturating_sub(before);
    let ticks_per_second = 100;
    let share = busy as f64 / (began.elapsed().as_secs_f64() * f64::from(ticks_per_second));
    assert!(share < 0.2, "{:.0} % of a processor", share * 100.0);
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !Client::tcp(instance.address)
        .and_then(|mut client| client.get("/"))
        .is_ok_and(|answer| answer.status == 200)
    {
        assert!(Instant::now() < deadline, "it does not recover");
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = instance.wait("the status", |_| true);
    assert_eq!(plane(&after), Some(serving), "it was not replaced");
}

fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    let words: Vec<&str> = rest.split(' ').collect();
    [11, 12]
        .iter()
        .filter_map(|&n| words.get(n)?.parse::<u64>().ok())
        .sum()
}

#[test]
fn f22_with_notify_a_worker_is_probed_only_after_it_said_ready_and_is_ready_only_when_it_answers() {
    let mut instance = Start::default()
        .service("health = { notify = true }")
        .knob("notify_file", "1")
        .launch();
    let said = instance.dir.path().join("say-ready");
    instance.wait("the workers to be there", |status| {
        status["services"]["app"]["generations"][0]["workers"]
            .as_array()
            .is_some_and(|all| all.len() == 2 && all.iter().all(|worker| worker["pid"].is_number()))
    });
    let status = instance.status();
    assert_eq!(status["services"]["app"]["ready"], 0, "{status:#}");
    std::fs::write(&said, "now").expect("the directory is writable");
    instance.wait("both to be ready", |status| {
        status["services"]["app"]["ready"] == 2
    });
    assert_eq!(instance.get("/").status, 200);
}
