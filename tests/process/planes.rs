//! The data plane as a process that may die or hang, and the supervisor's own death.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::support::http::Client;
use super::support::instance::{Start, processes_of};

fn plane(status: &Value) -> Option<i32> {
    let planes = status["data_planes"].as_array()?;
    let accepting = planes.iter().find(|plane| plane["state"] == "accepting")?;
    i32::try_from(accepting["pid"].as_i64()?).ok()
}

#[test]
fn f33_a_killed_plane_refuses_no_connection_and_its_successor_serves_soon() {
    let mut instance = Start::default().ready();
    let mut worst = Duration::ZERO;
    for _ in 0..10 {
        let status = instance.wait("a plane", |status| plane(status).is_some());
        let victim = plane(&status).expect("just seen");
        let workers = status["services"]["app"]["generations"].clone();
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("it lives");
        let began = Instant::now();
        // The connection waits in the queue of the socket that the supervisor holds.
        let mut client = Client::tcp(instance.address).expect("never refused");
        // A plane that was just being killed may have accepted it: then it is reset, and only then.
        let answer = client
            .get("/")
            .or_else(|_| Client::tcp(instance.address)?.get("/"));
        assert_eq!(answer.expect("the successor answers").status, 200);
        worst = worst.max(began.elapsed());
        let status = instance.wait("the successor", |status| {
            plane(status).is_some_and(|pid| pid != victim)
        });
        let pids = |generations: &Value| -> Vec<Value> {
            generations[0]["workers"]
                .as_array()
                .map(|all| all.iter().map(|worker| worker["pid"].clone()).collect())
                .unwrap_or_default()
        };
        assert_eq!(
            pids(&workers),
            pids(&status["services"]["app"]["generations"]),
            "workers are unharmed"
        );
    }
    assert!(worst < Duration::from_secs(1), "{worst:?}");
}

#[test]
fn f33_a_running_rollout_goes_on_when_the_plane_dies() {
    let mut instance = Start::default()
        .flags(&["--soak", "1s", "--ramp", "300ms"])
        .ready();
    instance.signal(Signal::SIGUSR2);
    let status = instance.wait("the candidate to be ready", |status| {
        status["services"]["app"]["rollout"]["counts"]["candidate_ready"] == 1
    });
    kill(
        Pid::from_raw(plane(&status).expect("it serves")),
        Signal::SIGKILL,
    )
    .expect("it lives");
    instance.wait("the rollout to complete", |status| {
        status["services"]["app"]["rollout"]["state"] == "completed"
    });
    assert!(instance.get("/").text().contains(" g2 "));
}

#[test]
fn f34_a_hung_plane_is_replaced() {
    let mut instance = Start::default().ready();
    let status = instance.wait("a plane", |status| plane(status).is_some());
    let victim = plane(&status).expect("just seen");
    kill(Pid::from_raw(victim), Signal::SIGSTOP).expect("it lives");
    instance.wait("another plane", |status| {
        plane(status).is_some_and(|pid| pid != victim)
    });
    assert_eq!(instance.get("/").status, 200);
}

#[test]
fn a_killed_supervisor_takes_everything_along_and_frees_the_port() {
    for stubborn in [false, true] {
        let start = Start::default().flags(&["--drain-timeout", "2s"]);
        let start = if stubborn {
            start.knob("ignore_term", "1").knob("children", "4")
        } else {
            start
        };
        let mut instance = start.ready();
        let address = instance.address;
        instance.signal(Signal::SIGKILL);
        instance.ended();
        let deadline = Instant::now() + Duration::from_secs(3);
        while TcpListener::bind(address).is_err() {
            assert!(Instant::now() < deadline, "the port is still taken");
            std::thread::sleep(Duration::from_millis(20));
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = processes_of(instance.dir.path());
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "left behind: {left:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn f35_a_supervisor_that_was_stopped_for_a_while_judges_nobody_by_that_time() {
    let mut instance = Start::default().ready();
    let before = instance.wait("a plane", |status| plane(status).is_some());
    instance.signal(Signal::SIGSTOP);
    // Longer than three heartbeats; the time itself is the fault here.
    std::thread::sleep(Duration::from_secs(6));
    instance.signal(Signal::SIGCONT);
    assert_eq!(instance.get("/").status, 200);
    let after = instance.wait("the status", |_| true);
    assert_eq!(plane(&before), plane(&after), "the plane was not replaced");
}

#[test]
fn a_plane_that_is_sent_sigterm_finishes_while_its_successor_serves() {
    let mut instance = Start::default().ready();
    let status = instance.wait("a plane", |status| plane(status).is_some());
    let victim = plane(&status).expect("just seen");
    let mut slow = instance.client();
    slow.send("GET", "/slow?ms=3000", &[], b"")
        .expect("it accepts");
    instance.wait("the request to be in flight", |status| {
        status["services"]["app"]["in_flight"] == 1
    });
    kill(Pid::from_raw(victim), Signal::SIGTERM).expect("it lives");
    instance.wait("the successor", |status| {
        plane(status).is_some_and(|pid| pid != victim)
    });
    let began = Instant::now();
    assert_eq!(instance.get("/").status, 200);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "nobody waits for the old one"
    );
    assert_eq!(
        slow.answer(false).expect("finished by the old one").status,
        200
    );
    instance.wait("one plane", |status| {
        status["data_planes"]
            .as_array()
            .is_some_and(|planes| planes.len() == 1)
    });
}
