//! T9 by chance: requests with random mistakes, and a strict reader of both sides. What a worker sees is
//! always well-formed, and always the beginning of what the client's bytes mean to the strict reader.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::plane::{Plane, find, open};

/// A request as the strict reader has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    method: String,
    body: Vec<u8>,
}

/// What the strict reader says of the bytes behind the last whole request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Nothing,
    Incomplete,
    Bad(&'static str),
}

/// Every whole request at the front, and what comes then.
fn read_strictly(mut bytes: &[u8]) -> (Vec<Seen>, Rest) {
    let mut all = Vec::new();
    loop {
        while bytes.starts_with(b"\r\n") {
            bytes = &bytes[2..];
        }
        if bytes.is_empty() {
            return (all, Rest::Nothing);
        }
        match read_one(bytes) {
            Ok(Some((seen, used))) => {
                all.push(seen);
                bytes = &bytes[used..];
            }
            Ok(None) => return (all, Rest::Incomplete),
            Err(why) => return (all, Rest::Bad(why)),
        }
    }
}

fn read_one(bytes: &[u8]) -> Result<Option<(Seen, usize)>, &'static str> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &bytes[..end];
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(at) = find(rest, b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    if head.iter().any(|b| *b == 0 || *b == 0x7f)
        || lines
            .iter()
            .any(|l| l.iter().any(|b| matches!(b, b'\r' | b'\n')))
    {
        return Err("byte in the head");
    }
    let words: Vec<_> = lines[0].split(|b| *b == b' ').collect();
    let [method, target, version] = words[..] else {
        return Err("request line");
    };
    if method.is_empty() || target.is_empty() || !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        return Err("request line");
    }
    let (mut length, mut chunked) = (None::<usize>, false);
    for line in &lines[1..] {
        let colon = line.iter().position(|b| *b == b':').ok_or("no colon")?;
        let name = line[..colon].to_ascii_lowercase();
        if name.is_empty() || name.iter().any(|b| *b <= b' ' || *b >= 0x7f) {
            return Err("field name");
        }
        let value = line[colon + 1..].trim_ascii();
        if name == b"content-length" {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
            let number = number.filter(|_| digits).ok_or("length")?;
            if length.is_some_and(|length| length != number) {
                return Err("two lengths");
            }
            length = Some(number);
        }
        if name == b"transfer-encoding" {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("transfer coding");
            }
            chunked = true;
        }
    }
    if chunked && (length.is_some() || version == b"HTTP/1.0") {
        return Err("two framings");
    }
    let start = end + 4;
    let body = if chunked {
        read_chunks(&bytes[start..])?
    } else {
        let length = length.unwrap_or(0);
        let body = bytes.get(start..).and_then(|rest| rest.get(..length));
        body.map(|body| (body.to_vec(), length))
    };
    Ok(body.map(|(body, used)| {
        let method = String::from_utf8_lossy(method).into_owned();
        (Seen { method, body }, start + used)
    }))
}

fn read_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let line = &bytes[at..at + end];
        at += end + 2;
        let size = line
            .split(|b| matches!(b, b';' | b' ' | b'\t'))
            .next()
            .unwrap_or_default();
        if size.is_empty()
            || !size.iter().all(u8::is_ascii_hexdigit)
            || line.iter().any(|b| matches!(b, b'\n' | b'\r'))
        {
            return Err("chunk size");
        }
        let size = std::str::from_utf8(size)
            .ok()
            .and_then(|s| usize::from_str_radix(s, 16).ok());
        let size = size.ok_or("chunk size")?;
        if size == 0 {
            break;
        }
        let Some(data) = size.checked_add(2).and_then(|size| bytes[at..].get(..size)) else {
            return Ok(None);
        };
        if !data.ends_with(b"\r\n") {
            return Err("chunk end");
        }
        body.extend_from_slice(&data[..size]);
        at += size + 2;
    }
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let line = &bytes[at..at + end];
        at += end + 2;
        if line.is_empty() {
            return Ok(Some((body, at)));
        }
        if line.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')) {
            return Err("trailer");
        }
    }
}

/// A worker that answers what the strict reader reads, and keeps it, and what it objects to.
struct Strict {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    objections: Arc<Mutex<Vec<String>>>,
}

impl Strict {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let strict = Self {
            address: listener.local_addr().expect("address"),
            seen: Arc::default(),
            objections: Arc::default(),
        };
        let (seen, objections) = (Arc::clone(&strict.seen), Arc::clone(&strict.objections));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, objections) = (Arc::clone(&seen), Arc::clone(&objections));
                std::thread::spawn(move || Self::serve(stream, &seen, &objections));
            }
        });
        strict
    }

    fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Seen>>, objections: &Mutex<Vec<String>>) {
        let (mut bytes, mut answered, mut part) = (Vec::new(), 0, vec![0; 16 << 10]);
        while let Ok(read @ 1..) = stream.read(&mut part) {
            bytes.extend_from_slice(&part[..read]);
            let (all, rest) = read_strictly(&bytes);
            if let Rest::Bad(why) = rest {
                let shown = String::from_utf8_lossy(&bytes).into_owned();
                objections
                    .lock()
                    .expect("no panic")
                    .push(format!("{why}: {shown:?}"));
                return;
            }
            for request in &all[answered..] {
                answered += 1;
                seen.lock().expect("no panic").push(request.clone());
                if stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .is_err()
                {
                    return;
                }
            }
        }
    }
}

/// Chance with a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn one_of<'a>(&mut self, all: &[&'a [u8]]) -> &'a [u8] {
        all[self.below(all.len())]
    }
}

const GOOD: [&[u8]; 6] = [
    b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
    b"POST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\n\r\n",
    b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 37\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r",
    b"DELETE /f HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
];
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const NASTY: [&[u8]; 28] = [
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"+",
    b"-",
    b"0",
    b"1",
    b"ff",
    b"x",
    b"\x7f",
    b"\xff",
    b"0\r\n\r\n",
    b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"content-length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: x\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n",
    b"Connection: Content-Length\r\n",
    b"Host: b\r\n",
];

/// A few good requests with a few mistakes, and one that ends the connection.
fn attack(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=chance.below(2) {
        bytes.extend_from_slice(chance.one_of(&GOOD));
    }
    for _ in 0..=chance.below(3) {
        let at = chance.below(bytes.len() + 1);
        let end = (at + chance.below(4)).min(bytes.len());
        match chance.below(6) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..end, chance.one_of(&NASTY).iter().copied())),
            2 => drop(bytes.splice(at..at, chance.one_of(&NASTY).iter().copied())),
            3 => {
                // At the beginning of a line, where it says most.
                let line = find(&bytes[at..], b"\r\n").map_or(bytes.len(), |found| at + found + 2);
                drop(bytes.splice(line..line, chance.one_of(&NASTY).iter().copied()));
            }
            4 => {
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            _ => {}
        }
    }
    bytes.extend_from_slice(LAST);
    bytes
}

fn run(seed: u64, cases: usize) {
    let worker = Strict::start();
    let mut plane = Plane::serving_by(&[open(1, worker.address)], |plane| {
        plane.front.header_timeout = Duration::from_millis(150);
        plane.front.idle_timeout = Duration::from_millis(200);
        plane.rules.body_idle_timeout = Duration::from_millis(150);
        plane.rules.retry.tries = 0;
    });
    let mut chance = Chance(seed);
    for case in 0..cases {
        let bytes = attack(&mut chance);
        let part = 1 + chance.below(bytes.len());
        let mut client = plane.client();
        for part in bytes.chunks(part) {
            // It may have been refused already.
            let _ = client.stream.write_all(part);
        }
        let mut got = Vec::new();
        let _ = client.stream.read_to_end(&mut got);
        let seen = std::mem::take(&mut *worker.seen.lock().expect("no panic"));
        let objections = std::mem::take(&mut *worker.objections.lock().expect("no panic"));
        let (meant, _) = read_strictly(&bytes);
        let shown = String::from_utf8_lossy(&bytes);
        assert!(
            objections.is_empty(),
            "seed {seed}, case {case}: {shown:?}: {objections:?}"
        );
        assert!(
            meant.starts_with(&seen),
            "seed {seed}, case {case}: {shown:?} means {meant:?}, and the worker saw {seen:?}"
        );
        assert!(
            got.is_empty() || got.starts_with(b"HTTP/1."),
            "seed {seed}, case {case}: {shown:?}: {:?}",
            String::from_utf8_lossy(&got)
        );
    }
    let sample = plane.until(|sample| sample.connections == 0);
    assert_eq!(sample.services[0].in_flight(), 0, "seed {seed}");
    assert_eq!(
        crate::plane::worker(&sample, 1).in_flight.total(),
        0,
        "seed {seed}"
    );
}

#[test]
fn t9_the_strict_reader_reads_good_requests_and_no_others() {
    for good in GOOD {
        let (all, rest) = read_strictly(good);
        assert_eq!(
            (all.len(), rest),
            (1, Rest::Nothing),
            "{}",
            String::from_utf8_lossy(good)
        );
    }
    let planted =
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(read_strictly(planted).1, Rest::Bad("two framings"));
    assert_eq!(
        read_strictly(b"GET / HTTP/1.1\nHost: a\r\n\r\n").1,
        Rest::Bad("byte in the head")
    );
}

#[test]
fn t9_random_mistakes_never_reach_a_worker() {
    let threads: Vec<_> = (1..=8)
        .map(|seed| std::thread::spawn(move || run(seed * 0x9E37_79B9, 60)))
        .collect();
    for thread in threads {
        thread.join().expect("no objection");
    }
}
