//! What workers print: always read, so that no worker ever waits for us (F66), cut into lines, kept, shown.
//!
//! A worker that prints more than its quota is still read at full speed, but its lines are counted instead
//! of shown; the tail keeps the newest ones all the same, because the last words before a crash matter most.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::console::{Console, Stream};
use crate::feed::Feed;
use crate::wire::LogLine;

mod lines;

use self::lines::{Lines, Tail, read};

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
            let lines = Lines::of(source, stream, feed, console, &tail);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::fcntl::OFlag;
    use tokio::io::AsyncWriteExt;
    use tokio::net::unix::pipe;

    use super::lines::{LINE, TAIL};
    use super::{Output, Source};
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
