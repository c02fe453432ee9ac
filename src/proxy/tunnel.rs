//! An upgraded connection: bytes both ways, each way ended on its own, until both have ended, one has broken off, or
//! a drain's limit is over. A client whose worker breaks off sees that, and no orderly end (F42). At the limit both
//! connections are closed, those of a WebSocket each with a close frame, where no frame is under way (F47).

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
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

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    Client,
    Worker,
}

/// How the client's connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// In order.
    Whole,
    /// As the worker's did: in the middle of something.
    Broken,
}

/// Carries bytes until the tunnel's end. `early` are bytes the client sent behind its request.
pub(super) async fn run<S>(socket: &mut S, early: Bytes, upgrade: Upgrade) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Upgrade {
        worker,
        websocket,
        held,
    } = upgrade;
    let exchange = &held.0;
    let first = Cell::new(None);
    let mut client = Side {
        socket,
        of: Party::Client,
        frames: websocket.then(Frames::default),
        exchange,
        first: &first,
        broken: false,
    };
    let mut worker = Side {
        socket: worker,
        of: Party::Worker,
        frames: websocket.then(Frames::default),
        exchange,
        first: &first,
        broken: false,
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
            () = exchange.until_parted() => None,
            carried = carry => Some(carried),
        }
    };
    match carried {
        None if exchange.is_cut() => {
            let [a, b, c, d, ..] = exchange.lp.random.next().to_le_bytes();
            let to_worker = going_away([a, b, c, d]);
            let parting = async {
                tokio::join!(client.part(&SERVICE_RESTART), worker.part(&to_worker));
            };
            // Who does not take it is cut without.
            let _ = timeout(GOODBYE, parting).await;
            return Ended::Whole;
        }
        Some(Err(error)) => tracing::debug!(%error, "tunnel broke off"),
        None | Some(Ok(_)) => {}
    }
    let ending = Ending {
        first: first.get(),
        client_broke: client.broken,
        worker_broke: worker.broken,
        worker_died: exchange.has_lost_worker(),
        // Each side has followed what it was sent, which is what the other one said.
        said: client.frames.as_ref().zip(worker.frames.as_ref()),
    };
    match ending.how() {
        How::Whole => exchange.ends_whole(),
        How::Deserted => exchange.is_deserted(),
        How::Broken(party) => {
            exchange.breaks_off(party);
            // A reset would take back what is still on its way: only for what was broken off itself.
            if party == Party::Worker && ending.worker_broke {
                return Ended::Broken;
            }
        }
    }
    Ended::Whole
}

/// How a tunnel ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Both ends were done with it.
    Whole,
    /// The worker of a WebSocket left without a goodbye: it died, or was made so.
    Deserted,
    /// This end broke it off.
    Broken(Party),
}

/// What is seen of a tunnel's end.
#[derive(Debug, Clone, Copy)]
struct Ending<'a> {
    /// Who said first that it sends no more.
    first: Option<Party>,
    /// The client's connection broke off.
    client_broke: bool,
    /// The worker's did.
    worker_broke: bool,
    /// The worker is gone.
    worker_died: bool,
    /// What the worker said and what the client did, if it was a WebSocket.
    said: Option<(&'a Frames, &'a Frames)>,
}

impl Ending<'_> {
    /// An end of a WebSocket that has said goodbye may go as it likes, and a client that goes without does so every
    /// day (RFC 6455 §7.1.5).
    fn how(&self) -> How {
        let said = self.said;
        if said.is_some_and(|(worker, client)| worker.has_closed() || client.has_closed()) {
            return How::Whole;
        }
        let goes_on = said.is_some_and(|(worker, client)| worker.goes_on() && client.goes_on());
        let worker_left = self.first == Some(Party::Worker);
        if self.worker_broke || (self.worker_died && worker_left && !self.client_broke) {
            How::Broken(Party::Worker)
        } else if self.client_broke {
            How::Broken(Party::Client)
        } else if goes_on && worker_left {
            How::Deserted
        } else {
            How::Whole
        }
    }
}

/// One side.
struct Side<'a, S> {
    socket: S,
    of: Party,
    /// What it was sent, if it is a WebSocket.
    frames: Option<Frames>,
    /// Where the client's bytes are counted; those of the worker's side are the same.
    exchange: &'a Exchange,
    /// Who said first that it sends no more.
    first: &'a Cell<Option<Party>>,
    /// It ended otherwise.
    broken: bool,
}

impl<S> Side<'_, S> {
    /// What came of reading or writing.
    fn note<T>(&mut self, done: &Poll<io::Result<T>>) {
        // Many a client ends TLS with no more than a FIN.
        let is_end = |error: &io::Error| {
            self.of == Party::Client && error.kind() == io::ErrorKind::UnexpectedEof
        };
        self.broken |= matches!(done, Poll::Ready(Err(error)) if !is_end(error));
    }

    /// It sends no more.
    fn ends(&self) {
        if self.first.get().is_none() {
            self.first.set(Some(self.of));
        }
    }

    fn count_written<'a>(
        &mut self,
        slices: impl IntoIterator<Item = &'a [u8]>,
        written: &Poll<io::Result<usize>>,
    ) {
        let Poll::Ready(Ok(bytes)) = written else {
            return;
        };
        if self.of == Party::Client {
            self.exchange.progress(0, *bytes as u64);
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

impl<S: AsyncRead + AsyncWrite + Unpin> Side<'_, S> {
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

impl<S: AsyncRead + Unpin> AsyncRead for Side<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        self.note(&read);
        match bytes {
            0 if matches!(read, Poll::Ready(Ok(()))) && buffer.remaining() > 0 => self.ends(),
            1.. if self.of == Party::Client => self.exchange.progress(bytes as u64, 0),
            _ => {}
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Side<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(&written);
        self.count_written([bytes], &written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.note(&written);
        self.count_written(slices.iter().map(|slice| &**slice), &written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.note(&flushed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.socket).poll_shutdown(cx);
        // All that the worker said went before it.
        if self.of == Party::Client && done.is_ready() {
            self.exchange.worker_ends();
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_tunnel_ended_follows_from_who_broke_it_and_what_was_said() {
        let frames = |bytes: &[u8]| {
            let mut frames = Frames::default();
            frames.follow(bytes);
            frames
        };
        let (message, half) = (frames(b"\x81\x01x"), frames(b"\x81\x09x"));
        let (closed, other) = (frames(&SERVICE_RESTART), frames(b"hello"));
        let (client, worker) = (Some(Party::Client), Some(Party::Worker));
        let end = Ending {
            first: None,
            client_broke: false,
            worker_broke: false,
            worker_died: false,
            said: None,
        };
        let died = |first| Ending {
            first,
            worker_died: true,
            ..end
        };
        let client_broke = Ending {
            client_broke: true,
            ..end
        };
        let worker_broke = Ending {
            worker_broke: true,
            ..end
        };
        let first = |first| Ending { first, ..end };
        let both = |by_worker, by_client| Some((by_worker, by_client));
        for (ending, said, how) in [
            (first(client), None, How::Whole),
            (first(worker), None, How::Whole),
            (died(client), None, How::Whole),
            (died(worker), None, How::Broken(Party::Worker)),
            (died(worker), both(&closed, &message), How::Whole),
            (client_broke, None, How::Broken(Party::Client)),
            (worker_broke, None, How::Broken(Party::Worker)),
            (first(client), both(&message, &message), How::Whole),
            (first(worker), both(&message, &message), How::Deserted),
            (first(worker), both(&half, &message), How::Deserted),
            (first(worker), both(&closed, &message), How::Whole),
            (first(worker), both(&message, &closed), How::Whole),
            (first(worker), both(&other, &message), How::Whole),
            (
                client_broke,
                both(&message, &message),
                How::Broken(Party::Client),
            ),
            (client_broke, both(&message, &closed), How::Whole),
            (
                worker_broke,
                both(&other, &message),
                How::Broken(Party::Worker),
            ),
            (worker_broke, both(&closed, &message), How::Whole),
        ] {
            let ending = Ending { said, ..ending };
            assert_eq!(ending.how(), how, "{ending:?}");
        }
    }
}
