//! Frames over a unix stream socket, with descriptors (SCM_RIGHTS).
//!
//! Used by the supervisor and by the plane, each at its end of a socket pair. The two halves of a
//! [`Channel`] may live in different tasks. Nothing is buffered on the way out: `send` waits until the
//! kernel has everything, so the caller decides what is dropped when a peer does not read.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::frame::{Decoder, encode, next_part};
use crate::sys::{recv_with_fds, send_with_fds};

/// Bytes read at once: a usual table or sample is smaller.
const READ: usize = 32 << 10;

/// One end of a link.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// A channel over a connected stream.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// A channel over a descriptor, which becomes non-blocking. Must be called within a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let stream = StdStream::from(fd);
        stream.set_nonblocking(true)?;
        Ok(Self::new(UnixStream::from_std(stream)?))
    }

    /// A channel and the descriptor of its other end (blocking, close-on-exec) for a child's stdin.
    ///
    /// # Errors
    /// The system's.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = StdStream::pair()?;
        Ok((Self::from_fd(ours.into())?, theirs.into()))
    }

    /// The channel a child of ours was given as its stdin.
    ///
    /// # Errors
    /// The system's.
    pub fn from_stdin() -> io::Result<Self> {
        Self::from_fd(io::stdin().as_fd().try_clone_to_owned()?)
    }

    /// The two directions.
    #[must_use]
    pub fn split(self) -> (Receiver, Sender) {
        let stream = Arc::new(self.stream);
        let receiver = Receiver {
            stream: Arc::clone(&stream),
            decoder: Decoder::default(),
            scratch: vec![0; READ],
        };
        let sender = Sender {
            stream,
            broken: false,
        };
        (receiver, sender)
    }
}

/// What comes in.
#[derive(Debug)]
pub struct Receiver {
    stream: Arc<UnixStream>,
    decoder: Decoder,
    scratch: Vec<u8>,
}

impl Receiver {
    /// The next message with its descriptors (close-on-exec); `None` if the peer closed between two
    /// frames. Cancel-safe: what was read is kept for the next call.
    ///
    /// # Errors
    /// `InvalidData` if the peer breaks the format, `UnexpectedEof` if it ends inside a frame, or the
    /// system's. After an error the link is to be given up.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        loop {
            if let Some(frame) = self.decoder.take()? {
                return Ok(Some(frame));
            }
            let stream = &self.stream;
            let scratch = &mut self.scratch;
            let (length, fds) = stream
                .async_io(Interest::READABLE, || {
                    recv_with_fds(stream.as_fd(), scratch)
                })
                .await?;
            self.decoder.push(&self.scratch[..length], fds)?;
            if length > 0 {
                continue;
            }
            return if self.decoder.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
    }
}

/// What goes out. Dropping it tells the peer that nothing more comes.
#[derive(Debug)]
pub struct Sender {
    stream: Arc<UnixStream>,
    broken: bool,
}

impl Sender {
    /// Sends one message with its descriptors and waits until the kernel has taken all of it.
    ///
    /// Not cancel-safe: a send that was dropped half-way leaves half a frame, so every later one is
    /// refused with `BrokenPipe`.
    ///
    /// # Errors
    /// `InvalidInput` if the message is over a limit (nothing was sent, the channel is still good), else
    /// the system's.
    pub async fn send<T: Serialize>(
        &mut self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let frame = encode(message, fds.len())?;
        self.broken = true;
        let (mut sent, mut fds_sent) = (0, 0);
        while sent < frame.len() {
            let (end, fds_end) = next_part(frame.len(), sent, fds.len(), fds_sent);
            let stream = &self.stream;
            let part = &frame[sent..end];
            let beside = &fds[fds_sent..fds_end];
            sent += stream
                .async_io(Interest::WRITABLE, || {
                    send_with_fds(stream.as_fd(), part, beside)
                })
                .await?;
            fds_sent = fds_end;
        }
        self.broken = false;
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A socket pair of ours, never a listener (F03). It fails only if the peer is gone already.
        let _ = SockRef::from(&*self.stream).shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::Channel;
    use crate::link::frame::{MAX_FDS, encode};

    fn pair() -> (Channel, Channel) {
        let (a, b) = UnixStream::pair().expect("socket pair");
        (Channel::new(a), Channel::new(b))
    }

    #[tokio::test]
    async fn f06_any_count_of_descriptors_arrives_close_on_exec() {
        for count in [0, 1, 253, 254, 1000] {
            let (ours, theirs) = pair();
            let (mut receiver, _keep) = theirs.split();
            let (_other, mut sender) = ours.split();
            let file = File::open("/dev/null").expect("open");
            let fds: Vec<_> = (0..count).map(|_| file.as_fd()).collect();
            let sends = async {
                sender.send(&"first", &fds).await.expect("send");
                sender.send(&"second", &[]).await.expect("send");
            };
            let receives = async {
                let (text, fds) = receiver.recv::<String>().await.expect("recv").expect("one");
                assert_eq!((text.as_str(), fds.len()), ("first", count));
                for fd in &fds {
                    let flags = fcntl(fd, FcntlArg::F_GETFD).expect("fcntl");
                    assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
                }
                let (text, fds) = receiver.recv::<String>().await.expect("recv").expect("one");
                assert_eq!((text.as_str(), fds.len()), ("second", 0));
            };
            tokio::join!(sends, receives);
        }
    }

    #[tokio::test]
    async fn f06_more_descriptors_than_a_frame_can_carry_are_refused() {
        let (ours, _theirs) = pair();
        let (_receiver, mut sender) = ours.split();
        let file = File::open("/dev/null").expect("open");
        let fds = vec![file.as_fd(); MAX_FDS + 1];
        let error = sender.send(&(), &fds).await.expect_err("too many");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        sender.send(&(), &[]).await.expect("still good");
    }

    #[tokio::test]
    async fn the_end_between_frames_is_clean_and_inside_one_is_an_error() {
        let (ours, theirs) = pair();
        let (mut receiver, _keep) = theirs.split();
        let (_other, mut sender) = ours.split();
        sender.send(&7_u32, &[]).await.expect("send");
        drop(sender);
        assert!(receiver.recv::<u32>().await.expect("recv").is_some());
        assert!(receiver.recv::<u32>().await.expect("clean").is_none());

        let (mut raw, theirs) = UnixStream::pair().expect("socket pair");
        let (mut receiver, _keep) = Channel::new(theirs).split();
        let frame = encode(&"half of this", 0).expect("short");
        raw.write_all(&frame[..10]).await.expect("write");
        drop(raw);
        let error = receiver.recv::<String>().await.expect_err("cut");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_cancelled_receive_loses_nothing() {
        let (mut raw, theirs) = UnixStream::pair().expect("socket pair");
        let (mut receiver, _keep) = Channel::new(theirs).split();
        let frame = encode(&"whole", 0).expect("short");
        for byte in &frame[..frame.len() - 1] {
            raw.write_all(&[*byte]).await.expect("write");
            let early = tokio::time::timeout(Duration::from_millis(2), receiver.recv::<String>());
            assert!(early.await.is_err());
        }
        raw.write_all(&frame[frame.len() - 1..])
            .await
            .expect("write");
        let (text, _fds) = receiver.recv::<String>().await.expect("recv").expect("one");
        assert_eq!(text, "whole");
    }

    #[tokio::test]
    async fn a_long_frame_passes_a_reader_that_begins_late() {
        let (ours, theirs) = pair();
        let (mut receiver, _keep) = theirs.split();
        let (_other, mut sender) = ours.split();
        let long = "x".repeat(1_000_000);
        let expected = long.clone();
        let sends = tokio::spawn(async move { sender.send(&long, &[]).await });
        tokio::task::yield_now().await;
        let (text, _fds) = receiver.recv::<String>().await.expect("recv").expect("one");
        assert!(text == expected);
        sends.await.expect("no panic").expect("sent");
    }
}
