//! An answer's body on a connection of HTTP/1.1, frame by frame.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::super::h1::{Decoder, LARGE, Piece};
use super::exchange::Exchange;
use super::tunnel::Tunnel;
use super::upload::Source;

/// A body of unknown length is large once a read brings so much.
const LARGE_READ: usize = 12 << 10;

/// An answer's body, trailers included. An error means that it was cut short: the client's connection
/// must be closed without a last chunk (F42). Dropping it before its end closes the worker's connection.
pub(super) struct Download {
    /// Gone once the body ended. Boxed: it is large, and a body changes hands often.
    exchange: Option<Box<Exchange>>,
    decoder: Decoder,
    /// What comes after the frame handed out last, if it was there already.
    next: Option<Result<Piece, &'static str>>,
    /// The request's body, if the answer came before its end.
    rest: Option<Box<dyn Source>>,
    tunnel: bool,
}

impl Download {
    pub(super) fn new(
        exchange: Box<Exchange>,
        decoder: Decoder,
        rest: Option<Box<dyn Source>>,
        tunnel: bool,
    ) -> Self {
        let mut body = Self {
            exchange: Some(exchange),
            decoder,
            next: None,
            rest,
            tunnel,
        };
        if let (Some(exchange), Decoder::Length(length)) = (&mut body.exchange, &body.decoder) {
            exchange.large = *length >= LARGE;
        }
        if !tunnel && matches!(body.decoder, Decoder::Empty) {
            body.finish();
        }
        body
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
        if let Some(mut exchange) = self.exchange.take() {
            exchange.finish();
        }
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
