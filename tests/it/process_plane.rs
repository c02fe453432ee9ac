//! The data plane as a process: its signals, its session, and what it ends when it is left alone.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getsid;
use remuda::link::message::{FromPlane, ToPlane};

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
