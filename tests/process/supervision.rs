//! Workers as processes: what they inherit, how they die, what is left of them.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::support::checker::{Allowed, Executed, Outcome, violations};
use super::support::instance::{Instance, Start, processes_of};
use super::support::load::{Load, Mix};
use super::support::watch::workers;
use super::support::worker;

const QUICK: [&str; 6] = [
    "--soak",
    "300ms",
    "--ramp",
    "100ms",
    "--kill-grace",
    "500ms",
];

fn pids(status: &Value) -> Vec<i32> {
    status["services"]["app"]["generations"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|generation| generation["workers"].as_array().into_iter().flatten())
        .filter_map(|worker| i32::try_from(worker["pid"].as_i64()?).ok())
        .collect()
}

fn all_ready(status: &Value) -> bool {
    let app = &status["services"]["app"];
    app["ready"] == app["wanted"]
}

fn completed(instance: &mut Instance, generation: u64) -> Value {
    instance.wait(
        "the rollout to complete and the old ones to be gone",
        |status| {
            let app = &status["services"]["app"];
            app["generation"] == generation
                && app["rollout"]["state"] == "completed"
                && app["generations"]
                    .as_array()
                    .is_some_and(|all| all.len() == 1)
        },
    )
}

#[test]
fn f15_a_worker_inherits_its_three_descriptors_and_nothing_else() {
    let instance = Start::default().ready();
    let open = instance.get("/fds").text();
    // Descriptors the worker opened itself are sockets and the listing's own directory.
    let inherited: Vec<&str> = open
        .lines()
        .filter(|line| {
            !line.contains("socket:") && !line.contains("/proc/") && !line.contains("executed")
        })
        .collect();
    let numbers: Vec<&str> = inherited
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(numbers, ["0", "1", "2"], "{open}");
}

#[test]
fn f15_in_fd_mode_a_worker_inherits_one_listener_more() {
    let instance = Start::default().service("connect = \"fd\"").ready();
    let environment = instance.get("/env").text();
    assert!(environment.contains("LISTEN_FDS=1\n"), "{environment}");
    let open = instance.get("/fds").text();
    assert!(
        open.lines().any(|line| line.starts_with("3 socket:")),
        "{open}"
    );
}

#[test]
fn the_environment_is_as_promised() {
    let instance = Start::default().service("release = \"v1\"").ready();
    let environment = instance.get("/env").text();
    for line in [
        "REMUDA_SERVICE=app",
        "REMUDA_GENERATION=1",
        "REMUDA_RELEASE=v1",
        "REMUDA_SLOT=",
        "PORT=",
        "NOTIFY_SOCKET=",
    ] {
        assert!(
            environment.lines().any(|found| found.starts_with(line)),
            "{line} in\n{environment}"
        );
    }
    assert!(!environment.contains("LISTEN_FDS"), "{environment}");
}

#[test]
fn f19_a_killed_worker_costs_no_idempotent_request_and_repeats_no_post() {
    let mut instance = Start::default()
        .flags(&QUICK)
        .flags(&["--workers", "3"])
        .ready();
    let load = Load::start(
        instance.address,
        Mix {
            sse: 0,
            tunnel: 0,
            ..Mix::default()
        },
    );
    for _ in 0..5 {
        // A request that met two deaths is not tried a third time.
        load.wait_for_each();
        let victim = pids(&instance.status())[0];
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("it lives");
        instance.wait("a successor", |status| {
            all_ready(status) && !pids(status).contains(&victim)
        });
    }
    load.wait_for(50);
    let client = load.stop();
    let gets: Vec<_> = client
        .iter()
        .filter(|entry| entry.method == "GET" && entry.outcome != Outcome::Answered)
        .collect();
    assert!(gets.is_empty(), "{gets:?}");
    // A POST that was in flight on the killed worker is answered 502 and never repeated.
    let executed = Executed::read(&instance.dir.path().join("executed"));
    let found = violations(&client, &executed, Allowed { failures: 5 * 3 });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn f20_a_crash_loop_backs_off_and_says_so() {
    let mut instance = Start::default().ready();
    instance.knobs.set(&[("exit_at_start", "7")]);
    let victim = pids(&instance.status())[0];
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("it lives");
    let status = instance.wait("several failed starts in the slot", |status| {
        status.to_string().contains("\"backoff\"")
            && status["services"]["app"]["generations"][0]["workers"]
                .as_array()
                .is_some_and(|all| {
                    all.iter()
                        .any(|worker| worker["failures"].as_u64() >= Some(3))
                })
    });
    assert_eq!(
        status["services"]["app"]["ready"], 1,
        "the other worker is untouched: {status:#}"
    );
    assert!(
        status["services"]["app"]["waiting_on"]["message"].is_string(),
        "{status:#}"
    );
    assert_eq!(instance.get("/").status, 200);
    // Whatever it waits for just now, it says how the last one ended, and what that one said.
    let why = instance.cli(&["why"]).expect(0);
    why.says(&[
        "times in a row, and the last one ended before it was ready: exit status 7",
        "its last output",
        "cannot open database",
    ]);
    instance.knobs.set(&[]);
    instance.wait("recovery", all_ready);
}

#[test]
fn f24_a_child_of_a_worker_finishes_its_work_within_the_grace() {
    // One TERM is enough for it.
    let child = "trap 'trap \"\" TERM; sleep 2; echo > done-$REMUDA_SLOT; exit' TERM; while :; do sleep 0.02; done";
    let command = format!("(sh -c \"$0\") & exec {}", worker::command().join(" "));
    let start = Start::default()
        .flags(&["--kill-grace", "10s"])
        .service("cwd = \".\"")
        .command(&["sh", "-c", &command, child]);
    let done = start.place().join("done-1");
    let mut instance = start.ready();
    instance.cli(&["scale", "1"]).expect(0);
    instance.wait("nothing to be left of it", |status| {
        workers(&status["services"]["app"]).count() == 1
    });
    assert!(done.exists(), "it had as much time as its main process");
}

#[test]
fn f24_a_worker_that_ignores_sigterm_is_killed_after_the_grace() {
    let mut instance = Start::default()
        .flags(&QUICK)
        .knob("ignore_term", "1")
        .ready();
    let old = pids(&instance.status());
    instance.signal(Signal::SIGUSR2);
    completed(&mut instance, 2);
    for pid in old {
        assert!(kill(Pid::from_raw(pid), None).is_err(), "{pid} lives");
    }
}

#[test]
fn f26_children_of_a_worker_go_with_it_also_those_in_other_sessions() {
    let mut instance = Start::default()
        .flags(&QUICK)
        .knob("children", "20")
        .ready();
    let dir = instance.dir.path().to_owned();
    // A child is a `sleep` only after its shell's exec, so they are awaited.
    instance.wait("40 children", |_| {
        let all = processes_of(&dir);
        all.iter()
            .filter(|(_, command)| command.contains("sleep 300"))
            .count()
            == 40
    });
    instance.knobs.set(&[]);
    instance.signal(Signal::SIGUSR2);
    completed(&mut instance, 2);
    let after = processes_of(instance.dir.path());
    assert!(
        !after
            .iter()
            .any(|(_, command)| command.contains("sleep 300")),
        "{after:?}"
    );
}

#[test]
fn f28_no_zombie_stays() {
    let mut instance = Start::default().flags(&QUICK).knob("children", "4").ready();
    instance.signal(Signal::SIGUSR2);
    completed(&mut instance, 2);
    let ours = instance.pid().to_string();
    let zombies: Vec<String> = std::fs::read_dir("/proc")
        .expect("proc is mounted")
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| {
            let rest = stat.rsplit(") ").next().unwrap_or_default();
            let mut words = rest.split(' ');
            words.next() == Some("Z") && words.next() == Some(ours.as_str())
        })
        .collect();
    assert_eq!(zombies, Vec::<String>::new());
}

#[test]
fn f37_a_command_that_does_not_exist_ends_the_first_start_with_its_reason() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let plain = file.path().to_str().expect("ASCII");
    for (command, words) in [
        ("./no-such-server", "No such file"),
        (plain, "Permission denied"),
    ] {
        let output = run_to_its_end(&[command]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(command) && said.contains(words), "{said}");
    }
}

fn run_to_its_end(command: &[&str]) -> std::process::Output {
    let dir = tempfile::Builder::new()
        .prefix("rmd")
        .tempdir()
        .expect("a temporary directory");
    std::process::Command::new(env!("CARGO_BIN_EXE_remuda"))
        .args([
            "run",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--",
        ])
        .args(command)
        .env("XDG_RUNTIME_DIR", dir.path())
        .env_remove("RUNTIME_DIRECTORY")
        .output()
        .expect("the binary is built")
}

#[test]
fn f38_a_storm_of_sigusr2_is_one_rollout_and_at_most_one_more() {
    let mut instance = Start::default().flags(&QUICK).ready();
    for _ in 0..10_000 {
        instance.signal(Signal::SIGUSR2);
    }
    instance.wait("the storm to be over", |status| {
        let app = &status["services"]["app"];
        app["rollout"]["state"] == "completed"
    });
    let rollouts = instance.admin("GET", "/v1/rollouts", "").json();
    let count = rollouts["rollouts"].as_array().map_or(0, Vec::len);
    assert!((1..=2).contains(&count), "{count} rollouts");
}

#[test]
fn f39_sigterm_during_a_rollout_ends_everything_cleanly() {
    let mut instance = Start::default().flags(&["--soak", "30s"]).ready();
    let load = Load::start(
        instance.address,
        Mix {
            slow: 0,
            sse: 0,
            tunnel: 0,
            ..Mix::default()
        },
    );
    load.wait_for(30);
    instance.signal(Signal::SIGUSR2);
    wait_for_candidate(&mut instance);
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0), "{}", instance.said());
    drop(load.stop());
    assert_eq!(processes_of(instance.dir.path()), []);
    let said = instance.said();
    assert!(
        said.contains("goes no further: remuda is stopping"),
        "{said}"
    );
    assert!(!said.contains("paused by a person"), "{said}");
}

fn wait_for_candidate(instance: &mut Instance) {
    instance.wait("the candidate to be there", |status| {
        status["services"]["app"]["generations"]
            .as_array()
            .is_some_and(|all| all.len() == 2)
    });
}

#[test]
fn a_rollout_that_a_stop_holds_says_so_and_nobody_can_resume_it() {
    let mut instance = Start::default()
        .flags(&["--soak", "60s"])
        .top("shutdown_delay = \"60s\"")
        .ready();
    let waiting = instance.cli_begin(&["rollout"]);
    wait_for_candidate(&mut instance);
    instance.signal(Signal::SIGTERM);
    let status = instance.wait("the stop", |status| status["state"] == "stopping");
    let app = &status["services"]["app"];
    assert_eq!(app["rollout"]["state"], "paused", "{app:#}");
    assert_eq!(
        app["rollout"]["waiting_on"]["message"], "remuda to stop; the rollout goes no further",
        "{app:#}"
    );
    assert_eq!(
        app["waiting_on"]["message"],
        "`shutdown_delay` to pass, as remuda is stopping; until then it serves as before \
         (nothing in flight)",
        "{app:#}"
    );
    for what in ["resume", "promote"] {
        let path = format!("/v1/rollouts/app-2/{what}");
        let answer = instance.admin("POST", &path, "");
        assert!(
            answer.text().contains("remuda is stopping"),
            "{}",
            answer.text()
        );
    }
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0), "{}", instance.said());
    let said = "remuda stopped before app-2";
    waiting.end().expect(4).says(&[said]);
}

#[test]
fn f67_where_it_is_permitted_the_kernel_ends_workers_before_planes_and_planes_before_us() {
    let score = |pid: u64| -> i32 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it lives");
        text.trim().parse().expect("a number")
    };
    let own = score(u64::from(std::process::id()));
    let mut instance = Start::default().ready();
    let status = instance.wait("a plane", |status| {
        status["data_planes"][0]["state"] == "accepting"
    });
    let plane = status["data_planes"][0]["pid"].as_u64().expect("a pid");
    let (supervisor, plane) = (score(u64::from(instance.pid())), score(plane));
    if supervisor == -900 {
        assert_eq!((own, plane), (0, -500));
    } else {
        assert_eq!(
            (supervisor, plane),
            (own, own),
            "not permitted, so nothing is changed"
        );
    }
    for pid in pids(&status) {
        assert_eq!(score(u64::try_from(pid).expect("a pid")), own.max(0));
    }
}

#[test]
fn the_config_in_use_has_a_digest_that_follows_it_and_tells_no_secret() {
    let mut instance = Start::default().ready();
    let digest = |instance: &Instance| -> String {
        let page = instance.admin("GET", "/metrics", "").text();
        let line = page
            .lines()
            .find(|line| line.starts_with("remuda_config_hash_info{"));
        line.unwrap_or_else(|| panic!("no digest:\n{page}"))
            .to_owned()
    };
    let first = digest(&instance);
    assert!(first.ends_with(" 1"), "{first}");
    let file = instance.dir.path().join("remuda.toml");
    let text = std::fs::read_to_string(&file).expect("there");
    let change = |from: &str, to: &str, instance: &Instance| {
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replace(from, to)).expect("writable");
        let answer = instance.admin("POST", "/v1/reload", "");
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    change("env = {", "env = { SECRET = \"one\",", &instance);
    let with_secret = digest(&instance);
    assert_ne!(with_secret, first, "its name counts");
    change("env = {", "env = { SECRET = \"two\",", &instance);
    assert_eq!(digest(&instance), with_secret, "its value does not");
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0), "{}", instance.said());
}

#[test]
fn f27_a_process_that_shed_session_and_environment_goes_with_the_stop() {
    let start = Start::default();
    let pid_file = start.place().join("stray");
    let stray = format!("echo $$ > {}; exec sleep 600", pid_file.display());
    let script = format!("(setsid env -i /bin/sh -c '{stray}' >/dev/null 2>&1 &) ; exec \"$@\"");
    let worker = worker::command();
    let mut command = vec!["/bin/sh", "-c", &script, "sh"];
    command.extend(worker.iter().map(String::as_str));
    let mut instance = start.command(&command).flags(&["--workers", "1"]).ready();
    let pid = std::fs::read_to_string(&pid_file).expect("written before the worker was there");
    let pid = Pid::from_raw(pid.trim().parse().expect("a pid"));
    assert!(kill(pid, None).is_ok(), "it lives");
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0), "{}", instance.said());
    // It is nobody's zombie but the init's, which reaps it.
    let dead = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while !dead() {
        assert!(Instant::now() < deadline, "{pid} lives");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn f39_a_second_sigterm_or_sigquit_ends_at_once_what_a_drain_would_wait_for() {
    for second in [Signal::SIGTERM, Signal::SIGQUIT] {
        let mut instance = Start::default().flags(&QUICK).ready();
        let mut client = instance.client();
        client
            .send("GET", "/slow?ms=60000", &[], b"")
            .expect("it accepts");
        instance.wait("the request to be in flight", |status| {
            status.to_string().contains("\"in_flight\":1")
        });
        instance.signal(Signal::SIGTERM);
        instance.wait_said("stopping");
        let began = Instant::now();
        instance.signal(second);
        assert_eq!(instance.ended().code(), Some(0), "{}", instance.said());
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(processes_of(instance.dir.path()), []);
    }
}

#[test]
fn f66_a_worker_that_prints_without_end_is_never_blocked() {
    let mut instance = Start::default().knob("say_lines", "200000").launch();
    instance.wait("all workers to be ready", all_ready);
    // More than is shown at once is read all the same, counted, and the count is said.
    instance.wait_said("lines not shown: too many at once");
}

#[test]
fn t19_control_characters_in_output_are_escaped() {
    let mut instance = Start::default().knob("say_binary", "1").ready();
    instance.wait_said("[2J");
    assert!(!instance.said().contains('\u{1b}'), "{:?}", instance.said());
}
