//! Workers that stand still while their process lives: they are named, and replaced one by one.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::support::checker::{Allowed, Executed, Outcome, violations};
use super::support::instance::Start;
use super::support::load::{Load, Mix};

fn app(status: &Value) -> &Value {
    &status["services"]["app"]
}

/// Pid and health of the worker in this slot.
fn in_slot(status: &Value, slot: u64) -> Option<(i32, String)> {
    let generations = app(status)["generations"].as_array()?;
    let mut workers = generations
        .iter()
        .flat_map(|generation| generation["workers"].as_array().into_iter().flatten());
    let worker = workers.find(|worker| worker["slot"] == slot)?;
    let pid = i32::try_from(worker["pid"].as_i64()?).ok()?;
    Some((pid, worker["health"].as_str()?.to_owned()))
}

/// Two workers, of which one was stopped and fails its probes; its pid.
fn one_stands_still(start: Start) -> (super::support::instance::Instance, i32) {
    let mut instance = start
        .service("health = { interval = \"100ms\", timeout = \"200ms\" }\n")
        .flags(&["--kill-grace", "500ms", "--drain-timeout", "1s"])
        .ready();
    let (victim, _) = in_slot(&instance.status(), 1).expect("two workers");
    kill(Pid::from_raw(victim), Signal::SIGSTOP).expect("it lives");
    instance.wait("its probes to fail", |status| {
        in_slot(status, 1).is_some_and(|(_, health)| health == "failing")
    });
    (instance, victim)
}

#[test]
fn a_worker_that_stands_still_is_named_and_replaced() {
    let start = Start::default().service("restart = { unhealthy = \"4s\" }\n");
    let (mut instance, victim) = one_stands_still(start);
    let why = instance.cli(&["why"]).expect(0);
    why.says(&[
        "worker 1 of generation 1 to pass its health check again, or to be replaced",
        "no answer in 200ms",
        " now, at most ",
    ]);
    let load = Load::start(
        instance.address,
        Mix {
            sse: 0,
            tunnel: 0,
            ..Mix::default()
        },
    );
    instance.wait_said("and is replaced: no answer in 200ms");
    instance.wait("the sick one to be gone", |status| {
        let gone = [0, 1, 2].into_iter().all(|slot| {
            in_slot(status, slot).is_none_or(|(pid, health)| pid != victim && health == "passing")
        });
        gone && app(status)["ready"] == 2 && app(status)["waiting_on"].is_null()
    });
    assert!(kill(Pid::from_raw(victim), None).is_err(), "it lives");
    instance.wait_metric(
        "remuda_worker_restarts_total",
        &["reason=\"unhealthy\""],
        1.0,
    );
    load.wait_for_each();
    let client = load.stop();
    let failed = client
        .iter()
        .filter(|entry| entry.outcome != Outcome::Answered)
        .count();
    assert_eq!(failed, 0, "its gate was shut before");
    let executed = Executed::read(&instance.dir.path().join("executed"));
    let found = violations(&client, &executed, Allowed { failures: 0 });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_restart_does_not_wait_for_a_sibling_that_stands_still() {
    let (mut instance, victim) = one_stands_still(Start::default());
    let (healthy, _) = in_slot(&instance.status(), 0).expect("two workers");
    instance
        .cli(&["restart", "0", "--timeout", "30s"])
        .expect(0);
    instance.wait("two fresh workers", |status| {
        let old = [0, 1, 2, 3].into_iter().any(|slot| {
            in_slot(status, slot).is_some_and(|(pid, _)| pid == victim || pid == healthy)
        });
        !old && app(status)["ready"] == 2
    });
    assert_eq!(instance.get("/").status, 200);
}
