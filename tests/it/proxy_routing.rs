//! Who gets a request: weights, gates, tables, parking.

use std::time::Duration;

use remuda::link::message::{Class, FromPlane};

use crate::plane::{Plane, open, shut, worker};
use crate::worker::Worker;

#[test]
fn requests_are_shared_by_weight() {
    let (a, b) = (Worker::named("a"), Worker::named("b"));
    let (one, two) = ([open(1, a.address)], [open(2, b.address)]);
    let mut plane = Plane::start();
    plane.publish(&[(9_000, &one), (1_000, &two)]);
    plane.accept();
    let mut client = plane.client();
    for _ in 0..500 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
    let (a, b) = (a.requests().len(), b.requests().len());
    assert_eq!(a + b, 500);
    assert!((20..100).contains(&b), "{b} of 500 instead of about 50");
    let sample = plane.sample();
    assert_eq!(worker(&sample, 1).requests, a as u64);
    assert_eq!(worker(&sample, 2).requests, b as u64);
    let ended: u64 = sample.services[0].ended.iter().map(|e| e.count).sum();
    assert_eq!(ended, 500);
}

#[test]
fn i5_a_shut_gate_gets_nothing_and_its_last_request_is_told_at_once() {
    let (old, door) = Worker::waiting("old");
    let new = Worker::named("new");
    let mut plane = Plane::serving(&[open(1, old.address)]);
    let mut slow = plane.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);

    plane.publish(&[
        (0, &[shut(1, old.address)]),
        (10_000, &[open(2, new.address)]),
    ]);
    for _ in 0..20 {
        assert_eq!(plane.get("/").text(), "new");
    }
    let sample = plane.sample();
    assert_eq!(worker(&sample, 1).in_flight.plain, 1);
    let left = plane.until(|s| worker(s, 1).drain_left.is_some());
    assert!(worker(&left, 1).drain_left <= Some(Duration::from_secs(30)));
    let exchanges = plane.exchanges();
    assert_eq!(exchanges.len(), 1);
    assert_eq!(
        (exchanges[0].path.as_str(), exchanges[0].class),
        ("/slow", Class::Plain)
    );
    assert!(exchanges[0].cut_in.is_some());

    door.open();
    assert_eq!(slow.answer().text(), "old");
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).requests, 1);
    assert_eq!(old.requests().len(), 1);
}

#[test]
fn a_client_keeps_its_connection_through_a_change_of_workers() {
    let (old, new) = (Worker::named("old"), Worker::named("new"));
    let mut plane = Plane::serving(&[open(1, old.address)]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.text(), answer.field("connection")), ("old", None));
    plane.publish(&[
        (0, &[shut(1, old.address)]),
        (10_000, &[open(2, new.address)]),
    ]);
    plane.publish(&[(10_000, &[open(2, new.address)])]);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "new");
}

#[test]
fn f54_requests_wait_for_a_worker_in_order_and_are_answered() {
    let mut plane = Plane::start_with(1);
    plane.publish(&[]);
    plane.accept();
    let mut clients = Vec::new();
    for number in 0..5 {
        let mut client = plane.client();
        client.send(&format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        // One after the other, so that there is an order.
        plane.until(|sample| sample.services[0].parked == number + 1);
        clients.push(client);
    }
    assert!(plane.exchanges().iter().all(|e| e.class == Class::Parked));
    let worker = Worker::named("here");
    plane.publish(&[(10_000, &[open(1, worker.address)])]);
    for client in &mut clients {
        assert_eq!(client.answer().text(), "here");
    }
    let sample = plane.sample();
    assert_eq!(
        (sample.services[0].parked, sample.services[0].park_dropped),
        (0, 0)
    );
}

#[test]
fn f54_parking_ends_with_503_when_it_is_full_or_too_long() {
    let mut plane = Plane::start();
    plane.rules.parking.max_requests = 1;
    plane.rules.parking.max_wait = Duration::from_millis(300);
    plane.publish(&[]);
    plane.accept();
    let mut waits = plane.client();
    waits.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| sample.services[0].parked == 1);
    let refused = plane.get("/2");
    assert_eq!(
        (refused.status, refused.field("retry-after")),
        (503, Some("1"))
    );
    assert!(refused.field("x-request-id").is_some());
    assert_eq!(waits.answer().status, 503);
    let sample = plane.sample();
    assert_eq!(
        (sample.services[0].parked, sample.services[0].park_dropped),
        (0, 2)
    );
}

#[test]
fn pings_are_answered_and_late_tables_ignored() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    plane.send(&remuda::link::message::ToPlane::Ping(7));
    plane.wait(|message| matches!(message, FromPlane::Pong(7)).then_some(()));
}
