//! HTTP/2 from clients, as workers of HTTP/1.1 get it, and their answers on the way back.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::client::Builder;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Request};
use remuda::link::message::{Entrance, Limit, ProxyReason, Sample};

use crate::h2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, ROOT, RST_STREAM, Raw, Session,
    WINDOW_UPDATE, fields, get, piece, request,
};
use crate::plane::{Plane, open, worker};
use crate::worker::{Door, Worker, reply, write};

fn patterned(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from((at / 7 + at) % 251).expect("small"))
        .collect()
}

#[test]
fn prior_knowledge_is_enough_and_the_authority_becomes_host() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut session = Session::connect(plane.address);
    for _ in 0..3 {
        let answer = session.ask(get("/one?two"));
        assert_eq!((answer.status, answer.text()), (200, "a"));
        assert_eq!(answer.field("connection"), None);
        assert!(answer.field("date").is_some());
    }
    let requests = a.requests();
    assert_eq!(requests.len(), 3);
    let seen = &requests[0];
    assert!(
        seen.head.starts_with("GET /one?two HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.field("host"), Some("a"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("content-length"), None);
    assert_eq!(seen.field("transfer-encoding"), None);
}

#[test]
fn t9_what_makes_a_request_ambiguous_is_refused_and_no_worker_sees_it() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let refused: &[&[(&str, &str)]] = &[
        &[(":authority", "a"), (":path", "/"), ("host", "b")],
        &[(":authority", "user@a"), (":path", "/")],
        &[
            (":authority", "a"),
            (":path", "/"),
            ("host", "a"),
            ("host", "a"),
        ],
        &[(":authority", "a"), (":authority", "b"), (":path", "/")],
        &[(":authority", "a/b"), (":path", "/")],
        &[(":authority", ""), (":path", "/")],
        &[(":path", "/")],
        &[(":authority", "a"), (":path", "")],
        &[(":authority", "a"), (":path", "x")],
        &[(":authority", "a"), (":path", "http://b/")],
        &[(":authority", "a"), (":path", "*")],
        &[(":authority", "a"), (":path", "/ HTTP/1.1\r\nX: y")],
        &[
            (":authority", "a"),
            (":path", "/"),
            ("transfer-encoding", "chunked"),
        ],
        &[(":authority", "a"), (":path", "/"), ("connection", "close")],
        &[
            (":authority", "a"),
            (":path", "/"),
            ("connection", "x-a"),
            ("x-a", "1"),
        ],
        &[(":authority", "a"), (":path", "/"), ("keep-alive", "1")],
        &[
            (":authority", "a"),
            (":path", "/"),
            ("proxy-connection", "close"),
        ],
        &[
            (":authority", "a"),
            (":path", "/"),
            ("upgrade", "websocket"),
        ],
        &[(":authority", "a"), (":path", "/"), ("te", "gzip")],
        &[(":authority", "a"), (":path", "/"), ("X-Upper", "1")],
        &[(":authority", "a"), (":path", "/"), ("x a", "1")],
        &[(":authority", "a"), (":path", "/"), ("x", "1\r\ny: 2")],
        &[(":authority", "a"), (":path", "/"), ("x", "1\ny")],
        &[(":authority", "a"), (":path", "/"), ("x", "1\0y")],
        &[(":authority", "a"), (":path", "/"), ("x", " 1")],
        &[(":authority", "a"), (":path", "/"), ("x", "1\t")],
        &[(":authority", "a"), (":path", "/"), ("x", " ")],
        &[
            (":authority", "a"),
            (":path", "/"),
            ("cookie", "a=b "),
            ("cookie", "c=d"),
        ],
        &[(":path", "/"), ("host", " a")],
        &[(":authority", "a"), (":path", "/"), (":status", "200")],
        &[
            (":authority", "a"),
            (":path", "/"),
            ("x", "1"),
            (":path", "/b"),
        ],
        &[(":authority", "a"), (":path", "/"), ("content-length", "1")],
        &[
            (":authority", "a"),
            (":path", "/"),
            ("content-length", "+0"),
        ],
        &[
            (":authority", "a"),
            (":path", "/"),
            ("content-length", "0"),
            ("content-length", "1"),
        ],
    ];
    for extra in refused {
        let mut all = vec![(":method", "GET"), (":scheme", "http")];
        all.extend_from_slice(extra);
        let mut raw = Raw::connect(plane.address);
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&all));
        while let Some(frame) = raw.next() {
            match frame.kind {
                HEADERS => {
                    assert_eq!(frame.status(), Some(400), "{extra:?}");
                    break;
                }
                RST_STREAM | GOAWAY => break,
                _ => {}
            }
        }
    }
    assert!(a.requests().is_empty(), "{:?}", a.requests());
    // The same one without what is wrong with it.
    let mut raw = Raw::connect(plane.address);
    raw.get(1);
    assert_eq!(raw.until(HEADERS).status(), Some(200));
}

#[test]
fn connect_is_refused() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut session = Session::connect(plane.address);
    let connect = Request::builder().method("CONNECT").uri("a:443").body(());
    assert_eq!(session.ask(connect.expect("a request")).status, 405);
    assert_eq!(session.ask(get("/")).status, 200);
    assert_eq!(a.requests().len(), 1);
}

#[test]
fn crumbs_of_a_cookie_are_joined_and_equal_lengths_are_one() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut raw = Raw::connect(plane.address);
    let block = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/"),
        ("cookie", "a=1"),
        ("host", "a"),
        ("cookie", "b=2"),
        ("content-length", "2"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("cookie", "c=3"),
        ("content-length", "2"),
    ]);
    raw.send(HEADERS, END_HEADERS, 1, &block);
    raw.send(DATA, END_STREAM, 1, b"ab");
    assert_eq!(raw.until(HEADERS).status(), Some(200));
    let requests = a.requests();
    let seen = &requests[0];
    let lines = |name: &str| {
        let prefix = format!("{name}: ");
        let lines = seen.head.lines();
        lines
            .filter_map(|line| line.strip_prefix(&prefix))
            .collect::<Vec<_>>()
    };
    assert_eq!(lines("cookie"), ["a=1; b=2; c=3"]);
    assert_eq!(lines("content-length"), ["2"]);
    assert_eq!(lines("x-twice"), ["1", "2"]);
    assert_eq!(lines("host"), ["a"]);
    assert_eq!(seen.body, b"ab");
}

#[test]
fn a_get_with_data_reaches_the_worker_with_its_body() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut session = Session::connect(plane.address);
    let body = Bytes::from_static(b"a body nobody announced");
    let answer = session.post(get("/"), body.clone(), None).expect("served");
    assert_eq!(answer.text(), "a");
    let seen = a.requests().remove(0);
    assert_eq!(seen.method(), "GET");
    assert_eq!(seen.field("transfer-encoding"), Some("chunked"));
    assert_eq!(seen.body, body);
}

#[test]
fn a_body_other_than_its_length_is_never_a_whole_request() {
    let a = Worker::named("a");
    let plane = Plane::serving(&[open(1, a.address)]);
    for (length, data) in [("5", &b"abc"[..]), ("2", &b"abc"[..])] {
        let mut raw = Raw::connect(plane.address);
        let block = fields(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
            ("content-length", length),
        ]);
        raw.send(HEADERS, END_HEADERS, 1, &block);
        raw.send(DATA, END_STREAM, 1, data);
        let frame = raw.of(1);
        assert!(
            frame.kind == RST_STREAM || frame.status() == Some(400),
            "{frame:?}"
        );
    }
    assert!(a.requests().is_empty(), "{:?}", a.requests());
}

#[test]
fn large_bodies_go_both_ways_with_their_trailers() {
    let echo = Worker::scripted(|request, stream| {
        let head = "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        let size = format!("{:x}\r\n", request.body.len());
        let last = "\r\n0\r\nx-sum: 42\r\ncontent-length: 7\r\n\r\n";
        let parts = [
            head.as_bytes(),
            size.as_bytes(),
            &request.body,
            last.as_bytes(),
        ];
        parts.iter().all(|part| stream.write_all(part).is_ok())
    });
    let plane = Plane::serving(&[open(1, echo.address)]);
    let mut session = Session::connect(plane.address);
    let body = Bytes::from(patterned(3 << 20));
    let mut post = request("POST", "/");
    post.headers_mut()
        .insert("te", HeaderValue::from_static("trailers"));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-ours", HeaderValue::from_static("1"));
    let answer = session.post(post, body.clone(), Some(trailers));
    let answer = answer.expect("served");
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "{} bytes", answer.body.len());
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(trailers.get("x-sum").expect("a sum"), "42");
    assert_eq!(trailers.get("content-length"), None);
    assert_eq!(answer.fields.get("transfer-encoding"), None);
    let seen = echo.requests().remove(0);
    assert_eq!(seen.field("te"), Some("trailers"));
}

#[test]
fn t10_trailers_are_as_many_as_in_http1() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    for (count, status) in [(128, 200), (129, 400)] {
        let mut session = Session::connect(plane.address);
        let mut trailers = HeaderMap::new();
        for n in 0..count {
            let name = http::HeaderName::try_from(format!("x-{n}")).expect("a name");
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        let body = Bytes::from_static(b"body");
        let answer = session.post(request("POST", "/"), body, Some(trailers));
        assert_eq!(answer.expect("an answer").status, status, "{count}");
    }
    let whole = a.requests();
    let posts = whole.iter().filter(|request| request.method() == "POST");
    assert_eq!(posts.count(), 1, "it never got the other one whole");
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).failures, 0);
}

#[test]
fn t9_trailers_that_begin_or_end_with_white_space_are_malformed() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    for (value, status) in [
        (" 1", 400),
        ("1\t", 400),
        (" ", 400),
        ("a b", 200),
        ("", 200),
    ] {
        let mut session = Session::connect(plane.address);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-t", HeaderValue::from_static(value));
        let body = Bytes::from_static(b"body");
        let answer = session.post(request("POST", "/"), body, Some(trailers));
        assert_eq!(answer.expect("an answer").status, status, "{value:?}");
    }
    let posts = a.requests();
    let posts = posts.iter().filter(|request| request.method() == "POST");
    assert_eq!(posts.count(), 2, "it never got the others whole");
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).failures, 0);
}

#[test]
fn a_client_that_expects_100_gets_it_and_103_too() {
    let eager = Worker::early(|request, stream| {
        assert_eq!(request.field("expect"), Some("100-continue"));
        write(
            stream,
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        );
        let mut body = [0; 4];
        stream.read_exact(&mut body).is_ok() && reply(stream, "taken")
    });
    let plane = Plane::serving(&[open(1, eager.address)]);
    let mut session = Session::connect(plane.address);
    let mut post = request("POST", "/");
    post.headers_mut()
        .insert("expect", HeaderValue::from_static("100-continue"));
    post.headers_mut().insert(CONTENT_LENGTH, 4.into());
    let (mut response, mut body) = session.begin(post, false);
    let mut informed = Vec::new();
    while !informed.contains(&100) {
        let next = std::future::poll_fn(|cx| response.poll_informational(cx));
        let head = session.block(next).expect("one more").expect("no error");
        if head.status() == 103 {
            assert_eq!(head.headers().get("link").expect("a link"), "</a.css>");
        }
        informed.push(head.status().as_u16());
    }
    informed.sort_unstable();
    assert_eq!(informed, [100, 103]);
    body.send_data(Bytes::from_static(b"body"), true)
        .expect("sent");
    assert_eq!(session.answer(response).expect("served").text(), "taken");
}

#[test]
fn answers_without_a_body_have_none() {
    let bare = Worker::scripted(|request, stream| match request.path() {
        "/204" => write(stream, "HTTP/1.1 204 No Content\r\n\r\n"),
        "/304" => write(
            stream,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"x\"\r\n\r\n",
        ),
        "/empty" => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        "/chunked" => write(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        _ => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"),
    });
    let mut plane = Plane::serving(&[open(1, bare.address)]);
    let mut session = Session::connect(plane.address);
    for (method, path, status, length) in [
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("9")),
        ("HEAD", "/", 200, Some("12")),
        ("GET", "/empty", 200, Some("0")),
        ("GET", "/chunked", 200, None),
    ] {
        let answer = session.ask(request(method, path));
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.field("content-length"), length, "{path}");
        assert_eq!(answer.body, b"", "{path}");
    }
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).failures, 0);
}

#[test]
fn many_streams_on_one_connection_never_mix() {
    let echo = Worker::scripted(|request, stream| {
        let body = format!("{} {}", request.path(), request.body.len());
        let text = body.repeat(50);
        let parts = text.as_bytes().chunks(97);
        let mut good = write(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for part in parts {
            let part = std::str::from_utf8(part).expect("ascii");
            good &= write(stream, &format!("{:x}\r\n{part}\r\n", part.len()));
        }
        good && write(stream, "0\r\n\r\n")
    });
    let plane = Plane::serving(&[open(1, echo.address)]);
    let mut settings = Builder::new();
    // The answers wait in the client, until it is their turn.
    settings.data_frame_budget(1 << 20);
    let mut session = Session::with(plane.address, settings);
    let mut begun = Vec::new();
    for n in 0..90_usize {
        let (response, mut stream) = session.begin(request("POST", &format!("/{n}")), false);
        stream
            .send_data(Bytes::from(vec![b'x'; n]), true)
            .expect("sent");
        begun.push((n, response));
    }
    while let Some((n, response)) = begun.pop() {
        let answer = session.answer(response).expect("served");
        assert_eq!(answer.text(), format!("/{n} {n}").repeat(50));
    }
}

#[test]
fn a_client_that_opens_no_window_holds_its_worker_and_costs_little() {
    const SIZE: usize = 32 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&written);
    let large = Worker::scripted(move |_, stream| {
        write(
            stream,
            &format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"),
        );
        let part = vec![b'x'; 64 << 10];
        (0..SIZE / part.len()).all(|_| {
            theirs.fetch_add(part.len(), Ordering::SeqCst);
            stream.write_all(&part).is_ok()
        })
    });
    let mut plane = Plane::serving(&[open(1, large.address)]);
    let mut settings = Builder::new();
    settings.initial_window_size(0);
    let mut session = Session::with(plane.address, settings);
    let (response, _) = session.begin(get("/"), true);
    let (head, body) = session.block(response).expect("a head").into_parts();
    assert_eq!(head.status, 200);
    // It stands still: what we took of it is the same at two looks, and small.
    let mut before = 0;
    loop {
        let took = plane.exchanges()[0].bytes_out;
        let ages = plane.exchanges()[0].idle.as_millis() > 300;
        if took == before && took > 0 && ages {
            break;
        }
        before = took;
    }
    assert!(before <= 256 << 10, "we took {before} bytes");
    let written = written.load(Ordering::SeqCst);
    // The rest is in the sockets between us and the worker.
    assert!(written < SIZE / 2, "the worker wrote {written} bytes");
    // Others on the same connection are served meanwhile, as far as they need no window.
    assert_eq!(session.ask(request("HEAD", "/")).status, 200);
    drop(body);
    drop(session);
    // One that opens its window gets all of it.
    let mut session = Session::connect(plane.address);
    let (response, _) = session.begin(get("/"), true);
    let mut body = session.block(response).expect("a head").into_body();
    let mut got = 0;
    while let Some(data) = session.block(piece(&mut body)) {
        got += data.expect("no error").len();
    }
    assert_eq!(got, SIZE);
}

#[test]
fn a_worker_that_does_not_read_holds_the_client() {
    let door = Door::new();
    let inside = door.clone();
    let lazy = Worker::early(move |request, stream| {
        inside.wait();
        let mut left: usize = request
            .field("content-length")
            .expect("one")
            .parse()
            .expect("a number");
        let mut part = vec![0; 64 << 10];
        while left > 0 {
            let Ok(read @ 1..) = stream.read(&mut part) else {
                return false;
            };
            left -= read;
        }
        reply(stream, "all")
    });
    let mut plane = Plane::serving(&[open(1, lazy.address)]);
    let mut session = Session::connect(plane.address);
    let size: usize = 48 << 20;
    let mut post = request("POST", "/");
    post.headers_mut().insert(CONTENT_LENGTH, size.into());
    let (response, mut stream) = session.begin(post, false);
    let body = Bytes::from(vec![b'x'; size]);
    let sending = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("runtime");
        runtime.block_on(crate::h2::send(&mut stream, body, true));
    });
    plane.until(|sample| worker(sample, 1).in_flight.upload == 1);
    let mut before = 0;
    loop {
        let now = plane.exchanges()[0].clone();
        if now.bytes_in == before && now.idle.as_millis() > 300 {
            break;
        }
        before = now.bytes_in;
    }
    assert!(before < (size / 2) as u64, "{before} bytes");
    assert!(!sending.is_finished());
    door.open();
    assert_eq!(session.answer(response).expect("served").text(), "all");
    sending.join().expect("no panic");
}

#[test]
fn f42_a_worker_that_dies_in_a_body_is_a_reset_and_never_an_end() {
    let dies = Worker::scripted(|request, stream| {
        match request.path() {
            "/length" => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
            "/chunked" => write(
                stream,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            ),
            "/rst" => {
                write(
                    stream,
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                );
                let socket = socket2::SockRef::from(&*stream);
                let _ = socket.set_linger(Some(std::time::Duration::ZERO));
                true
            }
            _ => write(
                stream,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
            ),
        };
        false
    });
    let mut plane = Plane::serving(&[open(1, dies.address)]);
    let mut session = Session::connect(plane.address);
    for path in ["/length", "/chunked", "/rst", "/nonsense"] {
        let (response, _) = session.begin(get(path), true);
        match session.block(response) {
            Ok(response) => {
                let mut body = response.into_body();
                let error = loop {
                    match session.block(piece(&mut body)) {
                        Some(Ok(_)) => {}
                        Some(Err(error)) => break error,
                        None => panic!("{path} looks whole"),
                    }
                };
                assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}");
            }
            // The reset may overtake its head, in the client.
            Err(error) => assert!(error.is_reset(), "{path}: {error}"),
        }
    }
    let sample = plane.until(|sample| worker(sample, 1).requests == 4);
    assert_eq!(worker(&sample, 1).failures, 4);
    // The connection is as good as before.
    let b = Worker::named("b");
    plane.publish(&[(10_000, &[open(2, b.address)])]);
    assert_eq!(session.ask(get("/")).text(), "b");
}

#[test]
fn f52_a_client_that_resets_a_stream_frees_its_worker_and_is_no_failure() {
    let (gone, told) = std::sync::mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let stuck = Worker::scripted(move |request, stream| {
        if request.path() == "/body" {
            write(
                stream,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
            );
        }
        // Until we are told that nobody listens.
        let read = stream.read(&mut [0]);
        let _ = gone
            .lock()
            .expect("no panic")
            .send(matches!(read, Ok(0) | Err(_)));
        false
    });
    let mut plane = Plane::serving(&[open(1, stuck.address)]);
    let mut session = Session::connect(plane.address);
    for (path, requests) in [("/head", 1), ("/body", 2)] {
        let (response, mut stream) = session.begin(get(path), true);
        plane.until(|sample| worker(sample, 1).in_flight.total() == 1);
        if path == "/body" {
            let response = session.block(response).expect("a head");
            stream.send_reset(Reason::CANCEL);
            drop(response);
        } else {
            stream.send_reset(Reason::CANCEL);
        }
        let sample = plane.until(|sample| worker(sample, 1).requests == requests);
        let counted = worker(&sample, 1);
        assert_eq!(
            (counted.in_flight.total(), counted.failures),
            (0, 0),
            "{path}"
        );
        let left = told.recv_timeout(crate::plane::PATIENCE);
        assert!(left.expect("it is told"), "{path}");
        assert_eq!(
            sample.services[0].errors(),
            [(ProxyReason::ClientGone, requests)]
        );
    }
    assert!(!session.has_ended());
}

#[test]
fn f52_a_client_that_resets_its_own_upload_frees_the_worker_too() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let mut session = Session::connect(plane.address);
    let (_response, mut stream) = session.begin(request("POST", "/"), false);
    stream
        .send_data(Bytes::from_static(b"half"), false)
        .expect("sent");
    plane.until(|sample| worker(sample, 1).in_flight.total() == 1);
    stream.send_reset(Reason::CANCEL);
    let sample = plane.until(|sample| worker(sample, 1).requests == 1);
    assert_eq!(worker(&sample, 1).failures, 0);
    assert_eq!(session.ask(get("/")).text(), "a");
    assert_eq!(a.requests().len(), 1, "half a request is none");
}

#[test]
fn an_idempotent_request_is_tried_again_elsewhere() {
    let dies = Worker::scripted(|_, _| false);
    let b = Worker::named("b");
    let mut plane = Plane::serving(&[open(1, dies.address), open(2, b.address)]);
    let mut session = Session::connect(plane.address);
    let body = Bytes::from_static(b"again");
    // Until chance picks it, which may take a while.
    for tries in 0.. {
        if !dies.requests().is_empty() {
            break;
        }
        assert!(tries < 1_000, "chance never picked it");
        let put = request("PUT", "/");
        let answer = session.post(put, body.clone(), None).expect("served");
        assert_eq!((answer.status, answer.text()), (200, "b"));
    }
    assert!(b.requests().iter().all(|request| request.body == body));
    let sample = plane.sample();
    let retries: u64 = sample.services[0].retries().iter().map(|(_, n)| n).sum();
    assert!(retries > 0);
}

#[test]
fn a_body_over_the_limit_is_413_and_costs_the_connection_nothing() {
    let a = Worker::named("a");
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.rules.max_body = Some(1_000);
    });
    let mut session = Session::connect(plane.address);
    // Together more than the window of a connection, so that none of it may be lost.
    for n in 0..64 {
        let mut post = request("POST", "/");
        if n % 2 == 0 {
            post.headers_mut().insert(CONTENT_LENGTH, 200_000.into());
        }
        let body = Bytes::from(vec![b'x'; 200_000]);
        let answer = session.post(post, body, None).expect("an answer");
        assert_eq!(answer.status, 413, "{n}");
    }
    let body = Bytes::from(vec![b'x'; 1_000]);
    let answer = session.post(request("POST", "/"), body, None);
    assert_eq!(answer.expect("served").text(), "a");
    assert_eq!(plane.sample().limits, [(Limit::Body, 64)]);
}

#[test]
fn an_early_answer_arrives_whole_while_the_body_still_comes() {
    let early = Worker::early(|_, stream| {
        write(
            stream,
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        );
        false
    });
    let plane = Plane::serving(&[open(1, early.address)]);
    let mut session = Session::connect(plane.address);
    for _ in 0..20 {
        let body = Bytes::from(vec![b'x'; 1 << 20]);
        let answer = session.post(request("POST", "/"), body, None);
        let answer = answer.expect("an answer");
        assert_eq!((answer.status, answer.text()), (403, "no"));
    }
}

/// Some clients lose an answer with which they are told to send no more: they are, once they are silent.
#[test]
fn an_early_answer_is_followed_by_no_reset_while_the_body_comes() {
    let early = Worker::early(|_, stream| {
        write(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
        );
        false
    });
    let plane = Plane::serving(&[open(1, early.address)]);
    let mut raw = Raw::connect(plane.address);
    let post = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
    ];
    for (stream, ends) in [(1, true), (3, false)] {
        raw.send(HEADERS, END_HEADERS, stream, &fields(&post));
        assert_eq!(raw.of(stream).status(), Some(404));
        let body = raw.of(stream);
        assert_eq!((body.kind, body.flags), (DATA, END_STREAM));
        // More than its window has, which opens again as it is thrown away.
        let (mut sent, mut window) = (0, 65_535);
        while sent < 1 << 20 {
            while window >= 16 << 10 {
                raw.send(DATA, 0, stream, &[b'x'; 16 << 10]);
                (sent, window) = (sent + (16 << 10), window - (16 << 10));
            }
            let frame = raw.next().expect("the connection lives");
            assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
            if frame.kind == WINDOW_UPDATE && frame.stream == stream {
                window += frame.number(0);
            }
        }
        if ends {
            raw.send(DATA, END_STREAM, stream, b"end");
            raw.send(PING, 0, 0, b"all read");
            loop {
                let frame = raw.next().expect("the connection lives");
                assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
                if frame.kind == PING {
                    break;
                }
            }
        } else {
            // It says no more.
            let reset = raw.until(RST_STREAM);
            assert_eq!((reset.stream, reset.number(0)), (stream, 0), "NO_ERROR");
        }
    }
}

#[test]
fn a_malformed_head_that_ends_its_connection_is_counted() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let mut raw = Raw::connect(plane.address);
    let head = [&ROOT[..], &[("X-Upper", "a")]].concat();
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&head));
    assert_eq!(raw.end(), Some(1), "PROTOCOL_ERROR");
    let bad = |sample: &Sample| {
        let errors = sample.services[0].errors().into_iter();
        let bad = errors.filter(|(reason, _)| *reason == ProxyReason::BadRequest);
        bad.map(|(_, count)| count).sum::<u64>()
    };
    plane.until(|sample| bad(sample) == 1);
    assert_eq!(a.requests().len(), 0);
}

#[test]
fn streams_over_the_limit_are_refused_and_may_be_tried_again() {
    let (slow, door) = Worker::waiting("late");
    let mut plane = Plane::serving_by(&[open(1, slow.address)], |plane| {
        plane.front.max_streams = 5;
    });
    let mut raw = Raw::connect(plane.address);
    for n in 0..6 {
        raw.get(2 * n + 1);
    }
    let refused = raw.until(RST_STREAM);
    assert_eq!(
        (refused.stream, refused.number(0)),
        (11, 7),
        "REFUSED_STREAM"
    );
    plane.until(|sample| worker(sample, 1).in_flight.total() == 5);
    door.open();
    for _ in 0..5 {
        assert_eq!(raw.until(HEADERS).status(), Some(200));
    }
    raw.get(13);
    assert_eq!(raw.until(HEADERS).stream, 13);
    assert_eq!(slow.requests().len(), 6);
    assert_eq!(plane.sample().limits, [(Limit::Streams, 1)]);
}

#[test]
fn a_preface_where_http2_is_off_is_505() {
    let a = Worker::named("a");
    let plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.front.entrances = vec![Entrance {
            http2: false,
            ..Entrance::default()
        }];
    });
    let mut client = plane.client();
    client.send(std::str::from_utf8(PREFACE).expect("letters"));
    assert_eq!(client.answer().status, 505);
    assert_eq!(plane.get("/").text(), "a");
}

#[test]
fn a_worker_that_switches_protocols_unasked_is_502() {
    let odd = Worker::scripted(|_, stream| {
        write(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
    });
    let plane = Plane::serving(&[open(1, odd.address)]);
    let mut session = Session::connect(plane.address);
    assert_eq!(session.ask(get("/")).status, 502);
}

#[test]
fn fields_of_the_workers_connection_stay_there() {
    let talks = Worker::scripted(|_, stream| {
        write(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n\
             Proxy-Connection: close\r\nUpgrade: h2c\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
             Content-Length: 2\r\n\r\nok",
        )
    });
    let plane = Plane::serving(&[open(1, talks.address)]);
    let mut session = Session::connect(plane.address);
    let answer = session.ask(get("/"));
    assert_eq!(answer.text(), "ok");
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "upgrade",
    ] {
        assert_eq!(answer.field(name), None, "{name}");
    }
    let cookies: Vec<_> = answer.fields.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
}

#[test]
fn small_pieces_of_an_answer_that_are_there_go_together_and_none_waits() {
    let door = Door::new();
    let inside = door.clone();
    let talks = Worker::scripted(move |_, stream| {
        write(
            stream,
            "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
        );
        inside.wait();
        let many = "3\r\ntwo\r\n".repeat(1_000) + "0\r\nx-sum: 1\r\n\r\n";
        write(stream, &many)
    });
    let plane = Plane::serving(&[open(1, talks.address)]);
    let mut raw = Raw::connect(plane.address);
    raw.get(1);
    assert_eq!(raw.until(HEADERS).status(), Some(200));
    assert_eq!(raw.until(DATA).payload, b"one");
    door.open();
    let (mut body, mut count) = (Vec::new(), 0);
    let last = loop {
        let frame = raw.of(1);
        if frame.kind != DATA {
            break frame;
        }
        body.extend(frame.payload);
        count += 1;
    };
    assert_eq!(body, b"two".repeat(1_000));
    assert!(count < 50, "{count} frames");
    assert_eq!((last.kind, last.flags & END_STREAM), (HEADERS, END_STREAM));
}

#[test]
fn small_pieces_of_a_body_that_nobody_takes_yet_are_waited_for() {
    let door = Door::new();
    let inside = door.clone();
    let lazy = Worker::early(move |_, stream| {
        inside.wait();
        let mut came = Vec::new();
        let mut part = [0; 16 << 10];
        while !came.ends_with(b"0\r\n\r\n") {
            let Ok(read @ 1..) = stream.read(&mut part) else {
                return false;
            };
            came.extend_from_slice(&part[..read]);
        }
        reply(stream, "all")
    });
    let plane = Plane::serving(&[open(1, lazy.address)]);
    let mut session = Session::connect(plane.address);
    let (response, mut stream) = session.begin(request("POST", "/"), false);
    // As a client of gRPC sends small messages while its worker is busy.
    for _ in 0..12_000 {
        stream
            .send_data(Bytes::from_static(b"12345"), false)
            .expect("sent");
    }
    stream.send_data(Bytes::new(), true).expect("sent");
    door.open();
    assert_eq!(session.answer(response).expect("served").text(), "all");
}
