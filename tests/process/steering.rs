//! Rollouts as people trigger, steer and judge them: what joins what, what is undone by whom, and how the
//! command line ends.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::support::checker::{Outcome, assert_clean};
use super::support::http::{Answer, Client};
use super::support::instance::{Instance, Start};
use super::support::load::{Load, Mix};
use super::support::watch::{Watch, assert_full_strength, generations, weights, workers};

/// A rollout that nobody steers does not end within the test.
const LONG: [&str; 4] = ["--soak", "40s", "--ramp", "0s"];

fn app(status: &Value) -> &Value {
    &status["services"]["app"]
}

fn rollout(status: &Value) -> &Value {
    &status["services"]["app"]["rollout"]
}

fn order(instance: &Instance, body: &str) -> Answer {
    instance.admin("POST", "/v1/rollouts", body)
}

fn ended(instance: &mut Instance, to: u64, state: &str) -> Value {
    instance.wait(&format!("rollout {to} to be {state}"), |status| {
        rollout(status)["to"] == to && rollout(status)["state"] == state
    })
}

/// Waits until only workers of this generation are left.
fn alone(instance: &mut Instance, generation: u64) {
    instance.wait("the others to be gone", |status| {
        app(status)["generation"] == generation
            && workers(app(status)).all(|w| w["generation"] == generation)
            && app(status)["ready"] == app(status)["wanted"]
    });
}

fn watching(instance: &mut Instance, to: u64) {
    instance.wait("the first batch to be watched", |status| {
        rollout(status)["to"] == to && rollout(status)["step"]["name"] == "soaking"
    });
}

fn assert_served(load: Load, instance: &Instance) {
    load.wait_for(30);
    assert_clean(&load.stop(), &instance.dir.path().join("executed"));
}

#[test]
fn f55_triggers_join_wait_and_supersede() {
    let mut instance = Start::default().flags(&LONG).ready();
    let load = Load::known_to(&instance, Mix::PLAIN, 20);
    let waits_for_a = instance.cli_begin(&["rollout", "--release", "a"]);
    watching(&mut instance, 2);
    // The same release attaches to it.
    let answer = order(&instance, r#"{"release": "a"}"#);
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.json()["rollouts"][0]["id"], "app-2");
    let waits_for_b = instance.cli_begin(&["rollout", "--release", "b"]);
    let pending = |instance: &Instance, id: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let one = instance.admin("GET", &format!("/v1/rollouts/{id}"), "");
            if one.status == 200 && one.json()["state"] == "pending" {
                return one.json();
            }
            assert!(Instant::now() < deadline, "{id}: {}", one.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let b = pending(&instance, "app-3");
    assert_eq!(
        b["waiting_on"]["message"], "rollout app-2 to end its batch",
        "{b:#}"
    );
    // The newest wins; there is one pending at most.
    let waits_for_c = instance.cli_begin(&["rollout", "--release", "c"]);
    pending(&instance, "app-4");
    waits_for_b.end().expect(5).says(&["superseded"]);
    instance.cli(&["promote"]);
    waits_for_a.end().expect(5).says(&["superseded"]);
    watching(&mut instance, 4);
    instance.cli(&["promote"]).expect(0);
    waits_for_c.end().expect(0).says(&["app-4 (c) completed"]);
    let status = instance.status();
    assert_eq!(app(&status)["generation"], 4);
    assert_eq!(app(&status)["release"], "c");
    assert_served(load, &instance);
}

#[test]
fn f55_t25_orders_that_have_nothing_to_do_or_are_stale() {
    let mut instance = Start::default()
        .flags(&["--soak", "0s", "--ramp", "0s"])
        .service("release = \"v1\"")
        .ready();
    instance
        .cli(&["rollout", "--release", "v1"])
        .expect(0)
        .says(&["nothing to do", "--force"]);
    assert_eq!(instance.status()["services"]["app"]["generation"], 1);
    instance
        .cli(&["rollout", "--release", "v1", "--force"])
        .expect(0)
        .says(&["app-2 (v1) completed"]);
    let answer = order(&instance, r#"{"expected_generation": 1}"#);
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert_eq!(
        answer.json()["detail"],
        "the stable generation is 2, not the expected one"
    );
    instance
        .cli(&["rollout", "--expected-generation", "1"])
        .expect(5)
        .says(&["the stable generation is 2"]);
    instance
        .cli(&["rollout", "nobody"])
        .expect(2)
        .says(&["nobody"]);
    // The same key is the same order, another body under it is refused.
    let socket = instance.admin_socket();
    let keyed = |body: &str| {
        Client::unix(&socket)
            .and_then(|mut client| {
                let fields = [
                    ("Content-Type", "application/json"),
                    ("Idempotency-Key", "once"),
                ];
                client.request("POST", "/v1/rollouts", &fields, body.as_bytes())
            })
            .expect("an answer")
    };
    let first = keyed(r#"{"release": "v2"}"#);
    assert_eq!(first.status, 202, "{}", first.text());
    assert_eq!(first.json()["rollouts"][0]["id"], "app-3");
    ended(&mut instance, 3, "completed");
    let again = keyed(r#"{"release": "v2"}"#);
    assert_eq!(again.json()["rollouts"][0]["id"], "app-3");
    assert_eq!(app(&instance.status())["generation"], 3);
    instance.cli(&["pause"]).expect(5);
}

/// Every moment at which a person may speak up: new workers start, the share climbs, it is watched, and
/// all of it again when half of the old ones are gone.
const MOMENTS: [(&str, u64); 5] = [
    ("starting", 1),
    ("ramping", 1),
    ("soaking", 1),
    ("starting", 2),
    ("soaking", 2),
];

fn steered(start: Start) -> (Instance, Load) {
    let mut instance = start.flags(&["--soak", "500ms", "--ramp", "250ms"]).ready();
    instance.knobs.set(&[("start_delay_ms", "200")]);
    let load = Load::known_to(&instance, Mix::PLAIN, 20);
    instance.wait("the status", |_| true);
    (instance, load)
}

/// Rolls and waits for the moment.
fn at(instance: &mut Instance, to: u64, (step, batch): (&str, u64)) {
    let answer = order(instance, "{}");
    assert_eq!(answer.json()["rollouts"][0]["to"], to, "{}", answer.text());
    instance.wait(&format!("{step} of batch {batch}"), |status| {
        let now = rollout(status);
        now["to"] == to && now["step"]["name"] == step && now["step"]["batch"] == batch
    });
}

fn say(instance: &Instance, id: u64, word: &str) {
    let answer = instance.admin("POST", &format!("/v1/rollouts/app-{id}/{word}"), "{}");
    assert!(
        (200..300).contains(&answer.status),
        "{word}: {} {}",
        answer.status,
        answer.text()
    );
}

#[test]
fn f63_abort_at_every_moment_loses_no_capacity_and_is_idempotent() {
    let (mut instance, load) = steered(Start::default());
    let watch = Watch::start(&instance);
    for (n, moment) in (2..).zip(MOMENTS) {
        at(&mut instance, n, moment);
        say(&instance, n, "abort");
        say(&instance, n, "abort");
        let status = ended(&mut instance, n, "rolled_back");
        assert_eq!(rollout(&status)["failure"]["reason"], "aborted");
        say(&instance, n, "abort");
        alone(&mut instance, 1);
    }
    assert_full_strength(&watch.stop());
    assert_served(load, &instance);
}

#[test]
fn f63_pause_and_resume_at_every_moment_lose_no_capacity_and_are_idempotent() {
    let (mut instance, load) = steered(Start::default());
    let watch = Watch::start(&instance);
    for (n, moment) in (2..).zip(MOMENTS) {
        at(&mut instance, n, moment);
        say(&instance, n, "pause");
        say(&instance, n, "pause");
        let status = instance.wait("the pause", |status| rollout(status)["state"] == "paused");
        assert_eq!(rollout(&status)["waiting_on"]["kind"], "person");
        let before = weights(app(&status));
        load.wait_for(40);
        let after = instance.status();
        assert_eq!(rollout(&after)["state"], "paused");
        if moment.0 != "starting" {
            assert_eq!(before, weights(app(&after)), "the share stands still");
        }
        say(&instance, n, "resume");
        // Again: no harm, unless the rest of the soak is over by now.
        let path = format!("/v1/rollouts/app-{n}/resume");
        let again = instance.admin("POST", &path, "{}");
        assert!(
            again.status < 300 || again.text().contains("has ended: completed"),
            "{}",
            again.text()
        );
        ended(&mut instance, n, "completed");
        alone(&mut instance, n);
    }
    assert_full_strength(&watch.stop());
    assert_served(load, &instance);
}

#[test]
fn f63_promote_at_every_moment_loses_no_capacity_and_is_idempotent() {
    let (mut instance, load) = steered(Start::default().flags(&["--workers", "2"]));
    let watch = Watch::start(&instance);
    for (n, moment) in (2..).zip(MOMENTS) {
        at(&mut instance, n, moment);
        say(&instance, n, "promote");
        say(&instance, n, "promote");
        ended(&mut instance, n, "completed");
        say(&instance, n, "promote");
        alone(&mut instance, n);
    }
    assert_full_strength(&watch.stop());
    assert_served(load, &instance);
}

#[test]
fn the_share_climbs_and_all_shares_sum_up() {
    let instance = Start::default()
        .flags(&["--soak", "1200ms", "--ramp", "1s"])
        .ready();
    let load = Load::known_to(&instance, Mix::PLAIN, 20);
    let watch = Watch::start(&instance);
    instance
        .cli(&["rollout"])
        .expect(0)
        .says(&["app-2 completed"]);
    let seen = watch.stop();
    assert_full_strength(&seen);
    let climb: Vec<f64> = seen
        .iter()
        .filter_map(|app| weights(app).get(&2).copied())
        .collect();
    assert!(climb.is_sorted(), "I4: {climb:?}");
    let mut steps = climb.clone();
    steps.dedup();
    assert!(steps.len() >= 8, "gradual: {steps:?}");
    assert_eq!(climb.last(), Some(&1.0), "{steps:?}");
    assert_eq!(climb.first(), Some(&0.0), "{steps:?}");
    assert_served(load, &instance);
}

#[test]
fn f56_a_release_that_fails_in_live_traffic_is_undone_by_judgement() {
    let instance = Start::default()
        .flags(&["--soak", "30s", "--ramp", "500ms"])
        .ready();
    let load = Load::known_to(&instance, Mix::PLAIN, 50);
    instance.knobs.set(&[("fail_percent", "50")]);
    let watch = Watch::start(&instance);
    let said = instance.cli(&["rollout", "--release", "bad"]).expect(1);
    said.says(&[
        "app-2 (bad) was rolled back",
        "requests to generation 2 failed",
        "generation 1 serves at full strength",
    ]);
    let status = instance.status();
    let now = rollout(&status);
    assert_eq!(now["failure"]["reason"], "judgement", "{now:#}");
    let verdict = now["verdicts"].as_array().and_then(|all| all.last());
    let verdict = verdict.expect("a verdict is kept");
    assert_eq!(verdict["verdict"], "fail", "{verdict:#}");
    let of = |who: &str, what: &str| verdict[who][what].as_u64().expect("a number");
    assert!(of("candidate", "requests") >= 20, "{verdict:#}");
    assert!(
        of("candidate", "failures") * 4 >= of("candidate", "requests"),
        "{verdict:#}"
    );
    assert_eq!(of("stable", "failures"), 0, "{verdict:#}");
    let seen = watch.stop();
    assert_full_strength(&seen);
    for app in &seen {
        let state = app["rollout"]["state"].as_str().unwrap_or_default();
        if ["rolling_back", "rolled_back"].contains(&state) {
            let weight = weights(app).get(&2).copied().unwrap_or(0.0);
            assert!(weight < 1e-9, "I4: weight 0 from the first moment: {app:#}");
        }
    }
    load.wait_for(50);
    let failed: Vec<String> = load
        .stop()
        .into_iter()
        .filter_map(|entry| match entry.outcome {
            Outcome::Failed(why) => Some(why),
            Outcome::Answered => None,
        })
        .collect();
    assert!(
        failed.iter().all(|why| why.contains("broken release")),
        "{failed:?}"
    );
    instance.wait_metric("remuda_rollouts_total", &["result=\"rolled_back\""], 1.0);
}

/// One answer that the supervisor has heard of: a service without any is idle and is not soaked.
fn answer_and_know(instance: &Instance) {
    assert_eq!(instance.get("/").status, 200);
    instance.wait_metric("remuda_http_requests_total", &[], 1.0);
}

#[test]
fn f57_too_little_traffic_is_said_and_never_a_silent_pass() {
    let mut instance = Start::default()
        .flags(&["--soak", "2s", "--ramp", "0s", "--workers", "1"])
        .ready();
    answer_and_know(&instance);
    instance.signal(Signal::SIGUSR2);
    watching(&mut instance, 2);
    for _ in 0..3 {
        assert_eq!(instance.get("/").status, 200);
    }
    let status = ended(&mut instance, 2, "completed");
    let verdict = &rollout(&status)["verdicts"][0];
    assert_eq!(verdict["verdict"], "not_enough", "{verdict:#}");
    assert_eq!(
        verdict["message"],
        "too little traffic to judge (3 of 20 requests); went on because the workers stayed healthy"
    );
    instance.wait_said("too little traffic to judge (3 of 20 requests)");
}

#[test]
fn f57_with_hold_somebody_decides() {
    let mut instance = Start::default()
        .flags(&["--soak", "300ms", "--ramp", "0s", "--workers", "1"])
        .service("judge = { not_enough = \"hold\" }")
        .ready();
    answer_and_know(&instance);
    instance.signal(Signal::SIGUSR2);
    watching(&mut instance, 2);
    assert_eq!(instance.get("/").status, 200);
    let status = ended(&mut instance, 2, "paused");
    let waiting = rollout(&status)["waiting_on"].clone();
    assert!(
        waiting["message"]
            .as_str()
            .is_some_and(|text| text.contains("somebody to resume or abort: too little traffic")),
        "{waiting:#}"
    );
    instance.cli(&["resume"]).expect(0).says(&["goes on"]);
    ended(&mut instance, 2, "completed");
}

#[test]
fn f58_a_candidate_no_worse_than_a_sick_stable_one_passes_and_it_is_said() {
    let instance = Start::default()
        .flags(&["--soak", "1500ms", "--ramp", "200ms"])
        .knob("fail_percent", "40")
        .ready();
    let load = Load::known_to(&instance, Mix::PLAIN, 50);
    instance.cli(&["rollout"]).expect(0);
    drop(load.stop());
    let status = instance.status();
    let verdicts = &rollout(&status)["verdicts"];
    assert_eq!(verdicts[0]["verdict"], "pass", "{verdicts:#}");
    let message = verdicts[0]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("the stable generation is sick too"),
        "{message}"
    );
}

/// Where generations differ: each finds its own mark in the environment.
fn marked(flags: &[&str]) -> Instance {
    let mut instance = Start::default()
        .flags(flags)
        .service("env_file = \"marks\"")
        .file("marks", "MARK=first\n")
        .ready();
    instance.wait("the status", |_| true);
    instance
}

fn mark(instance: &Instance, text: &str) {
    std::fs::write(instance.dir.path().join("marks"), format!("MARK={text}\n"))
        .expect("the test's own directory is writable");
}

#[test]
fn f60_a_stable_worker_that_crashes_during_a_rollout_comes_back_from_its_own_recipe() {
    let mut instance = marked(&["--soak", "40s", "--ramp", "0s"]);
    let load = Load::known_to(&instance, Mix::PLAIN, 20);
    mark(&instance, "second");
    instance.signal(Signal::SIGUSR2);
    watching(&mut instance, 2);
    let status = instance.status();
    let stable: Vec<i64> = workers(app(&status))
        .filter(|w| w["generation"] == 1 && w["state"] == "ready")
        .filter_map(|w| w["pid"].as_i64())
        .collect();
    let victim = stable[0];
    kill(
        Pid::from_raw(i32::try_from(victim).expect("a pid")),
        Signal::SIGKILL,
    )
    .expect("it lives");
    let status = instance.wait("its successor", |status| {
        let of_one = workers(app(status)).filter(|w| w["generation"] == 1);
        let ready = of_one
            .filter(|w| w["state"] == "ready" && w["pid"].as_i64() != Some(victim))
            .count();
        ready == stable.len()
    });
    assert_eq!(rollout(&status)["state"], "running", "it goes on");
    let pid = workers(app(&status))
        .filter(|w| w["generation"] == 1)
        .filter_map(|w| w["pid"].as_i64())
        .find(|pid| !stable.contains(pid))
        .expect("the successor");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("it lives");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.contains("MARK=first"), "{environment}");
    assert!(environment.contains("REMUDA_GENERATION=1"), "{environment}");
    instance.cli(&["promote"]).expect(0);
    drop(load.stop());
    assert!(instance.get("/env").text().contains("MARK=second"));
}

#[test]
fn rollback_after_completion_goes_back_to_the_recipe_before() {
    let mut instance = marked(&["--soak", "0s", "--ramp", "0s"]);
    instance.cli(&["rollback"]).expect(5).says(&["no earlier"]);
    mark(&instance, "second");
    instance.cli(&["rollout", "--release", "two"]).expect(0);
    assert!(instance.get("/env").text().contains("MARK=second"));
    mark(&instance, "third");
    instance.cli(&["rollback"]).expect(0);
    let status = instance.status();
    assert_eq!(app(&status)["generation"], 3, "numbers are never reused");
    assert_eq!(rollout(&status)["trigger"], "rollback");
    let environment = instance.get("/env").text();
    assert!(environment.contains("MARK=first"), "{environment}");
    assert!(environment.contains("REMUDA_GENERATION=3"), "{environment}");
    alone(&mut instance, 3);
    instance
        .cli(&["rollback"])
        .expect(0)
        .says(&["nothing to do: generation 3", "app-3"]);
    assert_eq!(app(&instance.status())["generation"], 3);
}

#[test]
fn exit_1_shows_what_is_needed_to_see_why() {
    let mut instance = Start::default()
        .flags(&["--soak", "300ms", "--ramp", "0s", "--start-timeout", "1s"])
        .service("health = { path = \"/healthz\" }")
        .ready();
    instance.knobs.set(&[("exit_at_start", "7")]);
    instance.cli(&["rollout"]).expect(1).says(&[
        "app-2 was rolled back",
        "exit status 7",
        "cannot open database",
        "generation 1 serves at full strength",
    ]);
    // The log says what became of the rollout, and not three times what became of the worker.
    let why = "worker 2 of generation 2 ended before it was ready: exit status 7";
    instance.wait_said(&format!("the rollout to generation 2 is undone: {why}"));
    instance.wait_said(&format!(
        "the rollout to generation 2 was rolled back: {why}"
    ));
    instance.knobs.set(&[("never_ready", "1")]);
    instance
        .cli(&["rollout"])
        .expect(1)
        .says(&["app-3 was rolled back", "last probe", "503"]);
    let json = instance.cli(&["rollout", "--json"]).expect(1);
    let last = json.out.lines().last().expect("a result");
    let last: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(last["exit_code"], 1, "{last:#}");
    assert_eq!(last["rollouts"][0]["state"], "rolled_back", "{last:#}");
    alone(&mut instance, 1);
}

#[test]
fn exit_3_and_130_leave_the_rollout_alone() {
    let instance = Start::default().flags(&LONG).ready();
    answer_and_know(&instance);
    instance
        .cli(&["rollout", "--timeout", "500ms"])
        .expect(3)
        .says(&["the rollout goes on", "remuda why"]);
    let waiting = instance.cli_begin(&["rollout", "--release", "new"]);
    // It listens for Ctrl-C since before it sent the order.
    let deadline = Instant::now() + Duration::from_secs(20);
    while instance.admin("GET", "/v1/rollouts/app-3", "").status != 200 {
        assert!(Instant::now() < deadline, "the order did not arrive");
        std::thread::sleep(Duration::from_millis(20));
    }
    waiting.signal(Signal::SIGINT);
    waiting.end().expect(130).says(&["goes on"]);
    let status = instance.status();
    assert_eq!(rollout(&status)["to"], 2);
    assert_eq!(rollout(&status)["state"], "running");
    instance.cli(&["abort"]).expect(0);
}

#[test]
fn exit_6_when_the_old_release_cannot_be_refilled_and_the_healthy_part_serves_on() {
    let start = Start::default()
        .flags(&["--soak", "400ms", "--ramp", "0s", "--kill-grace", "500ms"])
        .service("cwd = \"current\"\nrestart = { first = \"50ms\", most = \"100ms\" }");
    let place = start.place().to_owned();
    std::fs::create_dir(place.join("one")).expect("writable");
    std::fs::create_dir(place.join("two")).expect("writable");
    symlink("one", place.join("current")).expect("writable");
    let mut instance = start.ready();
    let load = Load::known_to(&instance, Mix::PLAIN, 20);
    std::fs::remove_file(place.join("current")).expect("it is there");
    symlink("two", place.join("current")).expect("writable");
    let waiting = instance.cli_begin(&["rollout"]);
    instance.wait("the first batch to be watched", |status| {
        rollout(status)["step"]["name"] == "soaking"
    });
    // What the old release needs is gone, and the new one fails in its second batch.
    instance.knobs.set(&[("exit_at_start", "1")]);
    std::fs::remove_dir(place.join("one")).expect("empty");
    waiting
        .end()
        .expect(6)
        .says(&["app-2 failed", "capacity is degraded"]);
    let status = instance.status();
    let serving: Vec<&Value> = workers(app(&status))
        .filter(|w| w["state"] == "ready")
        .collect();
    assert!(
        serving.iter().any(|w| w["generation"] == 2) && serving.len() == 2,
        "the healthy part keeps serving: {status:#}"
    );
    assert!(generations(app(&status)).count() == 2, "{status:#}");
    assert_served(load, &instance);
}

#[test]
fn the_directory_it_was_started_in_is_looked_up_anew_by_its_name() {
    let start = Start::default().flags(&["--soak", "0s", "--ramp", "0s"]);
    let place = start.place().canonicalize().expect("it is there");
    for version in ["one", "two"] {
        std::fs::create_dir(place.join(version)).expect("writable");
    }
    symlink("one", place.join("current")).expect("writable");
    let instance = start.within(place.join("current")).ready();
    let directories = |instance: &Instance| -> Vec<_> {
        let status = instance.status();
        // The old ones may still be on their way out.
        let ready = workers(app(&status)).filter(|worker| worker["state"] == "ready");
        let pids = ready.map(|worker| worker["pid"].as_i64().expect("a pid"));
        pids.map(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs"))
            .collect()
    };
    assert_eq!(
        directories(&instance),
        [place.join("one"), place.join("one")]
    );
    std::fs::remove_file(place.join("current")).expect("it is there");
    symlink("two", place.join("current")).expect("writable");
    instance.cli(&["rollout"]).expect(0);
    assert_eq!(
        directories(&instance),
        [place.join("two"), place.join("two")]
    );
}

#[test]
fn exit_4_when_no_instance_answers() {
    let mut instance = Start::default().ready();
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0));
    instance.cli(&["rollout"]).expect(4);
    instance.cli(&["status"]).expect(4);
}

#[test]
fn the_count_of_workers_is_set_by_command_and_by_signals() {
    let mut instance = Start::default().ready();
    let load = Load::known_to(&instance, Mix::PLAIN, 20);
    let count = |instance: &mut Instance, wanted: u64| {
        instance.wait(&format!("{wanted} workers"), |status| {
            app(status)["wanted"] == wanted
                && app(status)["ready"] == wanted
                && workers(app(status)).count() as u64 == wanted
        });
    };
    instance.cli(&["scale", "4"]).expect(0).says(&["4 workers"]);
    count(&mut instance, 4);
    instance.cli(&["scale", "2"]).expect(0);
    count(&mut instance, 2);
    instance.signal(Signal::SIGTTIN);
    count(&mut instance, 3);
    instance.signal(Signal::SIGTTOU);
    count(&mut instance, 2);
    instance.signal(Signal::SIGTTOU);
    count(&mut instance, 1);
    instance.signal(Signal::SIGTTOU);
    instance.cli(&["scale", "0"]).expect(2);
    let answer = instance.admin("POST", "/v1/services/app/scale", r#"{"workers": 0}"#);
    assert_eq!(answer.status, 422, "{}", answer.text());
    count(&mut instance, 1);
    assert_served(load, &instance);
}
