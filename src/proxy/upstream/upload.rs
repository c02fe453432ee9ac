//! The request's way to the worker: its head, then its body re-encoded by us.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

use super::super::h1::{Buffers, Outbox, SizeLine};
use super::super::rules::{self, Framing, Outgoing};
use super::Watch;
use super::connection::Socket;

/// A request's body, whatever its error type is.
pub(super) trait Source {
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>>;
    fn is_over(&self) -> bool;
}

impl<B> Source for B
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(self).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(|e| io::Error::other(e.to_string()))))
    }

    fn is_over(&self) -> bool {
        self.is_end_stream()
    }
}

/// How far the request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The head goes out; the body waits for `100 Continue`.
    AwaitContinue,
    /// The body is taken from the client as it comes.
    Body,
    /// The last of it is in the outbox.
    Flushing,
    /// Everything was written.
    Complete,
    /// The rest will not be sent; the connection is spoiled.
    Abandoned,
}

/// Whose fault it is that the request cannot be sent.
#[derive(Debug)]
pub(super) enum UploadError {
    Client(io::Error),
    Worker(io::Error),
}

/// One request on its way out.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) phase: Phase,
    /// Some byte was accepted by the kernel.
    pub(super) sent: bool,
    /// Something moved since the caller last cleared this.
    pub(super) moved: bool,
    /// Bytes of the body that were.
    pub(super) body: u64,
    framing: Framing,
    outbox: Outbox<Bytes>,
}

impl Upload {
    pub(super) fn new(outgoing: &Outgoing) -> Self {
        Self {
            phase: match outgoing.framing {
                Framing::Empty | Framing::Length(0) => Phase::Flushing,
                Framing::Length(_) | Framing::Chunked if outgoing.expects_continue => {
                    Phase::AwaitContinue
                }
                Framing::Length(_) | Framing::Chunked => Phase::Body,
            },
            sent: false,
            moved: false,
            body: 0,
            framing: outgoing.framing,
            outbox: Outbox {
                head: outgoing.head.clone(),
                ..Outbox::default()
            },
        }
    }

    /// Nothing more will be written.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Complete | Phase::Abandoned)
    }

    /// The worker has taken all we have; the client's turn.
    pub(super) fn waits_for_client(&self) -> bool {
        self.phase == Phase::Body && self.outbox.is_empty()
    }

    /// The client's body may be asked for now.
    pub(super) fn release(&mut self) {
        if self.phase == Phase::AwaitContinue {
            self.phase = Phase::Body;
        }
    }

    /// Sends what can be sent. Ready when everything was, or nothing more will be.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        source: &mut dyn Source,
        watch: &dyn Watch,
        buffers: &Buffers,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            // The head waits in the outbox for the first bytes of the body, if they are there already.
            if self.phase == Phase::Body && self.outbox.has_room() {
                match source.poll_source(cx) {
                    Poll::Ready(frame) => {
                        self.moved = true;
                        self.encode(frame, source).map_err(UploadError::Client)?;
                    }
                    Poll::Pending if self.outbox.is_empty() => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            if !self.outbox.is_empty() {
                let written = match ready!(self.outbox.poll_write(cx, socket, buffers)) {
                    Ok(0) => return Poll::Ready(Err(UploadError::Worker(zero()))),
                    Ok(written) => written,
                    Err(e) => return Poll::Ready(Err(UploadError::Worker(e))),
                };
                self.sent = true;
                self.moved = true;
                let body = self.outbox.advance(written);
                if body > 0 {
                    self.body += body;
                    watch.uploaded(body);
                }
            }
            if self.outbox.is_empty() {
                match self.phase {
                    Phase::Flushing => {
                        self.phase = Phase::Complete;
                        // An answer may last for hours, and the room is other heads' too.
                        self.outbox.head = Bytes::new();
                        watch.upload_ended();
                    }
                    Phase::AwaitContinue => return Poll::Pending,
                    Phase::Body | Phase::Complete | Phase::Abandoned => {}
                }
            }
        }
    }

    /// Puts one frame of the client's body into the outbox.
    fn encode(
        &mut self,
        frame: Option<io::Result<Frame<Bytes>>>,
        source: &dyn Source,
    ) -> io::Result<()> {
        let Some(frame) = frame.transpose()? else {
            return self.end(None);
        };
        match frame.into_data() {
            Ok(data) if data.is_empty() => Ok(()),
            Ok(data) => self.data(data, source.is_over()),
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => self.end(Some(trailers)),
                Err(_) => Ok(()),
            },
        }
    }

    fn data(&mut self, data: Bytes, last: bool) -> io::Result<()> {
        match &mut self.framing {
            Framing::Chunked => {
                self.outbox.size = SizeLine::new(data.len());
                self.outbox.tail = match last {
                    true => Bytes::from_static(b"\r\n0\r\n\r\n"),
                    false => Bytes::from_static(b"\r\n"),
                };
                self.outbox.data = data;
                if last {
                    self.phase = Phase::Flushing;
                }
            }
            Framing::Length(left) => {
                *left = left
                    .checked_sub(data.len() as u64)
                    .ok_or_else(|| io::Error::other("body longer than its Content-Length"))?;
                self.outbox.data = data;
                if *left == 0 {
                    self.phase = Phase::Flushing;
                }
            }
            Framing::Empty => return Err(io::Error::other("body where none was announced")),
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> io::Result<()> {
        match self.framing {
            Framing::Length(1..) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "body shorter than its Content-Length",
                ));
            }
            Framing::Empty | Framing::Length(0) => {}
            Framing::Chunked => {
                self.outbox.tail = match trailers {
                    None => Bytes::from_static(b"0\r\n\r\n"),
                    Some(trailers) => rules::last_chunk(&trailers),
                };
            }
        }
        self.phase = Phase::Flushing;
        Ok(())
    }
}

fn zero() -> io::Error {
    io::ErrorKind::WriteZero.into()
}
