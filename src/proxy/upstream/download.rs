//! An answer's body on a connection of HTTP/1.1, frame by frame.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};

use super::super::h1::{Decoder, Piece};
use super::exchange::{Awaiting, Exchange};
use super::head::Head;
use super::tunnel::Tunnel;
use super::upload::Source;
use super::{Answer, SendError, SendErrorKind};

/// A body of unknown length is large once a read brings so much.
const LARGE_READ: usize = 12 << 10;

/// An answer's body, trailers included. An error means that it was cut short: the client's connection
/// must be closed without a last chunk (F42). Dropping it before its end closes the worker's connection.
pub(super) struct Download {
    /// Gone once the body ended.
    exchange: Option<Exchange>,
    decoder: Decoder,
    /// What comes after the frame handed out last, if it was there already.
    next: Option<Result<Piece, &'static str>>,
    /// The request's body, if the answer came before its end.
    rest: Option<Box<dyn Source>>,
    tunnel: bool,
}

impl Download {
    /// Of an exchange whose answer is awaited. Boxed from the begin: it is large, and a body changes hands
    /// often.
    pub(super) fn new(exchange: Exchange) -> Box<Self> {
        Box::new(Self {
            exchange: Some(exchange),
            decoder: Decoder::Empty,
            next: None,
            rest: None,
            tunnel: false,
        })
    }

    /// Until the final head is there.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Source,
        awaiting: &mut Awaiting<'_>,
    ) -> Poll<Result<Head, SendError>> {
        match &mut self.exchange {
            Some(exchange) => exchange.poll_answer(cx, source, awaiting),
            // It is over, and nobody can ask.
            None => Poll::Ready(Err(SendError {
                kind: SendErrorKind::Reset,
                sent: true,
                answered: true,
                source: None,
            })),
        }
    }

    /// The final head is there. `source` is the request's body.
    pub(super) fn answer(mut self: Box<Self>, head: Head, source: impl Source + 'static) -> Answer {
        if let Some(exchange) = &mut self.exchange {
            exchange.answer_begins(&head);
            self.rest = (!exchange.is_sent()).then(|| Box::new(source) as Box<dyn Source>);
        }
        self.tunnel = head.answer.status == StatusCode::SWITCHING_PROTOCOLS;
        self.decoder = head.body;
        if !self.tunnel && matches!(self.decoder, Decoder::Empty) {
            self.finish();
        }
        Answer {
            head: head.answer,
            body: self.into(),
        }
    }

    /// After a 101: the connection as a byte stream, with the bytes that came behind the head.
    ///
    /// # Errors
    /// If the answer was no 101.
    pub(super) fn into_tunnel(mut self) -> io::Result<Tunnel> {
        if !self.tunnel {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let taken = self.exchange.as_mut().and_then(|e| e.take_socket());
        let (connection, read, watch) = taken.ok_or(io::ErrorKind::NotConnected)?;
        Ok(Tunnel::new(connection, read, watch))
    }

    fn finish(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.finish();
        }
        self.exchange = None;
        self.rest = None;
    }

    /// Ends the exchange with an error: everything is closed.
    fn cut<T>(&mut self, why: io::Error) -> Poll<Option<io::Result<T>>> {
        self.exchange = None;
        self.rest = None;
        self.next = None;
        Poll::Ready(Some(Err(why)))
    }

    /// Looks one piece ahead, so that the connection goes back as soon as the last byte is here, and the
    /// server learns of the end together with the last data.
    fn look_ahead(&mut self) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        match self.decoder.next(&mut exchange.buffer).transpose() {
            Some(Ok(Piece::End)) => self.finish(),
            piece => self.next = piece,
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Piece>>> {
        loop {
            let Some(exchange) = &mut self.exchange else {
                return Poll::Ready(None);
            };
            let piece = match self.next.take() {
                Some(piece) => Some(piece),
                None => self.decoder.next(&mut exchange.buffer).transpose(),
            };
            match piece {
                Some(Ok(piece)) => return Poll::Ready(Some(Ok(piece))),
                Some(Err(why)) => {
                    return self.cut(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                None => {}
            }
            match ready!(exchange.poll_more(cx)) {
                Ok(0) if matches!(self.decoder, Decoder::Close) => {
                    return Poll::Ready(Some(Ok(Piece::End)));
                }
                Ok(0) => return self.cut(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => exchange.large |= read >= LARGE_READ,
                Err(e) => return self.cut(e),
            }
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if this.tunnel {
            return Poll::Ready(None);
        }
        if let (Some(rest), Some(exchange)) = (&mut this.rest, &mut this.exchange) {
            match exchange.poll_rest(cx, &mut **rest) {
                Ok(true) => this.rest = None,
                Ok(false) => {}
                Err(e) => return this.cut(e),
            }
        }
        match ready!(this.poll_piece(cx)) {
            None => Poll::Ready(None),
            Some(Err(e)) => Poll::Ready(Some(Err(e))),
            Some(Ok(Piece::End)) => {
                this.finish();
                Poll::Ready(None)
            }
            Some(Ok(Piece::Data(data))) => {
                if let Some(exchange) = &this.exchange {
                    exchange.downloaded(data.len());
                }
                this.look_ahead();
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Ok(Piece::Trailers(trailers))) => {
                this.look_ahead();
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.tunnel || self.exchange.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.exchange, &self.decoder) {
            (None, _) | (_, Decoder::Empty) => SizeHint::with_exact(0),
            (_, Decoder::Length(left)) => {
                let ahead = match &self.next {
                    Some(Ok(Piece::Data(data))) => data.len() as u64,
                    _ => 0,
                };
                SizeHint::with_exact(left.saturating_add(ahead))
            }
            (_, Decoder::Chunked(_) | Decoder::Close) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("decoder", &self.decoder)
            .field("uploading", &self.rest.is_some())
            .field("tunnel", &self.tunnel)
            .finish_non_exhaustive()
    }
}
