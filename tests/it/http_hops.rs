//! Requests that end at us: at a listener that only sends clients to `https`, or out of hops.

use remuda::link::message::Entrance;

use crate::h2::{Session, request};
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
        ("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n", 400),
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

#[test]
fn a_request_that_is_out_of_hops_ends_here_and_any_other_has_one_less() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    // Until it has none, and what the worker gets of the field otherwise.
    for (method, hops, wanted) in [
        ("OPTIONS", "0", Err(204)),
        ("OPTIONS", "000", Err(204)),
        ("OPTIONS", "1", Ok("0")),
        ("OPTIONS", "3", Ok("2")),
        ("TRACE", "0", Err(405)),
        ("TRACE", "10", Ok("9")),
        // Whatever that is to mean.
        ("OPTIONS", "", Ok("")),
        ("OPTIONS", "-1", Ok("-1")),
        ("OPTIONS", "1, 2", Ok("1, 2")),
        (
            "OPTIONS",
            "99999999999999999999999",
            Ok("99999999999999999999999"),
        ),
        // It may have it, and nobody looks (RFC 9110 §7.6.2).
        ("GET", "0", Ok("0")),
    ] {
        let before = a.requests().len();
        client.send(&format!(
            "{method} /x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nMax-Forwards: {hops}\r\nX-B: 2\r\n\r\n"
        ));
        let answer = client.answer();
        let seen = a.requests().split_off(before).pop();
        match wanted {
            Ok(left) => {
                let seen = seen.expect("it is forwarded");
                assert_eq!(seen.field("max-forwards"), Some(left), "{method} {hops}");
                assert_eq!(
                    (seen.field("x-a"), seen.field("x-b")),
                    (Some("1"), Some("2"))
                );
                assert_eq!(answer.text(), "a", "{method} {hops}");
            }
            Err(status) => {
                assert_eq!(answer.status, status, "{method} {hops}");
                assert!(answer.field("x-request-id").is_some());
                let allow = (status == 405).then_some("OPTIONS");
                assert_eq!(answer.field("allow"), allow, "{method} {hops}");
                assert!(seen.is_none(), "{method} {hops}: {seen:?}");
            }
        }
    }
    // Of two nobody knows which.
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nMax-Forwards: 5\r\n\r\n");
    assert_eq!(client.answer().text(), "a");
    let mut session = Session::connect(plane.address);
    for (hops, status) in [("0", 204), ("1", 200)] {
        let mut ask = request("OPTIONS", "/x");
        let value = http::HeaderValue::from_static(hops);
        ask.headers_mut().insert("max-forwards", value);
        assert_eq!(session.ask(ask).status, status);
    }
    assert_eq!(
        a.requests().pop().expect("one").field("max-forwards"),
        Some("0")
    );
}
