//! Workers that fail and others do not, and workers that have just joined.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use remuda::rollout::Role;

use crate::plane::{Client, Plane, Route, open, worker};
use crate::worker::{Worker, reply, write};

/// A worker that answers with 500 while it is told to.
fn sick() -> (Worker, Arc<AtomicBool>) {
    let is_sick = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&is_sick);
    let worker = Worker::scripted(move |_, stream| match told.load(Ordering::SeqCst) {
        true => write(stream, "HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nbad"),
        false => reply(stream, "well"),
    });
    (worker, is_sick)
}

fn serving(workers: &[Route], base_time: Duration) -> Plane {
    Plane::serving_by(workers, |plane| {
        plane.rules.ejection.base_time = base_time;
        plane.rules.slow_start = Duration::ZERO;
    })
}

/// Asks on one connection until the answers please; the statuses.
fn ask_until(client: &mut Client, mut enough: impl FnMut(&[u16]) -> bool) -> Vec<u16> {
    let begun = Instant::now();
    let mut statuses = Vec::new();
    while !enough(&statuses) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{statuses:?}");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        statuses.push(client.answer().status);
    }
    statuses
}

#[test]
fn f53_a_worker_that_only_fails_is_ejected_and_comes_back_when_it_is_well() {
    let (a, is_sick) = sick();
    let b = Worker::named("b");
    let workers = [open(1, a.address), open(2, b.address)];
    let mut plane = serving(&workers, Duration::from_millis(400));
    let mut client = plane.client();
    // Without ejection half of them fail, so that so many without a failure never come.
    let statuses = ask_until(&mut client, |all| {
        let last = all.iter().rev().take_while(|status| **status == 200);
        last.count() >= 100
    });
    let failed = statuses.iter().filter(|status| **status == 500).count();
    assert!(failed >= 5, "{failed}");
    let sample = plane.until(|sample| sample.services[0].ejections >= 1);
    assert_eq!(worker(&sample, 1).failures, failed as u64);
    is_sick.store(false, Ordering::SeqCst);
    plane.until(|sample| !worker(sample, 1).ejected);
    let before = a.requests().len();
    ask_until(&mut client, |_| a.requests().len() > before + 10);
}

#[test]
fn f53_an_ejected_worker_is_shown_and_goes_on_with_what_it_has() {
    let (a, _) = sick();
    let b = Worker::named("b");
    let workers = [open(1, a.address), open(2, b.address)];
    let mut plane = serving(&workers, Duration::from_secs(60));
    let mut client = plane.client();
    ask_until(&mut client, |_| a.requests().len() >= 5);
    let sample = plane.until(|sample| worker(sample, 1).ejected);
    assert!(!worker(&sample, 2).ejected);
    assert_eq!(sample.services[0].ejections, 1);
    let before = a.requests().len();
    for _ in 0..50 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().text(), "b");
    }
    assert_eq!(a.requests().len(), before);
    // With nobody else it is better than nothing.
    plane.publish(&[(10_000, &[open(1, a.address)])]);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status, 500);
    assert_eq!(a.requests().len(), before + 1);
}

#[test]
fn f53_a_worker_that_hangs_up_is_ejected() {
    let a = Worker::scripted(|_, _| false);
    let b = Worker::named("b");
    let workers = [open(1, a.address), open(2, b.address)];
    let mut plane = serving(&workers, Duration::from_secs(60));
    let mut client = plane.client();
    // They are tried again elsewhere: the client sees nothing of it.
    let statuses = ask_until(&mut client, |_| a.requests().len() >= 5);
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    plane.until(|sample| worker(sample, 1).ejected);
}

#[test]
fn f56_a_candidate_is_left_to_the_judge() {
    let a = Worker::named("a");
    let (b, _) = sick();
    let c = Worker::named("c");
    let mut plane = serving(&[open(1, a.address)], Duration::from_secs(60));
    plane.publish(&[
        (5_000, &[open(1, a.address)]),
        (5_000, &[open(2, b.address), open(3, c.address)]),
    ]);
    let mut client = plane.client();
    ask_until(&mut client, |_| b.requests().len() >= 50);
    let sample = plane.until(|sample| worker(sample, 2).failures >= 50);
    assert!(!worker(&sample, 2).ejected);
    assert_eq!(sample.services[0].ejections, 0);
    let failed = sample.services[0].ended.iter().filter(|of| of.code == 500);
    assert!(
        failed.clone().count() == 1 && failed.clone().all(|of| of.role == Some(Role::Candidate))
    );
}

#[test]
fn what_clients_ask_for_in_vain_ejects_nobody() {
    let a =
        Worker::scripted(|_, stream| write(stream, "HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n"));
    let b = Worker::named("b");
    let workers = [open(1, a.address), open(2, b.address)];
    let mut plane = serving(&workers, Duration::from_secs(60));
    let mut client = plane.client();
    ask_until(&mut client, |_| a.requests().len() >= 15);
    // Too few for the other rule, and more than enough for a row.
    let sample = plane.until(|sample| worker(sample, 1).requests >= 15);
    assert_eq!(sample.services[0].ejections, 0);
}

#[test]
fn it_can_be_switched_off() {
    let (a, _) = sick();
    let b = Worker::named("b");
    let mut plane = Plane::serving_by(&[open(1, a.address), open(2, b.address)], |plane| {
        plane.rules.ejection.consecutive = 0;
    });
    let mut client = plane.client();
    ask_until(&mut client, |_| a.requests().len() >= 100);
    let sample = plane.until(|sample| worker(sample, 1).failures >= 100);
    assert_eq!(sample.services[0].ejections, 0);
}

#[test]
fn f50_a_worker_that_joins_is_not_filled_up_because_it_is_empty() {
    const CLIENTS: usize = 16;
    const CLIMB: Duration = Duration::from_secs(3);
    let warm = Worker::named("warm");
    let (over, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    // So cold that what it gets takes until the test is over.
    let cold = Worker::scripted(move |_, stream| {
        let _ = wait.lock().map(|wait| wait.recv());
        reply(stream, "cold")
    });
    let mut plane = Plane::serving_by(&[open(1, warm.address)], |plane| {
        plane.rules.slow_start = CLIMB;
    });
    // It is warm when it has served for as long as a cold one would climb.
    let begun = Instant::now();
    ask_until(&mut plane.client(), |_| begun.elapsed() > CLIMB);
    plane.publish(&[(10_000, &[open(1, warm.address), open(2, cold.address)])]);
    let joined = plane.sample();
    let before = worker(&joined, 1).requests;
    let address = plane.address;
    let clients = (0..CLIENTS).map(|_| {
        std::thread::spawn(move || {
            let mut client = Client::connect(address);
            for _ in 0..50 {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                if client.answer().text() == "cold" {
                    return;
                }
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let sample = plane.until(|sample| worker(sample, 1).requests >= before + 100);
    // Without a slow start it has half of the clients by now.
    let held = worker(&sample, 2).in_flight.plain;
    assert!(held <= 3, "{held}");
    drop(over);
    for client in clients {
        client.join().expect("every answer came");
    }
}
