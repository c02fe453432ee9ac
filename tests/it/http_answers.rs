//! `HTTP.md` §2 and §3, answers: what a worker sends, and what the client gets of it.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use remuda::link::message::{Exchange, ProxyReason};

use crate::h2::{Session, get};
use crate::plane::{Plane, open, worker};
use crate::worker::{Door, Worker, reply, write};

const GOOD: &str = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers `/good` well, and everything else as it is told. It keeps its connections open.
fn answering(bytes: &[u8]) -> Worker {
    let bytes = bytes.to_vec();
    Worker::scripted(move |request, stream| match request.path() {
        "/good" => reply(stream, "good"),
        _ => stream.write_all(&bytes).is_ok(),
    })
}

/// Nothing is in flight, and so many connections were made to the worker.
fn settled(plane: &mut Plane, a: &Worker, connections: usize, name: &str) {
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(sample.services[0].in_flight(), 0, "{name}");
    assert_eq!(a.connections.load(Ordering::SeqCst), connections, "{name}");
}

#[test]
fn t9_answers_that_break_the_rules_are_502_and_their_connection_is_not_used_again() {
    let ok = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes();
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1_025));
    let early = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40)
        + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let table: &[(&str, Vec<u8>)] = &[
        ("CL, TE", ok("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nAAAAA\r\n0\r\n\r\n")),
        ("TE, CL", ok("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nAAAAA\r\n0\r\n\r\n")),
        ("CL differ", ok("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")),
        ("CL list", ok("Content-Length: 3, 3\r\n\r\nabc")),
        ("CL +", ok("Content-Length: +3\r\n\r\nabc")),
        ("CL -", ok("Content-Length: -3\r\n\r\nabc")),
        ("CL hex", ok("Content-Length: 0x3\r\n\r\nabc")),
        ("CL empty", ok("Content-Length:\r\n\r\nabc")),
        ("CL overflow", ok("Content-Length: 18446744073709551617\r\n\r\nabc")),
        ("TE list", ok("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")),
        ("TE twice", ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("TE cow", ok("Transfer-Encoding: cow\r\n\r\n0\r\n\r\n")),
        ("TE in 1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec()),
        ("garbage", b"hello there\r\n\r\n".to_vec()),
        ("binary", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".to_vec()),
        ("0.9", b"<html>\r\n\r\n".to_vec()),
        ("2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("status", b"HTTP/1.1 xyz OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("status 99", b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("bare LF", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n".to_vec()),
        ("one bare LF", ok("X: y\nContent-Length: 0\r\n\r\n")),
        ("bare CR", ok("X: y\rz\r\nContent-Length: 0\r\n\r\n")),
        ("NUL", ok("X: \0\r\nContent-Length: 0\r\n\r\n")),
        ("folded", ok("X: y\r\n z\r\nContent-Length: 0\r\n\r\n")),
        ("space before colon", ok("Content-Length : 0\r\n\r\n")),
        ("no colon", ok("Content-Length\r\n\r\n")),
        ("head too large", ok(&format!("X: {}\r\n\r\n", "x".repeat(100_000)))),
        ("too many fields", many.into_bytes()),
        ("unasked 101", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw".to_vec()),
        ("informational without end", early.into_bytes()),
    ];
    for (name, bytes) in table {
        let a = answering(bytes);
        let mut plane = Plane::serving(&[open(1, a.address)]);
        let mut client = plane.client();
        client.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(GOOD);
        let answer = client.answer();
        assert_eq!(answer.status, 502, "{name}");
        let id = answer.field("x-request-id").expect("an id");
        assert_eq!(
            answer.text(),
            format!("502 Bad Gateway\nrequest {id}\n"),
            "{name}"
        );
        assert_eq!(client.answer().text(), "good", "{name}");
        settled(&mut plane, &a, 2, name);
        let sample = plane.sample();
        assert_eq!(
            sample.services[0].errors(),
            [(ProxyReason::BadResponse, 1)],
            "{name}"
        );
        assert_eq!(worker(&sample, 1).failures, 1, "{name}");
        assert_eq!(a.requests().len(), 2, "{name}: never sent again");
    }
}

#[test]
fn f42_a_malformed_or_cut_body_never_looks_whole() {
    let chunked = |body: &str| {
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n{body}")
    };
    let table: &[(&str, String)] = &[
        ("bare LF after size", chunked("3\nabc\r\n0\r\n\r\n")),
        ("bare LF after data", chunked("3\r\nabc\n0\r\n\r\n")),
        ("two bytes unchecked", chunked("3\r\nabcXX0\r\n\r\n")),
        ("overflow", chunked("10000000000000003\r\nabc\r\n0\r\n\r\n")),
        ("sign", chunked("+3\r\nabc\r\n0\r\n\r\n")),
        ("0x", chunked("0x3\r\nabc\r\n0\r\n\r\n")),
        ("no size", chunked("\r\nabc\r\n0\r\n\r\n")),
        (
            "extension flood",
            chunked(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(20_000))),
        ),
        ("bare LF in trailers", chunked("0\r\nX: y\n\r\n")),
        (
            "trailer flood",
            chunked(&format!("0\r\nX: {}\r\n\r\n", "x".repeat(40_000))),
        ),
        (
            "status line in place of a chunk",
            chunked("HTTP/1.1 200 OK\r\n\r\n"),
        ),
    ];
    for (name, bytes) in table {
        let a = answering(bytes.as_bytes());
        let mut plane = Plane::serving(&[open(1, a.address)]);
        let answer = plane.get("/bad");
        assert_eq!(answer.status, 200, "{name}");
        assert!(!answer.whole, "{name}: {answer:?}");
        assert!("goodabc".starts_with(answer.text()), "{name}: {answer:?}");
        let mut client = plane.client();
        client.send(GOOD);
        assert_eq!(client.answer().text(), "good", "{name}");
        settled(&mut plane, &a, 2, name);
    }
}

#[test]
fn bytes_beyond_an_answer_go_nowhere() {
    let hidden = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden";
    let table: &[(&str, &str, String)] = &[
        (
            "GET",
            "hi",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi{hidden}"),
        ),
        (
            "GET",
            "",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{hidden}"),
        ),
        (
            "GET",
            "hi",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "HEAD",
            "",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden{hidden}"),
        ),
        (
            "HEAD",
            "",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "GET",
            "",
            format!("HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nhidden{hidden}"),
        ),
        (
            "GET",
            "",
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nhidden{hidden}"),
        ),
        (
            "GET",
            "",
            format!("HTTP/1.1 205 Reset Content\r\nContent-Length: 6\r\n\r\nhidden{hidden}"),
        ),
    ];
    for (method, body, bytes) in table {
        let a = answering(bytes.as_bytes());
        let mut plane = Plane::serving(&[open(1, a.address)]);
        let mut client = plane.client();
        client.send(&format!("{method} /bad HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.answer_to(method).expect("an answer");
        assert_eq!((answer.text(), answer.whole), (*body, true), "{bytes:?}");
        client.send(GOOD);
        assert_eq!(client.answer().text(), "good", "{bytes:?}");
        settled(&mut plane, &a, 2, bytes);
    }
}

#[test]
fn lengths_of_bodies_that_are_not_there_are_as_the_worker_said() {
    let table: &[(&str, &str, &str, Option<&str>)] = &[
        ("HEAD", "200 OK", "Content-Length: 7\r\n", Some("7")),
        ("HEAD", "200 OK", "", None),
        ("HEAD", "200 OK", "Transfer-Encoding: chunked\r\n", None),
        ("GET", "204 No Content", "", None),
        ("GET", "304 Not Modified", "", None),
        (
            "GET",
            "304 Not Modified",
            "Content-Length: 7\r\n",
            Some("7"),
        ),
        ("GET", "200 OK", "Content-Length: 0\r\n", Some("0")),
    ];
    for (method, status, field, length) in table {
        let a = answering(format!("HTTP/1.1 {status}\r\n{field}\r\n").as_bytes());
        let mut plane = Plane::serving(&[open(1, a.address)]);
        let mut client = plane.client();
        for _ in 0..2 {
            client.send(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
            let answer = client.answer_to(method).expect("an answer");
            assert_eq!(
                answer.field("content-length"),
                *length,
                "{method} {status} {field}: {}",
                answer.head
            );
            assert_eq!(
                answer.field("transfer-encoding"),
                None,
                "{method} {status} {field}"
            );
        }
        let sample = plane.until(|sample| worker(sample, 1).requests == 2);
        assert!(
            sample.services[0].errors().is_empty(),
            "{method} {status} {field}"
        );
    }
}

#[test]
fn informational_answers_do_not_stand_in_for_the_final_one() {
    let final_one = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    for early in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
    ] {
        let a = answering(format!("{early}{final_one}").as_bytes());
        let mut plane = Plane::serving(&[open(1, a.address)]);
        for version in ["1.0", "1.1"] {
            let mut client = plane.client();
            client.send(&format!(
                "GET / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"
            ));
            if version == "1.0" {
                assert_eq!(
                    client.head().expect("a head").status,
                    200,
                    "none to HTTP/1.0"
                );
                assert_eq!(client.take(2).as_deref(), Some(&b"hi"[..]));
            } else {
                assert_eq!(client.answer().text(), "hi", "{early}");
            }
            assert!(client.closed());
        }
        plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    }
}

#[test]
fn informational_answers_reach_the_client_before_the_final_one_is_made() {
    let (go_on, told) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let a = Worker::scripted(move |_, stream| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\
                     Connection: x-hop\r\nX-Hop: 1\r\n\r\n";
        // Again and again, so that one comes at a later turn of the plane's clock than the request.
        let told = told.lock().expect("one");
        while write(stream, hints) && told.recv_timeout(Duration::from_millis(300)).is_err() {}
        write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    });
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let early = client.head().expect("a head");
    assert_eq!(early.status, 103);
    assert_eq!(early.field("link"), Some("</x>; rel=preload"));
    let hop = (early.field("x-hop"), early.field("connection"));
    assert_eq!(hop, (None, None));
    go_on.send(()).expect("the worker waits");
    assert_eq!(client.answer().text(), "hi");
    // A client of HTTP/1.0 would take one for the answer (RFC 9110 §15.2).
    let mut client = plane.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let met = |exchange: &Exchange| exchange.worker.is_some() && exchange.idle < exchange.age;
    while !plane.exchanges().iter().any(met) {}
    go_on.send(()).expect("the worker waits");
    assert_eq!(client.head().expect("a head").status, 200);
}

#[test]
fn http10_clients_get_no_chunks_and_keep_alive_only_as_asked() {
    let a = Worker::scripted(|request, stream| match request.path() {
        "/length" => reply(stream, "hi"),
        "/chunked" => write(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ),
        _ => {
            write(stream, "HTTP/1.0 200 OK\r\n\r\nhi");
            false
        }
    });
    let plane = Plane::serving(&[open(1, a.address)]);
    let table = [
        ("/length", "", true),
        ("/length", "Connection: close\r\n", true),
        ("/length", "Connection: keep-alive\r\n", false),
        ("/chunked", "", true),
        ("/chunked", "Connection: keep-alive\r\n", true),
        ("/close", "Connection: keep-alive\r\n", true),
    ];
    for (path, field, closes) in table {
        let mut client = plane.client();
        client.send(&format!("GET {path} HTTP/1.0\r\nHost: a\r\n{field}\r\n"));
        let answer = client.answer();
        // A server says its own version (RFC 9110 §2.5).
        assert!(
            answer.head.starts_with("HTTP/1.1 200"),
            "{path} {field}: {}",
            answer.head
        );
        assert_eq!(answer.field("transfer-encoding"), None, "{path} {field}");
        assert_eq!(answer.text(), "hi", "{path} {field}");
        if closes {
            assert!(client.closed(), "{path} {field}");
        } else {
            assert_eq!(answer.field("connection"), Some("keep-alive"));
            client.send(&format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n"));
            assert_eq!(client.answer().text(), "hi");
        }
        let seen = a.requests().pop().expect("one");
        assert!(
            seen.head.contains(" HTTP/1.1\r\n"),
            "the worker is asked in 1.1"
        );
    }
    // Without Host, which 1.0 allows, no name is invented.
    let mut client = plane.client();
    client.send("GET /length HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().text(), "hi");
    assert_eq!(a.requests().pop().expect("one").field("host"), Some(""));
    // A 1.1 client gets an answer that ends by closing in chunks, and its connection goes on.
    let mut client = plane.client();
    for _ in 0..2 {
        client.send("GET /close HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer();
        assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
        assert_eq!((answer.text(), answer.whole), ("hi", true));
    }
}

#[test]
fn a_workers_hop_stays_there_and_cookies_are_untouched() {
    let a = answering(
        b"HTTP/1.1 200 OK\r\nConnection: X-Hop, Content-Length, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n\
          Proxy-Authenticate: x\r\nUpgrade: h2c\r\nSet-Cookie: a=b; Path=/\r\nSet-Cookie: c=d, e\r\nX-Request-Id: theirs\r\n\
          Server: w\r\nX-Stay: 1\r\nContent-Length: 2\r\n\r\nhi",
    );
    let plane = Plane::serving(&[open(1, a.address)]);
    let answer = plane.get("/");
    assert_eq!(answer.text(), "hi");
    for gone in [
        "x-hop",
        "keep-alive",
        "proxy-authenticate",
        "upgrade",
        "connection",
    ] {
        assert_eq!(answer.field(gone), None, "{gone}");
    }
    assert_eq!(
        (answer.field("x-stay"), answer.field("server")),
        (Some("1"), Some("w"))
    );
    let cookies: Vec<_> = answer
        .head
        .lines()
        .filter(|l| l.to_lowercase().starts_with("set-cookie"))
        .collect();
    assert_eq!(cookies.len(), 2);
    assert!(cookies[0].ends_with("a=b; Path=/") && cookies[1].ends_with("c=d, e"));
    assert_eq!(
        answer.field("x-request-id"),
        a.requests()[0].field("x-request-id")
    );
}

#[test]
fn a_426_says_to_what_a_client_of_http1_is_to_upgrade() {
    let a = answering(
        b"HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade, X-Hop\r\nX-Hop: 1\r\nUpgrade: websocket, x/1\r\n\
          Content-Length: 2\r\n\r\nhi",
    );
    let plane = Plane::serving(&[open(1, a.address)]);
    let answer = plane.get("/");
    assert_eq!((answer.status, answer.text()), (426, "hi"));
    assert_eq!(answer.field("upgrade"), Some("websocket, x/1"));
    assert_eq!(answer.field("connection"), Some("upgrade"));
    assert_eq!(answer.field("x-hop"), None);
    let answer = Session::connect(plane.address).ask(get("/"));
    assert_eq!((answer.status, answer.text()), (426, "hi"));
    assert_eq!(
        (answer.field("upgrade"), answer.field("connection")),
        (None, None)
    );
}

#[test]
fn expect_a_final_answer_without_the_body_ends_both_connections() {
    let a = Worker::early(|request, stream| match request.path() {
        "/good" => reply(stream, "good"),
        _ => write(
            stream,
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno",
        ),
    });
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 33\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (401, "no"));
    assert_eq!(answer.field("connection"), Some("close"));
    // What would be the body is not the next request.
    let _ = client
        .stream
        .write_all(b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.closed());
    let mut client = plane.client();
    client.send(GOOD);
    assert_eq!(client.answer().text(), "good");
    settled(&mut plane, &a, 2, "expect");
    assert!(
        a.requests()
            .iter()
            .all(|request| request.path() != "/hidden")
    );
}

#[test]
fn expect_without_an_answer_is_sent_after_a_second_and_not_at_all_without_a_body() {
    let a = Worker::scripted(|_, stream| reply(stream, "taken"));
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 100);
    client.send("body");
    assert_eq!(client.answer().text(), "taken");
    assert_eq!(a.requests()[0].body, b"body");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().text(), "taken");
    assert_eq!(a.requests()[1].field("expect"), None);
    let mut old = plane.client();
    old.send("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(
        old.head().expect("a head").status,
        200,
        "no 100 to HTTP/1.0"
    );
    assert_eq!(a.requests()[2].field("expect"), None);
}

#[test]
fn a_body_that_comes_with_its_head_waits_for_no_100() {
    let a = Worker::scripted(|_, stream| reply(stream, "taken"));
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
    );
    assert_eq!(client.head().expect("a head").status, 200, "and no 100");
    assert_eq!(a.requests()[0].body, b"body");
    assert_eq!(a.requests()[0].field("expect"), Some("100-continue"));
}

const UPGRADE: &str =
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn t11_a_101_only_as_asked() {
    let table = [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nraw",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\nraw",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nraw",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket, x\r\n\r\nraw",
    ];
    for bytes in table {
        let a = answering(bytes.as_bytes());
        let mut plane = Plane::serving(&[open(1, a.address)]);
        let mut client = plane.client();
        client.send(UPGRADE);
        assert_eq!(client.answer().status, 502, "{bytes:?}");
        client.send(GOOD);
        assert_eq!(client.answer().text(), "good", "{bytes:?}");
        settled(&mut plane, &a, 2, bytes);
    }
    let a = Worker::named("plain");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    for fields in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Connection: upgrade\r\nUpgrade: h2c, TLS/1.0\r\n",
    ] {
        client.send(&format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(client.answer().text(), "plain", "{fields}");
        let seen = a.requests().pop().expect("one");
        assert_eq!(
            (seen.field("upgrade"), seen.field("connection")),
            (None, None),
            "{fields}"
        );
        assert_eq!(seen.field("http2-settings"), None);
    }
    settled(&mut plane, &a, 1, "plain");
}

#[test]
fn bytes_behind_an_upgrade_request_wait_for_its_answer() {
    let premature = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    // Accepted: they are the tunnel's, even if they look like a request, or like none.
    for early in [premature, "\0\n\n\r\n\r\nraw"] {
        let door = Door::new();
        let inside = door.clone();
        let length = early.len();
        let a = Worker::early(move |_, stream| {
            inside.wait();
            write(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            let mut got = vec![0; length];
            let read = stream.read_exact(&mut got);
            let _ = read.and_then(|()| stream.write_all(&got));
            false
        });
        let mut plane = Plane::serving(&[open(1, a.address)]);
        let mut client = plane.client();
        client.send(&format!("{UPGRADE}{early}"));
        plane.until(|sample| worker(sample, 1).in_flight.total() == 1);
        door.open();
        assert_eq!(client.head().expect("a head").status, 101);
        assert_eq!(client.take(length).as_deref(), Some(early.as_bytes()));
        assert!(client.closed());
        // Each way of a tunnel ends on its own, so it lasts until the client leaves too.
        drop(client);
        settled(&mut plane, &a, 1, early);
        assert_eq!(a.requests().len(), 1);
    }
    // Refused: the connection lives, and they are the next request.
    let a = answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    client.send(&format!("{UPGRADE}{GOOD}"));
    assert_eq!(client.answer().status, 403);
    assert_eq!(client.answer().text(), "good");
    client.send(GOOD);
    assert_eq!(client.answer().text(), "good");
    settled(&mut plane, &a, 1, "refused");
}
