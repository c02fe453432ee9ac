//! An answer's body, from a connection or a stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::download::Download;
use super::h2c;
use super::tunnel::Tunnel;

/// An answer's body, trailers included. An error means that it was cut short: the client must not take it
/// for whole (F42). Dropping it before its end gives up the worker's connection, or stream.
#[derive(Debug)]
pub struct AnswerBody(Way);

#[derive(Debug)]
enum Way {
    Connection(Box<Download>),
    Stream(h2c::Download),
}

impl From<Box<Download>> for AnswerBody {
    fn from(body: Box<Download>) -> Self {
        Self(Way::Connection(body))
    }
}

impl From<h2c::Download> for AnswerBody {
    fn from(body: h2c::Download) -> Self {
        Self(Way::Stream(body))
    }
}

impl AnswerBody {
    /// After a 101: the connection as a byte stream, with the bytes that came behind the head.
    ///
    /// # Errors
    /// If the answer was no 101.
    pub fn into_tunnel(self) -> io::Result<Tunnel> {
        match self.0 {
            Way::Connection(body) => body.into_tunnel(),
            Way::Stream(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Nothing of it is to come but perhaps its end, and trailers.
    pub(in crate::proxy) fn is_whole(&self) -> bool {
        match &self.0 {
            Way::Connection(body) => body.is_end_stream(),
            Way::Stream(body) => body.is_whole(),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.get_mut().0 {
            Way::Connection(body) => Pin::new(body).poll_frame(cx),
            Way::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Way::Connection(body) => body.is_end_stream(),
            Way::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Way::Connection(body) => body.size_hint(),
            Way::Stream(body) => body.size_hint(),
        }
    }
}
