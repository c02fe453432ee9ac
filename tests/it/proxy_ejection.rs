//! Workers that fail and others do not, and workers that have just joined.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
fn f50_a_worker_that_joins_gets_few_requests_at_first_and_no_line_of_its_own() {
    let warm = Worker::named("warm");
    let most = Arc::<AtomicUsize>::default();
    let now = Arc::<AtomicUsize>::default();
    let (highest, inside) = (Arc::clone(&most), Arc::clone(&now));
    // Cold: whatever comes takes until the test is over.
    let (over, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let cold = Worker::scripted(move |_, stream| {
        highest.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _ = wait.lock().map(|wait| wait.recv());
        reply(stream, "cold")
    });
    let mut plane = Plane::serving_by(&[open(1, warm.address)], |plane| {
        plane.rules.slow_start = Duration::from_secs(600);
    });
    plane.publish(&[(10_000, &[open(1, warm.address), open(2, cold.address)])]);
    let address = plane.address;
    let clients = (0..8).map(|_| {
        std::thread::spawn(move || {
            let mut client = Client::connect(address);
            let mut answers = 0;
            for _ in 0..100 {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                if client.answer().text() == "cold" {
                    return answers;
                }
                answers += 1;
            }
            answers
        })
    });
    let clients: Vec<_> = clients.collect();
    plane.until(|sample| worker(sample, 1).requests >= 500);
    // What it has weighs ten times as much, so a second one goes there only if the other has ten.
    assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
    drop(over);
    let answers: usize = clients
        .into_iter()
        .map(|c| c.join().expect("answered"))
        .sum();
    assert!(answers >= 500, "{answers}");
}
