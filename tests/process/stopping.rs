//! A stop while requests are in flight: it takes no orders and says what it waits for.

use nix::sys::signal::Signal;

use super::support::instance::{Instance, Start};

/// Every order is refused as a reload is, and by signal with a line in the log.
fn takes_no_orders(instance: &mut Instance) {
    for (path, body) in [
        ("/v1/rollouts", "{}"),
        ("/v1/services/app/scale", r#"{"workers": 4}"#),
        ("/v1/services/app/workers/0/restart", "{}"),
        ("/v1/services/app/workers/0/drain", "{}"),
        ("/v1/services/app/rollback", "{}"),
        ("/v1/reload", "{}"),
    ] {
        let answer = instance.admin("POST", path, body);
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        assert_eq!(answer.json()["type"], "urn:remuda:stopping", "{path}");
    }
    instance.signal(Signal::SIGUSR2);
    instance.wait_said("SIGUSR2 changed nothing: remuda is stopping");
    instance.signal(Signal::SIGHUP);
    instance.wait_said("reload by SIGHUP: refused: remuda is stopping");
    let status = instance.status();
    assert_eq!(status["state"], "stopping");
    let app = &status["services"]["app"];
    assert_eq!((&app["wanted"], &app["generation"]), (&2.into(), &1.into()));
}

#[test]
fn f39_a_stop_with_requests_in_flight_takes_no_orders_and_says_what_it_waits_for() {
    let mut instance = Start::default().ready();
    let mut slow = instance.client();
    slow.send("GET", "/slow?ms=4000", &[], b"")
        .expect("it accepts");
    instance.wait("the request to be in flight", |status| {
        status["services"]["app"]["in_flight"] == 1
    });
    instance.signal(Signal::SIGTERM);
    let sentence = "1 request in flight to finish, as remuda is stopping";
    let status = instance.wait("the stop to wait for the request", |status| {
        status["services"]["app"]["waiting_on"]["message"] == sentence
    });
    let waiting = &status["services"]["app"]["waiting_on"];
    assert_eq!(waiting["kind"], "drain", "{waiting:#}");
    assert!(waiting["deadline"].is_string(), "{waiting:#}");
    instance
        .cli(&["why"])
        .expect(0)
        .says(&[sentence, ", at most "]);
    instance
        .cli(&["status"])
        .expect(0)
        .says(&["stopping, up ", "waiting  1 request in flight to finish"]);
    takes_no_orders(&mut instance);
    assert_eq!(slow.answer(false).expect("it finishes").status, 200);
    assert_eq!(instance.ended().code(), Some(0));
}

#[test]
fn f39_within_the_shutdown_delay_no_orders_are_taken_though_it_serves() {
    let mut instance = Start::default().top("shutdown_delay = \"60s\"\n").ready();
    instance.signal(Signal::SIGTERM);
    instance.wait("the delay to be awaited", |status| {
        status["services"]["app"]["waiting_on"]["message"]
            == "`shutdown_delay` to pass, as remuda is stopping; until then it serves as before (nothing in flight)"
    });
    takes_no_orders(&mut instance);
    assert_eq!(instance.get("/").status, 200);
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0));
}
