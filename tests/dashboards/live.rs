//! A real Prometheus scrapes a running Remuda during a rollout; then every panel's query must answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use libtest_mimic::Trial;

use crate::instances::{Prometheus, Remuda, http, pause};
use crate::{Outcome, ensure, grafana, promql, tools};

/// The tests that need a Prometheus.
pub(crate) fn trials() -> Vec<Trial> {
    vec![tools::needing(
        "prometheus",
        "every_query_answers_from_a_real_prometheus_during_a_rollout",
        every_query_answers,
    )]
}

fn every_query_answers() -> Outcome {
    let dir = tempfile::Builder::new().prefix("rmd").tempdir()?;
    let remuda = Remuda::start(dir.path())?;
    let prometheus = Prometheus::start(dir.path(), remuda.metrics)?;
    let begin = SystemTime::now();
    // One on each of the two workers: the second goes where less is in flight.
    let held = Load::start(remuda.public, &[("GET", "/held", "")]);
    remuda.in_flight(1)?;
    let held_too = Load::start(remuda.public, &[("GET", "/held", "")]);
    let busy = remuda.in_flight(2)?;
    ensure(busy == 2, || format!("{busy} workers have a request"))?;
    let load = Load::start(remuda.public, &[("GET", "/", ""), ("POST", "/", "hello")]);
    prometheus.wait_for("sum(remuda_http_requests_total) > 20")?;
    std::thread::scope(|scope| {
        let rolled = scope.spawn(|| remuda.roll());
        let drains = "count(remuda_drain_in_flight_requests > 0) >= 2";
        let seen = prometheus.wait_for(drains);
        // Also if it was not seen, or the rollout would wait for its drains.
        std::fs::write(dir.path().join("go"), "")?;
        let rolled = rolled.join().map_err(|_| "the rollout panicked")?;
        seen.and(rolled).map_err(Box::<dyn std::error::Error>::from)
    })?;
    prometheus.wait_for("remuda_rollouts_total{result=\"completed\"} == 1")?;
    prometheus.wait_for("sum(remuda_drains_total{outcome=\"clean\"}) >= 2")?;
    let failed = load.end() + held.end() + held_too.end();
    ensure(failed == 0, || {
        format!("{failed} requests failed during the rollout")
    })?;
    t6_the_public_port_shows_no_metrics(&remuda)?;

    let mut silent = Vec::new();
    for (panel, expr) in grafana::queries() {
        if !prometheus.answers(&promql::filled(&expr), begin)? {
            silent.push(format!("{panel}: {expr}"));
        }
    }
    ensure(silent.is_empty(), || {
        format!("no data for\n  {}", silent.join("\n  "))
    })?;
    for expr in grafana::exprs() {
        prometheus.get("/api/v1/format_query", &[("query", &promql::filled(&expr))])?;
    }
    prometheus.rules_are_healthy()
}

/// Metrics are for the metrics and the admin address; on the public one the path is the worker's.
fn t6_the_public_port_shows_no_metrics(remuda: &Remuda) -> Outcome {
    let answer = http(remuda.public, "GET", "/metrics", "")?;
    ensure(answer == "from the worker", || {
        format!("the public port answered {answer}")
    })
}

/// A client for each request, again and again until it is told to end.
struct Load {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(public: SocketAddr, requests: &[(&'static str, &'static str, &'static str)]) -> Self {
        let (stop, failed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let client = |&(method, path, body): &(&'static str, &'static str, &'static str)| {
            let (stop, failed) = (Arc::clone(&stop), Arc::clone(&failed));
            std::thread::spawn(move || {
                let expected = if body.is_empty() {
                    "from the worker"
                } else {
                    body
                };
                while !stop.load(Ordering::Relaxed) {
                    if http(public, method, path, body).as_deref() != Ok(expected) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    pause();
                }
            })
        };
        let clients = requests.iter().map(client).collect();
        Self {
            stop,
            failed,
            clients,
        }
    }

    /// Ends and says how many requests failed.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
        self.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
