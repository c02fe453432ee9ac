//! Clients of HTTP/2 that attack: the connection is ended or held, others are served meanwhile, and what
//! it costs is bounded (T10).

use std::io::Write;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use remuda::link::message::Limit;

use crate::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Flooded, Frame, GOAWAY, HEADERS, Outcome, PING,
    PREFACE, ROOT, RST_STREAM, Raw, SETTINGS, Session, WINDOW_UPDATE, fields, get, literal, piece,
};
use crate::plane::{PATIENCE, Plane, open, worker};
use crate::worker::{Door, Worker, reply, write};

/// What an attacker may make a plane hold, beyond what it held before.
const COST: u64 = 48 << 20;
const ENHANCE_YOUR_CALM: u32 = 11;
const PROTOCOL_ERROR: u32 = 1;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;

/// A plane in a process of its own, whose memory is nobody else's.
struct Target {
    plane: Plane,
    pid: Pid,
    held: u64,
}

impl Target {
    fn new(worker: &Worker) -> Self {
        Self::adapted(worker, |_| {})
    }

    fn adapted(worker: &Worker, adapt: impl FnOnce(&mut Plane)) -> Self {
        let (mut plane, pid) = Plane::start_process();
        adapt(&mut plane);
        plane.publish(&[(10_000, &[open(1, worker.address)])]);
        plane.accept();
        let mut session = Session::connect(plane.address);
        assert_eq!(session.ask(get("/well")).status, 200);
        let mut target = Self {
            plane,
            pid,
            held: 0,
        };
        target.held = target.memory();
        target
    }

    /// What the plane's process holds now.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.expect("a size").trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().expect("a number") << 10
    }

    /// A flood has ended, or the attacker is still there: the plane has served and serves others, and holds
    /// little. Returns the reason it gave for closing.
    fn endures(&mut self, flooded: Flooded) -> Option<u32> {
        let cost = self.memory().saturating_sub(self.held);
        assert!(cost < COST, "{} KiB", cost >> 10);
        let mut session = Session::connect(self.plane.address);
        assert_eq!(session.ask(get("/well")).status, 200);
        drop(session);
        let reason = flooded.leave();
        self.plane.until(|sample| sample.connections == 0);
        let sample = self
            .plane
            .until(|sample| worker(sample, 1).in_flight.total() == 0);
        assert_eq!(worker(&sample, 1).failures, 0);
        reason
    }
}

fn frames(count: usize, make: impl Fn(usize) -> Vec<Frame>) -> Vec<u8> {
    (0..count)
        .flat_map(make)
        .flat_map(|frame| frame.bytes())
        .collect()
}

fn id(n: usize) -> u32 {
    u32::try_from(2 * n + 1).expect("few")
}

#[test]
fn t10_a_flood_of_continuations_ends_the_connection() {
    let a = Worker::named("a");
    let mut target = Target::new(&a);
    let mut raw = Raw::connect(target.plane.address);
    raw.send(HEADERS, 0, 1, &fields(&ROOT));
    let part = fields(&[("x", &"y".repeat(1_000))]).repeat(16);
    let flooded = raw.flood(20_000, |_| Frame::new(CONTINUATION, 0, 1, &part).bytes());
    assert_eq!(flooded.outcome, Outcome::Ended, "{}", flooded.sent);
    target.endures(flooded);

    // Empty ones bring no byte that a limit on bytes would count.
    let mut raw = Raw::connect(target.plane.address);
    raw.send(HEADERS, 0, 1, &fields(&ROOT));
    let empty = frames(1_000, |_| vec![Frame::new(CONTINUATION, 0, 1, &[])]);
    let flooded = raw.flood(2_000, |_| empty.clone());
    assert_eq!(flooded.outcome, Outcome::Ended, "{}", flooded.sent);
    target.endures(flooded);
    assert_eq!(a.requests().len(), 3, "only those of others");
}

#[test]
fn t10_a_bomb_of_fields_costs_little() {
    let a = Worker::named("a");
    let mut target = Target::new(&a);
    let raw = Raw::connect(target.plane.address);
    // A field of 4,000 bytes is remembered once and then meant 16,000 times a request.
    let flooded = raw.flood(300, |n| {
        let mut block = fields(&ROOT);
        if n == 0 {
            literal(&mut block, 0x40, "x", &"y".repeat(4_000));
        }
        block.extend(vec![0xbe; 11_000]);
        Frame::new(HEADERS, END_HEADERS | END_STREAM, id(n), &block).bytes()
    });
    target.endures(flooded);
    assert!(a.requests().len() <= 2, "{}", a.requests().len());
}

#[test]
fn t10_a_head_over_the_limit_is_answered_and_counted_and_costs_the_others_nothing() {
    let (a, door) = Worker::waiting("a");
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.front.max_head = 8 << 10;
    });
    let mut session = Session::connect(plane.address);
    let (waiting, _) = session.begin(get("/"), true);
    let long = |bytes: usize| {
        let mut long = get("/");
        // A letter that compression leaves as long as it is (RFC 7541, Appendix B).
        let value = "X".repeat(bytes);
        long.headers_mut()
            .insert("x", value.parse().expect("a value"));
        long
    };
    let refused = session.ask(long(9_000));
    assert_eq!(refused.status, 431);
    assert!(refused.field("x-request-id").is_some());
    assert_eq!(plane.sample().limits, [(Limit::Head, 1)]);
    // What is so long is refused where it is decoded, before we see it.
    assert_eq!(session.ask(long(17_000)).status, 431);
    assert_eq!(plane.sample().limits, [(Limit::Head, 2)]);
    door.open();
    assert_eq!(session.answer(waiting).expect("it goes on").text(), "a");
}

#[test]
fn too_many_fields_and_too_long_ones_are_431() {
    let a = Worker::named("a");
    let mut target = Target::new(&a);
    let mut session = Session::connect(target.plane.address);
    let mut many = get("/");
    for n in 0..101 {
        let name = http::HeaderName::try_from(format!("x-{n}")).expect("a name");
        many.headers_mut()
            .insert(name, "1".parse().expect("a value"));
    }
    assert_eq!(session.ask(many).status, 431);
    let mut long = get("/");
    let value = "y".repeat(15_000).parse().expect("a value");
    long.headers_mut().insert("x", value);
    assert_eq!(session.ask(long).status, 200);
    let uri = format!("/{}", "y".repeat(17_000));
    assert_eq!(session.ask(get(&uri)).status, 414);
    target
        .plane
        .until(|sample| worker(sample, 1).in_flight.total() == 0);
}

/// A worker that answers at the door's opening, but `/well` at once.
fn slow_but_well() -> (Worker, Door) {
    let door = Door::new();
    let inside = door.clone();
    let slow = Worker::scripted(move |request, stream| {
        if request.path() != "/well" {
            inside.wait();
        }
        reply(stream, "a")
    });
    (slow, door)
}

#[test]
fn t10_rapid_resets_end_the_connection_and_free_the_workers() {
    let (slow, door) = slow_but_well();
    let mut target = Target::new(&slow);
    let raw = Raw::connect(target.plane.address);
    let block = fields(&ROOT);
    let flooded = raw.flood(2_000, |n| {
        frames(10, |m| {
            let id = id(10 * n + m);
            vec![
                Frame::new(HEADERS, END_HEADERS | END_STREAM, id, &block),
                Frame::new(RST_STREAM, 0, id, &8_u32.to_be_bytes()),
            ]
        })
    });
    assert_eq!(flooded.outcome, Outcome::Ended, "{}", flooded.sent);
    let reason = target.endures(flooded);
    assert!(
        matches!(reason, None | Some(ENHANCE_YOUR_CALM)),
        "{reason:?}"
    );
    door.open();
    assert!(slow.requests().len() < 1_000, "{}", slow.requests().len());
}

/// So many at once: one by one a busy machine could stay below what is let through.
const AT_ONCE: usize = 20;

/// Begins requests and gives them up, until it is shown the door or has done it so often. Each is on its way
/// to the worker before: what is counted is ours alone to count. As many others are answered whole between
/// them if it is `decent`.
fn give_up(raw: &mut Raw, times: usize, decent: bool) -> usize {
    let mut number = 0;
    let mut next = || {
        number += AT_ONCE;
        (number - AT_ONCE..number).map(id)
    };
    let answered = |raw: &mut Raw, good: &mut dyn FnMut(&Frame) -> bool| loop {
        match raw.next() {
            Some(frame) if frame.kind == GOAWAY => break false,
            Some(frame) if good(&frame) => break true,
            Some(_) => {}
            None => break false,
        }
    };
    let well = fields(&ROOT.map(|(name, value)| match name {
        ":path" => (name, "/well"),
        _ => (name, value),
    }));
    let all = |frames: &mut dyn Iterator<Item = Frame>| -> Vec<u8> {
        frames.flat_map(|frame| frame.bytes()).collect()
    };
    let asks = |fields: &[u8], id| Frame::new(HEADERS, END_HEADERS | END_STREAM, id, fields);
    for given_up in (0..times).step_by(AT_ONCE) {
        if decent {
            let gets = all(&mut next().map(|id| asks(&well, id)));
            let mut left = AT_ONCE;
            let mut whole = |frame: &Frame| {
                left -= usize::from(frame.flags & END_STREAM != 0 && frame.kind <= HEADERS);
                left == 0
            };
            if raw.stream.write_all(&gets).is_err() || !answered(raw, &mut whole) {
                return given_up;
            }
        }
        let ids = next();
        let ping = Frame::new(PING, 0, 0, &[7; 8]);
        let block = all(&mut ids.clone().map(|id| asks(&fields(&ROOT), id)).chain([ping]));
        let reset = |id| Frame::new(RST_STREAM, 0, id, &8_u32.to_be_bytes());
        if raw.stream.write_all(&block).is_err()
            || !answered(raw, &mut |frame| frame.kind == PING)
            || raw.stream.write_all(&all(&mut ids.map(reset))).is_err()
        {
            return given_up;
        }
    }
    times
}

#[test]
fn t10_resets_that_wait_for_each_request_to_begin_end_the_connection() {
    let (slow, door) = slow_but_well();
    let mut target = Target::new(&slow);
    // One answer for each brings nothing.
    for decent in [false, true] {
        let mut raw = Raw::connect(target.plane.address);
        let number = give_up(&mut raw, 2_000, decent);
        assert!(number < 2_000, "all were let through, decent: {decent}");
        assert!(number >= 100, "a browser may give up as many: {number}");
        drop(raw);
        target
            .plane
            .until(|sample| worker(sample, 1).in_flight.total() == 0);
        assert_eq!(target.plane.get("/well").status, 200);
    }
    assert_eq!(target.plane.sample().abused, 2);
    door.open();
}

#[test]
fn f52_calls_whose_deadline_is_shorter_than_a_slow_worker_takes_are_no_flood() {
    let (slow, door) = slow_but_well();
    let mut target = Target::new(&slow);
    let mut raw = Raw::connect(target.plane.address);
    let asks = |id| Frame::new(HEADERS, END_HEADERS | END_STREAM, id, &fields(&ROOT));
    let resets = |id| Frame::new(RST_STREAM, 0, id, &8_u32.to_be_bytes());
    // Somebody else waits for longer behind the same connection.
    raw.stream.write_all(&asks(id(0)).bytes()).expect("sent");
    for round in 0..5 {
        let ids = || (1..=80).map(|n| id(80 * round + n));
        let all = |make: &dyn Fn(u32) -> Frame| -> Vec<u8> {
            ids().flat_map(|id| make(id).bytes()).collect()
        };
        raw.stream.write_all(&all(&asks)).expect("sent");
        // Their deadline, which is what is tried here.
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_millis(450) {
            target.plane.sample();
        }
        raw.stream.write_all(&all(&resets)).expect("sent");
    }
    let sample = target
        .plane
        .until(|sample| worker(sample, 1).in_flight.total() == 1);
    assert_eq!(sample.abused, 0);
    door.open();
    assert_eq!(raw.of(id(0)).status(), Some(200));
}

#[test]
fn t10_who_gives_up_too_much_begins_nothing_more_and_others_behind_it_are_served_to_the_end() {
    let (slow, door) = slow_but_well();
    let mut target = Target::new(&slow);
    let mut raw = Raw::connect(target.plane.address);
    let asks = |id| Frame::new(HEADERS, END_HEADERS | END_STREAM, id, &fields(&ROOT));
    raw.stream.write_all(&asks(id(0)).bytes()).expect("sent");
    let reset = |id| Frame::new(RST_STREAM, 0, id, &8_u32.to_be_bytes());
    let all: Vec<u8> = (1..=450)
        .flat_map(|n| [asks(id(n)), reset(id(n))])
        .flat_map(|frame| frame.bytes())
        .collect();
    // In small parts: what is given up before it was seen is no work.
    for part in all.chunks(all.len() / 90) {
        raw.stream.write_all(part).expect("sent");
        raw.send(PING, 0, 0, &[7; 8]);
        raw.until(PING);
    }
    target.plane.until(|sample| sample.abused == 1);
    door.open();
    assert_eq!(raw.of(id(0)).status(), Some(200));
    raw.stream
        .write_all(&asks(id(1_000)).bytes())
        .expect("sent");
    let last = raw.of(id(1_000));
    assert_eq!((last.kind, last.number(0)), (RST_STREAM, REFUSED_STREAM));
}

#[test]
fn small_pieces_that_wait_for_a_worker_cost_their_client_nothing_else() {
    let a = Worker::scripted(|request, stream| reply(stream, &request.body.len().to_string()));
    for (streams, pieces, size) in [(1, 25_000, 5), (4, 5_000, 20), (40, 400, 1)] {
        let mut target = Target::new(&a);
        target.plane.publish(&[]);
        let mut raw = Raw::connect(target.plane.address);
        // The windows are for those who have heard of them.
        raw.until(WINDOW_UPDATE);
        raw.send(SETTINGS, END_STREAM, 0, &[]);
        let post = fields(&ROOT.map(|(name, value)| match name {
            ":method" => (name, "POST"),
            _ => (name, value),
        }));
        let ids = || (0..streams).map(id);
        for id in ids() {
            raw.send(HEADERS, END_HEADERS, id, &post);
        }
        let small = vec![b'x'; size];
        let round: Vec<u8> = ids()
            .flat_map(|id| Frame::new(DATA, 0, id, &small).bytes())
            .collect();
        for _ in 0..pieces {
            raw.stream.write_all(&round).expect("sent");
        }
        for id in ids() {
            raw.send(DATA, END_STREAM, id, &[]);
        }
        raw.send(PING, 0, 0, &[7; 8]);
        raw.until(PING);
        target.plane.publish(&[(10_000, &[open(1, a.address)])]);
        let mut wanted: Vec<u32> = ids().collect();
        while !wanted.is_empty() {
            let frame = raw.next().expect("the connection lives");
            if frame.kind == HEADERS {
                assert_eq!(frame.status(), Some(200), "{streams} {size}");
            } else if frame.kind == DATA {
                let body = (pieces * size).to_string().into_bytes();
                assert_eq!(frame.payload, body, "{streams} {size}");
                wanted.retain(|id| *id != frame.stream);
            }
        }
        assert_eq!(target.plane.sample().abused, 0);
        let cost = target.memory().saturating_sub(target.held);
        assert!(cost < COST, "{cost} for {streams} of {size}");
    }
}

#[test]
fn what_is_given_up_before_it_was_seen_reaches_no_worker() {
    let (slow, door) = slow_but_well();
    let mut target = Target::new(&slow);
    let mut raw = Raw::connect(target.plane.address);
    // All that a page had asked for.
    let all = frames(60, |n| {
        vec![
            Frame::new(HEADERS, END_HEADERS | END_STREAM, id(n), &fields(&ROOT)),
            Frame::new(RST_STREAM, 0, id(n), &8_u32.to_be_bytes()),
        ]
    });
    raw.stream.write_all(&all).expect("sent");
    raw.send(PING, 0, 0, &[7; 8]);
    raw.until(PING);
    let sample = target
        .plane
        .until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(sample.abused, 0);
    // One may have been cut by what is read at once.
    assert!(slow.requests().len() <= 2, "{}", slow.requests().len());
    door.open();
}

#[test]
fn calls_that_their_client_ends_by_cancelling_are_no_abuse() {
    let door = Door::new();
    let inside = door.clone();
    let streaming = Worker::scripted(move |request, stream| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
        if !write(stream, head) {
            return false;
        }
        if request.path() == "/long" {
            inside.wait();
            return write(stream, "0\r\n\r\n");
        }
        // Until it is given up.
        std::io::Read::read(stream, &mut [0]).is_ok_and(|read| read > 0)
    });
    let mut plane = Plane::serving(&[open(1, streaming.address)]);
    let mut session = Session::connect(plane.address);
    let (long, _) = session.begin(get("/long"), true);
    let mut long = session.block(long).expect("an answer").into_body();
    for _ in 0..600 {
        let (response, _) = session.begin(get("/"), true);
        session.block(async {
            let mut body = response.await.expect("an answer").into_body();
            let first = piece(&mut body).await.expect("it goes on");
            assert_eq!(first.expect("whole"), "x");
        });
    }
    door.open();
    session.block(async {
        assert_eq!(
            piece(&mut long).await.expect("a piece").expect("whole"),
            "x"
        );
        while let Some(last) = piece(&mut long).await {
            assert!(last.expect("it ends well").is_empty());
        }
    });
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(sample.abused, 0);
    assert_eq!(worker(&sample, 1).failures, 0);
}

#[test]
fn t10_resets_that_a_client_makes_us_send_end_the_connection_and_free_the_workers() {
    let (slow, door) = slow_but_well();
    let mut target = Target::new(&slow);
    let raw = Raw::connect(target.plane.address);
    let block = fields(&ROOT);
    let flooded = raw.flood(2_000, |n| {
        frames(10, |m| {
            let id = id(10 * n + m);
            vec![
                Frame::new(HEADERS, END_HEADERS | END_STREAM, id, &block),
                // An error of the stream (RFC 9113 §6.9).
                Frame::new(WINDOW_UPDATE, 0, id, &0_u32.to_be_bytes()),
            ]
        })
    });
    assert_eq!(flooded.outcome, Outcome::Ended, "{}", flooded.sent);
    target.endures(flooded);
    door.open();
}

#[test]
fn t10_floods_of_small_frames_are_ended_with_a_reason() {
    let a = Worker::named("a");
    let mut target = Target::new(&a);
    let settings = [0, 3, 0, 0, 0, 100];
    let floods: [(&str, Frame); 6] = [
        ("settings", Frame::new(SETTINGS, 0, 0, &settings)),
        ("empty settings", Frame::new(SETTINGS, 0, 0, &[])),
        ("pings", Frame::new(PING, 0, 0, &[1; 8])),
        (
            "window",
            Frame::new(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        ),
        ("priority", Frame::new(2, 0, 1, &[0, 0, 0, 3, 5])),
        ("unknown", Frame::new(0x42, 0, 0, &[1; 64])),
    ];
    for (name, frame) in floods {
        let raw = Raw::connect(target.plane.address);
        let block = frame.bytes().repeat(500);
        let flooded = raw.flood(200, |_| block.clone());
        let reason = target.endures(flooded);
        assert_eq!(reason, Some(ENHANCE_YOUR_CALM), "{name}");
    }
    assert_eq!(target.plane.sample().abused, 6);
}

/// The frames of one stream.
type Trick<'a> = dyn Fn(u32) -> Vec<Frame> + 'a;

#[test]
fn t10_frames_that_make_us_reset_end_the_connection() {
    let (slow, door) = slow_but_well();
    let mut target = Target::new(&slow);
    let block = fields(&ROOT);
    let large = 0x7fff_ffff_u32.to_be_bytes();
    let open = END_HEADERS | END_STREAM;
    let mut post = fields(&ROOT);
    literal(&mut post, 0, "content-length", "1");
    let head = |id| Frame::new(HEADERS, open, id, &block);
    // The first and the last are errors of the whole connection to `h2`.
    let tricks: [(&str, &[u32], &Trick<'_>); 4] = [
        ("no window", &[PROTOCOL_ERROR], &|id| {
            let none = Frame::new(WINDOW_UPDATE, 0, id, &0_u32.to_be_bytes());
            vec![head(id), none]
        }),
        ("too much window", &[ENHANCE_YOUR_CALM], &|id| {
            vec![head(id), Frame::new(WINDOW_UPDATE, 0, id, &large)]
        }),
        ("more than it said", &[ENHANCE_YOUR_CALM], &|id| {
            let head = Frame::new(HEADERS, END_HEADERS, id, &post);
            vec![head, Frame::new(DATA, 0, id, b"xx")]
        }),
        (
            "data behind the end",
            &[PROTOCOL_ERROR, STREAM_CLOSED],
            &|id| vec![head(id), Frame::new(DATA, 0, id, b"x")],
        ),
    ];
    for (name, wanted, trick) in tricks {
        let raw = Raw::connect(target.plane.address);
        let flooded = raw.flood(2_000, |n| frames(10, |m| trick(id(10 * n + m))));
        assert_eq!(flooded.outcome, Outcome::Ended, "{name} {}", flooded.sent);
        let reason = target.endures(flooded);
        let is_wanted = reason.is_some_and(|reason| wanted.contains(&reason));
        assert!(is_wanted, "{name}: {reason:?}");
    }
    assert_eq!(target.plane.sample().abused, 2);
    door.open();
}

#[test]
fn t10_answers_that_are_taken_byte_by_byte_end_the_connection() {
    let large = Worker::scripted(|request, stream| {
        let size = if request.path() == "/well" {
            1
        } else {
            1 << 20
        };
        reply(stream, &"x".repeat(size))
    });
    let mut target = Target::new(&large);
    let mut raw = Raw::silent(target.plane.address);
    raw.stream.write_all(PREFACE).expect("sent");
    // No byte of an answer before the window is opened.
    raw.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    raw.get(1);
    let one = Frame::new(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
    let block = one.bytes().repeat(100);
    let flooded = raw.flood(2_000, |_| block.clone());
    assert_eq!(target.endures(flooded), Some(ENHANCE_YOUR_CALM));
}

#[test]
fn clients_that_measure_and_update_much_are_served() {
    const SIZE: usize = 8 << 20;
    let both = Worker::scripted(|request, stream| {
        if request.method() == "POST" {
            return reply(stream, &request.body.len().to_string());
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&vec![b'x'; SIZE]).is_ok()
    });
    let mut plane = Plane::serving(&[open(1, both.address)]);
    // An update of both windows and a PING for each piece of a download.
    let mut raw = Raw::connect(plane.address);
    let mut number = 1;
    for _ in 0..4 {
        raw.get(number);
        let mut taken = 0;
        while taken < SIZE {
            let frame = raw.next().expect("it is served");
            assert!(!matches!(frame.kind, GOAWAY | RST_STREAM), "{frame:?}");
            if frame.kind != DATA || frame.payload.is_empty() {
                continue;
            }
            taken += frame.payload.len();
            let length = u32::try_from(frame.payload.len()).expect("short");
            for stream in [0, number] {
                raw.send(WINDOW_UPDATE, 0, stream, &length.to_be_bytes());
            }
            raw.send(PING, 0, 0, &[1; 8]);
        }
        number += 2;
    }
    // An upload in messages of some bytes, of which each is a piece of its own.
    let mut session = Session::connect(plane.address);
    let (response, mut stream) = session.begin(crate::h2::request("POST", "/"), false);
    session.block(async {
        for _ in 0..30_000 {
            let message = bytes::Bytes::from_static(b"a small message.");
            crate::h2::send(&mut stream, message, false).await;
        }
    });
    stream.send_data(bytes::Bytes::new(), true).expect("sent");
    let answer = session.answer(response).expect("served");
    assert_eq!(answer.text(), (30_000 * 16).to_string());
    assert_eq!(plane.sample().abused, 0);
}

#[test]
fn what_was_said_last_is_read_though_the_client_still_sends() {
    // More than a client takes that does not read, so that the rest waits in our socket.
    const SIZE: usize = 400_000;
    let large = Worker::scripted(|_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&vec![b'x'; SIZE]).is_ok()
    });
    let mut plane = Plane::serving(&[open(1, large.address)]);
    for n in 1..=5 {
        let mut raw = Raw::silent(plane.address);
        raw.stream.write_all(PREFACE).expect("sent");
        raw.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        raw.send(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
        raw.get(1);
        plane.until(|sample| sample.services[0].bytes().1 == n * SIZE as u64);
        // An error of the whole connection, and more behind it than anybody reads.
        raw.send(PING, 0, 0, &[0; 7]);
        raw.stream.write_all(&vec![0; 1 << 20]).expect("taken");
        let (mut taken, mut last) = (0, None);
        while let Some(frame) = raw.next() {
            if frame.kind == DATA {
                taken += frame.payload.len();
            }
            last = Some(frame);
        }
        assert_eq!(taken, SIZE);
        let last = last.expect("a frame");
        assert_eq!(last.kind, GOAWAY);
        assert_ne!(last.number(4), 0, "an error");
        drop(raw);
        plane.until(|sample| sample.connections == 0);
    }
}

#[test]
fn t10_empty_data_ends_the_connection() {
    let a = Worker::named("a");
    let mut target = Target::new(&a);
    let mut raw = Raw::connect(target.plane.address);
    let post = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
    ]);
    raw.send(HEADERS, END_HEADERS, 1, &post);
    let block = Frame::new(DATA, 0, 1, &[]).bytes().repeat(100);
    let flooded = raw.flood(5_000, |_| block.clone());
    assert_eq!(flooded.outcome, Outcome::Ended, "{}", flooded.sent);
    target.endures(flooded);
}

#[test]
fn t10_a_client_that_never_reads_is_held_and_costs_little() {
    let large = Worker::scripted(|request, stream| {
        if request.path() == "/well" {
            return reply(stream, "a");
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 8 << 20);
        let part = vec![b'x'; 64 << 10];
        stream.write_all(head.as_bytes()).is_ok()
            && (0..128).all(|_| stream.write_all(&part).is_ok())
    });
    let mut target = Target::new(&large);
    let mut raw = Raw::silent(target.plane.address);
    raw.stream.write_all(PREFACE).expect("sent");
    // It says that it would take everything, and takes nothing.
    raw.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    raw.send(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    for n in 0..100 {
        raw.get(id(n));
    }
    target
        .plane
        .until(|sample| worker(sample, 1).in_flight.total() == 100);
    // Nothing moves any more.
    loop {
        let exchanges = target.plane.exchanges();
        if exchanges.iter().all(|one| one.idle.as_millis() > 300) {
            break;
        }
    }
    let cost = target.memory().saturating_sub(target.held);
    assert!(cost < COST, "{} KiB", cost >> 10);
    assert_eq!(target.plane.get("/well").text(), "a");
    drop(raw);
    let sample = target
        .plane
        .until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).failures, 0);
}

#[test]
fn slow_beginnings_are_closed_after_the_heads_time() {
    let a = Worker::named("a");
    let limit = Duration::from_millis(400);
    let mut target = Target::adapted(&a, |plane| {
        plane.front.header_timeout = limit;
        plane.front.idle_timeout = Duration::from_secs(60);
        plane.rules.body_idle_timeout = Duration::from_millis(200);
    });
    // Part of a preface; all of it but its last bytes.
    for length in [1, 10, 18, PREFACE.len() - 1] {
        let mut raw = Raw::silent(target.plane.address);
        raw.stream.write_all(&PREFACE[..length]).expect("sent");
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut raw.stream, &mut rest);
        let text = String::from_utf8_lossy(&rest);
        assert!(!text.contains("200 OK"), "{length}: {text}");
    }
    // Half a header block, and half a frame.
    let begun = Instant::now();
    let mut raw = Raw::connect(target.plane.address);
    raw.send(HEADERS, 0, 1, &fields(&ROOT));
    raw.end();
    let mut raw = Raw::connect(target.plane.address);
    raw.stream
        .write_all(&[0, 0, 100, HEADERS, 4])
        .expect("sent");
    raw.end();
    // A preface alone: the settings belong to it (RFC 9113 §3.4), and not to what may be waited for.
    let mut raw = Raw::silent(target.plane.address);
    raw.stream.write_all(PREFACE).expect("sent");
    raw.end();
    assert!(begun.elapsed() < 10 * limit, "{:?}", begun.elapsed());
    target.plane.until(|sample| sample.connections == 0);
    assert_eq!(a.requests().len(), 1);
}

#[test]
fn half_a_head_is_held_for_a_heads_time_whatever_else_goes_on() {
    let (slow, door) = slow_but_well();
    let limit = Duration::from_millis(400);
    let mut target = Target::adapted(&slow, |plane| plane.front.header_timeout = limit);
    // Half a piece of a body is none: that has a limit of its own.
    let mut uploading = Raw::connect(target.plane.address);
    let post = fields(&ROOT.map(|(name, value)| match name {
        ":method" => (name, "POST"),
        ":path" => (name, "/well"),
        _ => (name, value),
    }));
    uploading.send(HEADERS, END_HEADERS, 1, &post);
    let piece = Frame::new(DATA, END_STREAM, 1, &[b'x'; 100]).bytes();
    let (first, rest) = piece.split_at(50);
    uploading.stream.write_all(first).expect("sent");
    let block = fields(&ROOT);
    let halves: [(&str, Vec<u8>); 5] = [
        ("a block", Frame::new(HEADERS, 0, 3, &block).bytes()),
        ("a frame", {
            let all = Frame::new(HEADERS, END_HEADERS, 3, &block).bytes();
            all[..all.len() - 3].to_vec()
        }),
        ("a frame's head", vec![0, 0, 100, HEADERS, 4]),
        ("less", vec![0, 0]),
        (
            "a ping",
            Frame::new(PING, 0, 0, &[7; 8]).bytes()[..12].to_vec(),
        ),
    ];
    for (name, half) in halves {
        // Alone, and beside a request that goes on.
        for beside in [false, true] {
            let mut raw = Raw::connect(target.plane.address);
            if beside {
                raw.get(1);
                target
                    .plane
                    .until(|sample| worker(sample, 1).in_flight.total() == 2);
            }
            raw.stream.write_all(&half).expect("sent");
            let begun = Instant::now();
            raw.end();
            // Of its own clock, which turns ten times a second.
            let held = begun.elapsed();
            assert!(held >= limit / 2, "{name} {beside} {held:?}");
            target
                .plane
                .until(|sample| worker(sample, 1).in_flight.total() == 1);
        }
    }
    // Drop by drop it is still one.
    let mut raw = Raw::connect(target.plane.address);
    raw.send(HEADERS, 0, 1, &block);
    let more = Frame::new(CONTINUATION, 0, 1, &fields(&[("x", "y")])).bytes();
    raw.stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("set");
    let begun = Instant::now();
    while raw.stream.write_all(&more).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it goes on for ever");
        match std::io::Read::read(&mut raw.stream, &mut [0; 100]) {
            Ok(0) => break,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
            _ => {}
        }
    }
    uploading.stream.write_all(rest).expect("sent");
    let head = uploading.until(HEADERS);
    assert_eq!(head.status(), Some(200));
    drop((raw, uploading));
    target.plane.until(|sample| sample.connections == 0);
    door.open();
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    let a = Worker::named("a");
    let mut target = Target::new(&a);
    let block = fields(&ROOT);
    let frames: [(&str, Vec<Frame>); 13] = [
        ("data on none", vec![Frame::new(DATA, 0, 1, b"x")]),
        ("stream 0", vec![Frame::new(HEADERS, 5, 0, &block)]),
        ("even stream", vec![Frame::new(HEADERS, 5, 2, &block)]),
        (
            "backwards",
            vec![
                Frame::new(HEADERS, 5, 5, &block),
                Frame::new(HEADERS, 5, 3, &block),
            ],
        ),
        (
            "settings on a stream",
            vec![Frame::new(SETTINGS, 0, 1, &[])],
        ),
        (
            "crooked settings",
            vec![Frame::new(SETTINGS, 0, 0, &[0; 5])],
        ),
        ("short ping", vec![Frame::new(PING, 0, 0, &[0; 7])]),
        ("window", vec![Frame::new(WINDOW_UPDATE, 0, 0, &[0; 4])]),
        (
            "too much window",
            vec![Frame::new(
                WINDOW_UPDATE,
                0,
                0,
                &0x7fff_ffff_u32.to_be_bytes(),
            )],
        ),
        ("push", vec![Frame::new(5, 4, 1, &[0, 0, 0, 2])]),
        ("hpack", vec![Frame::new(HEADERS, 5, 1, &[0xff; 40])]),
        (
            "interrupted",
            vec![
                Frame::new(HEADERS, 0, 1, &block),
                Frame::new(PING, 0, 0, &[0; 8]),
            ],
        ),
        ("padding", vec![Frame::new(HEADERS, 5 | 8, 1, &[200, 1])]),
    ];
    for (name, frames) in frames {
        let mut raw = Raw::connect(target.plane.address);
        for frame in frames {
            let _ = raw.stream.write_all(&frame.bytes());
        }
        let reason = raw.end();
        assert!(!matches!(reason, Some(0)), "{name}: {reason:?}");
    }
    // A frame longer than we said we take.
    let mut raw = Raw::connect(target.plane.address);
    let _ = raw
        .stream
        .write_all(&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]);
    assert!(matches!(raw.end(), None | Some(FRAME_SIZE_ERROR)));
    target.plane.until(|sample| sample.connections == 0);
    let mut session = Session::connect(target.plane.address);
    assert_eq!(session.ask(get("/well")).text(), "a");
}
