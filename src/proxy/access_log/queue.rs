//! Between the loops and the writer: whole buffers, in order, at most so many. Who puts one in never
//! waits for the writer; what finds no place is dropped and its lines counted.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A buffer of so many bytes is handed over: more than a hundred lines, one write. Half as much costs a
/// file system a quarter more for each line, and twice as many turns of the writer.
pub(super) const FULL: usize = 64 << 10;
/// Buffers that may wait. Small ones are put together, so two neighbours hold more than one full one, and
/// it is 2 MiB at least before anything is dropped: a tenth of a second of the most a plane can log.
const WAITING: usize = 64;
/// Empty buffers kept for the loops.
const SPARE: usize = 8;

/// Whole lines.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) text: Vec<u8>,
    pub(super) lines: u64,
}

/// What the writer is to do next.
#[derive(Debug)]
pub(super) enum Job {
    /// Write these.
    Write(Lines),
    /// Write to this file from now on.
    Turn(File),
}

/// The queue.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    waiting: usize,
    spare: Vec<Vec<u8>>,
    closed: bool,
    ended: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole after each step, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a buffer for the writer and gives an empty one.
    pub(super) fn put(&self, mut lines: Lines) -> Vec<u8> {
        let mut state = self.lock();
        if let Some(Job::Write(last)) = state.jobs.back_mut()
            && last.text.len() + lines.text.len() <= FULL
        {
            last.text.extend_from_slice(&lines.text);
            last.lines += lines.lines;
            lines.text.clear();
            return lines.text;
        }
        if state.closed || state.waiting >= WAITING {
            drop(state);
            self.count_dropped(lines.lines);
            lines.text.clear();
            return lines.text;
        }
        let empty = state.spare.pop();
        state.waiting += 1;
        state.jobs.push_back(Job::Write(lines));
        drop(state);
        self.changed.notify_all();
        empty.unwrap_or_else(|| Vec::with_capacity(FULL))
    }

    /// What was put in before goes to the old file, what comes later to this one.
    pub(super) fn turn(&self, file: File) {
        self.lock().jobs.push_back(Job::Turn(file));
        self.changed.notify_all();
    }

    /// The writer's next job; `None` when the queue is closed and empty.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                if matches!(job, Job::Write(_)) {
                    state.waiting -= 1;
                }
                return Some(job);
            }
            if state.closed {
                return None;
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A buffer was written.
    pub(super) fn give_back(&self, mut text: Vec<u8>) {
        let mut state = self.lock();
        // One that grew for a long line is not kept.
        if state.spare.len() < SPARE && text.capacity() <= 2 * FULL {
            text.clear();
            state.spare.push(text);
        }
    }

    /// Lines that nobody will read.
    pub(super) fn count_dropped(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// How many those are.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The writer has ended.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Takes nothing more, and waits until the writer has written all, but not longer than `limit`.
    pub(super) fn close(&self, limit: Duration) {
        let mut state = self.lock();
        state.closed = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, limit, |s| !s.ended);
        drop(waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: usize, lines: u64) -> Lines {
        Lines {
            text: vec![b'x'; bytes],
            lines,
        }
    }

    #[test]
    fn what_finds_no_place_is_dropped_and_its_lines_are_counted() {
        let queue = Queue::default();
        for _ in 0..WAITING {
            queue.put(lines(FULL, 3));
        }
        assert_eq!(queue.dropped(), 0);
        assert!(
            queue.put(lines(FULL, 5)).capacity() >= FULL,
            "and given back"
        );
        assert_eq!(queue.dropped(), 5);
        assert!(matches!(
            queue.next(),
            Some(Job::Write(Lines { lines: 3, .. }))
        ));
        queue.put(lines(FULL, 1));
        assert_eq!(queue.dropped(), 5);
    }

    #[test]
    fn small_buffers_are_put_together_and_take_one_place() {
        let queue = Queue::default();
        for _ in 0..10 * WAITING {
            assert!(queue.put(lines(20, 1)).is_empty());
        }
        assert_eq!(queue.dropped(), 0);
        let Some(Job::Write(first)) = queue.next() else {
            panic!("lines");
        };
        assert_eq!(
            (first.text.len(), first.lines),
            (10 * WAITING * 20, 10 * WAITING as u64)
        );
    }

    #[test]
    fn a_turn_stands_between_what_came_before_and_after() {
        let queue = Queue::default();
        queue.put(lines(1, 1));
        queue.turn(File::open("/dev/null").expect("open"));
        queue.put(lines(2, 1));
        queue.close(Duration::ZERO);
        queue.put(lines(FULL, 7));
        assert_eq!(queue.dropped(), 7, "it is closed");
        assert!(matches!(queue.next(), Some(Job::Write(Lines { text, .. })) if text.len() == 1));
        assert!(matches!(queue.next(), Some(Job::Turn(_))));
        assert!(matches!(queue.next(), Some(Job::Write(Lines { text, .. })) if text.len() == 2));
        assert!(queue.next().is_none());
    }
}
