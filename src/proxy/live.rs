//! What is in flight now, for people to look at, and the clock all of it is measured by.
//!
//! The map is written when a client connects or leaves; a request only puts itself into its
//! connection's entry. Private to this module; what leaves it are copies.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use http::Method;

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

/// One client connection's entry.
#[derive(Debug)]
pub(super) struct Entry {
    number: u64,
    peer: Peer,
    live: Mutex<Option<Arc<Live>>>,
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) service: ServiceName,
    pub(super) request_id: Arc<str>,
    pub(super) method: Method,
    pub(super) path: String,
    /// When its head was complete.
    pub(super) began: u64,
    class: AtomicU8,
    worker: AtomicU64,
    last: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    cut_at: AtomicU64,
    attempt: AtomicU32,
}

impl Registry {
    /// A new connection.
    pub(super) fn enter(&self, peer: Peer) -> Arc<Entry> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            number,
            peer,
            live: Mutex::new(None),
        });
        self.clients.insert(number, Arc::clone(&entry));
        entry
    }

    /// A connection is closed.
    pub(super) fn leave(&self, entry: &Entry) {
        self.clients.remove(&entry.number);
    }

    /// What is in flight, oldest first, as many as one answer may list.
    pub(super) fn exchanges(&self, clock: &Clock) -> Vec<Exchange> {
        let now = clock.now();
        let mut all: Vec<_> = self
            .clients
            .iter()
            .filter_map(|entry| {
                let live = entry.live()?;
                Some((live, entry.peer.to_string()))
            })
            .collect();
        all.sort_by_key(|(live, _)| live.began);
        all.truncate(MAX_EXCHANGES);
        all.into_iter()
            .map(|(live, client)| live.show(client, now))
            .collect()
    }
}

impl Entry {
    /// Unique in the plane.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Shows a request, or none.
    pub(super) fn set(&self, live: Option<Arc<Live>>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    fn live(&self) -> Option<Arc<Live>> {
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Live {
    /// A request whose head is complete.
    pub(super) fn new(
        service: ServiceName,
        request_id: Arc<str>,
        method: &Method,
        path: &str,
        now: u64,
    ) -> Arc<Self> {
        let end = (0..=MAX_PATH.min(path.len()))
            .rev()
            .find(|end| path.is_char_boundary(*end))
            .unwrap_or(0);
        Arc::new(Self {
            service,
            request_id,
            method: method.clone(),
            path: path[..end].to_owned(),
            began: now,
            class: AtomicU8::new(class_number(Class::Plain)),
            worker: AtomicU64::new(NO_WORKER),
            last: AtomicU64::new(now),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            cut_at: AtomicU64::new(NO_CUT),
            attempt: AtomicU32::new(1),
        })
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

    /// Bytes moved in either direction.
    pub(super) fn progress(&self, bytes_in: u64, bytes_out: u64, now: u64) {
        // One loop alone writes, so plain additions do.
        let add = |sum: &AtomicU64, by: u64| {
            if by > 0 {
                sum.store(sum.load(Ordering::Relaxed) + by, Ordering::Relaxed);
            }
        };
        add(&self.bytes_in, bytes_in);
        add(&self.bytes_out, bytes_out);
        self.last.store(now, Ordering::Relaxed);
    }

    /// When bytes last moved.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Body bytes from the client, and to it.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (
            self.bytes_in.load(Ordering::Relaxed),
            self.bytes_out.load(Ordering::Relaxed),
        )
    }

    fn show(&self, client: String, now: u64) -> Exchange {
        let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
        let worker = self.worker.load(Ordering::Relaxed);
        let cut_at = self.cut_at.load(Ordering::Relaxed);
        let (bytes_in, bytes_out) = self.bytes();
        Exchange {
            service: self.service.clone(),
            worker: (worker != NO_WORKER).then_some(WorkerId(worker)),
            request_id: self.request_id.to_string(),
            class: self.class(),
            method: self.method.as_str().to_owned(),
            path: self.path.clone(),
            client,
            age: since(self.began),
            idle: since(self.last()),
            bytes_in,
            bytes_out,
            cut_in: (cut_at != NO_CUT).then(|| Duration::from_millis(cut_at.saturating_sub(now))),
            attempt: self.attempt.load(Ordering::Relaxed),
        }
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
