//! A worker's side of an upgraded connection.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Watch;
use super::connection::{Connection, Socket};

/// A worker's side of an upgraded connection: implements tokio's `AsyncRead` and `AsyncWrite`. Its bytes
/// are not told to the [`Watch`]; who copies them can count them.
pub struct Tunnel {
    socket: Socket,
    /// What came behind the 101; read first.
    early: Bytes,
    /// Last, so that it tells when the socket is closed already.
    end: End,
}

/// Tells the end when it is dropped.
struct End {
    watch: Rc<dyn Watch>,
    /// The worker has closed its side.
    whole: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        self.watch.ended(self.whole);
    }
}

impl Tunnel {
    pub(super) fn new(connection: Connection, early: Bytes, watch: Rc<dyn Watch>) -> Self {
        Self {
            socket: connection.socket,
            early,
            end: End {
                watch,
                whole: false,
            },
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.early.is_empty() {
            let take = this.early.len().min(buf.remaining());
            buf.put_slice(&this.early[..take]);
            this.early.advance(take);
            return Poll::Ready(Ok(()));
        }
        let (before, room) = (buf.filled().len(), buf.remaining());
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) && room > 0 && buf.filled().len() == before {
            this.end.whole = true;
        }
        read
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("socket", &self.socket)
            .field("early", &self.early.len())
            .finish_non_exhaustive()
    }
}
