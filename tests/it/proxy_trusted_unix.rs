//! Peers of unix listeners, which have no address: whose word about who the client is is believed, and whose is not.

use remuda::link::message::{Entrance, Network};

use crate::plane::{Client, Plane, open};
use crate::proxy_access_log::Log;
use crate::worker::{Request, Worker};

/// What a proxy in front of us says.
const SAID: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\
    Forwarded: for=192.0.2.7;proto=https\r\nX-Request-Id: theirs\r\n";
const LINE: &str = "PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n";

/// What the worker gets of a request that comes by a unix socket, behind `opening`, and whom the log names.
fn came(adapt: impl FnOnce(&mut Plane), opening: &str) -> (Request, String) {
    let a = Worker::named("a");
    let log = Log::new();
    let (mut plane, dir) = Plane::serving_unix(&[open(1, a.address)], adapt);
    plane.log_to(&log.file());
    let mut client = Client::connect_unix(&dir.path().join("socket"));
    client.send(&format!("{opening}GET / HTTP/1.1\r\nHost: a\r\n{SAID}\r\n"));
    assert_eq!(client.answer().text(), "a");
    drop(client);
    let lines = log.after(plane);
    let line = lines.first().expect("a line");
    let client = line["client"].as_str().expect("a client").to_owned();
    (a.requests().pop().expect("a request"), client)
}

fn introduced(plane: &mut Plane) {
    plane.front.entrances = vec![Entrance {
        proxy_protocol: true,
        ..Entrance::default()
    }];
}

#[test]
fn t7_a_trusted_unix_peer_says_who_the_client_is() {
    let (request, client) = came(|plane| plane.front.trusts_unix = true, "");
    assert_eq!(request.field("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(request.field("x-forwarded-proto"), Some("https"));
    assert_eq!(
        request.field("forwarded"),
        Some("for=192.0.2.7;proto=https, for=unknown;proto=http;host=\"a\"")
    );
    assert_eq!(request.field("x-request-id"), Some("theirs"));
    assert_eq!(client, "192.0.2.7");
}

#[test]
fn t7_another_unix_peer_is_not_believed() {
    let everybody = |plane: &mut Plane| {
        plane.front.trusted = vec![Network {
            address: [0, 0, 0, 0].into(),
            prefix: 0,
        }];
    };
    let (request, client) = came(everybody, "");
    assert_eq!(request.field("x-forwarded-for"), None);
    assert_eq!(request.field("x-forwarded-proto"), Some("http"));
    assert_eq!(request.field("forwarded"), None);
    assert_ne!(request.field("x-request-id"), Some("theirs"));
    assert_eq!(client, "unix");
}

/// Whoever wants the header of a unix listener's peers means it.
#[test]
fn t7_the_header_of_a_unix_peer_is_read_whoever_is_trusted() {
    for trusts_unix in [false, true] {
        let adapt = |plane: &mut Plane| {
            introduced(plane);
            plane.front.trusts_unix = trusts_unix;
        };
        let (request, client) = came(adapt, LINE);
        // The client itself is not one of those who are believed, as it is behind a peer that has an address.
        assert_eq!(request.field("x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(request.field("x-forwarded-proto"), Some("http"));
        assert_eq!(request.field("forwarded"), None);
        assert_ne!(request.field("x-request-id"), Some("theirs"));
        assert_eq!(client, "192.0.2.7");
        // One that speaks for itself is the client.
        let (request, client) = came(adapt, "PROXY UNKNOWN\r\n");
        let believed = trusts_unix.then_some("192.0.2.7");
        assert_eq!(request.field("x-forwarded-for"), believed);
        assert_eq!(client, believed.unwrap_or("unix"));
    }
}
