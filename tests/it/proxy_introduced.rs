//! The PROXY protocol on a listener: who the client is, as a balancer in front of us says it.

use std::io::Write;

use remuda::link::message::{AcceptError, Entrance, Network, ToPlane};

use crate::plane::{Plane, open};
use crate::worker::Worker;

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
const LINE: &str = "PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n";

/// A plane whose only listener expects the header, from peers of the network of `trusted`.
fn expecting(worker: &Worker, trusted: [u8; 4]) -> Plane {
    Plane::serving_by(&[open(1, worker.address)], |plane| expects(plane, trusted))
}

fn expects(plane: &mut Plane, trusted: [u8; 4]) {
    plane.front.entrances = vec![Entrance {
        proxy_protocol: true,
        ..Entrance::default()
    }];
    plane.front.trusted = vec![network(trusted)];
}

fn network(address: [u8; 4]) -> Network {
    Network {
        address: address.into(),
        prefix: 8,
    }
}

/// Connections that were closed for want of a header.
fn refused(plane: &mut Plane) -> u64 {
    let sample = plane.sample();
    let errors = sample.accept_errors.iter();
    let refused = errors.filter(|(error, _)| *error == AcceptError::ProxyProtocol);
    refused.map(|(_, count)| count).sum()
}

/// A header of version 2 for 192.0.2.7, with these extensions.
fn binary(command: u8, extensions: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 192, 0, 2, 1, 0xdc, 4, 1, 0xbb];
    let size = u16::try_from(addresses.len() + extensions.len()).expect("short");
    let fixed = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, 0x11]].concat();
    [&fixed, &size.to_be_bytes()[..], &addresses, extensions].concat()
}

/// The extension of one that ended TLS, or says with 0 that it did not: how its client came, that no certificate was
/// verified, and the version.
fn by_tls(client: u8) -> Vec<u8> {
    let version = [&[0x21, 0, 7][..], b"TLSv1.3"].concat();
    [&[0x20, 0, 15, client, 0, 0, 0, 1][..], &version].concat()
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

#[test]
fn t7_a_trusted_peer_says_that_the_client_came_by_tls() {
    let a = Worker::named("a");
    let plane = expecting(&a, [127, 0, 0, 0]);
    for (header, scheme) in [
        (binary(0x21, &by_tls(1)), "https"),
        (binary(0x21, &by_tls(7)), "https"),
        (binary(0x21, &by_tls(0)), "http"),
        (binary(0x21, &[]), "http"),
        // What it says beside a connection of its own is about nobody.
        (binary(0x20, &by_tls(1)), "http"),
    ] {
        let mut client = plane.client();
        client.stream.write_all(&header).expect("sent");
        for _ in 0..2 {
            client.send(ASK);
            assert_eq!(client.answer().text(), "a", "{header:?}");
            let request = a.requests().pop().expect("a request");
            let told = request.field("x-forwarded-proto");
            assert_eq!(told, Some(scheme), "{header:?}");
        }
    }
}

/// By the rules for everybody: those who are believed may say otherwise.
#[test]
fn t7_a_client_that_came_by_tls_is_told_of_in_both_forms_unless_it_says_otherwise() {
    let a = Worker::named("a");
    let plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        expects(plane, [127, 0, 0, 0]);
        plane.front.trusted.push(network([192, 0, 2, 0]));
    });
    let mut client = plane.client();
    let header = binary(0x21, &by_tls(1));
    client.stream.write_all(&header).expect("sent");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=1.1.1.1\r\n\r\n");
    assert_eq!(client.answer().text(), "a");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\n\r\n");
    assert_eq!(client.answer().text(), "a");
    let requests = a.requests();
    assert_eq!(requests[0].field("x-forwarded-proto"), Some("https"));
    assert_eq!(
        requests[0].field("forwarded"),
        Some("for=1.1.1.1, for=192.0.2.7;proto=https;host=\"a\"")
    );
    assert_eq!(requests[1].field("x-forwarded-proto"), Some("http"));
}

#[test]
fn t7_a_client_that_came_by_tls_is_not_sent_to_https() {
    let a = Worker::named("a");
    let plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        expects(plane, [127, 0, 0, 0]);
        plane.front.entrances[0].redirect = Some(443);
    });
    for (client, status) in [(1, 200), (0, 308)] {
        let header = binary(0x21, &by_tls(client));
        let mut client = plane.client();
        client.stream.write_all(&header).expect("sent");
        client.send(ASK);
        assert_eq!(client.answer().status, status);
    }
    assert_eq!(a.requests().len(), 1);
}
