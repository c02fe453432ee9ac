//! The access log of the real thing: opened anew under load, shared by two planes, on a full disk, before
//! a reader that has stopped.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::support::cli::run_in;
use super::support::http::PATIENCE;
use super::support::instance::{Instance, Start};
use super::support::load::{Load, Mix};

const DROPPED: &str = "remuda_access_log_dropped_lines_total";

fn logging(to: &str, more: &str) -> Start {
    Start::default()
        .top(&format!("[access_log]\nto = {to:?}\n{more}"))
        .flags(&["--soak", "0s", "--ramp", "0s"])
}

/// Every line of a file, each one whole.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("read");
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line is torn"
    );
    let parse = |line: &str| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("torn ({error}): {line}"))
    };
    text.lines().map(parse).collect()
}

/// Stops it gracefully; the last lines are written then.
fn stop(mut instance: Instance) -> Instance {
    instance.signal(Signal::SIGTERM);
    assert!(instance.ended().success(), "{}", instance.said());
    instance
}

#[test]
fn a_rename_and_usr1_under_load_lose_and_tear_no_line() {
    let mut instance = logging("access.log", "").ready();
    let path = instance.dir.path().join("access.log");
    let load = Load::start(instance.address, Mix::default());
    let mut files = vec![path.clone()];
    for number in 1..=5 {
        load.wait_for(60);
        let old = instance.dir.path().join(format!("access.log.{number}"));
        std::fs::rename(&path, &old).expect("same directory");
        files.push(old);
        instance.signal(Signal::SIGUSR1);
        let deadline = Instant::now() + PATIENCE;
        while !path.exists() {
            assert!(Instant::now() < deadline, "it was not opened anew");
            std::thread::yield_now();
        }
        if number == 3 {
            instance.signal(Signal::SIGUSR2);
        }
    }
    instance.wait("the rollout", |status| {
        status["services"]["app"]["rollout"]["state"] == "completed"
    });
    load.wait_for(60);
    let sent = load.stop().len();
    let instance = stop(instance);
    let logged: Vec<_> = files.iter().map(|file| lines(file)).collect();
    assert!(logged.iter().all(|lines| !lines.is_empty()));
    let all: Vec<_> = logged.into_iter().flatten().collect();
    assert_eq!(all.len(), sent);
    let ids: std::collections::BTreeSet<_> =
        all.iter().map(|line| line["request_id"].as_str()).collect();
    assert_eq!(ids.len(), sent, "each once");
    for generation in [1, 2] {
        assert!(all.iter().any(|line| line["generation"] == generation));
    }
    assert!(
        all.iter().all(|line| line["term"] == "complete"),
        "{}",
        instance.said()
    );
}

#[test]
fn a_successor_writes_to_the_file_of_the_plane_before() {
    let mut instance = logging("access.log", "").ready();
    let path = instance.dir.path().join("access.log");
    let load = Load::start(
        instance.address,
        Mix {
            tunnel: 0,
            ..Mix::default()
        },
    );
    load.wait_for(60);
    let status = instance.wait("a plane", |status| status["data_planes"][0]["pid"].is_i64());
    let plane = i32::try_from(status["data_planes"][0]["pid"].as_i64().expect("a pid"));
    // It finishes what it has, while its successor accepts: both write.
    kill(Pid::from_raw(plane.expect("a pid")), Signal::SIGTERM).expect("it lives");
    load.wait_for(200);
    let sent = load.stop();
    let _kept = stop(instance);
    let logged = lines(&path);
    let answered = sent
        .iter()
        .filter(|entry| entry.outcome == super::support::checker::Outcome::Answered)
        .count();
    let complete = logged
        .iter()
        .filter(|line| line["term"] == "complete")
        .count();
    assert_eq!(complete, answered);
}

#[test]
fn a_file_that_cannot_be_opened_ends_the_start_and_not_a_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = "[access_log]\nto = \"none/access.log\"\n[services.app]\ncommand = [\"x\"]\n";
    std::fs::write(dir.path().join("remuda.toml"), config).expect("written");
    let words = ["run", "--listen", "127.0.0.1:0", "--admin", "off"];
    run_in(dir.path(), &words).expect(1).says(&[
        "cannot open the access log",
        "none/access.log",
        "No such file or directory",
        "`access_log.to`",
    ]);

    let start = logging("logs/access.log", "");
    std::fs::create_dir(start.place().join("logs")).expect("writable");
    let mut instance = start.ready();
    let (logs, away) = (
        instance.dir.path().join("logs"),
        instance.dir.path().join("away"),
    );
    assert_eq!(instance.get("/fast").status, 200);
    std::fs::rename(&logs, &away).expect("same directory");
    instance.signal(Signal::SIGUSR1);
    instance.wait_said("the one that is open goes on");
    assert_eq!(instance.get("/fast").status, 200);
    let _kept = stop(instance);
    assert_eq!(lines(&away.join("access.log")).len(), 2);
}

#[test]
fn a_full_disk_costs_lines_which_are_counted_and_no_request() {
    let instance = logging("/dev/full", "").ready();
    let mut client = instance.client();
    for _ in 0..50 {
        assert_eq!(client.get("/fast").expect("an answer").status, 200);
    }
    instance.wait_metric(DROPPED, &[], 50.0);
    // Written to at each turn, and told of once.
    for number in 1..=3 {
        assert_eq!(client.get("/fast").expect("an answer").status, 200);
        instance.wait_metric(DROPPED, &[], 50.0 + f64::from(number));
    }
    let said = instance.said();
    assert_eq!(
        said.matches("cannot write the access log").count(),
        1,
        "{said}"
    );
}

#[test]
fn a_reader_that_has_stopped_costs_lines_which_are_counted_and_no_request() {
    let start = logging("pipe", "");
    let path = start.place().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path);
    let reader: File = reader.expect("open");
    let instance = start.ready();
    let agent = "x".repeat(4_000);
    let mut client = instance.client();
    let deadline = Instant::now() + PATIENCE * 3;
    while instance.metric(DROPPED, &[]) < 1.0 {
        assert!(Instant::now() < deadline, "nothing is dropped");
        for _ in 0..100 {
            let answer = client.request("GET", "/fast", &[("User-Agent", &agent)], b"");
            assert_eq!(answer.expect("an answer").status, 200);
        }
    }
    drop(client);
    // Nor is the end held up.
    let began = Instant::now();
    stop(instance);
    assert!(began.elapsed() < PATIENCE / 2);
    drop(reader);
}

#[test]
fn stdout_is_the_supervisors_own_and_a_reload_changes_the_format() {
    let mut instance = logging("stdout", "format = \"common\"\n").ready();
    assert_eq!(instance.get("/fast?secret").status, 200);
    instance.wait_said("\"GET /fast HTTP/1.1\" 200 ");
    let file = instance.dir.path().join("remuda.toml");
    let config = std::fs::read_to_string(&file).expect("it is there");
    let other = config.replace("\"common\"", "\"<{term}> {path}?{query}\"\nquery = true");
    std::fs::write(&file, other).expect("written");
    instance.cli(&["reload"]).expect(0).says(&["access log"]);
    let mut told = false;
    let deadline = Instant::now() + PATIENCE;
    while !told {
        assert!(Instant::now() < deadline, "{}", instance.said());
        assert_eq!(instance.get("/fast?open").status, 200);
        told = instance.said().contains("<complete> /fast?open\n");
    }
    assert!(!instance.said().contains("secret"), "{}", instance.said());
}

#[test]
fn f19_the_tunnel_of_a_worker_that_was_killed_ends_though_its_client_stays() {
    const ERRORS: &str = "remuda_http_proxy_errors_total";
    let mut instance = logging("access.log", "").ready();
    let mut client = instance.client();
    let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    client.send("GET", "/ws", &fields, b"").expect("it accepts");
    assert_eq!(client.head().expect("a head").status, 101);
    let with_tunnel = |status: &Value| {
        let workers = &status["services"]["app"]["generations"][0]["workers"];
        let mut workers = workers.as_array().into_iter().flatten();
        workers.find(|worker| worker["in_flight"] == 1)?["pid"].as_i64()
    };
    let status = instance.wait("a tunnel", |status| with_tunnel(status).is_some());
    let victim = with_tunnel(&status).and_then(|pid| i32::try_from(pid).ok());
    let victim = victim.expect("just seen");
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("it lives");
    // The client leaves its way to us open, and is not waited for.
    instance.wait_metric(ERRORS, &["reason=\"bad_response\""], 1.0);
    assert_eq!(client.rest().unwrap_or_default(), b"");
    assert!(instance.metric(ERRORS, &["reason=\"drain_limit\""]) < 1.0);
    let path = instance.dir.path().join("access.log");
    let _kept = stop(instance);
    let lines = lines(&path);
    let [line] = &lines[..] else {
        panic!("one line: {lines:?}");
    };
    assert_eq!(line["term"], "worker_answer", "{line}");
}
