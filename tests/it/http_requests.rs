//! `HTTP.md` §2 and §3, requests: raw bytes in; the bytes at the worker and at the client are looked at.

use std::io::{Read, Write};

use remuda::link::message::{Network, ProxyReason};

use crate::plane::{Answer, Plane, find, open, worker};
use crate::worker::{Worker, reply, write};

/// Sends bytes and a request that must stay hidden behind them; all that comes until the end.
fn sent_with_hidden(plane: &Plane, bytes: &[u8]) -> Vec<u8> {
    let mut client = plane.client();
    let all = [bytes, b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    client.stream.write_all(&all).expect("sent");
    let mut got = Vec::new();
    let _ = client.stream.read_to_end(&mut got);
    got
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One of ours: names its request, says nothing else, closes.
fn assert_ours(name: &str, answer: &Answer) {
    let id = answer.field("x-request-id").expect("an id");
    let lines: Vec<_> = answer.text().lines().collect();
    assert_eq!(lines.len(), 2, "{name}: {answer:?}");
    assert!(lines[0].starts_with(&answer.status.to_string()), "{name}");
    assert_eq!(lines[1], format!("request {id}"), "{name}");
    assert_eq!(answer.field("connection"), Some("close"), "{name}");
    assert_eq!(answer.field("server"), None, "{name}");
}

#[test]
fn t9_ambiguous_heads_get_400_and_close_and_hide_nothing() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let post = |fields: &str, body: &str| {
        format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}").into_bytes()
    };
    let get = |fields: &str| format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").into_bytes();
    let chunk = "0\r\n\r\n";
    let table: Vec<(&str, Vec<u8>, u16)> = vec![
        // CL and TE together, TE lists, lenient numbers.
        (
            "CL, TE",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked", chunk),
            400,
        ),
        (
            "TE, CL",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5", chunk),
            400,
        ),
        (
            "CL 0, TE",
            post("Content-Length: 0\r\nTransfer-Encoding: chunked", chunk),
            400,
        ),
        (
            "CL differ",
            post("Content-Length: 1\r\nContent-Length: 2", "xx"),
            400,
        ),
        ("CL list", post("Content-Length: 1, 1", "x"), 400),
        ("CL +", post("Content-Length: +1", "x"), 400),
        ("CL -", post("Content-Length: -1", "x"), 400),
        ("CL hex", post("Content-Length: 0x1", "x"), 400),
        ("CL _", post("Content-Length: 1_0", "0123456789"), 400),
        ("CL empty", post("Content-Length:", ""), 400),
        ("CL float", post("Content-Length: 1.0", "x"), 400),
        ("CL inner space", post("Content-Length: 1 0", "x"), 400),
        (
            "CL overflow",
            post("Content-Length: 18446744073709551617", "x"),
            400,
        ),
        (
            "TE twice in one",
            post("Transfer-Encoding: chunked, chunked", chunk),
            400,
        ),
        (
            "TE twice",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                chunk,
            ),
            400,
        ),
        (
            "TE leading comma",
            post("Transfer-Encoding: ,chunked", chunk),
            400,
        ),
        (
            "TE trailing comma",
            post("Transfer-Encoding: chunked,", chunk),
            400,
        ),
        ("TE empty", post("Transfer-Encoding:", chunk), 400),
        (
            "TE cow",
            post(
                "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
                chunk,
            ),
            501,
        ),
        (
            "TE gzip, chunked",
            post("Transfer-Encoding: gzip, chunked", chunk),
            501,
        ),
        (
            "TE chunked, gzip",
            post("Transfer-Encoding: chunked, gzip", chunk),
            501,
        ),
        ("TE identity", post("Transfer-Encoding: identity", ""), 501),
        (
            "TE xchunked",
            post("Transfer-Encoding: xchunked", chunk),
            501,
        ),
        (
            "TE quoted",
            post("Transfer-Encoding: \"chunked\"", chunk),
            501,
        ),
        (
            "TE parameter",
            post("Transfer-Encoding: chunked;x=y", chunk),
            501,
        ),
        (
            "TE vertical tab",
            post("Transfer-Encoding: \x0bchunked", chunk),
            400,
        ),
        (
            "TE folded",
            post("Transfer-Encoding:\r\n chunked", chunk),
            400,
        ),
        (
            "TE space colon",
            post("Transfer-Encoding : chunked", chunk),
            400,
        ),
        (
            "TE in 1.0",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            400,
        ),
        // Lines.
        (
            "bare LF in head",
            b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n".to_vec(),
            400,
        ),
        (
            "bare LF after request line",
            b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "bare LF everywhere",
            b"GET / HTTP/1.1\nHost: a\n\n".to_vec(),
            400,
        ),
        (
            "bare LF at the end",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec(),
            400,
        ),
        (
            "LF before",
            b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        ("bare CR in value", get("X: a\rb"), 400),
        ("bare CR in name", get("X\rY: b"), 400),
        (
            "CR CR LF",
            b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n".to_vec(),
            400,
        ),
        (
            "CR in request line",
            b"GET /x\r HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        ("NUL in value", get("X: a\0b"), 400),
        ("NUL in name", get("X\0: b"), 400),
        ("DEL in value", get("X: a\x7fb"), 400),
        ("fold by space", get("X: a\r\n b"), 400),
        ("fold by tab", get("X: a\r\n\tb"), 400),
        (
            "space before first field",
            b"GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_vec(),
            400,
        ),
        ("space before colon", get("X : y"), 400),
        ("tab before colon", get("X\t: y"), 400),
        ("empty name", get(": y"), 400),
        ("no colon", get("XY"), 400),
        ("slash in name", get("X/Y: z"), 400),
        ("not ASCII in name", get("X\u{e9}: z"), 400),
        // Request line, target, method.
        (
            "two spaces",
            b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "tab for space",
            b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "space in target",
            b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        ("no version", b"GET /\r\nHost: a\r\n\r\n".to_vec(), 400),
        (
            "lower-case version",
            b"GET / http/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "version 1.10",
            b"GET / HTTP/1.10\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "version 2.0",
            b"GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_vec(),
            505,
        ),
        (
            "h2 preface with a field",
            b"PRI * HTTP/2.0\r\nHost: a\r\n\r\nSM\r\n\r\n".to_vec(),
            505,
        ),
        (
            "empty method",
            b" / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "method with a colon",
            b"GE:T / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "NUL in target",
            b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "not HTTP",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            400,
        ),
        (
            "star with GET",
            b"GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "authority-form",
            b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "no slash",
            b"GET x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "other scheme",
            b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "userinfo in target",
            b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "CONNECT",
            b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_vec(),
            405,
        ),
        (
            "CONNECT with a path",
            b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            405,
        ),
        (
            "long method",
            format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(40)).into_bytes(),
            501,
        ),
        // Host.
        ("no Host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400),
        (
            "empty Host",
            b"GET / HTTP/1.1\r\nHost:\r\n\r\n".to_vec(),
            400,
        ),
        (
            "two Hosts",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(),
            400,
        ),
        (
            "same Host twice",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host list",
            b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host userinfo",
            b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host path",
            b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host query",
            b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host fragment",
            b"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host backslash",
            b"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host port",
            b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host big port",
            b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host bad IPv6",
            b"GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n".to_vec(),
            400,
        ),
        (
            "no Host, absolute-form",
            b"GET http://a/ HTTP/1.1\r\n\r\n".to_vec(),
            400,
        ),
        // Expect.
        (
            "Expect obfuscated",
            post("Expect: y 100-continue\r\nContent-Length: 1", "x"),
            417,
        ),
        (
            "Expect twice",
            post(
                "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1",
                "x",
            ),
            417,
        ),
        (
            "Expect list",
            post("Expect: 100-continue, x\r\nContent-Length: 1", "x"),
            417,
        ),
        (
            "Expect other",
            post("Expect: 200-ok\r\nContent-Length: 1", "x"),
            417,
        ),
    ];
    for (name, bytes, status) in &table {
        let got = sent_with_hidden(&plane, bytes);
        let shown = text(&got);
        let answer = read_answer(&got).unwrap_or_else(|| panic!("{name}: no answer in {shown:?}"));
        assert_eq!(answer.status, *status, "{name}: {shown}");
        assert_ours(name, &answer);
        assert_eq!(
            got.len(),
            answer.head.len() + answer.body.len(),
            "{name}: {shown}"
        );
    }
    let seen = a.requests();
    assert!(seen.is_empty(), "{seen:?}");
    let sample = plane.until(|sample| sample.connections == 0);
    assert_eq!(worker(&sample, 1).in_flight.total(), 0);
    let refused = sample.services[0].errors().into_iter();
    let refused: u64 = refused
        .filter(|(reason, _)| *reason == ProxyReason::BadRequest)
        .map(|(_, count)| count)
        .sum();
    assert_eq!(refused, table.len() as u64, "each is counted once");
}

/// The first answer in what came.
fn read_answer(bytes: &[u8]) -> Option<Answer> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut answer = Answer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        head,
        body: Vec::new(),
        whole: true,
    };
    let length: usize = answer.field("content-length")?.parse().ok()?;
    answer.body = bytes.get(end..end + length)?.to_vec();
    Some(answer)
}

#[test]
fn t9_the_same_in_single_bytes_and_behind_a_good_request() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    for bad in [
        "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /bad HTTP/1.1\nHost: a\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    ] {
        let mut client = plane.client();
        for byte in bad.as_bytes() {
            client.stream.write_all(&[*byte]).expect("sent");
        }
        assert_eq!(client.answer().status, 400, "{bad:?}");
        // The good one gets its answer before the bad one gets its own.
        let mut client = plane.client();
        client.send(&format!("GET /good HTTP/1.1\r\nHost: a\r\n\r\n{bad}"));
        assert_eq!(client.answer().text(), "a", "{bad:?}");
        assert_eq!(client.answer().status, 400, "{bad:?}");
        assert!(client.closed(), "{bad:?}");
        let mut client = plane.client();
        client.send(&format!(
            "POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc{bad}"
        ));
        assert_eq!(
            (client.answer().text(), client.answer().status),
            ("a", 400),
            "{bad:?}"
        );
    }
    assert!(a.requests().iter().all(|request| request.path() == "/good"));
}

#[test]
fn t9_malformed_chunks_never_reach_a_worker_as_a_whole_body() {
    let table: &[(&str, &str)] = &[
        ("bare LF after size", "3\nabc\r\n0\r\n\r\n"),
        ("bare LF after data", "3\r\nabc\n0\r\n\r\n"),
        ("two bytes unchecked", "3\r\nabcXX0\r\n\r\n"),
        ("longer than its size", "3\r\nabcd\r\n0\r\n\r\n"),
        ("overflow", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("sign", "+3\r\nabc\r\n0\r\n\r\n"),
        ("0x", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("underscore", "0_3\r\nabc\r\n0\r\n\r\n"),
        ("no size", "\r\nabc\r\n0\r\n\r\n"),
        ("space before size", " 3\r\nabc\r\n0\r\n\r\n"),
        ("LF in extension", "3;x\nabc\r\n0\r\n\r\n"),
        ("CR in extension", "3;x\ry\r\nabc\r\n0\r\n\r\n"),
        ("bare LF in trailers", "3\r\nabc\r\n0\r\nX: y\n\r\n"),
        ("bare LF as the end", "3\r\nabc\r\n0\r\n\n"),
        ("NUL in trailers", "3\r\nabc\r\n0\r\nX: \0\r\n\r\n"),
        ("folded trailer", "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n"),
    ];
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    for (name, body) in table {
        let got = sent_with_hidden(
            &plane,
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
                .as_bytes(),
        );
        let answer = read_answer(&got).unwrap_or_else(|| panic!("{name}: {}", text(&got)));
        assert_eq!(answer.status, 400, "{name}");
        assert_ours(name, &answer);
        assert_eq!(got.len(), answer.head.len() + answer.body.len(), "{name}");
    }
    let flood = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(20_000));
    let many = format!(
        "{}0\r\n\r\n",
        format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(100)
    );
    for body in [flood, many] {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let got = sent_with_hidden(&plane, (head.to_owned() + &body).as_bytes());
        assert!(text(&got).starts_with("HTTP/1.1 400"), "{}", text(&got));
    }
    assert!(a.requests().is_empty(), "{:?}", a.requests());
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).failures, 0, "no worker is to blame");
}

#[test]
fn t9_what_is_passed_on_is_written_anew() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    client.send(
        "POST /p?q=1 HTTP/1.1\r\nhOsT: Shop.Example:8080\r\nCONTENT-LENGTH: 3\r\nContent-Length:  3 \r\n\
         X-A:  one  \r\nX-A: two\r\nCookie: a=b; c=d\r\nCookie: e=f\r\nX-Utf: \u{fc}\r\n\r\nabc",
    );
    assert_eq!(client.answer().text(), "a");
    client.send(
        "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\nTE: trailers, deflate;q=0.5\r\n\
         Trailer: X-Sum, Content-Length\r\n\r\n3;ext=\"1\"\r\nabc\r\n02\r\nde\r\n0\r\nX-Sum: 5\r\n\
         Content-Length: 9\r\nHost: evil\r\nAuthorization: x\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
    );
    assert_eq!(client.answer().text(), "a");
    let seen = a.requests();
    let first = &seen[0];
    assert!(
        first
            .head
            .starts_with("POST /p?q=1 HTTP/1.1\r\nhost: Shop.Example:8080\r\n")
    );
    assert_eq!(first.head.matches("content-length: 3\r\n").count(), 1);
    assert_eq!(
        first.head.to_lowercase().matches("content-length").count(),
        1
    );
    assert!(first.head.contains("x-a: one\r\nx-a: two\r\n"));
    assert!(
        first.head.contains("cookie: a=b; c=d\r\ncookie: e=f\r\n"),
        "cookies untouched"
    );
    let second = &seen[1];
    assert_eq!(second.body, b"abcde");
    assert_eq!(
        second
            .head
            .to_lowercase()
            .matches("transfer-encoding: chunked\r\n")
            .count(),
        1
    );
    assert_eq!(second.field("content-length"), None);
    assert_eq!(
        (second.field("te"), second.field("connection")),
        (Some("trailers"), Some("te"))
    );
    assert_eq!(second.field("trailer"), Some("x-sum"));
}

#[test]
fn trailers_go_both_ways_and_forbidden_ones_stay() {
    let a = Worker::early(|_, stream| {
        let mut all = Vec::new();
        let mut byte = [0];
        while find(&all, b"0\r\n").is_none() || !all.ends_with(b"\r\n\r\n") {
            if stream.read_exact(&mut byte).is_err() {
                return false;
            }
            all.push(byte[0]);
        }
        let body = text(&all).replace("\r\n", "|");
        write(
            stream,
            &format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End, Host\r\nX-Got: {body}\r\n\r\n\
                 2\r\nhi\r\n0\r\nX-End: yes\r\nHost: evil\r\nContent-Length: 1\r\nX-Unsaid: no\r\n\r\n"
            ),
        )
    });
    let plane = Plane::serving(&[open(1, a.address)]);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n";
    let body = "3\r\nabc\r\n0\r\nX-Sum: 5\r\nHost: evil\r\nContent-Length: 9\r\n\r\n";
    let mut client = plane.client();
    client.send(&format!(
        "{head}TE: trailers\r\nConnection: TE\r\n\r\n{body}"
    ));
    let answer = client.head().expect("a head");
    assert_eq!(answer.field("x-got"), Some("3|abc|0|x-sum: 5||"));
    assert_eq!(client.chunk().as_deref(), Some(&b"hi"[..]));
    assert_eq!(client.take(3).as_deref(), Some(&b"0\r\n"[..]));
    // `Trailer` is a courtesy: one that it does not name is passed on as well.
    let trailers = "x-end: yes\r\nx-unsaid: no\r\n\r\n";
    let came = client.take(trailers.len()).map(|t| text(&t));
    assert_eq!(came.as_deref(), Some(trailers));
    // Who does not ask for trailers gets none, and the connection goes on.
    client.send(&format!("{head}\r\n{body}"));
    let answer = client.answer();
    assert_eq!((answer.text(), answer.whole), ("hi", true));
    client.send(&format!("{head}\r\n{body}"));
    assert_eq!(client.answer().text(), "hi");
}

#[test]
fn t8_connection_names_neither_framing_nor_ours_away() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut client = plane.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: shop\r\nConnection: Host, Content-Length, X-Forwarded-For, X-Request-Id, Cookie, X-One\r\n\
         Connection: , x-two ,\r\nContent-Length: 3\r\nCookie: a=b\r\nX-One: 1\r\nX-Two: 2\r\nKeep-Alive: 1\r\n\
         Proxy-Connection: x\r\nProxy-Authorization: x\r\nTE: gzip\r\nX-Stay: 1\r\n\r\nabc",
    );
    assert_eq!(client.answer().text(), "a");
    client.send(
        "POST / HTTP/1.1\r\nHost: shop\r\nConnection: Transfer-Encoding, \u{e9}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    assert_eq!(client.answer().text(), "a");
    let seen = a.requests();
    assert_eq!(
        (&seen[0].body[..], &seen[1].body[..]),
        (&b"abc"[..], &b"abc"[..])
    );
    for (name, value) in [
        ("host", Some("shop")),
        ("content-length", Some("3")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-stay", Some("1")),
        ("x-one", None),
        ("x-two", None),
        ("keep-alive", None),
        ("proxy-connection", None),
        ("proxy-authorization", None),
        ("te", None),
        ("connection", None),
    ] {
        assert_eq!(seen[0].field(name), value, "{name}");
    }
    assert!(seen[0].field("x-request-id").is_some());
}

#[test]
fn t7_forwarding_fields_by_trust() {
    let a = Worker::named("a");
    let request = "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\
         X_Forwarded_For: 6.6.6.6\r\nX-Request-Id: theirs\r\n\r\n";
    type Fields<'a> = &'a [(&'a str, Option<&'a str>)];
    let table: [(bool, Fields<'_>); 2] = [
        (
            false,
            &[
                ("x-forwarded-for", Some("127.0.0.1")),
                ("x-forwarded-proto", Some("http")),
                ("x-forwarded-host", Some("shop")),
                ("x-forwarded-port", None),
                ("forwarded", None),
                ("x-real-ip", None),
                ("x_forwarded_for", None),
            ],
        ),
        (
            true,
            &[
                ("x-forwarded-for", Some("6.6.6.6, 127.0.0.1")),
                ("x-forwarded-proto", Some("https")),
                ("x-forwarded-host", Some("evil")),
                ("x-forwarded-port", Some("1")),
                (
                    "forwarded",
                    Some("for=6.6.6.6, for=127.0.0.1;proto=http;host=\"shop\""),
                ),
                ("x-real-ip", Some("6.6.6.6")),
                ("x_forwarded_for", None),
                ("x-request-id", Some("theirs")),
            ],
        ),
    ];
    for (trusted, fields) in table {
        let plane = Plane::serving_by(&[open(1, a.address)], |plane| {
            if trusted {
                plane.front.trusted = vec![Network {
                    address: [127, 0, 0, 0].into(),
                    prefix: 8,
                }];
            }
        });
        let mut client = plane.client();
        client.send(request);
        let answer = client.answer();
        let seen = a.requests().pop().expect("one");
        for (name, value) in fields {
            assert_eq!(seen.field(name), *value, "trusted {trusted}: {name}");
        }
        assert_eq!(answer.field("x-request-id"), seen.field("x-request-id"));
        assert_eq!(seen.field("x-request-id") == Some("theirs"), trusted);
    }
}

#[test]
fn targets_and_hosts_that_are_good_go_on_as_they_should() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let table: &[(&str, &str, &str)] = &[
        ("OPTIONS * HTTP/1.1\r\nHost: a", "OPTIONS * ", "a"),
        (
            "GET http://real.example:81/p?q HTTP/1.1\r\nHost: other",
            "GET /p?q ",
            "real.example:81",
        ),
        (
            "GET HTTP://real.example HTTP/1.1\r\nHost: other",
            "GET / ",
            "real.example",
        ),
        (
            "GET http://real.example?q=1 HTTP/1.1\r\nHost: other",
            "GET /?q=1 ",
            "real.example",
        ),
        (
            "OPTIONS http://real.example:81 HTTP/1.1\r\nHost: other",
            "OPTIONS * ",
            "real.example:81",
        ),
        (
            "OPTIONS http://real.example/ HTTP/1.1\r\nHost: other",
            "OPTIONS / ",
            "real.example",
        ),
        (
            "OPTIONS http://real.example?q HTTP/1.1\r\nHost: other",
            "OPTIONS /?q ",
            "real.example",
        ),
        (
            "GET //evil.example/x HTTP/1.1\r\nHost: a",
            "GET //evil.example/x ",
            "a",
        ),
        (
            "GET /../%2e%2e/%00;x?a=b&c HTTP/1.1\r\nHost: a",
            "GET /../%2e%2e/%00;x?a=b&c ",
            "a",
        ),
        ("GET / HTTP/1.1\r\nHost: [::1]:80", "GET / ", "[::1]:80"),
        ("M-SEARCH / HTTP/1.1\r\nHost: a", "M-SEARCH / ", "a"),
        ("\r\nGET /blank HTTP/1.1\r\nHost: a", "GET /blank ", "a"),
        ("\r\n\r\nGET /blank HTTP/1.1\r\nHost: a", "GET /blank ", "a"),
    ];
    let mut client = plane.client();
    for (request, line, host) in table {
        client.send(&format!("{request}\r\n\r\n"));
        let method = request.trim().split(' ').next().expect("a method");
        assert_eq!(
            client.answer_to(method).expect("an answer").status,
            200,
            "{request}"
        );
        let seen = a.requests().pop().expect("one");
        assert!(
            seen.head.starts_with(&format!("{line}HTTP/1.1\r\n")),
            "{request}: {}",
            seen.head
        );
        assert_eq!(seen.field("host"), Some(*host), "{request}");
    }
}

#[test]
fn t10_limits_answer_414_and_431_with_an_id_and_close() {
    let a = Worker::named("a");
    let plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.front.max_head = 8 << 10;
        plane.front.max_headers = 20;
        plane.front.max_target = 1_000;
    });
    let x = |count: usize| "x".repeat(count);
    let table: &[(&str, String, u16)] = &[
        (
            "target",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", x(1_000)),
            414,
        ),
        ("target without end", format!("GET /{}", x(100_000)), 414),
        (
            "value",
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", x(8_200)),
            431,
        ),
        (
            "value without end",
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", x(100_000)),
            431,
        ),
        (
            "name",
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}: y\r\n\r\n", x(8_200)),
            431,
        ),
        (
            "fields",
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(20)),
            431,
        ),
    ];
    for (name, request, status) in table {
        let got = sent_with_hidden(&plane, request.as_bytes());
        let answer = read_answer(&got).unwrap_or_else(|| panic!("{name}: {}", text(&got)));
        assert_eq!(answer.status, *status, "{name}");
        assert_ours(name, &answer);
    }
    assert!(a.requests().is_empty());
    let mut client = plane.client();
    client.send(&format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n{}\r\n",
        x(999),
        "X: y\r\n".repeat(19)
    ));
    assert_eq!(client.answer().text(), "a", "at the limits it passes");
}

#[test]
fn pipelined_requests_with_bodies_are_each_one_request() {
    let a = Worker::scripted(|request, stream| {
        let body = text(&request.body);
        reply(stream, &format!("{}={body}", request.path()))
    });
    let plane = Plane::serving(&[open(1, a.address)]);
    let all = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\nGET / HTTP/1.1\r\n\
         POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\r\n\
         GET /3 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /4 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /5 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET /6 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for part in [1, 3, 7, 50, 4_000] {
        let mut client = plane.client();
        for bytes in all.as_bytes().chunks(part) {
            client.stream.write_all(bytes).expect("sent");
        }
        for expected in ["/1=GET / HTTP/1.1\r\n", "/2=hello", "/3=", "", "/5=", "/6="] {
            let method = if expected.is_empty() { "HEAD" } else { "GET" };
            let answer = client.answer_to(method).expect("an answer");
            assert_eq!(answer.text(), expected, "in parts of {part}");
        }
        assert!(client.closed());
    }
}
