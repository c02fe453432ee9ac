//! The retire order as a client and an operator see it: what finishes, what is cut, when, and who says so.

use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::checker::assert_clean;
use super::support::http::{Answer, Client};
use super::support::instance::{Instance, Start};
use super::support::load::{Load, Mix};
use super::support::watch::{Watch, assert_full_strength, in_slot, workers};

/// One worker, so that a test knows where its request is; no ramp and soak.
fn one_worker(limits: &str) -> Instance {
    Start::default()
        .flags(&["--workers", "1", "--soak", "0s", "--ramp", "0s"])
        .service(&format!("drain = {{ {limits} }}"))
        .ready()
}

fn wait_in_flight(instance: &mut Instance, class: &str) {
    instance.wait("the request to be in flight", |status| {
        workers(&status["services"]["app"]).any(|worker| worker["in_flight_by_class"][class] == 1)
    });
}

fn draining(app: &Value) -> Option<&Value> {
    workers(app).find(|worker| worker["state"] == "draining")
}

/// Rolls, and waits until the worker of generation 1 drains.
fn roll(instance: &mut Instance) -> Value {
    instance.signal(Signal::SIGUSR2);
    instance.wait("the old worker to drain", |status| {
        draining(&status["services"]["app"]).is_some_and(|worker| worker["generation"] == 1)
    })
}

/// Waits until the rollout is over and the old worker is gone.
fn over(instance: &mut Instance) -> Value {
    let status = instance.wait("the old worker to be gone", |status| {
        let app = &status["services"]["app"];
        app["rollout"]["state"] == "completed" && workers(app).all(|w| w["generation"] == 2)
    });
    status["services"]["app"]["rollout"].clone()
}

fn assert_counts(instance: &Instance, rollout: &Value, outcome: &str, cut: Option<&str>) {
    instance.wait_metric(
        "remuda_drains_total",
        &[&format!("outcome=\"{outcome}\"")],
        1.0,
    );
    instance.wait_metric("remuda_drains_total", &[], 1.0);
    for class in ["plain", "upload", "stream", "tunnel"] {
        let count = u8::from(cut == Some(class));
        let label = format!("class=\"{class}\"");
        instance.wait_metric(
            "remuda_drain_cut_requests_total",
            &[&label],
            f64::from(count),
        );
        assert_eq!(rollout["ledger"]["cut"][class], count, "{rollout:#}");
    }
}

#[test]
fn f48_i6_a_request_in_flight_finishes_before_its_worker_is_told_to_end() {
    let mut instance = one_worker("request = \"20s\"");
    let mut client = instance.client();
    let fields = [("X-Id", "held")];
    client
        .send("GET", "/slow?ms=2500", &fields, b"")
        .expect("it accepts");
    wait_in_flight(&mut instance, "plain");
    let status = roll(&mut instance);

    let app = &status["services"]["app"];
    let worker = draining(app).expect("just seen");
    assert_eq!(worker["in_flight_by_class"]["plain"], 1, "{worker:#}");
    assert_eq!(worker["drain_initial"], 1, "{worker:#}");
    assert!(worker["drain_deadline"].is_string(), "{worker:#}");
    let slot = worker["slot"].as_u64().expect("a number");
    let status = instance.wait("the sentence", |status| {
        status["services"]["app"]["waiting_on"]["kind"] == "drain"
    });
    let waiting = &status["services"]["app"]["waiting_on"];
    let sentence = format!("1 request on worker {slot} of generation 1 to finish");
    assert_eq!(waiting["message"], sentence, "{waiting:#}");
    assert!(waiting["deadline"].is_string(), "{waiting:#}");
    instance
        .cli(&["why"])
        .expect(0)
        .says(&[&sentence, "at most"]);
    instance
        .cli(&["status"])
        .expect(0)
        .says(&["draining", &sentence]);

    let listed = instance
        .admin("GET", "/v1/services/app/requests", "")
        .json();
    let request = &listed["requests"][0];
    assert_eq!(request["class"], "plain", "{listed:#}");
    assert_eq!(request["slot"], slot, "{listed:#}");
    assert_eq!(request["generation"], 1, "{listed:#}");
    assert_eq!(request["blocks_drain"], true, "{listed:#}");
    assert_eq!(request["route"], "/slow", "the query stays secret");
    let number = |key: &str| request[key].as_f64().expect(key);
    assert!(number("age") > 0.0 && number("age") < 20.0, "{listed:#}");
    assert!(number("eta") > 0.0 && number("eta") <= 20.0, "{listed:#}");
    instance
        .cli(&["requests"])
        .expect(0)
        .says(&["plain", "holds a drain, cut in", "GET /slow"]);

    // A worker without any shutdown code would have died of SIGTERM with the request in its hands.
    assert_eq!(client.answer(false).expect("an answer").status, 200);
    let rollout = over(&mut instance);
    assert_counts(&instance, &rollout, "clean", None);
}

#[test]
fn f48_rollouts_of_a_worker_without_shutdown_code_lose_nothing() {
    let mut instance = Start::default()
        .flags(&["--soak", "100ms", "--ramp", "50ms"])
        .ready();
    let load = Load::known_to(
        &instance,
        Mix {
            slow: 6,
            ..Mix::default()
        },
        30,
    );
    for generation in 2..=4 {
        instance.signal(Signal::SIGUSR2);
        instance.wait("the rollout to complete", |status| {
            let app = &status["services"]["app"];
            app["generation"] == generation && app["rollout"]["state"] == "completed"
        });
    }
    assert_clean(&load.stop(), &instance.dir.path().join("executed"));
}

#[test]
fn a_plain_request_over_the_limit_is_cut_with_504_and_counted() {
    let mut instance = one_worker("request = \"700ms\"");
    let mut client = instance.client();
    client
        .send("GET", "/slow?ms=30000", &[], b"")
        .expect("it accepts");
    wait_in_flight(&mut instance, "plain");
    roll(&mut instance);
    let answer = client.answer(false).expect("an answer, not a reset");
    assert_eq!(answer.status, 504);
    let id = answer
        .header("x-request-id")
        .expect("it is named")
        .to_owned();
    assert!(answer.text().contains(&id), "{}", answer.text());
    let rollout = over(&mut instance);
    assert_counts(&instance, &rollout, "deadline", Some("plain"));
    instance.wait_metric(
        "remuda_http_proxy_errors_total",
        &["reason=\"drain_limit\""],
        1.0,
    );
    assert_eq!(client.get("/").expect("the connection is kept").status, 200);
}

/// The head of an upload and so much of its body that it counts as one.
fn begin_upload(instance: &mut Instance, length: usize) -> Client {
    let mut client = instance.client();
    let head =
        format!("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    client.write(head.as_bytes()).expect("it accepts");
    client.write(&[b'x'; 100_000]).expect("it accepts");
    wait_in_flight(instance, "upload");
    client
}

#[test]
fn an_upload_that_goes_on_is_not_cut() {
    let mut instance = one_worker("request = \"300ms\", upload = \"1s\"");
    let mut client = begin_upload(&mut instance, 200_000);
    roll(&mut instance);
    // Longer than either limit in all, but never still for long.
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(200));
        client.write(&[b'x'; 10_000]).expect("it is not cut");
    }
    let answer = client.answer(false).expect("an answer");
    assert_eq!((answer.status, answer.body.len()), (200, 200_000));
    let rollout = over(&mut instance);
    assert_counts(&instance, &rollout, "clean", None);
}

#[test]
fn an_upload_that_stalls_is_cut() {
    let mut instance = one_worker("request = \"300ms\", upload = \"800ms\"");
    let mut client = begin_upload(&mut instance, 200_000);
    roll(&mut instance);
    assert_eq!(client.answer(false).expect("an answer").status, 504);
    let rollout = over(&mut instance);
    assert_counts(&instance, &rollout, "deadline", Some("upload"));
}

fn begin_events(instance: &mut Instance, target: &str) -> Client {
    let mut client = instance.client();
    client.send("GET", target, &[], b"").expect("it accepts");
    let head = client.head().expect("a head");
    assert_eq!(head.status, 200);
    wait_in_flight(instance, "stream");
    client
}

fn events(client: &mut Client) -> io::Result<usize> {
    let mut count = 0;
    while client.chunk()?.is_some() {
        count += 1;
    }
    Ok(count)
}

#[test]
fn f47_a_stream_that_goes_on_is_not_cut() {
    let mut instance = one_worker("request = \"200ms\", stream = \"1s\"");
    let mut client = begin_events(&mut instance, "/sse?n=20&ms=150");
    roll(&mut instance);
    let status = instance.wait("the sentence", |status| {
        status["services"]["app"]["waiting_on"]["kind"] == "drain"
    });
    let waiting = &status["services"]["app"]["waiting_on"];
    let sentence = waiting["message"].as_str().expect("a sentence");
    assert!(
        sentence.ends_with("to finish; cut without progress are streams after 1s, and all 1h after it began to drain"),
        "{waiting:#}"
    );
    assert!(waiting["deadline"].is_null(), "each event moves it");
    assert_eq!(events(&mut client).expect("its end"), 20);
    let rollout = over(&mut instance);
    assert_counts(&instance, &rollout, "clean", None);
}

#[test]
fn f47_a_stream_that_stalls_is_cut_and_does_not_look_whole() {
    let mut instance = one_worker("request = \"200ms\", stream = \"800ms\"");
    let mut client = begin_events(&mut instance, "/sse?n=2&ms=30000");
    roll(&mut instance);
    assert!(events(&mut client).is_err(), "no last chunk was sent");
    let rollout = over(&mut instance);
    assert_counts(&instance, &rollout, "deadline", Some("stream"));
}

fn begin_tunnel(instance: &mut Instance) -> Client {
    let mut client = instance.client();
    let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    client.send("GET", "/ws", &fields, b"").expect("it accepts");
    assert_eq!(client.head().expect("a head").status, 101);
    wait_in_flight(instance, "tunnel");
    client
}

#[test]
fn f47_a_tunnel_in_use_outlives_the_other_limits_and_a_silent_one_is_cut() {
    let mut instance = one_worker("request = \"200ms\", stream = \"200ms\", tunnel = \"1s\"");
    let mut client = begin_tunnel(&mut instance);
    roll(&mut instance);
    for n in 0..8 {
        std::thread::sleep(Duration::from_millis(200));
        let message = format!("message {n}");
        let echo = client.exchange_raw(message.as_bytes()).expect("it lives");
        assert_eq!(echo, message.as_bytes());
    }
    let silent = Instant::now();
    assert_eq!(client.rest().unwrap_or_default(), b"", "it is closed");
    let after = silent.elapsed();
    assert!(
        after > Duration::from_millis(300) && after < Duration::from_secs(6),
        "{after:?}"
    );
    let rollout = over(&mut instance);
    assert_counts(&instance, &rollout, "deadline", Some("tunnel"));
}

#[test]
fn a_tunnel_that_its_client_closes_ends_the_drain_clean() {
    let mut instance = one_worker("tunnel = \"60s\"");
    let client = begin_tunnel(&mut instance);
    let status = roll(&mut instance);
    let worker = draining(&status["services"]["app"]).expect("just seen");
    assert_eq!(worker["in_flight_by_class"]["tunnel"], 1, "{worker:#}");
    drop(client);
    let rollout = over(&mut instance);
    assert_counts(&instance, &rollout, "clean", None);
}

fn slots_that_answer(instance: &Instance) -> Vec<String> {
    let mut slots: Vec<String> = (0..30)
        .map(|_| {
            let text = instance.get("/").text();
            text.rsplit(' ').next().unwrap_or_default().to_owned()
        })
        .collect();
    slots.sort();
    slots.dedup();
    slots
}

#[test]
fn a_worker_is_drained_and_undrained_by_hand_and_keeps_its_process() {
    let mut instance = Start::default().ready();
    let pid = |status: &Value| in_slot(&status["services"]["app"], 0).map(|w| w["pid"].clone());
    let before = pid(&instance.status());
    // As many as it takes to have one on slot 0.
    let mut held: Vec<Client> = (0..6)
        .map(|_| {
            let mut client = instance.client();
            client
                .send("GET", "/slow?ms=1500", &[], b"")
                .expect("it accepts");
            client
        })
        .collect();
    instance.wait("a request in slot 0", |status| {
        in_slot(&status["services"]["app"], 0).is_some_and(|w| w["in_flight"] != 0)
    });
    instance.cli(&["drain", "0"]).expect(0).says(&[
        "1 of 2 wanted workers serve now",
        "slot 0 is drained",
        "undrain",
    ]);
    let status = instance.status();
    let worker = in_slot(&status["services"]["app"], 0).expect("it is still there");
    assert_eq!(worker["in_flight"], 0, "the command waited: {worker:#}");
    assert_eq!(worker["state"], "draining", "{worker:#}");
    assert_eq!(slots_that_answer(&instance), ["s1"]);
    for client in &mut held {
        assert_eq!(client.answer(false).expect("an answer").status, 200);
    }
    // Again: no harm.
    instance.cli(&["drain", "0"]).expect(0);
    instance.cli(&["undrain", "0"]).expect(0);
    instance.cli(&["undrain", "0"]).expect(0);
    assert_eq!(pid(&instance.status()), before);
    assert_eq!(slots_that_answer(&instance), ["s0", "s1"]);
    instance.cli(&["drain", "7"]).expect(2).says(&["slot 7"]);
}

#[test]
fn i1_a_worker_is_restarted_by_hand_the_new_one_first() {
    let mut instance = Start::default().ready();
    let load = Load::known_to(&instance, Mix::default(), 30);
    let watch = Watch::start(&instance);
    let before = instance.status();
    let pid = |status: &Value, slot| {
        in_slot(&status["services"]["app"], slot).and_then(|worker| worker["pid"].as_u64())
    };
    instance.cli(&["restart", "0"]).expect(0).says(&["slot 0"]);
    let old = pid(&before, 0);
    let after = instance.wait("the old one to be gone", |status| {
        let app = &status["services"]["app"];
        workers(app).count() == 2 && workers(app).all(|w| w["pid"].as_u64() != old)
    });
    assert!(
        workers(&after["services"]["app"]).any(|w| w["pid"].as_u64() == pid(&before, 1)),
        "the other one was left alone: {after:#}"
    );
    assert_eq!(after["services"]["app"]["generation"], 1, "{after:#}");
    assert_full_strength(&watch.stop());
    assert_clean(&load.stop(), &instance.dir.path().join("executed"));
}

#[test]
fn drain_orders_are_refused_with_a_reason() {
    let mut instance = Start::default().ready();
    let post = |path: &str| -> Answer { instance.admin("POST", path, "{}") };
    assert_eq!(post("/v1/services/app/workers/9/drain").status, 404);
    assert_eq!(post("/v1/services/none/workers/0/drain").status, 404);
    let answer = post("/v1/services/app/workers/9/restart");
    let problem = answer.json();
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(
        problem["detail"],
        "there is no worker in slot 9; there are some in slots 0, 1"
    );
    instance.wait("everything as before", |status| {
        status["services"]["app"]["ready"] == 2
    });
}
