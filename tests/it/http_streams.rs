//! Bodies that are long, slow or never end: back pressure, time limits, and what is left when a client
//! goes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use remuda::link::message::{Limit, ProxyReason};

use crate::plane::{PATIENCE, Plane, find, open, worker};
use crate::worker::{Door, Worker, reply, write};

/// More than the kernel's buffers of both hops hold together.
const LONG: usize = 64 << 20;
/// What those may hold, and then some.
const BUFFERS: u64 = 32 << 20;
/// After so long without progress a side is taken to be blocked.
const BLOCKED: Duration = Duration::from_millis(500);

/// Bytes that are all different enough, and their sum as it goes.
struct Noise {
    state: u64,
    sum: u64,
}

impl Noise {
    fn new() -> Self {
        Self { state: 1, sum: 0 }
    }

    fn fill(&mut self, block: &mut [u8]) {
        for bytes in block.chunks_exact_mut(8) {
            self.state = self
                .state
                .wrapping_mul(0x5851_F42D_4C95_7F2D)
                .wrapping_add(1);
            bytes.copy_from_slice(&self.state.to_le_bytes());
        }
        self.sum = sum(self.sum, block);
    }
}

fn sum(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |sum, b| {
        sum.rotate_left(5).wrapping_add(u64::from(*b))
    })
}

/// Writes noise until it is all there or the other side does not take it for a while.
fn pour(
    stream: &mut TcpStream,
    noise: &mut Noise,
    count: usize,
    poured: &AtomicU64,
    patience: Duration,
) -> bool {
    stream.set_write_timeout(Some(patience)).expect("timeout");
    let mut block = vec![0; 64 << 10];
    let mut left = count;
    while left > 0 {
        noise.fill(&mut block);
        let mut rest = &block[..];
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(written) => {
                    rest = &rest[written..];
                    poured.fetch_add(written as u64, Ordering::SeqCst);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return false;
                }
                Err(_) => return false,
            }
        }
        left -= block.len();
    }
    true
}

fn swallow(stream: &mut impl Read, count: usize) -> u64 {
    let (mut got, mut left, mut block) = (0, count, vec![0; 64 << 10]);
    while left > 0 {
        let want = left.min(block.len());
        let read = stream.read(&mut block[..want]).expect("more");
        assert!(read > 0, "{left} bytes are missing");
        got = sum(got, &block[..read]);
        left -= read;
    }
    got
}

#[test]
fn a_client_that_does_not_read_holds_the_worker_and_not_our_memory() {
    let poured = Arc::new(AtomicU64::new(0));
    let (count, blocked) = (Arc::clone(&poured), Door::new());
    let told = blocked.clone();
    let long = Worker::scripted(move |_, stream| {
        write(
            stream,
            &format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"),
        );
        let whole = pour(stream, &mut Noise::new(), LONG, &count, BLOCKED);
        told.open();
        whole
    });
    let mut plane = Plane::serving(&[open(1, long.address)]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 200);
    blocked.wait();
    let poured = poured.load(Ordering::SeqCst);
    assert!(
        poured < BUFFERS,
        "{poured} bytes were taken that nobody reads"
    );
    drop(client);
    plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
}

#[test]
fn a_worker_that_does_not_read_holds_the_client_and_not_our_memory() {
    let door = Door::new();
    let inside = door.clone();
    let deaf = Worker::early(move |_, stream| {
        inside.wait();
        reply(stream, "late");
        false
    });
    let mut plane = Plane::serving(&[open(1, deaf.address)]);
    for framing in ["Content-Length: 67108864", "Transfer-Encoding: chunked"] {
        let mut client = plane.client();
        client.send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        if framing.ends_with("chunked") {
            client.send("4000000\r\n");
        }
        let poured = AtomicU64::new(0);
        assert!(!pour(
            &mut client.stream,
            &mut Noise::new(),
            LONG,
            &poured,
            BLOCKED
        ));
        let poured = poured.load(Ordering::SeqCst);
        assert!(poured < BUFFERS, "{framing}: {poured} bytes were taken");
    }
    door.open();
    plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
}

#[test]
fn long_bodies_arrive_whole_both_ways() {
    const EACH: usize = 16 << 20;
    let echo = Worker::early(|request, stream| {
        let chunked = request.field("transfer-encoding").is_some();
        let got = if chunked {
            // Its chunks are ours: only their data counts.
            let mut got = 0;
            loop {
                let mut line = Vec::new();
                let mut byte = [0];
                while !line.ends_with(b"\r\n") {
                    stream.read_exact(&mut byte).expect("a line");
                    line.push(byte[0]);
                }
                let size = std::str::from_utf8(&line[..line.len() - 2]).expect("text");
                let size = usize::from_str_radix(size, 16).expect("a size");
                let mut data = vec![0; size + 2];
                stream.read_exact(&mut data).expect("data");
                got = sum(got, &data[..size]);
                if size == 0 {
                    break got;
                }
            }
        } else {
            swallow(stream, EACH)
        };
        write(
            stream,
            &format!("HTTP/1.1 200 OK\r\nX-Sum: {got}\r\nContent-Length: {EACH}\r\n\r\n"),
        );
        pour(
            stream,
            &mut Noise::new(),
            EACH,
            &AtomicU64::new(0),
            PATIENCE,
        )
    });
    let plane = Plane::serving(&[open(1, echo.address)]);
    let mut client = plane.client();
    for framing in ["Content-Length: 16777216", "Transfer-Encoding: chunked"] {
        client.send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        let chunked = framing.ends_with("chunked");
        if chunked {
            client.send("1000000\r\n");
        }
        let mut noise = Noise::new();
        assert!(pour(
            &mut client.stream,
            &mut noise,
            EACH,
            &AtomicU64::new(0),
            PATIENCE
        ));
        if chunked {
            client.send("\r\n0\r\n\r\n");
        }
        let answer = client.head().expect("a head");
        assert_eq!(
            answer.field("x-sum"),
            Some(&*noise.sum.to_string()),
            "{framing}"
        );
        let body = client.take(EACH).expect("a body");
        assert_eq!(sum(0, &body), noise.sum, "{framing}");
    }
}

#[test]
fn a_body_that_stands_still_is_408_and_one_that_trickles_is_not() {
    let a = Worker::scripted(|request, stream| reply(stream, &request.body.len().to_string()));
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.rules.body_idle_timeout = Duration::from_millis(400);
    });
    for framing in [
        "Content-Length: 9\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut client = plane.client();
        client.send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}"));
        let answer = client.answer();
        assert_eq!(answer.status, 408, "{framing}");
        assert_eq!(answer.field("connection"), Some("close"));
        assert!(client.closed());
    }
    let mut client = plane.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
    for _ in 0..8 {
        // A pause is what is tested: each is shorter than the limit, all together are longer.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(80) {
            std::thread::yield_now();
        }
        client.send("x");
    }
    assert_eq!(client.answer().text(), "8");
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).failures, 0);
    assert_eq!(
        sample.services[0].errors(),
        [(ProxyReason::RequestTimeout, 2)]
    );
    assert_eq!(sample.limits, [(Limit::BodyTime, 2)]);
}

#[test]
fn f51_a_client_that_reads_nothing_is_given_up_whatever_it_still_has_to_get() {
    let a = Worker::scripted(|_, stream| reply(stream, &"x".repeat(40_000)));
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.rules.body_idle_timeout = Duration::from_millis(300);
        plane.front.idle_timeout = Duration::from_millis(300);
        // A next head that waits behind an answer nobody reads has this limit.
        plane.front.header_timeout = Duration::from_millis(300);
    });
    let mut clients: Vec<_> = (0..4).map(|_| plane.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        // Some leave requests unread, some do not.
        let count = 300 + number * 100;
        let all = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(count);
        let _ = client.stream.set_write_timeout(Some(BLOCKED));
        let _ = client.stream.write_all(all.as_bytes());
    }
    // All of them were served something before they are missed.
    plane.until(|sample| worker(sample, 1).requests > 0);
    let sample = plane.until(|sample| sample.connections == 0);
    assert_eq!(worker(&sample, 1).in_flight.total(), 0);
    let times = [Limit::HeaderTime, Limit::BodyTime, Limit::IdleTime];
    let reached = sample.limits.iter().map(|(limit, count)| {
        assert!(times.contains(limit), "{limit:?}");
        count
    });
    assert_eq!(reached.sum::<u64>(), 4, "each once");
}

#[test]
fn a_client_that_closes_its_way_to_us_gets_its_answers() {
    let large = Worker::scripted(|_, stream| {
        let body = "x".repeat(3 << 20);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        write(stream, &head) && write(stream, &body)
    });
    // Answers only when the client's end has reached us.
    let (slow, door) = Worker::waiting("late");
    let ask = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for (worker, sent, answers, length) in [
        (&slow, ask.repeat(3), 3, 4),
        (&slow, post.to_owned(), 1, 4),
        (&large, ask.repeat(2), 2, 3 << 20),
    ] {
        let mut plane = Plane::serving(&[open(1, worker.address)]);
        let mut client = plane.client();
        client.send(&sent);
        let end = client.stream.shutdown(Shutdown::Write);
        end.expect("half a close");
        door.open();
        for _ in 0..answers {
            assert_eq!(client.answer().text().len(), length);
        }
        assert!(client.closed());
        let sample = plane.until(|sample| sample.connections == 0);
        assert_eq!(sample.services[0].errors(), []);
    }
}

#[test]
fn f52_half_a_close_is_a_leaving_if_nothing_is_taken_and_frees_everything() {
    let door = Door::new();
    let inside = door.clone();
    let stuck = Worker::scripted(move |_, _| {
        inside.wait();
        false
    });
    let mut plane = Plane::serving(&[open(1, stuck.address)]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plane.until(|sample| worker(sample, 1).in_flight.total() == 1);
    client
        .stream
        .shutdown(Shutdown::Write)
        .expect("half a close");
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).failures, 0);
    assert_eq!(sample.services[0].errors(), [(ProxyReason::ClientGone, 1)]);
    assert!(
        sample.services[0]
            .ended
            .iter()
            .any(|ended| ended.code == 499)
    );
    assert!(client.closed());
    door.open();
    // In the middle of a head or a body too, and the worker never gets a whole request of it.
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    for part in [
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut client = plane.client();
        client.send(part);
        client
            .stream
            .shutdown(Shutdown::Write)
            .expect("half a close");
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest);
        assert!(find(&rest, b"200").is_none(), "{part:?}");
    }
    let sample = plane.until(|sample| sample.connections == 0);
    assert_eq!(worker(&sample, 1).in_flight.total(), 0);
    assert_eq!(sample.services[0].in_flight(), 0);
    assert!(a.requests().is_empty());
}

#[test]
fn an_early_answer_is_read_by_a_client_that_goes_on_sending() {
    // By the worker, and by us: for want of a worker, for the length, for the length found out.
    let early = Worker::early(|_, stream| {
        write(
            stream,
            "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\n\r\nno",
        );
        false
    });
    let whole = Worker::named("whole");
    let table = [
        (
            413,
            Some(early.address),
            None,
            "Content-Length: 8388608\r\n\r\n",
        ),
        (
            413,
            Some(whole.address),
            Some(1_000),
            "Content-Length: 8388608\r\n\r\n",
        ),
        (
            413,
            Some(whole.address),
            Some(1_000),
            "Transfer-Encoding: chunked\r\n\r\n800000\r\n",
        ),
        (503, None, None, "Content-Length: 8388608\r\n\r\n"),
        (
            400,
            Some(whole.address),
            None,
            "Content-Length: 8388608\r\nHost: b\r\n\r\n",
        ),
    ];
    // Side by side: each connection lingers for a client that has not closed.
    std::thread::scope(|scope| {
        for (status, address, limit, framing) in table {
            scope.spawn(move || {
                let routes: Vec<_> = address
                    .into_iter()
                    .map(|address| open(1, address))
                    .collect();
                let mut plane = Plane::serving_by(&routes, |plane| {
                    plane.rules.max_body = limit;
                    plane.rules.parking.max_requests = 0;
                });
                let mut client = plane.client();
                client.send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}"));
                let poured = AtomicU64::new(0);
                // The body looks like requests, so that one that is read as such is noticed.
                let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
                while poured.fetch_add(hidden.len() as u64, Ordering::SeqCst) < 8 << 20 {
                    if client.stream.write_all(hidden.as_bytes()).is_err() {
                        break;
                    }
                }
                let answer = client.answer();
                assert_eq!(answer.status, status, "{framing}");
                assert!(answer.whole, "{framing}");
                assert_eq!(answer.field("connection"), Some("close"), "{framing}");
                assert!(client.closed(), "{framing}");
                let sample = plane.until(|sample| sample.connections == 0);
                assert_eq!(sample.services[0].in_flight(), 0, "{framing}");
            });
        }
    });
    assert!(whole.requests().is_empty());
}

#[test]
fn events_are_not_held_back() {
    let (tell, told) = std::sync::mpsc::channel::<Instant>();
    let door = Door::new();
    let inside = door.clone();
    let tell = std::sync::Mutex::new(tell);
    let events = Worker::scripted(move |_, stream| {
        write(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        );
        for number in 0..20 {
            let event = format!("id: {number}\ndata: tick\n\n");
            let _ = tell.lock().expect("no panic").send(Instant::now());
            write(stream, &event);
            // The next one is made when this one has arrived.
            let mut byte = [0];
            stream
                .set_read_timeout(Some(Duration::from_millis(20)))
                .expect("timeout");
            let _ = stream.read(&mut byte);
        }
        inside.wait();
        false
    });
    let plane = Plane::serving(&[open(1, events.address)]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 200);
    let mut late: Vec<_> = (0..20)
        .map(|number| {
            let made = told.recv_timeout(PATIENCE).expect("made");
            let event = client.chunk().expect("an event");
            assert_eq!(event, format!("id: {number}\ndata: tick\n\n").as_bytes());
            made.elapsed()
        })
        .collect();
    late.sort();
    assert!(late[10] < Duration::from_millis(50), "{late:?}");
    door.open();
}

#[test]
fn a_tunnel_carries_long_messages_both_ways() {
    const MESSAGE: usize = 4 << 20;
    let echo = Worker::early(|_, stream| {
        write(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        // A WebSocket frame of 64-bit length, as it is: the mask stays on.
        let mut head = [0; 14];
        stream.read_exact(&mut head).expect("a frame");
        let mut message = vec![0; MESSAGE];
        stream.read_exact(&mut message).expect("a message");
        stream.write_all(&head).expect("sent");
        stream.write_all(&message).is_ok() && stream.read(&mut head).is_ok_and(|read| read > 0)
    });
    let mut plane = Plane::serving(&[open(1, echo.address)]);
    let mut client = plane.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 101);
    let mut frame = vec![0x82, 0xff];
    frame.extend_from_slice(&(MESSAGE as u64).to_be_bytes());
    frame.extend_from_slice(b"mask");
    let mut message = vec![0; MESSAGE];
    Noise::new().fill(&mut message);
    frame.extend_from_slice(&message);
    let mut writing = client.stream.try_clone().expect("a clone");
    let sent = frame.clone();
    let writer = std::thread::spawn(move || writing.write_all(&sent).is_ok());
    assert!(client.take(frame.len()).expect("the echo") == frame);
    assert!(writer.join().expect("no panic"));
    drop(client);
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(sample.services[0].bytes().0, frame.len() as u64);
    assert!(sample.services[0].errors().is_empty());
}
