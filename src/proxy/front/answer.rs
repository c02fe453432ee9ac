//! An answer on its way to the client: its head, written anew, and its body in the framing we choose.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use http_body::{Body, Frame};

use super::inlet::Inlet;
use crate::proxy::digits::Digits;
use crate::proxy::h1::{Outbox, SizeLine};
use crate::proxy::head::RequestHead;
use crate::proxy::reply::Reply;
use crate::proxy::rules::{self, Returning};

/// What a request lets its answer be. The default is for one of which nothing is believed.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::proxy) struct Wants {
    /// HTTP/1.0: no chunks, no informational answers, `keep-alive` only if said.
    pub(in crate::proxy) old: bool,
    /// HEAD: no body.
    no_body: bool,
    /// `TE: trailers`.
    trailers: bool,
    /// Another request may come.
    keep_alive: bool,
}

impl Wants {
    pub(in crate::proxy) fn of(request: &RequestHead, keep_alive: bool) -> Self {
        Self {
            old: request.version == Version::HTTP_10,
            no_body: request.method == Method::HEAD,
            trailers: rules::takes_trailers(request),
            keep_alive,
        }
    }

    /// No other request will come.
    pub(in crate::proxy) fn is_last(self) -> bool {
        !self.keep_alive
    }

    /// The same, if no other request may come.
    pub(in crate::proxy) fn last(self) -> Self {
        Self {
            keep_alive: false,
            ..self
        }
    }
}

/// How a body is delimited towards the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// There is none.
    None,
    /// So many bytes are to come.
    Length(u64),
    Chunked,
    /// By the connection's end.
    Close,
}

/// An answer that is being written.
#[derive(Debug)]
pub(in crate::proxy) struct Answering {
    reply: Reply,
    out: Outbox<BytesMut>,
    coding: Coding,
    trailers: bool,
    keep_alive: bool,
    /// Everything is in `out`.
    done: bool,
    broken: Option<io::Error>,
}

impl Answering {
    /// Completes the head. `date` is the time now as `Date` has it (RFC 9110 §6.6.1), `early` what goes
    /// before the answer.
    pub(in crate::proxy) fn new(
        returning: Returning,
        reply: Reply,
        wants: Wants,
        date: &HeaderValue,
        early: &[u8],
    ) -> Self {
        let status = returning.status;
        let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
        let of_none = wants.no_body || status == StatusCode::NOT_MODIFIED;
        let coding = if bodiless || of_none {
            Coding::None
        } else if let Some(length) = reply.size_hint().exact()
            // What is behind a body of known length nobody would see.
            && !(wants.trailers && returning.trailer.is_some() && !wants.old)
        {
            Coding::Length(length)
        } else if wants.old {
            Coding::Close
        } else {
            Coding::Chunked
        };
        let switches = status == StatusCode::SWITCHING_PROTOCOLS;
        let keep_alive = wants.keep_alive && !returning.closes && coding != Coding::Close;
        let trailers = wants.trailers && coding == Coding::Chunked;

        let mut out = returning.head;
        let length = match coding {
            // Of a body that is not there, it is what the worker says (RFC 9110 §8.6).
            Coding::None if !bodiless => returning.length,
            Coding::Length(length) => Some(length),
            Coding::None | Coding::Chunked | Coding::Close => None,
        };
        if let Some(length) = length {
            rules::put_field(&mut out, b"content-length: ", Digits::of(length).text());
        }
        if coding == Coding::Chunked {
            out.put_slice(b"transfer-encoding: chunked\r\n");
        }
        if let Some(names) = returning.trailer.filter(|_| trailers) {
            rules::write_field(&mut out, b"trailer", &names);
        }
        if !switches && !keep_alive {
            out.put_slice(b"connection: close\r\n");
        } else if wants.old && keep_alive {
            out.put_slice(b"connection: keep-alive\r\n");
        }
        if !returning.dated {
            rules::put_field(&mut out, b"date: ", date.as_bytes());
        }
        out.put_slice(b"\r\n");
        if !early.is_empty() {
            out = [early, &out].concat().as_slice().into();
        }
        Self {
            reply,
            out: Outbox {
                head: out,
                ..Outbox::default()
            },
            coding,
            trailers,
            keep_alive,
            done: matches!(coding, Coding::None | Coding::Length(0)),
            broken: None,
        }
    }

    /// Another request may come after it.
    pub(in crate::proxy) fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Only the connection's end will end it, so a cut one must not look like a whole one.
    pub(in crate::proxy) fn ends_by_closing(&self) -> bool {
        self.coding == Coding::Close
    }

    /// The buffer of its head.
    pub(in crate::proxy) fn into_buffer(self) -> BytesMut {
        self.out.head
    }

    /// Writes it to its end; `wrote` is told of each write.
    ///
    /// # Errors
    /// The client takes no more, or the answer broke off and what came of it was written: in both cases
    /// the connection must be closed, without an end of the body (F42).
    pub(in crate::proxy) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        inlet: &Inlet,
        wrote: impl Fn(),
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.done && self.broken.is_none() && self.out.has_room() {
                match Pin::new(&mut self.reply).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => self.encode(frame),
                    Poll::Ready(Some(Err(error))) => self.broken = Some(error),
                    Poll::Ready(None) => self.end(None),
                    Poll::Pending if self.out.is_empty() => {
                        let _ = inlet.poll_flush(cx)?;
                        return Poll::Pending;
                    }
                    Poll::Pending => {}
                }
            }
            if !self.out.is_empty() {
                let written = ready!(inlet.poll_write(cx, &self.out))?;
                wrote();
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.out.advance(written);
            } else if self.broken.is_some() || self.done {
                ready!(inlet.poll_flush(cx))?;
                return Poll::Ready(self.broken.take().map_or(Ok(()), Err));
            }
        }
    }

    fn encode(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => self.data(data),
            Err(frame) => self.end(frame.into_trailers().ok()),
        }
    }

    fn data(&mut self, data: Bytes) {
        match &mut self.coding {
            Coding::Length(left) => {
                let Some(rest) = left.checked_sub(data.len() as u64) else {
                    self.broken = Some(io::Error::other("more than its Content-Length"));
                    return;
                };
                *left = rest;
                self.done = rest == 0;
                self.out.data = data;
            }
            Coding::Chunked => {
                self.out.size = SizeLine::new(data.len());
                self.out.data = data;
                self.done = self.reply.is_end_stream();
                self.out.tail = match self.done {
                    true => Bytes::from_static(b"\r\n0\r\n\r\n"),
                    false => Bytes::from_static(b"\r\n"),
                };
            }
            Coding::Close => self.out.data = data,
            Coding::None => {}
        }
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        self.done = true;
        match self.coding {
            Coding::Length(1..) => {
                self.broken = Some(io::Error::other("less than its Content-Length"));
            }
            Coding::Chunked => {
                self.out.tail = match trailers.filter(|_| self.trailers) {
                    Some(trailers) => rules::last_chunk(&trailers),
                    None => Bytes::from_static(b"0\r\n\r\n"),
                };
            }
            Coding::None | Coding::Length(0) | Coding::Close => {}
        }
    }
}
