//! Accepting clients: every loop on the same shared sockets.
//!
//! A listener is never shut down and its flags are never touched: other planes and the supervisor hold
//! the same open file description (F03, F05). To stop is to empty the queue, then close our own copy.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Type};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connection::serve;
use super::event_loop::Loop;
use super::fresh::Fresh;
use super::socket::{Peer, Socket};
use crate::link::message::{AcceptError, Limit};
use crate::sys::{self, is_exhausted};

/// After an accept that failed: the first pause and the longest.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What a client reads that is turned away because we have no descriptor left.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// One loop's copy of a public listener, of either family.
#[derive(Debug)]
pub(super) struct Listener(AsyncFd<OwnedFd>);

/// A client that was accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
}

impl Accepted {
    fn of((socket, peer): (socket2::Socket, SockAddr)) -> Self {
        let Some(peer) = peer.as_socket() else {
            return Self {
                socket: Socket::Unix(Fresh::new(socket.into())),
                peer: Peer::Unix,
            };
        };
        // It only costs time if it fails, and it fails only if the peer is gone.
        let _ = socket.set_tcp_nodelay(true);
        Self {
            socket: Socket::Tcp(Fresh::new(socket.into())),
            peer: Peer::Tcp(peer),
        }
    }
}

impl Listener {
    /// Takes a listener that already listens and does not block.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        sys::readable(fd).map(Self)
    }

    async fn accept(&self) -> io::Result<Accepted> {
        let accepted = self.0.async_io(Interest::READABLE, accept).await;
        accepted.map(Accepted::of)
    }

    /// Everything that waits in the queue, and no more.
    fn empty(self) -> io::Result<Vec<Accepted>> {
        let mut waiting = Vec::new();
        while let Some(accepted) = next(accept(self.0.get_ref()))? {
            waiting.push(Accepted::of(accepted));
        }
        Ok(waiting)
    }
}

/// Accepts one that waits; it does not block either.
fn accept(listener: &OwnedFd) -> io::Result<(socket2::Socket, SockAddr)> {
    SockRef::from(listener).accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
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
    let mut reserve = spare();
    let mut pause = PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            () = lp.until_accepting_stops() => break,
            _ = &mut open => break,
            accepted = listener.accept() => accepted,
        };
        let error = match accepted {
            Ok(accepted) => {
                pause = PAUSE;
                room(&lp).await;
                welcome(&lp, place, accepted);
                continue;
            }
            Err(error) => error,
        };
        if !is_exhausted(&error) {
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
            reserve = spare();
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

/// A descriptor to let go of when there is no other left. A socket, because a plane opens no file (T16).
fn spare() -> Option<OwnedFd> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).ok()?;
    Some(socket.into())
}

/// Waits until one more may come in, or all are let in as no further one comes. Those that rest make room for it; the
/// others wait in the queue meanwhile.
async fn room(lp: &Loop) {
    let mut pause = PAUSE;
    let (mut counted, mut full) = (false, false);
    while lp.shared.connections.load(Ordering::Acquire) >= lp.table().front.max_connections {
        if !std::mem::replace(&mut full, true) {
            lp.counters.reached(Limit::Connections);
        }
        if lp.make_room() {
            // They are gone in a moment.
            pause = PAUSE;
        } else if !std::mem::replace(&mut counted, true) {
            lp.counters.accept_failed(AcceptError::Limit);
        }
        if lp.stops_within(pause).await {
            return;
        }
        pause = longer(pause);
    }
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
            let _ = timeout(PAUSE, answer).await;
        },
        () = lp.until_accepting_stops() => {}
        () = tokio::time::sleep(PAUSE) => {}
    }
}
