//! Accepting clients: every loop on the same shared sockets.
//!
//! A listener is never shut down and its flags are never touched: other planes and the supervisor hold
//! the same open file description (F03, F05). To stop is to empty the queue, then close our own copy.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::connection::serve;
use super::event_loop::Loop;
use super::socket::{Peer, Socket};
use crate::link::message::{AcceptError, PublicListener};

/// After an accept that failed: the first pause and the longest.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What a client reads that is turned away because we have no descriptor left.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// One loop's copy of a public listener.
#[derive(Debug)]
pub(super) enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// A client that was accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
}

impl Accepted {
    fn tcp((stream, peer): (TcpStream, SocketAddr)) -> Self {
        // It only costs time if it fails, and it fails only if the peer is gone.
        let _ = stream.set_nodelay(true);
        Self {
            socket: Socket::Tcp(stream),
            peer: Peer::Tcp(peer),
        }
    }

    fn unix(stream: UnixStream) -> Self {
        Self {
            socket: Socket::Unix(stream),
            peer: Peer::Unix,
        }
    }
}

impl Listener {
    /// Takes a listener that already listens and does not block.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(kind: &PublicListener, fd: OwnedFd) -> io::Result<Self> {
        Ok(match kind {
            PublicListener::Tcp(_) => Self::Tcp(TcpListener::from_std(fd.into())?),
            PublicListener::Unix(_) => Self::Unix(UnixListener::from_std(fd.into())?),
        })
    }

    async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(listener) => Accepted::tcp(listener.accept().await?),
            Self::Unix(listener) => Accepted::unix(listener.accept().await?.0),
        })
    }

    /// Everything that waits in the queue, and no more.
    fn empty(self) -> io::Result<Vec<Accepted>> {
        let mut waiting = Vec::new();
        match self {
            Self::Tcp(listener) => {
                let listener = listener.into_std()?;
                while let Some((stream, peer)) = next(listener.accept())? {
                    stream.set_nonblocking(true)?;
                    waiting.push(Accepted::tcp((TcpStream::from_std(stream)?, peer)));
                }
            }
            Self::Unix(listener) => {
                let listener = listener.into_std()?;
                while let Some((stream, _)) = next(listener.accept())? {
                    stream.set_nonblocking(true)?;
                    waiting.push(Accepted::unix(UnixStream::from_std(stream)?));
                }
            }
        }
        Ok(waiting)
    }
}

fn next<T>(accepted: io::Result<T>) -> io::Result<Option<T>> {
    match accepted {
        Ok(accepted) => Ok(Some(accepted)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Accepts on one listener, which has this place among all, until the loop stops accepting or `open` is gone.
pub(super) async fn run(
    lp: Rc<Loop>,
    place: usize,
    listener: Listener,
    mut open: oneshot::Receiver<()>,
) {
    let mut reserve = File::open("/dev/null").ok();
    let mut pause = PAUSE;
    loop {
        let limit = lp.table().front.max_connections;
        if lp.shared.connections.load(Ordering::Acquire) >= limit {
            // Those in the queue wait for somebody to leave.
            lp.counters.accept_failed(AcceptError::Limit);
            if lp.stops_within(pause).await {
                break;
            }
            pause = longer(pause);
            continue;
        }
        let accepted = tokio::select! {
            biased;
            () = lp.until_accepting_stops() => break,
            _ = &mut open => break,
            accepted = listener.accept() => accepted,
        };
        let error = match accepted {
            Ok(accepted) => {
                pause = PAUSE;
                welcome(&lp, place, accepted);
                continue;
            }
            Err(error) => error,
        };
        if !out_of_descriptors(&error) {
            // The peer left before we came: nothing is wrong with us.
            lp.counters.accept_failed(AcceptError::Other);
            tokio::task::yield_now().await;
            continue;
        }
        lp.counters.accept_failed(AcceptError::Descriptors);
        if pause > PAUSE {
            // It lasts: one is told so, the others wait in the queue.
            drop(reserve.take());
            turn_away(&lp, &listener).await;
            reserve = File::open("/dev/null").ok();
        }
        if lp.stops_within(pause).await {
            break;
        }
        pause = longer(pause);
    }
    match listener.empty() {
        Ok(waiting) => {
            for accepted in waiting {
                welcome(&lp, place, accepted);
            }
        }
        Err(error) => tracing::warn!(%error, "cannot empty the accept queue"),
    }
    lp.counters.accepting.fetch_sub(1, Ordering::AcqRel);
    lp.shared.wake.notify_one();
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

fn welcome(lp: &Rc<Loop>, place: usize, accepted: Accepted) {
    lp.shared.connections.fetch_add(1, Ordering::AcqRel);
    lp.counters.connections.fetch_add(1, Ordering::AcqRel);
    lp.counters.accepted.fetch_add(1, Ordering::Relaxed);
    // Boxed, or it would be moved through the scheduler's hands, and it is large.
    tokio::task::spawn_local(Box::pin(serve(Rc::clone(lp), place, accepted)));
}

async fn turn_away(lp: &Rc<Loop>, listener: &Listener) {
    tokio::select! {
        biased;
        accepted = listener.accept() => if let Ok(mut accepted) = accepted {
            let answer = accepted.socket.write_all(BUSY);
            let _ = tokio::time::timeout(PAUSE, answer).await;
        },
        () = lp.until_accepting_stops() => {}
        () = tokio::time::sleep(PAUSE) => {}
    }
}

fn out_of_descriptors(error: &io::Error) -> bool {
    let full = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error
        .raw_os_error()
        .is_some_and(|code| full.contains(&Errno::from_raw(code)))
}
