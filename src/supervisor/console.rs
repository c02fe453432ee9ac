//! Our own stdout and stderr, for our log and for the workers' lines. One thread writes; everybody else
//! puts lines in a bounded queue and goes on. If our reader stalls, lines are dropped and counted, and the
//! first thing it sees when it reads again is how many (F66). Nobody ever waits for it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::metrics::LogStream;

/// Lines that may wait. A worker's line has at most 8 KiB, so this is at most some 32 MiB, usually below one.
const QUEUE: usize = 4096;
/// Bytes put together into one write. A pipe takes so many at once and whole (`PIPE_BUF` of Linux), and a
/// plane may write its access log to the same one.
const BATCH: usize = 4096;

/// Which of our outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Stdout.
    Out,
    /// Stderr.
    Error,
}

impl Stream {
    fn of_worker(self) -> LogStream {
        match self {
            Self::Out => LogStream::Stdout,
            Self::Error => LogStream::Stderr,
        }
    }
}

/// The queue's end for writers; clones are the same console.
#[derive(Debug, Clone)]
pub struct Console {
    queue: SyncSender<Item>,
    dropped: Arc<Dropped>,
}

/// Lines that nobody gets to see.
#[derive(Debug, Default)]
struct Dropped {
    /// For want of room in the queue, not told to the reader yet.
    untold: AtomicU64,
    /// All, by whose they were.
    stdout: AtomicU64,
    stderr: AtomicU64,
    own: AtomicU64,
}

impl Dropped {
    fn of(&self, whose: LogStream) -> &AtomicU64 {
        match whose {
            LogStream::Stdout => &self.stdout,
            LogStream::Stderr => &self.stderr,
            LogStream::Own => &self.own,
        }
    }
}

#[derive(Debug)]
enum Item {
    Line(Stream, Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

impl Console {
    /// Starts the writer on our own stdout and stderr. It ends when the last clone is gone.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start() -> io::Result<Self> {
        Self::with(io::stdout(), io::stderr())
    }

    /// The same on other outputs.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn with(
        out: impl Write + Send + 'static,
        error: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let dropped = Arc::new(Dropped::default());
        let missing = Arc::clone(&dropped);
        thread::Builder::new()
            .name("console".into())
            .spawn(move || write_all(&lines, &missing.untold, out, error))?;
        Ok(Self { queue, dropped })
    }

    /// Puts one line of ours, newline included, in the queue, or drops and counts it.
    pub fn write(&self, stream: Stream, line: Vec<u8>) {
        self.put(LogStream::Own, stream, line);
    }

    /// The same for a line that a worker wrote to this one of its outputs.
    pub fn write_of_worker(&self, stream: Stream, line: Vec<u8>) {
        self.put(stream.of_worker(), stream, line);
    }

    /// Lines of a worker that were too many to be put here.
    pub fn missed(&self, stream: Stream, lines: u64) {
        let dropped = self.dropped.of(stream.of_worker());
        dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// How many lines were dropped since the start.
    #[must_use]
    pub fn dropped(&self, whose: LogStream) -> u64 {
        self.dropped.of(whose).load(Ordering::Relaxed)
    }

    fn put(&self, whose: LogStream, stream: Stream, line: Vec<u8>) {
        if self.queue.try_send(Item::Line(stream, line)).is_err() {
            self.dropped.untold.fetch_add(1, Ordering::Relaxed);
            self.dropped.of(whose).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything so far is written, at most `limit`: for the very end of the program.
    pub fn flush(&self, limit: Duration) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            let _: Result<(), RecvTimeoutError> = wait.recv_timeout(limit);
        }
    }
}

/// For the tracing layer: one event, one line on stderr.
impl<'a> MakeWriter<'a> for Console {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter {
            console: self.clone(),
            line: Vec::new(),
        }
    }
}

/// Collects what is written and sends it as one line when it is dropped.
#[derive(Debug)]
pub struct LineWriter {
    console: Console,
    line: Vec<u8>,
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.console
                .write(Stream::Error, std::mem::take(&mut self.line));
        }
    }
}

/// The writer thread: ends when all consoles are gone. A closed output is no reason to end, because the
/// other one may be read.
fn write_all(
    lines: &Receiver<Item>,
    dropped: &AtomicU64,
    mut out: impl Write,
    mut error: impl Write,
) {
    let mut batch = (Stream::Error, Vec::new());
    let mut write = |batch: &mut (Stream, Vec<u8>)| {
        let bytes = std::mem::take(&mut batch.1);
        // A reader that is gone takes nothing, and that is its right.
        let _ = match batch.0 {
            Stream::Out => out.write_all(&bytes).and_then(|()| out.flush()),
            Stream::Error => error.write_all(&bytes).and_then(|()| error.flush()),
        };
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = writeln!(
                error,
                "remuda: {missing} lines dropped here, because our output was not read"
            );
        }
    };
    loop {
        let item = match lines.try_recv() {
            Ok(item) => item,
            Err(TryRecvError::Empty) => {
                write(&mut batch);
                let Ok(item) = lines.recv() else {
                    return;
                };
                item
            }
            Err(TryRecvError::Disconnected) => {
                write(&mut batch);
                return;
            }
        };
        match item {
            Item::Line(stream, line) => {
                if batch.0 != stream || batch.1.len() + line.len() > BATCH {
                    write(&mut batch);
                }
                batch.0 = stream;
                batch.1.extend(line);
            }
            Item::Flush(done) => {
                write(&mut batch);
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::{Console, QUEUE, Stream};
    use crate::metrics::LogStream;

    #[test]
    fn lines_arrive_in_order() {
        let (mut reader, out) = UnixStream::pair().expect("socket pair");
        let console = Console::with(out, std::io::sink()).expect("starts");
        for number in 0..100 {
            console.write(Stream::Out, format!("{number}\n").into_bytes());
        }
        drop(console);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn row66_a_reader_that_stalls_costs_lines_and_not_time() {
        let (mut reader, out) = UnixStream::pair().expect("socket pair");
        let error = out.try_clone().expect("clone");
        let console = Console::with(out, error).expect("starts");
        let line = [b'x'; 1023];
        for _ in 0..3 * QUEUE {
            let mut line = line.to_vec();
            line.push(b'\n');
            console.write(Stream::Out, line);
        }
        let dropped = console.dropped(LogStream::Own);
        assert!(dropped > 0, "the queue is bounded");
        console.flush(Duration::from_millis(1));
        drop(console);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        // More than once, if something was written meanwhile.
        let told = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("remuda: ")?;
            rest.split(' ').next()?.parse::<u64>().ok()
        });
        assert_eq!(told.sum::<u64>(), dropped);
    }

    #[test]
    fn row66_what_was_told_to_the_reader_stays_counted_by_whose_it_was() {
        let (mut reader, out) = UnixStream::pair().expect("socket pair");
        let error = out.try_clone().expect("clone");
        let console = Console::with(out, error).expect("starts");
        let line = [b'x'; 1023];
        for _ in 0..3 * QUEUE {
            console.write_of_worker(Stream::Error, line.to_vec());
        }
        console.missed(Stream::Out, 7);
        let dropped = console.dropped(LogStream::Stderr);
        let counts = console.clone();
        drop(console);
        let reading = std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            let mut text = String::new();
            while !text.contains("lines dropped") {
                let length = reader.read(&mut bytes).expect("read");
                text.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        reading.join().expect("it is told");
        let counted = |whose| counts.dropped(whose);
        assert!(dropped > 0);
        assert_eq!(counted(LogStream::Stderr), dropped);
        assert_eq!(counted(LogStream::Stdout), 7);
        assert_eq!(counted(LogStream::Own), 0);
    }

    #[test]
    fn one_event_is_one_line() {
        use tracing_subscriber::fmt::MakeWriter;
        let (mut reader, error) = UnixStream::pair().expect("socket pair");
        let console = Console::with(std::io::sink(), error).expect("starts");
        let mut writer = console.make_writer();
        writer.write_all(b"half ").expect("write");
        writer.write_all(b"whole\n").expect("write");
        drop(writer);
        drop(console);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "half whole\n");
    }
}
