//! What is in flight now, for people to look at, and the clock all of it is measured by.
//!
//! The map is written when a client connects or leaves; a request only puts itself into its
//! connection's entry. Private to this module; what leaves it are copies.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use http::Method;

use super::rules::RequestId;
use super::socket::Peer;
use crate::link::message::{Class, Exchange, MAX_EXCHANGES};
use crate::rollout::{ServiceName, WorkerId};

/// Longest path that is shown.
const MAX_PATH: usize = 256;
const NO_WORKER: u64 = u64::MAX;
const NO_CUT: u64 = u64::MAX;

/// Milliseconds since the plane began: small enough for an atomic.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    origin: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Clock {
    /// Now.
    pub(super) fn now(&self) -> u64 {
        millis(self.origin.elapsed())
    }
}

/// A time in whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// All client connections of a plane and what each has in flight.
#[derive(Debug, Default)]
pub(super) struct Registry {
    clients: DashMap<u64, Arc<Entry>, foldhash::fast::RandomState>,
    next: AtomicU64,
}

/// One client's entry: it has one request at a time, or none. What a request is about is written at its
/// begin; what changes while it is in flight is written by the client's loop alone.
#[derive(Debug)]
pub(super) struct Entry {
    number: u64,
    peer: Peer,
    about: Mutex<About>,
    class: AtomicU8,
    worker: AtomicU64,
    last: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    cut_at: AtomicU64,
    attempt: AtomicU32,
}

/// What a request is about. The next one takes the place of the last, and of its text.
#[derive(Debug, Default)]
struct About {
    /// There is none while nothing is in flight.
    service: Option<ServiceName>,
    request_id: Option<RequestId>,
    method: Method,
    path: String,
    /// When its head was complete.
    began: u64,
}

/// What a request that begins is about.
pub(super) struct Begun<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) request_id: &'a RequestId,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    /// When its head was complete.
    pub(super) at: u64,
}

impl Registry {
    /// A new connection.
    pub(super) fn enter(&self, peer: Peer) -> Arc<Entry> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry::new(number, peer));
        self.clients.insert(number, Arc::clone(&entry));
        entry
    }

    /// The number of the connection that comes next.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// A connection is closed.
    pub(super) fn leave(&self, entry: &Entry) {
        self.clients.remove(&entry.number);
    }

    /// What is in flight, oldest first, as many as one answer may list.
    pub(super) fn exchanges(&self, clock: &Clock) -> Vec<Exchange> {
        let now = clock.now();
        let in_flight = self.clients.iter().filter_map(|entry| entry.show(now));
        let mut all: Vec<_> = in_flight.collect();
        all.sort_by_key(|exchange| std::cmp::Reverse(exchange.age));
        all.truncate(MAX_EXCHANGES);
        all
    }
}

impl Entry {
    fn new(number: u64, peer: Peer) -> Self {
        Self {
            number,
            peer,
            about: Mutex::default(),
            class: AtomicU8::new(class_number(Class::Plain)),
            worker: AtomicU64::new(NO_WORKER),
            last: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            cut_at: AtomicU64::new(NO_CUT),
            attempt: AtomicU32::new(1),
        }
    }

    /// Unique in the plane.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// A request's head is complete.
    pub(super) fn begin(&self, begun: &Begun<'_>) {
        let path = begun.path;
        let end = (0..=MAX_PATH.min(path.len()))
            .rev()
            .find(|end| path.is_char_boundary(*end))
            .unwrap_or(0);
        let mut about = self.about();
        about.service = Some(begun.service.clone());
        about.request_id = Some(begun.request_id.clone());
        about.method = begun.method.clone();
        about.path.clear();
        about.path.push_str(&path[..end]);
        about.began = begun.at;
        self.set_class(Class::Plain);
        self.set_worker(None);
        self.set_moved((0, 0), begun.at);
        self.set_cut_at(None);
        self.set_attempt(1);
    }

    /// Nothing is in flight any more.
    pub(super) fn end(&self) {
        self.about().service = None;
    }

    fn about(&self) -> MutexGuard<'_, About> {
        self.about.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its class.
    pub(super) fn class(&self) -> Class {
        class_of(self.class.load(Ordering::Relaxed))
    }

    /// It is something else now.
    pub(super) fn set_class(&self, class: Class) {
        self.class.store(class_number(class), Ordering::Relaxed);
    }

    /// Who has it.
    pub(super) fn set_worker(&self, worker: Option<WorkerId>) {
        self.worker
            .store(worker.map_or(NO_WORKER, |id| id.0), Ordering::Relaxed);
    }

    /// Which try it is.
    pub(super) fn set_attempt(&self, attempt: u32) {
        self.attempt.store(attempt, Ordering::Relaxed);
    }

    /// Which try it is.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed)
    }

    /// When it will be cut.
    pub(super) fn set_cut_at(&self, at: Option<u64>) {
        self.cut_at.store(at.unwrap_or(NO_CUT), Ordering::Relaxed);
    }

    /// So many bytes of bodies came from the client and went to it, the last of them now.
    pub(super) fn set_moved(&self, (bytes_in, bytes_out): (u64, u64), now: u64) {
        self.bytes_in.store(bytes_in, Ordering::Relaxed);
        self.bytes_out.store(bytes_out, Ordering::Relaxed);
        self.last.store(now, Ordering::Relaxed);
    }

    /// When bytes last moved.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Its request as people see it, if it has one.
    fn show(&self, now: u64) -> Option<Exchange> {
        let about = self.about();
        let service = about.service.clone()?;
        let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
        let worker = self.worker.load(Ordering::Relaxed);
        let cut_at = self.cut_at.load(Ordering::Relaxed);
        Some(Exchange {
            service,
            worker: (worker != NO_WORKER).then_some(WorkerId(worker)),
            request_id: about.request_id.as_ref()?.as_str().to_owned(),
            class: self.class(),
            method: about.method.as_str().to_owned(),
            path: about.path.clone(),
            client: self.peer.to_string(),
            age: since(about.began),
            idle: since(self.last()),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            cut_in: (cut_at != NO_CUT).then(|| Duration::from_millis(cut_at.saturating_sub(now))),
            attempt: self.attempt.load(Ordering::Relaxed),
        })
    }
}

fn class_number(class: Class) -> u8 {
    match class {
        Class::Plain => 0,
        Class::Upload => 1,
        Class::Stream => 2,
        Class::Tunnel => 3,
        Class::Parked => 4,
    }
}

fn class_of(number: u8) -> Class {
    match number {
        1 => Class::Upload,
        2 => Class::Stream,
        3 => Class::Tunnel,
        4 => Class::Parked,
        _ => Class::Plain,
    }
}
