//! The data plane as a process that may die or hang, and the supervisor's own death.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::support::checker::assert_clean;
use super::support::http::Client;
use super::support::instance::{Start, processes_of};
use super::support::load::{Load, Mix};
use super::support::watch::{plane, workers};

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
    let answer = instance.get("/");
    assert!(answer.text().contains(" g2 "), "{answer:?}");
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

/// Waits until no process of the instance lives.
fn nothing_lives(dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = processes_of(dir);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("it exists").flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_killed_supervisor_leaves_no_file_behind() {
    let start = Start::default();
    let place = start.place().to_owned();
    let (public, pid_file) = (place.join("public"), place.join("pid"));
    let listener = format!("[[listen]]\naddress = \"unix:{}\"", public.display());
    let mut instance = start
        .top(&listener)
        .flags(&["--pid-file", pid_file.to_str().expect("ASCII")])
        .ready();
    let runtime = place.join("run/remuda");
    assert_eq!(names(&runtime), ["admin.sock", "lock", "token", "w"]);
    assert!(public.exists() && pid_file.exists());
    instance.signal(Signal::SIGKILL);
    instance.ended();
    nothing_lives(&place);
    assert_eq!(names(&runtime), ["lock"]);
    assert!(!public.exists() && !pid_file.exists());
}

#[test]
fn a_killed_supervisor_that_shared_the_directory_leaves_its_own_no_more() {
    let first = Start::default().ready();
    let runtime = first.dir.path().join("run/remuda");
    // Its own config and admin socket, the first one's runtime directory.
    let start = Start::default();
    let place = start.place().to_owned();
    let socket = place.join("run/remuda/admin.sock");
    std::fs::create_dir_all(place.join("run/remuda")).expect("the directory is writable");
    let mut second = start
        .env("XDG_RUNTIME_DIR", first.dir.path().join("run"))
        .env("PLACE_OF_THE_SECOND", &place)
        .flags(&["--admin-socket", socket.to_str().expect("ASCII")])
        .ready();
    let own = runtime.join(format!("i-{}", second.pid()));
    assert!(own.join("token").exists());
    second.signal(Signal::SIGKILL);
    second.ended();
    nothing_lives(&place);
    assert!(!socket.exists() && !own.exists());
    assert_eq!(names(&runtime), ["admin.sock", "lock", "token", "w"]);
    assert_eq!(first.get("/").status, 200);
}

#[test]
fn a_successor_of_a_killed_supervisor_is_not_robbed_by_the_plane_that_finishes() {
    let start = Start::default();
    let pid_file = start.place().join("pid");
    let mut instance = start
        .flags(&["--pid-file", pid_file.to_str().expect("ASCII")])
        .ready();
    let old = instance.pid();
    let status = instance.wait("a plane", |status| plane(status).is_some());
    let old_plane = plane(&status).expect("just seen");
    let mut slow = instance.client();
    slow.send("GET", "/slow?ms=2000", &[], b"")
        .expect("accepts");
    instance.wait("the request to be in flight", |status| {
        status["services"]["app"]["in_flight"] == 1
    });
    instance.signal(Signal::SIGKILL);
    instance.ended();
    instance.start_again();
    assert_ne!(instance.pid(), old);
    instance.wait("its workers", |status| {
        status["services"]["app"]["ready"] == 2
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    while instance
        .processes()
        .iter()
        .any(|(pid, _)| i32::try_from(*pid) == Ok(old_plane))
    {
        assert!(Instant::now() < deadline, "the old plane does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let runtime = instance.dir.path().join("run/remuda");
    assert_eq!(names(&runtime), ["admin.sock", "lock", "token", "w"]);
    assert_eq!(names(&runtime.join("w")).len(), 2, "its workers' places");
    let pid = std::fs::read_to_string(&pid_file).expect("stays");
    assert_eq!(pid.trim(), instance.pid().to_string());
    assert_eq!(instance.get("/").status, 200);
    assert_eq!(instance.status()["services"]["app"]["ready"], 2);
}

#[test]
fn a_stopped_plane_goes_on_and_ends_when_its_supervisor_is_killed() {
    let mut instance = Start::default().ready();
    let status = instance.wait("a plane", |status| plane(status).is_some());
    let victim = Pid::from_raw(plane(&status).expect("just seen"));
    kill(victim, Signal::SIGSTOP).expect("it lives");
    instance.signal(Signal::SIGKILL);
    instance.ended();
    nothing_lives(instance.dir.path());
    TcpListener::bind(instance.address).expect("the port is free");
    assert_eq!(names(&instance.dir.path().join("run/remuda")), ["lock"]);
}

#[test]
fn what_outlived_supervisor_and_plane_is_ended_by_the_next_start() {
    let mut instance = Start::default()
        .knob("ignore_term", "1")
        .knob("children", "2")
        .ready();
    let status = instance.wait("a plane", |status| plane(status).is_some());
    let victim = Pid::from_raw(plane(&status).expect("just seen"));
    // Stopped, so that it starts no other plane.
    instance.signal(Signal::SIGSTOP);
    kill(victim, Signal::SIGKILL).expect("it lives");
    instance.signal(Signal::SIGKILL);
    instance.ended();
    let left: Vec<u32> = instance.processes().iter().map(|(pid, _)| *pid).collect();
    assert!(left.len() >= 2, "nobody has ended the workers: {left:?}");
    instance.start_again();
    instance.wait("its workers", |status| {
        status["services"]["app"]["ready"] == 2
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let living = instance.processes();
        if living.iter().all(|(pid, _)| !left.contains(pid)) {
            break;
        }
        assert!(Instant::now() < deadline, "still there: {living:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(instance.status()["services"]["app"]["ready"], 2);
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
fn f35_a_supervisor_that_was_stopped_for_longer_than_a_deadline_undoes_no_rollout() {
    let mut instance = Start::default()
        .flags(&["--ramp", "0s", "--soak", "1500ms"])
        .flags(&["--progress-deadline", "8s"])
        .ready();
    let load = Load::known_to(
        &instance,
        Mix {
            sse: 0,
            tunnel: 0,
            ..Mix::default()
        },
        20,
    );
    instance.signal(Signal::SIGUSR2);
    instance.wait("a batch to be watched", |status| {
        status["services"]["app"]["rollout"]["step"]["name"] == "soaking"
    });
    instance.signal(Signal::SIGSTOP);
    // The time itself is the fault here.
    std::thread::sleep(Duration::from_secs(9));
    instance.signal(Signal::SIGCONT);
    instance.wait_said("was stopped or starved for");
    instance.wait("the rollout to complete", |status| {
        let rollout = &status["services"]["app"]["rollout"];
        assert_ne!(rollout["state"], "rolling_back", "{rollout:#}");
        assert_ne!(rollout["state"], "rolled_back", "{rollout:#}");
        rollout["state"] == "completed"
    });
    assert_clean(&load.stop(), &instance.dir.path().join("executed"));
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

#[test]
fn f28_a_killed_cleanup_is_reaped_and_told_of_once() {
    let mut instance = Start::default().ready();
    let all = processes_of(instance.dir.path());
    let cleanup = all
        .iter()
        .find(|(_, command)| command.starts_with("remuda cleanup"));
    let (pid, _) = cleanup.expect("it is beside the plane");
    let raw = Pid::from_raw(i32::try_from(*pid).expect("a pid"));
    kill(raw, Signal::SIGKILL).expect("it lives");
    let told = "nobody will tidy up if the supervisor is killed";
    instance.wait_said(told);
    assert_eq!(kill(raw, None), Err(nix::errno::Errno::ESRCH), "no zombie");
    assert_eq!(instance.get("/").status, 200);
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0), "{}", instance.said());
    assert_eq!(instance.said().matches(told).count(), 1);
}
