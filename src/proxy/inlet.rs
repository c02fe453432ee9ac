//! A client's bytes on their way to the server, stopped at the borders of messages.
//!
//! The server gets a head only when it is whole and has one reading ([`rules::raw`]), and the next one
//! only when the request before it is over. For a head that is refused it gets one that stands for it, so
//! that the answer goes its usual way, and after that nothing. What comes behind a request that asks for
//! an upgrade is kept as it is until the answer has decided what it means (HTTP.md §3, premature upgrade).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Client;
use super::h1::section_end;
use super::rules::chunks::Chunks;
use super::rules::{Framing, Rejection, raw};
use super::socket::Socket;

/// What the server gets in place of a head that is refused. It has no Host, so that it would be refused
/// even if nobody knew why it is there.
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

const BLANK: &[u8] = b"\r\n";

/// A client's socket and what came from it that must wait.
#[derive(Debug)]
pub(super) struct Inlet {
    socket: Socket,
    client: Rc<Client>,
    held: BytesMut,
    /// Of those, so many may go on.
    admitted: usize,
    /// Of those, so many were searched for the end of a head.
    searched: usize,
    state: State,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum State {
    /// To a head, or to an empty line before it.
    Head,
    /// To a body of which so much is to come.
    Length(u64),
    /// To a chunked body.
    Chunked(Chunks),
    /// To nobody: a head was refused.
    Refused,
    /// To nobody: the body of the request in flight is malformed.
    Broken(&'static str),
}

impl Inlet {
    pub(super) fn new(socket: Socket, client: Rc<Client>) -> Self {
        Self {
            socket,
            client,
            held: BytesMut::new(),
            admitted: 0,
            searched: 0,
            state: State::Head,
        }
    }

    /// The socket, and what came from it that nobody has read.
    pub(super) fn into_parts(self) -> (Socket, Bytes) {
        (self.socket, self.held.freeze())
    }

    /// How many of the bytes may go on now; at most to the end of one message.
    fn admit(&mut self, bytes: &[u8]) -> Result<usize, Rejection> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Head => {
                    if at > 0 || !self.client.awaits_head() {
                        return Ok(at);
                    }
                    let view = self.client.view();
                    let front = &view.front;
                    let Some(end) = section_end(rest, &mut self.searched) else {
                        if rest.len() > front.max_head as usize {
                            return Err(raw::too_large(rest, front));
                        }
                        return Ok(0);
                    };
                    let framing = raw::check(&rest[..end], front)?;
                    self.client.head_came();
                    at += end;
                    self.state = match framing {
                        Framing::Empty | Framing::Length(0) => State::Head,
                        Framing::Length(length) => State::Length(length),
                        Framing::Chunked => State::Chunked(Chunks::new()),
                    };
                }
                State::Length(left) => {
                    let take = usize::try_from(*left).map_or(rest.len(), |l| l.min(rest.len()));
                    at += take;
                    *left -= take as u64;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                }
                State::Chunked(chunks) => {
                    match chunks.pass(rest) {
                        Ok(passed) => at += passed,
                        Err(why) => {
                            self.state = State::Broken(why);
                            return Ok(at);
                        }
                    }
                    if chunks.is_over() {
                        self.state = State::Head;
                    }
                }
                State::Refused | State::Broken(_) => return Ok(at),
            }
        }
        Ok(at)
    }

    /// A head that gets an answer of ours.
    fn refuse(&mut self, rejection: Rejection) {
        self.state = State::Refused;
        self.client.refuse(rejection);
        self.held.clear();
        self.held.extend_from_slice(REFUSED);
        self.admitted = REFUSED.len();
    }

    /// Hands on what is held, as far as it may go on.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if matches!(self.state, State::Head) && self.admitted == 0 {
            // An empty line before a head is no part of it (RFC 9112 §2.2).
            while is_blank(&self.held) && self.client.awaits_head() {
                self.held.advance(BLANK.len());
            }
        }
        if self.admitted == 0 && !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let admitted = self.admit(&held);
            self.held = held;
            match admitted {
                Ok(admitted) => self.admitted = admitted,
                Err(rejection) => self.refuse(rejection),
            }
        }
        let take = self.admitted.min(buffer.remaining());
        buffer.put_slice(&self.held[..take]);
        self.held.advance(take);
        self.admitted -= take;
        if self.held.is_empty() {
            // Between requests a connection holds no memory here.
            self.held = BytesMut::new();
        }
        take > 0
    }
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.starts_with(BLANK)
}

impl AsyncRead for Inlet {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.hand_on(buffer) {
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Refused => return Poll::Pending,
                State::Broken(why) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
                State::Head | State::Length(_) | State::Chunked(_) => {}
            }
            if !this.held.is_empty() && !this.client.awaits_head() {
                // The client is woken when its request is over.
                return Poll::Pending;
            }
            let start = buffer.filled().len();
            ready!(Pin::new(&mut this.socket).poll_read(cx, buffer))?;
            let came = &buffer.filled()[start..];
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if this.held.is_empty() && !is_blank(came) {
                match this.admit(came) {
                    Ok(admitted) => {
                        this.held.extend_from_slice(&came[admitted..]);
                        buffer.set_filled(start + admitted);
                        if admitted > 0 {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Err(rejection) => {
                        buffer.set_filled(start);
                        this.refuse(rejection);
                    }
                }
            } else {
                this.held.extend_from_slice(came);
                buffer.set_filled(start);
            }
        }
    }
}

impl AsyncWrite for Inlet {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes));
        self.client.wrote();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, slices));
        self.client.wrote();
        Poll::Ready(written)
    }
}
