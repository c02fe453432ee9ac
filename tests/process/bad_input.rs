//! What people and machines get wrong: configs, sockets, ports, first boots, and who may enter where. A
//! clear sentence with the next step, nothing lost, nothing left behind.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::cli::{Ended, run_in};
use super::support::http::Client;
use super::support::instance::{Instance, Start, processes_of};
use super::support::watch::{in_slot, workers};

fn app(status: &Value) -> &Value {
    &status["services"]["app"]
}

fn ready(status: &Value) -> bool {
    app(status)["ready"] == app(status)["wanted"]
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("rmd")
        .tempdir()
        .expect("a temporary directory")
}

const BASE: [&str; 5] = ["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// `remuda run` with these flags and this command, to its end; nothing of it may be left.
fn refused(dir: &Path, flags: &[&str], command: &[&str]) -> Ended {
    let words: Vec<&str> = [&BASE, flags, &["--"], command].concat();
    let ended = run_in(dir, &words).expect(1);
    assert_nothing_left(dir);
    ended
}

/// No process, no socket, no token.
fn assert_nothing_left(dir: &Path) {
    assert_eq!(processes_of(dir), []);
    for name in ["admin.sock", "token", "w"] {
        assert!(!dir.join("remuda").join(name).exists(), "{name} is left");
    }
}

#[test]
fn a_wrong_config_is_refused_with_78_and_every_mistake_at_once() {
    let service = "[services.app]\ncommand = [\"x\"]\n";
    let cases: [(&str, &[&str]); 9] = [
        (
            "workrs = 3\n[services.app.rollout]\nsoak = \"5\"\n[services.app.limits]\nbody = 10\n",
            &[
                "workrs",
                "did you mean `workers`?",
                "\"5s\"",
                "MB",
                "remuda.toml:3",
            ],
        ),
        (
            "[services.app.rollout]\nmax_surge = 0\nmax_unavailable = 0\n",
            &["both 0", "max_surge = 1"],
        ),
        (
            "[services.web]\ncommand = [\"y\"]\n",
            &[
                "both get the requests of every host",
                "`hosts` or `path_prefix`",
            ],
        ),
        (
            "hosts = [\"a:80\"]\n",
            &["`a:80` is not the name of a host", "port"],
        ),
        (
            "[[listen]]\naddress = \"0.0.0.0:443\"\ntls = { cert = \"c\" }\n",
            &["c: there is no such file", "remuda.toml:5:16"],
        ),
        (
            "[services.app.rollout]\nstrategy = \"canary\"\n",
            &["strategy `canary` is not in this version yet", "rolling"],
        ),
        (
            "upstream = [\"127.0.0.1:1\"]\n",
            &["both `command` and `upstream`"],
        ),
        ("workers = 0\n", &["workers"]),
        ("release = \n", &["remuda.toml:3"]),
    ];
    for (lines, sentences) in cases {
        let dir = directory();
        std::fs::write(dir.path().join("remuda.toml"), format!("{service}{lines}"))
            .expect("writable");
        run_in(dir.path(), &["run"]).expect(78).says(sentences);
        run_in(dir.path(), &["check"]).expect(78).says(sentences);
        assert_nothing_left(dir.path());
    }
    let dir = directory();
    run_in(dir.path(), &["run"])
        .expect(78)
        .says(&["remuda.toml"]);
}

#[test]
fn f37_a_command_that_does_not_exist_is_refused_and_leaves_nothing() {
    let dir = directory();
    refused(dir.path(), &[], &["./no-such-server", "--port", "{port}"])
        .says(&["./no-such-server", "No such file"]);
}

#[test]
fn a_public_port_in_use_is_refused_with_the_next_step() {
    let dir = directory();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("bound").to_string();
    let words = ["run", "--listen", &address, "--admin", "off", "--", "true"];
    run_in(dir.path(), &words)
        .expect(1)
        .says(&[&address, "in use", "ss -ltnp"]);
    assert_nothing_left(dir.path());
    for (flag, other) in [("--admin", "--admin off"), ("--metrics", "--metrics ADDR")] {
        let words = [
            "run",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            flag,
            &address,
            "--",
            "true",
        ];
        // A flag twice is one mistake more than is meant here.
        let words: Vec<&str> = match flag {
            "--admin" => [&words[..3], &words[5..]].concat(),
            _ => words.to_vec(),
        };
        run_in(dir.path(), &words)
            .expect(1)
            .says(&[&address, other]);
        assert_nothing_left(dir.path());
    }
}

#[test]
fn a_live_admin_socket_is_refused_and_a_stale_one_taken_over() {
    let start = Start::default();
    let directory_of_it = start.place().join("run/remuda");
    std::fs::create_dir_all(&directory_of_it).expect("writable");
    std::fs::set_permissions(&directory_of_it, std::fs::Permissions::from_mode(0o700))
        .expect("ours");
    // Its file stays when a listener is only closed.
    drop(UnixListener::bind(directory_of_it.join("admin.sock")).expect("bind"));
    let instance = start.ready();
    instance.cli(&["healthcheck"]).expect(0);

    let dir = directory();
    let socket = instance.admin_socket();
    let socket = socket.to_str().expect("ASCII");
    refused(dir.path(), &["--admin-socket", socket], &["sleep", "100"])
        .says(&[socket, "another process listens there"]);
    instance.cli(&["healthcheck"]).expect(0);
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let dir = directory();
    let long = dir.path().join("a".repeat(90));
    let socket = dir.path().join("s".repeat(100));
    for (flag, path) in [("--runtime-dir", &long), ("--admin-socket", &socket)] {
        let path = path.to_str().expect("ASCII");
        let words = [&BASE[..], &[flag, path, "--", "sleep", "100"]].concat();
        run_in(dir.path(), &words).expect(78).says(&[
            path,
            "too long for a unix socket",
            "at most 107",
            "name a shorter",
        ]);
        assert_nothing_left(dir.path());
    }
}

#[test]
fn f54_workers_that_crash_at_first_boot_keep_the_listener_and_recover() {
    let mut instance = Start::default()
        .service("parking = { wait = \"700ms\" }\nrestart = { first = \"50ms\", most = \"200ms\" }")
        .knob("exit_at_start", "1")
        .launch();
    let began = Instant::now();
    let answer = instance.get("/");
    assert_eq!(answer.status, 503);
    assert!(
        began.elapsed() >= Duration::from_millis(600),
        "it was parked"
    );
    let again = answer.header("retry-after").expect("when to come again");
    assert!(again.parse::<u32>().is_ok_and(|seconds| seconds > 0));
    let status = instance.wait("some failed starts", |status| {
        workers(app(status)).any(|w| w["failures"].as_u64() >= Some(3))
    });
    assert_eq!(app(&status)["ready"], 0);
    instance.wait_said("ended before it was ready: exit status 1");
    instance.wait_said("cannot open database");
    instance.cli(&["healthcheck"]).expect(1);
    assert_eq!(instance.admin("GET", "/readyz", "").status, 503);
    let waiting = instance.cli(&["why"]).expect(0);
    assert!(!waiting.out.contains("nothing:"), "{waiting:?}");

    // A request that waits when the first worker is ready is answered by it.
    let mut waits = instance.client();
    instance.knobs.set(&[]);
    instance.wait("recovery", ready);
    waits.send("GET", "/", &[], b"").expect("it accepts");
    assert_eq!(waits.answer(false).expect("an answer").status, 200);
    instance.cli(&["healthcheck"]).expect(0);
}

#[test]
fn f54_a_request_parked_during_a_slow_first_boot_is_answered() {
    let mut instance = Start::default().knob("start_delay_ms", "1200").launch();
    assert_eq!(app(&instance.status())["ready"], 0);
    assert_eq!(instance.get("/").status, 200);
    instance.wait("the rest", ready);
}

#[test]
fn exit_on_failed_start_ends_with_the_reason() {
    let dir = directory();
    refused(
        dir.path(),
        &["--exit-on-failed-start"],
        &["sh", "-c", "echo no database >&2; exit 3"],
    )
    .says(&["exit status 3", "no database"]);
    refused(
        dir.path(),
        &["--exit-on-failed-start", "--start-timeout", "300ms"],
        &["sleep", "100"],
    )
    .says(&["ready"]);
}

/// A first boot of workers of this kind: it says what is wrong, again and again, and recovers.
fn boot_says(knob: &str, words: &[&str]) {
    let mut instance = Start::default()
        .flags(&["--start-timeout", "600ms", "--kill-grace", "300ms"])
        .service("restart = { first = \"50ms\", most = \"200ms\" }")
        .knob(knob, "1")
        .launch();
    for word in words {
        instance.wait_said(word);
    }
    instance.wait("two failed starts in a slot", |status| {
        workers(app(status)).any(|w| w["failures"].as_u64() >= Some(2))
    });
    instance.knobs.set(&[]);
    instance.wait("recovery", ready);
    assert_eq!(instance.get("/").status, 200);
    let dir = instance.dir.path().to_owned();
    instance.wait("nothing of the others", |status| {
        // Supervisor, data plane and who tidies up, two workers.
        workers(app(status)).count() == 2 && processes_of(&dir).len() <= 5
    });
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0));
    assert_eq!(processes_of(instance.dir.path()), []);
}

#[test]
fn a_first_boot_on_the_wrong_port_says_so() {
    boot_says(
        "wrong_port",
        &["was not ready in 600ms", "connection refused"],
    );
}

#[test]
fn a_first_boot_that_answers_garbage_says_so() {
    boot_says("garbage", &["was not ready in 600ms", "HTTP"]);
}

#[test]
fn f27_a_first_boot_that_daemonises_says_so_and_leaves_nothing() {
    boot_says("daemonise", &["foreground"]);
}

#[test]
fn generation_numbers_go_on_after_a_restart_with_a_state_directory() {
    let state = directory();
    let line = format!("state_dir = {:?}", state.path().display().to_string());
    let mut first = Start::default()
        .top(&line)
        .flags(&["--soak", "0s", "--ramp", "0s"])
        .ready();
    assert!(first.get("/").text().contains(" g1 "));
    first.cli(&["rollout"]).expect(0);
    first.signal(Signal::SIGTERM);
    assert_eq!(first.ended().code(), Some(0));
    let second = Start::default().top(&line).ready();
    assert!(second.get("/").text().contains(" g3 "), "2 is used up");
    drop(second);
    // What cannot be read is set aside, and it is said.
    std::fs::write(state.path().join("state.json"), "torn").expect("writable");
    let mut third = Start::default().top(&line).ready();
    third.wait_said("could not be used");
    assert!(third.get("/").text().contains(" g1 "));
}

/// A worker that somebody else runs: answers with its name until the test ends.
pub(crate) fn serve_as(name: &'static str, accept: impl Fn() -> Box<dyn Stream> + Send + 'static) {
    std::thread::spawn(move || {
        loop {
            let stream = accept();
            std::thread::spawn(move || answer_as(name, stream));
        }
    });
}

pub(crate) trait Stream: std::io::Read + Write + Send {}
impl<T: std::io::Read + Write + Send> Stream for T {}

fn answer_as(name: &str, stream: Box<dyn Stream>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|length| length > 0) {
        if line.trim_end().is_empty() {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
                name.len()
            );
            if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
        line.clear();
    }
}

pub(crate) fn answers(instance: &Instance) -> Vec<String> {
    let mut names: Vec<String> = (0..30).map(|_| instance.get("/").text()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn unmanaged_workers_are_routed_probed_and_drained_and_never_started_or_signalled() {
    let start = Start::default();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = tcp.local_addr().expect("bound").to_string();
    let path = start.place().join("up.sock");
    let unix = UnixListener::bind(&path).expect("bind");
    serve_as("tcp", move || Box::new(tcp.accept().expect("accept").0));
    serve_as("unix", move || Box::new(unix.accept().expect("accept").0));
    // The third has nobody behind it yet.
    let late = start.place().join("late.sock");
    let name_of = |path: &Path| format!("unix:{}", path.display());
    let mut instance = start
        .upstream(&[&address, &name_of(&path), &name_of(&late)])
        .service("health = { interval = \"100ms\" }")
        .launch();
    instance.wait("two of three", |status| app(status)["ready"] == 2);
    assert_eq!(app(&instance.status())["wanted"], 3);
    assert_eq!(answers(&instance), ["tcp", "unix"]);
    let status = instance.status();
    for worker in workers(app(&status)) {
        assert_eq!(worker["pid"], Value::Null, "{worker:#}");
    }

    instance.cli(&["drain", "0"]).expect(0);
    assert_eq!(answers(&instance), ["unix"]);
    let status = instance.status();
    let drained = in_slot(app(&status), 0).expect("it stays");
    assert_eq!(drained["state"], "draining", "{drained:#}");
    instance.cli(&["undrain", "0"]).expect(0);
    assert_eq!(answers(&instance), ["tcp", "unix"]);

    let answer = instance.admin("POST", "/v1/rollouts", "{}");
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("run by somebody else"));
    instance
        .cli(&["rollout"])
        .expect(2)
        .says(&["somebody else"]);
    instance.cli(&["restart", "0"]).expect(2);
    instance.cli(&["scale", "5"]).expect(2);
    instance.signal(Signal::SIGUSR2);

    let late = UnixListener::bind(&late).expect("bind");
    serve_as("late", move || Box::new(late.accept().expect("accept").0));
    instance.wait("the third", |status| app(status)["ready"] == 3);
    assert_eq!(answers(&instance), ["late", "tcp", "unix"]);
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0));
    assert!(path.exists(), "their sockets are theirs");
}

#[test]
fn two_instances_share_a_runtime_directory_and_hurt_each_other_not() {
    let one = Start::default().ready();
    let shared = one.dir.path().join("run/remuda");
    let start = Start::default();
    let own = start.place().join("run/remuda");
    std::fs::create_dir_all(&own).expect("writable");
    let socket = own.join("admin.sock");
    let mut two = start
        .flags(&[
            "--runtime-dir",
            shared.to_str().expect("ASCII"),
            "--admin-socket",
            socket.to_str().expect("ASCII"),
        ])
        .ready();
    assert_ne!(one.status()["pid"], two.status()["pid"]);
    two.cli(&["scale", "3"]).expect(0);
    assert_eq!(app(&one.status())["wanted"], 2);
    two.signal(Signal::SIGTERM);
    assert_eq!(two.ended().code(), Some(0));
    assert_eq!(one.get("/").status, 200);
    assert_eq!(app(&one.status())["ready"], 2);
    let left: Vec<String> = std::fs::read_dir(&shared)
        .expect("it is there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("i-"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn the_pid_file_names_the_supervisor_and_goes_with_it() {
    let start = Start::default().file("pid", "999999999\n");
    let file = start.place().join("pid");
    let mut instance = start
        .flags(&["--pid-file", file.to_str().expect("ASCII")])
        .ready();
    let text = std::fs::read_to_string(&file).expect("it is written");
    assert_eq!(text.trim(), instance.pid().to_string());
    assert_eq!(instance.status()["pid"], instance.pid());
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0));
    assert!(!file.exists());
}

/// Status of one request over TCP, with these fields and no others.
fn ask(address: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)]) -> u16 {
    let mut client = Client::tcp(address).expect("it accepts");
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !fields.iter().any(|(name, _)| *name == "Host") {
        head.push_str("Host: localhost\r\n");
    }
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" {
        head.push_str("Content-Length: 2\r\n\r\n{}");
    } else {
        head.push_str("\r\n");
    }
    client.write(head.as_bytes()).expect("it reads");
    client.head().expect("an answer").status
}

#[test]
fn the_metrics_listener_has_three_paths_only() {
    let mut instance = Start::default()
        .flags(&["--metrics", "127.0.0.1:0"])
        .ready();
    instance.wait_said("metrics at http://");
    let said = instance.said();
    let rest = said.split("metrics at http://").nth(1).expect("just seen");
    let address: SocketAddr = rest
        .split('/')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(ask(address, "GET", path, &[]), 200, "{path}");
    }
    for path in [
        "/",
        "/v1/status",
        "/v1/events",
        "/v1/rollouts",
        "/v1/services/app/requests",
        "/v1/services/app/logs",
        "/v1/openapi.json",
        "//v1/status",
        "/metrics/../v1/status",
    ] {
        assert_eq!(ask(address, "GET", path, &[]), 404, "{path}");
    }
    let json = [("Content-Type", "application/json")];
    let posted = ask(address, "POST", "/v1/rollouts", &json);
    assert!([404, 405].contains(&posted), "{posted}");
    // Any name may be used for it: it is for others.
    assert_eq!(
        ask(address, "GET", "/metrics", &[("Host", "scrape.example")]),
        200
    );
    assert_eq!(app(&instance.status())["rollout"], Value::Null);
}

#[test]
fn t3_t4_t5_over_tcp_looking_is_open_and_changing_needs_the_token() {
    let instance = Start::default().ready();
    let status = instance.status();
    let admin: SocketAddr = status["admin"]
        .as_str()
        .and_then(|text| text.trim_start_matches("http://").parse().ok())
        .expect("an address");
    let file = instance.dir.path().join("run/remuda/token");
    let mode = std::fs::metadata(&file).expect("made at start");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let token = std::fs::read_to_string(&file).expect("ours");
    let bearer = format!("Bearer {}", token.trim());
    let right = ("Authorization", bearer.as_str());
    let wrong = ("Authorization", "Bearer 0123456789abcdef0123456789abcdef");
    let json = ("Content-Type", "application/json");

    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/status",
        "/v1/rollouts",
    ] {
        assert_eq!(ask(admin, "GET", path, &[]), 200, "{path}");
    }
    for path in ["/v1/services/app/requests", "/v1/services/app/logs"] {
        assert_eq!(ask(admin, "GET", path, &[]), 401, "T3: {path}");
        assert_eq!(ask(admin, "GET", path, &[wrong]), 401, "T3: {path}");
        assert_eq!(ask(admin, "GET", path, &[right]), 200, "T3: {path}");
    }
    let scale = "/v1/services/app/scale";
    for path in ["/v1/rollouts", scale, "/v1/reload"] {
        assert_eq!(ask(admin, "POST", path, &[json]), 401, "T3: {path}");
        assert_eq!(ask(admin, "POST", path, &[json, wrong]), 401, "T3: {path}");
    }
    for simple in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let fields = [("Content-Type", simple), right];
        assert_eq!(ask(admin, "POST", "/v1/rollouts", &fields), 415, "T4");
    }
    let foreign = ("Origin", "http://evil.example");
    let fields = [json, right, foreign];
    assert_eq!(ask(admin, "POST", "/v1/rollouts", &fields), 403, "T4");
    let cross = ("Sec-Fetch-Site", "cross-site");
    assert_eq!(ask(admin, "GET", "/v1/status", &[cross]), 403, "T4");
    for host in [
        "evil.example",
        "evil.example:9900",
        "localhost.evil.example",
    ] {
        let fields = [("Host", host)];
        assert_eq!(ask(admin, "GET", "/v1/status", &fields), 421, "T5: {host}");
    }
    assert_eq!(app(&instance.status())["rollout"], Value::Null, "no effect");
    assert_eq!(ask(admin, "POST", "/v1/rollouts", &[json, right]), 202);
}

#[test]
fn t6_the_public_port_has_no_admin_paths() {
    let instance = Start::default().ready();
    let mut client = instance.client();
    for path in [
        "/v1/status",
        "/metrics",
        "/healthz",
        "/readyz",
        "/v1/rollouts",
        "//v1/status",
        "/%2e%2e/v1/status",
        "/v1/services/app/requests",
        "/v1/events",
    ] {
        let answer = client.get(path).expect("an answer");
        assert!(
            answer.status == 200 && answer.text().contains(" g1 "),
            "{path} is answered by a worker: {}",
            answer.text()
        );
    }
    let fields = [("Content-Type", "application/json")];
    let answer = client
        .request("POST", "/v1/rollouts", &fields, b"{}")
        .expect("an answer");
    assert!(answer.text().contains(" g1 "), "{}", answer.text());
    assert_eq!(app(&instance.status())["rollout"], Value::Null);
}

#[test]
fn with_json_every_line_of_our_own_log_is_an_object() {
    let mut instance = Start::default().flags(&["--json"]).ready();
    assert_eq!(instance.get("/").status, 200);
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0));
    let said = instance.said();
    let ours = said.lines().filter(|line| !line.starts_with("[app/"));
    let ours: Vec<Value> = ours
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no object: {line}")))
        .collect();
    assert!(ours.len() > 3, "{said}");
    let ready = ours.iter().find(|line| line["fields"]["service"] == "app");
    assert_eq!(ready.expect("a worker's news")["level"], "INFO");
}

/// The client is told nothing of it, so that its programmer must be.
#[test]
fn an_answer_that_cannot_be_passed_on_is_said_with_what_is_wrong_with_it() {
    let mut instance = Start::default().ready();
    assert_eq!(instance.get("/many?n=1000").status, 200);
    for _ in 0..3 {
        assert_eq!(instance.get("/no_answer").status, 502);
    }
    // Whichever worker it was.
    let said = " of `app` sent an answer that cannot be passed on: malformed field name";
    instance.wait_said(said);
    // Each of two event loops says it once, and again in ten seconds.
    assert!((1..=2).contains(&instance.said().matches(said).count()));
}
