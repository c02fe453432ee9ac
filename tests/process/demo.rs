//! `remuda demo` as people run it: a real supervisor, real workers, real load.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::instance::processes_of;

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
    command
        .arg("demo")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn home(pid: u32) -> PathBuf {
    PathBuf::from(format!("/tmp/remuda-demo-{pid}"))
}

#[test]
fn the_demo_loses_nothing_and_rolls_the_broken_release_back() {
    let child = demo(&["--json"]).spawn().unwrap();
    let home = home(child.id());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let score = String::from_utf8(output.stdout).unwrap();
    let score: Value = serde_json::from_str(score.lines().last().unwrap()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{score:#} {said}");
    assert_eq!(score["type"], "result");
    assert_eq!(score["exit_code"], 0);
    assert_eq!(score["all"]["failed"], 0, "{score:#}");
    assert!(score["all"]["requests"].as_u64().unwrap() > 1_000);
    assert_eq!(score["good"]["state"], "completed");
    assert_eq!(score["broken"]["state"], "rolled_back");
    let words = score["broken"]["worker_said"].as_array().unwrap();
    assert!(
        words.contains(&Value::from("cannot open database")),
        "{words:?}"
    );
    assert!(!home.exists());
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let mut child = demo(&[]).spawn().unwrap();
    let home = home(child.id());
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().contains("proxy http://"));
    // Named before it is open; the first rollout is announced when there is load on it.
    assert!(said.next().unwrap().unwrap().starts_with("v1 → v2"));
    assert_ne!(processes_of(&home), [], "a supervisor and its workers run");
    let pid = i32::try_from(child.id()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!home.exists());
    // The port proves nothing: another demo takes it as soon as it is free.
    assert_eq!(processes_of(&home), []);
}
