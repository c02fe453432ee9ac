//! Clients that take too long or too much.

use std::time::{Duration, Instant};

use remuda::link::message::AcceptError;

use crate::plane::{Plane, open};
use crate::worker::Worker;

#[test]
fn f51_a_head_that_never_ends_is_given_up() {
    let a = Worker::named("a");
    let plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.front.header_timeout = Duration::from_millis(300);
        plane.front.idle_timeout = Duration::from_secs(60);
    });
    let mut quiet = plane.client();
    let mut slow = plane.client();
    slow.send("GET / HTTP/1.1\r\nHost:");
    let begun = Instant::now();
    assert_eq!(slow.head().map(|head| head.status), Some(408));
    assert!(slow.closed());
    assert!(begun.elapsed() >= Duration::from_millis(250));
    // One that has said nothing yet has the idle limit, and one that answers late is no slow one.
    quiet.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(quiet.answer().text(), "a");
    assert!(a.requests().len() == 1);
}

#[test]
fn an_idle_client_is_closed_at_the_idle_limit() {
    let a = Worker::named("a");
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.front.idle_timeout = Duration::from_millis(300);
    });
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "a");
    assert!(client.closed());
    plane.until(|sample| sample.connections == 0);
}

#[test]
fn idle_clients_that_are_looked_at_in_parts_are_all_closed_and_none_too_soon() {
    let limit = Duration::from_secs(5);
    let a = Worker::named("a");
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.front.idle_timeout = limit;
    });
    let mut clients: Vec<_> = (0..12).map(|_| plane.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().text(), "a");
    }
    let answered = Instant::now();
    for client in &mut clients {
        assert!(client.closed());
    }
    // By the plane's clock, which goes in tenths of a second.
    assert!(answered.elapsed() >= limit.saturating_sub(Duration::from_millis(300)));
    plane.until(|sample| sample.connections == 0);
}

#[test]
fn heads_over_the_limits_are_refused() {
    let a = Worker::named("a");
    let plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.front.max_head = 8 << 10;
        plane.front.max_headers = 20;
        plane.front.max_target = 1_000;
    });
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1_001));
    let mut client = plane.client();
    client.send(&long);
    assert_eq!(client.answer().status, 414);
    let big = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(9_000)
    );
    let mut client = plane.client();
    client.send(&big);
    assert_eq!(client.answer().status, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(30));
    let mut client = plane.client();
    client.send(&many);
    assert_eq!(client.answer().status, 431);
    assert!(a.requests().is_empty());
}

#[test]
fn over_max_connections_clients_wait_in_the_queue() {
    let a = Worker::named("a");
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.front.max_connections = 1;
    });
    let mut first = plane.client();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(first.answer().text(), "a");
    let mut second = plane.client();
    second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| {
        sample
            .accept_errors
            .iter()
            .any(|(e, _)| *e == AcceptError::Limit)
    });
    drop(first);
    assert_eq!(second.answer().text(), "a");
}
