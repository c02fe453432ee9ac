//! Workers of `protocol = "h2c"` that break HTTP/2 in what they answer.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use remuda::link::message::Protocol;

use crate::h2::{
    DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, Raw, Session, fields,
    get, literal,
};
use crate::plane::{PATIENCE, Plane, open};

/// A worker that answers each request with bytes of the test's own.
struct RawWorker {
    address: SocketAddr,
    /// Requests that came.
    seen: Arc<AtomicUsize>,
}

impl RawWorker {
    /// `script` makes of a stream's number, and of how many requests came before, what is sent; the connection
    /// is closed behind it if it says so.
    fn start(script: impl Fn(u32, usize) -> (Vec<u8>, bool) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let worker = Self {
            address: listener.local_addr().expect("bound"),
            seen: Arc::default(),
        };
        let (seen, script) = (Arc::clone(&worker.seen), Arc::new(script));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                std::thread::spawn(move || {
                    let Ok(mut raw) = Raw::accepted(stream) else {
                        return;
                    };
                    while let Some(frame) = raw.next() {
                        if frame.kind != HEADERS {
                            continue;
                        }
                        let before = seen.fetch_add(1, Ordering::SeqCst);
                        let (bytes, closes) = script(frame.stream, before);
                        if raw.stream.write_all(&bytes).is_err() || closes {
                            return;
                        }
                    }
                });
            }
        });
        worker
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

fn head(stream: u32, flags: u8, all: &[(&str, &str)]) -> Vec<u8> {
    Frame::new(HEADERS, END_HEADERS | flags, stream, &fields(all)).bytes()
}

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    Frame::new(kind, 0, stream, payload).bytes()
}

fn ok(stream: u32) -> Vec<u8> {
    head(stream, END_STREAM, &[(":status", "200")])
}

/// What a worker sends on this stream.
type Answering = fn(u32) -> Vec<u8>;

#[test]
fn f42_a_get_whose_answer_breaks_http_is_executed_once() {
    let cases: [(&str, Answering); 9] = [
        ("two lengths", |on| {
            let lengths = [("content-length", "4"), ("content-length", "5")];
            head(on, 0, &[&[(":status", "200")], &lengths[..]].concat())
        }),
        ("no length", |on| {
            head(on, 0, &[(":status", "200"), ("content-length", "x")])
        }),
        ("no status", |on| head(on, END_STREAM, &[("x", "200")])),
        ("a wrong status", |on| {
            head(on, END_STREAM, &[(":status", "2x0")])
        }),
        ("a line end", |on| {
            head(on, END_STREAM, &[(":status", "200"), ("x-a", "a\r\nx: b")])
        }),
        ("connection", |on| {
            head(
                on,
                END_STREAM,
                &[(":status", "200"), ("connection", "close")],
            )
        }),
        ("a body without a head", |on| frame(DATA, on, b"x")),
        ("no HPACK", |on| {
            Frame::new(HEADERS, END_HEADERS, on, &[0xff; 6]).bytes()
        }),
        ("a length of four in a frame of three", |on| {
            let mut cut = Vec::new();
            literal(&mut cut, 0, ":status", "200");
            cut.truncate(cut.len() - 1);
            Frame::new(HEADERS, END_HEADERS, on, &cut).bytes()
        }),
    ];
    for (case, answering) in cases {
        let worker = RawWorker::start(move |stream, _| (answering(stream), false));
        let routes = [open(1, worker.address), open(2, worker.address)];
        let plane = Plane::serving_by(&routes, |plane| plane.protocol = Protocol::H2c);
        let mut session = Session::connect(plane.address);
        assert_eq!(session.ask(get("/")).status, 502, "{case}");
        assert_eq!(worker.seen(), 1, "{case}");
    }
}

#[test]
fn f42_a_get_that_meets_what_another_left_on_the_connection_is_executed_once() {
    let worker = RawWorker::start(move |on, before| match before {
        0 => (head(on, END_STREAM, &[("x", "no status")]), false),
        _ => {
            let block = Frame::new(HEADERS, END_HEADERS, on, &[0xff; 6]);
            (block.bytes(), false)
        }
    });
    let mut plane = Plane::start_with(1);
    plane.protocol = Protocol::H2c;
    plane.publish(&[(10_000, &[open(1, worker.address)])]);
    plane.accept();
    let mut session = Session::connect(plane.address);
    for seen in [1, 2] {
        assert_eq!(session.ask(get("/")).status, 502, "{seen}");
        assert_eq!(worker.seen(), seen);
    }
}

#[test]
fn f42_a_get_that_was_told_something_before_its_answer_broke_off_is_executed_once() {
    let early = |on| head(on, 0, &[(":status", "103"), ("link", "x")]);
    let reset = |on, why: u32| frame(RST_STREAM, on, &why.to_be_bytes());
    for why in [2, 7] {
        let worker = RawWorker::start(move |on, _| ([early(on), reset(on, why)].concat(), false));
        let routes = [open(1, worker.address), open(2, worker.address)];
        let plane = Plane::serving_by(&routes, |plane| plane.protocol = Protocol::H2c);
        let mut session = Session::connect(plane.address);
        assert_eq!(session.ask(get("/")).status, 502, "{why}");
        assert_eq!(worker.seen(), 1, "{why}");
    }
}

#[test]
fn f44_a_stream_that_is_refused_or_left_behind_still_goes_elsewhere() {
    let cases: [(&str, bool, Answering); 4] = [
        ("refused", false, |on| {
            frame(RST_STREAM, on, &7_u32.to_be_bytes())
        }),
        ("left behind", false, |_| frame(GOAWAY, 0, &[0; 8])),
        ("internal error", false, |on| {
            frame(RST_STREAM, on, &2_u32.to_be_bytes())
        }),
        ("closed", true, |_| frame(PING, 0, &[0; 8])),
    ];
    for (case, closes, answering) in cases {
        let worker = RawWorker::start(move |on, before| match before {
            0 => (answering(on), closes),
            _ => (ok(on), false),
        });
        let routes = [open(1, worker.address), open(2, worker.address)];
        let plane = Plane::serving_by(&routes, |plane| plane.protocol = Protocol::H2c);
        let mut session = Session::connect(plane.address);
        assert_eq!(session.ask(get("/")).status, 200, "{case}");
        assert_eq!(worker.seen(), 2, "{case}");
    }
}

#[test]
fn f42_a_get_whose_neighbour_on_the_connection_got_a_broken_answer_is_saved() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let worker = RawWorker::start(move |on, before| {
        tell.lock().expect("no panic").send(()).expect("heard");
        match before {
            0 => (Vec::new(), false),
            1 => (
                Frame::new(HEADERS, END_HEADERS, on, &[0xff; 6]).bytes(),
                false,
            ),
            _ => (ok(on), false),
        }
    });
    let mut plane = Plane::start_with(1);
    plane.protocol = Protocol::H2c;
    plane.publish(&[(10_000, &[open(1, worker.address)])]);
    plane.accept();
    let mut session = Session::connect(plane.address);
    let (held, _) = session.begin(get("/held"), true);
    told.recv_timeout(PATIENCE).expect("it came");
    let (broken, _) = session.begin(get("/broken"), true);
    for response in [held, broken] {
        assert_eq!(session.answer(response).expect("an answer").status, 200);
    }
}
