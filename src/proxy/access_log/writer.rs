//! The thread that writes the lines of all loops. It may be held up for as long as its file pleases.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use memchr::{memchr_iter, memrchr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::queue::{Job, Queue};

/// How long the last lines may take when the plane ends: a reader that has stopped is not waited for.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Longest write to a pipe that no other writer can come between (`PIPE_BUF` of Linux).
const ATOMIC: usize = 4096;

/// The writer of a plane. Dropping it writes what was handed over.
#[derive(Debug)]
pub(in crate::proxy) struct Writer {
    queue: Arc<Queue>,
}

impl Writer {
    /// Starts it on a file.
    ///
    /// # Errors
    /// There is no thread.
    pub(in crate::proxy) fn start(file: File) -> io::Result<Self> {
        let queue = Arc::<Queue>::default();
        let theirs = Arc::clone(&queue);
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                write_all(&theirs, Output::new(file));
                theirs.end();
            })?;
        Ok(Self { queue })
    }

    /// The loops' end.
    pub(in crate::proxy) fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// What is handed over from now on goes to this file.
    pub(in crate::proxy) fn turn(&self, file: File) {
        self.queue.turn(file);
    }

    /// Lines that were lost, because the file took none or was too slow.
    pub(in crate::proxy) fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close(LAST_LINES);
    }
}

fn write_all(queue: &Queue, mut output: Output<File>) {
    while let Some(job) = queue.next() {
        match job {
            Job::Turn(file) => output = Output::new(file),
            Job::Write(lines) => {
                let lost = output.write(&lines.text);
                queue.count_dropped(lost);
                queue.give_back(lines.text);
            }
        }
    }
}

/// A file, and what is known of it.
#[derive(Debug)]
struct Output<F> {
    file: F,
    /// Most bytes of one write.
    most: usize,
    /// The last line in it has no end.
    torn: bool,
    warned: bool,
}

impl Output<File> {
    fn new(file: File) -> Self {
        // One write to a regular file is whole among all that append. To a pipe that others write to,
        // such as our stdout, only a short one is.
        let kind = file.metadata().map(|meta| meta.file_type());
        let shared = kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket());
        let most = if shared { ATOMIC } else { usize::MAX };
        Self::of(file, most)
    }
}

impl<F: Write + AsFd> Output<F> {
    fn of(file: F, most: usize) -> Self {
        Self {
            file,
            most,
            torn: false,
            warned: false,
        }
    }

    /// Writes whole lines; how many were lost.
    fn write(&mut self, text: &[u8]) -> u64 {
        let mut rest = text;
        if self.torn && !rest.is_empty() {
            // What is there of the last line must not become the begin of this one.
            match self.push(b"\n") {
                (_, Ok(())) => self.torn = false,
                (_, Err(error)) => return self.give_up(rest, &error),
            }
        }
        while !rest.is_empty() {
            let (part, after) = rest.split_at(part(rest, self.most));
            let (written, outcome) = self.push(part);
            if let Err(error) = outcome {
                self.torn = written > 0 && part.get(written - 1) != Some(&b'\n');
                return self.give_up(&rest[written..], &error);
            }
            rest = after;
        }
        0
    }

    /// Writes all of it; how much was taken, and what was wrong then.
    fn push(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.write(&bytes[done..]) {
                Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody who shares the terminal or the pipe made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
                    if let Err(error) = poll(&mut fds, PollTimeout::NONE)
                        && error != nix::errno::Errno::EINTR
                    {
                        return (done, Err(error.into()));
                    }
                }
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    /// One warning a file: the counter says the rest.
    fn give_up(&mut self, rest: &[u8], error: &io::Error) -> u64 {
        if !self.warned {
            self.warned = true;
            tracing::warn!(
                "cannot write the access log: {error}; its lines are dropped and counted in \
                 `remuda_access_log_dropped_lines_total` until that works"
            );
        }
        memchr_iter(b'\n', rest).count() as u64
    }
}

/// How much of it is written at once: whole lines, if one fits.
fn part(text: &[u8], most: usize) -> usize {
    match text.get(..most) {
        None => text.len(),
        Some(head) => match memrchr(b'\n', head) {
            Some(end) => end + 1,
            None => memchr::memchr(b'\n', text).map_or(text.len(), |end| end + 1),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Read;
    use std::os::fd::BorrowedFd;
    use std::os::unix::net::UnixStream;

    use super::super::queue::Lines;
    use super::*;

    fn put(writer: &Writer, text: &str) {
        let lines = memchr_iter(b'\n', text.as_bytes()).count() as u64;
        writer.queue().put(Lines {
            text: text.into(),
            lines,
        });
    }

    #[test]
    fn a_turn_parts_the_lines_and_the_end_writes_all() {
        let dir = tempfile::tempdir().expect("directory");
        let open = |name: &str| {
            let path = dir.path().join(name);
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.expect("open")
        };
        let writer = Writer::start(open("old")).expect("a thread");
        for number in 0..1000 {
            put(&writer, &format!("{number}\n"));
        }
        writer.turn(open("new"));
        put(&writer, "later\n");
        drop(writer);
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("read");
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!((read("old"), read("new")), (expected, "later\n".to_owned()));
    }

    #[test]
    fn a_full_disk_costs_lines_and_they_are_counted() {
        let file = OpenOptions::new().write(true).open("/dev/full");
        let mut output = Output::new(file.expect("open"));
        assert_eq!(output.write(b"a\nb\n"), 2);
        assert!(output.warned);
        assert_eq!(output.write(b"c\n"), 1);
    }

    /// Takes so many bytes, and no more until it is given room.
    struct Disk {
        taken: Vec<u8>,
        room: usize,
        fd: File,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.taken.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AsFd for Disk {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.fd.as_fd()
        }
    }

    #[test]
    fn a_line_that_was_torn_spoils_no_other_one() {
        let disk = Disk {
            taken: Vec::new(),
            room: 5,
            fd: File::open("/dev/null").expect("open"),
        };
        let mut output = Output::of(disk, usize::MAX);
        assert_eq!(output.write(b"aa\nbbbb\ncc\n"), 2);
        assert_eq!(output.write(b"dd\n"), 1, "still full");
        output.file.room = 100;
        assert_eq!(output.write(b"ee\n"), 0);
        assert_eq!(output.write(b"ff\n"), 0);
        assert_eq!(output.file.taken, b"aa\nbb\nee\nff\n");
    }

    #[test]
    fn what_others_may_write_to_gets_short_writes_of_whole_lines() {
        let text = b"aaa\nbbb\ncccccccccc\nd\n";
        let mut parts = Vec::new();
        let mut rest = &text[..];
        while !rest.is_empty() {
            let (head, after) = rest.split_at(part(rest, 8));
            parts.push(std::str::from_utf8(head).expect("text"));
            rest = after;
        }
        assert_eq!(parts, ["aaa\nbbb\n", "cccccccccc\n", "d\n"]);
    }

    #[test]
    fn a_non_blocking_reader_that_is_slow_gets_everything() {
        let (mut reader, ours) = UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("non-blocking");
        let writer = Writer::start(File::from(std::os::fd::OwnedFd::from(ours)));
        let writer = writer.expect("a thread");
        let line = "x".repeat(99) + "\n";
        for _ in 0..10_000 {
            put(&writer, &line);
        }
        let lost = writer.dropped();
        let reads = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).expect("read");
            text
        });
        drop(writer);
        let text = reads.join().expect("no panic");
        assert!(text.lines().all(|read| read == line.trim_end()));
        assert_eq!(text.lines().count() as u64 + lost, 10_000);
    }
}
