//! How tunnels end, and what is told of it: to the other end, in the access log, by the counters.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use remuda::link::message::{MethodLabel, ProxyReason};
use serde_json::Value;

use crate::h2::{Session, request};
use crate::plane::{Client, Plane, open, shut, worker};
use crate::proxy_access_log::{SWITCH, of, reset, serving};
use crate::proxy_h2c::{connect, echo};
use crate::worker::{Worker, write};

/// A message of a word (RFC 6455 §5.2), and a close frame.
const MESSAGE: &[u8] = b"\x81\x04word";
const CLOSE: &[u8] = b"\x88\x02\x03\xe8";

/// A worker that agrees to every upgrade and then does what the path says, once it has heard something.
fn actor() -> Worker {
    Worker::early(|request, stream| {
        write(stream, SWITCH);
        let mut byte = [0];
        match request.path() {
            "/deserts" => stream.write_all(MESSAGE).expect("sent"),
            "/closes" => stream.write_all(&[MESSAGE, CLOSE].concat()).expect("sent"),
            _ => {}
        }
        let heard = stream.read(&mut byte);
        match request.path() {
            "/resets" => abort(stream),
            "/closes-and-resets" => {
                stream.write_all(CLOSE).expect("sent");
                abort(stream);
            }
            "/leaves" | "/deserts" | "/closes" => {}
            // Until its client is done.
            _ if heard.is_ok() => drop(stream.read_to_end(&mut Vec::new())),
            _ => {}
        }
        false
    })
}

fn abort(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("a socket");
}

fn tunnel(plane: &Plane, path: &str) -> Client {
    let mut client = plane.client();
    client.send(&format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    ));
    assert_eq!(client.head().expect("a head").status, 101);
    client
}

/// What a client reads to the end, and how that is.
fn rest(mut client: Client) -> (Vec<u8>, Option<ErrorKind>) {
    let mut all = std::mem::take(&mut client.buffer);
    let end = client.stream.read_to_end(&mut all);
    (all, end.err().map(|error| error.kind()))
}

/// Who ended it, by the line of this path.
fn told(lines: &[Value], path: &str) -> String {
    of(lines, path)["term"].as_str().expect("a word").to_owned()
}

#[test]
fn f42_a_tunnel_that_breaks_off_is_not_made_to_look_whole() {
    let actor = actor();
    let (mut plane, log) = serving(&[open(1, actor.address)], |_| {});
    for (path, end) in [
        ("/resets", Some(ErrorKind::ConnectionReset)),
        // Nothing is lost by that, and it would be by a reset of ours.
        ("/closes-and-resets", None),
        ("/closes", None),
        ("/deserts", None),
    ] {
        let mut client = tunnel(&plane, path);
        client.send("x");
        assert_eq!(rest(client).1, end, "{path}");
    }
    let client = tunnel(&plane, "/client-resets");
    reset(client);
    let mut client = tunnel(&plane, "/client-leaves");
    client.send("x");
    client.stream.shutdown(Shutdown::Write).expect("open");
    assert_eq!(rest(client).1, None);
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(
        sample.services[0].errors(),
        [(ProxyReason::BadResponse, 1), (ProxyReason::ClientGone, 1)]
    );
    assert_eq!(
        worker(&sample, 1).failures,
        0,
        "a tunnel's end tells nothing"
    );
    let lines = log.after(plane);
    for (path, term) in [
        ("/resets", "worker_answer"),
        ("/closes-and-resets", "complete"),
        ("/closes", "complete"),
        // A WebSocket that is closed says so (RFC 6455 §7.1.5).
        ("/deserts", "worker_answer"),
        ("/client-resets", "client_answer"),
        ("/client-leaves", "complete"),
    ] {
        assert_eq!(told(&lines, path), term, "{path}");
    }
}

#[test]
fn f19_a_tunnel_whose_worker_is_gone_ends_at_once_and_is_no_drains() {
    let actor = actor();
    let (mut plane, log) = serving(&[open(1, actor.address)], |_| {});
    let mut client = tunnel(&plane, "/leaves");
    client.send("x");
    assert!(client.closed(), "the worker's side ended");
    plane.until(|sample| worker(sample, 1).in_flight.tunnel == 1);
    // Who may come back yet is waited for.
    plane.publish(&[(0, &[shut(1, actor.address)])]);
    plane.until(|sample| worker(sample, 1).in_flight.tunnel == 1);
    plane.publish(&[(10_000, &[])]);
    let sample = plane.until(|sample| sample.services[0].in_flight() == 0);
    assert_eq!(sample.services[0].errors(), [(ProxyReason::BadResponse, 1)]);
    let lines = log.after(plane);
    assert_eq!(told(&lines, "/leaves"), "worker_answer");
}

#[test]
fn connect_with_a_protocol_is_told_as_the_client_sent_it_and_saw_it() {
    let echo = echo();
    let (mut plane, log) = serving(&[open(1, echo.address)], |_| {});
    let mut session = Session::connect(plane.address);
    // The settings that allow it have come with the first answer.
    assert_eq!(session.ask(request("OPTIONS", "/nobody")).status, 502);
    let (response, mut up) = session.begin(connect("websocket"), false);
    let response = session.block(response).expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(plane.exchanges()[0].method, "CONNECT");
    up.send_data(bytes::Bytes::new(), true).expect("open");
    let sample = plane.until(|sample| sample.services[0].in_flight() == 0);
    let ended = &sample.services[0].ended;
    let ended: Vec<_> = ended.iter().map(|of| (of.code, of.method)).collect();
    let expected = [(200, MethodLabel::Connect), (502, MethodLabel::Options)];
    assert_eq!(ended, expected);
    let (refused, _) = session.begin(connect("other"), true);
    assert_eq!(session.answer(refused).expect("an answer").status, 501);
    let lines = log.after(plane);
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| line["path"] == "/chat")
        .collect();
    let told = lines
        .iter()
        .map(|line| (line["method"].as_str(), line["status"].as_u64()));
    let expected = [(Some("CONNECT"), Some(200)), (Some("CONNECT"), Some(501))];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}
