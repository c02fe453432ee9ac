//! The data plane as a process: its signals, its session, and what it ends when it is left alone.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getsid;
use remuda::link::message::{FromPlane, ToPlane};

use crate::h2::{ACK, PING, Raw};
use crate::plane::{Plane, open};
use crate::worker::Worker;

#[test]
fn a_plane_ignores_what_people_send_and_drains_at_term() {
    let a = Worker::named("a");
    let (mut plane, pid) = Plane::start_process();
    plane.publish(&[(10_000, &[open(1, a.address)])]);
    plane.accept();
    assert_eq!(getsid(Some(pid)), Ok(pid), "a session of its own");
    for signal in [
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ] {
        kill(pid, signal).expect("sent");
    }
    plane.send(&ToPlane::Ping(1));
    plane.wait(|message| matches!(message, FromPlane::Pong(1)).then_some(()));
    assert_eq!(plane.get("/").text(), "a");
    kill(pid, Signal::SIGTERM).expect("sent");
    plane.drained();
}

#[test]
fn a_plane_left_alone_ends_the_workers_it_knew() {
    let a = Worker::named("a");
    let mut child = Command::new("setsid")
        .args(["sleep", "1000"])
        // What the supervisor's workers bear, and all that they start: here we are the supervisor.
        .env("REMUDA_WORKER", format!("{}-7", Plane::our_name()))
        .spawn()
        .expect("spawn");
    let id = child.id();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(id).expect("a pid"));
    while getsid(Some(pid)) != Ok(pid) {
        std::thread::yield_now();
    }
    let (mut plane, _) = Plane::start_process();
    plane.publish(&[(10_000, &[open(1, a.address)])]);
    plane.abandon();
    let status = child.wait().expect("ours");
    assert_eq!(status.signal(), Some(15));
    plane.ended();
}

/// What a plane writes whose client sends answers to PINGs that nobody asked, if this filters its log.
fn log_of_an_odd_client(filter: Option<&str>) -> String {
    let a = Worker::named("a");
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("log");
    let mut program = Command::new(env!("CARGO_BIN_EXE_remuda"));
    program.stderr(File::create(&path).expect("a file"));
    program.env_remove("RUST_LOG").env_remove("REMUDA_LOG");
    if let Some(filter) = filter {
        program.env("REMUDA_LOG", filter);
    }
    let (mut plane, _) = Plane::start_program(program, 1, &[]);
    plane.publish(&[(10_000, &[open(1, a.address)])]);
    plane.accept();
    let mut raw = Raw::connect(plane.address);
    for _ in 0..100 {
        raw.send(PING, ACK, 0, &[7; 8]);
    }
    raw.send(PING, 0, 0, &[8; 8]);
    raw.until(PING);
    drop(raw);
    // What it says of its own is written behind all that.
    plane.abandon();
    plane.ended();
    std::fs::read_to_string(&path).expect("text")
}

#[test]
fn other_peoples_crates_do_not_fill_the_log_unless_they_are_asked_to() {
    let ours = "the supervisor is gone";
    let log = log_of_an_odd_client(None);
    assert!(log.contains(ours), "{log}");
    assert!(!log.contains("PING"), "{log}");
    let log = log_of_an_odd_client(Some("remuda=error,h2=warn"));
    assert!(!log.contains(ours), "{log}");
    assert!(log.contains("PING ack"), "{log}");
}
