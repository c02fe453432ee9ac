//! A bounded list of numbered things that readers can follow: events and worker output.
//!
//! The writer never waits for a reader. A reader that is too slow sees a gap in the numbers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// A feed's shared end; clones are the same feed.
#[derive(Debug)]
pub struct Feed<T> {
    inner: Arc<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    ring: Mutex<Ring<T>>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring<T> {
    items: VecDeque<(u64, T)>,
    capacity: usize,
    next: u64,
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T: Clone> Feed<T> {
    /// An empty feed that keeps the last `capacity` things. Numbers begin at 1.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let ring = Ring {
            items: VecDeque::new(),
            capacity,
            next: 1,
        };
        Self {
            inner: Arc::new(Inner {
                ring: Mutex::new(ring),
                newest: watch::Sender::new(0),
            }),
        }
    }

    /// Adds one thing and returns its number.
    pub fn push(&self, item: T) -> u64 {
        let number = {
            let mut ring = self.ring();
            let number = ring.next;
            ring.next += 1;
            if ring.items.len() == ring.capacity {
                ring.items.pop_front();
            }
            ring.items.push_back((number, item));
            number
        };
        self.inner.newest.send_replace(number);
        number
    }

    /// Everything kept that came after `number`, oldest first; `after(0)` is all.
    #[must_use]
    pub fn after(&self, number: u64) -> Vec<(u64, T)> {
        self.ring()
            .items
            .iter()
            .filter(|(n, _)| *n > number)
            .cloned()
            .collect()
    }

    /// The newest number, 0 if there was none yet.
    #[must_use]
    pub fn newest(&self) -> u64 {
        *self.inner.newest.borrow()
    }

    /// Waits until there is something after `number`; returns at once if there is.
    pub async fn changed_since(&self, number: u64) {
        let mut newest = self.inner.newest.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = newest.wait_for(|n| *n > number).await;
    }

    fn ring(&self) -> MutexGuard<'_, Ring<T>> {
        // A panic while the lock was held leaves a whole ring: each push is complete or not begun.
        self.inner
            .ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Feed;

    #[test]
    fn the_oldest_goes_when_the_feed_is_full() {
        let feed = Feed::new(2);
        for item in ["a", "b", "c"] {
            feed.push(item);
        }
        assert_eq!(feed.after(0), [(2, "b"), (3, "c")]);
        assert_eq!(feed.after(2), [(3, "c")]);
        assert_eq!(feed.newest(), 3);
    }

    #[tokio::test]
    async fn a_reader_wakes_when_something_comes() {
        let feed = Feed::new(2);
        let reader = feed.clone();
        let waits = tokio::spawn(async move {
            reader.changed_since(0).await;
            reader.after(0)
        });
        feed.push(7);
        assert_eq!(waits.await.expect("no panic"), [(1, 7)]);
    }
}
