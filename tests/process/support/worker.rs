//! The scripted worker: this test program, run again by remuda. It serves with blocking threads, logs
//! each request it executes, and misbehaves as its knobs say.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::h2c;
use super::knobs::Set;

/// Names the knobs' file; the test program sees it and becomes a worker. (remuda removes `REMUDA_*` from
/// what workers inherit, so it is not called that.)
pub(crate) const KNOBS: &str = "TEST_KNOBS";
/// Names the file of executed requests: `pid gGENERATION sSLOT begin|end ID METHOD`.
pub(crate) const LOG: &str = "TEST_LOG";

/// The command that runs this program as a worker.
pub(crate) fn command() -> Vec<String> {
    let this = std::env::current_exe().expect("the test program has a path");
    [
        this.to_str().expect("a path of ASCII"),
        "--exact",
        "support::worker::run_as_worker",
        "--nocapture",
        "--quiet",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Not a test of its own: does nothing unless remuda started this program as a worker.
#[test]
fn run_as_worker() {
    become_one();
}

/// Is a worker from here on, if remuda started this program as one.
pub(crate) fn become_one() {
    let Ok(knobs) = std::env::var(KNOBS) else {
        return;
    };
    serve(Set::read(Path::new(&knobs)));
}

struct Worker {
    knobs: Set,
    log: Option<Mutex<File>>,
    place: String,
    served: AtomicU64,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

fn serve(knobs: Set) -> ! {
    if let Some(lines) = knobs.number("say_lines") {
        // At once: line by line a slow machine would print no more than is shown.
        let line = |n| format!("line {n} of the worker {}\n", "x".repeat(60));
        let all: String = (0..lines).map(line).collect();
        let _ = std::io::stderr().write_all(all.as_bytes());
    }
    if knobs.on("say_binary") {
        let _ = std::io::stdout().write_all(&[0, 27, b'[', b'2', b'J', 255, 254, 10]);
    }
    if let Some(ms) = knobs.number("start_delay_ms") {
        std::thread::sleep(Duration::from_millis(ms));
    }
    let this = std::env::current_exe().expect("proc is mounted");
    if knobs.on("needs_its_name") && this.to_string_lossy().ends_with(" (deleted)") {
        eprintln!("cannot start {} again", this.display());
        std::process::exit(1);
    }
    if let Some(code) = knobs.number("exit_at_start") {
        eprintln!("cannot open database");
        std::process::exit(i32::try_from(code).unwrap_or(1));
    }
    if knobs.on("ignore_term") {
        // SAFETY: SIG_IGN is a valid disposition for SIGTERM.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    }
    for n in 0..knobs.number("children").unwrap_or(0) {
        let mut child = std::process::Command::new("/bin/sh");
        let script = if n % 2 == 0 {
            "exec sleep 300"
        } else {
            "exec setsid sleep 300"
        };
        child.arg("-c").arg(script).spawn().expect("sh is there");
    }
    if knobs.on("daemonise") {
        // SAFETY: single-threaded enough: the child only calls setsid and goes on to sleep.
        if unsafe { libc::fork() } > 0 {
            std::process::exit(0);
        }
        std::thread::sleep(Duration::from_secs(300));
    }
    if knobs.on("never_listen") {
        eprintln!("waiting for the database");
        std::thread::sleep(Duration::from_secs(300));
        std::process::exit(0);
    }
    if let Some(ms) = knobs.number("crash_after_ms") {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(ms));
            std::process::abort();
        });
    }
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    if knobs.on("notify_file") {
        let knobs_file = var(KNOBS);
        std::thread::spawn(move || say_ready_when_told(Path::new(&knobs_file)));
    }
    let worker = Arc::new(Worker {
        log: std::env::var(LOG).ok().map(|path| {
            Mutex::new(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .expect("the log opens"),
            )
        }),
        place: format!(
            "{} g{} s{}",
            std::process::id(),
            var("REMUDA_GENERATION"),
            var("REMUDA_SLOT")
        ),
        knobs,
        served: AtomicU64::new(0),
    });
    if var("LISTEN_FDS") == "1" && var("LISTEN_PID") == std::process::id().to_string() {
        // SAFETY: the LISTEN_FDS protocol says that descriptor 3 is ours.
        let fd = unsafe { OwnedFd::from_raw_fd(3) };
        accept_tcp(&worker, &TcpListener::from(fd));
    }
    match std::env::var("TEST_SOCKET") {
        Ok(path) => {
            let listener = UnixListener::bind(path).expect("the socket path is free");
            loop {
                let (stream, _) = listener.accept().expect("accept works");
                let reader = stream.try_clone().expect("a descriptor is free");
                let worker = Arc::clone(&worker);
                std::thread::spawn(move || worker.connection(Box::new(reader), Box::new(stream)));
            }
        }
        Err(_) => {
            let mut port: u16 = var("PORT").parse().expect("PORT is set");
            if worker.knobs.on("wrong_port") {
                port = 0;
            }
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap_or_else(|error| {
                eprintln!("cannot bind port {port}: {error}");
                std::process::exit(3);
            });
            if std::env::var_os(h2c::H2C).is_some() {
                h2c::serve(listener, &var("REMUDA_GENERATION"));
            }
            accept_tcp(&worker, &listener)
        }
    }
}

/// READY=1 once a file appears beside the knobs.
fn say_ready_when_told(knobs: &Path) {
    let told = knobs.with_file_name("say-ready");
    while !told.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let socket = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    let path = std::env::var("NOTIFY_SOCKET").expect("it is promised");
    socket.send_to(b"READY=1", path).expect("it is heard");
}

fn accept_tcp(worker: &Arc<Worker>, listener: &TcpListener) -> ! {
    // A descriptor that was handed over may be non-blocking.
    listener.set_nonblocking(false).expect("it is a socket");
    loop {
        let (stream, _) = listener.accept().expect("accept works");
        let _ = stream.set_nodelay(true);
        let reader = stream.try_clone().expect("a descriptor is free");
        let worker = Arc::clone(worker);
        std::thread::spawn(move || worker.connection(Box::new(reader), Box::new(stream)));
    }
}

struct Request {
    method: String,
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
}

impl Request {
    fn number(&self, key: &str) -> u64 {
        self.query
            .get(key)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }
}

impl Worker {
    fn connection(&self, reader: Box<dyn Stream>, mut out: Box<dyn Stream>) {
        let mut reader = BufReader::new(reader);
        while let Some(request) = read_head(&mut reader) {
            if self.answer(&request, &mut reader, &mut *out).is_none() {
                return;
            }
        }
    }

    fn note(&self, event: &str, request: &Request) {
        let Some(log) = &self.log else { return };
        let id = request.headers.get("x-id").map_or("-", String::as_str);
        let line = format!("{} {event} {id} {}\n", self.place, request.method);
        log.lock()
            .expect("no panic holds it")
            .write_all(line.as_bytes())
            .expect("the log is writable");
    }

    /// `None` closes the connection.
    fn answer(
        &self,
        request: &Request,
        reader: &mut BufReader<Box<dyn Stream>>,
        out: &mut dyn Stream,
    ) -> Option<()> {
        let probe = request
            .headers
            .get("user-agent")
            .is_some_and(|agent| agent.starts_with("remuda-probe"));
        if self.knobs.on("garbage") {
            out.write_all(b"hello, this is not HTTP\r\n\r\n").ok()?;
            return None;
        }
        if probe && self.knobs.on("never_ready") {
            return respond(out, 503, "text/plain", b"warming up");
        }
        let body = read_body(reader, request)?;
        if probe {
            return respond(out, 200, "text/plain", b"ok");
        }
        self.note("begin", request);
        let served = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        if self
            .knobs
            .number("crash_at_request")
            .is_some_and(|at| served >= at)
        {
            std::process::abort();
        }
        if let Some(ms) = self.knobs.number("slow_all_ms") {
            std::thread::sleep(Duration::from_millis(ms));
        }
        let percent = self.knobs.number("fail_percent").unwrap_or(0);
        if served * percent / 100 > (served - 1) * percent / 100 {
            let done = respond(out, 500, "text/plain", b"broken release");
            self.note("end", request);
            return done;
        }
        let done = self.serve_path(request, &body, reader, out);
        if done.is_some() {
            self.note("end", request);
        }
        done
    }

    fn serve_path(
        &self,
        request: &Request,
        body: &[u8],
        reader: &mut BufReader<Box<dyn Stream>>,
        out: &mut dyn Stream,
    ) -> Option<()> {
        let ms = Duration::from_millis(request.number("ms"));
        match request.path.as_str() {
            "/slow" => {
                std::thread::sleep(ms);
                respond(out, 200, "text/plain", self.place.as_bytes())
            }
            "/echo" => respond(out, 200, "application/octet-stream", body),
            path if path.ends_with("/env") => {
                let mut lines: Vec<String> = std::env::vars()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                lines.sort();
                respond(out, 200, "text/plain", lines.join("\n").as_bytes())
            }
            "/fds" => respond(out, 200, "text/plain", open_descriptors().as_bytes()),
            "/large" => {
                let size = usize::try_from(request.number("bytes")).unwrap_or(0);
                respond(out, 200, "application/octet-stream", &vec![b'x'; size])
            }
            "/die_mid_body" => {
                out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
                    .ok()?;
                out.flush().ok()?;
                std::process::abort()
            }
            "/die" => std::process::abort(),
            "/no_answer" => out
                .write_all(b"HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n")
                .ok(),
            "/many" => {
                let fields = "X-A: 1\r\n".repeat(usize::try_from(request.number("n")).unwrap_or(0));
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
                out.write_all(head.as_bytes()).ok()
            }
            "/sse" => {
                out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").ok()?;
                for n in 0..request.number("n") {
                    let event = format!("data: {n} {}\n\n", self.place);
                    write!(out, "{:x}\r\n{event}\r\n", event.len()).ok()?;
                    out.flush().ok()?;
                    std::thread::sleep(ms);
                }
                out.write_all(b"0\r\n\r\n").ok()
            }
            "/ws" => {
                out.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").ok()?;
                out.flush().ok()?;
                let mut buffer = [0; 4096];
                loop {
                    let length = reader.read(&mut buffer).ok()?;
                    if length == 0 {
                        return None;
                    }
                    out.write_all(&buffer[..length]).ok()?;
                    out.flush().ok()?;
                }
            }
            _ => respond(out, 200, "text/plain", self.place.as_bytes()),
        }
    }
}

fn open_descriptors() -> String {
    let mut lines: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .expect("proc is mounted")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = std::fs::read_link(entry.path()).ok()?;
            Some(format!(
                "{} {}",
                entry.file_name().to_string_lossy(),
                target.display()
            ))
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

fn respond(out: &mut dyn Stream, status: u16, kind: &str, body: &[u8]) -> Option<()> {
    let mut answer = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    out.write_all(&answer).ok()?;
    out.flush().ok()
}

fn read_head(reader: &mut BufReader<Box<dyn Stream>>) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Request {
        method,
        path: path.to_owned(),
        query,
        headers,
    })
}

fn read_body(reader: &mut BufReader<Box<dyn Stream>>, request: &Request) -> Option<Vec<u8>> {
    if let Some(length) = request.headers.get("content-length") {
        let mut body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        return Some(body);
    }
    let mut body = Vec::new();
    if !request.headers.contains_key("transfer-encoding") {
        return Some(body);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
