//! A client's socket, what came from it and waits, and the small answers that go before the answer.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::{fmt, io};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::head::{self, Head, Refused};
use super::proxy_protocol::{self, Header};
use crate::link::message::Front;
use crate::proxy::client::CONTINUE;
use crate::proxy::h1::{Decoder, LARGE, Outbox, Piece, READ};
use crate::proxy::socket::Socket;
use crate::proxy::upstream::Pool;

/// So much is read ahead of the request in flight, to notice that the client leaves; a client that
/// pipelines more is noticed when it is its turn.
const AHEAD: usize = READ;
/// What looks like a head in the preface of HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// A client's socket with what came from it.
#[derive(Debug)]
pub(in crate::proxy) struct Inlet {
    inner: RefCell<Inner>,
    /// Lends read buffers.
    pool: Rc<Pool>,
}

#[derive(Debug)]
struct Inner {
    socket: Socket,
    /// Read and not taken yet.
    came: BytesMut,
    /// Of that, so much was searched for the end of a head.
    searched: usize,
    /// The body of the request in flight.
    body: Decoder,
    large: bool,
    /// The client waits for `100 Continue`.
    expects: bool,
    /// Informational answers that wait to be written.
    early: BytesMut,
    /// The client will send nothing more.
    ended: bool,
}

/// What comes next from a client.
#[derive(Debug)]
pub(in crate::proxy) enum Next {
    /// A request.
    Head(Head),
    /// HTTP/2.
    Preface,
    /// Nothing.
    End,
}

/// Why a client's body broke off.
#[derive(Debug)]
pub(in crate::proxy) enum Broken {
    /// The client left.
    Left(io::Error),
    /// It breaks HTTP.
    Malformed(&'static str),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left(error) => error.fmt(f),
            Self::Malformed(why) => f.write_str(why),
        }
    }
}

impl Inlet {
    pub(in crate::proxy) fn new(socket: Socket, pool: Rc<Pool>) -> Rc<Self> {
        Rc::new(Self {
            inner: RefCell::new(Inner {
                socket,
                came: BytesMut::new(),
                searched: 0,
                body: Decoder::Empty,
                large: false,
                expects: false,
                early: BytesMut::new(),
                ended: false,
            }),
            pool,
        })
    }

    /// The PROXY protocol's header, which comes before all else: who the client is, if it says so. `None`
    /// if the peer leaves without a byte, as one does that only asks whether somebody listens.
    ///
    /// # Errors
    /// Why there is none.
    pub(in crate::proxy) fn poll_introduction(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Header>, &'static str>> {
        let inner = &mut *self.inner.borrow_mut();
        loop {
            if let Some(header) = proxy_protocol::parse(&inner.came)? {
                inner.came.advance(header.length);
                return Poll::Ready(Ok(Some(header)));
            }
            match ready!(inner.poll_read(cx, &self.pool)) {
                Ok(0) | Err(_) if inner.came.is_empty() => return Poll::Ready(Ok(None)),
                Ok(0) | Err(_) => return Poll::Ready(Err("the peer left")),
                Ok(_) => {}
            }
        }
    }

    /// What the client begins with, left where it is; `None` if it leaves without a byte.
    pub(in crate::proxy) fn poll_first(&self, cx: &mut Context<'_>) -> Poll<Option<u8>> {
        let inner = &mut *self.inner.borrow_mut();
        loop {
            if let Some(first) = inner.came.first() {
                return Poll::Ready(Some(*first));
            }
            match ready!(inner.poll_read(cx, &self.pool)) {
                Ok(0) | Err(_) => return Poll::Ready(None),
                Ok(_) => {}
            }
        }
    }

    /// The head of the next request. `begun` is told when a first byte of it is there; what may be the
    /// preface of HTTP/2 is left where it is.
    pub(in crate::proxy) fn poll_head(
        &self,
        cx: &mut Context<'_>,
        front: &Front,
        may_be_preface: bool,
        begun: impl Fn(),
    ) -> Poll<Result<Next, Refused>> {
        let inner = &mut *self.inner.borrow_mut();
        loop {
            head::skip_empty_lines(&mut inner.came, &mut inner.searched);
            if !inner.came.is_empty() {
                begun();
                if may_be_preface && inner.came.starts_with(PREFACE) {
                    return Poll::Ready(Ok(Next::Preface));
                }
                if let Some(head) = head::take(&mut inner.came, &mut inner.searched, front)? {
                    return Poll::Ready(Ok(Next::Head(head)));
                }
            }
            match ready!(inner.poll_read(cx, &self.pool)) {
                Ok(0) | Err(_) => return Poll::Ready(Ok(Next::End)),
                Ok(_) => {}
            }
        }
    }

    /// A request begins whose body is framed like this.
    pub(in crate::proxy) fn begin(&self, body: Decoder, expects: bool) {
        let inner = &mut *self.inner.borrow_mut();
        inner.large = matches!(body, Decoder::Length(LARGE..));
        inner.body = body;
        inner.expects = expects;
    }

    /// Something came behind what was taken last.
    pub(in crate::proxy) fn has_more(&self) -> bool {
        !self.inner.borrow().came.is_empty()
    }

    /// The next piece of the body. A client that waits for `100 Continue` is given it now.
    pub(in crate::proxy) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        let inner = &mut *self.inner.borrow_mut();
        loop {
            match inner.body.next(&mut inner.came) {
                Ok(Some(piece)) => return Poll::Ready(Ok(piece)),
                Ok(None) => {}
                Err(why) => return Poll::Ready(Err(Broken::Malformed(why))),
            }
            if std::mem::take(&mut inner.expects) {
                inner.early.extend_from_slice(CONTINUE);
            }
            inner.poll_early(cx).map_err(Broken::Left)?;
            let left = match ready!(inner.poll_read(cx, &self.pool)) {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => continue,
                Err(error) => error,
            };
            return Poll::Ready(Err(Broken::Left(left)));
        }
    }

    /// Whether the last byte of the body was taken, as far as can be told from what is here.
    pub(in crate::proxy) fn body_is_over(&self) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        inner.body.ends_here(&mut inner.came)
    }

    /// Informational answers are to go to the client.
    pub(in crate::proxy) fn inform(&self, heads: BytesMut) {
        if !heads.is_empty() {
            self.inner.borrow_mut().early.unsplit(heads);
        }
    }

    /// The answer begins: what was to go before it and did not yet.
    pub(in crate::proxy) fn take_early(&self) -> BytesMut {
        let inner = &mut *self.inner.borrow_mut();
        inner.expects = false;
        std::mem::take(&mut inner.early)
    }

    /// While nothing else is read: sends what goes before the answer. Ready if the client has left. Of one that
    /// has just come nobody asks that before it `may_leave`.
    pub(in crate::proxy) fn poll_gone(&self, cx: &mut Context<'_>, may_leave: bool) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.poll_early(cx).is_err() {
            return Poll::Ready(());
        }
        if !may_leave && inner.socket.is_fresh() {
            return Poll::Pending;
        }
        // What belongs to the body is read when the worker takes it.
        while inner.body.is_over() && inner.came.len() < AHEAD && !inner.ended {
            match ready!(inner.poll_read(cx, &self.pool)) {
                Ok(0) => inner.ended = true,
                Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// Whether the client has said that it will send nothing more. It may have left, or read on.
    pub(in crate::proxy) fn has_ended(&self) -> bool {
        self.inner.borrow().ended
    }

    /// Writes; how much was taken.
    pub(in crate::proxy) fn poll_write<Head: Buf>(
        &self,
        cx: &mut Context<'_>,
        out: &Outbox<Head>,
    ) -> Poll<io::Result<usize>> {
        let socket = &mut self.inner.borrow_mut().socket;
        out.poll_write(cx, socket, &self.pool.buffers)
    }

    /// What was written may wait in TLS.
    pub(in crate::proxy) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner.borrow_mut().socket).poll_flush(cx)
    }

    /// The socket, and what came from it that nobody has taken.
    pub(in crate::proxy) fn take_socket(self: Rc<Self>) -> Option<(Socket, Bytes)> {
        let inner = Rc::into_inner(self)?.inner.into_inner();
        Some((inner.socket, inner.came.freeze()))
    }
}

impl Inner {
    fn poll_read(&mut self, cx: &mut Context<'_>, pool: &Pool) -> Poll<io::Result<usize>> {
        let buffers = &pool.buffers;
        buffers.poll_fill(&mut self.socket, &mut self.came, self.large, cx)
    }

    /// Writes what waits to go before the answer.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.early.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.early) {
                Poll::Ready(written) => match written? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    written => self.early.advance(written),
                },
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}
