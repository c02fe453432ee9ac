//! A socket that the runtime's driver learns of only when somebody has to wait for it.
//!
//! Most clients that come for one request have sent it by the time they are accepted, and take its answer whole:
//! there is nothing to wait for, so they need not be entered in the kernel's list and struck off again: two of
//! such a connection's ten system calls.

use std::fmt;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sys;

/// A socket that does not block, as std has it.
pub(super) trait Plain: fmt::Debug + Write + AsFd + Unpin + Sized {
    /// The same as the driver knows it.
    type Known: fmt::Debug + AsyncRead + AsyncWrite + AsFd + Unpin;

    fn known(self) -> io::Result<Self::Known>;
    fn end(&self) -> io::Result<()>;
}

impl Plain for TcpStream {
    type Known = tokio::net::TcpStream;

    fn known(self) -> io::Result<Self::Known> {
        Self::Known::from_std(self)
    }

    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Plain for UnixStream {
    type Known = tokio::net::UnixStream;

    fn known(self) -> io::Result<Self::Known> {
        Self::Known::from_std(self)
    }

    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A socket, entered with the driver or not yet.
#[derive(Debug)]
pub(super) struct Fresh<S: Plain>(State<S>);

#[derive(Debug)]
enum State<S: Plain> {
    Fresh(S),
    Known(S::Known),
    /// It could not be entered.
    Closed,
}

impl<S: Plain> Fresh<S> {
    /// Takes a socket that does not block.
    pub(super) fn new(socket: S) -> Self {
        Self(State::Fresh(socket))
    }

    /// The driver does not know it.
    pub(super) fn is_fresh(&self) -> bool {
        matches!(self.0, State::Fresh(_))
    }

    /// Its descriptor, while there is one.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            State::Fresh(socket) => Some(socket.as_fd()),
            State::Known(socket) => Some(socket.as_fd()),
            State::Closed => None,
        }
    }

    /// What a fresh one does without waiting; `None` if that is to be asked of what the driver knows.
    #[cold]
    fn at_once<T>(
        &mut self,
        attempt: impl FnOnce(&mut S) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let State::Fresh(socket) = &mut self.0 else {
            return None;
        };
        match attempt(socket) {
            // Interrupted: it is tried again just the same.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                None
            }
            done => Some(done),
        }
    }

    /// The socket as the driver knows it, from now on.
    #[cold]
    fn known(&mut self) -> io::Result<Pin<&mut S::Known>> {
        if self.is_fresh()
            && let State::Fresh(socket) = std::mem::replace(&mut self.0, State::Closed)
        {
            self.0 = State::Known(socket.known()?);
        }
        match &mut self.0 {
            State::Known(socket) => Ok(Pin::new(socket)),
            State::Fresh(_) | State::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl<S: Plain> AsRawFd for Fresh<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor().map_or(-1, |fd| fd.as_raw_fd())
    }
}

impl<S: Plain> AsyncRead for Fresh<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let fresh = self.get_mut();
        if let State::Known(socket) = &mut fresh.0 {
            return Pin::new(socket).poll_read(cx, buffer);
        }
        match fresh.at_once(|socket| sys::receive(socket, buffer)) {
            Some(done) => Poll::Ready(done),
            None => fresh.known()?.poll_read(cx, buffer),
        }
    }
}

impl<S: Plain> AsyncWrite for Fresh<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let fresh = self.get_mut();
        if let State::Known(socket) = &mut fresh.0 {
            return Pin::new(socket).poll_write(cx, bytes);
        }
        match fresh.at_once(|socket| socket.write(bytes)) {
            Some(done) => Poll::Ready(done),
            None => fresh.known()?.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was taken is the kernel's.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let fresh = self.get_mut();
        match fresh.at_once(|socket| socket.end()) {
            Some(done) => Poll::Ready(done),
            None => fresh.known()?.poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let fresh = self.get_mut();
        if let State::Known(socket) = &mut fresh.0 {
            return Pin::new(socket).poll_write_vectored(cx, slices);
        }
        match fresh.at_once(|socket| socket.write_vectored(slices)) {
            Some(done) => Poll::Ready(done),
            None => fresh.known()?.poll_write_vectored(cx, slices),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (Fresh<UnixStream>, UnixStream) {
        let (near, far) = UnixStream::pair().expect("a pair");
        near.set_nonblocking(true).expect("non-blocking");
        (Fresh::new(near), far)
    }

    #[tokio::test]
    async fn what_need_not_wait_is_never_entered_with_the_driver() {
        let (mut near, mut far) = pair();
        far.write_all(b"hello").expect("sent");
        let mut text = [0; 5];
        near.read_exact(&mut text).await.expect("what was sent");
        near.write_all(&text).await.expect("room");
        near.shutdown().await.expect("its end");
        assert!(near.is_fresh());
        let mut back = String::new();
        far.read_to_string(&mut back).expect("what was sent");
        assert_eq!(back, "hello");
    }

    #[tokio::test]
    async fn who_has_to_wait_for_it_is_woken() {
        let (mut near, mut far) = pair();
        let mut text = [0; 5];
        let reads = async {
            near.read_exact(&mut text).await.expect("what is sent");
            near
        };
        let sends = async { far.write_all(b"hello").expect("sent") };
        // In this order: nothing is there yet when it is read.
        let (mut near, ()) = tokio::join!(biased; reads, sends);
        assert!(!near.is_fresh());
        // More than the kernel holds, while the other side reads.
        far.set_nonblocking(false).expect("blocking");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).map(|_| all.len())
        });
        let large = vec![7; 4 << 20];
        near.write_all(&large).await.expect("all of it");
        drop(near);
        assert_eq!(reader.join().expect("read").expect("read"), large.len());
    }

    #[tokio::test]
    async fn a_fresh_one_that_is_full_waits_for_room() {
        let (mut near, mut far) = pair();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).map(|_| all.len())
        });
        let large = vec![7; 4 << 20];
        near.write_all(&large).await.expect("all of it");
        drop(near);
        assert_eq!(reader.join().expect("read").expect("read"), large.len());
    }
}
