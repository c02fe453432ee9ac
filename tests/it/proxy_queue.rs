//! A limit of what a worker has at once, and the line of those that wait for a place.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use remuda::link::message::{Class, ProxyReason};
use remuda::rollout::Role;

use crate::plane::{Client, PATIENCE, Plane, Route, open, shut, worker};
use crate::worker::{Worker, reply};

fn limited(most: u32, workers: &[Route]) -> Plane {
    limited_by(most, workers, |_| {})
}

fn limited_by(most: u32, workers: &[Route], adapt: impl FnOnce(&mut Plane)) -> Plane {
    Plane::serving_by(workers, |plane| {
        plane.rules.max_in_flight = NonZeroU32::new(most);
        adapt(plane);
    })
}

/// A client that has asked for `path`.
fn asks(plane: &Plane, path: &str) -> Client {
    let mut client = plane.client();
    client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

/// Waits until so many wait.
fn wait_in_line(plane: &mut Plane, count: u32) {
    plane.until(|sample| sample.services[0].parked == count);
}

/// A worker that keeps each request until the test lets one go, any of them.
fn keeper() -> (Worker, mpsc::Sender<()>) {
    let (let_go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let keeper = Worker::scripted(move |_, stream| {
        let _ = wait.lock().expect("no panic").recv_timeout(PATIENCE);
        reply(stream, "kept")
    });
    (keeper, let_go)
}

#[test]
fn a_worker_has_no_more_than_its_limit_and_the_rest_wait() {
    let (a, door) = Worker::waiting("a");
    let mut plane = limited(2, &[open(1, a.address)]);
    let mut clients: Vec<_> = (0..6).map(|_| asks(&plane, "/")).collect();
    wait_in_line(&mut plane, 4);
    let sample = plane.sample();
    assert_eq!(worker(&sample, 1).in_flight.plain, 2);
    assert_eq!(sample.services[0].in_flight(), 6);
    // Those that wait have no worker, and so no role.
    let at = |role| {
        let of = sample.services[0].roles.iter().find(|of| of.role == role);
        of.map(|of| of.in_flight)
    };
    assert_eq!((at(Some(Role::Stable)), at(None)), (Some(2), Some(4)));
    let parked = plane.exchanges();
    let parked = parked.iter().filter(|of| of.class == Class::Parked);
    assert_eq!(parked.count(), 4);
    door.open();
    for client in &mut clients {
        assert_eq!(client.answer().text(), "a");
    }
    let sample = plane.until(|sample| worker(sample, 1).in_flight.plain == 0);
    assert_eq!(sample.services[0].park_wait.counts.iter().sum::<u64>(), 4);
    assert_eq!(sample.services[0].park_dropped, 0);
}

#[test]
fn the_line_is_first_in_first_out_over_all_loops() {
    let (a, let_go) = keeper();
    let mut plane = limited(1, &[open(1, a.address)]);
    let mut clients = vec![asks(&plane, "/0")];
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    for number in 1..12 {
        clients.push(asks(&plane, &format!("/{number}")));
        wait_in_line(&mut plane, number);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let_go.send(()).expect("the worker lives");
        assert_eq!(client.answer().text(), "kept", "{number}");
    }
    let order: Vec<_> = a.requests().iter().map(|r| r.path().to_owned()).collect();
    let asked: Vec<_> = (0..12).map(|number| format!("/{number}")).collect();
    assert_eq!(order, asked);
}

#[test]
fn a_full_line_is_answered_with_503_and_when_to_come_again() {
    let (a, let_go) = keeper();
    let mut plane = limited_by(1, &[open(1, a.address)], |plane| {
        plane.rules.queue.max_requests = 1;
    });
    let mut first = asks(&plane, "/");
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    let mut second = asks(&plane, "/");
    wait_in_line(&mut plane, 1);
    let refused = plane.get("/");
    assert_eq!(refused.status, 503);
    assert!(refused.field("retry-after").is_some());
    let_go.send(()).expect("the worker lives");
    let_go.send(()).expect("the worker lives");
    assert_eq!(first.answer().status, 200);
    assert_eq!(second.answer().status, 200);
    let sample = plane.sample();
    assert_eq!(sample.services[0].errors(), [(ProxyReason::QueueFull, 1)]);
    assert_eq!(sample.services[0].park_dropped, 1);
    assert_eq!(a.requests().len(), 2);
}

#[test]
fn who_waits_too_long_is_answered_with_503_and_leaves_the_line() {
    let (a, let_go) = keeper();
    let mut plane = limited_by(1, &[open(1, a.address)], |plane| {
        plane.rules.queue.max_wait = Duration::from_millis(50);
    });
    let mut first = asks(&plane, "/");
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    let refused = plane.get("/");
    assert_eq!(refused.status, 503);
    assert!(refused.field("retry-after").is_some());
    let_go.send(()).expect("the worker lives");
    assert_eq!(first.answer().status, 200);
    let sample = plane.until(|sample| sample.services[0].parked == 0);
    assert_eq!(
        sample.services[0].errors(),
        [(ProxyReason::QueueTimeout, 1)]
    );
    let_go.send(()).expect("the worker lives");
    assert_eq!(plane.get("/").status, 200);
}

#[test]
fn f52_who_leaves_the_line_holds_up_nobody() {
    let (a, let_go) = keeper();
    let mut plane = limited(1, &[open(1, a.address)]);
    let mut first = asks(&plane, "/1");
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    let second = asks(&plane, "/2");
    wait_in_line(&mut plane, 1);
    let mut third = asks(&plane, "/3");
    wait_in_line(&mut plane, 2);
    drop(second);
    wait_in_line(&mut plane, 1);
    let_go.send(()).expect("the worker lives");
    let_go.send(()).expect("the worker lives");
    assert_eq!(first.answer().status, 200);
    assert_eq!(third.answer().status, 200);
    assert_eq!(a.requests()[1].path(), "/3");
}

#[test]
fn who_waits_for_a_generation_that_is_gone_goes_to_the_next() {
    let (a, let_go) = keeper();
    let b = Worker::named("b");
    let mut plane = limited(1, &[open(1, a.address)]);
    let mut first = asks(&plane, "/");
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    let mut waiting: Vec<_> = (0..4).map(|_| asks(&plane, "/")).collect();
    wait_in_line(&mut plane, 4);
    plane.publish(&[(0, &[shut(1, a.address)]), (10_000, &[open(2, b.address)])]);
    for client in &mut waiting {
        assert_eq!(client.answer().text(), "b");
    }
    let_go.send(()).expect("the worker lives");
    assert_eq!(first.answer().text(), "kept");
}

#[test]
fn a_higher_limit_or_none_lets_those_in_who_wait() {
    let (a, let_go) = keeper();
    let mut plane = limited(1, &[open(1, a.address)]);
    let mut clients: Vec<_> = (0..6).map(|_| asks(&plane, "/")).collect();
    wait_in_line(&mut plane, 5);
    plane.rules.max_in_flight = NonZeroU32::new(3);
    plane.publish(&[(10_000, &[open(1, a.address)])]);
    plane.until(|sample| worker(sample, 1).in_flight.plain == 3);
    plane.rules.max_in_flight = None;
    plane.publish(&[(10_000, &[open(1, a.address)])]);
    plane.until(|sample| worker(sample, 1).in_flight.plain == 6);
    // A limit that comes later counts those that are in already.
    plane.rules.max_in_flight = NonZeroU32::new(6);
    plane.publish(&[(10_000, &[open(1, a.address)])]);
    clients.push(asks(&plane, "/"));
    wait_in_line(&mut plane, 1);
    for _ in &clients {
        let_go.send(()).expect("the worker lives");
    }
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn every_request_of_many_gets_its_turn_and_the_limit_holds() {
    const MOST: u32 = 2;
    const CLIENTS: usize = 16;
    const EACH: usize = 60;
    let highest = Arc::<AtomicUsize>::default();
    let counting = || {
        let (now, highest) = (AtomicUsize::new(0), Arc::clone(&highest));
        Worker::scripted(move |_, stream| {
            highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            // Before the answer, behind which the next request may come at once.
            now.fetch_sub(1, Ordering::SeqCst);
            reply(stream, "done")
        })
    };
    let (a, b) = (counting(), counting());
    let mut plane = limited(MOST, &[open(1, a.address), open(2, b.address)]);
    let address = plane.address;
    let clients = (0..CLIENTS).map(|_| {
        std::thread::spawn(move || {
            let mut client = Client::connect(address);
            for _ in 0..EACH {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                assert_eq!(client.answer().text(), "done");
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for client in clients {
        client.join().expect("every answer came");
    }
    assert!(highest.load(Ordering::SeqCst) <= MOST as usize);
    assert_eq!(a.requests().len() + b.requests().len(), CLIENTS * EACH);
    let sample = plane.until(|sample| sample.services[0].in_flight() == 0);
    assert_eq!(sample.services[0].park_dropped, 0);
    assert_eq!(sample.services[0].parked, 0);
    assert!(sample.services[0].park_wait.counts.iter().sum::<u64>() > 0);
}
