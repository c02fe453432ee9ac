//! The access log of a plane: one line for each request, with who ended it and when.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::net::{Shutdown, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use remuda::link::message::{HostPattern, LogFormat, Network, Page, ToPlane};
use serde_json::{Value, json};

use crate::h2::Session;
use crate::plane::{Plane, open, shut, worker};
use crate::worker::{Door, Request, Worker, reply, write};

/// A file to log to.
pub(crate) struct Log {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Log {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("access.log");
        Self { _dir: dir, path }
    }

    pub(crate) fn file(&self) -> File {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(&self.path);
        file.expect("open")
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.path).expect("read");
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let parse = |line| serde_json::from_str(line).expect("an object");
        text.lines().map(parse).collect()
    }

    /// The lines once the plane has drained, which writes the last ones.
    pub(crate) fn after(&self, mut plane: Plane) -> Vec<Value> {
        plane.send(&ToPlane::Drain);
        plane.drained();
        self.lines()
    }
}

pub(crate) fn serving(
    workers: &[crate::plane::Route],
    adapt: impl FnOnce(&mut Plane),
) -> (Plane, Log) {
    let log = Log::new();
    let plane = Plane::serving_by(workers, |plane| {
        adapt(plane);
        plane.log_to(&log.file());
    });
    (plane, log)
}

/// Path, status and end of each request. Loops write in turns, so lines come in any order.
pub(crate) fn ends(lines: &[Value]) -> BTreeSet<(Option<&str>, Option<u64>, Option<&str>)> {
    lines
        .iter()
        .map(|line| {
            (
                line["path"].as_str(),
                line["status"].as_u64(),
                line["term"].as_str(),
            )
        })
        .collect()
}

/// The same as they are expected.
pub(crate) fn expected<'a>(
    ends: &[(Option<&'a str>, u64, &'a str)],
) -> BTreeSet<(Option<&'a str>, Option<u64>, Option<&'a str>)> {
    let end =
        |&(path, status, term): &(Option<&'a str>, u64, &'a str)| (path, Some(status), Some(term));
    ends.iter().map(end).collect()
}

/// The only line of this path.
pub(crate) fn of<'a>(lines: &'a [Value], path: &str) -> &'a Value {
    let mut found = lines.iter().filter(|line| line["path"] == path);
    let line = found.next();
    assert!(found.next().is_none(), "two lines of {path}");
    line.unwrap_or_else(|| panic!("no line of {path} in {lines:?}"))
}

#[test]
fn a_line_tells_what_a_request_was_and_who_had_it() {
    let a = Worker::named("hello");
    let (plane, log) = serving(&[open(3, a.address)], |_| {});
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut client = plane.client();
    client.send(&format!(
        "POST /a/b?token=secret HTTP/1.1\r\nHost: Shop.example:80\r\nUser-Agent: \"x\"\r\n\
         Referer: http://r/\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01\r\n\
         Content-Length: 4\r\n\r\nbody"
    ));
    let answer = client.answer();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    drop(client);
    let seen = a.requests();
    let lines = log.after(plane);
    let [first, second] = &lines[..] else {
        panic!("two lines: {lines:?}");
    };
    for (name, value) in [
        ("request_id", json!(seen[0].field("x-request-id"))),
        ("trace_id", json!(trace)),
        ("client", json!("127.0.0.1")),
        ("method", json!("POST")),
        ("host", json!("Shop.example:80")),
        ("path", json!("/a/b")),
        ("query", Value::Null),
        ("proto", json!("HTTP/1.1")),
        ("status", json!(200)),
        ("bytes_in", json!(4)),
        ("bytes_out", json!(5)),
        ("service", json!("app")),
        ("slot", json!(3)),
        ("generation", json!(1)),
        ("attempt", json!(1)),
        ("tls_version", Value::Null),
        ("user_agent", json!("\"x\"")),
        ("referer", json!("http://r/")),
        ("term", json!("complete")),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    assert_eq!(answer.field("x-request-id"), first["request_id"].as_str());
    let time = |line: &Value, name: &str| line[name].as_f64();
    let (connect, ttfb) = (
        time(first, "upstream_connect"),
        time(first, "upstream_ttfb"),
    );
    assert!(connect > Some(0.0) && ttfb > connect, "{first}");
    assert!(time(first, "duration") >= ttfb, "{first}");
    assert_eq!(second["proto"], "HTTP/1.0");
    assert_eq!(second["host"], Value::Null);
    assert_eq!(second["upstream_connect"], Value::Null, "it was there");
}

#[test]
fn what_is_answered_by_nobody_has_its_line_too() {
    let a = Worker::named("a");
    let (plane, log) = serving(&[open(1, a.address)], |plane| {
        plane.rules.hosts = vec![HostPattern::Exact("here".into())];
        plane.front.header_timeout = Duration::from_millis(200);
        plane.rules.max_body = Some(1);
    });
    for (request, status) in [
        ("nonsense\r\n\r\n", 400),
        ("\x16\x03\x01 /tls HTTP/1.1\r\n\r\n", 400),
        ("GET /spaced out?token=secret HTTP/1.1\r\n\r\n", 400),
        ("PUT /query?token=secret HTTP/1.1\r\nbad\r\n\r\n", 400),
        ("GET /esc\x1b[2J\"# HTTP/1.1\r\nHost: here\r\n\r\n", 400),
        ("GET /old HTTP/3.0\r\nHost: here\r\n\r\n", 505),
        ("GET /bare HTTP/1.1\nHost: here\n\n", 400),
        ("GET /x HTTP/1.1\r\nHost: there\r\n\r\n", 404),
        ("GET /a HTTP/1.1\r\nHost: here\r\nHost: here\r\n\r\n", 400),
        (
            "POST /b HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\nxx",
            413,
        ),
        ("GET /slow HTTP/1.1\r\nHo", 408),
    ] {
        let mut client = plane.client();
        client.send(request);
        let answer = client.answer();
        assert_eq!(answer.status, status, "{request}");
        // Its line is there when the connection is over, and the next one comes behind it.
        client.stream.shutdown(Shutdown::Write).expect("open");
        while client.more() {}
    }
    let lines = log.after(plane);
    assert_eq!(
        ends(&lines),
        expected(&[
            (None, 400, "refused_request"),
            (Some("/spaced"), 400, "refused_request"),
            (Some("/query"), 400, "refused_request"),
            (Some("/esc\u{1b}[2J\""), 400, "refused_request"),
            (Some("/old"), 505, "refused_request"),
            (Some("/bare"), 400, "refused_request"),
            (Some("/x"), 404, "refused_route"),
            (Some("/a"), 400, "refused_request"),
            (Some("/b"), 413, "refused_request"),
            (Some("/slow"), 408, "client_head"),
        ])
    );
    let told = |path, name: &str| of(&lines, path)[name].clone();
    assert_eq!(told("/query", "method"), "PUT");
    assert_eq!(told("/query", "proto"), "HTTP/1.1");
    assert_eq!(told("/spaced", "method"), "GET");
    assert_eq!(told("/spaced", "proto"), Value::Null);
    assert!(!format!("{lines:?}").contains("secret"), "{lines:?}");
    let stranger = of(&lines, "/x");
    assert_eq!(stranger["host"], "there");
    assert_eq!(
        (&stranger["service"], &stranger["attempt"]),
        (&Value::Null, &json!(0))
    );
}

pub(crate) const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// What a worker does to a request for this path.
pub(crate) fn misbehave(request: &Request, stream: &mut std::net::TcpStream, door: &Door) -> bool {
    const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
    match request.path() {
        "/reset" => false,
        "/bad" => write(stream, "what?\r\n\r\n"),
        "/half" => {
            write(stream, &format!("{LONG}half"));
            false
        }
        "/wait" | "/late" => {
            door.wait();
            reply(stream, "late")
        }
        "/stream" => {
            write(stream, &format!("{LONG}half"));
            door.wait();
            false
        }
        "/once" if request.number == 1 && request.field("x-again").is_none() => reply(stream, "a"),
        _ => reply(stream, "fine"),
    }
}

#[test]
fn a_workers_faults_are_told_apart() {
    let door = Door::new();
    let inside = door.clone();
    let bad = Worker::scripted(move |request, stream| misbehave(request, stream, &inside));
    let (plane, log) = serving(&[open(1, bad.address)], |plane| {
        plane.rules.response_head_timeout = Duration::from_millis(200);
        plane.rules.retry.tries = 0;
    });
    for (path, status, term) in [
        ("/reset", 502, "worker_reset"),
        ("/bad", 502, "worker_bad_answer"),
        ("/half", 200, "worker_answer"),
        ("/wait", 504, "worker_timeout"),
        ("/", 200, "complete"),
    ] {
        let mut client = plane.client();
        client.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(client.answer().status, status, "{path} {term}");
    }
    door.open();
    let lines = log.after(plane);
    assert_eq!(
        ends(&lines),
        expected(&[
            (Some("/reset"), 502, "worker_reset"),
            (Some("/bad"), 502, "worker_bad_answer"),
            (Some("/half"), 200, "worker_answer"),
            (Some("/wait"), 504, "worker_timeout"),
            (Some("/"), 200, "complete"),
        ])
    );
    assert_eq!(lines.len(), 5, "one each");
    assert!(lines.iter().all(|line| line["slot"] == 1));
}

#[test]
fn maintenance_is_told_from_a_lack_of_workers() {
    let a = Worker::named("a");
    let (plane, log) = serving(&[open(1, a.address)], |plane| {
        plane.rules.maintenance = true;
    });
    assert_eq!(plane.get("/").status, 503);
    let lines = log.after(plane);
    let end = (Some("/"), 503, "refused_maintenance");
    assert_eq!(ends(&lines), expected(&[end]));
}

#[test]
fn a_second_try_is_told_with_the_worker_that_answered() {
    let dead = Worker::scripted(|_, _| false);
    let alive = Worker::named("alive");
    let (plane, log) = serving(&[open(1, dead.address), open(2, alive.address)], |_| {});
    let mut saved = 0;
    while saved == 0 {
        assert_eq!(plane.get("/").text(), "alive");
        saved = dead.requests().len();
    }
    let lines = log.after(plane);
    let mut again = lines.iter().filter(|line| line["attempt"] == 2);
    let again = again.next().expect("the last one");
    assert_eq!(
        (&again["slot"], &again["term"]),
        (&json!(2), &json!("complete"))
    );
}

#[test]
fn without_a_worker_the_line_says_whether_anybody_was_tried() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let nobody = nobody.expect("an address");
    let (mut plane, log) = serving(&[open(1, nobody)], |plane| {
        plane.rules.parking.max_wait = Duration::from_millis(200);
    });
    assert_eq!(plane.get("/tried").status, 503);
    plane.publish(&[(10_000, &[])]);
    assert_eq!(plane.get("/parked").status, 503);
    let mut client = plane.client();
    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| sample.services[0].parked == 1);
    reset(client);
    plane.until(|sample| sample.services[0].parked == 0);
    let lines = log.after(plane);
    assert_eq!(
        ends(&lines),
        expected(&[
            (Some("/tried"), 503, "refused_parking"),
            (Some("/parked"), 503, "refused_parking"),
            (Some("/left"), 499, "client_parked"),
        ])
    );
    assert!(of(&lines, "/tried")["attempt"].as_u64() > Some(1));
    assert_eq!(of(&lines, "/parked")["attempt"], 0);
}

/// Leaves without a goodbye, so that the plane need not wait whether more is read.
pub(crate) fn reset(client: crate::plane::Client) {
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(client);
}

#[test]
fn a_client_that_leaves_is_told_apart_by_when() {
    let door = Door::new();
    let inside = door.clone();
    let slow = Worker::scripted(move |request, stream| misbehave(request, stream, &inside));
    let (mut plane, log) = serving(&[open(1, slow.address)], |_| {});
    for (request, begins) in [
        ("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", true),
        (
            "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
            false,
        ),
    ] {
        let mut client = plane.client();
        client.send(request);
        plane.until(|sample| worker(sample, 1).in_flight.total() == 1);
        if begins {
            assert_eq!(client.head().expect("a head").status, 200);
            client.take(4).expect("a part of the body");
        }
        reset(client);
        plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    }
    door.open();
    let lines = log.after(plane);
    assert_eq!(
        ends(&lines),
        expected(&[
            (Some("/wait"), 499, "client_waiting"),
            (Some("/stream"), 200, "client_answer"),
            (Some("/up"), 499, "client_upload"),
        ])
    );
    assert_eq!(of(&lines, "/stream")["bytes_out"], 4);
    assert_eq!(of(&lines, "/up")["bytes_in"], 4);
}

#[test]
fn what_a_drain_cuts_is_told_apart_by_what_it_was() {
    let door = Door::new();
    let inside = door.clone();
    let slow = Worker::scripted(move |request, stream| {
        if request.path() != "/tunnel" {
            return misbehave(request, stream, &inside);
        }
        write(stream, SWITCH);
        inside.wait();
        false
    });
    let (mut plane, log) = serving(&[open(1, slow.address)], |plane| {
        let limits = &mut plane.rules.drain;
        limits.request = Duration::from_millis(100);
        limits.tunnel = Duration::from_millis(700);
    });
    let mut waits = plane.client();
    waits.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| worker(sample, 1).in_flight.total() == 1);
    let mut streams = plane.client();
    streams.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(streams.head().expect("a head").status, 200);
    let mut tunnel = plane.client();
    tunnel.send(
        "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(tunnel.head().expect("a head").status, 101);
    plane.until(|sample| worker(sample, 1).in_flight.tunnel == 1);
    plane.publish(&[(10_000, &[shut(1, slow.address)])]);
    assert_eq!(waits.answer().status, 504);
    plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    door.open();
    let lines = log.after(plane);
    assert_eq!(
        ends(&lines),
        expected(&[
            (Some("/wait"), 504, "drain_waiting"),
            (Some("/stream"), 200, "drain_answer"),
            (Some("/tunnel"), 101, "drain_tunnel"),
        ])
    );
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn a_tunnel_has_its_line_at_its_end_with_what_went_through() {
    let echo = Worker::early(|_, stream| {
        write(stream, SWITCH);
        let mut copy = stream.try_clone().expect("a descriptor");
        std::io::copy(&mut copy, stream).is_err()
    });
    let (mut plane, log) = serving(&[open(1, echo.address)], |_| {});
    let mut client = plane.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 101);
    client.send("ping!");
    assert_eq!(client.take(5), Some(b"ping!".to_vec()));
    plane.until(|sample| worker(sample, 1).in_flight.tunnel == 1);
    assert_eq!(log.lines(), [] as [Value; 0], "it has not ended");
    drop(client);
    let lines = log.after(plane);
    assert_eq!(ends(&lines), expected(&[(Some("/ws"), 101, "complete")]));
    assert_eq!(
        (&lines[0]["bytes_in"], &lines[0]["bytes_out"]),
        (&json!(5), &json!(5))
    );
}

#[test]
fn another_file_parts_the_lines_and_off_is_off() {
    let a = Worker::named("a");
    let (mut plane, first) = serving(&[open(1, a.address)], |_| {});
    let second = Log::new();
    assert_eq!(plane.get("/1").status, 200);
    plane.log_to(&second.file());
    assert_eq!(plane.get("/2").status, 200);
    plane.send(&ToPlane::AccessLog(None));
    plane.sample();
    assert_eq!(plane.get("/3").status, 200);
    let paths = |lines: &[Value]| -> Vec<String> {
        let path = |line: &Value| line["path"].as_str().expect("a path").to_owned();
        lines.iter().map(path).collect()
    };
    assert_eq!(paths(&second.after(plane)), ["/2"]);
    assert_eq!(paths(&first.lines()), ["/1"]);
}

#[test]
fn t22_what_is_in_flight_while_the_format_changes_has_a_whole_line_in_one_format() {
    let door = Door::new();
    let inside = door.clone();
    let slow = Worker::early(move |request, stream| {
        if request.path() != "/ws" {
            return misbehave(request, stream, &inside);
        }
        write(stream, SWITCH);
        let mut copy = stream.try_clone().expect("a descriptor");
        std::io::copy(&mut copy, stream).is_err()
    });
    let (mut plane, log) = serving(&[open(1, slow.address)], |_| {});
    let mut tunnel = plane.client();
    tunnel.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.head().expect("a head").status, 101);
    let mut waits = plane.client();
    waits.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| worker(sample, 1).in_flight.total() == 2);
    plane.log_as(
        LogFormat::Template("<{path} {term}>".to_owned()),
        &log.file(),
    );
    let mut short = plane.client();
    short.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| worker(sample, 1).in_flight.total() == 3);
    plane.log_as(LogFormat::Common, &log.file());
    door.open();
    assert_eq!(waits.answer().status, 200);
    assert_eq!(short.answer().status, 200);
    assert_eq!(plane.get("/last").status, 200);
    drop(tunnel);
    plane.send(&ToPlane::Drain);
    plane.drained();
    let text = std::fs::read_to_string(&log.path).expect("read");
    let lines: Vec<_> = text.lines().collect();
    let objects: Vec<Value> = lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let whole = [
        (Some("/ws"), 101, "complete"),
        (Some("/wait"), 200, "complete"),
    ];
    assert_eq!(ends(&objects), expected(&whole), "{text}");
    assert!(lines.contains(&"</late complete>"), "{text}");
    let common = |line: &&str| line.ends_with("\"GET /last HTTP/1.1\" 200 4");
    assert!(lines.iter().any(common), "{text}");
    assert_eq!(lines.len(), 4, "{text}");
}

#[test]
fn a_body_of_ours_is_counted_like_a_workers() {
    let bad = Worker::scripted(|_, stream| write(stream, "what?\r\n\r\n"));
    let (mut plane, log) = serving(&[open(1, bad.address)], |plane| {
        plane.rules.hosts = vec![HostPattern::Exact("a".into())];
        plane.rules.pages = vec![Page {
            status: 502,
            kind: "text/html".into(),
            text: "P".repeat(30_000),
        }];
    });
    let mut client = plane.client();
    client.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().body.len(), 30_000);
    client.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer_to("HEAD").expect("a head").status, 502);
    let sample = plane.until(|sample| sample.services[0].in_flight() == 0);
    assert_eq!(sample.services[0].bytes(), (0, 30_000));
    client.send("GET /stranger HTTP/1.1\r\nHost: b\r\n\r\n");
    let stranger = client.answer().body.len();
    client.send("HEAD /no-body HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!(client.answer_to("HEAD").expect("a head").status, 404);
    drop(client);
    let lines = log.after(plane);
    for (path, bytes) in [
        ("/page", 30_000),
        ("/head", 0),
        ("/stranger", stranger),
        ("/no-body", 0),
    ] {
        assert_eq!(of(&lines, path)["bytes_out"], json!(bytes), "{path}");
    }
}

#[test]
fn a_request_that_is_refused_has_its_host_by_http_2_as_by_http_1() {
    let a = Worker::named("a");
    let (plane, log) = serving(&[open(1, a.address)], |plane| {
        plane.rules.hosts = vec![HostPattern::Exact("here".into())];
        plane.front.max_target = 100;
    });
    let long = format!("/long/{}", "x".repeat(100));
    let mut session = Session::connect(plane.address);
    for (method, uri, status) in [
        ("GET", "http://there:80/stranger", 404),
        ("TRACE", "http://here/last", 405),
        ("GET", &format!("http://here{long}"), 414),
        ("GET", "http://[fe80::1%25a]/bad", 400),
    ] {
        let request = http::Request::builder().method(method).uri(uri);
        let request = request.header("max-forwards", "0").body(());
        let answer = session.ask(request.expect("a request"));
        assert_eq!(answer.status, status, "{uri}");
    }
    let mut client = plane.client();
    for (head, status) in [
        (
            "GET http://u:secret@there/absolute HTTP/1.1\r\nHost: x",
            400,
        ),
        ("GET http://there/absolute-too HTTP/1.1\r\nHost: here", 404),
    ] {
        client.send(&format!("{head}\r\n\r\n"));
        assert_eq!(client.answer().status, status, "{head}");
        if status == 400 {
            client = plane.client();
        }
    }
    drop((session, client));
    let lines = log.after(plane);
    for (path, host) in [
        ("/stranger", "there:80"),
        ("/last", "here"),
        (&long, "here"),
        ("/bad", "[fe80::1%25a]"),
        ("/absolute", "there"),
        ("/absolute-too", "there"),
    ] {
        assert_eq!(of(&lines, path)["host"], host, "{path}");
    }
}

#[test]
fn t7_the_client_is_whom_a_trusted_proxy_names_and_nobody_else_is_believed() {
    let a = Worker::named("a");
    let network = |last| Network {
        address: [127, 0, 0, last].into(),
        prefix: 32,
    };
    for (trusted, forwarded) in [(1, true), (2, false)] {
        let (plane, log) = serving(&[open(1, a.address)], |plane| {
            plane.rules.hosts = vec![HostPattern::Exact("a".into())];
            plane.front.trusted = vec![network(trusted)];
        });
        for (path, host, fields) in [
            ("/one", "a", "X-Forwarded-For: 1.1.1.1, 192.0.2.7"),
            ("/proxies", "a", "X-Forwarded-For: 192.0.2.7, 127.0.0.1"),
            ("/stranger", "b", "Forwarded: for=192.0.2.7"),
            ("/none", "a", "X-Other: 1.1.1.1"),
        ] {
            let mut client = plane.client();
            client.send(&format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n\r\n"
            ));
            client.answer();
        }
        let lines = log.after(plane);
        for path in ["/one", "/proxies", "/stranger"] {
            let client = if forwarded { "192.0.2.7" } else { "127.0.0.1" };
            assert_eq!(of(&lines, path)["client"], client, "{path}");
        }
        assert_eq!(of(&lines, "/none")["client"], "127.0.0.1");
    }
}
