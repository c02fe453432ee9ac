//! Programs whose files change on disk while their generations live (F62).

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::support::checker::assert_clean;
use super::support::instance::{Instance, Start};
use super::support::load::{Load, Mix};
use super::support::watch::workers;
use super::support::worker;

fn app(status: &Value) -> &Value {
    &status["services"]["app"]
}

/// The scripted worker, under this name.
fn command(program: &Path) -> Vec<String> {
    let mut command = worker::command();
    program.to_str().expect("ASCII").clone_into(&mut command[0]);
    command
}

fn started(program: &Path, start: Start) -> Instance {
    let command = command(program);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    start
        .flags(&["--soak", "40s", "--ramp", "0s"])
        .command(&command)
        .ready()
}

/// Moves a fresh copy of the test program over this name, as a deploy does. Returns its number.
fn put_image(program: &Path) -> u64 {
    let beside = program.with_extension("new");
    let this = std::env::current_exe().expect("the test program has a path");
    std::fs::copy(this, &beside).expect("there is room");
    let number = std::fs::metadata(&beside).expect("it is there").ino();
    std::fs::rename(&beside, program).expect("writable");
    number
}

/// The same with a script that becomes the test program.
fn put_script(program: &Path, text: &str) {
    let beside = program.with_extension("new");
    let this = std::env::current_exe().expect("the test program has a path");
    let script = format!("#!/bin/sh\n# {text}\nexec {} \"$@\"\n", this.display());
    std::fs::write(&beside, script).expect("writable");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&beside, mode).expect("it is ours");
    std::fs::rename(&beside, program).expect("writable");
}

/// Which generation runs which file, in each worker that serves.
fn images(status: &Value) -> Vec<(u64, u64)> {
    let ready = workers(app(status)).filter(|worker| worker["state"] == "ready");
    let mut all: Vec<_> = ready
        .map(|worker| {
            let exe = format!("/proc/{}/exe", worker["pid"]);
            let file = std::fs::metadata(exe).expect("it lives");
            (worker["generation"].as_u64().expect("a number"), file.ino())
        })
        .collect();
    all.sort_unstable();
    all
}

/// Descriptors of the supervisor that lead to this program, or to what it was.
fn held(instance: &Instance, program: &Path) -> usize {
    let all = std::fs::read_dir(format!("/proc/{}/fd", instance.pid())).expect("it lives");
    let targets = all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| {
            target
                .to_string_lossy()
                .starts_with(program.to_str().expect("ASCII"))
        })
        .count()
}

fn watching(instance: &mut Instance, to: u64) {
    instance.wait("the first batch to be watched", |status| {
        let rollout = &app(status)["rollout"];
        rollout["to"] == to && rollout["step"]["name"] == "soaking"
    });
}

/// Waits until only workers of this generation are left, and all of them serve.
fn alone(instance: &mut Instance, generation: u64) -> Value {
    instance.wait("the others to be gone", |status| {
        let app = app(status);
        app["generation"] == generation
            && workers(app).all(|of| of["generation"] == generation && of["state"] == "ready")
            && app["ready"] == app["wanted"]
    })
}

fn crash_one(instance: &mut Instance) {
    let status = instance.status();
    let pid = workers(app(&status))
        .next()
        .and_then(|worker| worker["pid"].as_i64())
        .expect("a worker");
    let raw = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    kill(raw, Signal::SIGKILL).expect("it lives");
    instance.wait("its successor", |status| {
        let app = app(status);
        app["ready"] == app["wanted"] && workers(app).all(|of| of["pid"].as_i64() != Some(pid))
    });
}

fn program(start: &Start) -> PathBuf {
    // As `/proc` will name it.
    let place = start.place().canonicalize().expect("it is there");
    place.join("server")
}

#[test]
fn f62_a_generation_runs_the_bytes_it_began_with_whatever_is_put_in_their_place() {
    let start = Start::default();
    let program = program(&start);
    let first = put_image(&program);
    let mut instance = started(&program, start);
    let load = Load::known_to(&instance, Mix::PLAIN, 20);
    assert_eq!(images(&instance.status()), [(1, first), (1, first)]);

    // Another deploy in the middle of a rollout.
    let second = put_image(&program);
    let waiting = instance.cli_begin(&["rollout"]);
    watching(&mut instance, 2);
    let third = put_image(&program);
    assert!(first != second && second != third && first != third);
    crash_one(&mut instance);
    instance.cli(&["promote"]).expect(0);
    waiting.end().expect(0).says_none_of(&["note:"]);
    assert_eq!(images(&alone(&mut instance, 2)), [(2, second), (2, second)]);
    crash_one(&mut instance);
    assert_eq!(images(&alone(&mut instance, 2)), [(2, second), (2, second)]);
    instance.wait_said("runs the program that generation 2 began with");

    // Back to what nothing names any more.
    let waiting = instance.cli_begin(&["rollback"]);
    watching(&mut instance, 3);
    instance.cli(&["promote"]).expect(0);
    waiting.end().expect(0).says_none_of(&["note:"]);
    let status = alone(&mut instance, 3);
    assert_eq!(images(&status), [(3, first), (3, first)]);
    assert_eq!(status["notices"], serde_json::json!([]), "{status:#}");

    // The next rollout takes up what is there, and what nobody can go back to is let go of.
    let waiting = instance.cli_begin(&["rollout"]);
    watching(&mut instance, 4);
    instance.cli(&["promote"]).expect(0);
    waiting.end().expect(0);
    assert_eq!(images(&alone(&mut instance, 4)), [(4, third), (4, third)]);
    assert_eq!(
        held(&instance, &program),
        2,
        "the stable one and the one before"
    );
    drop(load.stop());
}

#[test]
fn f62_a_program_that_does_not_run_without_its_name_is_run_by_it_and_that_is_told() {
    let start = Start::default()
        .knob("needs_its_name", "1")
        .service("restart = { first = \"50ms\", most = \"100ms\" }");
    let program = program(&start);
    let old = put_image(&program);
    let mut instance = started(&program, start);
    let new = put_image(&program);
    crash_one(&mut instance);
    let status = instance.status();
    let mut expected = [(1, old), (1, new)];
    expected.sort_unstable();
    assert_eq!(images(&status), expected);
    let notices = status["notices"].to_string();
    assert!(
        notices.contains("what started since runs the new file"),
        "{notices}"
    );
    instance.wait_said("its former file does not run without its name");
}

#[test]
fn f62_a_script_that_was_replaced_meanwhile_is_told_with_the_outcome_and_as_long_as_it_is_so() {
    let start = Start::default();
    let program = program(&start);
    put_script(&program, "first");
    let mut instance = started(&program, start);
    let load = Load::known_to(&instance, Mix::PLAIN, 20);
    put_script(&program, "second");
    let waiting = instance.cli_begin(&["rollout"]);
    watching(&mut instance, 2);
    put_script(&program, "third");
    instance.cli(&["promote"]).expect(0);
    let told = |generation: u64| {
        format!(
            "the program of generation {generation}, `{}`, was replaced on disk after its first start; what started \
             since runs the new file",
            program.display()
        )
    };
    waiting
        .end()
        .expect(0)
        .says(&["app-2 completed", &format!("note: {}", told(2))]);
    let status = alone(&mut instance, 2);
    let notices = status["notices"].to_string();
    assert!(notices.contains(&told(2)), "{notices}");
    instance.wait_said("is not like its siblings: the program of generation 2");
    instance
        .cli(&["history", "app-2"])
        .expect(0)
        .says(&[&told(2)]);

    let waiting = instance.cli_begin(&["rollback"]);
    watching(&mut instance, 3);
    instance.cli(&["promote"]).expect(0);
    waiting
        .end()
        .expect(0)
        .says(&[&format!("note: {}", told(3))]);
    alone(&mut instance, 3);

    let waiting = instance.cli_begin(&["rollout"]);
    watching(&mut instance, 4);
    instance.cli(&["promote"]).expect(0);
    waiting.end().expect(0).says_none_of(&["note:"]);
    let status = alone(&mut instance, 4);
    assert_eq!(status["notices"], serde_json::json!([]), "{status:#}");
    assert_clean(&load.stop(), &instance.dir.path().join("executed"));
}

#[test]
fn f62_a_first_release_that_never_served_is_put_right_by_a_better_file() {
    let start = Start::default()
        .flags(&["--workers", "1"])
        .service("restart = { first = \"50ms\", most = \"100ms\" }");
    let program = program(&start);
    std::fs::copy("/bin/false", &program).expect("there is room");
    let command = command(&program);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut instance = start.command(&command).launch();
    instance.wait_said("ended before it was ready: exit status 1");
    let better = put_image(&program);
    let status = instance.wait("it to serve", |status| app(status)["ready"] == 1);
    assert_eq!(images(&status), [(1, better)]);
}

/// Points the `current` of this place at another directory, which gets a program of that name.
fn put_release(place: &Path, name: &str) {
    std::fs::create_dir(place.join(name)).expect("writable");
    put_script(
        &place.join(name).join("app"),
        &format!("\nexport RUNS_RELEASE={name}"),
    );
    point(place, name);
}

fn point(place: &Path, name: &str) {
    let beside = place.join("current.new");
    std::os::unix::fs::symlink(name, &beside).expect("writable");
    std::fs::rename(&beside, place.join("current")).expect("writable");
}

/// What a worker's environment has by this name.
fn variable(worker: &Value, name: &str) -> Option<String> {
    let environment = format!("/proc/{}/environ", worker["pid"]);
    let environment = std::fs::read_to_string(environment).expect("it lives");
    let mut pairs = environment
        .split('\0')
        .filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(value.to_owned())
}

/// Which generation runs the program of which release, in each worker that serves.
fn releases(status: &Value) -> Vec<(u64, String)> {
    let ready = workers(app(status)).filter(|worker| worker["state"] == "ready");
    let mut all: Vec<_> = ready
        .map(|worker| {
            let release = variable(worker, "RUNS_RELEASE");
            let generation = worker["generation"].as_u64().expect("a number");
            (generation, release.expect("its script sets it"))
        })
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn f62_a_relative_command_through_a_symlink_is_resolved_for_its_generation() {
    let start = Start::default().service("cwd = \".\"");
    let place = start.place().to_owned();
    put_release(&place, "v1");
    let mut instance = started(Path::new("current/app"), start);
    let all = |generation: u64, release: &str| vec![(generation, release.to_owned()); 2];
    assert_eq!(releases(&instance.status()), all(1, "v1"));

    put_release(&place, "v2");
    crash_one(&mut instance);
    assert_eq!(releases(&instance.status()), all(1, "v1"));

    instance.cli(&["rollout"]).expect(0);
    assert_eq!(releases(&alone(&mut instance, 2)), all(2, "v2"));

    instance.cli(&["rollback"]).expect(0);
    let status = alone(&mut instance, 3);
    assert_eq!(releases(&status), all(3, "v1"));
    assert_eq!(status["notices"], serde_json::json!([]), "{status:#}");
}

#[test]
fn a_worker_inherits_no_port_that_is_not_its_own() {
    let by_socket = format!("TEST_SOCKET=$0 exec {}", worker::command().join(" "));
    let by_socket = ["sh", "-c", &by_socket, "{socket}"];
    let of = |start: Start| {
        let instance = start.env("PORT", "8080").ready();
        let status = instance.status();
        let worker = workers(app(&status)).next().expect("a worker");
        variable(worker, "PORT")
    };
    let by_descriptor = || Start::default().service("connect = \"fd\"");
    assert_eq!(of(Start::default().command(&by_socket)), None);
    assert_eq!(of(by_descriptor()), None);
    assert_ne!(of(Start::default()).as_deref(), Some("8080"));
    let told = by_descriptor()
        .service("env_file = \"env\"")
        .file("env", "PORT=9090\n");
    assert_eq!(of(told).as_deref(), Some("9090"), "the operator's word");
}
