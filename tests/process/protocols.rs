//! Releases that speak another protocol than the one before: each generation is asked, and spoken to, in its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bad_input::serve_as;
use super::support::h2c::{H2C, serve as serve_h2c};
use super::support::http::{Client, PATIENCE};
use super::support::instance::{Instance, Start};
use super::support::watch::{Watch, assert_full_strength, workers};

/// Clients that ask on connections that they keep; what was no 200 is kept.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn on(instance: &Instance) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = (0..3).map(|_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let address = instance.address;
            std::thread::spawn(move || ask(address, &stop, &answered))
        });
        let clients = clients.collect();
        let load = Self {
            stop,
            answered,
            clients,
        };
        load.goes_on();
        load
    }

    /// Waits for some more answers.
    pub(crate) fn goes_on(&self) {
        let now = self.answered.load(Ordering::SeqCst);
        let deadline = Instant::now() + PATIENCE;
        while self.answered.load(Ordering::SeqCst) < now + 50 {
            assert!(Instant::now() < deadline, "the load does not go on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Every request was answered, and well.
    pub(crate) fn lost_nothing(self) {
        self.goes_on();
        self.stop.store(true, Ordering::SeqCst);
        let all = self.clients.into_iter();
        let failed: Vec<String> = all
            .flat_map(|client| client.join().expect("no panic"))
            .collect();
        let first = failed.first();
        assert!(failed.is_empty(), "{} requests, {first:?}", failed.len());
    }
}

fn ask(address: SocketAddr, stop: &AtomicBool, answered: &AtomicUsize) -> Vec<String> {
    let mut failed = Vec::new();
    let mut client = Client::tcp(address).expect("accepted");
    while !stop.load(Ordering::SeqCst) {
        match client.get("/") {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => failed.push(format!("{} {:?}", answer.status, answer.headers)),
            Err(error) => {
                failed.push(error.to_string());
                client = Client::tcp(address).expect("accepted");
            }
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
    failed
}

/// Two workers of HTTP/1.1.
fn begun() -> Instance {
    Start::default()
        .flags(&["--soak", "200ms", "--ramp", "100ms"])
        .ready()
}

fn config(instance: &Instance) -> String {
    let file = instance.dir.path().join("remuda.toml");
    std::fs::read_to_string(file).expect("there")
}

fn write(instance: &Instance, config: &str) {
    let file = instance.dir.path().join("remuda.toml");
    std::fs::write(file, config).expect("writable");
}

/// The same service with workers that speak HTTP/2 only.
fn with_h2c(config: &str) -> String {
    let speaking = config.replace("env = {", &format!("env = {{ {H2C} = \"1\","));
    let (before, service) = speaking.split_once("[services.app]\n").expect("there");
    format!("{before}[services.app]\nprotocol = \"h2c\"\n{service}")
}

#[test]
fn i10_a_release_of_another_protocol_costs_nothing_there_and_back() {
    let instance = begun();
    let before = config(&instance);
    let (load, watch) = (Load::on(&instance), Watch::start(&instance));
    write(&instance, &with_h2c(&before));
    instance.cli(&["reload"]).expect(0).says(&["(rollout)"]);
    load.goes_on();
    assert_eq!(instance.get("/").text(), "h2c 2");
    // By hand, which takes generation 1's own protocol with its command.
    instance.cli(&["rollback"]).expect(0);
    load.goes_on();
    assert_ne!(instance.get("/").text(), "h2c 2");
    write(&instance, &before);
    instance
        .cli(&["reload"])
        .expect(0)
        .says(&["runs this command and environment already"]);
    write(&instance, &with_h2c(&before));
    instance.cli(&["reload"]).expect(0);
    write(&instance, &before);
    instance.cli(&["reload"]).expect(0);
    load.lost_nothing();
    assert_full_strength(&watch.stop());
}

#[test]
fn f21_a_bad_release_of_another_protocol_leaves_the_one_before_as_it_was() {
    let instance = begun();
    let before = config(&instance);
    let (load, watch) = (Load::on(&instance), Watch::start(&instance));
    instance.knobs.set(&[("exit_at_start", "7")]);
    write(&instance, &with_h2c(&before));
    let words = ["was rolled back", "generation 1 serves at full strength"];
    instance.cli(&["reload"]).expect(1).says(&words);
    load.goes_on();
    // The same config again, which is now the one in use, and is not what runs.
    instance.cli(&["reload"]).expect(0).says(&["generation 1"]);
    load.lost_nothing();
    assert_full_strength(&watch.stop());
}

#[test]
fn f21_a_protocol_that_the_workers_do_not_speak_hurts_nobody() {
    let instance = begun();
    let before = config(&instance);
    let load = Load::on(&instance);
    let wrong = before.replace(
        "[services.app]\n",
        "[services.app]\nprotocol = \"h2c\"\nhealth = { start_timeout = \"1s\" }\n",
    );
    write(&instance, &wrong);
    instance
        .cli(&["reload"])
        .expect(1)
        .says(&["not HTTP/2, as `protocol = \"h2c\"` wants"]);
    load.lost_nothing();
}

#[test]
fn f14_somebody_elses_workers_may_speak_another_protocol_after_a_reload() {
    let h2c = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let there = h2c.local_addr().expect("bound").to_string();
    std::thread::spawn(move || serve_h2c(h2c, "theirs"));
    let http1 = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let here = http1.local_addr().expect("bound").to_string();
    serve_as("http1", move || Box::new(http1.accept().expect("accept").0));
    let mut instance = Start::default().upstream(&[&here]).ready();
    let before = config(&instance);
    let load = Load::on(&instance);
    let now = before
        .replace(&here, &there)
        .replace("upstream = ", "protocol = \"h2c\"\nupstream = ");
    write(&instance, &now);
    instance
        .cli(&["reload"])
        .expect(0)
        .says(&["`upstream` and `protocol`: "]);
    instance.wait("it to serve alone", |status| {
        workers(&status["services"]["app"]).count() == 1
    });
    assert_eq!(instance.get("/").text(), "h2c theirs");
    write(&instance, &before);
    instance.cli(&["reload"]).expect(0);
    instance.wait("the other to serve alone", |status| {
        workers(&status["services"]["app"]).count() == 1
    });
    assert_eq!(instance.get("/").text(), "http1");
    load.lost_nothing();
}
