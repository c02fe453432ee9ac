//! A stream of HTTP/2 as bytes both ways, after CONNECT with a protocol.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes of one frame.
const FRAME: usize = 16 << 10;

/// A stream's two ways.
#[derive(Debug)]
pub(super) struct Duplex {
    inflow: RecvStream,
    outflow: SendStream<Bytes>,
    /// Came and was not read.
    came: Bytes,
}

impl Duplex {
    pub(super) fn new(inflow: RecvStream, outflow: SendStream<Bytes>) -> Self {
        Self {
            inflow,
            outflow,
            came: Bytes::new(),
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.came.is_empty() {
            match ready!(this.inflow.poll_data(cx)) {
                Some(data) => this.came = data.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = this.came.len().min(buffer.remaining());
        buffer.put_slice(&this.came[..taken]);
        this.came.advance(taken);
        let released = this.inflow.flow_control().release_capacity(taken);
        Poll::Ready(released.map_err(io::Error::other))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.outflow.reserve_capacity(bytes.len().min(FRAME));
        let room = loop {
            match ready!(self.outflow.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(room)) => break room.min(bytes.len()),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(gone())),
            }
        };
        let part = Bytes::copy_from_slice(&bytes[..room]);
        let sent = self.outflow.send_data(part, false);
        Poll::Ready(sent.map(|()| room).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes what it has.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.outflow.send_data(Bytes::new(), true);
        Poll::Ready(sent.map_err(io::Error::other))
    }
}
