//! Many POSTs to workers that close their connections at random: each is executed at most once (F41).
//!
//! `REMUDA_POSTS=1000000 cargo test --release --test it f41_posts` sends a million; `REMUDA_SEED` has a run of
//! before take the same turns.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Read;
use std::net::TcpStream;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use crate::plane::{Client, Plane, open};
use crate::worker::{Request, Worker, reply};

/// Clients, and workers.
const CLIENTS: usize = 16;
const WORKERS: u64 = 3;

/// What a worker does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It closes, with some of the request unread.
    Cut,
    /// It reads all of it and does what it says, and closes without an answer.
    Silent,
    /// It answers and closes at once, perhaps by a reset.
    Last { resets: bool },
    /// It answers, and closes if nothing comes for so many milliseconds.
    Rest(u64),
    /// It answers.
    Plain,
}

/// What the worker does with the request of this number: the same for each run of a seed.
fn turn(seed: u64, number: usize) -> Turn {
    match chance(seed, number, 0) % 100 {
        0..3 => Turn::Cut,
        3..5 => Turn::Silent,
        5..15 => Turn::Last { resets: false },
        15..20 => Turn::Last { resets: true },
        20..50 => Turn::Rest(1 + chance(seed, number, 1) % 30),
        _ => Turn::Plain,
    }
}

/// A number that looks like chance (the finaliser of splitmix64).
fn chance(seed: u64, number: usize, what: u64) -> u64 {
    let mut x = seed ^ (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (what << 32);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn variable<T: FromStr<Err = ParseIntError>>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// A worker that counts what it does.
fn worker(seed: u64, executed: &Arc<Vec<AtomicU8>>) -> Worker {
    let executed = Arc::clone(executed);
    Worker::early(move |request, stream| {
        let number: usize = request.path()[1..].parse().expect("a number");
        let turn = turn(seed, number);
        if turn == Turn::Cut {
            return false;
        }
        if !read_body(request, stream) {
            return false;
        }
        executed[number].fetch_add(1, Ordering::SeqCst);
        if turn == Turn::Silent || !reply(stream, &number.to_string()) {
            return false;
        }
        match turn {
            Turn::Last { resets } => {
                if resets {
                    let linger = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
                    linger.expect("a socket");
                }
                false
            }
            Turn::Rest(rest) => stream
                .set_read_timeout(Some(Duration::from_millis(rest)))
                .is_ok(),
            Turn::Cut | Turn::Silent | Turn::Plain => stream.set_read_timeout(None).is_ok(),
        }
    })
}

fn read_body(request: &Request, stream: &mut TcpStream) -> bool {
    let length = request.field("content-length").expect("a body");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).is_ok()
}

/// What became of all.
#[derive(Debug, Default)]
struct Outcome {
    answered: AtomicUsize,
    failed: AtomicUsize,
    /// Of them, those that no worker was to fail: its closing and our sending crossed.
    crossed: AtomicUsize,
}

/// Sends every so many-th POST, one after another.
fn send(plane: std::net::SocketAddr, seed: u64, mine: impl Iterator<Item = usize>, all: &Outcome) {
    let mut client = Client::connect(plane);
    for number in mine {
        let body = "x".repeat((chance(seed, number, 2) % 2_000) as usize);
        let length = body.len();
        client.send(&format!(
            "POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let answer = client.answer_to("POST").expect("an answer, whatever it is");
        match answer.status {
            200 => {
                let own = number.to_string();
                assert_eq!(answer.text(), own, "seed {seed}: another's answer");
                all.answered.fetch_add(1, Ordering::SeqCst);
            }
            502 => {
                all.failed.fetch_add(1, Ordering::SeqCst);
                if !matches!(turn(seed, number), Turn::Cut | Turn::Silent) {
                    all.crossed.fetch_add(1, Ordering::SeqCst);
                }
            }
            status => panic!("seed {seed}, {number}: {status}"),
        }
        if answer.field("connection") == Some("close") {
            client = Client::connect(plane);
        }
    }
}

#[test]
fn f41_posts_to_workers_that_close_at_random_are_executed_at_most_once() {
    let posts = variable("REMUDA_POSTS").unwrap_or(10_000);
    let seed = variable("REMUDA_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("REMUDA_SEED={seed}");
    let executed: Vec<_> = (0..posts).map(|_| AtomicU8::new(0)).collect();
    let executed = Arc::new(executed);
    let workers: Vec<_> = (0..WORKERS).map(|_| worker(seed, &executed)).collect();
    let routes: Vec<_> = (1..)
        .zip(&workers)
        .map(|(id, worker)| open(id, worker.address))
        .collect();
    let plane = Plane::serving_by(&routes, |plane| plane.rules.ejection.consecutive = 0);
    let all = Outcome::default();
    std::thread::scope(|scope| {
        for first in 0..CLIENTS {
            let (all, address) = (&all, plane.address);
            scope.spawn(move || send(address, seed, (first..posts).step_by(CLIENTS), all));
        }
    });
    let counts = executed.iter().map(|count| count.load(Ordering::SeqCst));
    let twice = counts.filter(|count| *count > 1).count();
    println!("{posts} POSTs: {all:?}, {twice} executed more than once");
    assert_eq!(twice, 0, "seed {seed}");
    let crossed = all.crossed.load(Ordering::SeqCst);
    assert!(crossed <= posts / 50, "seed {seed}: {crossed} crossed");
    let failed = all.failed.load(Ordering::SeqCst);
    assert!(failed > posts / 50, "seed {seed}: the workers hardly fail");
}
