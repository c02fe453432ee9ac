//! What workers print: always read, so that no worker ever waits for us (F66), cut into lines, kept, shown.
//!
//! A worker that prints more than its quota is still read at full speed, but its lines are counted instead
//! of shown; the tail keeps the newest ones all the same, because the last words before a crash matter most.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::console::{Console, Stream};
use super::text::escape;
use crate::feed::Feed;
use crate::wire::LogLine;

/// Bytes read in one turn of the loop: what a pipe holds.
const READ: usize = 64 << 10;
/// Longest line shown.
const LINE: usize = 8 << 10;
/// Lines kept of each worker.
const TAIL: usize = 200;
/// Lines of one read kept for the tail when the worker is over its quota.
const TAIL_OF_READ: usize = 20;
/// How often the quota begins anew.
const WINDOW: Duration = Duration::from_millis(100);
/// Lines of one pipe in one window: 20,000 a second.
const WINDOW_LINES: u32 = 2_000;
/// Bytes of one pipe in one window: 5 MiB a second.
const WINDOW_BYTES: usize = 512 << 10;

/// Whose output it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The service.
    pub service: String,
    /// The slot.
    pub slot: u32,
    /// The generation.
    pub generation: u64,
    /// The pid.
    pub pid: u32,
}

/// One worker's output while it is read. Dropping it does not stop the reading, which goes on until all who
/// hold the pipes are gone; [`Output::stop`] does.
#[derive(Debug)]
pub struct Output {
    tail: Tail,
    readers: [JoinHandle<()>; 2],
}

type Tail = Arc<Mutex<VecDeque<String>>>;

impl Output {
    /// Begins to read both pipes. Must be called within a runtime.
    #[must_use]
    pub fn follow(
        source: &Source,
        stdout: pipe::Receiver,
        stderr: pipe::Receiver,
        feed: &Feed<(String, LogLine)>,
        console: &Console,
    ) -> Self {
        let tail = Tail::default();
        let reader = |stream, pipe| {
            let lines = Lines {
                tag: format!(
                    "[{}/{} g{}] ",
                    source.service, source.slot, source.generation
                ),
                source: source.clone(),
                stream,
                feed: feed.clone(),
                console: console.clone(),
                tail: Arc::clone(&tail),
                partial: Vec::new(),
                is_cut: false,
                quota: Quota::new(),
            };
            tokio::spawn(read(pipe, lines))
        };
        let readers = [reader(Stream::Out, stdout), reader(Stream::Error, stderr)];
        Self { tail, readers }
    }

    /// The last lines of both pipes, oldest first, at most 200.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().cloned().collect()
    }

    /// Waits until nobody can write any more and everything is read, at most `limit`: a process that the
    /// worker left behind may hold the pipes for ever.
    pub async fn ended(&mut self, limit: Duration) {
        let [out, error] = &mut self.readers;
        let both = async {
            // A reader ends by itself; that it was stopped is as good an end.
            let _ = out.await;
            let _ = error.await;
        };
        let _ = tokio::time::timeout(limit, both).await;
    }

    /// Whether both pipes came to their end.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.readers.iter().all(JoinHandle::is_finished)
    }

    /// Stops reading: when nothing of the worker is left.
    pub fn stop(&self) {
        for reader in &self.readers {
            reader.abort();
        }
    }
}

/// Reads a pipe to its end, one bounded turn after the other.
async fn read(mut pipe: pipe::Receiver, mut lines: Lines) {
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
struct Lines {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::fcntl::OFlag;
    use tokio::io::AsyncWriteExt;
    use tokio::net::unix::pipe;

    use super::{LINE, Output, Source, TAIL};
    use crate::feed::Feed;
    use crate::metrics::LogStream;
    use crate::supervisor::console::Console;
    use crate::wire::LogLine;

    struct Rig {
        output: Output,
        feed: Feed<(String, LogLine)>,
        stdout: pipe::Sender,
    }

    fn rig(console: &Console) -> Rig {
        let pipe = || {
            let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("pipe");
            let ours = pipe::Receiver::from_owned_fd(ours).expect("receiver");
            (ours, pipe::Sender::from_owned_fd(theirs).expect("sender"))
        };
        let ((stdout, out_end), (stderr, _closed)) = (pipe(), pipe());
        let feed = Feed::new(10_000);
        let source = Source {
            service: "app".into(),
            slot: 0,
            generation: 2,
            pid: 7,
        };
        let output = Output::follow(&source, stdout, stderr, &feed, console);
        Rig {
            output,
            feed,
            stdout: out_end,
        }
    }

    fn silent() -> Console {
        Console::with(std::io::sink(), std::io::sink()).expect("starts")
    }

    async fn all(mut rig: Rig) -> (Vec<String>, Vec<String>) {
        drop(rig.stdout);
        rig.output.ended(Duration::from_secs(30)).await;
        assert!(rig.output.is_ended());
        let lines = rig
            .feed
            .after(0)
            .into_iter()
            .map(|(_, (_, line))| line.line);
        (lines.collect(), rig.output.tail())
    }

    #[tokio::test]
    async fn t19_lines_are_cut_escaped_and_kept() {
        let mut rig = rig(&silent());
        let mut text = b"one\r\n\x1b[31mred\n\nlast".to_vec();
        text.splice(0..0, [b'x'; LINE + 5].into_iter().chain([b'\n']));
        rig.stdout.write_all(&text).await.expect("write");
        let (lines, tail) = all(rig).await;
        assert_eq!(lines, tail);
        assert_eq!(lines[0], format!("{} […]", "x".repeat(LINE)));
        assert_eq!(&lines[1..], ["one", "\\u{1b}[31mred", "", "last"]);
    }

    #[tokio::test]
    async fn the_tail_keeps_the_newest_lines() {
        let mut rig = rig(&silent());
        let text: String = (0..1000).map(|number| format!("{number}\n")).collect();
        rig.stdout.write_all(text.as_bytes()).await.expect("write");
        let (lines, tail) = all(rig).await;
        assert_eq!((lines.len(), tail.len()), (1000, TAIL));
        assert_eq!(tail.last().map(String::as_str), Some("999"));
    }

    #[tokio::test]
    async fn row66_a_flood_is_read_at_once_counted_and_its_last_words_kept() {
        // Nobody reads our own output either.
        let (_stalled, out) = std::os::unix::net::UnixStream::pair().expect("socket pair");
        let console = Console::with(out, std::io::sink()).expect("starts");
        let mut rig = rig(&console);
        let chunk = "a line of the flood that nobody will ever read to its end\n".repeat(1000);
        let total = 100_000_000 / chunk.len();
        for _ in 0..total {
            rig.stdout.write_all(chunk.as_bytes()).await.expect("write");
        }
        rig.stdout.write_all(b"last words\n").await.expect("write");
        let (lines, tail) = all(rig).await;
        assert_eq!(tail.last().map(String::as_str), Some("last words"));
        assert!(lines.len() <= 10_000);
        assert!(lines.iter().any(|line| line.contains("lines not shown")));
        assert!(console.dropped(LogStream::Stdout) > 1_000_000);
        assert_eq!(console.dropped(LogStream::Own), 0);
    }

    #[tokio::test]
    async fn row66_what_was_missed_is_said_also_if_nothing_more_comes() {
        let mut rig = rig(&silent());
        let flood = "a line of the flood\n".repeat(20_000);
        let write = rig.stdout.write_all(flood.as_bytes());
        write.await.expect("write");
        let said = async {
            let is_said = |line: &LogLine| line.line.contains("lines not shown");
            while !rig.feed.after(0).iter().any(|(_, (_, line))| is_said(line)) {
                tokio::task::yield_now().await;
            }
        };
        let said = tokio::time::timeout(Duration::from_secs(10), said).await;
        assert!(said.is_ok(), "while the pipe is still open");
    }
}
