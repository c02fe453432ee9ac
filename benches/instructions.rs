//! User instructions per request of a plane, counted by valgrind's callgrind: the same on every machine to
//! a percent or two, so that a change that costs shows before it is measured by the clock.
//!
//! `cargo bench --bench instructions` (valgrind is needed). Each workload runs twice, with few and with many
//! requests on one connection; the difference is what the requests cost, without start and end. It fails
//! over the bounds below. `REMUDA` may name another binary.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    dead_code,
    reason = "a program of its own; what it borrows from the tests has more than it needs"
)]

#[path = "../tests/it/plane.rs"]
mod plane;
#[path = "../tests/it/worker.rs"]
mod worker;

use std::path::Path;
use std::process::Command;

use plane::{Plane, open};
use remuda::supervisor::allocator;
use worker::{Worker, write};

/// Requests of the two runs.
const FEW: u64 = 20 * CLIENTS;
const MANY: u64 = 60 * CLIENTS;
/// Connections, each with one request at a time.
const CLIENTS: u64 = 32;

/// A request and its answer, and what they may cost.
struct Workload {
    name: &'static str,
    request: String,
    answer: String,
    most: u64,
}

fn workloads() -> [Workload; 2] {
    let answer = |fields: &str, size: usize| {
        let body = "x".repeat(size);
        format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n{fields}\r\n{body}")
    };
    [
        Workload {
            name: "small",
            request: "GET /64 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            answer: answer("", 64),
            most: 18_000,
        },
        Workload {
            name: "hdrs",
            request: "GET /articles?page=3 HTTP/1.1\r\nHost: localhost\r\n\
                User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0.0.0 Safari/537.36\r\n\
                Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n\
                Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n\
                Cache-Control: no-cache\r\nCookie: _session=Zm9vYmFyYmF6cXV4; theme=dark; _ga=GA1.1.123\r\n\
                Referer: http://localhost/articles?page=2\r\nSec-Fetch-Dest: document\r\n\
                Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n\
                Upgrade-Insecure-Requests: 1\r\n\r\n"
                .to_owned(),
            answer: answer(
                "Content-Type: text/html; charset=utf-8\r\nServer: app\r\nCache-Control: private\r\n\
                 ETag: \"5d8c72a5edda8\"\r\nVary: Accept-Encoding\r\nX-Frame-Options: DENY\r\n\
                 X-Content-Type-Options: nosniff\r\nReferrer-Policy: same-origin\r\n\
                 Last-Modified: Fri, 27 Nov 2026 10:00:00 GMT\r\nDate: Fri, 27 Nov 2026 10:00:00 GMT\r\n",
                1_024,
            ),
            most: 34_000,
        },
    ]
}

fn main() {
    let there = Command::new("valgrind").arg("--version").output();
    assert!(
        there.is_ok_and(|output| output.status.success()),
        "valgrind is needed (Debian: apt install valgrind)"
    );
    // Kept for `callgrind_annotate`.
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    std::fs::create_dir_all(&scratch).expect("a directory");
    let mut over = Vec::new();
    for workload in workloads() {
        let few = instructions(&workload, FEW, &scratch);
        let many = instructions(&workload, MANY, &scratch);
        let each = many.saturating_sub(few) / (MANY - FEW);
        println!(
            "{}: {each} user instructions per request, at most {}",
            workload.name, workload.most
        );
        assert!(each > 1_000, "nothing was counted: {few}, {many}");
        if each > workload.most {
            over.push(workload.name);
        }
    }
    assert!(over.is_empty(), "over their bounds: {over:?}");
}

/// All instructions of a plane that serves so many requests.
fn instructions(workload: &Workload, requests: u64, scratch: &Path) -> u64 {
    let out = scratch.join(format!("{}.{requests}", workload.name));
    let answer = workload.answer.clone();
    let worker = Worker::scripted(move |_, stream| write(stream, &answer));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::var_os("REMUDA").unwrap_or_else(|| env!("CARGO_BIN_EXE_remuda").into()));
    // As the supervisor starts a plane.
    let (name, value) = allocator::variable(std::env::var_os("GLIBC_TUNABLES").as_deref());
    valgrind.env(name, value);
    // Valgrind needs files and more calls than a plane does; and the plane is what is counted, not who is
    // started beside it.
    let (mut plane, _) = Plane::start_program(valgrind, 1, &["unconfined"]);
    plane.publish(&[(10_000, &[open(1, worker.address)])]);
    plane.accept();
    // Many at once, as under load: a loop that has to sleep for each request costs more.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| plane.client()).collect();
    for _ in 0..requests / CLIENTS {
        for client in &mut clients {
            client.send(&workload.request);
        }
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
    }
    drop(clients);
    plane.send(&remuda::link::message::ToPlane::Drain);
    plane.drained();
    let text = std::fs::read_to_string(&out).expect("callgrind's output");
    let total = text.lines().find_map(|line| {
        line.strip_prefix("summary: ")
            .or_else(|| line.strip_prefix("totals: "))
    });
    let total = total.and_then(|total| total.trim().parse().ok());
    total.unwrap_or_else(|| panic!("no total in {}", out.display()))
}
