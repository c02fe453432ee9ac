//! One pipe's bytes on their way to lines: cut, escaped, kept for the tail, shown as far as the quota allows.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::Source;
use crate::feed::Feed;
use crate::supervisor::console::{Console, Stream};
use crate::supervisor::text::escape;
use crate::wire::LogLine;

/// Bytes read in one turn of the loop: what a pipe holds.
const READ: usize = 64 << 10;
/// Longest line shown.
pub(super) const LINE: usize = 8 << 10;
/// Lines kept of each worker.
pub(super) const TAIL: usize = 200;
/// Lines of one read kept for the tail when the worker is over its quota.
const TAIL_OF_READ: usize = 20;
/// How often the quota begins anew.
const WINDOW: Duration = Duration::from_millis(100);
/// Lines of one pipe in one window: 20,000 a second.
const WINDOW_LINES: u32 = 2_000;
/// Bytes of one pipe in one window: 5 MiB a second.
const WINDOW_BYTES: usize = 512 << 10;

/// The newest lines of one worker.
pub(super) type Tail = Arc<Mutex<VecDeque<String>>>;

/// Reads a pipe to its end, one bounded turn after the other.
pub(super) async fn read(mut pipe: pipe::Receiver, mut lines: Lines) {
    let mut bytes = vec![0; READ];
    loop {
        let limit = match lines.quota.missed {
            0 => Duration::MAX,
            // A worker that falls silent must not hide that lines of it are missing.
            _ => WINDOW,
        };
        let Ok(read) = tokio::time::timeout(limit, pipe.read(&mut bytes)).await else {
            lines.turn();
            continue;
        };
        match read {
            Ok(0) => break,
            Ok(length) => lines.take(&bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_broken) => break,
        }
        // A worker that always has more must not keep the others from their turn.
        tokio::task::yield_now().await;
    }
    lines.end();
}

/// One pipe's bytes on their way to lines.
pub(super) struct Lines {
    tag: String,
    source: Source,
    stream: Stream,
    feed: Feed<(String, LogLine)>,
    console: Console,
    tail: Tail,
    /// A line without its end yet, at most [`LINE`] bytes.
    partial: Vec<u8>,
    /// The line is longer than that; the rest is thrown away.
    is_cut: bool,
    quota: Quota,
}

impl Lines {
    /// Those of one pipe of a worker.
    pub(super) fn of(
        source: &Source,
        stream: Stream,
        feed: &Feed<(String, LogLine)>,
        console: &Console,
        tail: &Tail,
    ) -> Self {
        Self {
            tag: format!(
                "[{}/{} g{}] ",
                source.service, source.slot, source.generation
            ),
            source: source.clone(),
            stream,
            feed: feed.clone(),
            console: console.clone(),
            tail: Arc::clone(tail),
            partial: Vec::new(),
            is_cut: false,
            quota: Quota::new(),
        }
    }

    /// Begins a new window if the last is over, and says what was missed in that.
    fn turn(&mut self) {
        if let Some(missed) = self.quota.begin(Instant::now()) {
            self.say_missed(missed);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.turn();
        if self.quota.is_over() {
            self.skim(bytes);
            return;
        }
        self.quota.bytes += bytes.len();
        let at = now();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.extend(&rest[..end]);
            rest = &rest[end + 1..];
            self.complete(&at);
            if self.quota.is_over() {
                self.skim(rest);
                return;
            }
        }
        self.extend(rest);
    }

    /// Over the quota: only counts, and keeps the newest lines for the tail.
    fn skim(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            self.extend(bytes);
            return;
        };
        let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
        let missed = u64::try_from(ends).unwrap_or(u64::MAX);
        self.quota.missed += missed;
        self.console.missed(self.stream, missed);
        let newest: Vec<&[u8]> = bytes[..last]
            .rsplit(|byte| *byte == b'\n')
            .take(TAIL_OF_READ)
            .collect();
        for line in newest.into_iter().rev() {
            self.keep(escape(&line[..line.len().min(LINE)]));
        }
        self.partial.clear();
        self.is_cut = false;
        self.extend(&bytes[last + 1..]);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE - self.partial.len();
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.is_cut |= bytes.len() > room;
    }

    /// The line in `partial` is whole.
    fn complete(&mut self, at: &str) {
        self.quota.lines += 1;
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        let mut line = escape(line);
        if self.is_cut {
            line.push_str(" […]");
        }
        self.partial.clear();
        self.is_cut = false;
        self.keep(line.clone());
        self.show(at, line);
    }

    fn keep(&self, line: String) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }

    fn show(&self, at: &str, line: String) {
        self.console
            .write_of_worker(self.stream, format!("{}{line}\n", self.tag).into_bytes());
        let stream = match self.stream {
            Stream::Out => "stdout",
            Stream::Error => "stderr",
        };
        let line = LogLine {
            at: at.to_owned(),
            slot: self.source.slot,
            generation: self.source.generation,
            pid: self.source.pid,
            stream: stream.to_owned(),
            line,
        };
        self.feed.push((self.source.service.clone(), line));
    }

    fn say_missed(&self, missed: u64) {
        self.show(
            &now(),
            format!("[… {missed} lines not shown: too many at once]"),
        );
    }

    fn end(&mut self) {
        if !self.partial.is_empty() {
            self.complete(&now());
        }
        if self.quota.missed > 0 {
            self.say_missed(self.quota.missed);
        }
    }
}

/// How much of a pipe is shown in each window.
struct Quota {
    began: Instant,
    lines: u32,
    bytes: usize,
    missed: u64,
}

impl Quota {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            lines: 0,
            bytes: 0,
            missed: 0,
        }
    }

    /// Begins a new window if the last is over; returns what was missed in it.
    fn begin(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.began) < WINDOW {
            return None;
        }
        let missed = self.missed;
        *self = Self {
            began: now,
            ..Self::new()
        };
        (missed > 0).then_some(missed)
    }

    fn is_over(&self) -> bool {
        self.lines >= WINDOW_LINES || self.bytes >= WINDOW_BYTES
    }
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
