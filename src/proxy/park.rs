//! Requests that wait while nobody can answer: first in, first out, woken by each new table.
//!
//! The limits hold for the whole plane; each loop keeps its own line, in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::link::message::Parking;

/// Of the requests that every worker has failed one is offered again after so long: long enough that a dead
/// worker is not stormed, short enough that its restart is noticed.
pub(super) const OFFER_AGAIN: Duration = Duration::from_millis(100);

/// Sends one of those that wait to look whether workers that refused take requests again: one at a time of a
/// service and loop, however many wait, and not each of them (F49). Once it is in, all are called.
#[derive(Debug, Default)]
pub(super) struct Scouts {
    last: Cell<Option<Instant>>,
}

impl Scouts {
    /// Whether who asks is the one that goes now.
    pub(super) fn goes(&self, now: Instant) -> bool {
        let due = self.last.get().is_none_or(|last| last + OFFER_AGAIN <= now);
        if due {
            self.last.set(Some(now));
        }
        due
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f49_one_scout_goes_at_a_time_however_many_wait() {
        let (scouts, begin) = (Scouts::default(), Instant::now());
        let mut gone = 0;
        for tick in 0..100 {
            let now = begin + OFFER_AGAIN / 10 * tick;
            gone += (0..500).filter(|_| scouts.goes(now)).count();
        }
        assert_eq!(gone, 10);
    }
}
