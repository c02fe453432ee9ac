//! Bad releases under mixed load, by all three triggers: nothing is lost, nothing is executed twice.

use nix::sys::signal::Signal;

use super::support::checker::assert_clean;
use super::support::instance::{Instance, Start};
use super::support::load::{Load, Mix};

pub(crate) const QUICK: [&str; 4] = ["--soak", "200ms", "--ramp", "100ms"];

/// Orders a rollout, each time in another of the three ways.
pub(crate) fn trigger(instance: &Instance, n: u64) {
    match n % 3 {
        0 => instance.signal(Signal::SIGUSR2),
        1 => {
            let answer = instance.admin("POST", "/v1/rollouts", "{}");
            assert_eq!(answer.status, 202, "{}", answer.text());
        }
        _ => {
            let status = std::process::Command::new(env!("CARGO_BIN_EXE_remuda"))
                .args(["rollout", "--detach", "--admin-socket"])
                .stdout(std::process::Stdio::null())
                .arg(instance.admin_socket())
                .status()
                .expect("the binary is built");
            assert!(status.success());
        }
    }
}

fn bad_releases_are_refused(kind: &[(&str, &str)], more: &[&str], count: u64) {
    let mut instance = Start::default()
        .flags(&QUICK)
        .flags(&["--kill-grace", "500ms"])
        .flags(more)
        .ready();
    let load = Load::known_to(
        &instance,
        Mix {
            slow: 1,
            ..Mix::default()
        },
        50,
    );
    instance.knobs.set(kind);
    for n in 0..count {
        trigger(&instance, n);
        let to = n + 2;
        let status = instance.wait("the rollout to be rolled back", |status| {
            let rollout = &status["services"]["app"]["rollout"];
            rollout["to"] == to && rollout["state"] == "rolled_back"
        });
        let app = &status["services"]["app"];
        assert_eq!(app["generation"], 1, "{app:#}");
        assert_eq!(app["ready"], app["wanted"], "{app:#}");
        assert!(app["rollout"]["failure"]["message"].is_string(), "{app:#}");
    }
    load.wait_for(50);
    let client = load.stop();
    assert_clean(&client, &instance.dir.path().join("executed"));
}

#[test]
fn f21_a_release_that_exits_at_start_hurts_nobody() {
    bad_releases_are_refused(&[("exit_at_start", "1")], &[], 10);
}

#[test]
fn f21_a_release_that_never_listens_hurts_nobody() {
    bad_releases_are_refused(&[("never_listen", "1")], &["--start-timeout", "400ms"], 10);
}

#[test]
fn f22_a_release_that_listens_but_is_never_ready_hurts_nobody() {
    bad_releases_are_refused(
        &[("never_ready", "1")],
        &["--start-timeout", "400ms", "--health", "/healthz"],
        10,
    );
}

#[test]
fn a_release_that_answers_garbage_hurts_nobody() {
    bad_releases_are_refused(&[("garbage", "1")], &["--start-timeout", "400ms"], 10);
}

#[test]
fn a_release_on_the_wrong_port_hurts_nobody() {
    bad_releases_are_refused(&[("wrong_port", "1")], &["--start-timeout", "400ms"], 10);
}

#[test]
fn f27_a_release_that_daemonises_hurts_nobody() {
    bad_releases_are_refused(&[("daemonise", "1")], &[], 10);
}
