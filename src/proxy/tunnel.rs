//! An upgraded connection: bytes both ways, each way ended on its own, until both have ended or a drain's
//! limit is over. Then both connections are closed, those of a WebSocket each with a close frame, where no frame is
//! under way (F47).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional};
use tokio::time::timeout;

use super::client::Upgrade;
use super::exchange::Exchange;
use super::websocket::{Frames, SERVICE_RESTART, going_away};

/// How long both ends have to take the close frame and to leave: it belongs to the drain's limit, which is over.
const GOODBYE: Duration = Duration::from_millis(500);

/// Carries bytes until the tunnel's end. `early` are bytes the client sent behind its request.
pub(super) async fn run<S>(socket: S, early: Bytes, upgrade: Upgrade)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Upgrade {
        worker,
        websocket,
        held,
    } = upgrade;
    let exchange = Rc::clone(&held.0);
    let mut client = Side {
        socket,
        frames: websocket.then(Frames::default),
        counts: Some(Rc::clone(&exchange)),
    };
    let mut worker = Side {
        socket: worker,
        frames: websocket.then(Frames::default),
        counts: None,
    };
    let carried = {
        let carry = async {
            if !early.is_empty() {
                exchange.progress(early.len() as u64, 0);
                worker.write_all(&early).await?;
                worker.flush().await?;
            }
            copy_bidirectional(&mut client, &mut worker).await
        };
        tokio::select! {
            biased;
            () = exchange.until_cut() => None,
            carried = carry => Some(carried),
        }
    };
    match carried {
        None => {
            let [a, b, c, d, ..] = exchange.lp.random.next().to_le_bytes();
            let to_worker = going_away([a, b, c, d]);
            let parting = async {
                tokio::join!(client.part(&SERVICE_RESTART), worker.part(&to_worker));
            };
            // Who does not take it is cut without.
            let _ = timeout(GOODBYE, parting).await;
            return;
        }
        // How a tunnel ends is the two ends' affair: an error is a close without a goodbye.
        Some(Err(error)) => tracing::debug!(%error, "tunnel broke off"),
        Some(Ok(_)) => {}
    }
    held.0.ends_whole();
}

/// One side.
struct Side<S> {
    socket: S,
    /// What it was sent, if it is a WebSocket.
    frames: Option<Frames>,
    /// Where its bytes are counted; those of the worker's side are the same.
    counts: Option<Rc<Exchange>>,
}

impl<S> Side<S> {
    fn count_written<'a>(
        &mut self,
        slices: impl IntoIterator<Item = &'a [u8]>,
        written: &Poll<io::Result<usize>>,
    ) {
        let Poll::Ready(Ok(bytes)) = written else {
            return;
        };
        if let Some(exchange) = &self.counts {
            exchange.progress(0, *bytes as u64);
        }
        let Some(frames) = &mut self.frames else {
            return;
        };
        let mut left = *bytes;
        for slice in slices {
            let sent = &slice[..left.min(slice.len())];
            frames.follow(sent);
            left -= sent.len();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Side<S> {
    /// Tells this end of a WebSocket why it is over, and lets it leave: what it still sends is thrown away, for a
    /// close with something unread would take our frame back.
    async fn part(mut self, farewell: &[u8]) {
        if !self.frames.as_ref().is_some_and(Frames::may_end) {
            return;
        }
        let leaves = async {
            self.write_all(farewell).await?;
            self.shutdown().await?;
            let mut rest = [0; 1024];
            while self.socket.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // If it is gone already it needs no farewell.
        let _ = leaves.await;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Side<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        if let (1.., Some(exchange)) = (bytes, &self.counts) {
            exchange.progress(bytes as u64, 0);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Side<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.count_written([bytes], &written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.count_written(slices.iter().map(|slice| &**slice), &written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
