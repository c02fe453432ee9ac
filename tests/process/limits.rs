//! What a worker may have at once, and workers that fail: by the config, with real workers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::http::Client;
use super::support::instance::{Instance, Start};
use super::support::watch::plane;

/// A client that has sent a request and waits for its answer.
fn asks(instance: &Instance) -> Client {
    let mut client = instance.client();
    client.send("GET", "/", &[], b"").expect("it accepts");
    client
}

#[test]
fn a_worker_at_its_limit_makes_others_wait_or_turns_them_away() {
    let mut instance = Start::default()
        .service("workers = 1\nmax_in_flight = 1\nqueue = { requests = 1, wait = \"60s\" }")
        .ready();
    let mut tunnel = instance.client();
    let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    tunnel.send("GET", "/ws", &fields, b"").expect("it accepts");
    assert_eq!(tunnel.head().expect("a head").status, 101);
    let mut waiting = asks(&instance);
    instance.wait("one to wait", |status| {
        status["services"]["app"]["parked"] == 1
    });
    let refused = instance.get("/");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    instance.cli(&["requests"]).expect(0).says(&["parked"]);
    instance.cli(&["status"]).expect(0).says(&["1 parked"]);
    let why = "; 1 request waits, as every worker has `max_in_flight`";
    instance.cli(&["why"]).expect(0).says(&[why]);
    let errors = "remuda_http_proxy_errors_total";
    instance.wait_metric(errors, &["reason=\"queue_full\""], 1.0);
    instance.wait_metric("remuda_queue_dropped_total", &[], 1.0);
    instance.wait_metric("remuda_queue_depth", &[], 1.0);
    drop(tunnel);
    assert_eq!(waiting.answer(false).expect("an answer").status, 200);
    instance.wait_metric("remuda_queue_depth", &[], 0.0);
}

#[test]
fn f49_requests_whose_worker_refuses_them_are_not_said_to_wait_for_a_place() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("bound");
    let leaves = Arc::new(AtomicBool::new(false));
    let left = Arc::clone(&leaves);
    let theirs = std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept()
            && !left.load(Ordering::Relaxed)
        {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut instance = Start::default()
        .upstream(&[&address.to_string()])
        .service(
            "max_in_flight = 10\nhealth = { interval = \"10m\" }\nparking = { wait = \"60s\" }",
        )
        .ready();
    // Its next probe, which would tell, is far away.
    leaves.store(true, Ordering::Relaxed);
    drop(std::net::TcpStream::connect(address));
    theirs.join().expect("no panic");
    let _waiting = [asks(&instance), asks(&instance)];
    instance.wait("them to wait", |status| {
        status["services"]["app"]["parked"] == 2
    });
    let why = "; 2 requests wait, as every worker has failed them or has only just become ready";
    instance.cli(&["why"]).expect(0).says(&[why]);
}

#[test]
fn f53_a_worker_that_only_fails_is_ejected_and_shown() {
    let mut instance = Start::default()
        .service("workers = 2\nslow_start = \"0s\"\nejection = { base_time = \"10m\" }")
        .ready();
    instance.wait("both to be ready", |status| {
        status["services"]["app"]["ready"] == 2
    });
    // The one that comes in slot 0's place, while that still serves, fails always.
    instance.knobs.set(&[("fail_percent", "100")]);
    instance.cli(&["restart", "0"]).expect(0);
    let mut client = instance.client();
    let mut failed = 0;
    for _ in 0..5_000 {
        failed += u32::from(client.get("/").expect("an answer").status == 500);
        if failed >= 5 {
            break;
        }
    }
    let status = instance.wait("slot 2 to be ejected", |status| {
        let generations = &status["services"]["app"]["generations"];
        let workers = generations[0]["workers"].as_array().cloned();
        workers.is_some_and(|all| {
            all.iter()
                .any(|of| of["slot"] == 2 && of["ejected"] == true)
        })
    });
    assert_eq!(status["services"]["app"]["ready"], 2, "{status:#}");
    for _ in 0..50 {
        assert_eq!(client.get("/").expect("an answer").status, 200);
    }
    let slot = |slot| instance.metric("remuda_worker_ejected", &[slot]);
    assert!(slot("slot=\"2\"") > 0.5 && slot("slot=\"1\"") < 0.5);
    instance.wait_metric("remuda_worker_ejections_total", &[], 1.0);
    let said = "fails far more than the others";
    instance.cli(&["status"]).expect(0).says(&[said]);
    let said = "worker 2 of generation 1 gets no requests";
    instance.cli(&["why"]).expect(0).says(&[said]);
    instance.wait_said("worker 2 of generation 1 gets no requests for a while");
}

/// Descriptors that the supervisor may have, without those it has already.
fn descriptors(instance: &Instance, soft: &str) {
    descriptors_of(&instance.pid().to_string(), soft);
}

fn descriptors_of(pid: &str, soft: &str) {
    let limit = Command::new("prlimit")
        .args(["--pid", pid, &format!("--nofile={soft}:")])
        .status();
    assert!(limit.is_ok_and(|ended| ended.success()), "no limit is set");
}

#[test]
fn g16_a_supervisor_without_descriptors_does_not_call_workers_sick() {
    let mut instance = Start::default()
        .service("health = { interval = \"50ms\", fall = 2, path = \"/\" }")
        .ready();
    let mut admin = Client::unix(&instance.admin_socket()).expect("it accepts");
    let mut status = || {
        let answer = admin.get("/v1/status").expect("an answer");
        serde_json::from_str::<Value>(&answer.text()).expect("JSON")
    };
    let healthy = |status: &Value| {
        let workers = &status["services"]["app"]["generations"][0]["workers"];
        let workers = workers.as_array().expect("workers");
        workers.len() == 2 && workers.iter().all(|of| of["health"] == "passing")
    };
    assert!(healthy(&status()));
    descriptors(&instance, "3");
    let said = "workers cannot be asked for their health: ";
    instance.wait_said(said);
    // Far longer than two probes of each take.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        assert!(healthy(&status()));
    }
    assert_eq!(
        instance.said().matches(said).count(),
        1,
        "{}",
        instance.said()
    );
    descriptors(&instance, "1024");
    instance.wait("probes to be made again", healthy);
    instance.cli(&["rollout"]).expect(0);
}

/// It waits for a descriptor, and no worker is blamed: a rollout would be judged by it.
#[test]
fn f16_a_request_for_which_the_plane_has_no_descriptor_is_no_workers_failure() {
    let mut instance = Start::default().ready();
    let mut client = instance.client();
    instance.wait_metric("remuda_client_connections", &[], 1.0);
    let plane = plane(&instance.status()).expect("it serves").to_string();
    descriptors_of(&plane, "10");
    client.send("GET", "/", &[], b"").expect("it is read");
    instance.wait_said("out of descriptors, ports or memory");
    assert!(instance.metric("remuda_upstream_exhausted_total", &[]) > 0.0);
    descriptors_of(&plane, "1024");
    assert_eq!(client.answer(false).expect("an answer").status, 200);
}
