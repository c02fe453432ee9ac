//! Requests that wait because every worker of their generation has as many as it may have.
//!
//! One line for each generation, over all loops, first in first out. Only the first one looks for a place,
//! so nobody overtakes; whoever makes a place free calls it, and when it leaves, it calls the next one. A
//! generation has a line of its own because what waits for a full one must not raise another's share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::park::Lot;

/// A generation's line.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Its length, so that who has nobody to call needs no lock.
    waiting: AtomicU32,
    line: Mutex<Line>,
    lot: Arc<Lot>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    turns: BTreeMap<u64, Arc<Notify>>,
}

/// A place in a line, left when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    queue: Arc<Queue>,
    number: u64,
    called: Arc<Notify>,
}

impl Queue {
    /// An empty line within a service's bounds.
    pub(super) fn within(lot: Arc<Lot>) -> Arc<Self> {
        Arc::new(Self {
            lot,
            ..Self::default()
        })
    }

    /// What all lines of the service hold.
    pub(super) fn lot(&self) -> &Lot {
        &self.lot
    }

    /// Whether somebody waits, behind whom others must wait.
    pub(super) fn is_waited_in(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Goes to the line's end.
    pub(super) fn join(self: &Arc<Self>) -> Turn {
        let called = Arc::<Notify>::default();
        let mut line = self.line();
        let number = line.next;
        line.next += 1;
        line.turns.insert(number, Arc::clone(&called));
        self.waiting.fetch_add(1, Ordering::Relaxed);
        drop(line);
        // With the one in `place_is_free`: either we see the place that is being left, or who leaves it
        // sees us.
        fence(Ordering::SeqCst);
        Turn {
            queue: Arc::clone(self),
            number,
            called,
        }
    }

    /// Somebody has made a place free, or may have.
    pub(super) fn place_is_free(&self) {
        fence(Ordering::SeqCst);
        if self.is_waited_in() {
            self.line().call_first();
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // The line is whole after each step, so a panic elsewhere does not spoil it.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn call_first(&self) {
        if let Some((_, first)) = self.turns.first_key_value() {
            first.notify_one();
        }
    }
}

impl Turn {
    /// Whether it is its turn to look for a place.
    pub(super) fn has_come(&self) -> bool {
        let line = self.queue.line();
        line.turns
            .first_key_value()
            .is_some_and(|(number, _)| *number == self.number)
    }

    /// Resolves when it is worth a look; a call that came before is not lost.
    pub(super) async fn called(&self) {
        self.called.notified().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut line = self.queue.line();
        line.turns.remove(&self.number);
        self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
        // It may leave more than one free place behind, or one that it was called for and did not take.
        line.call_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called(turn: &Turn) -> bool {
        use futures_util::FutureExt;
        turn.called().now_or_never().is_some()
    }

    #[test]
    fn only_the_first_one_is_called() {
        let queue = Arc::<Queue>::default();
        let (first, second) = (queue.join(), queue.join());
        assert!(first.has_come() && !second.has_come());
        queue.place_is_free();
        assert!(is_called(&first) && !is_called(&second));
        drop(first);
        assert!(second.has_come() && is_called(&second));
    }

    #[test]
    fn a_call_is_passed_on_by_one_that_gives_up() {
        let queue = Arc::<Queue>::default();
        let (first, second, third) = (queue.join(), queue.join(), queue.join());
        queue.place_is_free();
        drop(second);
        drop(first);
        assert!(is_called(&third));
        assert!(queue.is_waited_in());
        drop(third);
        assert!(!queue.is_waited_in());
    }
}
