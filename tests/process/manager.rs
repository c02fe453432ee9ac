//! What a service manager such as systemd hears of a start, a reload and a stop.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::instance::Start;
use super::support::load::{Load, Mix};
use super::support::watch::workers;

/// The socket that `NOTIFY_SOCKET` names; who reads there waits for a moment.
pub(super) fn listen(name: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(name).expect("binds");
    let patience = Some(Duration::from_millis(50));
    socket.set_read_timeout(patience).expect("it is a socket");
    socket
}

/// Such a socket, and what came.
struct Heard {
    socket: UnixDatagram,
    lines: Vec<String>,
}

impl Heard {
    /// A manager that listens there.
    fn at(name: &Path) -> Self {
        Self {
            socket: listen(name),
            lines: Vec::new(),
        }
    }

    /// Reads on until such a line has come; returns it and forgets it and all before.
    fn until(&mut self, what: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.lines.iter().position(|line| line.starts_with(what)) {
                return self.lines.drain(..=at).next_back().expect("just found");
            }
            assert!(Instant::now() < deadline, "no {what}: {:?}", self.lines);
            self.read();
        }
    }

    fn read(&mut self) {
        let mut text = [0; 4096];
        if let Ok(length) = self.socket.recv(&mut text) {
            let text = String::from_utf8_lossy(&text[..length]);
            self.lines.extend(text.lines().map(str::to_owned));
        }
    }
}

#[test]
fn a_service_manager_hears_ready_reloading_and_stopping() {
    let start = Start::default().knob("never_listen", "1");
    let name = start.place().join("manager");
    let mut heard = Heard::at(&name);
    let mut instance = start.env("NOTIFY_SOCKET", &name).launch();
    let status = heard.until("STATUS=");
    assert!(status.contains("app: 0 of 2 workers serve"), "{status}");
    let status = instance.wait("the workers and a plane that accepts", |status| {
        let pids = workers(&status["services"]["app"]).filter(|worker| worker["pid"].is_u64());
        pids.count() == 2 && status["data_planes"][0]["state"] == "accepting"
    });
    heard.read();
    assert!(
        !heard.lines.contains(&"READY=1".to_owned()),
        "nobody serves: {:?}",
        heard.lines
    );
    // Those that come in their place are well.
    instance.knobs.set(&[]);
    for worker in workers(&status["services"]["app"]) {
        let pid = worker["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        kill(Pid::from_raw(pid.expect("just seen")), Signal::SIGKILL).expect("it lives");
    }
    heard.until("READY=1");
    assert_eq!(instance.get("/").status, 200, "ready is ready");

    instance.signal(Signal::SIGHUP);
    heard.until("RELOADING=1");
    let since = heard.until("MONOTONIC_USEC=");
    let micros: u64 = since[15..].parse().expect("a number");
    let uptime = std::fs::read_to_string("/proc/uptime").expect("proc is mounted");
    let up: f64 = uptime
        .split(' ')
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .expect("seconds");
    assert!(
        micros > 0 && micros as f64 <= up * 1e6 + 1e6,
        "{micros} {up}"
    );
    heard.until("READY=1");

    instance.signal(Signal::SIGTERM);
    heard.until("STOPPING=1");
    let longer = heard.until("EXTEND_TIMEOUT_USEC=");
    let micros: u64 = longer[20..].parse().expect("a number");
    assert!(micros > 60_000_000, "beyond `stop_timeout`: {micros}");
    assert_eq!(instance.ended().code(), Some(0), "{}", instance.said());
    heard.read();
    assert!(
        !heard.lines.contains(&"READY=1".to_owned()),
        "{:?}",
        heard.lines
    );
}

#[test]
fn a_service_manager_is_told_how_many_serve_the_generation_that_it_is_told_of() {
    let start = Start::default().flags(&["--workers", "1", "--ramp", "40s"]);
    let name = start.place().join("manager");
    let mut heard = Heard::at(&name);
    let instance = start.env("NOTIFY_SOCKET", &name).ready();
    let load = Load::known_to(&instance, Mix::PLAIN, 20);
    instance.signal(Signal::SIGUSR2);
    let status = loop {
        let status = heard.until("STATUS=");
        if status.contains("share of generation 2") && !status.contains("(now 0 %)") {
            break status;
        }
    };
    let expected = "STATUS=app: 1 of 1 workers serve generation 1, 1 generation 2, waiting for";
    assert!(status.starts_with(expected), "{status}");
    drop(load.stop());
}

#[test]
fn a_service_manager_with_a_watchdog_hears_that_the_loop_turns() {
    let start = Start::default();
    let name = start.place().join("manager");
    let mut heard = Heard::at(&name);
    let _instance = start
        .env("NOTIFY_SOCKET", &name)
        .env("WATCHDOG_USEC", "1000000")
        .launch();
    let began = Instant::now();
    for _ in 0..5 {
        heard.until("WATCHDOG=1");
    }
    // The first comes at once, the others half a second apart.
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(began.elapsed() > Duration::from_secs(1));
}

#[test]
fn a_service_manager_that_does_not_listen_holds_up_nothing() {
    let start = Start::default();
    let name = start.place().join("manager");
    // Bound and never read: its queue is full after a few lines.
    let _deaf = UnixDatagram::bind(&name).expect("binds");
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("it is a socket");
    while filler.send_to(b"STATUS=full", &name).is_ok() {}
    let mut instance = start.env("NOTIFY_SOCKET", &name).ready();
    assert_eq!(instance.get("/").status, 200);
    instance.signal(Signal::SIGHUP);
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0), "{}", instance.said());
}
