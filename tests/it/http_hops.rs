//! Requests that end at us: at a listener that only sends clients to `https`.

use remuda::link::message::Entrance;

use crate::plane::{Plane, open};
use crate::worker::Worker;

#[test]
fn a_listener_that_sends_clients_to_https_forwards_nothing() {
    let a = Worker::named("a");
    let plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        let redirect = Some(8443);
        plane.front.entrances = vec![Entrance {
            redirect,
            ..Entrance::default()
        }];
    });
    for (request, status) in [
        ("GET /x HTTP/1.0\r\nHost: a\r\n", 308),
        // There is no URL of `https` that says the same.
        ("GET /secret HTTP/1.0\r\n", 400),
        ("POST /secret HTTP/1.0\r\nContent-Length: 2\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /secret HTTP/1.1\r\n", 400),
        ("OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n", 308),
    ] {
        let mut client = plane.client();
        client.send(&format!("{request}\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, status, "{request}");
        assert!(answer.field("x-request-id").is_some(), "{request}");
        let location = answer.field("location");
        assert_eq!(
            location,
            (status == 308).then_some("https://a:8443/x"),
            "{request}"
        );
    }
    assert!(a.requests().is_empty(), "{:?}", a.requests());
}
