//! Clients that take too long or too much.

use std::time::{Duration, Instant};

use remuda::link::message::{AcceptError, Limit, ProxyReason};

use crate::h2::{HEADERS, Raw, Session, get};
use crate::plane::{Plane, open};
use crate::worker::{Door, Worker, reply, write};

#[test]
fn f51_a_head_that_never_ends_is_given_up() {
    let a = Worker::named("a");
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.front.header_timeout = Duration::from_millis(300);
        plane.front.idle_timeout = Duration::from_secs(60);
    });
    let mut quiet = plane.client();
    let mut slow = plane.client();
    slow.send("GET / HTTP/1.1\r\nHost:");
    let begun = Instant::now();
    let answer = slow.head().expect("an answer");
    assert_eq!(answer.status, 408);
    assert!(answer.field("x-request-id").is_some());
    let why = answer.field("proxy-status");
    assert_eq!(why, Some("remuda; error=http_request_error"));
    assert!(slow.closed());
    assert!(begun.elapsed() >= Duration::from_millis(250));
    // One that has said nothing yet has the idle limit, and one that answers late is no slow one.
    quiet.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(quiet.answer().text(), "a");
    assert!(a.requests().len() == 1);
    let sample = plane.sample();
    let errors = sample.services[0].errors();
    assert_eq!(errors, [(ProxyReason::RequestTimeout, 1)]);
    assert_eq!(sample.limits, [(Limit::HeaderTime, 1)]);
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
    let sample = plane.until(|sample| sample.connections == 0);
    assert_eq!(sample.limits, [(Limit::IdleTime, 1)]);
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
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
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
    let each = [Limit::Head, Limit::Headers, Limit::Target].map(|limit| (limit, 1));
    assert_eq!(plane.sample().limits, each);
}

#[test]
fn over_max_connections_clients_wait_in_the_queue() {
    let a = Worker::scripted(|request, stream| match request.path() {
        "/slow" => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow"),
        _ => reply(stream, "a"),
    });
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.front.max_connections = 1;
    });
    let mut first = plane.client();
    first.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(first.head().expect("a head").status, 200);
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
    assert_eq!(plane.sample().limits, [(Limit::Connections, 1)]);
}

/// So many clients may be here. What is slow waits for the door.
fn full_of(most: u32) -> (Worker, Door, Plane) {
    let door = Door::new();
    let opened = door.clone();
    let a = Worker::scripted(move |request, stream| {
        if request.path() == "/slow" {
            opened.wait();
        }
        reply(stream, "a")
    });
    // Each loop may take one more than that.
    let mut plane = Plane::start_with(1);
    plane.front.max_connections = most;
    plane.publish(&[(10_000, &[open(1, a.address)])]);
    plane.accept();
    (a, door, plane)
}

#[test]
fn f51_those_that_rest_longest_make_room_for_new_clients_and_none_in_flight_does() {
    let (_a, door, mut plane) = full_of(20);
    let mut busy: Vec<_> = (0..3).map(|_| plane.client()).collect();
    for client in &mut busy {
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut streams = Session::connect(plane.address);
    let (held, _) = streams.begin(get("/slow"), true);
    plane.until(|sample| sample.services[0].in_flight() == 4);
    let mut half = plane.client();
    half.send("GET /half HTTP/1.1\r\n");
    // In the order in which they rest.
    let mut silent: Vec<_> = (0..8).map(|_| plane.client()).collect();
    let mut quiet: Vec<_> = (0..4).map(|_| Session::connect(plane.address)).collect();
    for session in &mut quiet {
        assert_eq!(session.ask(get("/")).text(), "a");
    }
    let mut idle: Vec<_> = (0..3).map(|_| plane.client()).collect();
    for client in &mut idle {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().text(), "a");
    }
    plane.until(|sample| sample.connections == 20);
    let mut new: Vec<_> = (0..6).map(|_| plane.client()).collect();
    for client in &mut new {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut new {
        assert_eq!(client.answer().text(), "a");
    }
    for client in silent.iter_mut().take(4) {
        assert!(client.closed());
    }
    plane.until(|sample| sample.shed >= 6);
    // The rest of a head is no beginning.
    half.send("Host: a\r\n\r\n");
    assert_eq!(half.answer().text(), "a");
    door.open();
    for client in &mut busy {
        assert_eq!(client.answer().text(), "a");
    }
    assert_eq!(streams.answer(held).expect("an answer").text(), "a");
}

#[test]
fn f51_a_client_of_http2_that_makes_room_is_told_so() {
    let (_a, _door, plane) = full_of(2);
    let mut sessions: Vec<_> = (0..2).map(|_| Session::connect(plane.address)).collect();
    for session in &mut sessions {
        assert_eq!(session.ask(get("/")).text(), "a");
    }
    for _ in 0..2 {
        let mut new = plane.client();
        new.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(new.answer().text(), "a");
        sessions.push(Session::connect(plane.address));
        let last = sessions.last_mut().expect("one");
        assert_eq!(last.ask(get("/")).text(), "a");
    }
    for session in &sessions[..2] {
        assert!(session.ended().is_ok());
    }
}

#[test]
fn f51_one_that_does_not_hear_that_it_is_to_go_is_closed() {
    let (_a, _door, plane) = full_of(2);
    // It answers no PING.
    let mut deaf: Vec<_> = (0..2).map(|_| Raw::connect(plane.address)).collect();
    for raw in &mut deaf {
        raw.get(1);
        assert_eq!(raw.until(HEADERS).status(), Some(200));
    }
    let mut new = plane.client();
    new.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(new.answer().text(), "a");
}

#[test]
fn nobody_makes_room_for_nobody() {
    let (_a, _door, mut plane) = full_of(2);
    let mut clients: Vec<_> = (0..2).map(|_| plane.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().text(), "a");
    }
    // It has looked often enough, and longer than one must have rested.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let sample = plane.sample();
        assert_eq!(sample.shed, 0);
        assert_eq!(sample.accept_errors, [], "nobody waits");
    }
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().text(), "a");
    }
}
