//! The PROXY protocol on a listener: who the client is, as a balancer in front of us says it.

use remuda::link::message::{AcceptError, Entrance, Network, ToPlane};

use crate::plane::{Plane, open};
use crate::worker::Worker;

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
const LINE: &str = "PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n";

/// A plane whose only listener expects the header, from peers of `network`.
fn expecting(worker: &Worker, network: [u8; 4]) -> Plane {
    Plane::serving_by(&[open(1, worker.address)], |plane| {
        plane.front.entrances = vec![Entrance {
            proxy_protocol: true,
            ..Entrance::default()
        }];
        plane.front.trusted = vec![Network {
            address: network.into(),
            prefix: 8,
        }];
    })
}

/// Connections that were closed for want of a header.
fn refused(plane: &mut Plane) -> u64 {
    let sample = plane.sample();
    let errors = sample.accept_errors.iter();
    let refused = errors.filter(|(error, _)| *error == AcceptError::ProxyProtocol);
    refused.map(|(_, count)| count).sum()
}

fn forwarded_for(worker: &Worker) -> String {
    let request = worker.requests().pop().expect("a request");
    request.field("x-forwarded-for").unwrap_or("").to_owned()
}

#[test]
fn t7_a_trusted_peer_says_who_the_client_is() {
    let a = Worker::named("a");
    let plane = expecting(&a, [127, 0, 0, 0]);
    let mut client = plane.client();
    client.send(&format!("{LINE}{ASK}"));
    assert_eq!(client.answer().text(), "a");
    // The client itself is not one of those who are believed.
    assert_eq!(forwarded_for(&a), "192.0.2.7");
    client.send(ASK);
    assert_eq!(client.answer().text(), "a");
    assert_eq!(forwarded_for(&a), "192.0.2.7", "for the whole connection");
}

#[test]
fn a_header_may_come_in_pieces() {
    let a = Worker::named("a");
    let plane = expecting(&a, [127, 0, 0, 0]);
    let mut client = plane.client();
    let all = format!("{LINE}{ASK}");
    for piece in all.as_bytes().chunks(7) {
        client.send(std::str::from_utf8(piece).expect("letters"));
    }
    assert_eq!(client.answer().text(), "a");
    assert_eq!(forwarded_for(&a), "192.0.2.7");
}

#[test]
fn a_balancer_that_speaks_for_itself_is_the_client() {
    let a = Worker::named("a");
    let plane = expecting(&a, [127, 0, 0, 0]);
    let mut client = plane.client();
    client.send(&format!("PROXY UNKNOWN\r\n{ASK}"));
    assert_eq!(client.answer().text(), "a");
    assert_eq!(forwarded_for(&a), "6.6.6.6, 127.0.0.1");
}

#[test]
fn t7_a_trusted_peer_without_a_header_is_closed_unheard() {
    let a = Worker::named("a");
    let mut plane = expecting(&a, [127, 0, 0, 0]);
    for opening in [ASK, "PROXY TCP4 192.0.2.7\r\n", "\r\n\r\nX"] {
        let mut client = plane.client();
        client.send(opening);
        assert!(client.closed(), "{opening:?}");
    }
    // One who asks only whether somebody listens has done nothing wrong.
    drop(plane.client());
    plane.until(|sample| sample.connections == 0);
    assert_eq!(refused(&mut plane), 3);
    assert!(a.requests().is_empty());
}

#[test]
fn t7_the_header_of_a_stranger_is_not_believed() {
    let a = Worker::named("a");
    let mut plane = expecting(&a, [10, 0, 0, 0]);
    let mut client = plane.client();
    client.send(&format!("{LINE}{ASK}"));
    assert_eq!(client.answer().status, 400);
    assert!(a.requests().is_empty());
    let mut client = plane.client();
    client.send(ASK);
    assert_eq!(client.answer().text(), "a");
    assert_eq!(forwarded_for(&a), "127.0.0.1");
    assert_eq!(refused(&mut plane), 0);
}

#[test]
fn a_drain_does_not_wait_long_for_a_header() {
    let a = Worker::named("a");
    let mut plane = expecting(&a, [127, 0, 0, 0]);
    let mut silent = plane.client();
    plane.send(&ToPlane::Drain);
    plane.drained();
    assert!(silent.closed());
}
