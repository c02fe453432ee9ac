//! Limits of a worker's drain, the drain of the plane itself, and its end without a supervisor.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use remuda::link::message::{Class, Exchange, ProxyReason, ToPlane};

use crate::plane::{Plane, aside, open, shut, worker};
use crate::worker::Worker;

#[test]
fn a_plain_request_is_cut_with_504_at_the_drains_limit() {
    let (stuck, door) = Worker::waiting("late");
    let mut plane = Plane::serving_by(&[open(1, stuck.address)], |plane| {
        plane.rules.drain.request = Duration::from_millis(300);
    });
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    plane.publish(&[(0, &[shut(1, stuck.address)])]);
    assert_eq!(client.answer().status, 504);
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).cut.plain, 1);
    assert_eq!(sample.services[0].errors(), [(ProxyReason::DrainLimit, 1)]);
    door.open();
}

#[test]
fn a_worker_that_is_too_busy_for_its_probes_keeps_its_requests_and_gets_no_others() {
    let (busy, door) = Worker::waiting("kept");
    let other = Worker::named("other");
    let mut plane = Plane::serving_by(&[open(1, busy.address)], |plane| {
        plane.rules.drain.request = Duration::from_millis(1);
    });
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    plane.publish(&[(10_000, &[aside(1, busy.address), open(2, other.address)])]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        plane.sample();
    }
    for _ in 0..20 {
        assert_eq!(plane.get("/").text(), "other");
    }
    let sample = plane.until(|sample| worker(sample, 2).requests == 20);
    let busy_one = worker(&sample, 1);
    assert_eq!((busy_one.in_flight.plain, busy_one.cut.plain), (1, 0));
    assert_eq!(busy_one.drain_left, None);
    // Once it is to leave its time begins.
    plane.publish(&[(10_000, &[shut(1, busy.address), open(2, other.address)])]);
    assert_eq!(client.answer().status, 504);
    door.open();
}

#[test]
fn an_upload_that_ends_late_in_a_drain_has_a_plain_requests_time_for_its_answer() {
    let (slow, door) = Worker::waiting("kept");
    let limit = Duration::from_secs(2);
    let mut plane = Plane::serving_by(&[open(1, slow.address)], |plane| {
        plane.rules.drain.request = limit;
    });
    let mut client = plane.client();
    let part = "x".repeat(80 << 10);
    let length = part.len() + 1;
    client.send(&format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{part}"
    ));
    plane.until(|sample| worker(sample, 1).in_flight.upload == 1);
    plane.publish(&[(0, &[shut(1, slow.address)])]);
    let shut_at = Instant::now();
    // By the drain's own clock its time is over.
    plane.until(|_| shut_at.elapsed() > limit + Duration::from_millis(300));
    client.send("x");
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    let cut_in = |exchange: &Exchange| exchange.cut_in;
    let left = plane.exchanges().iter().find_map(cut_in).expect("a limit");
    assert!(left > Duration::from_millis(500), "{left:?}");
    door.open();
    assert_eq!(client.answer().text(), "kept");
}

#[test]
fn f51_an_event_stream_is_cut_when_it_has_stood_still_too_long() {
    let (events, door) = Worker::silent_after_an_event();
    let mut plane = Plane::serving_by(&[open(1, events.address)], |plane| {
        plane.rules.drain.request = Duration::from_millis(1);
        plane.rules.drain.stream = Duration::from_millis(500);
    });
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 200);
    assert_eq!(client.chunk().as_deref(), Some(&b"a\n\n"[..]));
    plane.until(|sample| worker(sample, 1).in_flight.stream == 1);
    assert_eq!(plane.exchanges()[0].class, Class::Stream);
    let begun = Instant::now();
    plane.publish(&[(0, &[shut(1, events.address)])]);
    assert_eq!(client.chunk(), None, "closed without a last chunk");
    assert!(begun.elapsed() >= Duration::from_millis(400));
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).cut.stream, 1);
    door.open();
}

#[test]
fn f46_a_draining_plane_answers_with_close_and_loses_nothing() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let mut idle = plane.client();
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.answer().field("connection"), None);
    let mut silent = plane.client();
    plane.until(|sample| sample.connections == 2);
    plane.send(&ToPlane::Drain);
    // It may be faster than the order; whenever that comes, the answer says that it is the last one.
    let begun = Instant::now();
    loop {
        idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = idle.answer();
        assert_eq!(answer.text(), "a");
        if answer.field("connection") == Some("close") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert!(idle.closed());
    assert!(silent.closed());
    plane.drained();
}

#[test]
fn f03_clients_in_the_queue_are_served_by_the_plane_that_stops_or_its_successor() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let listener = plane.listener.take().expect("ours");
    plane.send(&ToPlane::Drain);
    plane.drained();
    // The supervisor's copy still listens: a client connects and waits for the next plane.
    let address = listener.local_addr().expect("address");
    let mut waits = crate::plane::Client::connect(address);
    waits.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut successor = Plane::start();
    successor.listener = Some(listener);
    successor.address = address;
    successor.publish(&[(10_000, &[open(1, a.address)])]);
    successor.accept();
    assert_eq!(waits.answer().text(), "a");
}

#[test]
fn a_plane_without_a_supervisor_frees_the_port_and_ends() {
    let (slow, door) = Worker::waiting("done");
    let mut plane = Plane::serving(&[open(1, slow.address)]);
    drop(plane.listener.take());
    let mut idle = plane.client();
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    plane.abandon();
    assert!(idle.closed(), "idle ones get no time");
    let begun = Instant::now();
    while TcpListener::bind(plane.address).is_err() {
        // The loops close their copies one after another.
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "the port is taken"
        );
        std::thread::yield_now();
    }
    door.open();
    assert_eq!(client.answer().text(), "done");
    plane.ended();
}

#[test]
fn a_plane_without_a_supervisor_lets_nobody_wait_for_a_worker() {
    let mut plane = Plane::serving(&[]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| sample.services[0].parked == 1);
    let begun = Instant::now();
    plane.abandon();
    assert_eq!(client.answer().status, 503);
    plane.ended();
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_plane_without_a_supervisor_cuts_at_the_plain_limit() {
    let (stuck, door) = Worker::waiting("late");
    let mut plane = Plane::serving_by(&[open(1, stuck.address)], |plane| {
        plane.rules.drain.request = Duration::from_millis(300);
    });
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    let begun = Instant::now();
    plane.abandon();
    plane.ended();
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(client.answer().status, 504);
    door.open();
}
