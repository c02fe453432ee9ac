//! An upgraded connection: bytes both ways, each way ended on its own, until both have ended or a drain's
//! limit is over. Then both connections are closed. A WebSocket gets no close frame of ours: its frames
//! are not parsed, and a frame put between halves of another would be garbage.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional};

use super::client::Upgrade;
use super::exchange::Exchange;

/// Carries bytes until the tunnel's end. `early` are bytes the client sent behind its request.
pub(super) async fn run<S>(socket: S, early: Bytes, upgrade: Upgrade)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Upgrade { mut worker, held } = upgrade;
    let exchange = Rc::clone(&held.0);
    let mut client = Counted {
        socket,
        exchange: Rc::clone(&exchange),
    };
    let carry = async {
        if !early.is_empty() {
            exchange.progress(early.len() as u64, 0);
            worker.write_all(&early).await?;
            worker.flush().await?;
        }
        copy_bidirectional(&mut client, &mut worker).await
    };
    let carried = tokio::select! {
        biased;
        () = exchange.until_cut() => return,
        carried = carry => carried,
    };
    // How a tunnel ends is the two ends' affair: an error is a close without a goodbye.
    if let Err(error) = carried {
        tracing::debug!(%error, "tunnel broke off");
    }
    held.0.ends_whole();
}

/// The client's side, counted.
struct Counted<S> {
    socket: S,
    exchange: Rc<Exchange>,
}

impl<S> Counted<S> {
    fn count_written(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.exchange.progress(0, *bytes as u64);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.exchange.progress(bytes as u64, 0);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.count_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.count_written(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
