//! A stop while requests are in flight: it takes no orders and says what it waits for.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::support::http::Client;
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

/// How a client's connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Its last answer said so.
    Told,
    /// A request got no answer, though nothing had said that none could follow.
    Lost(Duration),
}

/// A client that keeps its connection, sends a request at its own pace, and never looks whether the connection
/// still stands.
fn paced(
    address: SocketAddr,
    pace: Duration,
    served: &'static AtomicUsize,
) -> JoinHandle<(End, Duration)> {
    let mut client = Client::tcp(address).expect("it accepts");
    std::thread::spawn(move || {
        let begun = Instant::now();
        // Half a pace, a whole one, three quarters, and again.
        for quarters in [2, 4, 3].into_iter().cycle() {
            let Ok(answer) = client.get("/") else {
                return (End::Lost(pace), begun.elapsed());
            };
            served.fetch_add(1, Ordering::Relaxed);
            if answer.header("connection") == Some("close") {
                return (End::Told, begun.elapsed());
            }
            std::thread::sleep(pace * quarters / 4);
        }
        unreachable!("it goes on until it is told, or fails")
    })
}

/// So many clients, of all paces up to `slowest`.
fn of_all_paces(
    instance: &Instance,
    count: u32,
    slowest: Duration,
) -> (Vec<JoinHandle<(End, Duration)>>, &'static AtomicUsize) {
    let served: &'static AtomicUsize = Box::leak(Box::default());
    let clients = (1..=count)
        .map(|n| paced(instance.address, slowest * n / count, served))
        .collect();
    (clients, served)
}

fn assert_all_told(clients: Vec<JoinHandle<(End, Duration)>>) {
    let ends = clients.into_iter().map(|client| client.join());
    let lost: Vec<_> = ends
        .map(|end| end.expect("it ends").0)
        .filter(|end| *end != End::Told)
        .collect();
    assert_eq!(lost, [], "of these paces");
}

#[test]
fn f46_clients_that_send_now_and_then_hear_of_a_stop_by_an_answer_and_lose_no_request() {
    let mut instance = Start::default().ready();
    let (clients, served) = of_all_paces(&instance, 60, Duration::from_millis(2_000));
    instance.wait("them to be under way", |_| {
        served.load(Ordering::Relaxed) >= 300
    });
    instance.signal(Signal::SIGTERM);
    let stops = Instant::now();
    assert_all_told(clients);
    assert_eq!(instance.ended().code(), Some(0));
    let took = stops.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn f46_within_the_shutdown_delay_answers_let_clients_go_that_were_there_before() {
    let mut instance = Start::default().top("shutdown_delay = \"60s\"\n").ready();
    let mut before = instance.client();
    assert_eq!(before.get("/").expect("served").header("connection"), None);
    instance.signal(Signal::SIGTERM);
    instance.wait("the stop", |status| status["state"] == "stopping");
    let mut later = instance.client();
    let deadline = Instant::now() + Duration::from_secs(40);
    while before.get("/").expect("served").header("connection") != Some("close") {
        assert!(Instant::now() < deadline, "it is never told");
        let kept = later.get("/").expect("served");
        assert_eq!(kept.header("connection"), None);
    }
    assert_eq!(before.rest().expect("closed"), b"");
    assert_eq!(later.get("/").expect("served").status, 200);
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0));
}
