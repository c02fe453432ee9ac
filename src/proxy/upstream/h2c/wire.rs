//! The socket under a connection of HTTP/2 to a worker: what the worker said before it went is read, though nothing
//! can be written to it any more.
//!
//! A worker that says goodbye, answers what it has and closes at once is met by the frames that were on their way to
//! it, and its system answers those with a reset. `h2` ends a connection at the first error of a write, and with it
//! the answers, and the goodbye by which others know that they may go elsewhere (F44).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket.
#[derive(Debug)]
pub(super) struct Wire<S> {
    socket: S,
    /// The worker is gone: what is written is thrown away, until what it has said is read to its end.
    gone: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            gone: false,
        }
    }

    /// How a write of so many bytes ends, whose socket says this.
    fn written(
        &mut self,
        bytes: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if is_of_one_who_left(&error) => {
                self.gone = true;
                Poll::Ready(Ok(bytes))
            }
            written => written,
        }
    }
}

/// An error after which reads end.
fn is_of_one_who_left(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset
    )
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.gone {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.written(bytes.len(), written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        if this.gone {
            return Poll::Ready(Ok(bytes));
        }
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, slices);
        this.written(bytes, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.gone {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut this.socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.gone {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut this.socket).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A socket that takes nothing, and from which what came before can be read.
    struct Left {
        said: &'static [u8],
        error: io::ErrorKind,
        writes: usize,
    }

    impl AsyncRead for Left {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(std::mem::take(&mut self.get_mut().said));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Left {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            this.writes += 1;
            Poll::Ready(Err(this.error.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(self.error.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(self.error.into()))
        }
    }

    fn left(error: io::ErrorKind) -> Wire<Left> {
        Wire::new(Left {
            said: b"goodbye",
            error,
            writes: 0,
        })
    }

    #[tokio::test]
    async fn f44_what_a_worker_said_before_it_left_is_read_though_it_takes_nothing_more() {
        for error in [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset] {
            let mut wire = left(error);
            wire.write_all(b"asked").await.expect("nobody is told");
            wire.write_all(b"more").await.expect("nobody is told");
            wire.flush().await.expect("nothing to flush");
            let mut said = Vec::new();
            wire.read_to_end(&mut said).await.expect("an end");
            assert_eq!(said, b"goodbye");
            wire.shutdown().await.expect("it is gone");
            assert_eq!(wire.socket.writes, 1, "it is not tried again");
        }
    }

    #[tokio::test]
    async fn an_error_of_one_who_is_there_is_told() {
        let error = left(io::ErrorKind::OutOfMemory).write_all(b"asked").await;
        let kind = error.expect_err("it is told").kind();
        assert_eq!(kind, io::ErrorKind::OutOfMemory);
    }
}
