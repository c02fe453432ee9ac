//! Requests that wait while nobody can answer: first in, first out, woken by each new table.
//!
//! The limits hold for the whole plane; each loop keeps its own line, in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::link::message::Parking;

/// What is parked in all loops.
#[derive(Debug, Default)]
pub(super) struct Lot {
    requests: AtomicU32,
    bytes: AtomicU64,
}

/// One loop's line.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: RefCell<VecDeque<Rc<Notify>>>,
}

/// A place in the lot, given back when dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    lot: &'a Lot,
    bytes: u64,
}

impl Lot {
    /// A place for a request of so many bytes, if the limits allow it.
    pub(super) fn enter(&self, bytes: u64, rules: &Parking) -> Option<Place<'_>> {
        let requests = self.requests.fetch_add(1, Ordering::AcqRel) + 1;
        let held = self.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let place = Place { lot: self, bytes };
        (requests <= rules.max_requests && held <= rules.max_bytes).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lot.requests.fetch_sub(1, Ordering::AcqRel);
        self.lot.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Line {
    /// Waits behind all others for the next table.
    pub(super) async fn wait(&self) {
        let turn = Rc::new(Notify::new());
        self.waiting.borrow_mut().push_back(Rc::clone(&turn));
        let _leave = Leave {
            line: self,
            turn: &turn,
        };
        turn.notified().await;
    }

    /// A new table: everybody may try, the first one first.
    pub(super) fn wake(&self) {
        for turn in self.waiting.borrow_mut().drain(..) {
            turn.notify_one();
        }
    }
}

/// Takes one that gave up waiting out of the line.
struct Leave<'a> {
    line: &'a Line,
    turn: &'a Rc<Notify>,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting.borrow_mut();
        waiting.retain(|other| !Rc::ptr_eq(other, self.turn));
    }
}
