//! The socket under a connection of HTTP/2, of which something was read already.
//!
//! `h2` owns what it reads from and never gives it back, so it is shared: what passes is counted here, and
//! the socket is still there when `h2` is done.

use std::cell::{RefCell, RefMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Meter;
use crate::link::message::Limit;
use crate::proxy::client::Client;
use crate::proxy::event_loop::Loop;
use crate::proxy::socket::Socket;

/// A socket; what was read from it comes first, once more.
#[derive(Debug, Clone)]
pub(super) struct Wire(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    lp: Rc<Loop>,
    client: Rc<Client>,
    socket: Socket,
    unread: Bytes,
    meter: Meter,
    /// No more is read.
    deaf: bool,
    /// Nothing is read until the streams have had a turn.
    rests: bool,
}

impl Wire {
    /// `longest` is what `h2` takes of a head.
    pub(super) fn new(
        lp: &Rc<Loop>,
        client: &Rc<Client>,
        socket: Socket,
        unread: Bytes,
        longest: u32,
    ) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            lp: Rc::clone(lp),
            client: Rc::clone(client),
            socket,
            unread,
            meter: Meter::new(lp.now(), longest),
            deaf: false,
            rests: false,
        })))
    }

    /// The client sends what nobody asked for, and is not listened to any more.
    pub(super) fn is_abused(&self) -> bool {
        self.0.borrow().meter.is_overdrawn()
    }

    /// If it rests: has the task polled again, and read on then. To be called when every stream that came has begun,
    /// so that each takes what is its own before.
    pub(super) fn goes_on(&self, cx: &Context<'_>) {
        if std::mem::take(&mut self.inner().rests) {
            cx.waker().wake_by_ref();
        }
    }

    /// The socket, if nobody else has it any more.
    pub(super) fn into_socket(self) -> Option<Socket> {
        Some(Rc::into_inner(self.0)?.into_inner().socket)
    }

    fn inner(&self) -> RefMut<'_, Inner> {
        self.0.borrow_mut()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let inner = &mut *self.inner();
        if inner.meter.is_overdrawn() {
            // Once more to whoever has to end it, and never again.
            if !std::mem::replace(&mut inner.deaf, true) {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        inner.rests |= inner.meter.has_many_pieces();
        if inner.rests {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if inner.unread.is_empty() {
            ready!(Pin::new(&mut inner.socket).poll_read(cx, buffer))?;
        } else {
            let taken = inner.unread.len().min(buffer.remaining());
            buffer.put_slice(&inner.unread[..taken]);
            inner.unread.advance(taken);
            if inner.unread.is_empty() {
                // Its buffer is no longer held.
                inner.unread = Bytes::new();
            }
        }
        let came = &buffer.filled()[before..];
        inner.meter.came(came, inner.lp.now());
        inner.client.owes_head(inner.meter.half_head());
        for _ in 0..inner.meter.take_long_heads() {
            inner.lp.counters.reached(Limit::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.inner();
        let sent = ready!(Pin::new(&mut inner.socket).poll_write(cx, bytes))?;
        inner.client.took();
        inner.meter.went(&bytes[..sent.min(bytes.len())]);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.inner();
        let sent = ready!(Pin::new(&mut inner.socket).poll_write_vectored(cx, slices))?;
        inner.client.took();
        let mut left = sent;
        for slice in slices {
            let part = left.min(slice.len());
            inner.meter.went(&slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner().socket).poll_shutdown(cx)
    }
}
