//! Bytes as they come: event streams, uploads, early answers, tunnels.

use std::time::{Duration, Instant};

use std::io::{Read, Write};
use std::sync::atomic::Ordering;

use remuda::link::message::{Class, ProxyReason};

use crate::plane::{Client, Plane, open, shut, worker};
use crate::worker::{Door, ONE_EVENT, Worker, reply, write};

#[test]
fn an_event_reaches_the_client_before_the_next_one_is_made() {
    let door = Door::new();
    let inside = door.clone();
    let events = Worker::scripted(move |_, stream| {
        write(stream, ONE_EVENT);
        inside.wait();
        write(stream, "3\r\nb\n\n\r\n0\r\n\r\n")
    });
    let plane = Plane::serving(&[open(1, events.address)]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 200);
    assert_eq!(client.chunk().as_deref(), Some(&b"a\n\n"[..]));
    door.open();
    assert_eq!(client.chunk().as_deref(), Some(&b"b\n\n"[..]));
    assert_eq!(client.chunk().as_deref(), Some(&b""[..]));
}

#[test]
fn row47_an_upgrade_becomes_a_tunnel_with_half_closes_and_is_counted() {
    let echo = Worker::scripted(|request, stream| {
        assert_eq!(request.field("upgrade"), Some("websocket"));
        write(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        );
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = stream.write_all(&all);
        false
    });
    let mut plane = Plane::serving(&[open(1, echo.address)]);
    let mut client = plane.client();
    client.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly ",
    );
    let head = client.head().expect("a head");
    assert_eq!(
        (head.status, head.field("upgrade")),
        (101, Some("websocket"))
    );
    assert_eq!(client.take(5).as_deref(), Some(&b"hello"[..]));
    plane.until(|sample| worker(sample, 1).in_flight.tunnel == 1);
    client.send("later");
    client
        .stream
        .shutdown(std::net::Shutdown::Write)
        .expect("half-close");
    assert_eq!(client.take(11).as_deref(), Some(&b"early later"[..]));
    assert!(client.closed());
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    let service = &sample.services[0];
    assert_eq!(service.bytes(), (11, 16));
    assert_eq!(service.ended[0].code, 101);
    assert_eq!(worker(&sample, 1).failures, 0);
}

/// A worker's answer to an upgrade, to its last field's value.
const HEAD: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ";

/// A client with a tunnel to worker 1.
fn in_a_tunnel(plane: &mut Plane) -> Client {
    let mut client = plane.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 101);
    plane.until(|sample| worker(sample, 1).in_flight.tunnel == 1);
    client
}

/// A close frame with the status 1012 (RFC 6455 §5.5.1).
const SERVICE_RESTART: [u8; 4] = [0x88, 0x02, 0x03, 0xf4];

#[test]
fn f47_a_tunnel_is_cut_at_the_drains_limit() {
    let door = Door::new();
    let inside = door.clone();
    let silent = Worker::scripted(move |_, stream| {
        write(stream, &format!("{HEAD}websocket\r\n\r\n"));
        inside.wait();
        false
    });
    let mut plane = Plane::serving_by(&[open(1, silent.address)], |plane| {
        plane.rules.drain.tunnel = Duration::from_millis(300);
    });
    let mut client = in_a_tunnel(&mut plane);
    assert_eq!(plane.exchanges()[0].class, Class::Tunnel);
    plane.publish(&[(0, &[shut(1, silent.address)])]);
    assert_eq!(
        client.take(4).as_deref(),
        Some(&SERVICE_RESTART[..]),
        "a close frame, status 1012"
    );
    assert!(client.closed());
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).cut.tunnel, 1);
    door.open();
}

#[test]
fn f47_a_close_frame_comes_between_frames_or_not_at_all() {
    for (protocol, sent, farewell) in [
        ("websocket", &b"\x81\x05hello"[..], &SERVICE_RESTART[..]),
        // A part of a message, a frame of which a byte is missing, one that closes.
        ("websocket", b"\x01\x05hello", &SERVICE_RESTART),
        ("websocket", b"\x81\x05hell", b""),
        ("websocket", b"\x81", b""),
        ("websocket", b"\x88\x02\x03\xe8", b""),
        ("other", b"\x81\x05hello", b""),
    ] {
        let door = Door::new();
        let inside = door.clone();
        let says = Worker::scripted(move |_, stream| {
            write(stream, &format!("{HEAD}{protocol}\r\n\r\n"));
            let _ = stream.write_all(sent);
            inside.wait();
            false
        });
        let mut plane = Plane::serving_by(&[open(1, says.address)], |plane| {
            plane.rules.drain.tunnel = Duration::from_millis(300);
            plane.rules.edits.upgrades.push("other".to_owned());
        });
        let mut client = plane.client();
        let ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: ";
        client.send(&format!("{ask}{protocol}\r\n\r\n"));
        assert_eq!(client.head().expect("a head").status, 101, "{protocol}");
        assert_eq!(client.take(sent.len()).as_deref(), Some(sent));
        plane.publish(&[(0, &[shut(1, says.address)])]);
        let said = client.take(farewell.len());
        assert_eq!(said.as_deref(), Some(farewell), "{protocol} {sent:?}");
        assert!(client.closed(), "{protocol} {sent:?}");
        door.open();
    }
}

#[test]
fn f47_the_worker_of_a_tunnel_that_is_cut_is_told_between_frames_or_not_at_all() {
    for (protocol, sent, told) in [
        ("websocket", &b""[..], true),
        ("websocket", b"\x81\x85maskHEllo", true),
        ("websocket", b"\x81\x85maskHEll", false),
        ("websocket", b"\x88\x82maskHE", false),
        ("other", b"", false),
    ] {
        let (tell, heard) = std::sync::mpsc::channel();
        let listens = Worker::scripted(move |_, stream| {
            write(stream, &format!("{HEAD}{protocol}\r\n\r\n"));
            let mut all = Vec::new();
            let end = stream.read_to_end(&mut all);
            let _ = tell.send((all, end.is_ok()));
            false
        });
        let mut plane = Plane::serving_by(&[open(1, listens.address)], |plane| {
            plane.rules.drain.tunnel = Duration::from_millis(300);
            plane.rules.edits.upgrades.push("other".to_owned());
        });
        let mut client = plane.client();
        let ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: ";
        // A part of it comes with the request, the rest behind it.
        let (early, later) = sent.split_at(sent.len() / 2);
        client.send(&format!("{ask}{protocol}\r\n\r\n"));
        client.stream.write_all(early).expect("open");
        assert_eq!(client.head().expect("a head").status, 101, "{protocol}");
        client.stream.write_all(later).expect("open");
        plane.until(|sample| worker(sample, 1).in_flight.tunnel == 1);
        let begun = Instant::now();
        while plane.exchanges()[0].bytes_in != sent.len() as u64 {
            assert!(begun.elapsed() < Duration::from_secs(10), "it never came");
        }
        plane.publish(&[(0, &[shut(1, listens.address)])]);
        let (all, whole) = heard.recv().expect("it hears the end");
        let rest = all.strip_prefix(sent).expect("what was sent comes first");
        assert!(whole, "no reset");
        if !told {
            assert_eq!(rest, b"", "{protocol} {sent:?}");
            continue;
        }
        let [0x88, 0x82, mask @ .., one, two] = rest else {
            panic!("a close frame, masked: {rest:?}")
        };
        assert_eq!([one ^ mask[0], two ^ mask[1]], 1001_u16.to_be_bytes());
        assert_eq!(mask.len(), 4);
    }
}

#[test]
fn f47_a_tunnel_whose_ends_talk_on_and_on_is_cut_when_the_drain_took_long_enough() {
    let echo = Worker::scripted(|_, stream| {
        write(stream, &format!("{HEAD}websocket\r\n\r\n"));
        let mut bytes = [0; 64];
        while let Ok(read @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        false
    });
    let mut plane = Plane::serving_by(&[open(1, echo.address)], |plane| {
        plane.rules.drain.tunnel = Duration::from_secs(5);
    });
    let mut client = in_a_tunnel(&mut plane);
    plane.rules.drain.at_most = Duration::from_secs(1);
    plane.publish(&[(0, &[shut(1, echo.address)])]);
    // It never falls silent, and is cut all the same, by what is in force now.
    let mut echoes = 0;
    while client.stream.write_all(b"ping").is_ok() && client.take(4).as_deref() == Some(b"ping") {
        echoes += 1;
    }
    assert!(echoes > 100, "{echoes}");
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).cut.tunnel, 1);
}

#[test]
fn f52_a_body_that_breaks_off_behind_the_answers_head_is_the_clients_fault() {
    for (rest, code, reason) in [
        (None, "Content-Length: 1000", ProxyReason::ClientGone),
        (
            Some("zz\r\n"),
            "Transfer-Encoding: chunked",
            ProxyReason::BadRequest,
        ),
        (
            Some("8\r\n12345678\r\n"),
            "Transfer-Encoding: chunked",
            ProxyReason::BadRequest,
        ),
        (
            Some(""),
            "Content-Length: 1000",
            ProxyReason::RequestTimeout,
        ),
    ] {
        // Its answer begins while the body still comes, as an echo's does.
        let echo = Worker::early(|_, stream| {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
            write(stream, head);
            let mut sink = Vec::new();
            let _ = stream.read_to_end(&mut sink);
            false
        });
        let mut plane = Plane::serving_by(&[open(1, echo.address)], |plane| {
            plane.rules.body_idle_timeout = Duration::from_millis(300);
            plane.rules.max_body = Some(1000);
            if reason == ProxyReason::BadRequest {
                plane.rules.max_body = Some(7);
            }
        });
        let mut client = plane.client();
        client.send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{code}\r\n\r\n"));
        client.send(if code.starts_with('C') {
            "abc"
        } else {
            "3\r\nabc\r\n"
        });
        assert_eq!(client.head().expect("a head").status, 200);
        assert_eq!(client.chunk().as_deref(), Some(&b"x"[..]));
        match rest {
            None => drop(client),
            Some(rest) => {
                client.send(rest);
                assert_eq!(client.chunk(), None, "{reason:?}: it must not look whole");
            }
        }
        let sample = plane.until(|sample| worker(sample, 1).requests == 1);
        let counted = worker(&sample, 1);
        assert_eq!(
            (counted.in_flight.total(), counted.failures),
            (0, 0),
            "{reason:?}"
        );
        assert_eq!(sample.services[0].errors(), [(reason, 1)]);
    }
}

#[test]
fn f52_a_client_that_leaves_frees_its_worker_and_is_no_failure() {
    let events = Worker::scripted(|_, stream| {
        write(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        // Until we are told that nobody listens.
        while write(stream, "1\r\nx\r\n") {
            std::thread::yield_now();
        }
        false
    });
    let mut plane = Plane::serving(&[open(1, events.address)]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 200);
    assert_eq!(client.chunk().as_deref(), Some(&b"x"[..]));
    drop(client);
    let sample = plane.until(|sample| worker(sample, 1).requests == 1);
    let counted = worker(&sample, 1);
    assert_eq!((counted.in_flight.total(), counted.failures), (0, 0));
    assert_eq!(sample.services[0].errors(), [(ProxyReason::ClientGone, 1)]);

    let door = Door::new();
    let inside = door.clone();
    let stuck = Worker::scripted(move |_, _| {
        inside.wait();
        false
    });
    plane.publish(&[(10_000, &[open(2, stuck.address)])]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| worker(sample, 2).in_flight.plain == 1);
    drop(client);
    let sample = plane.until(|sample| worker(sample, 2).requests == 1);
    let left = worker(&sample, 2);
    assert_eq!((left.failures, left.given_up), (0, 0));
    assert!(
        sample.services[0]
            .ended
            .iter()
            .any(|ended| ended.code == 499)
    );
    door.open();
}

#[test]
fn an_early_answer_to_an_upload_arrives_and_the_connection_is_closed() {
    let early = Worker::early(|_, stream| {
        write(
            stream,
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        );
        false
    });
    let plane = Plane::serving(&[open(1, early.address)]);
    let mut client = plane.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nxxx");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (403, "no"));
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(client.closed());
}

#[test]
fn f41_a_connection_on_which_the_worker_left_a_body_unread_is_not_used_again() {
    // What it has not read lies in the kernel, so to us the request is sent whole; and when it closes, which
    // it did not say, everything that is on the connection is lost.
    let door = Door::new();
    let inside = door.clone();
    let early = Worker::early(move |_, stream| {
        write(
            stream,
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        );
        inside.wait();
        false
    });
    let mut plane = Plane::serving(&[open(1, early.address)]);
    let body = "x".repeat(256 << 10);
    for n in 1..=3 {
        let mut client = plane.client();
        client.send(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = client.answer();
        assert_eq!((answer.status, answer.text()), (403, "no"), "{n}");
    }
    door.open();
    assert_eq!(early.connections.load(Ordering::SeqCst), 3);
    plane.until(|sample| worker(sample, 1).requests == 3);
}

#[test]
fn a_body_over_the_limit_is_refused_with_413_however_it_is_framed() {
    let a = Worker::named("a");
    let plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.rules.max_body = Some(1_000);
    });
    let mut client = plane.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!(client.answer().status, 413);
    assert!(client.closed());
    let mut client = plane.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("258\r\n{}\r\n", "x".repeat(600));
    client.send(&chunk);
    client.send(&chunk);
    assert_eq!(client.answer().status, 413);
    assert!(a.requests().is_empty(), "it never got a whole one");
}

#[test]
fn expect_100_is_asked_of_the_worker() {
    let eager = Worker::early(|request, stream| {
        assert_eq!(request.field("expect"), Some("100-continue"));
        write(stream, "HTTP/1.1 100 Continue\r\n\r\n");
        let mut body = [0; 4];
        stream.read_exact(&mut body).is_ok() && reply(stream, "taken")
    });
    let plane = Plane::serving(&[open(1, eager.address)]);
    let mut client = plane.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 100);
    client.send("body");
    assert_eq!(client.answer().text(), "taken");

    let strict = Worker::early(|_, stream| {
        write(
            stream,
            "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n",
        )
    });
    let plane = Plane::serving(&[open(1, strict.address)]);
    let mut client = plane.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 417);
}

#[test]
fn f56_a_client_that_gives_up_after_a_while_is_counted_apart_from_failures() {
    let door = Door::new();
    let inside = door.clone();
    let stuck = Worker::scripted(move |_, _| {
        inside.wait();
        false
    });
    let mut plane = Plane::serving(&[open(1, stuck.address)]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    let patience = Instant::now();
    while patience.elapsed() < Duration::from_millis(1_300) {
        plane.sample();
    }
    drop(client);
    let sample = plane.until(|sample| worker(sample, 1).requests == 1);
    let left = worker(&sample, 1);
    assert_eq!((left.failures, left.given_up), (0, 1));
    door.open();
}
