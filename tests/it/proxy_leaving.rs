//! Clients that leave in the middle of something: what the access log and the counters say of it, which is the same.

use std::net::Shutdown;

use remuda::link::message::{HostPattern, ProxyReason, Sample};

use crate::h2::{Session, request as h2_request, send};
use crate::plane::{Plane, open, worker};
use crate::proxy_access_log::{Log, ends, expected, misbehave, of, reset, serving};
use crate::worker::{Door, Worker};

#[test]
fn a_client_that_leaves_within_a_head_has_its_line_and_one_that_began_none_has_not() {
    let a = Worker::named("a");
    let (mut plane, log) = serving(&[open(1, a.address)], |_| {});
    for (sent, aborts) in [
        ("GET /half HTTP/1.1\r\nHost: a\r\nX-", false),
        ("GET /cut HTTP/1.1\r\nHo", true),
        ("GE", false),
        ("", false),
        ("\r\n", true),
    ] {
        let mut client = plane.client();
        client.send(sent);
        plane.until(|sample| sample.connections == 1);
        match aborts {
            true => reset(client),
            false => drop(client),
        }
        plane.until(|sample| sample.connections == 0);
    }
    // Behind a request that was answered, too.
    let mut client = plane.client();
    client.send("GET /whole HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    client.send("GET /second HTTP/1.1\r\n");
    drop(client);
    plane.until(|sample| sample.connections == 0);
    let lines = log.after(plane);
    assert_eq!(
        ends(&lines),
        expected(&[
            (Some("/half"), 499, "client_head"),
            (Some("/cut"), 499, "client_head"),
            (None, 499, "client_head"),
            (Some("/whole"), 200, "complete"),
            (Some("/second"), 499, "client_head"),
        ])
    );
    assert_eq!(lines.len(), 5, "{lines:?}");
}

/// Code and errors that a service counts, and the line, of one request.
fn outcome(mut plane: Plane, log: &Log) -> (u16, ProxyReason, u64, String) {
    let sample = plane.until(|sample| !sample.services[0].ended.is_empty());
    let service = &sample.services[0];
    let (ended, errors) = (&service.ended[..], service.errors());
    assert_eq!((ended.len(), errors.len()), (1, 1), "{service:?}");
    let lines = log.after(plane);
    let [line] = &lines[..] else {
        panic!("one line: {lines:?}");
    };
    let (status, term) = (line["status"].as_u64(), line["term"].as_str());
    let (Some(status), Some(term)) = (status, term) else {
        panic!("{line}");
    };
    (ended[0].code, errors[0].0, status, term.to_owned())
}

#[test]
fn f52_an_upload_that_breaks_off_is_told_alike_by_the_log_and_the_counters() {
    const LENGTH: &str = "Content-Length: 9\r\n\r\nhalf";
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let gone = || {
        (
            499,
            ProxyReason::ClientGone,
            499,
            "client_upload".to_owned(),
        )
    };
    let busy = |sample: &Sample| worker(sample, 1).in_flight.total() == 1;
    let start = || {
        let sink = Worker::named("a");
        let (mut plane, log) = serving(&[open(1, sink.address)], |_| {});
        plane.sample();
        (sink, plane, log)
    };
    for (body, leaves) in [
        (LENGTH, Leaves::Aborts),
        (CHUNKED, Leaves::Aborts),
        (LENGTH, Leaves::Closes),
        (LENGTH, Leaves::StopsToSend),
    ] {
        let (_sink, mut plane, log) = start();
        let mut client = plane.client();
        client.send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{body}"));
        plane.until(busy);
        match leaves {
            Leaves::Aborts => reset(client),
            Leaves::Closes => drop(client),
            Leaves::StopsToSend => {
                client.stream.shutdown(Shutdown::Write).expect("open");
                // It can still be told.
                assert_eq!(client.answer().status, 400);
            }
        }
        assert_eq!(outcome(plane, &log), gone(), "{body:?} {leaves:?}");
    }
    let (_sink, plane, log) = start();
    let mut client = plane.client();
    client.send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{CHUNKED}zz\r\n"));
    assert_eq!(client.answer().status, 400);
    let refused = (
        400,
        ProxyReason::BadRequest,
        400,
        "refused_request".to_owned(),
    );
    assert_eq!(
        outcome(plane, &log),
        refused,
        "it is there, and breaks HTTP"
    );
    drop(client);

    for leaves in [Leaves::Aborts, Leaves::Closes, Leaves::StopsToSend] {
        let (_sink, mut plane, log) = start();
        let mut session = Session::connect(plane.address);
        let mut post = h2_request("POST", "/");
        let length = http::HeaderValue::from_static("9");
        post.headers_mut().insert("content-length", length);
        let (response, mut stream) = session.begin(post, false);
        stream.send_data("half".into(), false).expect("open");
        plane.until(busy);
        match leaves {
            Leaves::Aborts => stream.send_reset(h2::Reason::CANCEL),
            Leaves::Closes => drop((stream, session)),
            // Less than it said, which `h2` resets the stream for.
            Leaves::StopsToSend => stream.send_data("".into(), true).expect("open"),
        }
        drop(response);
        assert_eq!(outcome(plane, &log), gone(), "by HTTP/2: {leaves:?}");
    }
}

#[derive(Debug)]
enum Leaves {
    Aborts,
    Closes,
    StopsToSend,
}

#[test]
fn f52_one_that_leaves_after_its_upload_by_http_2_has_not_broken_it_off() {
    let door = Door::new();
    let inside = door.clone();
    let slow = Worker::early(move |request, stream| misbehave(request, stream, &inside));
    let (mut plane, log) = serving(&[open(1, slow.address)], |plane| {
        plane.rules.hosts = vec![HostPattern::Exact("a".into())];
    });
    let mut session = Session::connect(plane.address);
    for path in ["/wait", "/parked"] {
        let (response, mut stream) = session.begin(h2_request("POST", path), false);
        session.block(send(&mut stream, "body".into(), true));
        plane.until(|sample| sample.services[0].in_flight() == 1);
        // It has come when what was sent behind it is answered.
        let other = http::Request::builder().uri("http://other/").body(());
        assert_eq!(session.ask(other.expect("a request")).status, 404);
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        plane.until(|sample| sample.services[0].in_flight() == 0);
        plane.publish(&[(10_000, &[])]);
    }
    door.open();
    let lines = log.after(plane);
    assert_eq!(of(&lines, "/wait")["term"], "client_waiting");
    assert_eq!(of(&lines, "/parked")["term"], "client_parked");
}
