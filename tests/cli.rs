//! The command line against an instance that is played by the test: exit codes, words, JSON.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use remuda::wire::{
    FailedWorker, Failure, Generation, InFlight, Ledger, Logs, NewRollout, Rollout, RolloutCounts,
    RolloutStep, Rollouts, Service, Status, WaitingOn, Worker,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A request as the played instance saw it.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    head: String,
    body: String,
}

/// What the played instance answers.
type Play = dyn Fn(&Seen, usize) -> (u16, Value) + Send + Sync;

/// A played instance on a unix socket. The number that its play gets counts the calls of the same line.
struct Instance {
    dir: TempDir,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Instance {
    fn start(play: impl Fn(&Seen, usize) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (play, log): (Arc<Play>, _) = (Arc::new(play), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (play, log) = (Arc::clone(&play), Arc::clone(&log));
                std::thread::spawn(move || answer(stream, &*play, &log));
            }
        });
        Self { dir, seen }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = remuda(args);
        command.env("REMUDA_ADMIN_SOCKET", self.socket());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(stream: UnixStream, play: &Play, log: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap_or(0) > 2 {}
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let seen = Seen {
        line: line.trim_end_matches(" HTTP/1.1\r\n").to_owned(),
        head,
        body: String::from_utf8(body).unwrap(),
    };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.iter().filter(|other| other.line == seen.line).count()
    };
    let (status, body) = play(&seen, before);
    let body = body.to_string();
    let kind = match status {
        200..300 => "application/json",
        _ => "application/problem+json",
    };
    // The command may have left, which is what some tests are about.
    let _ = write!(
        reader.get_mut(),
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
}

fn remuda(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
    command.args(args).stdin(Stdio::null());
    for name in [
        "REMUDA_ADMIN_SOCKET",
        "RUNTIME_DIRECTORY",
        "XDG_RUNTIME_DIR",
        "NO_COLOR",
    ] {
        command.env_remove(name);
    }
    command
}

fn rollout(state: &str) -> Rollout {
    let ended = !matches!(state, "pending" | "running" | "paused" | "rolling_back");
    Rollout {
        id: "shop-2".to_owned(),
        service: "shop".to_owned(),
        from: 1,
        to: 2,
        release: Some("v2".to_owned()),
        trigger: "cli".to_owned(),
        reason: None,
        state: state.to_owned(),
        step: RolloutStep {
            name: if ended { "ended" } else { "ramping" }.to_owned(),
            batch: 1,
            of: 4,
        },
        progress: if ended { 1.0 } else { 0.25 },
        waiting_on: (!ended).then(|| waiting("share to reach 25 %")),
        counts: RolloutCounts::default(),
        verdicts: Vec::new(),
        remarks: Vec::new(),
        ledger: Ledger {
            requests: 6_021,
            candidate: 3_000,
            stable: 3_021,
            ..Ledger::default()
        },
        failure: None,
        requested_at: "2026-11-23T02:00:00.000Z".to_owned(),
        started_at: Some("2026-11-23T02:00:00.000Z".to_owned()),
        ended_at: ended.then(|| "2026-11-23T02:00:09.400Z".to_owned()),
        full_strength: true,
    }
}

fn waiting(message: &str) -> WaitingOn {
    WaitingOn {
        kind: "ramp".to_owned(),
        message: message.to_owned(),
        since: "2026-11-23T02:00:00.000Z".to_owned(),
        deadline: None,
    }
}

fn worker(slot: u32, generation: u64, state: &str) -> Worker {
    Worker {
        slot,
        pid: Some(4_000 + slot),
        generation,
        state: state.to_owned(),
        health: "passing".to_owned(),
        in_flight: 0,
        in_flight_by_class: InFlight::default(),
        rss: Some(12 << 20),
        started_at: None,
        address: None,
        drain_deadline: None,
        drain_initial: None,
        failures: 0,
        ejected: false,
    }
}

fn generation(number: u64, role: &str, weight: f64, workers: Vec<Worker>) -> Generation {
    Generation {
        number,
        role: role.to_owned(),
        release: Some(format!("v{number}")),
        weight,
        workers,
    }
}

fn service(generations: Vec<Generation>) -> Service {
    Service {
        generation: 1,
        release: Some("v1".to_owned()),
        wanted: 2,
        ready: 2,
        waiting_on: None,
        rollout: None,
        generations,
        in_flight: 3,
        parked: 0,
        parked_as: None,
    }
}

fn status_of(service: Service) -> Value {
    let status = Status {
        version: "0.1.0".to_owned(),
        pid: 4_000,
        data_planes: Vec::new(),
        services: [("shop".to_owned(), service)].into(),
        state: "running".to_owned(),
        started_at: String::new(),
        listeners: vec!["127.0.0.1:8080".to_owned()],
        admin: None,
        notices: Vec::new(),
    };
    serde_json::to_value(status).unwrap()
}

fn status() -> Value {
    status_of(service(vec![generation(
        1,
        "stable",
        1.0,
        vec![worker(0, 1, "ready"), worker(1, 1, "ready")],
    )]))
}

fn value(of: impl serde::Serialize) -> Value {
    serde_json::to_value(of).unwrap()
}

fn ordered(rollouts: Vec<Rollout>) -> (u16, Value) {
    (202, value(Rollouts { rollouts }))
}

fn problem(status: u16, detail: &str) -> (u16, Value) {
    let body = json!({ "type": "about:blank", "title": "x", "status": status, "detail": detail });
    (status, body)
}

/// An instance whose rollout runs for two looks and then is as given.
fn that_ends(end: Rollout) -> Instance {
    Instance::start(move |seen, times| match seen.line.as_str() {
        "POST /v1/rollouts" => ordered(vec![rollout("running")]),
        "GET /v1/status" => (200, status()),
        "GET /v1/rollouts/shop-2" if times > 2 => (200, value(&end)),
        "GET /v1/rollouts/shop-2" => (200, value(rollout("running"))),
        other => problem(404, other),
    })
}

/// An instance whose rollout never ends.
fn that_goes_on() -> Instance {
    that_ends(rollout("running"))
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn last_json(output: &Output) -> Value {
    let text = stdout(output);
    let last = text.lines().last().unwrap();
    assert!(last.starts_with(r#"{"type":"result","#), "{last}");
    serde_json::from_str(last).unwrap()
}

#[test]
fn a_rollout_exits_with_how_it_ended() {
    let cases = [
        ("completed", true, 0),
        ("rolled_back", true, 1),
        ("failed", true, 1),
        ("rolled_back", false, 6),
        ("failed", false, 6),
        ("superseded", true, 5),
    ];
    for (state, full_strength, expected) in cases {
        let mut end = rollout(state);
        end.full_strength = full_strength;
        let instance = that_ends(end);
        let output = instance.run(&["rollout"]);
        assert_eq!(code(&output), expected, "{state}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "talk belongs on stderr");
    }
}

#[test]
fn of_several_rollouts_the_worst_counts() {
    let other = |state: &str| {
        let mut rollout = rollout(state);
        rollout.id = "till-7".to_owned();
        rollout.service = "till".to_owned();
        rollout
    };
    let second = other("running");
    let instance = Instance::start(move |seen, _| match seen.line.as_str() {
        "POST /v1/rollouts" => ordered(vec![rollout("running"), second.clone()]),
        "GET /v1/status" => (200, status()),
        "GET /v1/rollouts/shop-2" => (200, value(rollout("rolled_back"))),
        "GET /v1/rollouts/till-7" => (200, value(other("completed"))),
        unknown => problem(404, unknown),
    });
    assert_eq!(code(&instance.run(&["rollout"])), 1);
}

#[test]
fn a_rollout_carries_its_order_and_its_headers() {
    let instance = that_ends(rollout("completed"));
    let args = [
        "rollout",
        "shop",
        "--release",
        "v2",
        "--reason",
        "because",
        "--force",
        "--detach",
    ];
    let output = instance.run(&args);
    assert_eq!(code(&output), 0);
    assert_eq!(stdout(&output), "shop-2\n");
    let seen = instance.seen();
    let [post] = seen.as_slice() else {
        unreachable!("one call: {seen:?}")
    };
    let order: NewRollout = serde_json::from_str(&post.body).unwrap();
    assert_eq!(order.service.as_deref(), Some("shop"));
    assert_eq!(order.release.as_deref(), Some("v2"));
    assert_eq!(order.reason.as_deref(), Some("because"));
    assert!(order.force);
    for header in [
        "content-type: application/json",
        "remuda-client: cli",
        "idempotency-key: ",
    ] {
        assert!(post.head.contains(header), "{header} in {}", post.head);
    }
}

/// What is known of a worker that was not ready in time.
fn not_ready() -> Failure {
    Failure {
        reason: "worker".to_owned(),
        message: "the worker in slot 2 was not ready in 5s".to_owned(),
        worker: Some(FailedWorker {
            slot: 2,
            generation: 2,
            pid: Some(4_711),
            exit: Some("exit status 1".to_owned()),
            output: vec!["cannot open database".to_owned()],
            probe: Some("connection refused".to_owned()),
        }),
    }
}

#[test]
fn a_failed_rollout_shows_what_the_worker_said() {
    let mut end = rollout("rolled_back");
    end.failure = Some(not_ready());
    let output = that_ends(end).run(&["rollout"]);
    assert_eq!(code(&output), 1);
    let said = stderr(&output);
    for words in [
        "was rolled back: the worker in slot 2 was not ready in 5s; generation 1 serves at full strength",
        "slot 2, generation 2, pid 4711",
        "exit status 1",
        "connection refused",
        "| cannot open database",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
}

#[test]
fn a_rollout_that_failed_and_stands_shows_what_the_worker_said() {
    let mut stands = rollout("paused");
    stands.failure = Some(not_ready());
    let instance = Instance::start(move |_, _| {
        let mut of = service(vec![generation(1, "stable", 1.0, Vec::new())]);
        of.rollout = Some(stands.clone());
        (200, status_of(of))
    });
    let why = stdout(&instance.run(&["why"]));
    assert!(
        why.contains(
            "its last output
  | cannot open database
"
        ),
        "{why}"
    );
    let status = stdout(&instance.run(&["status"]));
    for words in [
        "slot 2, generation 2, pid 4711",
        "exit status 1",
        "connection refused",
        "| cannot open database",
    ] {
        assert!(status.contains(words), "{words} in {status}");
    }
}

#[test]
fn off_a_terminal_each_state_change_is_one_line() {
    let output = that_ends(rollout("completed")).run(&["rollout"]);
    let said = stderr(&output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "shop-2 (v2) running, batch 1 of 4, ramping: share to reach 25 %",
            "✔ shop-2 (v2) completed in 9.4 s; 6021 requests, 3000 by the new workers, 0 retried, 0 failed in the proxy, 0 cut by a drain's limit",
        ]
    );
}

#[test]
fn a_completed_rollout_is_left_only_when_old_workers_have_answered() {
    let draining = |plain: u32| {
        let mut old = worker(0, 1, "draining");
        old.in_flight = plain + 1;
        old.in_flight_by_class.plain = plain;
        old.in_flight_by_class.stream = 1;
        status_of(service(vec![
            generation(1, "retiring", 0.0, vec![old]),
            generation(2, "stable", 1.0, vec![worker(1, 2, "ready")]),
        ]))
    };
    let instance = Instance::start(move |seen, times| match seen.line.as_str() {
        "POST /v1/rollouts" => ordered(vec![rollout("running")]),
        "GET /v1/status" => (200, draining(if times > 3 { 0 } else { 2 })),
        "GET /v1/rollouts/shop-2" => (200, value(rollout("completed"))),
        other => problem(404, other),
    });
    let output = instance.run(&["rollout"]);
    assert_eq!(code(&output), 0);
    let looks = instance.seen();
    let looks = looks.iter().filter(|s| s.line == "GET /v1/status").count();
    assert_eq!(looks, 4);
    let said = stderr(&output);
    assert!(
        said.contains("slot 0 of generation 1 still drains: 1 stream left"),
        "{said}"
    );
}

#[test]
fn a_release_that_is_stable_already_is_left_alone() {
    let instance = Instance::start(|seen, _| match seen.line.as_str() {
        "POST /v1/rollouts" => ordered(Vec::new()),
        other => problem(404, other),
    });
    let output = instance.run(&["rollout", "--release", "v1"]);
    assert_eq!(code(&output), 0);
    assert!(stderr(&output).contains("release `v1` is stable already"));
}

#[test]
fn refusals_are_told_with_their_reason() {
    let cases = [
        (409, "the stable generation is 4, not the expected one", 5),
        (404, "there is no service `nope`", 2),
        (422, "`canary` is not known yet", 2),
        (500, "the disk is full", 1),
        (503, "remuda is stopping", 5),
    ];
    for (status, detail, expected) in cases {
        let instance = Instance::start(move |_, _| problem(status, detail));
        let output = instance.run(&["rollout", "--json"]);
        assert_eq!(code(&output), expected, "{status}");
        assert!(stderr(&output).contains(detail));
        let result = last_json(&output);
        assert_eq!(result["problem"]["status"], status);
        assert_eq!(result["problem"]["detail"], detail);
        assert_eq!(result["exit_code"], expected);
    }
}

#[test]
fn nobody_there_is_4_and_names_the_path() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("admin.sock");
    for command in ["status", "rollout", "why", "healthcheck", "reload", "abort"] {
        let output = remuda(&[command, "--admin-socket", path.to_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(code(&output), 4, "{command}");
        let said = stderr(&output);
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        assert!(said.contains("remuda run"), "{said}");
    }
}

#[test]
fn what_is_there_and_is_no_socket_is_named_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let output = remuda(&["status", "--admin-socket", path])
        .output()
        .unwrap();
    assert_eq!(code(&output), 4);
    let said = stderr(&output);
    assert!(said.contains("it is no socket"), "{said}");
    assert!(!said.contains("remuda run"), "{said}");
}

#[test]
fn the_default_path_follows_the_environment() {
    let dir = TempDir::new().unwrap();
    let output = remuda(&["status"])
        .env("XDG_RUNTIME_DIR", dir.path())
        .output()
        .unwrap();
    let expected = dir.path().join("remuda/admin.sock");
    assert_eq!(code(&output), 4);
    assert!(stderr(&output).contains(expected.to_str().unwrap()));
}

#[test]
fn the_socket_may_be_named_before_and_after() {
    let instance = Instance::start(|_, _| (200, status()));
    let socket = instance.socket();
    let socket = socket.to_str().unwrap();
    for args in [
        ["--admin-socket", socket, "why"],
        ["why", "--admin-socket", socket],
    ] {
        let output = remuda(&args).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(
            stdout(&output),
            "nothing: 2 of 2 workers serve generation 1\n"
        );
    }
}

#[test]
fn a_timeout_is_3_and_says_that_it_goes_on() {
    let output = that_goes_on().run(&["rollout", "--timeout", "300ms"]);
    assert_eq!(code(&output), 3);
    let said = stderr(&output);
    assert!(
        said.contains("not done after 300ms: the rollout goes on"),
        "{said}"
    );
}

#[test]
fn ctrl_c_is_130_and_says_that_it_goes_on() {
    let (asked, was_asked) = mpsc::channel();
    let asked = Mutex::new(asked);
    let instance = Instance::start(move |seen, _| match seen.line.as_str() {
        "POST /v1/rollouts" => {
            asked.lock().unwrap().send(()).unwrap();
            ordered(vec![rollout("running")])
        }
        "GET /v1/status" => (200, status()),
        _ => (200, value(rollout("running"))),
    });
    let child = instance
        .command(&["rollout", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    was_asked.recv_timeout(Duration::from_secs(20)).unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 130);
    assert!(stderr(&output).contains("the rollout goes on; `remuda status` shows it"));
    assert_eq!(last_json(&output)["result"], "interrupted");
}

/// The rollout runs until the third look at it, then the instance stops, as `how` does.
fn waits_for_one_that_stops(
    before: Rollout,
    how: impl Fn(&Path, &str) -> Option<(u16, Value)> + Send + Sync + 'static,
) -> Output {
    let socket = Arc::new(Mutex::new(PathBuf::new()));
    let path = Arc::clone(&socket);
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let instance = Instance::start(move |seen, _| {
        if seen.line == "GET /v1/status" {
            looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        if looks.load(std::sync::atomic::Ordering::SeqCst) > 2
            && let Some(answer) = how(&path.lock().unwrap(), &seen.line)
        {
            return answer;
        }
        match seen.line.as_str() {
            "GET /v1/status" => (200, status()),
            "POST /v1/rollouts" => (202, json!({ "rollouts": [before] })),
            _ => (200, value(before.clone())),
        }
    });
    *socket.lock().unwrap() = instance.socket();
    instance.run(&["rollout", "--json"])
}

#[test]
fn f39_a_rollout_that_a_stop_ends_exits_alike_however_the_stop_is_seen() {
    let failed = || {
        let mut failed = rollout("failed");
        failed.failure = Some(Failure {
            reason: "stopped".to_owned(),
            message: "remuda stops".to_owned(),
            worker: None,
        });
        // Its workers still did, when the stop was ordered.
        failed.full_strength = true;
        Some((200, value(failed)))
    };
    let said_so = waits_for_one_that_stops(rollout("running"), move |_, line| {
        line.starts_with("GET /v1/rollouts/").then(failed).flatten()
    });
    let gone = waits_for_one_that_stops(rollout("running"), |socket, _| {
        let _ = std::fs::remove_file(socket);
        None
    });
    let refuses = waits_for_one_that_stops(rollout("running"), |_, _| {
        let problem = json!({
            "type": "urn:remuda:stopping", "title": "Stopping", "status": 503,
            "detail": "remuda is stopping",
        });
        Some((503, problem))
    });
    let another = waits_for_one_that_stops(rollout("running"), |_, line| match line {
        "GET /v1/status" => {
            let mut status = status();
            status["pid"] = json!(5_000);
            Some((200, status))
        }
        _ => Some((
            404,
            json!({"type": "about:blank", "title": "", "status": 404, "detail": ""}),
        )),
    });
    for output in [said_so, gone, refuses, another] {
        let result = last_json(&output);
        assert_eq!(code(&output), 4, "{result:#}");
        let says =
            "remuda stopped before shop-2 (v2) ended (generation 2 was to replace generation 1)";
        assert_eq!(result["message"], says);
        assert_eq!(result["result"], "no_instance");
        assert_eq!(result["rollouts"][0]["failure"]["reason"], "stopped");
    }
}

#[test]
fn a_rollout_that_had_completed_before_the_stop_is_done() {
    let completed = rollout("completed");
    let output = waits_for_one_that_stops(rollout("running"), move |socket, line| {
        if line == "GET /v1/status" {
            return None;
        }
        let _ = std::fs::remove_file(socket);
        Some((200, value(completed.clone())))
    });
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn json_is_one_event_per_line_and_ends_with_the_result() {
    let output = that_ends(rollout("completed")).run(&["rollout", "--json"]);
    assert_eq!(code(&output), 0);
    let text = stdout(&output);
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["rollout", "rollout", "result"]);
    let result = last_json(&output);
    assert_eq!(result["exit_code"], 0);
    assert_eq!(result["rollouts"][0]["id"], "shop-2");
    assert_eq!(result["rollouts"][0]["failure"], Value::Null);
}

#[test]
fn whatever_is_looked_at_is_one_object_with_json() {
    let instance = Instance::start(|seen, _| match seen.line.as_str() {
        "GET /v1/status" => (200, status()),
        "GET /v1/rollouts" => (200, json!({ "rollouts": [rollout("completed")] })),
        "GET /v1/rollouts/shop-2" => (200, value(rollout("completed"))),
        "GET /v1/services/shop/logs" => (200, value(Logs::default())),
        "GET /v1/services/shop/requests" => (200, json!({ "requests": [] })),
        _ => (200, json!("ok")),
    });
    let cases: [(&[&str], &str); 7] = [
        (&["status"], "services"),
        (&["why"], "services"),
        (&["history"], "rollouts"),
        (&["history", "shop-2"], "ledger"),
        (&["logs"], "lines"),
        (&["requests"], "requests"),
        (&["healthcheck"], "ready"),
    ];
    for (args, key) in cases {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let output = instance.run(&args);
        assert_eq!(code(&output), 0, "{args:?} {}", stderr(&output));
        assert_eq!(stdout(&output).lines().count(), 1, "{args:?}");
        assert!(last_json(&output).get(key).is_some(), "{args:?}");
    }
}

#[test]
fn status_is_a_table() {
    let mut draining = worker(2, 1, "draining");
    draining.in_flight = 4;
    draining.in_flight_by_class = InFlight {
        plain: 3,
        stream: 1,
        ..InFlight::default()
    };
    let mut shop = service(vec![
        generation(1, "stable", 0.75, vec![worker(0, 1, "ready"), draining]),
        generation(2, "candidate", 0.25, vec![worker(1, 2, "starting")]),
    ]);
    shop.rollout = Some(rollout("running"));
    shop.waiting_on = Some(waiting("share to reach 25 %"));
    let shown = status_of(shop);
    let instance = Instance::start(move |_, _| (200, shown.clone()));
    let output = instance.run(&["status"]);
    assert_eq!(code(&output), 0);
    insta::assert_snapshot!(stdout(&output), @r"
    remuda 0.1.0  pid 4000  on 127.0.0.1:8080

    shop  generation 1 (v1)  2 of 2 ready  3 in flight
      rollout  shop-2 (v2) running, batch 1 of 4, ramping, 25% done
      waiting  share to reach 25 %
      traffic  generation 1 stable 75%, generation 2 candidate 25%
      SLOT  GEN  STATE     HEALTH   IN-FLIGHT   PID       RSS  AGE
         0    1  ready     passing          0  4000  12.0 MiB    -
         1    2  starting  passing          0  4001  12.0 MiB    -
         2    1  draining  passing          4  4002  12.0 MiB    -  3 requests, 1 stream left
    ");
}

#[test]
fn colour_only_on_demand_off_a_terminal() {
    let instance = Instance::start(|_, _| (200, status()));
    assert!(!stdout(&instance.run(&["status"])).contains('\u{1b}'));
    let always = instance.run(&["status", "--color", "always"]);
    assert!(stdout(&always).contains('\u{1b}'));
}

#[test]
fn a_reader_that_went_away_is_not_an_error() {
    let instance = Instance::start(|_, _| (200, status()));
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["status", "--watch"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = instance
            .command(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{args:?}");
        assert_eq!(stderr(&output), "", "{args:?}");
    }
}

#[test]
fn f55_the_help_and_the_first_page_say_what_a_second_rollout_does_to_the_first() {
    let help = stdout(&remuda(&["rollout", "--help"]).output().unwrap());
    // However wide the terminal is.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "While one runs",
        "takes over from it",
        "the command that waits for the first exits with 5",
    ] {
        assert!(help.contains(said), "{said}: {help}");
    }
    let page = include_str!("../README.md");
    let rollout = page
        .lines()
        .find(|line| line.starts_with("| `remuda rollout` |"));
    let said =
        "takes over when the batch that runs has ended, and who waits for the first gets exit 5";
    assert!(
        rollout.is_some_and(|line| line.contains(said)),
        "{rollout:?}"
    );
}

#[test]
fn abort_waits_until_it_has_gone_back() {
    let went_back = |times: usize| {
        rollout(if times > 2 {
            "rolled_back"
        } else {
            "rolling_back"
        })
    };
    let instance = Instance::start(move |seen, times| match seen.line.as_str() {
        "GET /v1/status" => {
            let mut shop = service(Vec::new());
            shop.rollout = Some(rollout("running"));
            (200, status_of(shop))
        }
        "POST /v1/rollouts/shop-2/abort" => (200, value(rollout("running"))),
        "GET /v1/rollouts/shop-2" => (200, value(went_back(times))),
        other => problem(404, other),
    });
    let output = instance.run(&["abort"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("was rolled back"));
}

#[test]
fn pause_resume_and_promote_wait_for_their_effect() {
    let cases = [
        ("pause", "paused", 0),
        ("resume", "running", 0),
        ("promote", "completed", 0),
        ("promote", "rolled_back", 1),
        ("pause", "completed", 5),
    ];
    for (verb, end, expected) in cases {
        let begin = if verb == "resume" {
            "paused"
        } else {
            "running"
        };
        let instance = Instance::start(move |seen, times| match seen.line.as_str() {
            "GET /v1/status" => {
                let mut shop = service(Vec::new());
                shop.rollout = Some(rollout(begin));
                (200, status_of(shop))
            }
            "GET /v1/rollouts/shop-2" if times > 1 => (200, value(rollout(end))),
            _ => (200, value(rollout(begin))),
        });
        let output = instance.run(&[verb, "shop"]);
        assert_eq!(code(&output), expected, "{verb}: {}", stderr(&output));
        let posts = instance.seen();
        let posts = posts.iter().filter(|s| s.line.starts_with("POST"));
        let posts: Vec<&str> = posts.map(|s| s.line.as_str()).collect();
        assert_eq!(posts, [format!("POST /v1/rollouts/shop-2/{verb}")]);
    }
}

#[test]
fn there_must_be_a_rollout_to_steer() {
    let instance = Instance::start(|_, _| (200, status()));
    let output = instance.run(&["abort"]);
    assert_eq!(code(&output), 5);
    assert!(stderr(&output).contains("no rollout of `shop` is running"));
}

#[test]
fn rollback_follows_the_rollout_it_began() {
    let instance = Instance::start(|seen, _| match seen.line.as_str() {
        "GET /v1/status" => (200, status()),
        "POST /v1/services/shop/rollback" => ordered(vec![rollout("running")]),
        "GET /v1/rollouts/shop-2" => {
            let mut end = rollout("completed");
            end.trigger = "rollback".to_owned();
            (200, value(end))
        }
        other => problem(404, other),
    });
    assert_eq!(code(&instance.run(&["rollback"])), 0);
}

/// `rollback` of a service whose rollout is `before`; the answer is `answered`, which ends as `end`.
fn goes_back(before: Rollout, answered: Rollout, end: Rollout) -> Output {
    let instance = Instance::start(move |seen, _| match seen.line.as_str() {
        "GET /v1/status" => {
            let mut shop = service(Vec::new());
            shop.rollout = Some(before.clone());
            (200, status_of(shop))
        }
        "POST /v1/services/shop/rollback" => ordered(vec![answered.clone()]),
        "GET /v1/rollouts/shop-2" | "GET /v1/rollouts/shop-3" => (200, value(end.clone())),
        other => problem(404, other),
    });
    instance.run(&["rollback"])
}

fn back_to_the_first(state: &str) -> Rollout {
    let mut back = rollout(state);
    back.id = "shop-3".to_owned();
    (back.from, back.to) = (2, 1);
    back.release = Some("v1".to_owned());
    back.trigger = "rollback".to_owned();
    back
}

#[test]
fn a_rollback_to_a_parked_generation_says_what_serves() {
    let back = || back_to_the_first("completed");
    let output = goes_back(rollout("completed"), back(), back());
    let said = stderr(&output);
    assert_eq!(code(&output), 0, "{said}");
    assert!(said.contains("shop-3 (v1) completed"), "{said}");
    assert!(said.contains("generation 1 (v1) serves\n"), "{said}");
}

#[test]
fn a_second_rollback_has_nothing_to_do_and_says_so() {
    let back = || back_to_the_first("completed");
    let output = goes_back(back(), back(), back());
    let said = stderr(&output);
    assert_eq!(code(&output), 0, "{said}");
    assert!(
        said.starts_with(
            "nothing to do: generation 1 (v1) serves already, since shop-3 (v1) went back to it"
        ),
        "{said}"
    );
    let undone = || rollout("rolled_back");
    let output = goes_back(undone(), undone(), undone());
    let said = stderr(&output);
    assert_eq!(code(&output), 0, "{said}");
    assert!(said.contains("since shop-2 (v2) was rolled back"), "{said}");
}

#[test]
fn a_rollback_that_was_undone_itself_has_failed() {
    let output = goes_back(
        rollout("completed"),
        back_to_the_first("running"),
        back_to_the_first("rolled_back"),
    );
    assert_eq!(code(&output), 1, "{}", stderr(&output));
}

#[test]
fn an_old_rollout_says_nothing_of_the_capacity_now() {
    let mut old = rollout("rolled_back");
    old.full_strength = false;
    let instance = Instance::start(move |seen, _| match seen.line.as_str() {
        "GET /v1/status" => {
            let mut shop = service(Vec::new());
            shop.rollout = Some(old.clone());
            (200, status_of(shop))
        }
        "GET /v1/rollouts/shop-2" => (200, value(old.clone())),
        other => problem(404, other),
    });
    for args in [&["status"][..], &["history", "shop-2"]] {
        let output = instance.run(args);
        let said = stdout(&output);
        assert!(said.contains("shop-2 (v2) was rolled back\n"), "{said}");
        assert!(!said.contains("capacity"), "{said}");
    }
}

#[test]
fn scale_waits_until_so_many_are_ready() {
    let instance = Instance::start(|seen, times| match seen.line.as_str() {
        "GET /v1/status" => {
            let mut shop = service(Vec::new());
            shop.wanted = if times > 1 { 3 } else { 2 };
            shop.ready = if times > 3 { 3 } else { 2 };
            (200, status_of(shop))
        }
        "POST /v1/services/shop/scale" => (200, json!(null)),
        other => problem(404, other),
    });
    let output = instance.run(&["scale", "3"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stderr(&output), "`shop` has 3 workers ready\n");
    let order = instance.seen();
    let order = order.iter().find(|s| s.line.starts_with("POST")).unwrap();
    assert_eq!(order.body, r#"{"workers":3}"#);
}

#[test]
fn drain_waits_until_nothing_is_in_flight() {
    let instance = Instance::start(|seen, times| match seen.line.as_str() {
        "GET /v1/status" => {
            let mut one = worker(1, 1, if times > 1 { "draining" } else { "ready" });
            one.in_flight = if times > 3 { 0 } else { 5 };
            (
                200,
                status_of(service(vec![generation(1, "stable", 1.0, vec![one])])),
            )
        }
        "POST /v1/services/shop/workers/1/drain" => {
            (200, json!({"notice": "1 of 2 wanted workers serve now"}))
        }
        other => problem(404, other),
    });
    let output = instance.run(&["drain", "1"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.starts_with("1 of 2 wanted workers serve now\n"),
        "{said}"
    );
    let looks = instance.seen();
    assert_eq!(
        looks.iter().filter(|s| s.line == "GET /v1/status").count(),
        4
    );
}

#[test]
fn a_drain_that_the_worker_did_not_live_to_end_is_no_success() {
    for (state, of_worker, pid) in [
        ("running", "terminating", Some(4_001)),
        ("running", "backoff", None),
        ("stopping", "draining", Some(4_001)),
    ] {
        let instance = Instance::start(move |seen, times| match seen.line.as_str() {
            "GET /v1/status" => {
                let mut one = worker(1, 1, "draining");
                one.in_flight = 2;
                if times > 2 {
                    one.in_flight = 0;
                    one.state = of_worker.to_owned();
                    one.pid = pid;
                }
                let mut status = status_of(service(vec![generation(1, "stable", 1.0, vec![one])]));
                if times > 2 {
                    status["state"] = json!(state);
                }
                (200, status)
            }
            "POST /v1/services/shop/workers/1/drain" => (200, json!({ "notice": null })),
            other => problem(404, other),
        });
        let output = instance.run(&["drain", "1"]);
        assert_eq!(code(&output), 5, "{}", stderr(&output));
        assert!(!stderr(&output).contains("is drained"));
    }
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let instance = Instance::start(|_, _| (200, status()));
    let config = instance.dir.path().join("remuda.toml");
    std::fs::write(&config, "[services.app]\ncommand = [\"true\"]\n").unwrap();
    let config = config.to_str().unwrap();
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["status", "--watch"],
        &["why"],
        &["check", config],
        &["check", "--schema"],
        &["completions", "bash"],
        &["socket"],
        &["--help"],
        &["--version"],
    ] {
        let full = std::fs::File::create("/dev/full").unwrap();
        let output = instance.command(args).stdout(full).output().unwrap();
        assert_eq!(code(&output), 1, "{args:?}");
        let said = stderr(&output);
        assert!(said.contains("cannot write to stdout"), "{args:?}: {said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = instance.command(args).stdout(writer).output().unwrap();
        assert_eq!(code(&output), 0, "{args:?}: who reads no more knows it");
        assert_eq!(stderr(&output), "", "{args:?}");
    }
}

#[test]
fn the_socket_is_printed_and_an_empty_variable_is_none() {
    let instance = Instance::start(|_, _| (200, status()));
    let socket = instance.socket();
    let printed = stdout(&instance.run(&["socket"]));
    assert_eq!(printed, format!("{}\n", socket.display()));
    let empty = |args: &[&str]| {
        let mut command = remuda(args);
        command.env("REMUDA_ADMIN_SOCKET", "");
        command.env("XDG_RUNTIME_DIR", "/x").output().unwrap()
    };
    assert_eq!(stdout(&empty(&["socket"])), "/x/remuda/admin.sock\n");
    let named = ["status", "--admin-socket", socket.to_str().unwrap()];
    assert_eq!(code(&empty(&named)), 0);
    assert_eq!(code(&empty(&["status", "--admin-socket", ""])), 2);
}

#[test]
fn check_takes_a_file_as_run_does() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "[services.app]\ncommand = [\"true\"]\n").unwrap();
    let output = remuda(&["check", "-c", config.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("c.toml: valid"));
}

#[test]
fn check_says_what_is_not_here_beside_what_is_wrong() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("c.toml");
    let checked = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let output = remuda(&["check", config.to_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(code(&output), 78, "{}", stderr(&output));
        stderr(&output)
    };
    let said = checked(
        "nonsense = 1\n[services.app]\ncommand = [\"./none\"]\nenv_file = \"none.env\"\nworkers = \"x\"\n",
    );
    for what in [
        "unknown key `nonsense`",
        "`command`: `./none`: there is no such file",
        "none.env`: there is no such file",
        "`workers`: ",
        "c.toml: invalid, 2 mistakes, 2 warnings",
    ] {
        assert!(said.contains(what), "{what:?} not in\n{said}");
    }
    // What is not known is not missed: where the worker starts, and what it finds there.
    let said = checked("[services.app]\ncommand = [\"./none\"]\ncwd = 3\n");
    assert!(
        said.contains("`cwd`: ") && !said.contains("./none`:"),
        "{said}"
    );
    // Nor in what is a guess of the reader's.
    let said = checked("[services.app]\ncommand = [\"./none\"]\nworkers = = 2\n");
    assert!(!said.contains("./none`:"), "{said}");
}

#[test]
fn check_reads_a_pipe_and_run_says_why_it_does_not() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("here")).unwrap();
    let text = "[services.app]\ncommand = [\"true\"]\ncwd = \"here\"\n";
    let piped = |args: &[&str], text: String| {
        let mut command = remuda(args);
        command.current_dir(dir.path()).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who refuses it does not read it.
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        child.wait_with_output().unwrap()
    };
    for args in [
        ["check", "-c", "/dev/stdin"],
        ["check", "--json", "/dev/fd/0"],
    ] {
        let output = piped(&args, text.to_owned());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(stderr(&output), "", "its paths begin here");
    }
    let output = piped(
        &["check", "-c", "/dev/stdin"],
        format!("{text}nonsense = 1\n"),
    );
    assert_eq!(code(&output), 78);
    assert!(
        stderr(&output).contains("/dev/stdin:4:1"),
        "{}",
        stderr(&output)
    );
    let output = piped(&["check", "-c", "/dev/stdin"], "#".repeat(2 << 20));
    assert_eq!(code(&output), 78);
    let said = stderr(&output);
    assert!(said.contains("larger than 1 MiB") && !said.contains("reload"));
    let output = piped(&["run", "-c", "/dev/stdin"], text.to_owned());
    assert_eq!(code(&output), 78);
    let said = stderr(&output);
    assert!(
        said.contains("a pipe") && said.contains("each reload"),
        "{said}"
    );
}

#[test]
fn restart_waits_until_another_worker_serves() {
    let instance = Instance::start(|seen, times| match seen.line.as_str() {
        "GET /v1/status" => {
            let mut one = worker(0, 1, "ready");
            one.pid = Some(if times > 2 { 5_000 } else { 4_000 });
            (
                200,
                status_of(service(vec![generation(1, "stable", 1.0, vec![one])])),
            )
        }
        "POST /v1/services/shop/workers/0/restart" => (200, json!(null)),
        other => problem(404, other),
    });
    let output = instance.run(&["restart", "0"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stderr(&output), "the worker of slot 0 is replaced\n");
}

#[test]
fn healthcheck_is_0_or_1() {
    for (status, expected) in [(200, 0), (503, 1)] {
        let instance = Instance::start(move |_, _| (status, json!("x")));
        assert_eq!(code(&instance.run(&["healthcheck"])), expected);
        assert_eq!(instance.seen().first().unwrap().line, "GET /readyz");
    }
}

#[test]
fn the_service_must_be_named_if_there_are_several() {
    let instance = Instance::start(|_, _| {
        let mut both = status();
        both["services"]["till"] = both["services"]["shop"].clone();
        (200, both)
    });
    let output = instance.run(&["drain", "0"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("name one of the services with `--service`: `shop`, `till`"));
    let output = instance.run(&["pause"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("name one of the services: `shop`, `till`"));
    for args in [
        ["history", "--service", "nope"],
        ["why", "--service", "nope"],
    ] {
        let output = instance.run(&args);
        assert_eq!(code(&output), 2, "{args:?}");
        let said = "there is no service `nope`; there is `shop`, `till`";
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    let both = stdout(&instance.run(&["why"]));
    assert_eq!(both.lines().count(), 2);
    assert!(both.starts_with("shop: nothing:"), "{both}");
}

#[test]
fn why_shows_what_a_worker_says_that_does_not_become_ready() {
    let instance = Instance::start(|seen, _| match seen.line.as_str() {
        "GET /v1/status" => {
            let mut of = service(vec![
                generation(1, "stable", 1.0, vec![worker(0, 1, "ready")]),
                generation(2, "candidate", 0.0, vec![worker(0, 2, "starting")]),
            ]);
            of.waiting_on = Some(WaitingOn {
                kind: "ready".to_owned(),
                ..waiting("worker 0 of generation 2 to become ready")
            });
            (200, status_of(of))
        }
        "GET /v1/services/shop/logs?slot=0" => {
            let line = |generation, line: String| {
                json!({
                    "at": "2026-11-28T10:00:00Z", "slot": 0, "generation": generation, "pid": 7,
                    "stream": "stderr", "line": line,
                })
            };
            let mut lines: Vec<_> = (0..12).map(|n| line(2, format!("try {n}"))).collect();
            lines.push(line(1, "of another one".to_owned()));
            (200, json!({ "lines": lines }))
        }
        other => problem(404, other),
    });
    let shown = stdout(&instance.run(&["why"]));
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "worker 0 of generation 2 to become ready",
            "its last output",
            "  | try 2"
        ]
    );
    assert_eq!((lines.len(), lines.last()), (12, Some(&"  | try 11")));
}

#[test]
fn nonsense_on_the_command_line_is_2() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for args in [
        &["rolout"][..],
        &["rollout", "--timeout", "5"],
        &["scale", "0"],
        &["drain", "first"],
        &["rollout", "--detach", "--timeout", "1s"],
        &[],
    ] {
        assert_eq!(code(&remuda(args).output().unwrap()), 2, "{args:?}");
    }
    let output = remuda(&["rollout", "--release"])
        .arg(OsStr::from_bytes(b"\xff"))
        .output()
        .unwrap();
    assert_eq!(code(&output), 2);
}

#[test]
fn completions_and_man_come_from_the_tree() {
    for shell in ["bash", "zsh", "fish"] {
        let output = remuda(&["completions", shell]).output().unwrap();
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("rollout"));
    }
    let dir = TempDir::new().unwrap();
    let output = remuda(&["man"]).arg(dir.path()).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for page in ["remuda.1", "remuda-rollout.1"] {
        assert!(Path::new(&dir.path().join(page)).exists(), "{page}");
    }
}
