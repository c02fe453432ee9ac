//! `HTTP.md` §2 and §3 end to end, over raw sockets.

use crate::plane::{Plane, open};
use crate::worker::{Worker, write};

#[test]
fn t9_requests_that_break_the_rules_are_refused_and_no_worker_sees_them() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let table: &[(&str, &str, u16)] = &[
        ("no Host", "GET / HTTP/1.1\r\n\r\n", 400),
        (
            "two Hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            400,
        ),
        (
            "userinfo in Host",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            400,
        ),
        ("path in Host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            400,
        ),
        (
            "signed length",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
            400,
        ),
        (
            "chunked twice",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "cow",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "1.0 chunked",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "folded",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
            400,
        ),
        (
            "space before colon",
            "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
            400,
        ),
        ("NUL", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("star with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ];
    for (name, request, status) in table {
        let mut client = plane.client();
        client.send(request);
        let answer = client.answer();
        let expected = if *status == 405 {
            [405, 501]
        } else {
            [400, 501]
        };
        assert!(
            expected.contains(&answer.status),
            "{name}: {}",
            answer.status
        );
        assert!(client.closed(), "{name}: the connection goes on");
    }
    let seen = a.requests();
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn t9_length_and_chunked_together_hide_no_second_request() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    client.answer();
    assert!(client.closed());
    assert!(
        a.requests()
            .iter()
            .all(|request| request.path() != "/hidden")
    );
}

#[test]
fn t7_t8_hop_by_hop_and_forged_fields_stay_here() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    client.send(
        "GET /x HTTP/1.1\r\nHost: shop.example\r\nConnection: X-Hop, X-Forwarded-For\r\nX-Hop: 1\r\n\
         X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nKeep-Alive: timeout=5\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: x\r\nX-Request-Id: mine\r\nX-Stay: yes\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert!(answer.field("x-request-id").is_some_and(|id| id != "mine"));
    assert!(answer.field("date").is_some());
    let seen = &a.requests()[0];
    for gone in ["x-hop", "keep-alive", "upgrade", "http2-settings"] {
        assert_eq!(seen.field(gone), None, "{gone}");
    }
    assert_eq!(seen.field("host"), Some("shop.example"));
    assert_eq!(seen.field("x-stay"), Some("yes"));
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.field("x-request-id"), answer.field("x-request-id"));
}

#[test]
fn absolute_form_replaces_host() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    client.send("GET http://real.example/p?q HTTP/1.1\r\nHost: other\r\n\r\n");
    let status = client.answer().status;
    if status == 200 {
        let seen = &a.requests()[0];
        assert_eq!(
            (seen.path(), seen.field("host")),
            ("/p?q", Some("real.example"))
        );
    } else {
        assert!(matches!(status, 400 | 421), "{status}");
    }
}

#[test]
fn answers_without_a_body_have_none_and_the_connection_goes_on() {
    let a = Worker::scripted(|request, stream| match (request.method(), request.path()) {
        ("HEAD", _) => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
        (_, "/204") => write(stream, "HTTP/1.1 204 No Content\r\n\r\n"),
        (_, "/304") => write(stream, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
        (_, "/empty") => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        _ => write(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ),
    });
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    for round in 0..3 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.answer_to("HEAD").expect("an answer");
        assert_eq!(head.field("content-length"), Some("7"), "{round}");
        for (path, status) in [("/204", 204), ("/304", 304), ("/empty", 200), ("/", 200)] {
            client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let answer = client.answer();
            assert_eq!((answer.status, answer.whole), (status, true), "{path}");
        }
    }
    use std::sync::atomic::Ordering;
    assert_eq!(
        a.connections.load(Ordering::SeqCst),
        1,
        "each went back to the pool"
    );
    let sample = plane.sample();
    assert_eq!(crate::plane::worker(&sample, 1).requests, 15);
    assert!(sample.services[0].errors().is_empty());
}

#[test]
fn hostile_answers_are_not_passed_on() {
    let table: &[(&str, &str)] = &[
        (
            "both framings",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nAAAAA\r\n0\r\n\r\n",
        ),
        (
            "signed length",
            "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        ),
        ("garbage", "hello there\r\n\r\n"),
        (
            "unasked 101",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ),
    ];
    for (name, answer) in table {
        let answer = (*answer).to_owned();
        let bad = Worker::scripted(move |_, stream| {
            write(stream, &answer);
            false
        });
        let plane = Plane::serving(&[open(1, bad.address)]);
        let got = plane.get("/");
        assert!(
            got.status == 502 || got.text() == "AAAAA",
            "{name}: {got:?}"
        );
        if got.status == 502 {
            assert!(
                got.text().starts_with("502 Bad Gateway\nrequest "),
                "{name}"
            );
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let a = Worker::scripted(|request, stream| {
        let path = request.path().to_owned();
        crate::worker::reply(stream, &path)
    });
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    let all: String = (0..20)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    client.send(&all);
    for n in 0..20 {
        assert_eq!(client.answer().text(), format!("/{n}"));
    }
}

#[test]
fn an_http10_client_gets_its_answer_and_the_end() {
    let a = Worker::scripted(|_, stream| {
        write(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        )
    });
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let answer = client.answer();
    assert!(answer.head.starts_with("HTTP/1.1 200") && answer.field("transfer-encoding").is_none());
    assert_eq!(answer.text(), "hi");
}
