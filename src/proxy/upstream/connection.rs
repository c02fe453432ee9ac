//! One open connection to a worker, TCP or unix, without boxing.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, timeout};

use crate::link::message::WorkerAddress;
use crate::sys;

/// An open connection to a worker.
#[derive(Debug)]
pub struct Connection {
    pub(super) socket: Socket,
    pub(super) timer: Timer,
    /// It has carried an exchange before, so it may be a ghost.
    pub(super) reused: bool,
}

/// Opens one.
///
/// # Errors
/// The system's, or `TimedOut`. Nothing was sent, so any request may be tried elsewhere (F40).
pub async fn connect(address: &WorkerAddress, limit: Duration) -> io::Result<Connection> {
    let opening = async {
        io::Result::Ok(match address {
            WorkerAddress::Tcp(address) => {
                let stream = connect_tcp(*address).await?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            WorkerAddress::Unix(path) => Socket::Unix(connect_unix(path).await?),
        })
    };
    let socket = timeout(limit, opening)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Connection {
        socket,
        timer: Timer::default(),
        reused: false,
    })
}

async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.ip().is_loopback() {
        sys::unpace(&socket);
    }
    socket.connect(address).await
}

/// A full accept queue refuses a unix client at once where a TCP one would wait, and nothing tells when
/// there is room again; so it is asked again, within the caller's limit, ever more slowly.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let mut pause = Duration::from_millis(1);
    loop {
        match UnixStream::connect(path).await {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The two kinds of socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Open and silent, as far as the loop has heard. Costs a system call only if something happened.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
        };
        would_block(&read)
    }

    /// Open and silent, as the kernel knows at this moment. One system call.
    pub(super) fn is_quiet_now(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let read = match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => socket2::SockRef::from(stream).peek(&mut byte),
        };
        would_block(&read)
    }

    /// Whether something of a body of so many bytes still waits to be read by the worker, which answered
    /// without: when it closes, all that was sent to it meanwhile is lost. A unix socket tells exactly; of TCP
    /// only what the worker's kernel has no room for is known. One system call, where it can tell.
    pub(super) fn has_unread(&self, body: u64) -> bool {
        let untaken = match self {
            Self::Tcp(stream) if body >= TAKEN_BY_KERNEL => sys::untaken(stream),
            Self::Unix(stream) if body > 0 => sys::untaken(stream),
            Self::Tcp(_) | Self::Unix(_) => return false,
        };
        untaken.is_ok_and(|bytes| bytes > 0)
    }
}

/// What the kernel of a worker that reads nothing takes at least.
const TAKEN_BY_KERNEL: u64 = 16 << 10;

fn would_block(read: &io::Result<usize>) -> bool {
    matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Self::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}

/// A deadline that is nearly free to move: the timer is made at the first wait, stays with the
/// connection, and is touched again only when it fires or when a deadline is earlier than it.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready once `deadline` has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
